"""Compare database, disks, NAS and data directory."""

import argparse
import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from cleanup.management.base import FAILED, LabCommand, add_root_argument, find_roots, now
from cleanup.monitoring.reconciliation import reconciling
from cleanup.monitoring.reconciliation.findings import Mismatch
from cleanup.monitoring.reconciliation.nas import Bounds
from cleanup.monitoring.reconciliation.reconciling import Reconciled
from cleanup.text import values


class Command(LabCommand):
    help = (
        "Compare the database with the staging disks, the copies on the NAS and the data directory, and name one safe "
        "next step for all that differs. Removes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_root_argument(parser)
        parser.add_argument("--without-nas", action="store_true", help="Do not ask the NAS.")
        parser.add_argument(
            "--limit", type=_number, metavar="N", help="Ask for at most N copies; the next one goes on."
        )
        parser.add_argument(
            "--apply",
            action="store_true",
            help="Bring back into the database the clears of which only the data directory tells.",
        )

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        roots = find_roots(options["root"], at_work=True)
        bounds = None if options["without_nas"] else Bounds.of(runs=options["limit"])
        done = reconciling.reconcile(
            roots, now=now(), bounds=bounds, apply=options["apply"], shown=options["root"] is None
        )
        if done is None:
            raise CommandError("Another reconciliation is under way on this host.", returncode=FAILED)
        answer = {
            "host": done.host,
            "root": roots[0].name if len(roots) == 1 else None,
            "started_at": done.started_at,
            "ended_at": timezone.now(),
            "runs": done.runs,
            "asked": done.asked,
            "not_asked": done.not_asked,
            "waiting": done.waiting,
            "counts": dict(done.found.counts),
            "mismatches": [_as_json(each) for each in done.found.in_order],
            "recovered": [{"root": run.root.name, "run_path": run.run_path} for run in done.recovered],
            "problems": done.problems,
        }
        self.report(options["json"], answer, "\n".join(_as_lines(done)))
        if any(each.kind.is_serious for each in done.found.listed):
            sys.exit(FAILED)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text} is no number of copies")
    return int(text)


def _as_json(found: Mismatch) -> dict[str, Any]:
    return {
        **found.as_json(),
        "sentence": found.kind.sentence,
        "next_step": found.kind.step,
        "command": found.command or None,
    }


def _as_lines(done: Reconciled) -> list[str]:
    lines = []
    for each in done.found.in_order:
        place = ": ".join(values.visible(part) for part in (each.root, each.run_path) if part)
        lines.append(
            f"{each.kind:18} {place or done.host}  {each.kind.sentence} {values.visible(each.detail)}".rstrip()
        )
        lines.append(f"{'':18} {each.kind.step}{f' {each.command}' if each.command else ''}")
    more = done.found.counts.total() - len(done.found.listed)
    if more:
        lines.append(f"{more:,} more of these kinds are counted and not listed")
    lines += [f"{each['root'] or done.host}: {each['reason']} {each['detail']}".rstrip() for each in done.problems]
    lines += [f"{run.run_path}: its clear is in the database again" for run in done.recovered]
    lines.append(
        f"{done.found.counts.total():,} mismatches; {values.runs(done.runs)} on the disks; "
        f"{done.asked:,} copies asked for, {done.not_asked:,} not told of, {done.waiting:,} waiting"
    )
    return lines
