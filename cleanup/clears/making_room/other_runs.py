"""Which blocked and waiting runs would give the most space, and what would let them go."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Case, CharField, Count, Max, Min, Q, Value, When
from django.utils import timezone

from cleanup.lab import days
from cleanup.models import Run, RunQuerySet, StagingRoot, Status
from cleanup.models.aggregates import bytes_sum
from cleanup.rules.reasons import Reason
from cleanup.rules.remedies import REMEDIES, Where

# At most so many runs of each tone are added up.
ADDED_UP = 20_000


class Opening(enum.StrEnum):
    """When time alone lets a run go."""

    TODAY = "today"
    TOMORROW = "tomorrow"
    LATER = "later"
    NEVER = ""


@dataclass(frozen=True, kw_only=True)
class StayingSum:
    """Runs that stay for one reason, and what they would give in allocated bytes; `key` is one of them."""

    tone: Status
    reason: str
    opening: Opening
    runs: int
    gives: int
    key: int
    opens_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class RoomWay:
    """One way out for some of the runs that stay: a button, a place, or time."""

    where: Where
    button: str
    opening: Opening
    sums: tuple[StayingSum, ...]

    @property
    def runs(self) -> int:
        return sum(one.runs for one in self.sums)

    @property
    def gives(self) -> int:
        return sum(one.gives for one in self.sums)


def ways_on(runs: RunQuerySet, root: StagingRoot, now: datetime) -> list[RoomWay]:
    """The ways out for those of some runs that stay on a root; what gives most first."""
    ways: dict[tuple[Where, str, Opening], list[StayingSum]] = {}
    for one in staying_sums(runs, root, now):
        ways.setdefault(_way_of(one), []).append(one)
    found = (
        RoomWay(where=where, button=button, opening=opening, sums=tuple(sums))
        for (where, button, opening), sums in ways.items()
    )
    return sorted(found, key=lambda way: (-way.gives, way.where, way.button))


def staying_sums(runs: RunQuerySet, root: StagingRoot, now: datetime) -> Sequence[StayingSum]:
    """What stays on a root, by reason and by the day on which it may go, as judged; one query."""
    here = runs.here().filter(root=root).order_by()
    some = Q(pk__in=[])
    for tone in (Status.BLOCK, Status.WAIT):
        some |= Q(pk__in=here.filter(tone=tone).values("pk")[:ADDED_UP])
    today = timezone.localdate(now)
    midnight, next_midnight = days.end_of(today), days.end_of(today + timedelta(days=1))
    opens = Case(
        When(opens_at=None, then=Value(Opening.NEVER.value)),
        When(opens_at__lt=midnight, then=Value(Opening.TODAY.value)),
        When(opens_at__lt=next_midnight, then=Value(Opening.TOMORROW.value)),
        default=Value(Opening.LATER.value),
        output_field=CharField(),
    )
    rows: Any = (
        Run.objects.filter(some)
        .order_by()
        .annotate(opening=opens)
        .values("tone", "reason", "opening")
        .annotate(
            runs=Count("pk"), gives=bytes_sum("allocated_bytes", default=0), key=Min("pk"), latest=Max("opens_at")
        )
    )
    return [
        StayingSum(
            tone=Status(row["tone"]),
            reason=row["reason"],
            opening=Opening(row["opening"]),
            runs=row["runs"],
            gives=int(row["gives"] or 0),
            key=row["key"],
            opens_at=row["latest"],
        )
        for row in rows
    ]


def _way_of(one: StayingSum) -> tuple[Where, str, Opening]:
    try:
        remedy = REMEDIES[Reason(one.reason)]
    except (KeyError, ValueError):  # of another version
        return Where.RUN, "", Opening.NEVER
    # A hold may be ended before its time; what else waits for an instant needs nothing but time.
    if one.tone is Status.WAIT and one.opening is not Opening.NEVER and remedy.where is not Where.HOLDS:
        return Where.ITSELF, "", one.opening
    button = remedy.buttons[0] if remedy.buttons and remedy.where is not Where.ITSELF else ""
    if _VERIFY in remedy.buttons and remedy.where is Where.RUN:
        button = _VERIFY
    return remedy.where, button, Opening.NEVER


_VERIFY = "Verify again here"
