"""Let the sweeps go on after something abnormal has stopped them."""

import getpass
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandParser

from cleanup import breaking
from cleanup.management.base import LabCommand, UsageError, add_root_argument, find_roots, now
from cleanup.models import SweepBreaker


class Command(LabCommand):
    help = "Close the open breakers: the next sweep may do what they have stopped. Every gate stands."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", metavar="NAME", help="Who says so; by default the account that runs this.")
        parser.add_argument("--reason", default="", metavar="TEXT", help="Kept with the breaker.")
        add_root_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        at = now()
        if options["user"] and not get_user_model().objects.filter(username=options["user"]).exists():
            raise UsageError(f"No user {options['user']} is known.")
        actor = options["user"] or getpass.getuser()
        roots = find_roots(options["root"])
        breakers = SweepBreaker.objects.filter(closed_at=None, root__in=roots).select_related("root").order_by("pk")
        closed = [
            breaker
            for breaker in breakers
            if breaking.go_on(breaker, actor=actor, note=options["reason"][:500], now=at)
        ]
        answer = {
            "now": at,
            "breakers": [
                {
                    "root": breaker.root.name,
                    "kind": breaker.kind,
                    "detail": breaker.detail,
                    "opened_at": breaker.opened_at,
                    "sweep": breaker.sweep_id,
                }
                for breaker in closed
            ],
        }
        text = "\n".join(f"{breaker.root.name}: goes on after: {breaker.detail}" for breaker in closed)
        self.report(options["json"], answer, text or "No breaker is open.")
