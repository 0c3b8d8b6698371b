"""How full one staging disk was for 90 days: clears, limits, and what is foreseen."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from django.utils import timezone

from cleanup.lab.roots import disk_usage
from cleanup.lab.roots.disk_usage import DiskDay, Outlook
from cleanup.ledger import freed_bytes
from cleanup.ledger.tables import Column, Kind, Table
from cleanup.models import RetentionPolicy, StagingRoot
from cleanup.monitoring import evening_mail, forecasts
from cleanup.rules.policies.effective import limits_of
from cleanup.rules.policies.policy import Limits, ScopedPolicy
from cleanup.text.values import in_units, visible
from cleanup.web.audit.figures import Figure
from cleanup.web.audit.plot import Plot, PlotKind, PlotSeries
from cleanup.web.audit.sight import Sight

SHOWN = timedelta(days=90)
# The trend is drawn as far ahead.
AHEAD = timedelta(days=14)
_DAY = timedelta(days=1)
# A name stands below every so many days.
_NAMED = 15
# So many passes to come are told.
_TOLD = 3


def disk(root: StagingRoot, sight: Sight, now: datetime) -> Figure:
    """The figure of one root; it has no picture before the first measurement."""
    first = timezone.localdate(now - SHOWN)
    days = disk_usage.by_day(root, now - SHOWN, now)
    freed = freed_bytes.by_day(root, now - SHOWN, now, sight.places.q("run__root", "equipment"))
    outlook = disk_usage.outlook(root, now)
    scoped = RetentionPolicy.objects.scoped()
    limits = limits_of(scoped, root.name).unasked
    end = (timezone.localdate(now) - first).days + AHEAD.days
    title = f"Use of the staging disk {root.name}"
    series = [
        PlotSeries(
            title="fullest moment of each day", values=[((each.day - first).days, _share(each)) for each in days]
        ),
        PlotSeries(title="days with clears", values=list(_marks(days, freed, first)), dots=True),
        *_lines(limits, outlook, end, now, first),
    ]
    return Figure(
        title=title,
        alt=_said(root, outlook, len(freed)),
        plot=Plot(
            kind=PlotKind.LINES,
            title=title,
            series=series if days else [],
            say=lambda number: f"{number:.0f} %",
            labels=[(number, _name(first + number * _DAY)) for number in range(0, end + 1, _NAMED)],
            highest=100,
        ),
        table=_table(days, freed, title),
        notes=(*_limits_told(limits), *_foreseen(root, sight, scoped, outlook, now)),
    )


def _share(each: DiskDay) -> float:
    return round(100 * each.used_bytes / each.total_bytes, 1) if each.total_bytes else 0.0


def _name(day: date) -> str:
    return f"{day.day} {day:%b}"


def _marks(days: Sequence[DiskDay], freed: Mapping[date, int], first: date) -> Iterator[tuple[int, float]]:
    """A clear's day that was not measured has its mark at the use of the day before."""
    known = {each.day: _share(each) for each in days}
    for day in sorted(freed):
        before = [known[each] for each in known if each <= day]
        if before:
            yield (day - first).days, before[-1]


def _lines(limits: Limits, outlook: Outlook | None, end: int, now: datetime, first: date) -> Iterator[PlotSeries]:
    if outlook is None or not outlook.total_bytes:
        return
    if limits.free_start_bytes is not None:
        share = max(100 - 100 * limits.free_start_bytes / outlook.total_bytes, 0)
        yield PlotSeries(title="limit", values=[(0, share), (end, share)], dashes="9 5")
    if outlook.pace is not None and outlook.pace > 0:
        until = min(now + AHEAD, outlook.full_at or now + AHEAD)
        begins = outlook.used_bytes
        ends = begins + outlook.pace * max((until - outlook.at) / _DAY, 0)
        yield PlotSeries(
            title="forecast",
            values=[
                (_position(at, first), min(100 * size / outlook.total_bytes, 100))
                for at, size in ((outlook.at, begins), (until, ends))
            ],
            dashes="2 4",
        )


def _position(at: datetime, first: date) -> float:
    midnight = timezone.make_aware(datetime.combine(first, datetime.min.time()))
    return (at - midnight) / _DAY


def _limits_told(limits: Limits) -> Iterator[str]:
    if limits.free_start_bytes is not None and limits.free_stop_bytes is not None:
        yield (
            f"Limit: automatic clearing may take runs early when less than {in_units(limits.free_start_bytes)} is "
            f"free, until {in_units(limits.free_stop_bytes)} is free."
        )
    if limits.max_bytes is not None:
        yield f"Limit: at most {in_units(limits.max_bytes)} of staged runs (logical bytes)."
    if limits.max_runs is not None:
        yield f"Limit: at most {limits.max_runs:,} staged runs."


def _foreseen(
    root: StagingRoot, sight: Sight, scoped: list[ScopedPolicy], outlook: Outlook | None, now: datetime
) -> Iterator[str]:
    if outlook is not None and outlook.full_at is not None:
        yield f"Forecast: full on {timezone.localdate(outlook.full_at)}, if nothing is cleared."
    foreseen = forecasts.of_roots([root], scoped, now).get(root.pk)
    if foreseen is None:
        return
    names = {name for one in foreseen.passes for name in one.by_instrument}
    coming = list(forecasts.shown(foreseen, {name for name in names if sight.places.include(root.pk, name)}))
    for one in coming[:_TOLD]:
        yield f"Automatic clearing to come, {evening_mail.say_pass(one, now)}."


def _said(root: StagingRoot, outlook: Outlook | None, days: int) -> str:
    if outlook is None or not outlook.total_bytes:
        return f"The disk of {visible(root.name)} was not measured yet."
    share = f"{100 * outlook.used_bytes / outlook.total_bytes:.0f} %"
    return (
        f"Lines of how full the disk of {visible(root.name)} was on each of the last {SHOWN.days} days: {share} of "
        f"{in_units(outlook.total_bytes)} now. Runs were cleared on {days} of these days."
    )


def _table(days: Sequence[DiskDay], freed: Mapping[date, int], title: str) -> Table:
    known = {each.day: each for each in days}
    rows: list[tuple[Any, ...]] = []
    for day in sorted({*known, *freed}, reverse=True):
        each = known.get(day)
        measured = (None, "") if each is None else (each.used_bytes, f"{_share(each):.1f} %")
        rows.append((f"{day}", *measured, freed.get(day, 0)))
    columns = (
        Column("day", "Day"),
        Column("used_bytes", "In use at most", Kind.BYTES),
        Column("share", "Share"),
        Column("freed_bytes", "Freed (logical)", Kind.BYTES),
    )
    return Table(name="disks", title=title, columns=columns, rows=rows)
