"""Let the sweeps go on after an abnormal sight has stopped them."""

import sys
from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser

from cleanup.management.base import (
    FAILED,
    LabCommand,
    add_root_argument,
    add_user_argument,
    find_roots,
    now,
    reason_text,
    user_named,
)
from cleanup.models import Run, SweepBreaker
from cleanup.rules.breaker_question import Shown, say_shown
from cleanup.sweeps import breakers as sweep_breakers
from cleanup.sweeps.breakers import GoOnAnswer


class Command(LabCommand):
    help = (
        "Close the open breakers: the next sweep may take the runs that they have shown. Every gate stands. "
        "Where others would go as well by now nothing is closed, and they are shown."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_user_argument(parser, "Who says so; by default the account that runs this.")
        parser.add_argument("--reason", type=reason_text, default="", metavar="TEXT", help="Kept with the breaker.")
        parser.add_argument("--show", action="store_true", help="Show every run that would go, and close nothing.")
        parser.add_argument(
            "--code", metavar="CODE", help="Answer the one question that --show has shown with this code."
        )
        add_root_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        at = now()
        actor = user_named(options["user"])
        roots = find_roots(options["root"])
        breakers = SweepBreaker.objects.filter(closed_at=None, root__in=roots).select_related("root").order_by("pk")
        if options["show"]:
            self._show(list(breakers), at, as_json=options["json"])
            return
        said = {"actor": actor, "note": options["reason"], "code": options["code"]}
        closed, refused = [], []
        for breaker in breakers:
            if options["code"] and not options["code"].startswith(f"{breaker.pk}-"):
                continue
            match sweep_breakers.answer(breaker, now=at, **said):
                case GoOnAnswer.GONE_ON:
                    closed.append(breaker)
                case GoOnAnswer.SEEN_MORE:
                    refused.append(breaker)
        for breaker in (*closed, *refused):
            breaker.refresh_from_db(fields=["detail", "shown"])
        report = {
            "now": at,
            "breakers": [_as_json(breaker, breaker.lets_go) for breaker in closed],
            "refused": [{**_as_json(breaker, breaker.lets_go), "code": breaker.code} for breaker in refused],
        }
        lines = [f"{breaker.root.name}: goes on after: {breaker.detail}{_for(breaker)}" for breaker in closed]
        lines += [_refusal(breaker) for breaker in refused]
        self.report(options["json"], report, "\n".join(lines) or "No breaker is open.")
        if refused:
            sys.exit(FAILED)

    def _show(self, breakers: list[SweepBreaker], at: datetime, *, as_json: bool) -> None:
        asked = [(breaker, sweep_breakers.question(breaker, now=at)) for breaker in breakers]
        report = {"now": at, "breakers": [{**_as_json(one, what.shown), "code": what.code} for one, what in asked]}
        lines = [
            "\n".join([f"{one.root.name}: {one.detail} With --code {what.code} these go:", _listed(what.shown)])
            for one, what in asked
        ]
        self.report(as_json, report, "\n".join(lines) or "No breaker is open.")


def _as_json(breaker: SweepBreaker, shown: Shown) -> dict[str, Any]:
    return {
        "root": breaker.root.name,
        "kind": breaker.kind,
        "detail": breaker.detail,
        "opened_at": breaker.opened_at,
        "sweep": breaker.sweep_id,
        "runs": _paths(shown),
        "bytes": shown.bytes,
        "policy_versions": list(shown.versions),
    }


def _paths(shown: Shown) -> list[str]:
    found = Run.objects.filter(pk__in=list(shown.runs)).order_by("run_path", "pk")
    return list(found.values_list("run_path", flat=True))


def _for(breaker: SweepBreaker) -> str:
    return f" For {say_shown(breaker.lets_go)}." if breaker.lets_go.runs else ""


def _refusal(breaker: SweepBreaker) -> str:
    said = f"{breaker.root.name}: nothing goes on, for by now this is not what was shown. {breaker.detail}"
    return "\n".join([said, _listed(breaker.lets_go), "Say it again to let these go."])


def _listed(shown: Shown) -> str:
    return "\n".join([f"  {say_shown(shown)}", *(f"  {path}" for path in _paths(shown))])
