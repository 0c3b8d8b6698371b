"""Which holds are in force, when one has ended, and what it cost."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import DateTimeField, Exists, F, OuterRef, Q, QuerySet, Value

from cleanup.models import Hold, HoldQuerySet, HoldSource, Likeness
from cleanup.rules.states import State
from cleanup.runs.holds import keeping_holds

# The owner is reminded this long before the end, or after half of a short hold.
ENDING_WITHIN = timedelta(days=3)
# A file has no end: its owner is asked every month.
OLD_AFTER = timedelta(days=30)

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Cost:
    """A hold's cost so far: logical bytes times days; None if unknown."""

    bytes: int | None
    days: float

    @property
    def byte_days(self) -> float | None:
        return None if self.bytes is None else self.bytes * self.days


def in_force(now: datetime) -> HoldQuerySet:
    """Return the holds in force on runs that are not cleared or gone, or that may lie under another path."""
    lies_there = Q(run__gone_at=None) & ~Q(run__state=State.CLEARED)
    return Hold.objects.in_force(now).filter(lies_there | Exists(lying_elsewhere()))


def ending(now: datetime) -> HoldQuerySet:
    """Return people's holds that end within three days, and files' holds over a month old.

    Without short holds in their first half, and runs that another hold keeps longer.
    """
    moment = Value(now, output_field=DateTimeField())
    longer = Hold.objects.in_force(now).filter(Q(until=None) | Q(until__gt=OuterRef("until")), run=OuterRef("run"))
    soon = Q(source=HoldSource.PERSON, until__lte=now + ENDING_WITHIN) & Q(left__lte=F("passed")) & ~Exists(longer)
    old = Q(source=HoldSource.FILE, created_at__lte=now - OLD_AFTER)
    spans = in_force(now).annotate(left=F("until") - moment, passed=moment - F("created_at"))
    return spans.filter(soon | old)


def ended_at(hold: Hold, now: datetime) -> datetime | None:
    """Return when a hold ended: over, released, or its run cleared or gone; else None.

    A hold that only a doubted clock calls over is in force.
    """
    run = hold.run
    ends = [end for end in (hold.until, hold.released_at) if end is not None]
    if hold.until is not None and hold.until <= now and Hold.objects.in_force(now).filter(pk=hold.pk).exists():
        ends.remove(hold.until)
    left = [end for end in (run.cleared_at, run.gone_at) if end is not None]
    if left and not keeping_holds.elsewhere().filter(run=run).exists():
        ends += left
    return min((end for end in ends if end <= now), default=None)


def cost(hold: Hold, now: datetime) -> Cost:
    """Return what one hold has cost so far."""
    return Cost(hold.run.bytes, (_end(hold, now) - hold.created_at) / DAY)


def total_cost(holds: Iterable[Hold], now: datetime) -> Cost:
    """Return the cost of several holds, each run once: bytes, and mean days. Unknown sizes count as 0."""
    spans: dict[int, list[tuple[datetime, datetime]]] = {}
    sizes: dict[int, int] = {}
    for hold in holds:
        spans.setdefault(hold.run_id, []).append((hold.created_at, _end(hold, now)))
        sizes[hold.run_id] = hold.run.bytes or 0
    size = sum(sizes.values())
    byte_days = sum(sizes[run] * (_covered(of_run) / DAY) for run, of_run in spans.items())
    return Cost(size, byte_days / size if size else 0.0)


def lying_elsewhere() -> QuerySet[Likeness]:
    return keeping_holds.elsewhere().filter(run=OuterRef("run"))


def _end(hold: Hold, now: datetime) -> datetime:
    return max(hold.created_at, ended_at(hold, now) or now)


def _covered(spans: list[tuple[datetime, datetime]]) -> timedelta:
    """The time that the spans cover, overlaps once."""
    covered, reached = timedelta(), None
    for start, end in sorted(spans):
        if reached is not None:
            start = max(start, reached)
        if end > start:
            covered, reached = covered + (end - start), end
    return covered
