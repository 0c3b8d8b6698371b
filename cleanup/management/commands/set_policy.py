"""Write a new policy version."""

import argparse
import getpass
import math
from difflib import get_close_matches
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandParser

from cleanup.management.base import LabCommand, UsageError, find_roots, now
from cleanup.models import RetentionPolicy, Run, RunKind
from cleanup.policy.retention import MAX_RETAIN_HOURS, Mode, ProofLevel

_UNITS = {"d": 24.0, "h": 1.0, "m": 1 / 60, "s": 1 / 3600}


def hours(text: str) -> float:
    """A duration in hours: plain hours, or with a unit: 30d, 24h, 60m, 3600s."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "h")
    try:
        value = float(number) * _UNITS[unit]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no duration such as 24, 24h or 30d") from None
    if not math.isfinite(value) or not 0 <= value <= MAX_RETAIN_HOURS:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {MAX_RETAIN_HOURS:.0f} hours")
    return value


class Command(LabCommand):
    help = "Write a new policy version for the whole lab, or for the scope that is named."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--root", metavar="NAME")
        parser.add_argument("--equipment", metavar="E")
        parser.add_argument("--project", metavar="P")
        parser.add_argument("--run-kind", choices=RunKind.values)
        parser.add_argument("--mode", choices=list(Mode))
        parser.add_argument("--retain-hours", type=hours, metavar="H", help="After the verification; also 30d, 60m.")
        parser.add_argument("--proof", choices=list(ProofLevel))

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        fields = {name: options[name] for name in ("mode", "retain_hours", "proof") if options[name] is not None}
        if not fields:
            raise UsageError("Say what to change: --mode, --retain-hours or --proof.")
        for name in ("equipment", "project"):
            _refuse_unknown(name, options[name])
        root = find_roots(options["root"])[0] if options["root"] else None
        scope: dict[str, Any] = {name: options[name] or "" for name in ("equipment", "project", "run_kind")}
        try:
            policy = RetentionPolicy.objects.add_version(
                root=root, author=getpass.getuser(), now=now(), **scope, **fields
            )
        except ValidationError as error:
            raise UsageError("; ".join(error.messages)) from None
        answer = {
            "version": policy.version,
            "root": root.name if root else None,
            **{name: value or None for name, value in scope.items()},
            "mode": policy.mode or None,
            "retain_hours": policy.retain_hours,
            "proof": policy.proof or None,
        }
        said = ", ".join(f"{name} {value}" for name, value in answer.items() if value is not None)
        self.report(options["json"], answer, f"policy {said}")


def _refuse_unknown(name: str, value: str | None) -> None:
    """A policy for an equipment that no run has is a slip of the finger."""
    if not value or Run.objects.filter(**{name: value}).exists():
        return
    known = list(Run.objects.order_by(name).values_list(name, flat=True).distinct())
    near = get_close_matches(value, known) or known[:5]
    raise UsageError(f"No run of {name} {value} is known; nearest: {', '.join(near) or 'none'}.")
