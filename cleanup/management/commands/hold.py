"""Pin runs."""

import sys
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError, CommandParser

from cleanup.lab import days
from cleanup.management.base import (
    FAILED,
    LabCommand,
    UsageError,
    add_root_argument,
    add_user_argument,
    find_roots,
    find_runs,
    hold_as_json,
    now,
    user_named,
)
from cleanup.models import Run
from cleanup.runs.holds import holds
from cleanup.runs.holds.holds import HoldRefused

_OF_ONE = ("root", "run_path", "hold")


class Command(LabCommand):
    help = "Hold runs: they are not cleared, by a click or on schedule, until the hold ends or is released."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run_paths", nargs="+", metavar="RUN_PATH")
        parser.add_argument(
            "--until",
            required=True,
            metavar="DAY",
            help="The last day of the hold, which counts whole in the lab's zone; or an instant.",
        )
        parser.add_argument("--reason", required=True, metavar="TEXT", help="Why; all users can read it.")
        add_user_argument(parser, "Whose hold it is; by default the account that runs this command.")
        add_root_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        at = now()
        until = _read(options["until"], at)
        owner = user_named(options["user"])
        runs = find_runs(options["run_paths"], find_roots(options["root"]))
        answers = [_hold(run, owner=owner, reason=options["reason"], until=until.at, at=at) for run in runs]
        refused = [answer for answer in answers if answer["refused"]]
        if refused and len(answers) == 1:
            raise CommandError(refused[0]["refused"], returncode=FAILED)
        lines = [
            f"not held {answer['run_path']}: {answer['refused']}"
            if answer["refused"]
            else f"held {answer['run_path']} until {until.said}, by {owner}: {answer['hold']['reason']}"
            for answer in answers
        ]
        # One run is told as earlier versions told it.
        told = {"runs": answers} if len(answers) > 1 else {key: answers[0][key] for key in _OF_ONE}
        self.report(options["json"], told, "\n".join(lines))
        if refused:
            sys.exit(FAILED)


def _hold(run: Run, *, owner: str, reason: str, until: datetime, at: datetime) -> dict[str, Any]:
    answer: dict[str, Any] = {"root": run.root.name, "run_path": run.run_path, "hold": None, "refused": None}
    try:
        return {**answer, "hold": hold_as_json(holds.hold(run, owner=owner, reason=reason, until=until, now=at))}
    except HoldRefused as refused:
        return {**answer, "refused": str(refused)}


def _read(text: str, at: datetime) -> days.Until:
    try:
        until = days.read_until(text)
    except days.NoInstant as error:
        raise UsageError(f"--until: {error}") from None
    if until.at <= at:
        over = f"{until.day} is over" if until.day else "that is over"
        raise UsageError(f"--until: {over} since {until.said}; the end of a hold must lie in the future.")
    return until
