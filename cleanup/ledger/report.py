"""What was freed in a period: by whom, by which policy, how safe, and what is still there.

Read from the sums by day and month, so that a year costs the same with a million clears as with a few.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Min, Q, Sum
from django.db.models.functions import Coalesce, TruncMonth
from django.utils import timezone

from cleanup.ledger import dimensions, sums
from cleanup.ledger.period import Period, month_after
from cleanup.ledger.sums import Amounts
from cleanup.ledger.tables import Column, Kind, Table
from cleanup.models import DaySum, Dimension, Hold, RetentionPolicy, Run, Status
from cleanup.models.aggregates import bytes_sum
from cleanup.rules.policies.sentences import name_scope

AMOUNTS = (
    Column("runs", "Runs", Kind.COUNT),
    Column("files", "Files", Kind.COUNT),
    Column("logical_bytes", "Logical bytes", Kind.BYTES),
    Column("allocated_bytes", "Allocated bytes", Kind.BYTES),
    Column("measured_bytes", "Measured bytes", Kind.BYTES),
    Column("measured_of_bytes", "Allocated bytes that were measured", Kind.BYTES),
)
DURATIONS = (
    Column("median_seconds", "Median time from verification, at most", Kind.SECONDS),
    Column("p90_seconds", "Nine of ten within", Kind.SECONDS),
)


@dataclass(frozen=True)
class Report:
    """All tables of one period, to be read again and again; `zones`: in which its days were counted.

    Durations are upper ends of buckets; None: unknown, or beyond the last.
    """

    period: Period
    total: Amounts
    tables: dict[str, Table]
    median_seconds: float | None
    p90_seconds: float | None
    zones: tuple[str, ...]

    @property
    def other_zones(self) -> tuple[str, ...]:
        """The zones of older days, where the lab's zone was changed."""
        return tuple(zone for zone in self.zones if zone != settings.TIME_ZONE)

    @property
    def knows_durations(self) -> bool:
        return any(bucket != dimensions.UNKNOWN for bucket, *_rest in self.tables["durations"].rows)

    @property
    def is_empty(self) -> bool:
        return not self.total.entries


@dataclass(frozen=True)
class _Made:
    """How the table of one dimension is called, and what its first column holds."""

    dimension: Dimension
    title: str
    column: Column


_GROUPED = {
    "projects": _Made(Dimension.PROJECT, "By project", Column("project", "Project")),
    "people": _Made(Dimension.PERSON, "By person", Column("person", "Asked for by")),
    "triggers": _Made(Dimension.TRIGGER, "By what began it", Column("trigger", "Begun by")),
    "policies": _Made(Dimension.POLICY, "By policy", Column("policy_versions", "Policy versions")),
    "roots": _Made(Dimension.ROOT, "By staging root", Column("root", "Staging root")),
    "proofs": _Made(Dimension.PROOF, "By proof", Column("proof", "Proof")),
}
NAMES = ("totals", "months", *_GROUPED, "refusals", "durations", "staged", "holds")

_NOT_A_LEVEL = {"": "without a proof that is kept", "accepted": "with bytes that an admin accepted"}


def table(name: str, period: Period, *, now: datetime | None = None) -> Table:
    """Return one table of a period; `staged` and `holds` are as of `now`. Raises KeyError for an unknown name."""
    if name in _GROUPED:
        made = _GROUPED[name]
        return _grouped(name, {made.dimension: _add_up(period, made.dimension)})
    if name not in _OTHERS:
        raise KeyError(name)
    return _OTHERS[name](period, now or timezone.now())


def report(period: Period, *, now: datetime | None = None) -> Report:
    """Return all tables of a period; `staged` and `holds` are as of `now`."""
    now = now or timezone.now()
    found, zones = _all_sums(period)
    durations = _by_bucket(found.get(Dimension.DURATION, {}))
    tables = [
        _months(period, now),
        *(_grouped(name, found) for name in _GROUPED),
        _refusals_of(found.get(Dimension.REFUSAL, {})),
        _durations_of(durations),
        _staged(period, now),
        _holds(period, now),
    ]
    total = _total(found.get(Dimension.ROOT, {}))
    tables.insert(0, _totals_of(total, durations))
    kept = {each.name: Table(each.name, each.title, each.columns, list(each.rows)) for each in tables}
    return Report(period, total, kept, _quantile(durations, 0.5), _quantile(durations, 0.9), tuple(sorted(zones)))


