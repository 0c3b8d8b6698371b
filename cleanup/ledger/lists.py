"""The ledger's rows behind a number of a report, in pages, the latest first.

The sums say on which days a value occurs, so that only these days are read, however rare the value and long the period.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.db.models import Exists, F, OuterRef, Q

from cleanup.ledger import dimensions
from cleanup.ledger.period import Period
from cleanup.models import DaySum, Dimension, LedgerEntry

PAGE_SIZE = 50
# Days in one question to the database.
_DAYS_AT_ONCE = 20
_INDEXED = {Dimension.EQUIPMENT, Dimension.PROJECT, Dimension.PERSON}

# Where a page begins: a row's instant and key.
Place = tuple[datetime, int]


@dataclass(frozen=True)
class EntryPage:
    """Rows with `had_earlier`: they continue a clear counted before. `newer` and `older`: places of the next pages."""

    rows: Sequence[LedgerEntry]
    newer: Place | None = None
    older: Place | None = None


@dataclass(frozen=True)
class _Stretch:
    """One day on which all values occur, from its first instant on; `entries`: the most rows."""

    begins_at: datetime
    ends_at: datetime
    zone: str
    entries: int


def page(
    period: Period,
    values: Mapping[Dimension, str],
    *,
    after: Place | None = None,
    before: Place | None = None,
    size: int = PAGE_SIZE,
) -> EntryPage:
    """Return the rows that free bytes, or are refused where a value is a refusal's, after a place or before it."""
    stretches = _stretches(period, values)
    if before is not None:
        found = _take(stretches, values, before, size + 1, newer=True)
        if len(found) > size:
            shown = found[:size][::-1]
            return EntryPage(shown, newer=_place(shown[0]), older=_place(shown[-1]))
        after = None
    found = _take(stretches, values, after, size + 1)
    shown = found[:size]
    newer = _place(shown[0]) if after and shown else None
    return EntryPage(shown, newer=newer, older=_place(shown[-1]) if len(found) > size else None)


def _stretches(period: Period, values: Mapping[Dimension, str]) -> list[_Stretch]:
    """The days of a period on which all values occur, the latest first."""
    asked: list[tuple[Dimension, str | None]] = list(values.items()) or [(Dimension.ROOT, None)]
    common: dict[tuple[date, str], int] | None = None
    for dimension, value in asked:
        sums = DaySum.objects.filter(of_month=False, dimension=dimension, day__gte=period.first, day__lte=period.last)
        if value is not None:
            sums = sums.filter(key=value)
        found: dict[tuple[date, str], int] = {}
        for day, zone, entries in sums.order_by().values_list("day", "zone", "entries"):
            found[day, zone] = found.get((day, zone), 0) + entries
        both = found if common is None else {key: min(common[key], found[key]) for key in common.keys() & found.keys()}
        common = both
    stretches = [
        _Stretch(*_ends(day, ZoneInfo(zone)), zone, entries) for (day, zone), entries in (common or {}).items()
    ]
    return sorted(stretches, key=lambda stretch: stretch.begins_at, reverse=True)


def _ends(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The first instants of a day and of the next one; also where clocks change at midnight."""
    first, after = (datetime.combine(one, time.min, tzinfo=zone) for one in (day, day + timedelta(days=1)))
    return first.astimezone(UTC), after.astimezone(UTC)


def _take(
    stretches: Sequence[_Stretch],
    values: Mapping[Dimension, str],
    place: Place | None,
    number: int,
    *,
    newer: bool = False,
) -> list[LedgerEntry]:
    """The rows beyond a place, the nearest first."""
    condition = Q()
    for dimension, value in values.items():
        condition &= dimensions.where(dimension, value)
    if not values:
        condition = dimensions.FREES
    if place is not None:
        at, key = place
        beyond = Q(at=at, pk__gt=key) | Q(at__gt=at) if newer else Q(at=at, pk__lt=key) | Q(at__lt=at)
        stretches = [one for one in stretches if (one.ends_at > at if newer else one.begins_at <= at)]
        condition &= beyond
    earlier = LedgerEntry.objects.filter(
        attempt=OuterRef("attempt"), kind__in=dimensions.FREEING, pk__lt=OuterRef("pk")
    )
    rows = LedgerEntry.objects.filter(condition).annotate(had_earlier=Exists(earlier))
    rows = rows.order_by(*((F("at").asc(), F("pk").asc()) if newer else (F("at").desc(), F("pk").desc())))
    found: dict[int, LedgerEntry] = {}
    stretches = stretches[::-1] if newer else stretches
    for days in [stretches] if _is_indexed(stretches, values) else _some(stretches, values, number):
        within = _within(days, whole=_is_indexed(stretches, values))
        found |= {row.pk: row for row in rows.filter(within)[: number - len(found)]}
        if len(found) >= number:
            break
    return list(found.values())


def _is_indexed(stretches: Sequence[_Stretch], values: Mapping[Dimension, str]) -> bool:
    """Whether an index leads to the rows in their order, so that days between need not be left out."""
    return not _INDEXED.isdisjoint(values) and len({one.zone for one in stretches}) == 1


def _some(stretches: Sequence[_Stretch], values: Mapping[Dimension, str], number: int) -> Iterator[list[_Stretch]]:
    """The days in parts, each with rows enough for a page, as far as the sums of one value tell."""
    part: list[_Stretch] = []
    for stretch in stretches:
        part.append(stretch)
        enough = len(values) < 2 and sum(one.entries for one in part) > 2 * number
        if enough or len(part) >= _DAYS_AT_ONCE:
            yield part
            part = []
    if part:
        yield part


def _within(days: Sequence[_Stretch], *, whole: bool) -> Q:
    """Days side by side become one range; `whole`: all of them, with what lies between."""
    ranges: list[tuple[datetime, datetime]] = []
    for day in sorted(days, key=lambda stretch: stretch.begins_at):
        if ranges and (whole or day.begins_at <= ranges[-1][1]):
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], day.ends_at))
        else:
            ranges.append((day.begins_at, day.ends_at))
    found = Q()
    for first, after in ranges:
        found |= Q(at__gte=first, at__lt=after)
    return found


def _place(row: LedgerEntry) -> Place:
    return row.at, row.pk
