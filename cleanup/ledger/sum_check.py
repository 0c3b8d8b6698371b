"""Whether the sums by day and month still agree with the ledger's rows."""

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime, time, timedelta
from operator import add
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, Max, Min, OuterRef, Q, Sum
from django.db.models.functions import TruncMonth

from cleanup.ledger import dimensions, stored_text, sums
from cleanup.ledger.period import month_after
from cleanup.ledger.sums import Amounts
from cleanup.models import DaySum, Dimension, LedgerEntry, LedgerHead

# Of (dimension, key, key2). Durations are added up for each instrument: when its run was verified is no part of a row.
_Found = dict[tuple[str, str, str], Amounts]
_COUNTED = (*dimensions.FREEING, *dimensions.REFUSING)
_NUMBERS = ("files", "bytes", "allocated_bytes", "measured_bytes")
_AT_ONCE = 5_000


class _Alike(NamedTuple):
    """The columns of rows that free bytes, by which they count; `dimensions` asks them as it asks a row."""

    is_first: bool  # of their attempts
    kind: str
    equipment: str
    project: str
    actor: str
    requester: str
    typed_by: str
    cause: str
    policy_version: int
    root_name: str
    proof_level: str
    decided_text: str

    @property
    def reason(self) -> str:
        """Only refusals count by it."""
        return ""

    @property
    def decided_by(self) -> dict[str, Any]:
        """Which policy decided."""
        return stored_text.values(self.decided_text)


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
    """The lab's zones, each from a row's key on; the first one also counts for the rows before."""

    begin: tuple[int, ...]
    names: tuple[str, ...]

    def within(self, day: date) -> Q:
        """The rows of a day, each in the zone of its time."""
        ends = [_ends(day, name) for name in self.names]
        # One range of the index around all of them.
        found = Q(at__gte=min(first for first, _after in ends), at__lt=max(after for _first, after in ends))
        of_zones = Q()
        for number, (first, after) in enumerate(ends):
            of_zone = Q(at__gte=first, at__lt=after)
            if number:
                of_zone &= Q(pk__gte=self.begin[number])
            if number + 1 < len(ends):
                of_zone &= Q(pk__lt=self.begin[number + 1])
            of_zones |= of_zone
        return found & of_zones if len(ends) > 1 else found


def _ends(day: date, zone: str) -> tuple[datetime, datetime]:
    """The first instants of a day and of the next one."""
    first, after = (datetime.combine(one, time.min, tzinfo=ZoneInfo(zone)) for one in (day, day + timedelta(days=1)))
    return first.astimezone(UTC), after.astimezone(UTC)


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
    within = zones.within(day)
    found: dict[tuple[str, str, str], tuple[int, ...]] = {}
    for alike, numbers in _freed(within).items():
        keys = [(str(dimension), value, "") for dimension, value in dimensions.values_of(alike)]
        if alike.is_first:
            keys.append((str(Dimension.DURATION), "", alike.equipment))
        for key in keys:
            before = found.get(key)
            found[key] = numbers if before is None else tuple(map(add, before, numbers))
    refused = LedgerEntry.objects.filter(within, kind__in=dimensions.REFUSING).order_by().values_list("reason")
    for reason, number in refused.annotate(number=Count("pk")):
        found[str(Dimension.REFUSAL), reason, ""] = (number, *astuple(Amounts())[1:])
    return {key: Amounts(*amounts) for key, amounts in found.items()}


def _freed(within: Q) -> dict[_Alike, tuple[int, ...]]:
    """What the rows that free bytes come to, alike ones added up first: to tell all dimensions of a row takes long."""
    earlier = LedgerEntry.objects.filter(
        attempt=OuterRef("attempt"), kind__in=dimensions.FREEING, pk__lt=OuterRef("pk")
    )
    rows = LedgerEntry.objects.filter(dimensions.FREES, within).order_by()
    rows = rows.annotate(is_first=~Exists(earlier), decided_text=stored_text.column("decided_by"))
    found: dict[_Alike, tuple[int, ...]] = {}
    chosen: Any = rows.values_list(*_Alike._fields, *_NUMBERS).iterator(chunk_size=_AT_ONCE)
    for *columns, files, size, allocated, measured in chosen:
        alike = _Alike._make(columns)
        known = (0, 0) if measured is None else (measured, allocated)
        numbers = (1, int(alike.is_first), files, size, allocated, *known)
        before = found.get(alike)
        found[alike] = numbers if before is None else tuple(map(add, before, numbers))
    return found


def _kept(day: date) -> _Found:
    found: dict[tuple[str, str, str], tuple[int, ...]] = {}
    rows = DaySum.objects.filter(of_month=False, day=day).order_by()
    for dimension, key, key2, *numbers in rows.values_list("dimension", "key", "key2", *sums.NUMBERS):
        of_all = (dimension, "" if dimension == Dimension.DURATION else key, key2)
        before = found.get(of_all)
        found[of_all] = tuple(numbers if before is None else map(add, before, numbers))
    return {key: sums.of_numbers(numbers) for key, numbers in found.items()}


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
        rows = (
            DaySum.objects.filter(day__gte=month, day__lt=month_after(month)).order_by().values_list("of_month", *_KEYS)
        )
        sides: tuple[_Found, _Found] = ({}, {})
        for of_month, dimension, key, key2, zone, *numbers in rows.annotate(
            **{f"all_{name}": Sum(name) for name in sums.NUMBERS}
        ):
            sides[of_month][dimension, key, f"{key2} {zone}"] = sums.of_numbers(numbers)
        yield from _compare(month, *sides, of_month=True)


_KEYS = ("dimension", "key", "key2", "zone")
