"""Pages by keyset: the last page of a million rows costs as much as the first.

A place is the values of the order's columns, so it outlives its row. Empty values come last on every database.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import F, Q, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce
from django.db.models.sql.compiler import SQLCompiler

from cleanup.models import RunQuerySet

PAGE_SIZE = 50
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The largest value of an integer column.
LARGEST = 2**63 - 1


class Literal(Value):
    """A number in the statement itself: SQLite needs the exact text of an index's expression."""

    def as_sql(self, compiler: SQLCompiler, connection: Any) -> tuple[str, tuple[str | int, ...]]:  # noqa: ANN401
        return str(int(self.value)), ()


def or_nothing(column: str) -> Coalesce:
    return Coalesce(column, Literal(0))


@dataclass(frozen=True)
class Key:
    """One column of an order, and how a place writes its values."""

    name: str
    descending: bool = False
    nullable: bool = False
    expression: Combinable | None = None
    write: Callable[[Any], str] = str
    read: Callable[[str], Any] = int

    def ordering(self, backward: bool) -> Any:  # noqa: ANN401
        return F(self.name).desc() if self.descending is not backward else F(self.name).asc()

    def beyond(self, value: Any, backward: bool) -> Q:  # noqa: ANN401
        """What comes after a value that is not empty."""
        return Q(**{f"{self.name}__{'lt' if self.descending is not backward else 'gt'}": value})

    def equal(self, value: Any) -> Q:  # noqa: ANN401
        return Q(**{f"{self.name}__isnull": True}) if value is None else Q(**{self.name: value})


