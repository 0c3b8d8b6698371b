"""The sums of the ledger by day and month, kept in the transaction of its rows.

Writers hold the head's lock, so they add one after another.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils import timezone

from cleanup.ledger import dimensions
from cleanup.models import DaySum, Dimension, LedgerEntry

_HALF = 32
_LOWER = (1 << _HALF) - 1
_AT_ONCE = 200


@dataclass(frozen=True)
class Amounts:
    """Numbers of rows, clears and files, and three kinds of bytes. `measured_of`: the allocated bytes of what was
    measured.
    """

    entries: int = 0
    clears: int = 0
    files: int = 0
    bytes: int = 0
    allocated: int = 0
    measured: int = 0
    measured_of: int = 0

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(*(getattr(self, name) + getattr(other, name) for name in NAMES))


@dataclass(frozen=True, order=True)
class SumKey:
    """What one sum is of."""

    of_month: bool
    day: date
    dimension: str
    key: str
    key2: str
    zone: str


NAMES = tuple(field.name for field in fields(Amounts))
_COUNTS, _SIZES = NAMES[:3], NAMES[3:]
# Of the table, in the order of `_numbers`.
NUMBERS = (*_COUNTS, *(f"{name}_{half}" for name in _SIZES for half in ("upper", "lower")))
_KEYS = tuple(field.name for field in fields(SumKey))


def add(rows: Iterable[LedgerEntry]) -> None:
    """Add rows just inserted to the sums of their days and months. The caller holds the head's lock."""
    rows = [row for row in rows if row.kind in (*dimensions.FREEING, *dimensions.REFUSING)]
    if not rows:
        return
    zone = timezone.get_default_timezone()
    earlier = _attempts_before(rows)
    found: dict[SumKey, tuple[int, Amounts]] = {}
    for row in rows:
        first = row.kind in dimensions.FREEING and row.attempt_id not in earlier
        earlier.add(row.attempt_id if first else None)
        day = timezone.localtime(row.at, zone).date()
        amounts = amounts_of(row, first=first)
        for key in keys_of(row, day, settings.TIME_ZONE, first=first):
            entry, before = found.get(key, (row.pk, Amounts()))
            found[key] = entry, before + amounts
    _write(found)


def keys_of(row: LedgerEntry, day: date, zone: str, *, first: bool) -> list[SumKey]:
    """Return the sums in which a row counts: of its day and of its month."""
    values = [(str(dimension), value, "") for dimension, value in dimensions.values_of(row)]
    if first and row.run is not None:
        values.append((str(Dimension.DURATION), dimensions.bucket_of(row.run.verified_at, row.at), row.equipment))
    days = ((False, day), (True, day.replace(day=1)))
    return [SumKey(month, start, *value, zone) for month, start in days for value in values]


def amounts_of(row: LedgerEntry, *, first: bool) -> Amounts:
    """Return what a row counts; a refusal counts itself alone."""
    if row.kind in dimensions.REFUSING:
        return Amounts(entries=1)
    measured = row.measured_bytes
    known = (0, 0) if measured is None else (measured, row.allocated_bytes)
    return Amounts(1, int(first), row.files, row.bytes, row.allocated_bytes, *known)


def _attempts_before(rows: Sequence[LedgerEntry]) -> set[object]:
    """The attempts that have freed something before these rows."""
    freeing = [row for row in rows if row.kind in dimensions.FREEING and not row.is_first_freed]
    if not freeing:
        return set()
    before = LedgerEntry.objects.freeing().filter(attempt__in={row.attempt_id for row in freeing}, pk__lt=freeing[0].pk)
    return set(before.order_by().values_list("attempt", flat=True))


def _write(found: dict[SumKey, tuple[int, Amounts]]) -> None:
    table = DaySum._meta.db_table
    names = (*_KEYS, "first_entry", *NUMBERS)
    changes = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in NUMBERS)
    row = f"({', '.join(['%s'] * len(names))})"
    keys = sorted(found)
    with connection.cursor() as cursor:
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            values = [value for key in some for value in (*_key(key), found[key][0], *_numbers(found[key][1]))]
            cursor.execute(
                f"INSERT INTO {table} ({', '.join(names)}) VALUES {', '.join([row] * len(some))} "  # noqa: S608
                f"ON CONFLICT ({', '.join(_KEYS)}) DO UPDATE SET {changes}",
                values,
            )


def _key(key: SumKey) -> list[Any]:
    return [
        connection.ops.adapt_datefield_value(value) if isinstance(value, date) else value
        for value in (getattr(key, name) for name in _KEYS)
    ]


def _numbers(amounts: Amounts) -> list[int]:
    sizes = [getattr(amounts, name) for name in _SIZES]
    halves = [half for size in sizes for half in (size >> _HALF, size & _LOWER)]
    return [*(getattr(amounts, name) for name in _COUNTS), *halves]


def of_numbers(numbers: Sequence[int | None]) -> Amounts:
    """Return the amounts of the table's columns in the order of `NUMBERS`, or of sums over them."""
    known = [int(number or 0) for number in numbers]
    counts, halves = known[: len(_COUNTS)], known[len(_COUNTS) :]
    sizes = [(upper << _HALF) + lower for upper, lower in zip(halves[::2], halves[1::2], strict=True)]
    return Amounts(*counts, *sizes)
