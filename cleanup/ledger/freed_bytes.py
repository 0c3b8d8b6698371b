"""Logical bytes that clears freed, by time. Every picture of the ledger asks here."""

from datetime import date, datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.db.models.functions import TruncDate, TruncMonth

from cleanup.ledger.period import Period
from cleanup.models import LedgerEntry, StagingRoot
from cleanup.models.aggregates import bytes_sum


def by_month(period: Period) -> dict[tuple[date, str], int]:
    """Return the bytes by month (its first day, in the lab's zone) and instrument."""
    if period.is_empty:
        return {}
    entries = LedgerEntry.objects.freeing().filter(at__gte=period.begins_at, at__lt=period.ends_at)
    sums = _summed(entries.annotate(month=TruncMonth("at")).values("month", "equipment"))
    return {(row["month"].date(), row["equipment"]): int(row["freed"]) for row in sums}


def by_day(root: StagingRoot, since: datetime, now: datetime, seen: Q) -> dict[date, int]:
    """Return the bytes by day for one staging root, of the entries that `seen` selects."""
    entries = LedgerEntry.objects.freeing().filter(seen, run__root=root, at__gte=since, at__lte=now)
    return {row["day"]: int(row["freed"]) for row in _summed(entries.annotate(day=TruncDate("at")).values("day"))}


def _summed(groups: "QuerySet[LedgerEntry, Any]") -> "QuerySet[LedgerEntry, Any]":
    return groups.order_by().annotate(freed=bytes_sum("bytes", default=0))
