"""An operator's clear, at once."""

import getpass
import sys
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandParser

from cleanup import sweeping, telling
from cleanup.management.base import (
    FAILED,
    LabCommand,
    UsageError,
    add_root_argument,
    find_roots,
    find_run,
    now,
    sweep_as_json,
    sweep_as_text,
)


class Command(LabCommand):
    help = "Clear the staging copies of the runs that are named, whatever the policy's mode. Every gate stands."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run_paths", nargs="+", metavar="RUN_PATH")
        parser.add_argument("--dry-run", action="store_true", help="Show what would be cleared and touch nothing.")
        parser.add_argument("--user", metavar="NAME", help="Who clears; by default the account that runs this command.")
        parser.add_argument("--reason", default="", metavar="TEXT", help="Kept with the attempt.")
        add_root_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        at = now()
        roots = find_roots(options["root"])
        if options["user"] and not get_user_model().objects.filter(username=options["user"]).exists():
            raise UsageError(f"No user {options['user']} is known.")
        runs = list({run.pk: run for run in (find_run(path, roots) for path in options["run_paths"])}.values())
        actor = options["user"] or getpass.getuser()
        swept = sweeping.clear(runs, now=at, dry_run=options["dry_run"], actor=actor, note=options["reason"][:500])
        self.report(options["json"], sweep_as_json(swept), sweep_as_text(swept))
        if not options["dry_run"]:
            telling.tell(now=now(), runs=runs)
        if swept.failed or swept.count(sweeping.Action.REFUSED):
            sys.exit(FAILED)
