"""Pin a run."""

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
    find_run,
    hold_as_json,
    now,
    user_named,
)
from cleanup.runs.holds import holds
from cleanup.runs.holds.holds import HoldRefused


class Command(LabCommand):
    help = "Hold a run: it is not cleared, by a click or on schedule, until the hold ends or is released."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run_path", metavar="RUN_PATH")
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
        run = find_run(options["run_path"], find_roots(options["root"]))
        try:
            laid = holds.hold(run, owner=owner, reason=options["reason"], until=until.at, now=at)
        except HoldRefused as refused:
            raise CommandError(str(refused), returncode=FAILED) from None
        answer = {"root": run.root.name, "run_path": run.run_path, "hold": hold_as_json(laid)}
        self.report(options["json"], answer, f"held {run.run_path} until {until.said}, by {laid.owner}: {laid.reason}")


def _read(text: str, at: datetime) -> days.Until:
    try:
        until = days.read_until(text)
    except days.NoInstant as error:
        raise UsageError(f"--until: {error}") from None
    if until.at <= at:
        over = f"{until.day} is over" if until.day else "that is over"
        raise UsageError(f"--until: {over} since {until.said}; the end of a hold must lie in the future.")
    return until
