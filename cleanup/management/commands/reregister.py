"""Register again what now lies on another disk."""

import sys
from typing import Any

from django.core.management.base import CommandParser

from cleanup.lab.roots.opening import Unreachable
from cleanup.lab.roots.registration import RegistrationError
from cleanup.management.base import (
    FAILED,
    LabCommand,
    UsageError,
    add_root_argument,
    add_user_argument,
    find_roots,
    find_runs,
    known_in_several,
    nas_roots_given,
    now,
    reason_text,
    user_named,
)
from cleanup.models import StagingRoot
from cleanup.runs.moved_or_gone import moved_runs, reregistration
from cleanup.runs.moved_or_gone.moved_runs import NotMoved
from cleanup.runs.moved_or_gone.reregistration import Moved, RegisterAction, RegisterOrder, Reregistration


class Command(LabCommand):
    help = "Say that what lies at a run's path now is that run, or where a whole staging root lies. Touches no run."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run_paths", nargs="*", metavar="RUN_PATH")
        add_root_argument(parser)
        parser.add_argument("--all", action="store_true", help="Every staged run of the staging root that is named.")
        parser.add_argument("--path", default="", metavar="PATH", help="With --all: where the staging root lies now.")
        parser.add_argument(
            "--nas-root",
            action="append",
            default=[],
            metavar="[EQUIPMENT=]PATH",
            help="With --root: where its NAS root lies now, or that of one instrument.",
        )
        parser.add_argument(
            "--moved",
            nargs=2,
            metavar=("OLD", "NEW"),
            help="A run or a folder that was renamed on both sides: its runs are at NEW now. Both are below the root.",
        )
        parser.add_argument(
            "--replaced",
            action="store_true",
            help="Declare a run gone where another one lies at its path; only for runs that are named.",
        )
        add_user_argument(parser, "Who says so; by default the account that runs this command.")
        parser.add_argument("--reason", type=reason_text, default="", metavar="TEXT", help="Kept in the ledger.")
        parser.add_argument("--dry-run", action="store_true", help="Show what would be done and change nothing.")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        _refuse_misuse(options)
        roots = find_roots(options["root"])
        actor = user_named(options["user"])
        order = RegisterOrder(
            now=now(),
            actor=actor,
            note=options["reason"],
            replaced=options["replaced"],
            dry_run=options["dry_run"],
        )
        moved: Moved | None = None
        problem = ""
        outcomes: list[Reregistration] = []
        if options["run_paths"]:
            runs = find_runs(options["run_paths"], roots)
            outcomes = moved_runs.reregister_runs(runs, order)
        elif options["moved"]:
            outcomes, problem = _move(options["moved"], roots, order)
        else:
            try:
                nas_path, instrument_nas = nas_roots_given(options["nas_root"])
                moved = reregistration.reregister_root(
                    roots[0],
                    order,
                    path=options["path"],
                    nas_path=nas_path,
                    instrument_nas=instrument_nas,
                    with_runs=options["all"],
                )
            except RegistrationError as error:
                problem = str(error)
            outcomes = moved.runs if moved else []
        for warning in moved.warnings if moved else []:
            self.stderr.write(warning)
        if problem:
            self.stderr.write(problem)
        self.report(options["json"], _as_json(order, moved, problem, outcomes), _as_text(order, moved, outcomes))
        if problem or any(outcome.action is RegisterAction.REFUSED for outcome in outcomes):
            sys.exit(FAILED)


def _move(folders: list[str], roots: list[StagingRoot], order: RegisterOrder) -> tuple[list[Reregistration], str]:
    try:
        move = moved_runs.read_move(*folders)
    except NotMoved as error:
        raise UsageError(error.said) from None
    known = [root for root in roots if moved_runs.runs_of(root, move)]
    if not known:
        raise UsageError(f"No staged run is known at or below {move.old}; both names are paths below the staging root.")
    if len(known) > 1:
        raise known_in_several(move.old, known)
    try:
        return moved_runs.move_runs(known[0], move, order), ""
    except NotMoved as error:
        return [], error.said
    except Unreachable as error:
        return [], f"{known[0].name}: {error.finding.reason.sentence} {error.finding.detail}"


