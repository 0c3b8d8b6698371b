"""The sums of the command and those of the pages: from the rows and from the sums by day, and the same numbers."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from typing import Any

from cleanup.ledger import freed_groups, report
from cleanup.ledger.dimensions import NEWEST, Trigger
from cleanup.ledger.entry_filter import EntryFilter
from cleanup.ledger.period import Period, of_month, of_year
from cleanup.ledger.report import Report
from tests.tools import cleared
from tests.tools.cleared import OneClear

PERIODS = (
    of_year(2026),
    of_month("2026-03"),
    Period(date(2026, 3, 29), date(2026, 3, 29)),
    Period(date(2025, 12, 20), date(2026, 10, 25)),
    Period(date(2026, 5, 2), date(2026, 5, 1)),
)
# Of a key: the table of the pages, and the place of the key in its rows.
TABLES = {
    "month": ("months", 0),
    "equipment": ("months", 1),
    "project": ("projects", 0),
    "operator": ("people", 0),
    "root": ("roots", 0),
    "trigger": ("triggers", 0),
    "policy": ("policies", 0),
    "proof": ("proofs", 0),
}
# The last columns of these tables; the first of them counts clears, where the command counts runs.
AMOUNTS = len(report.AMOUNTS) - 1


def on_pages(key: str, found_on: Report) -> dict[str, tuple[int, ...]]:
    name, place = TABLES[key]
    found: dict[str, tuple[int, ...]] = {}
    for row in found_on.tables[name].rows:
        value = row[place] or (freed_groups.SCHEDULE if key == "operator" else "")
        found[value] = added(found.get(value, (0,) * AMOUNTS), row[-AMOUNTS:])
    return found


def added(one: Iterable[int], other: Iterable[int]) -> tuple[int, ...]:
    return tuple(first + second for first, second in zip(one, other, strict=True))


def said(sums: dict[str, int]) -> tuple[int, ...]:
    return tuple(sums.values())[-AMOUNTS:]


def decided(version: int, key: str) -> bool:
    """Whether a version is among those of a key: `3`, `0+3`, or `?3` of an older row."""
    return str(version) in key.removeprefix(NEWEST).split("+")


def test_the_command_and_the_pages_come_to_the_same(root: Any, settings: Any) -> None:
    """A second: every key and filter in every period."""
    assert TABLES.keys() == freed_groups.KEYS.keys()
    settings.TIME_ZONE = "Europe/Zurich"
    clears = cleared.random_clears(100, 11, "Europe/Zurich")
    cleared.write(root, clears)
    for period in PERIODS:
        chosen, pages = EntryFilter.of(period), report.report(period)
        for key in TABLES:
            groups = freed_groups.groups(chosen.entries(), [key])
            assert {group.keys[0]: said(group.sums) for group in groups} == on_pages(key, pages), (key, period)
        (total,) = pages.tables["totals"].rows
        assert said(freed_groups.total(chosen.entries())) == total[1 : 1 + AMOUNTS]
        expect_filters_to_agree(chosen, pages)
        expect_runs_once(chosen, clears)


def expect_filters_to_agree(chosen: EntryFilter, pages: Report) -> None:
    filters = [("equipment", name, {"equipment": name}) for name in cleared.INSTRUMENTS]
    filters += [("project", name, {"project": name}) for name in ("PROJ-0", "PROJ-7")]
    filters += [("operator", name or freed_groups.SCHEDULE, {"person": name}) for name in cleared.PEOPLE]
    filters += [("root", name, {"root": name}) for name in ("lab", "west", "elsewhere")]
    filters += [("trigger", trigger.value, {"trigger": trigger}) for trigger in Trigger]
    for key, value, named in filters:
        found = said(freed_groups.total(replace(chosen, **named).entries()))
        assert found == on_pages(key, pages).get(value, (0,) * AMOUNTS), (key, value, pages.period)
    for version in (1, 2, 7, 9):
        expected: tuple[int, ...] = (0,) * AMOUNTS
        for policy, amounts in on_pages("policy", pages).items():
            expected = added(expected, amounts) if decided(version, policy) else expected
        assert said(freed_groups.total(replace(chosen, policy=version).entries())) == expected, (version, pages.period)


def expect_runs_once(chosen: EntryFilter, clears: list[OneClear]) -> None:
    """A run counts once in each group, also where its clear went on later: only the pages count that at its begin."""
    rows = [(row, clear) for row, _first, clear in cleared.freeing(clears) if chosen.includes(row["at"])]
    runs: dict[str, set[int]] = defaultdict(set)
    for row, clear in rows:
        runs[row["project"]].add(id(clear))
    groups = freed_groups.groups(chosen.entries(), ["project"])
    assert {group.keys[0]: group.sums["runs"] for group in groups} == {name: len(those) for name, those in runs.items()}
    both = freed_groups.groups(chosen.entries(), ["root", "trigger"])
    by_root = freed_groups.groups(chosen.entries(), ["root"])
    for group in by_root:
        parts = [one for one in both if one.keys[0] == group.keys[0]]
        assert group.sums == {name: sum(one.sums[name] for one in parts) for name in group.sums}
