"""Whether the sums by day and month still agree with the ledger's rows."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime, time, timedelta
from operator import add
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, Max, Min, OuterRef, Q, Sum
from django.db.models.functions import TruncMonth

from cleanup.ledger import dimensions, sums
from cleanup.ledger.sums import Amounts
from cleanup.models import DaySum, Dimension, LedgerEntry, LedgerHead

# Of (dimension, key, key2). Durations are added up for each instrument: when its run was verified is no part of a row.
_Found = dict[tuple[str, str, str], Amounts]
_COUNTED = (*dimensions.FREEING, *dimensions.REFUSING)
_COLUMNS: tuple[str, ...] = (
    "kind",
    "equipment",
    "project",
    "actor",
    "requester",
    "typed_by",
    "cause",
    "decided_by",
    "policy_version",
)
_COLUMNS += (
    "root_name",
    "proof_level",
    "reason",
    "files",
    "bytes",
    "allocated_bytes",
    "measured_bytes",
    "at",
    "attempt",
)


@dataclass(frozen=True)
class SumDifference:
    """One sum that is not what the rows come to; `day`: of a month its first day."""

    day: date
    of_month: bool
    dimension: str
    key: str
    expected: Amounts
    found: Amounts

    def __str__(self) -> str:
        of = f"the month {self.day:%Y-%m}" if self.of_month else f"{self.day}"
        return (
            f"the sum of {of} by {self.dimension} {self.key!r} says {_say(self.found)};"
            f" the ledger's rows come to {_say(self.expected)}"
        )


def _say(amounts: Amounts) -> str:
    return f"{amounts.clears} clears, {amounts.entries} rows, {amounts.files} files, {amounts.bytes} bytes"


def differences(*, limit: int = 1) -> list[SumDifference]:
    """Return the first sums that differ from the rows, by day; then those of months that differ from their days.

    Reads every row that counts, a day at a time. Rows may be written meanwhile.
    """
    found: list[SumDifference] = []
    zones = _zones()
    for day in _days():
        if _compare(day, _count(day, zones), _kept(day)):
            found += _confirm(day, zones)
        if len(found) >= limit:
            return found[:limit]
    return [*found, *_months()][:limit]


def _confirm(day: date, zones: "_Zones") -> list[SumDifference]:
    """Look again while no other process writes: a row may have come between two questions."""
    with transaction.atomic():
        LedgerHead.objects.select_for_update().first()
        return _compare(day, _count(day, zones), _kept(day))


@dataclass(frozen=True)
class _Zones:
    """The lab's zones, each from a row's key on."""

    begin: tuple[int, ...]
    names: tuple[str, ...]

    def of(self, key: int) -> ZoneInfo:
        return ZoneInfo(self.names[max(bisect_right(self.begin, key) - 1, 0)])


def _zones() -> _Zones:
    names = list(DaySum.objects.order_by().values_list("zone", flat=True).distinct())
    if len(names) < 2:
        return _Zones((0,), (names[0] if names else settings.TIME_ZONE,))
    begin: list[int] = []
    follow: list[str] = []
    for key, name in DaySum.objects.filter(of_month=False).order_by("first_entry").values_list("first_entry", "zone"):
        if not follow or follow[-1] != name:
            begin.append(key)
            follow.append(name)
    return _Zones(tuple(begin), tuple(follow))


def _days() -> Iterator[date]:
    """Every day of a row or a sum, in any zone."""
    rows = LedgerEntry.objects.filter(kind__in=_COUNTED).order_by().aggregate(first=Min("at"), last=Max("at"))
    kept = DaySum.objects.filter(of_month=False).order_by().aggregate(first=Min("day"), last=Max("day"))
    one = timedelta(days=1)
    first = [day for day in (kept["first"], rows["first"] and rows["first"].date() - one) if day]
    last = [day for day in (kept["last"], rows["last"] and rows["last"].date() + one) if day]
    if not first:
        return
    day = min(first)
    while day <= max(last):
        yield day
        day += one


def _count(day: date, zones: _Zones) -> _Found:
    within = Q()
    for name in set(zones.names):
        first, after = (
            datetime.combine(one, time.min, tzinfo=ZoneInfo(name)).astimezone(UTC)
            for one in (day, day + timedelta(days=1))
        )
        within |= Q(at__gte=first, at__lt=after)
    earlier = LedgerEntry.objects.filter(
        attempt=OuterRef("attempt"), kind__in=dimensions.FREEING, pk__lt=OuterRef("pk")
    )
    rows = LedgerEntry.objects.filter(within, kind__in=_COUNTED).annotate(had_earlier=Exists(earlier)).order_by()
    found: dict[tuple[str, str, str], tuple[int, ...]] = {}
    counted: Any = rows.only(*_COLUMNS).iterator(chunk_size=2_000)
    one_zone = zones.of(0) if len(zones.names) == 1 else None
    for row in counted:
        if one_zone is None and row.at.astimezone(zones.of(row.pk)).date() != day:
            continue
        first_of_all = row.kind in dimensions.FREEING and not row.had_earlier
        numbers = astuple(sums.amounts_of(row, first=first_of_all))
        keys = [(str(dimension), value, "") for dimension, value in dimensions.values_of(row)]
        if first_of_all:
            keys.append((str(Dimension.DURATION), "", row.equipment))
        for key in keys:
            before = found.get(key)
            found[key] = numbers if before is None else tuple(map(add, before, numbers))
    return {key: Amounts(*amounts) for key, amounts in found.items()}


def _kept(day: date) -> _Found:
    found: _Found = {}
    rows = DaySum.objects.filter(of_month=False, day=day).order_by()
    for dimension, key, key2, *numbers in rows.values_list("dimension", "key", "key2", *sums.NUMBERS):
        of_all = (dimension, "" if dimension == Dimension.DURATION else key, key2)
        found[of_all] = found.get(of_all, Amounts()) + sums.of_numbers(numbers)
    return found


def _compare(day: date, expected: _Found, found: _Found, *, of_month: bool = False) -> list[SumDifference]:
    none = Amounts()
    return [
        SumDifference(day, of_month, key[0], key[1] or key[2], expected.get(key, none), found.get(key, none))
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key, none) != found.get(key, none)
    ]


def _months() -> Iterator[SumDifference]:
    """The months that are not the sum of their days. One question for both, so that no write comes between."""
    for month in sorted(DaySum.objects.order_by().values_list(TruncMonth("day"), flat=True).distinct()):
        after = (month.replace(day=1) + timedelta(days=31)).replace(day=1)
        rows = DaySum.objects.filter(day__gte=month, day__lt=after).order_by().values_list("of_month", *_KEYS)
        sides: tuple[_Found, _Found] = ({}, {})
        for of_month, dimension, key, key2, zone, *numbers in rows.annotate(
            **{f"all_{name}": Sum(name) for name in sums.NUMBERS}
        ):
            sides[of_month][dimension, key, f"{key2} {zone}"] = sums.of_numbers(numbers)
        yield from _compare(month, *sides, of_month=True)


_KEYS = ("dimension", "key", "key2", "zone")