def _refuse_misuse(options: dict[str, Any]) -> None:
    whole = options["all"] or options["path"] or options["nas_root"]
    if options["moved"] and (options["run_paths"] or whole or options["replaced"]):
        raise UsageError("With --moved name the old folder and the new one, and nothing else.")
    if options["moved"]:
        return
    if options["run_paths"] and whole:
        raise UsageError("Name runs, or a whole root with --all, not both.")
    if not options["run_paths"] and not whole:
        raise UsageError("Name the runs, or a staging root with --root NAME --all.")
    if whole and not options["root"]:
        raise UsageError("Say which staging root with --root.")
    if options["path"] and not options["all"]:
        raise UsageError("A staging root in another place has its runs there: say --all as well.")
    if whole and options["replaced"]:
        raise UsageError("Only runs that are named can be declared gone.")


def _as_json(order: RegisterOrder, moved: Moved | None, problem: str, outcomes: list[Reregistration]) -> dict[str, Any]:
    return {
        "dry_run": order.dry_run,
        "now": order.now,
        "problem": problem or None,
        "root": _place(moved.root) if moved else None,
        "warnings": moved.warnings if moved else [],
        "reregistered": _count(outcomes, RegisterAction.REREGISTERED, RegisterAction.WOULD_REREGISTER),
        "declared_gone": _count(outcomes, RegisterAction.DECLARED_GONE, RegisterAction.WOULD_DECLARE_GONE),
        "unchanged": _count(outcomes, RegisterAction.UNCHANGED),
        "refused": _count(outcomes, RegisterAction.REFUSED),
        "runs": [
            {
                "root": outcome.run.root.name,
                "run_path": outcome.moved_from or outcome.run.run_path,
                "action": outcome.action,
                "reason": outcome.finding.reason if outcome.finding else None,
                "detail": outcome.finding.detail if outcome.finding else outcome.said,
                **({"moved_to": outcome.moved_to} if outcome.moved_to else {}),
            }
            for outcome in outcomes
        ],
    }


def _place(root: StagingRoot) -> dict[str, str | None]:
    return {
        "name": root.name,
        "path": root.path,
        "token": root.token or None,
        "nas_root": root.nas_path or None,
        "nas_token": root.nas_token or None,
    }


def _as_text(order: RegisterOrder, moved: Moved | None, outcomes: list[Reregistration]) -> str:
    lines = []
    for outcome in outcomes:
        finding = outcome.finding
        why = "; ".join(part for part in (finding.reason.sentence, finding.detail) if part) if finding else ""
        path = outcome.moved_from or outcome.run.run_path
        path = f"{path} -> {outcome.moved_to}" if outcome.moved_to else path
        lines.append(f"{outcome.action.replace('_', ' '):16} {path}  {why or outcome.said}".rstrip())
    if moved:
        place = moved.root
        verb = "would lie" if order.dry_run else "lies"
        lines.append(f"{place.name} {verb} in {place.path}, NAS root {place.nas_path or '-'}")
    would = "would be " if order.dry_run else ""
    lines.append(
        f"{would}registered again {_count(outcomes, RegisterAction.REREGISTERED, RegisterAction.WOULD_REREGISTER)}, "
        f"declared gone {_count(outcomes, RegisterAction.DECLARED_GONE, RegisterAction.WOULD_DECLARE_GONE)}, "
        f"unchanged {_count(outcomes, RegisterAction.UNCHANGED)}, refused {_count(outcomes, RegisterAction.REFUSED)}"
    )
    return "\n".join(lines)


def _count(outcomes: list[Reregistration], *actions: RegisterAction) -> int:
    return sum(outcome.action in actions for outcome in outcomes)
