"""Tables as files: CSV for people, JSON Lines for programs. Rows are read, written and forgotten a few at a time."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from cleanup.ledger import clear_table, raw_table, report
from cleanup.ledger.entry_filter import EntryFilter
from cleanup.ledger.period import ALL_TIMES, Period
from cleanup.ledger.tables import Kind, Table
from cleanup.rules.visible_names import visible

BOM = b"\xef\xbb\xbf"
_AT_ONCE = 500  # rows
# A spreadsheet takes a cell that begins so for a formula; some take the wide forms of these signs for them, too.
_FORMULA = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
_OWN: dict[str, Callable[[EntryFilter], Table]] = {raw_table.NAME: raw_table.table, clear_table.NAME: clear_table.table}


def names() -> tuple[str, ...]:
    """The tables that there are as files."""
    return (*_OWN, *report.NAMES)


def table(name: str, period: Period | None) -> Table:
    """A table by its name, of a period or of all times. Raises KeyError for an unknown name."""
    if name in _OWN:
        return _OWN[name](EntryFilter.of(period))
    return report.table(name, period or ALL_TIMES)


def as_csv(table: Table, *, bom: bool = False) -> Iterator[bytes]:
    """A table as CSV (RFC 4180) in UTF-8, in parts of some rows.

    Names are printable, and no cell is a formula; numbers are plain, instants ISO 8601 in UTC, the unknown is empty.
    With `bom` it begins with a byte order mark, by which spreadsheets know UTF-8.
    """
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(column.name for column in table.columns)
    yield (BOM if bom else b"") + written.getvalue().encode()
    cells = [_CELLS[column.kind] for column in table.columns]
    for rows in _some(table.rows):
        written = io.StringIO()
        csv.writer(written).writerows(
            [None if value is None else cell(value) for cell, value in zip(cells, row, strict=True)] for row in rows
        )
        yield written.getvalue().encode()


def as_json_lines(table: Table) -> Iterator[bytes]:
    """A table as JSON Lines, in parts of some rows: names as they are, whole numbers exact, the unknown null."""
    encode = json.JSONEncoder(separators=(",", ":")).encode
    keys = [column.name for column in table.columns]
    instants = [index for index, column in enumerate(table.columns) if column.kind is Kind.INSTANT]
    for rows in _some(table.rows):
        lines = []
        for row in rows:
            values = dict(zip(keys, row, strict=True))
            for index in instants:
                if (at := row[index]) is not None:
                    values[keys[index]] = in_utc(at)
            lines.append(encode(values))
        yield ("\n".join(lines) + "\n").encode()


def in_utc(at: datetime) -> str:
    """`2026-04-17T14:32:07.000000Z`."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def harmless(text: str) -> str:
    """A text as a cell: printable, and no formula."""
    if text.isprintable() and text[:1] not in _FORMULA:  # nearly all, and a million rows ask for each of their cells
        return text
    return f"'{visible(text)}" if text[:1] in _FORMULA else visible(text)


_CELLS: dict[Kind, Callable[[Any], Any]] = {
    Kind.TEXT: harmless,
    # What is no number in such a column would be a cell without a guard: these raise then.
    Kind.COUNT: int,
    Kind.BYTES: int,
    Kind.SECONDS: float,
    Kind.INSTANT: in_utc,
}


def _some(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    source = iter(rows)
    while some := list(islice(source, _AT_ONCE)):
        yield some
