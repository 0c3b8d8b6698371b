"""Whether the ledger is what was written; and the declaration of a restored database."""

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from cleanup.ledger import anchor_sources, restores, sum_check, verification
from cleanup.ledger.anchor_sources import AnchorSource
from cleanup.ledger.restores import ComparedAnchors, RestoreGap
from cleanup.ledger.sum_check import SumDifference
from cleanup.ledger.verification import VerifiedChain
from cleanup.management.base import FAILED, LabCommand, UsageError, add_user_argument, now, reason_text, user_named
from cleanup.storage import anchor_file
from cleanup.text.values import count, visible

_HOW = {
    "cut": "the chain does not reach it: the tail was cut, or the database was restored",
    "differs": "the chain has another row there: it was written anew, or the database was restored",
    "other_installation": "it is of another installation: the ledger was begun anew",
}
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
        parser.add_argument("--reason", type=reason_text, default="", metavar="TEXT", help="With --restored: why.")
        add_user_argument(parser, "With --restored: who says so; by default the account that runs this command.")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        reason = options["reason"].strip()
        if options["restored"] != bool(reason) or (options["user"] and not options["restored"]):
            raise UsageError("Say --restored together with --reason TEXT, or neither.")
        actor = user_named(options["user"]) if options["restored"] else ""
        given = [_given(name) for name in options["anchors"]]
        verified = verification.verify()
        sources = [*given, *(anchor_sources.read_all(str(verified.installation)) if verified.installation else ())]
        compared = restores.compare(sources) if verified.installation else ComparedAnchors((), (), ())
        if options["restored"]:
            _declare(verified, compared, actor, reason)
            verified, compared = verification.verify(), restores.compare(sources)
        # Sums of rows that are not what was written say nothing.
        sums = sum_check.differences() if verified.bad is None else []
        answer = _as_json(verified, sources, compared, sums)
        self.report(
            options["json"], answer, "\n".join([*_lines(verified, sources, compared), *map(_sum_in_words, sums)])
        )
        if not answer["ok"]:
            sys.exit(FAILED)


def _given(name: str) -> AnchorSource:
    try:
        with Path(name).open("rb") as file:
            return anchor_sources.of_text(name, file.read(anchor_file.MAX_BYTES).decode("ascii", "replace"))
    except OSError as error:
        raise UsageError(f"--anchors {visible(name)}: it cannot be read ({error.strerror}).") from None


def _declare(verified: VerifiedChain, compared: ComparedAnchors, actor: str, reason: str) -> None:
    if verified.bad is not None:
        raise CommandError(f"Nothing was declared: {_bad_in_words(verified)}.", returncode=FAILED)
    try:
        restores.declare(compared, actor=actor, reason=reason, now=now())
    except restores.NothingLacks:
        raise CommandError("Nothing was declared: the chain lacks no anchor.", returncode=FAILED) from None
    except restores.NoRestore as error:
        raise CommandError(f"Nothing was declared: {error}.", returncode=FAILED) from None


def _as_json(
    verified: VerifiedChain, sources: list[AnchorSource], compared: ComparedAnchors, sums: list[SumDifference]
) -> dict[str, Any]:
    """Scripts depend on this shape."""
    bad = verified.bad
    return {
        "ok": bad is None and not compared.undeclared and not sums,
        "installation": str(verified.installation) if verified.installation else None,
        "position": verified.position,
        "sha256": verified.sha256,
        "unvouched": verified.unvouched,
        "bad": {"fault": bad.fault, "position": bad.position, "entry": bad.entry, "detail": bad.said} if bad else None,
        "anchors": [
            {
                "place": source.place,
                "read": len(source.anchors),
                "unreadable": source.unreadable,
                "missing": source.missing,
                "problem": source.problem or None,
            }
            for source in sources
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
        "sums": str(sums[0]) if sums else None,
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


def _lines(verified: VerifiedChain, sources: list[AnchorSource], compared: ComparedAnchors) -> list[str]:
    lines = [_bad_in_words(verified) if verified.bad else _well(verified)]
    if verified.unvouched:
        lines.append(f"{count(verified.unvouched)} rows from before the chain are not vouched for")
    for source in sources:
        place = visible(source.place)
        spoilt = f", {count(source.unreadable)} lines are unreadable" if source.unreadable else ""
        gone = f", {count(source.missing)} that were written there are missing" if source.missing else ""
        read = f"{count(len(source.anchors))} anchors{spoilt}{gone}"
        lines.append(f"{place}: {f'not read ({visible(source.problem)})' if source.problem else read}")
    lines.append(f"newest anchor that agrees: position {count(compared.newest_agreeing)}")
    undeclared = compared.undeclared
    for one in undeclared[:_SHOWN]:
        where = f"{visible(one.place)}: anchor at position {one.anchor.position} of {one.anchor.said_at}"
        lines.append(f"{where}: {_HOW[one.how]}")
    if len(undeclared) > _SHOWN:
        lines.append(f"… and {count(len(undeclared) - _SHOWN)} more")
    lines += [_gap_in_words(gap, compared) for gap in compared.gaps]
    return lines


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