def proof_words(found: Table) -> str:
    """Return the table of proofs in words: `412 at checksum, 3 at size, 0 at record`."""
    runs: dict[str, int] = {row[0]: row[1] for row in found.rows}
    known = ["checksum", "size", "record"]
    others = sorted(level for level in runs if level not in known)
    said = {level: _NOT_A_LEVEL.get(level, f"at {level}") for level in [*known, *others]}
    return ", ".join(f"{runs.get(level, 0):,} {words}" for level, words in said.items())


# The sums of a period

# As comparisons: with a bare boolean SQLite would search the index for both, and there are many more days.
_MONTHS, _DAYS = Q(of_month__in=[True]), Q(of_month__in=[False])


def _sums(period: Period) -> Any:  # noqa: ANN401
    """The rows whose days make up the period, none twice: months where they are whole, else days."""
    if period.is_empty:
        return DaySum.objects.none()
    first = period.first if period.first.day == 1 else month_after(period.first)
    after = month_after(period.last) if _next_day(period.last).day == 1 else period.last.replace(day=1)
    if first >= after:
        return DaySum.objects.filter(_DAYS, day__gte=period.first, day__lte=period.last)
    found = _MONTHS & Q(day__gte=first, day__lt=after)
    if period.first < first:
        found |= _DAYS & Q(day__gte=period.first, day__lt=first)
    if after <= period.last:
        found |= _DAYS & Q(day__gte=after, day__lte=period.last)
    return DaySum.objects.filter(found)


def _next_day(day: date) -> date:
    return day + timedelta(days=1)


def _numbers() -> dict[str, Sum]:
    return {f"all_{name}": Sum(name) for name in sums.NUMBERS}


def _all_sums(period: Period) -> tuple[dict[str, dict[str, Amounts]], set[str]]:
    """By dimension and value, but for instruments; and the zones of their days."""
    found: dict[str, dict[str, Amounts]] = {}
    zones = set()
    rows = _sums(period).exclude(dimension=Dimension.EQUIPMENT).order_by().values_list("dimension", "key", "zone")
    for dimension, key, zone, *numbers in rows.annotate(**_numbers()):
        of_dimension = found.setdefault(dimension, {})
        of_dimension[key] = of_dimension.get(key, Amounts()) + sums.of_numbers(numbers)
        zones.add(zone)
    return found, zones


def _add_up(period: Period, dimension: Dimension) -> dict[str, Amounts]:
    rows = _sums(period).filter(dimension=dimension).order_by().values_list("key").annotate(**_numbers())
    return {key: sums.of_numbers(numbers) for key, *numbers in rows}


def _total(found: dict[str, Amounts]) -> Amounts:
    return sum(found.values(), Amounts())


def _shown(amounts: Amounts) -> tuple[int, ...]:
    """The values of `AMOUNTS`."""
    return (
        amounts.clears,
        amounts.files,
        amounts.bytes,
        amounts.allocated,
        amounts.measured,
        amounts.measured_of,
    )


# The tables


def _months(period: Period, _now: datetime) -> Table:
    rows = _sums(period).filter(dimension=Dimension.EQUIPMENT).order_by().annotate(month=TruncMonth("day"))
    found = rows.values_list("month", "key").annotate(**_numbers()).order_by("month", "key")
    lines = ((f"{month:%Y-%m}", key, *_shown(sums.of_numbers(numbers))) for month, key, *numbers in found.iterator())
    columns = (Column("month", "Month"), Column("equipment", "Instrument"), *AMOUNTS)
    return Table("months", "By month and instrument", columns, lines)


def _grouped(name: str, found: dict[str, dict[str, Amounts]]) -> Table:
    made = _GROUPED[name]
    amounts = found.get(made.dimension, {})
    # The most bytes first.
    order = sorted(amounts, key=lambda key: (-amounts[key].bytes, -amounts[key].clears, key))
    columns: tuple[Column, ...] = (made.column, *AMOUNTS)
    lines: Iterable[tuple[Any, ...]] = [(key, *_shown(amounts[key])) for key in order]
    if made.dimension is Dimension.POLICY:
        said = _scopes(order)
        columns = (made.column, Column("scopes", "They apply to"), *AMOUNTS)
        lines = [(key, said[key], *_shown(amounts[key])) for key in order]
    return Table(name, made.title, columns, lines)


def _scopes(keys: list[str]) -> dict[str, str]:
    """What the versions of each key apply to, in words."""
    numbers = {key: [int(part) for part in key.split("+")] for key in keys if key[:1].isdecimal()}
    asked = {number for of_key in numbers.values() for number in of_key}
    policies = RetentionPolicy.objects.filter(version__in=asked).select_related("root")
    scopes = {0: "the default", **{policy.version: name_scope(policy.scope) for policy in policies}}
    return {key: "; ".join(scopes.get(number, f"version {number}") for number in numbers.get(key, [])) for key in keys}


