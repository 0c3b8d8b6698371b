"""Tables of a report as pages show them: words, units, and the address behind each number."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.urls import reverse
from django.utils.http import urlencode

from cleanup.ledger.period import of_month
from cleanup.ledger.tables import Column, Kind, Table
from cleanup.models import Dimension, Status
from cleanup.rules.quantities import Scale, scale_of
from cleanup.text import audit
from cleanup.text.values import UNKNOWN, count, duration, exact_bytes, in_units, visible
from cleanup.web.audit.questions import AuditQuestion

# A page shows this many rows of a table; its file has all.
SHOWN = 50
# The dimension of a table's first column.
_OF_TABLE = {
    "projects": Dimension.PROJECT,
    "people": Dimension.PERSON,
    "triggers": Dimension.TRIGGER,
    "policies": Dimension.POLICY,
    "roots": Dimension.ROOT,
    "proofs": Dimension.PROOF,
    "refusals": Dimension.REFUSAL,
    "durations": Dimension.DURATION,
}
# What stands in another column's cells: the end of a bucket, and what was measured at all.
_LEFT_OUT = {"at_most_seconds", "measured_of_bytes"}


@dataclass(frozen=True)
class Cell:
    """`exact`: the whole number of a shortened one; `address`: the list behind it."""

    text: str
    kind: Kind = Kind.TEXT
    exact: str = ""
    address: str = ""
    title: str = ""

    @property
    def is_number(self) -> bool:
        return self.kind is not Kind.TEXT


@dataclass(frozen=True)
class ShownTable:
    """`more`: rows that are only in the file."""

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    more: int = 0


@dataclass(frozen=True)
class Matrix:
    """Logical bytes of months by instruments, in one unit; the last column and the last row add up as they are read."""

    instruments: Sequence[str]
    rows: Sequence[tuple[Cell, Sequence[Cell]]]
    totals: Sequence[Cell]


def shown(table: Table, question: AuditQuestion, *, staged_runs: bool = False, held_runs: bool = False) -> ShownTable:
    """Return a table for a page, its numbers with their lists in the period of the question.

    `staged_runs`: the reader may open the list of all runs; `held_runs`: that of all holds.
    """
    rows = list(table.rows)
    dimension = _OF_TABLE.get(table.name)
    columns = [column for column in table.columns if column.name not in _LEFT_OUT]
    lines = []
    for row in rows[:SHOWN]:
        address = _list(question, **{dimension: row[0]}) if dimension else ""
        values = dict(zip((column.name for column in table.columns), row, strict=True))
        if staged_runs and table.name == "staged":
            address = f"{reverse('run-list')}?{urlencode({'root': values['root'], 'verdict': values['status']})}"
        if held_runs and table.name == "holds":
            address = f"{reverse('hold-list')}?{urlencode({'owner': values['owner'], 'source': values['source']})}"
        cells = [_cell(column, values[column.name], dimension, address) for column in columns]
        if "measured_of_bytes" in values:
            cells[-1] = _measured(columns[-1], values["measured_bytes"], values["measured_of_bytes"], address)
        lines.append(cells)
    return ShownTable(table.name, table.title, columns, lines, max(len(rows) - SHOWN, 0))


def matrix(months: Table, question: AuditQuestion) -> Matrix:
    """Return the logical bytes of the table of months, instruments side by side, the largest first."""
    names = [column.name for column in months.columns]
    month_at, name_at, size_at = (names.index(name) for name in ("month", "equipment", "logical_bytes"))
    sizes: dict[str, dict[str, int]] = {}
    by_instrument: dict[str, int] = {}
    for row in months.rows:
        month, name, size = row[month_at], row[name_at], row[size_at]
        sizes.setdefault(month, {})[name] = size
        by_instrument[name] = by_instrument.get(name, 0) + size
    order = sorted(by_instrument, key=lambda name: (-by_instrument[name], name))
    scale = scale_of(sum(by_instrument.values()))
    rows = [(_month(question, month), _line(question, month, order, sizes[month], scale)) for month in sorted(sizes)]
    columns = {name: [row[name] for row in sizes.values() if name in row] for name in order}
    totals = [_sum(found, scale, _list(question, equipment=name)) for name, found in columns.items()]
    totals.append(_sum([size for found in columns.values() for size in found], scale, _list(question)))
    return Matrix([visible(name) for name in order], rows, totals)


def _month(question: AuditQuestion, month: str) -> Cell:
    """A whole month leads to its page."""
    return Cell(month, address=reverse("audit-month", args=[month]) if "month" in _within(question, month) else "")


def _line(question: AuditQuestion, month: str, order: Sequence[str], sizes: dict[str, int], scale: Scale) -> list[Cell]:
    within = _within(question, month)
    cells = [
        _size(sizes[name], scale, _list(question, **within, equipment=name)) if name in sizes else Cell("")
        for name in order
    ]
    return [*cells, _sum(sizes.values(), scale, _list(question, **within))]


def _within(question: AuditQuestion, month: str) -> dict[str, str]:
    """A month of a question's period, which may cut it."""
    whole, asked = of_month(month), question.period
    if asked.first <= whole.first and whole.last <= asked.last:
        return {"month": month}
    return {"since": f"{max(asked.first, whole.first)}", "until": f"{min(asked.last, whole.last)}"}


def _list(question: AuditQuestion, **values: str) -> str:
    return f"{reverse('audit-entries')}?{question.address(**values)}"


def _size(size: int, scale: Scale, address: str) -> Cell:
    return Cell(scale.say(size), Kind.BYTES, exact_bytes(size), address)


def _sum(sizes: Collection[int], scale: Scale, address: str) -> Cell:
    return Cell(scale.say_sum(sizes), Kind.BYTES, exact_bytes(sum(sizes)), address)


def _measured(column: Column, size: int, of: int, address: str) -> Cell:
    if not (size or of):
        return Cell(UNKNOWN, column.kind, title=column.title)
    exact = f"{exact_bytes(size)} given back for {exact_bytes(of)} (allocated) that were measured"
    return Cell(in_units(size), column.kind, exact, address, title=column.title)


def _cell(column: Column, value: Any, dimension: Dimension | None, address: str) -> Cell:  # noqa: ANN401
    match column.kind:
        case Kind.COUNT:
            return Cell(count(value), column.kind, address=address, title=column.title)
        case Kind.BYTES:
            return Cell(in_units(value), column.kind, exact_bytes(value), address, title=column.title)
        case Kind.SECONDS:
            known = value is not None
            return Cell(duration(timedelta(seconds=value)) if known else UNKNOWN, column.kind, title=column.title)
    if column.name == "status":
        return Cell(next(str(status.label) for status in Status if status.code == value))
    of_dimension = dimension is not None and column.name != "scopes"
    return Cell(audit.said(str(dimension), value) if of_dimension else visible(value))
