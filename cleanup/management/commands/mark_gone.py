"""Record that missing run directories are gone."""

import sys
from typing import Any

from django.core.management.base import CommandParser

from cleanup.management.base import (
    FAILED,
    LabCommand,
    UsageError,
    add_root_argument,
    add_user_argument,
    find_roots,
    find_runs,
    now,
    reason_text,
    user_named,
)
from cleanup.models import Run, StagingRoot
from cleanup.runs.moved_or_gone import gone as gone_runs
from cleanup.runs.moved_or_gone.gone import Marked
from cleanup.text import values


class Command(LabCommand):
    help = "Mark runs as gone whose directories are not on their staging disk any more. They are not called cleared."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run_paths", nargs="*", metavar="RUN_PATH")
        parser.add_argument("--missing", action="store_true", help="Every missing run of the root that is named.")
        parser.add_argument("--equipment", default="", metavar="NAME", help="With --missing: of this instrument only.")
        parser.add_argument("--project", default="", metavar="NAME", help="With --missing: of this project only.")
        parser.add_argument(
            "--reason", type=reason_text, required=True, metavar="TEXT", help="Where they went; kept in the ledger."
        )
        parser.add_argument("--dry-run", action="store_true", help="Show what would be marked and change nothing.")
        add_user_argument(parser, "Who says so; by default the account that runs this command.")
        add_root_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        at = now()
        _refuse_misuse(options)
        roots = find_roots(options["root"], at_work=True)
        reason = options["reason"].strip()
        if not reason:
            raise UsageError("Say with --reason where the run went.")
        actor = user_named(options["user"])
        runs = _wanted(options, roots)
        marked = gone_runs.mark_all(runs, actor=actor, reason=reason, now=at, dry_run=options["dry_run"])
        one = len(marked) == 1 and not (options["missing"] or options["dry_run"])
        answer = _as_json(marked[0]) if one else _all_as_json(marked, dry_run=options["dry_run"])
        self.report(options["json"], answer, _as_text(marked, dry_run=options["dry_run"]))
        if any(mark.refused for mark in marked):
            sys.exit(FAILED)


def _refuse_misuse(options: dict[str, Any]) -> None:
    if bool(options["run_paths"]) == options["missing"]:
        raise UsageError("Name the runs, or say --missing --root NAME.")
    if options["missing"] and not options["root"]:
        raise UsageError("Say of which staging root with --root.")
    if not options["missing"] and (options["equipment"] or options["project"]):
        raise UsageError("Only with --missing an instrument or a project can be named.")


def _wanted(options: dict[str, Any], roots: list[StagingRoot]) -> list[Run]:
    if options["missing"]:
        return gone_runs.missing_runs(roots[0], equipment=options["equipment"], project=options["project"])
    return find_runs(options["run_paths"], roots)


def _as_json(mark: Marked) -> dict[str, Any]:
    refused = mark.refused
    return {
        "root": mark.run.root.name,
        "run_path": mark.run.run_path,
        "marked": refused is None,
        "reason": refused.finding.reason if refused and refused.finding else None,
        "detail": str(refused) if refused else "",
    }


def _all_as_json(marked: list[Marked], *, dry_run: bool) -> dict[str, Any]:
    refused = sum(mark.refused is not None for mark in marked)
    return {
        "dry_run": dry_run,
        "marked": len(marked) - refused,
        "refused": refused,
        "runs": [_as_json(mark) for mark in marked],
    }


def _as_text(marked: list[Marked], *, dry_run: bool) -> str:
    said = "would be marked as gone" if dry_run else "marked as gone"
    lines = [
        f"not {said}: {mark.run.run_path}  {mark.refused}" if mark.refused else f"{said}: {mark.run.run_path}"
        for mark in marked
    ]
    if len(marked) != 1:
        gone = sum(mark.refused is None for mark in marked)
        lines.append(f"{values.runs(gone)} {said}, {len(marked) - gone} not")
    return "\n".join(lines)
