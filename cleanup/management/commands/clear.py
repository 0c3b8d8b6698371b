"""An operator's clear, at once."""

import sys
from typing import Any

from django.core.management.base import CommandParser

from cleanup.clears import clear_now, receipt_delivery
from cleanup.clears.run_action import Action
from cleanup.lab import clocks
from cleanup.management.base import (
    FAILED,
    LabCommand,
    add_root_argument,
    add_user_argument,
    find_roots,
    find_runs,
    now,
    reason_text,
    sweep_as_json,
    sweep_as_text,
    user_named,
)


class Command(LabCommand):
    help = "Clear the staging copies of the runs that are named, in every mode of the policy. Every gate stands."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run_paths", nargs="+", metavar="RUN_PATH")
        parser.add_argument("--dry-run", action="store_true", help="Show what would be cleared and touch nothing.")
        add_user_argument(parser, "Who clears; by default the account that runs this command.")
        parser.add_argument("--reason", type=reason_text, default="", metavar="TEXT", help="Kept with the attempt.")
        parser.add_argument(
            "--accept-loss",
            action="store_true",
            help="Clear runs too whose attributes, access lists or empty folders the NAS lacks; without it such a run "
            "stays, and what it has is named.",
        )
        add_root_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        at = now()
        roots = find_roots(options["root"], at_work=True)
        actor = user_named(options["user"])
        runs = find_runs(options["run_paths"], roots)
        if not options["dry_run"]:
            clocks.look(clocks.read_clock(at), ask=False)  # no hold may end by a clock that jumped
        how = {"dry_run": options["dry_run"], "accept_loss": options["accept_loss"]}
        swept = clear_now.clear(runs, now=at, actor=actor, note=options["reason"], **how)
        self.report(options["json"], sweep_as_json(swept), sweep_as_text(swept))
        if not options["dry_run"]:
            receipt_delivery.tell_and_deliver(now=now(), runs=runs)
        if swept.failed or swept.count(Action.REFUSED):
            sys.exit(FAILED)
