"""Pin a run."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from cleanup import holding
from cleanup.holding import HoldRefused
from cleanup.management.base import (
    FAILED,
    LabCommand,
    add_root_argument,
    add_user_argument,
    find_roots,
    find_run,
    hold_as_json,
    now,
    parse_iso,
    user_named,
)


class Command(LabCommand):
    help = "Hold a run: nobody clears it, by a click or on schedule, until the hold ends or is released."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run_path", metavar="RUN_PATH")
        parser.add_argument("--until", type=parse_iso, required=True, metavar="ISO", help="When the hold ends.")
        parser.add_argument("--reason", required=True, metavar="TEXT", help="Why, for everybody to read.")
        add_user_argument(parser, "Whose hold it is; by default the account that runs this command.")
        add_root_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        at = now()
        owner = user_named(options["user"])
        run = find_run(options["run_path"], find_roots(options["root"]))
        try:
            laid = holding.hold(run, owner=owner, reason=options["reason"], until=options["until"], now=at)
        except HoldRefused as refused:
            raise CommandError(str(refused), returncode=FAILED) from None
        until = options["until"].isoformat()
        answer = {"root": run.root.name, "run_path": run.run_path, "hold": hold_as_json(laid)}
        self.report(options["json"], answer, f"held {run.run_path} until {until}, by {laid.owner}: {laid.reason}")
