"""What was freed, added up by whatever the rows say: months, instruments, people and more."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count, F
from django.db.models.functions import TruncMonth

from cleanup.ledger.entry_filter import DECIDED, trigger_column
from cleanup.ledger.tables import Column, Kind, Table
from cleanup.models import LedgerQuerySet
from cleanup.models.aggregates import bytes_sum
from cleanup.models.ledger import measured_sums

SCHEDULE = "(schedule)"
DEFAULT = "(default)"


@dataclass(frozen=True)
class GroupKey:
    """What groups are made by: a column of the query, and how its value is told."""

    title: str
    column: Any
    say: Callable[[Any], str] = str


def _month(at: Any) -> str:  # noqa: ANN401
    return str(at.strftime("%Y-%m"))


def _policy(decided: Any) -> str:  # noqa: ANN401
    """`3`, or `3, 5` where several versions decided."""
    by = json.loads(decided) if isinstance(decided, str) else decided or {}
    versions: set[int] = {(by.get(name) or {}).get("version") or 0 for name in DECIDED} - {0}
    return ", ".join(map(str, sorted(versions))) or DEFAULT


KEYS: dict[str, GroupKey] = {
    "month": GroupKey("month", TruncMonth("at"), _month),
    "equipment": GroupKey("instrument", F("equipment")),
    "project": GroupKey("project", F("project")),
    "operator": GroupKey("asked for by", F("actor"), lambda name: name or SCHEDULE),
    "root": GroupKey("staging root", F("root_name")),
    "trigger": GroupKey("set off by", trigger_column()),
    "policy": GroupKey("policy versions that decided", F("decided_by"), _policy),
    "proof": GroupKey("proof", F("proof_level"), lambda level: level or "(none)"),
}
SUMS = (
    Column("runs", "runs", Kind.COUNT),
    Column("files", "files", Kind.COUNT),
    Column("bytes_freed", "logical bytes", Kind.BYTES),
    Column("allocated_bytes", "allocated bytes", Kind.BYTES),
    Column("measured_bytes", "measured bytes", Kind.BYTES),
    Column("measured_of_bytes", "allocated bytes of what was measured", Kind.BYTES),
)


@dataclass
class FreedGroup:
    """The sums of the rows with the same keys; `runs` counts each run once."""

    keys: tuple[str, ...]
    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys((column.name for column in SUMS), 0))


def groups(entries: LedgerQuerySet, by: Sequence[str]) -> list[FreedGroup]:
    """The sums by some of `KEYS`, in the order of the keys; without any, one group where something was freed."""
    columns = {f"key_{name}": KEYS[name].column for name in by}
    rows: Any = entries.freeing().order_by().annotate(**columns).values(*columns)
    rows = rows.annotate(
        runs=Count("run", distinct=True),
        freed_files=bytes_sum("files"),
        bytes_freed=bytes_sum("bytes"),
        freed_allocated=bytes_sum("allocated_bytes"),
        **measured_sums(),
    )
    found: dict[tuple[str, ...], FreedGroup] = {}
    for row in rows:
        keys = tuple(KEYS[name].say(row[f"key_{name}"]) for name in by)
        group = found.setdefault(keys, FreedGroup(keys))
        row |= {"files": row["freed_files"], "allocated_bytes": row["freed_allocated"]}
        for name in group.sums:
            group.sums[name] += int(row[name] or 0)
    return sorted(found.values(), key=lambda group: group.keys)


def total(entries: LedgerQuerySet) -> dict[str, int]:
    """The sums of all rows."""
    sums = {**entries.totals(), **entries.measured()}
    sums["bytes_freed"] = sums.pop("bytes")
    return {column.name: sums[column.name] for column in SUMS}


def table(entries: LedgerQuerySet, by: Sequence[str]) -> Table:
    """The same groups as a table; without keys the total."""
    columns = (*(Column(name, KEYS[name].title) for name in by), *SUMS)
    return Table("freed", "Freed", columns, _rows(entries, by))


def _rows(entries: LedgerQuerySet, by: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    if not by:
        yield tuple(total(entries).values())
        return
    for group in groups(entries, by):
        yield (*group.keys, *group.sums.values())