def _write_instant(at: datetime | None) -> str:
    return "" if at is None else str((at - EPOCH) // timedelta(microseconds=1))


def _read_instant(text: str) -> datetime | None:
    return EPOCH + timedelta(microseconds=int(text)) if text else None


SIZE = Key("size", descending=True, expression=or_nothing("bytes"))
FILES = Key("number", descending=True, expression=or_nothing("files"))
NEWEST = Key("pk", descending=True)
OLDEST = Key("pk")


def _instant(name: str, *, descending: bool) -> Key:
    return Key(name, descending, nullable=True, write=_write_instant, read=_read_instant)


@dataclass(frozen=True)
class RunOrder:
    """Its last key is unique. With `by_row` a place is a row's key: its columns never change."""

    keys: tuple[Key, ...]
    by_row: bool = False


ORDERS = {
    "": RunOrder((Key("tone"), SIZE, NEWEST)),
    "size": RunOrder((SIZE, NEWEST)),
    "oldest": RunOrder((_instant("verified_at", descending=False), OLDEST)),
    "newest": RunOrder((_instant("verified_at", descending=True), NEWEST)),
    "name": RunOrder((Key("run_path"), OLDEST), by_row=True),
    "files": RunOrder((FILES, NEWEST)),
}
CLEARED_ORDER = RunOrder((_instant("cleared_at", descending=True), NEWEST))
# As `run_cleared_at` and `run_cleared_by_person` have them.
PAST_ORDERS = {
    "": CLEARED_ORDER,
    "first": RunOrder((_instant("cleared_at", descending=False), OLDEST)),
    "person": RunOrder((Key("cleared_for"), _instant("cleared_at", descending=True), NEWEST), by_row=True),
}


@dataclass(frozen=True)
class Page:
    keys: list[int]
    before: str = ""
    after: str = ""


def page_of(
    runs: RunQuerySet, order: RunOrder, *, among: RunQuerySet, after: str = "", before: str = "", size: int = PAGE_SIZE
) -> Page:
    """The page after a place, or before it; an impossible place counts as none.

    `among`: the runs that may name a place, also one that has left `runs`.
    """
    if (place := _read(among, order, before)) is not None:
        found = _take(runs, order, place, size + 1, backward=True)
        if len(found) > size:
            found = found[:size][::-1]
            return Page(_keys(found), before=_write(order, found[0]), after=_more(runs, order, found[-1]))
        return _first(runs, order, size)
    if (place := _read(among, order, after)) is not None:
        found = _take(runs, order, place, size + 1)
        if found:
            shown, rest = found[:size], found[size:]
            # Before a place something stood; if it has gone since, the address leads to the first page.
            return Page(_keys(shown), before=_write(order, shown[0]), after=_write(order, shown[-1]) if rest else "")
        return _last(runs, order, size)
    return _first(runs, order, size)


def walk(
    runs: RunQuerySet, order: RunOrder, *, among: RunQuerySet, after: str = "", size: int = PAGE_SIZE
) -> Iterator[list[tuple[int, str]]]:
    """Every run after a place, `size` at a time, each with the place after it; an impossible place counts as none."""
    place = _read(among, order, after)
    while found := _take(runs, order, place, size):
        yield [(row[-1], _write(order, row)) for row in found]
        place = found[-1]


def _first(runs: RunQuerySet, order: RunOrder, size: int) -> Page:
    found = _take(runs, order, None, size + 1)
    return Page(_keys(found[:size]), after=_write(order, found[size - 1]) if len(found) > size else "")


def _last(runs: RunQuerySet, order: RunOrder, size: int) -> Page:
    found = _take(runs, order, None, size + 1, backward=True)
    shown = found[:size][::-1]
    return Page(_keys(shown), before=_write(order, shown[0]) if len(found) > size else "")


def _more(runs: RunQuerySet, order: RunOrder, row: Sequence[Any]) -> str:
    return _write(order, row) if _take(runs, order, row, 1) else ""


def _take(
    runs: RunQuerySet, order: RunOrder, place: Sequence[Any] | None, number: int, *, backward: bool = False
) -> list[tuple[Any, ...]]:
    """The rows from a place on, stretch by stretch: each is one range of an index, which databases do not find by
    themselves.
    """
    annotated = runs.annotate(**{key.name: key.expression for key in order.keys if key.expression is not None})
    values = annotated.values_list(*(key.name for key in order.keys))
    found: list[tuple[Any, ...]] = []
    for condition, fixed in _stretches(order.keys, place, backward):
        # Leave out the keys that are equal in the whole stretch: SQLite would sort by them.
        rest = (key.ordering(backward) for key in order.keys[fixed:])
        found += values.filter(condition).order_by(*rest)[: number - len(found)]
        if len(found) >= number:
            break
    return found


def _stretches(keys: Sequence[Key], place: Sequence[Any] | None, backward: bool) -> Iterator[tuple[Q, int]]:
    """(condition, number of first keys that are equal for all its rows), in order."""
    if place is None:
        yield from _whole(keys[0], backward)
        return
    for position in reversed(range(len(keys))):
        key, value = keys[position], place[position]
        same = Q()
        for earlier, given in zip(keys[:position], place, strict=False):
            same &= earlier.equal(given)
        if value is not None:
            yield same & key.beyond(value, backward), position
        if key.nullable and (value is None) is backward:
            empty = value is not None
            yield same & Q(**{f"{key.name}__isnull": empty}), position + empty


def _whole(key: Key, backward: bool) -> Iterator[tuple[Q, int]]:
    if not key.nullable:
        yield Q(), 0
        return
    for empty in (True, False) if backward else (False, True):
        yield Q(**{f"{key.name}__isnull": empty}), int(empty)


def _keys(rows: Sequence[Sequence[Any]]) -> list[int]:
    return [row[-1] for row in rows]


def _write(order: RunOrder, row: Sequence[Any]) -> str:
    if order.by_row:
        return str(row[-1])
    return ".".join(key.write(value) for key, value in zip(order.keys, row, strict=True))


def _read(among: RunQuerySet, order: RunOrder, text: str) -> Sequence[Any] | None:
    parts = text.split(".")
    try:
        if order.by_row:
            names = (key.name for key in order.keys)
            return among.filter(pk=_number(text)).values_list(*names).first()
        if len(parts) != len(order.keys):
            return None
        values = [_checked(key, part) for key, part in zip(order.keys, parts, strict=True)]
    except (ValueError, OverflowError):
        return None
    return values


def _checked(key: Key, text: str) -> Any:  # noqa: ANN401
    if text or not key.nullable:
        _number(text)
    return key.read(text)


def _number(text: str) -> int:
    if not (text.isascii() and text.removeprefix("-").isdigit()) or len(text) > len(str(LARGEST)):
        raise ValueError("no place of ours")
    number = int(text)
    if abs(number) > LARGEST:
        raise ValueError("no place of ours")
    return number
