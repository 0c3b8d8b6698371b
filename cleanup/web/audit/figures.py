"""The pictures of the audit, each with the same numbers as a table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from cleanup.ledger import freed_bytes
from cleanup.ledger.period import Period, month_after
from cleanup.ledger.tables import Column, Kind, Table
from cleanup.runs import staged_bytes
from cleanup.runs.staged_bytes import StagedAge
from cleanup.text.reason_words import short_words
from cleanup.text.values import in_units, sentence
from cleanup.web.audit.plot import COLOURS, Plot, PlotKind, PlotSeries
from cleanup.web.audit.sight import Sight

# As many have a colour of their own; the rest is one sum.
NAMED = len(COLOURS) - 1
OTHERS = "all others"
_LONG = timedelta(days=2 * 366)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture: `alt` says it in words, `notes` what it cannot show."""

    title: str
    alt: str
    plot: Plot
    table: Table
    notes: tuple[str, ...] = ()


def say_bytes(number: float) -> str:
    return in_units(int(number))


def freed(period: Period) -> Figure:
    """Logical bytes freed per month, stacked by instrument."""
    found = freed_bytes.by_month(period)
    sizes: dict[str, int] = {}
    for (_month, equipment), size in found.items():
        sizes[equipment] = sizes.get(equipment, 0) + size
    ranked = sorted(sizes, key=lambda name: (-sizes[name], name))
    named = ranked if len(ranked) <= NAMED + 1 else ranked[:NAMED]
    rest = ranked[len(named) :]
    months = list(_months(period, [month for month, _equipment in found])) if found else []
    series = [PlotSeries(title=name, values=[found.get((month, name), 0) for month in months]) for name in named]
    if rest:
        values = [sum(found.get((month, name), 0) for name in rest) for month in months]
        series.append(PlotSeries(title=OTHERS, values=values))
    total = sum(sizes.values())
    title = "Freed per month, by instrument"
    said = f"{period.first} to {period.last}"
    return Figure(
        title=title,
        alt=f"Columns of the logical bytes freed per month, {said}: {in_units(total)} in all."
        if found
        else f"Nothing was freed, {said}.",
        plot=Plot(
            kind=PlotKind.STACKED,
            title=title,
            series=series,
            say=say_bytes,
            labels=[f"{month:%b %y}" for month in months],
        ),
        table=_of_months(months, series, title),
        notes=("Logical bytes: the sizes of the files that were removed.",),
    )


def _months(period: Period, found: Sequence[date]) -> Iterator[date]:
    """Every month of the period; of a long one those between the first and the last with bytes."""
    is_long = period.last - period.first > _LONG
    month = min(found) if is_long else period.first.replace(day=1)
    last = max(found) if is_long else period.last
    while month <= last:
        yield month
        month = month_after(month)


def _of_months(months: Sequence[date], series: Sequence[PlotSeries], title: str) -> Table:
    names = [Column(f"instrument_{number}", each.title, Kind.BYTES) for number, each in enumerate(series)]
    rows = [
        (f"{month:%Y-%m}", *(each.values[number] for each in series), sum(each.values[number] for each in series))
        for number, month in enumerate(months)
    ]
    columns = (Column("month", "Month"), *names, Column("bytes", "All", Kind.BYTES))
    return Table(name="freed", title=title, columns=columns, rows=rows)


def age(sight: Sight, now: datetime) -> Figure:
    """Staged bytes by age and by whether their copy is verified."""
    ages = staged_bytes.by_age(sight.runs, now)
    title = "Age of staged bytes"
    labels = [_days(each) for each in ages]
    total = sum(each.verified_bytes + each.unverified_bytes for each in ages)
    oldest = ages[-1].verified_bytes + ages[-1].unverified_bytes
    return Figure(
        title=title,
        alt=f"Columns of the logical bytes on staging disks by age in days: {in_units(total)} in all, "
        f"{in_units(oldest)} of it 90 days and older.",
        plot=Plot(
            kind=PlotKind.STACKED,
            title=title,
            say=say_bytes,
            labels=labels,
            series=[
                PlotSeries(title="copy verified", values=[each.verified_bytes for each in ages]),
                PlotSeries(title="copy not verified", values=[each.unverified_bytes for each in ages]),
            ],
        ),
        table=Table(
            name="age",
            title=title,
            columns=(
                Column("age_days", "Age in days"),
                Column("runs", "Runs", Kind.COUNT),
                Column("verified_bytes", "Copy verified", Kind.BYTES),
                Column("unverified_bytes", "Copy not verified", Kind.BYTES),
            ),
            rows=[
                (label, each.runs, each.verified_bytes, each.unverified_bytes)
                for label, each in zip(labels, ages, strict=True)
            ],
        ),
        notes=("The age in days counts from when a run was first seen, or verified if that was earlier.",),
    )


def _days(each: StagedAge) -> str:
    if each.most is None:
        return f"≥{each.least.days}"
    return f"{each.least.days}-{each.most.days}" if each.least else f"<{each.most.days}"


def reasons(sight: Sight) -> Figure:
    """What blocks runs, by logical bytes."""
    found = staged_bytes.by_reason(sight.runs)
    title = "What blocks runs"
    named, rest = (found, []) if len(found) <= NAMED + 1 else (found[:NAMED], found[NAMED:])
    series = [PlotSeries(title=short_words(each.reason), values=[each.bytes]) for each in named]
    if rest:
        series.append(PlotSeries(title=OTHERS, values=[sum(each.bytes for each in rest)]))
    total, number = sum(each.bytes for each in found), sum(each.runs for each in found)
    return Figure(
        title=title,
        alt=f"Bars of the logical bytes that each reason blocks: {number:,} runs, {in_units(total)} in all.",
        plot=Plot(kind=PlotKind.BARS, title=title, series=series, say=say_bytes, labels=[""]),
        table=Table(
            name="reasons",
            title=title,
            columns=(
                Column("reason", "Reason"),
                Column("runs", "Runs", Kind.COUNT),
                Column("bytes", "Logical bytes", Kind.BYTES),
                Column("sentence", "In words"),
            ),
            rows=[(each.reason, each.runs, each.bytes, sentence(each.reason)) for each in found],
        ),
        notes=("Only runs that stay until a person acts; runs that wait for time alone are not among them.",),
    )
