"""Apply the policy now."""

import argparse
import sys
from typing import Any

from django.core.management.base import CommandParser

from cleanup.clears import receipt_delivery
from cleanup.lab.people import os_account
from cleanup.management.base import (
    FAILED,
    LabCommand,
    UsageError,
    add_root_argument,
    find_roots,
    now,
    parse_iso,
    sweep_as_json,
    sweep_as_text,
)
from cleanup.sweeps import all_roots, breakers


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of runs")
    return int(text)


class Command(LabCommand):
    help = "Clear every run that the policy's schedule says is due."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Show what would be cleared and touch nothing.")
        parser.add_argument("--now", type=parse_iso, metavar="ISO", help="Decide as of this instant (dry run only).")
        parser.add_argument("--limit", type=positive, metavar="N", help="Clear N runs at the most.")
        parser.add_argument("--as-scheduled", action="store_true", help="Behave exactly as the timed pass.")
        add_root_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        if options["now"] and not options["dry_run"]:
            raise UsageError("--now goes together with --dry-run only.")
        at, timed = options["now"] or now(), options["as_scheduled"]
        swept = all_roots.sweep(
            now=at,
            dry_run=options["dry_run"],
            timed=timed,
            limit=options["limit"],
            roots=find_roots(options["root"], at_work=True),
            actor="" if timed else os_account.name(),
            clock=None if options["now"] else breakers.read_clock(at),
        )
        self.report(options["json"], sweep_as_json(swept), sweep_as_text(swept))
        if not options["dry_run"]:
            receipt_delivery.tell_and_deliver(now=now())
        if swept.failed:
            sys.exit(FAILED)
