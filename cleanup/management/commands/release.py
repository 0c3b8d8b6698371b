"""Unpin runs."""

import sys
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser

from cleanup.management.base import (
    FAILED,
    LabCommand,
    add_root_argument,
    add_user_argument,
    find_roots,
    find_runs,
    hold_as_json,
    now,
    user_named,
)
from cleanup.models import Hold, Run
from cleanup.runs.holds import holds
from cleanup.text.values import visible


class Command(LabCommand):
    help = "Release all holds that people have laid on runs. A hold by a file ends when the file is taken away."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run_paths", nargs="+", metavar="RUN_PATH")
        add_user_argument(parser, "Who releases; by default the account that runs this command.")
        add_root_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        at = now()
        actor = user_named(options["user"])
        runs = find_runs(options["run_paths"], find_roots(options["root"]))
        done = [_release(run, actor, at) for run in runs]
        answers = [each.answer for each in done]
        # One run is told as earlier versions told it.
        told = {"runs": answers} if len(answers) > 1 else answers[0]
        self.report(options["json"], told, "\n".join(line for each in done for line in each.lines))
        if any(each.is_refused for each in done):
            sys.exit(FAILED)


@dataclass(frozen=True)
class ReleasedRun:
    """What came of one run. `is_refused`: nothing was released, and something holds it."""

    answer: dict[str, Any]
    lines: list[str]
    is_refused: bool


def _release(run: Run, actor: str, at: datetime) -> ReleasedRun:
    released = holds.release_run(run, actor=actor, now=at)
    by_file = holds.look_for_file(run, now=at)
    still = holds.still_held(run, now=at)
    answer = {
        "root": run.root.name,
        "run_path": run.run_path,
        "released": [hold_as_json(hold) for hold in released],
        "held_by_file": hold_as_json(by_file) if by_file else None,
        "still_held": still,
    }
    return ReleasedRun(answer, _lines(run, released, by_file, still), bool(by_file or still) and not released)


def _lines(run: Run, released: list[Hold], by_file: Hold | None, still: list[str]) -> list[str]:
    lines = [f"released {run.run_path}: the hold of {hold.owner}: {hold.reason}" for hold in released]
    lines += [f"{run.run_path} is still held {visible(each)}" for each in still]
    if by_file:
        said = f" ({visible(by_file.reason)})" if by_file.reason else ""
        verb = "is still" if released else "is"
        lines.append(
            f"{run.run_path} {verb} held by the file .exlab-hold of {by_file.owner}{said}: "
            f"take {run.root.path}/{run.run_path}/.exlab-hold away to end that"
        )
    return lines or [f"{run.run_path} is not held"]
