"""Staged bytes by age and by what blocks them. Bytes are logical; runs of unknown size count with none."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Case, Count, F, IntegerField, Q, Value, When
from django.db.models.functions import Coalesce, Least

from cleanup.models import RunQuerySet, Status
from cleanup.models.aggregates import bytes_sum
from cleanup.rules.states import State

_DAY = timedelta(days=1)
# Each age ends before this; the last has no end.
AGES = (_DAY, 7 * _DAY, 30 * _DAY, 90 * _DAY)


@dataclass(frozen=True, kw_only=True)
class StagedAge:
    """Runs of one age: from `least` on, before `most`."""

    least: timedelta
    most: timedelta | None
    runs: int = 0
    verified_bytes: int = 0
    unverified_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class BlockedSum:
    """The runs that one reason blocks."""

    reason: str
    runs: int
    bytes: int


def by_age(runs: RunQuerySet, now: datetime) -> list[StagedAge]:
    """Return every age, the youngest first: from when a run was first seen, or verified if that is earlier."""
    began = Least("first_seen_at", Coalesce("verified_at", "first_seen_at"))
    steps = [When(began__gt=now - most, then=Value(number)) for number, most in enumerate(AGES)]
    verified = Q(state=State.SYNC_VERIFIED)
    rows: Any = (
        runs.here()
        .order_by()
        .annotate(began=began)
        .annotate(age=Case(*steps, default=Value(len(AGES)), output_field=IntegerField()))
        .values("age")
        .annotate(
            runs=Count("pk"),
            verified=bytes_sum("bytes", filter=verified, default=0),
            unverified=bytes_sum("bytes", filter=~verified, default=0),
        )
    )
    found = {row["age"]: row for row in rows}
    return [
        StagedAge(
            least=AGES[number - 1] if number else timedelta(0),
            most=AGES[number] if number < len(AGES) else None,
            **_sums(found.get(number)),
        )
        for number in range(len(AGES) + 1)
    ]


def _sums(row: dict[str, Any] | None) -> dict[str, int]:
    if row is None:
        return {}
    return {
        "runs": row["runs"],
        "verified_bytes": int(row["verified"]),
        "unverified_bytes": int(row["unverified"]),
    }


def by_reason(runs: RunQuerySet) -> list[BlockedSum]:
    """Return what blocks runs, the most bytes first."""
    blocked: Any = (
        runs.here()
        .filter(tone=Status.BLOCK)
        .order_by()
        .values("reason")
        .annotate(runs=Count("pk"), size=bytes_sum("bytes", default=0))
        .order_by(F("size").desc(), "reason")
    )
    return [BlockedSum(reason=row["reason"], runs=row["runs"], bytes=int(row["size"])) for row in blocked]
