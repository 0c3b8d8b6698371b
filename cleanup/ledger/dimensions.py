"""By what rows of the ledger are added up, and how the rows of one value are found again."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from django.db.models import Case, CharField, Exists, F, OuterRef, Q, Value, When
from django.db.models.expressions import RawSQL

from cleanup.models import Dimension, LedgerEntry, LedgerKind, Requester
from cleanup.rules.policies.fields import TOLD_FIELDS
from cleanup.rules.pressure import Cause

FREEING = (LedgerKind.COMPLETED, LedgerKind.PARTIAL)
REFUSING = (LedgerKind.REFUSED, LedgerKind.ABORTED, LedgerKind.CONFLICT)

# A policy's key before this sign is of a row that knows only the newest version of its time.
NEWEST = "?"

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
# Upper ends of the buckets of durations. They never change: sums of past days stand in them.
BUCKETS = tuple(
    [_HOUR * hours for hours in (1, 2, 4, 8, 12, 18, 24, 30, 36, 42, 48, 60, 72)]
    + [_DAY * days for days in (4, 5, 6, 7, 8, 10, 12, 14, 21, 30, 45, 60, 90, 120, 180, 365, 730)]
)
LONGER, UNKNOWN = "longer", "unknown"


class Trigger(StrEnum):
    """What began a clear. `pressure`: the schedule took it only because the disk was too full."""

    CLICK = "click"
    COMMAND = "command"
    SCHEDULE = "schedule"
    PRESSURE = "pressure"


class Countable(Protocol):
    """The columns of a row by which it counts."""

    @property
    def kind(self) -> str: ...
    @property
    def equipment(self) -> str: ...
    @property
    def project(self) -> str: ...
    @property
    def actor(self) -> str: ...
    @property
    def requester(self) -> str: ...
    @property
    def typed_by(self) -> str: ...
    @property
    def cause(self) -> str: ...
    @property
    def decided_by(self) -> Mapping[str, Any]: ...
    @property
    def policy_version(self) -> int: ...
    @property
    def root_name(self) -> str: ...
    @property
    def proof_level(self) -> str: ...
    @property
    def reason(self) -> str: ...


def values_of(entry: Countable) -> Iterator[tuple[Dimension, str]]:
    """Yield the dimensions and values by which a row counts, without its duration; none for rows that do not."""
    if entry.kind in REFUSING:
        yield Dimension.REFUSAL, entry.reason
    if entry.kind not in FREEING:
        return
    yield Dimension.EQUIPMENT, entry.equipment
    yield Dimension.PROJECT, entry.project
    yield Dimension.PERSON, entry.actor
    yield Dimension.TRIGGER, trigger_of(entry.requester, entry.typed_by, entry.cause)
    yield Dimension.POLICY, policy_of(entry.decided_by, entry.policy_version)
    yield Dimension.ROOT, entry.root_name
    yield Dimension.PROOF, entry.proof_level


def trigger_of(requester: str, typed_by: str, cause: str) -> Trigger:
    """Return what began the clear of a row with these columns."""
    if requester == Requester.OPERATOR:
        return Trigger.COMMAND if typed_by else Trigger.CLICK
    return Trigger.PRESSURE if cause and Cause.RETENTION not in cause.split("+") else Trigger.SCHEDULE


def trigger_column() -> Case:
    """Return the same for a query."""
    cases = [When(condition, then=Value(str(trigger))) for trigger, condition in _TRIGGERS.items()]
    return Case(*cases, output_field=CharField())


def policy_of(decided_by: Mapping[str, Any], newest: int) -> str:
    """Return the versions that decided, as `3` or `0+3`; 0 is a default. Older rows: `?5`, the newest of their time."""
    known = [decided_by[name].get("version") or 0 for name in TOLD_FIELDS if name in decided_by]
    return "+".join(map(str, sorted(set(known)))) if known else f"{NEWEST}{newest}"


def bucket_of(verified_at: datetime | None, at: datetime) -> str:
    """Return the bucket of the time between two instants: its upper end in seconds, or `longer`, or `unknown`."""
    if verified_at is None:
        return UNKNOWN
    length = at - verified_at
    return next((_name(end) for end in BUCKETS if length <= end), LONGER)


def seconds_of(bucket: str) -> float | None:
    """Return a bucket's upper end in seconds; None where it has none, and for what is no bucket."""
    return next((end.total_seconds() for end in BUCKETS if _name(end) == bucket), None)


