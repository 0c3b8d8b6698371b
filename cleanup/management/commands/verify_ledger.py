"""Whether the ledger is what was written; and the declarations of what is lost."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from cleanup.ledger import anchor_sources, lost_anchors, restores, sum_check, verification
from cleanup.ledger.anchor_sources import AnchorSource
from cleanup.ledger.lost_anchors import AnchorLoss, MissingAnchors
from cleanup.ledger.restores import ComparedAnchors, RestoreGap
from cleanup.ledger.sum_check import SumDifference
from cleanup.ledger.verification import VerifiedChain
from cleanup.management.base import FAILED, LabCommand, UsageError, add_user_argument, now, reason_text, user_named
from cleanup.text.values import count, visible

_HOW = {
    "cut": "the chain does not reach it: the tail was cut, or the database was restored",
    "differs": "the chain has another row there: it was written anew, or the database was restored",
    "other_installation": "it is of another installation: the ledger was begun anew",
}
_TO_DO = (
    "look for the anchors that are missing: --anchors FILE takes a copy. If they are lost, declare it with "
    "--anchors-lost --reason TEXT"
)
_SHOWN = 10


class Command(LabCommand):
    help = "Compute the ledger's chain anew, and compare it with what was written down outside of the database."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--anchors",
            action="append",
            default=[],
            metavar="FILE",
            help="A copied file of anchors, besides the others.",
        )
        parser.add_argument(
            "--restored",
            action="store_true",
            help="Declare that the database was restored from a backup: a row of the ledger names what it lacks.",
        )
        parser.add_argument(
            "--anchors-lost",
            action="store_true",
            help="Declare that anchors which were written down are lost: rows of the ledger say of which place.",
        )
        parser.add_argument("--reason", type=reason_text, default="", metavar="TEXT", help="With a declaration: why.")
        add_user_argument(parser, "With a declaration: who says so; by default the account that runs this command.")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        declares, reason = options["restored"] or options["anchors_lost"], options["reason"].strip()
        if declares != bool(reason) or (options["user"] and not declares):
            raise UsageError("Say --restored or --anchors-lost together with --reason TEXT, or none of them.")
        actor = user_named(options["user"]) if declares else ""
        given = [_given(name) for name in options["anchors"]]
        checked = _check(given)
        if declares:
            _declare(checked, actor, reason, restored=options["restored"], lost=options["anchors_lost"])
            checked = _check(given)
        answer = _as_json(checked)
        self.report(options["json"], answer, "\n".join(_lines(checked)))
        if not answer["ok"]:
            sys.exit(FAILED)


@dataclass(frozen=True)
class CheckedLedger:
    """The chain, the anchors beside it, and the sums of the pages."""

    verified: VerifiedChain
    sources: list[AnchorSource]
    compared: ComparedAnchors
    missing: list[MissingAnchors]
    losses: list[AnchorLoss]
    sums: list[SumDifference]

    @property
    def is_well(self) -> bool:
        return not (self.verified.bad or self.compared.undeclared or self.missing or self.sums)

    def missing_of(self, source: AnchorSource) -> int:
        return sum(one.number for one in self.missing if source.written_as == one.place)


def _check(given: list[AnchorSource]) -> CheckedLedger:
    verified = verification.verify()
    # Sums of rows that are not what was written say nothing.
    sums = sum_check.differences() if verified.bad is None else []
    if verified.installation is None:
        return CheckedLedger(verified, given, restores.NOTHING_COMPARED, [], [], sums)
    sources = [*given, *anchor_sources.read_all(str(verified.installation))]
    compared = restores.compare(sources)
    return CheckedLedger(verified, sources, compared, lost_anchors.missing(sources), lost_anchors.losses(), sums)


def _given(name: str) -> AnchorSource:
    try:
        with Path(name).open("rb"):
            return anchor_sources.of_copy(name)
    except OSError as error:
        raise UsageError(f"--anchors {visible(name)}: it cannot be read ({error.strerror}).") from None


def _declare(checked: CheckedLedger, actor: str, reason: str, *, restored: bool, lost: bool) -> None:
    if checked.verified.bad is not None:
        raise CommandError(f"Nothing was declared: {_bad_in_words(checked.verified)}.", returncode=FAILED)
    said: dict[str, Any] = {"actor": actor, "reason": reason, "now": now()}
    try:
        if restored:
            restores.declare(checked.compared, **said)
        if lost:
            lost_anchors.declare(checked.missing, **said)
    except restores.NothingLacks:
        raise CommandError("Nothing was declared: the chain lacks no anchor.", returncode=FAILED) from None
    except restores.NoRestore as error:
        raise CommandError(f"Nothing was declared: {error}.", returncode=FAILED) from None
    except lost_anchors.NoneMissing:
        raise CommandError("No loss was declared: no anchor is missing.", returncode=FAILED) from None


def _as_json(checked: CheckedLedger) -> dict[str, Any]:
    """Scripts depend on this shape."""
    verified, compared = checked.verified, checked.compared
    bad = verified.bad
    return {
        "ok": checked.is_well,
        "installation": str(verified.installation) if verified.installation else None,
        "position": verified.position,
        "sha256": verified.sha256,
        "unvouched": verified.unvouched,
        "bad": {"fault": bad.fault, "position": bad.position, "entry": bad.entry, "detail": bad.said} if bad else None,
        "anchors": [
            {
                "place": source.place,
                "read": source.read,
                "unreadable": source.unreadable,
                "missing": checked.missing_of(source),
                "problem": source.problem or None,
            }
            for source in checked.sources
        ],
        "newest_agreeing": compared.newest_agreeing,
        "disagreements": [
            {
                "place": one.place,
                "position": one.anchor.position,
                "sha256": one.anchor.sha256,
                "at": one.anchor.at,
                "host": one.anchor.host,
                "how": one.how,
                "declared_by": one.declared.entry if one.declared else None,
            }
            for one in compared.disagreements
        ],
        "restored": [_gap_as_json(gap) for gap in compared.gaps],
        "anchors_lost": [_loss_as_json(loss) for loss in checked.losses],
        "sums": str(checked.sums[0]) if checked.sums else None,
    }


def _gap_as_json(gap: RestoreGap) -> dict[str, Any]:
    return {
        "entry": gap.entry,
        "at": gap.at,
        "by": gap.actor,
        "reason": gap.why,
        "position": gap.newest.position,
        "sha256": gap.newest.sha256,
        "written_at": gap.newest.at,
        "shared": gap.shared,
        "stood": gap.stood,
    }


def _loss_as_json(loss: AnchorLoss) -> dict[str, Any]:
    return {
        "entry": loss.entry,
        "at": loss.at,
        "by": loss.actor,
        "reason": loss.why,
        "place": loss.place,
        "missing": loss.missing,
        "until": loss.until,
    }


def _lines(checked: CheckedLedger) -> list[str]:
    verified, compared = checked.verified, checked.compared
    lines = [_bad_in_words(verified) if verified.bad else _well(verified)]
    if verified.unvouched:
        lines.append(f"{count(verified.unvouched)} rows from before the chain are not vouched for")
    lines += [_source_in_words(source, checked.missing_of(source)) for source in checked.sources]
    if checked.missing:
        lines.append(_TO_DO)
    lines.append(f"newest anchor outside the database that agrees: position {count(compared.newest_agreeing)}")
    undeclared = compared.undeclared
    for one in undeclared[:_SHOWN]:
        where = f"{visible(one.place)}: anchor at position {one.anchor.position} of {one.anchor.said_at}"
        lines.append(f"{where}: {_HOW[one.how]}")
    if len(undeclared) > _SHOWN:
        lines.append(f"… and {count(len(undeclared) - _SHOWN)} more")
    lines += [_gap_in_words(gap, compared) for gap in compared.gaps]
    lines += map(_loss_in_words, checked.losses)
    return [*lines, *map(_sum_in_words, checked.sums)]


def _source_in_words(source: AnchorSource, missing: int) -> str:
    spoilt = f", {count(source.unreadable)} lines are unreadable" if source.unreadable else ""
    gone = f", {count(missing)} that were written there are missing" if missing else ""
    read = f"{count(source.read)} anchors{spoilt}{gone}"
    if source.problem:
        read = f"{f'{read}; ' if source.read or missing else ''}not read ({visible(source.problem)})"
    return f"{visible(source.place)}: {read}"


def _well(verified: VerifiedChain) -> str:
    return f"the chain is whole: {count(verified.position)} rows, it ends with {verified.sha256}"


def _bad_in_words(verified: VerifiedChain) -> str:
    bad = verified.bad
    if bad is None:
        return ""
    where = f" at position {bad.position}" * bool(bad.position) + f" (row {bad.entry})" * bool(bad.entry)
    return f"the ledger is not what was written. First bad row{where}: {bad.fault}: {bad.said}"


def _sum_in_words(sum_: SumDifference) -> str:
    return f"what the pages add up differs from the rows: {visible(str(sum_))}"


def _gap_in_words(gap: RestoreGap, compared: ComparedAnchors) -> str:
    number = sum(one.declared == gap for one in compared.disagreements)
    return (
        f"row {gap.entry}: {visible(gap.actor)} declared a restored database on {gap.at.isoformat()} "
        f"({visible(gap.why)}); it lacks the rows from a place beyond position {gap.shared} to position "
        f"{gap.newest.position}; {count(number)} anchors belong to them"
    )


def _loss_in_words(loss: AnchorLoss) -> str:
    return (
        f"row {loss.entry}: {visible(loss.actor)} declared on {loss.at.isoformat()} that {count(loss.missing)} anchors "
        f"of {visible(loss.place)} are lost, the last of {loss.until.isoformat()} ({visible(loss.why)})"
    )
