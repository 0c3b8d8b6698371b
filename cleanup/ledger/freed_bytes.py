"""Logical bytes that clears freed, by time. Every picture of the ledger asks here."""

from datetime import date, datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.db.models.functions import TruncDate

from cleanup.ledger import report
from cleanup.ledger.period import Period
from cleanup.models import LedgerEntry, StagingRoot
from cleanup.models.aggregates import bytes_sum


def by_month(period: Period) -> dict[tuple[date, str], int]:
    """Return the bytes by month (its first day, in the lab's zone) and instrument."""
    months = report.table("months", period)
    keys = [column.name for column in months.columns]
    rows = (dict(zip(keys, row, strict=True)) for row in months.rows)
    return {(date.fromisoformat(f"{row['month']}-01"), row["equipment"]): row["bytes"] for row in rows}


def by_day(root: StagingRoot, since: datetime, now: datetime, seen: Q) -> dict[date, int]:
    """Return the bytes by day for one staging root, of the entries that `seen` selects."""
    entries = LedgerEntry.objects.freeing().filter(seen, run__root=root, at__gte=since, at__lte=now)
    return {row["day"]: int(row["freed"]) for row in _summed(entries.annotate(day=TruncDate("at")).values("day"))}


def _summed(groups: "QuerySet[LedgerEntry, Any]") -> "QuerySet[LedgerEntry, Any]":
    return groups.order_by().annotate(freed=bytes_sum("bytes", default=0))
