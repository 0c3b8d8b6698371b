"""Clear safe runs until so much is free."""

import argparse
import sys
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser

from cleanup.clears import receipt_delivery
from cleanup.clears.making_room import clear_for_room, clear_time, other_runs
from cleanup.clears.making_room.clear_for_room import MadeRoom
from cleanup.clears.making_room.other_runs import RoomWay
from cleanup.clears.making_room.room_plan import RoomOrder
from cleanup.lab import clocks, days
from cleanup.management.base import (
    FAILED,
    LabCommand,
    UsageError,
    find_roots,
    now,
    sweep_as_json,
    sweep_as_text,
    user_named,
)
from cleanup.models import Run
from cleanup.rules import quantities
from cleanup.rules.clear_pace import ClearPace
from cleanup.runs import run_status
from cleanup.text.room import way_words
from cleanup.text.values import duration, in_units, runs


def size(text: str) -> int:
    try:
        wanted = quantities.parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not wanted:
        raise argparse.ArgumentTypeError("name a size above 0")
    return wanted


class Command(LabCommand):
    help = "Clear as few safe runs as are needed until so many bytes are free on a staging root. Every gate stands."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--root", metavar="NAME", required=True, help="The staging root.")
        parser.add_argument("--bytes", type=size, metavar="SIZE", required=True, help="What has to be free: 400GB.")
        parser.add_argument("--by", metavar="TIME", help="Say whether it is done by then: 14:00, or an instant.")
        parser.add_argument("--order", choices=[*map(str, RoomOrder)], default=str(RoomOrder.OLDEST))
        parser.add_argument("--dry-run", action="store_true", help="Show what would be cleared and touch nothing.")

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        at, dry_run = now(), options["dry_run"]
        by = _read_by(options["by"], at)
        (root,) = find_roots(options["root"])
        actor = user_named(None)
        if not dry_run:
            clocks.look(clocks.read_clock(at), ask=False)  # no hold may end by a clock that jumped
        run_status.judge_stale(at, runs=Run.objects.filter(root=root))
        plan = clear_for_room.plan_now(root, options["bytes"], RoomOrder(options["order"]), at)
        if plan.disk.free_bytes is None and not dry_run:
            said = f"How full the disk of {root.name} is cannot be measured: nothing was cleared."
            raise CommandError(said, returncode=FAILED)
        takes = clear_time.time_of_runs(plan.runs, clear_time.paces().get(root.name, ClearPace()), at)
        if not plan.runs:
            takes = timedelta(0)
        if not options["json"]:
            self.stderr.write(_say_time(takes, by, at))
        made = clear_for_room.clear_until_free(plan, now=at, dry_run=dry_run, actor=actor)
        ways = other_runs.ways_on(Run.objects.all(), root, at) if made.short else []
        self.report(options["json"], _as_json(made, takes, by, ways), _as_text(made, ways))
        if not dry_run:
            receipt_delivery.tell_and_deliver(now=now(), runs=Run.objects.filter(pk__in=made.tried))
        if made.short or made.report.failed:
            sys.exit(FAILED)


def _read_by(text: str | None, at: datetime) -> datetime | None:
    if text is None:
        return None
    try:
        by = days.read_by(text, at)
    except days.NoInstant as error:
        raise UsageError(f"--by: {error}") from None
    if by <= at:
        raise UsageError(f"--by: {days.say(by)} is over.")
    return by


def _say_time(takes: timedelta | None, by: datetime | None, at: datetime) -> str:
    if takes is None:
        return "How long it takes is not known yet: too little was cleared on this disk so far."
    said = f"It takes about {duration(max(takes, timedelta(minutes=1)))}, at the speed of the last clears on this disk."
    if by is not None and at + takes > by:
        return f"{said} That is not in time for {days.say(by)}."
    return said


def _as_json(made: MadeRoom, takes: timedelta | None, by: datetime | None, ways: list[RoomWay]) -> dict[str, Any]:
    """Scripts depend on this shape."""
    plan = made.plan
    done_at = None if takes is None else made.report.now + takes
    return {
        **sweep_as_json(made.report),
        "root": plan.root.name,
        "wanted_bytes": plan.wanted,
        "free_before_bytes": plan.disk.free_bytes,
        "free_after_bytes": None if made.report.dry_run else made.disk.free_bytes,
        "missing_bytes": plan.choice.missing,
        "short_bytes": made.short,
        "seconds": None if takes is None else round(takes.total_seconds()),
        "by": by,
        "in_time": None if by is None or done_at is None else done_at <= by,
        "ways": [
            {
                "way": way_words(way),
                "runs": way.runs,
                "allocated_bytes": way.gives,
                "reasons": sorted({one.reason for one in way.sums}),
            }
            for way in ways
        ],
    }


def _as_text(made: MadeRoom, ways: list[RoomWay]) -> str:
    plan = made.plan
    free = "unknown" if plan.disk.free_bytes is None else in_units(plan.disk.free_bytes)
    lines = [
        f"{in_units(plan.wanted)} wanted on {plan.root.name}, {free} free, {in_units(plan.choice.missing)} missing; "
        f"{runs(len(plan.runs))} would give {in_units(plan.choice.gives)}"
    ]
    if made.report.runs:
        lines.append(sweep_as_text(made.report))
    if made.short:
        lines.append(f"{in_units(made.short)} are short")
        lines += [f"  {way_words(way)}: {in_units(way.gives)}" for way in ways if way.gives]
    return "\n".join(lines)