def where(dimension: Dimension, value: str) -> Q:
    """Return the condition for the ledger's rows of one value. A value that cannot be gives no rows."""
    return _CONDITIONS[dimension](value)


def _policy(value: str) -> Q:
    if value.startswith(NEWEST):
        newest = _numbers(value.removeprefix(NEWEST))
        return Q(decided_by={}, policy_version=newest[0]) if len(newest) == 1 else _NONE
    numbers = _numbers(value)
    if not numbers:
        return _NONE

    def by(name: str, number: int) -> Q:
        return Q(**{f"decided_by__{name}__version": number or None})

    found = Q()
    for name in TOLD_FIELDS:
        of_field = Q(**{f"decided_by__{name}__isnull": True})
        for number in numbers:
            of_field |= by(name, number)
        found &= of_field
    for number in numbers:
        of_number = Q()
        for name in TOLD_FIELDS:
            of_number |= by(name, number)
        found &= of_number
    return found


def _numbers(text: str) -> list[int]:
    parts = text.split("+")
    known = all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts)
    return [int(part) for part in parts] if known and len(parts) <= len(TOLD_FIELDS) else []


def _duration(value: str) -> Q:
    earlier = LedgerEntry.objects.filter(attempt=OuterRef("attempt"), kind__in=FREEING, pk__lt=OuterRef("pk"))
    first = FREES & ~Exists(earlier)
    if value == UNKNOWN:
        return first & Q(run__verified_at=None)
    if value == LONGER:
        return first & Q(at__gt=F("run__verified_at") + BUCKETS[-1])
    names = [_name(end) for end in BUCKETS]
    if value not in names:
        return _NONE
    position = names.index(value)
    within = first & Q(at__lte=F("run__verified_at") + BUCKETS[position])
    return within & Q(at__gt=F("run__verified_at") + BUCKETS[position - 1]) if position else within


def _name(end: timedelta) -> str:
    return str(end // timedelta(seconds=1))


_NONE = Q(pk__in=[])
_TIME_OVER = Q(cause="") | Q(cause__contains=Cause.RETENTION)
_TRIGGERS: dict[str, Q] = {
    Trigger.CLICK: Q(requester=Requester.OPERATOR, typed_by=""),
    Trigger.COMMAND: Q(requester=Requester.OPERATOR) & ~Q(typed_by=""),
    Trigger.SCHEDULE: Q(requester=Requester.SCHEDULE) & _TIME_OVER,
    Trigger.PRESSURE: Q(requester=Requester.SCHEDULE) & ~_TIME_OVER,
}
# As literals: SQLite sees only then that a partial index will do.
FREES = Q(kind__in=[RawSQL(f"'{kind.value}'", ()) for kind in FREEING])  # noqa: S611
_CONDITIONS: dict[Dimension, Callable[[str], Q]] = {
    Dimension.EQUIPMENT: lambda value: FREES & Q(equipment=value),
    Dimension.PROJECT: lambda value: FREES & Q(project=value),
    Dimension.PERSON: lambda value: FREES & Q(actor=value),
    Dimension.TRIGGER: lambda value: FREES & _TRIGGERS.get(value, _NONE),
    Dimension.POLICY: lambda value: FREES & _policy(value),
    Dimension.ROOT: lambda value: FREES & Q(root_name=value),
    Dimension.PROOF: lambda value: FREES & Q(proof_level=value),
    Dimension.REFUSAL: lambda value: Q(kind__in=REFUSING, reason=value),
    Dimension.DURATION: _duration,
}