def _totals(period: Period, _now: datetime) -> Table:
    durations = _by_bucket(_add_up(period, Dimension.DURATION))
    return _totals_of(_total(_add_up(period, Dimension.ROOT)), durations)


def _totals_of(total: Amounts, durations: dict[str, int]) -> Table:
    columns = (*AMOUNTS, *DURATIONS)
    line = (*_shown(total), _quantile(durations, 0.5), _quantile(durations, 0.9))
    return Table("totals", "Totals", columns, [line])


def _refusals(period: Period, _now: datetime) -> Table:
    return _refusals_of(_add_up(period, Dimension.REFUSAL))


def _refusals_of(found: dict[str, Amounts]) -> Table:
    columns = (Column("reason", "Reason"), Column("refusals", "Refusals", Kind.COUNT))
    order = sorted(found, key=lambda key: (-found[key].entries, key))
    return Table("refusals", "Refusals by reason", columns, [(key, found[key].entries) for key in order])


def _durations(period: Period, _now: datetime) -> Table:
    return _durations_of(_by_bucket(_add_up(period, Dimension.DURATION)))


def _durations_of(found: dict[str, int]) -> Table:
    columns = (
        Column("bucket", "Bucket"),
        Column("at_most_seconds", "At most", Kind.SECONDS),
        Column("runs", "Runs", Kind.COUNT),
    )
    lines = [(key, dimensions.seconds_of(key), number) for key, number in found.items()]
    return Table("durations", "Time from verification to clearing", columns, lines)


def _by_bucket(found: dict[str, Amounts]) -> dict[str, int]:
    """Clears by bucket, the shortest first; what is unknown comes last."""
    endless = float("inf")

    def length(key: str) -> tuple[float, str]:
        seconds = dimensions.seconds_of(key)
        return (endless if seconds is None else seconds), key

    return {key: found[key].clears for key in sorted(found, key=length)}


def _quantile(durations: dict[str, int], share: float) -> float | None:
    """The upper end of the bucket in which a share of the known durations ends; None: unknown, or beyond the last."""
    known = {key: number for key, number in durations.items() if key != dimensions.UNKNOWN}
    wanted, reached = share * sum(known.values()), 0
    for key, number in known.items():
        reached += number
        if reached >= wanted:
            return dimensions.seconds_of(key)
    return None


def _staged(_period: Period, _now: datetime) -> Table:
    rows = Run.objects.here().order_by().values_list("root__name", "tone")
    found = rows.annotate(
        number=Count("pk"), logical=bytes_sum("bytes"), allocated=bytes_sum(Coalesce("allocated_bytes", "bytes"))
    )
    lines = [
        (root, Status(tone).code, number, int(logical or 0), int(allocated or 0))
        for root, tone, number, logical, allocated in found.order_by("root__name", "tone")
    ]
    columns = (
        Column("root", "Staging root"),
        Column("status", "How they stand"),
        Column("runs", "Runs", Kind.COUNT),
        Column("logical_bytes", "Logical bytes", Kind.BYTES),
        Column("allocated_bytes", "Allocated bytes", Kind.BYTES),
    )
    return Table("staged", "Still staged", columns, lines)


def _holds(_period: Period, now: datetime) -> Table:
    """Each person's holds in force; a run that a person holds twice counts once."""
    holds = Hold.objects.in_force(now).filter(run__here=True).order_by()
    rows = holds.values_list("owner", "source", "run", "run__bytes").annotate(since=Min("created_at"))
    found: dict[tuple[str, str], list[float]] = {}
    for owner, source, _run, size, since in rows.iterator():
        amounts = found.setdefault((owner, source), [0, 0, 0.0])
        seconds = max((now - since).total_seconds(), 0.0)
        amounts[0] += 1
        amounts[1] += size or 0
        amounts[2] = max(amounts[2], seconds)
    columns = (
        Column("owner", "Held by"),
        Column("source", "By"),
        Column("runs", "Runs", Kind.COUNT),
        Column("logical_bytes", "Logical bytes", Kind.BYTES),
        Column("longest_seconds", "Longest", Kind.SECONDS),
    )
    order = sorted(found, key=lambda key: (-found[key][1], key))
    lines = [(*key, int(found[key][0]), int(found[key][1]), found[key][2]) for key in order]
    return Table("holds", "Kept by holds", columns, lines)


_OTHERS: dict[str, Callable[[Period, datetime], Table]] = {
    "totals": _totals,
    "months": _months,
    "refusals": _refusals,
    "durations": _durations,
    "staged": _staged,
    "holds": _holds,
}
