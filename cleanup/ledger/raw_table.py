"""The ledger itself as a table: every column of every row, with its link in the chain."""

from collections.abc import Iterator
from typing import Any

from cleanup.ledger import chain, stored_text
from cleanup.ledger.entry_filter import EntryFilter
from cleanup.ledger.tables import Column, Kind, Table

NAME = "ledger"
_AT_ONCE = 2_000  # rows: one short query each, so that no long one stands in the way of writers
_KINDS = {
    "id": Kind.COUNT,
    "at": Kind.INSTANT,
    "run_id": Kind.COUNT,
    "policy_version": Kind.COUNT,
    "files": Kind.COUNT,
    "bytes": Kind.BYTES,
    "allocated_bytes": Kind.BYTES,
    "measured_bytes": Kind.BYTES,
}
_TITLES = {"id": "row", "at": "at", "run_id": "run", "attempt_id": "attempt", "bytes": "logical bytes"}
# The columns that form 1 of the chain's content vouches for, as it writes them; then the link.
_CONTENT = chain.FIELDS[1]
_LINK = ("link__position", "link__form", "link__content_sha256", "link__sha256")
COLUMNS = (
    *(Column(name, _TITLES.get(name, name.replace("_", " ")), _KINDS.get(name, Kind.TEXT)) for name in _CONTENT),
    Column("link_position", "position in the chain", Kind.COUNT),
    Column("link_form", "form of the content", Kind.COUNT),
    Column("link_content_sha256", "SHA-256 of the content"),
    Column("link_sha256", "SHA-256 of the link"),
)
_AT, _ATTEMPT, _DECIDED = (_CONTENT.index(name) for name in ("at", "attempt_id", "decided_by"))
# These two as text: to make objects of them takes longer than all the rest of a row.
_READ = {"attempt_id": "attempt_text", "decided_by": "decided_text"}


def table(chosen: EntryFilter) -> Table:
    """The rows of a filter, by their keys."""
    return Table(NAME, "The ledger", COLUMNS, _rows(chosen))


def _rows(chosen: EntryFilter) -> Iterator[tuple[Any, ...]]:
    first, last = chosen.bounds()
    as_text = {text: stored_text.column(name) for name, text in _READ.items()}
    names = [_READ.get(name, name) for name in _CONTENT]
    entries = chosen.of_all_times().order_by("pk").annotate(**as_text).values_list(*names, *_LINK)
    position = first - 1
    while some := list(entries.filter(pk__gt=position, pk__lte=last)[:_AT_ONCE]):
        position = some[-1][0]
        for row in some:
            if chosen.includes(row[_AT]):
                yield _as_told(row)


def _as_told(row: tuple[Any, ...]) -> tuple[Any, ...]:
    values = list(row)
    values[_ATTEMPT] = stored_text.key(row[_ATTEMPT])
    values[_DECIDED] = stored_text.canonical(row[_DECIDED])
    return tuple(values)
