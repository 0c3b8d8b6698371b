"""What was freed, added up by months, instruments, people and other columns of the rows.

From the rows themselves: the sums that `report` reads know one such column at a time and whole days alone, and count
clears where this counts runs. Otherwise both come to the same.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Count, F
from django.db.models.functions import TruncMonth

from cleanup.ledger.dimensions import policy_of, trigger_column
from cleanup.ledger.tables import Column, Kind, Table
from cleanup.models import LedgerQuerySet
from cleanup.models.aggregates import exact_bytes_sum
from cleanup.models.ledger import measured_sums

SCHEDULE = "(schedule)"


@dataclass(frozen=True)
class GroupKey:
    """What groups are made by: columns of the query, and how their values are told."""

    title: str
    columns: tuple[Any, ...]
    say: Callable[..., str] = str


def _month(at: datetime) -> str:
    return f"{at:%Y-%m}"


def _policy(decided: Any, newest: int) -> str:  # noqa: ANN401
    # Grouped by, the column may come as text.
    return policy_of(json.loads(decided) if isinstance(decided, str) else decided or {}, newest)


KEYS: dict[str, GroupKey] = {
    "month": GroupKey("month", (TruncMonth("at"),), _month),
    "equipment": GroupKey("instrument", (F("equipment"),)),
    "project": GroupKey("project", (F("project"),)),
    "operator": GroupKey("person", (F("actor"),), lambda name: name or SCHEDULE),
    "root": GroupKey("staging root", (F("root_name"),)),
    "trigger": GroupKey("what began it", (trigger_column(),)),
    "policy": GroupKey("policy", (F("decided_by"), F("policy_version")), _policy),
    "proof": GroupKey("proof", (F("proof_level"),)),
}
# What the pages call a key; scripts depend on its older name.
SAME = {"person": "operator"}
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
    columns = {(name, place): column for name in by for place, column in enumerate(KEYS[name].columns)}
    names = {key: f"key_{key[0]}_{key[1]}" for key in columns}
    rows: Any = entries.freeing().order_by().annotate(**{names[key]: column for key, column in columns.items()})
    rows = rows.values(*names.values())
    rows = rows.annotate(
        runs=Count("run", distinct=True),
        freed_files=exact_bytes_sum("files"),
        bytes_freed=exact_bytes_sum("bytes"),
        freed_allocated=exact_bytes_sum("allocated_bytes"),
        **measured_sums(),
    )
    found: dict[tuple[str, ...], FreedGroup] = {}
    for row in rows:
        keys = tuple(KEYS[name].say(*(row[names[key]] for key in columns if key[0] == name)) for name in by)
        group = found.setdefault(keys, FreedGroup(keys))
        row |= {"files": row["freed_files"], "allocated_bytes": row["freed_allocated"]}
        for name in group.sums:
            group.sums[name] += row[name] or 0
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
