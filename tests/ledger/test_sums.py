"""Sums by day and month: equal to an independent count of random clears, in several zones, and watched over."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import astuple
from datetime import UTC, date, datetime
from itertools import pairwise
from math import ceil
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.management import call_command
from django.db import connection

from cleanup.ledger import book, dimensions, lists, report, sum_check, sums
from cleanup.ledger.period import Period, of_month, of_year
from cleanup.models import DaySum, Dimension, LedgerEntry
from tests.tools import cleared
from tests.tools.cleared import OneClear
from tests.tools.rows import clear_rows, run_row

PERIODS = (
    of_year(2026),
    of_month("2026-03"),
    Period(date(2026, 3, 29), date(2026, 3, 29)),
    Period(date(2025, 12, 20), date(2026, 10, 25)),
    Period(date(2026, 2, 1), date(2026, 4, 30)),
    Period(date(2026, 5, 2), date(2026, 5, 1)),
)
# Clocks change at 02:00, at midnight (by an hour that does not exist, or comes twice), and not at all.
ZONES = ("Europe/Zurich", "America/Santiago", "Asia/Beirut", "Asia/Kolkata")


def expect_equal(clears: list[OneClear], period: Period, zone: str) -> None:
    within = [each for each in cleared.freeing(clears) if period.first <= _day(each[0], zone) <= period.last]

    def by(key: Callable[[Any], Any], rows: Iterable[Any] = within) -> dict[Any, tuple[int, ...]]:
        groups = defaultdict(list)
        for each in rows:
            groups[key(each)].append(each)
        return {name: cleared.amounts(group) for name, group in groups.items()}

    def found(name: str, keys: int = 1, numbers: int = 6) -> dict[Any, tuple[int, ...]]:
        rows = list(report.table(name, period).rows)
        told = {row[0] if keys == 1 else row[:keys]: row[-numbers:] for row in rows}
        assert len(told) == len(rows), name
        return told

    assert found("months", 2) == by(lambda each: (f"{_day(each[0], zone):%Y-%m}", each[0]["equipment"]))
    assert found("projects") == by(lambda each: each[0]["project"])
    assert found("people") == by(lambda each: each[0]["actor"])
    assert found("roots") == by(lambda each: each[0]["root_name"])
    assert found("proofs") == by(lambda each: each[0]["proof_level"])
    assert found("triggers") == by(lambda each: _trigger(each[0]))
    assert found("policies") == by(lambda each: _policy(each[0]))
    (total,) = report.table("totals", period).rows
    assert total[:6] == cleared.amounts(within)
    refused = defaultdict(int)
    for clear in clears:
        for row in clear.rows:
            if row["kind"] in ("refused", "aborted", "conflict") and period.first <= _day(row, zone) <= period.last:
                refused[row["reason"]] += 1
    assert dict(report.table("refusals", period).rows) == refused
    lengths = [each[0]["at"] - each[2].verified_at for each in within if each[1] and each[2].verified_at]
    assert sum(number for key, _seconds, number in report.table("durations", period).rows if key != "unknown") == len(
        lengths
    )
    if lengths:
        lengths.sort()
        for share, said in ((0.5, total[6]), (0.9, total[7])):
            length = lengths[ceil(len(lengths) * share) - 1]
            ends = [end for end in dimensions.BUCKETS if end >= length]
            assert said == (ends[0].total_seconds() if ends else None)


def _day(row: dict[str, Any], zone: str) -> date:
    return row["at"].astimezone(ZoneInfo(zone)).date()


def _trigger(row: dict[str, Any]) -> str:
    if row["requester"] == "operator":
        return "command" if row["typed_by"] else "click"
    return "pressure" if row["cause"] in ("max_bytes", "free_space") else "schedule"


def _policy(row: dict[str, Any]) -> str:
    if not row["decided_by"]:
        return "?7"
    return "+".join(map(str, sorted({source["version"] or 0 for source in row["decided_by"].values()})))


@pytest.mark.parametrize("zone", ZONES[:2])
def test_they_are_what_random_clears_come_to(root: Any, settings: Any, zone: str) -> None:
    settings.TIME_ZONE = zone
    clears = cleared.random_clears(200, 1, zone)
    cleared.write(root, clears)
    for period in PERIODS:
        expect_equal(clears, period, zone)


@pytest.mark.exhaustive
@pytest.mark.parametrize("zone", ZONES)
def test_they_are_what_ten_thousand_random_clears_come_to(root: Any, settings: Any, zone: str) -> None:
    """About 10 s in each zone."""
    settings.TIME_ZONE = zone
    clears = cleared.random_clears(10_000, 14, zone)
    cleared.write(root, clears)
    for period in PERIODS:
        expect_equal(clears, period, zone)
    assert sum_check.differences() == []


def test_a_number_leads_to_rows_that_come_to_it(root: Any, settings: Any) -> None:
    """A second: every list, page by page."""
    settings.TIME_ZONE = zone = "Europe/Zurich"
    clears = cleared.random_clears(120, 3, zone)
    cleared.write(root, clears)
    period = Period(date(2026, 1, 1), date(2026, 10, 25))
    tables = {
        "projects": Dimension.PROJECT,
        "people": Dimension.PERSON,
        "triggers": Dimension.TRIGGER,
        "policies": Dimension.POLICY,
        "roots": Dimension.ROOT,
        "proofs": Dimension.PROOF,
    }
    for name, dimension in tables.items():
        for row in report.table(name, period).rows:
            assert _come_to(_pages(period, {dimension: row[0]})) == row[-6:], (name, row[0])
    for month, equipment, *amounts in report.table("months", of_year(2026)).rows:
        assert _come_to(_pages(of_month(month), {Dimension.EQUIPMENT: equipment})) == tuple(amounts)
    for key, _seconds, number in report.table("durations", period).rows:
        assert len(_pages(period, {Dimension.DURATION: key})) == number, key
    for reason, number in report.table("refusals", period).rows:
        assert len(_pages(period, {Dimension.REFUSAL: reason})) == number, reason
    both = {Dimension.PERSON: "ada", Dimension.TRIGGER: "command"}
    expected = [each for each in cleared.freeing(clears) if period.first <= _day(each[0], zone) <= period.last]
    expected = [each for each in expected if each[0]["actor"] == "ada" and _trigger(each[0]) == "command"]
    assert _come_to(_pages(period, both)) == cleared.amounts(expected)
    for value in ("0", "x", "1+1+1+1", "9" * 30, "?", "?x", "-1"):
        for dimension in Dimension:
            assert lists.page(Period(date(1990, 1, 1), date(1990, 2, 1)), {dimension: value}).rows == []
            list(LedgerEntry.objects.filter(dimensions.where(dimension, value))[:1])


def _pages(period: Period, values: dict[Dimension, str]) -> list[LedgerEntry]:
    """All rows, forwards; backwards they are the same pages."""
    page = lists.page(period, values, size=7)
    pages = [page]
    while page.older:
        page = lists.page(period, values, after=page.older, size=7)
        pages.append(page)
    for earlier, later in pairwise(pages):
        assert later.newer is not None
        back = lists.page(period, values, before=later.newer, size=7)
        assert [row.pk for row in back.rows] == [row.pk for row in earlier.rows]
    rows = [row for page in pages for row in page.rows]
    assert [(row.at, row.pk) for row in rows] == sorted({(row.at, row.pk) for row in rows}, reverse=True)
    return rows


def _come_to(rows: list[LedgerEntry]) -> tuple[int, ...]:
    known = [row for row in rows if row.measured_bytes is not None]
    return (
        sum(not row.had_earlier for row in rows),  # type: ignore[attr-defined]
        sum(row.files for row in rows),
        sum(row.bytes for row in rows),
        sum(row.allocated_bytes for row in rows),
        sum(row.measured_bytes or 0 for row in known),
        sum(row.allocated_bytes for row in known),
    )


@pytest.mark.skipif("connection.vendor != 'sqlite'")
@pytest.mark.parametrize("name", ["equipment", "project", "person"])
def test_a_list_is_read_from_its_index(db: None, name: str) -> None:
    """With parameters, as it is asked: SQLite takes no partial index whose condition hides in them."""
    rows = LedgerEntry.objects.filter(dimensions.where(Dimension(name), "x"), at__gte=datetime(2026, 1, 1, tzinfo=UTC))
    sql, parameters = rows.order_by("-at", "-pk")[:50].query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
        plan = str(cursor.fetchall())
    assert "ledger_freeing_by_" in plan and "TEMP B-TREE" not in plan


def test_a_sum_that_was_changed_is_named_with_its_day(root: Any, now: datetime) -> None:
    run = run_row(root, "FLOW_01/alpha/Runs/Run_2026-01-01T00-00", first_seen_at=now)
    for day in (3, 4, 5):
        clear_rows(run, datetime(2026, 5, day, 12, tzinfo=UTC), files=1, size=10)
    assert sum_check.differences() == []
    of_day = DaySum.objects.filter(of_month=False, dimension="project")
    of_day.filter(day=date(2026, 5, 5)).update(bytes_lower=11)
    of_day.filter(day=date(2026, 5, 4)).delete()
    first, second = sum_check.differences(limit=2)
    assert (first.day, first.dimension, first.key) == (date(2026, 5, 4), "project", "alpha")
    assert (first.expected.bytes, first.found.bytes) == (10, 0)
    assert (second.day, second.found.bytes) == (date(2026, 5, 5), 11)
    assert "2026-05-04 by project 'alpha'" in str(first)
    DaySum.objects.all().delete()
    assert sum_check.differences()[0].day == date(2026, 5, 3)


def test_a_change_of_any_number_of_any_dimension_is_found(root: Any) -> None:
    """Two seconds: the sums are checked for each number."""
    days = date(2026, 3, 1), date(2026, 4, 1)
    clears = cleared.random_clears(900, 6, "UTC")
    cleared.write(root, [each for each in clears if all(days[0] < _day(row, "UTC") < days[1] for row in each.rows)])
    assert sum_check.differences() == []
    of_day = DaySum.objects.filter(of_month=False).order_by("day", "pk")
    changed = [of_day.filter(dimension=dimension)[len(dimension) % 3] for dimension in Dimension]
    for name in sums.NUMBERS:
        for one in changed:
            DaySum.objects.filter(pk=one.pk).update(**{name: getattr(one, name) + 1})
        found = sum_check.differences(limit=99)
        of_days = [(one.day, one.dimension) for one in found if not one.of_month]
        assert sorted(of_days) == sorted((one.day, one.dimension) for one in changed), name
        # Nor do the months agree with their days now.
        assert [one.dimension for one in found if one.of_month] == sorted(Dimension)
        for one in changed:
            one.save()
    assert sum_check.differences() == []


def test_a_months_sum_that_was_changed_is_named(root: Any, now: datetime) -> None:
    run = run_row(root, "FLOW_01/alpha/Runs/Run_2026-01-01T00-00", first_seen_at=now)
    clear_rows(run, datetime(2026, 5, 3, 12, tzinfo=UTC), files=1, size=10)
    DaySum.objects.filter(of_month=True, dimension="proof").update(clears=2)
    (found,) = sum_check.differences(limit=9)
    assert (found.of_month, found.day, found.dimension) == (True, date(2026, 5, 1), "proof")


def test_days_before_a_change_of_the_zone_stay_as_they_were(root: Any, now: datetime, settings: Any) -> None:
    run = run_row(root, "FLOW_01/alpha/Runs/Run_2026-01-01T00-00", first_seen_at=now)
    settings.TIME_ZONE = "Europe/Zurich"
    clear_rows(run, datetime(2026, 4, 30, 23, tzinfo=UTC), files=1, size=10)  # the first of May there
    settings.TIME_ZONE = "America/New_York"
    clear_rows(run, datetime(2026, 6, 1, 2, tzinfo=UTC), files=1, size=100)  # the last of May there
    found = report.report(of_month("2026-05"), now=now)
    assert (found.total.clears, found.total.bytes) == (2, 110)
    assert found.other_zones == ("Europe/Zurich",)
    assert [row.bytes for row in lists.page(of_month("2026-05"), {}).rows] == [100, 10]
    assert sum_check.differences() == []


def test_sums_of_huge_sizes_are_exact(root: Any, now: datetime) -> None:
    run = run_row(root, "FLOW_01/alpha/Runs/Run_2026-01-01T00-00", first_seen_at=now)
    size = 2**62 + 5
    for _ in range(5):
        clear_rows(run, now, files=1, size=size)
    (total,) = report.table("totals", of_year(2026)).rows
    assert total[2] == 5 * size > 2**63
    assert sum_check.differences() == []


def test_what_is_rolled_back_is_in_no_sum(root: Any, now: datetime) -> None:
    run = run_row(root, "FLOW_01/alpha/Runs/Run_2026-01-01T00-00", first_seen_at=now)
    attempt = clear_rows(run, now, files=1, size=10)
    before = list(DaySum.objects.order_by("pk").values())
    row = LedgerEntry.objects.filter(kind="completed").get()
    with pytest.raises(RuntimeError), book.writing():
        book.write(LedgerEntry(**_again(row), kind="partial", attempt=attempt))
        raise RuntimeError
    assert list(DaySum.objects.order_by("pk").values()) == before


def _again(row: LedgerEntry) -> dict[str, Any]:
    left_out = ("id", "kind", "attempt")
    return {field.name: getattr(row, field.name) for field in row._meta.fields if field.name not in left_out}


@pytest.mark.exhaustive
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("zone", ["UTC", *ZONES[1:3]])
def test_a_migration_fills_them_as_they_would_have_grown(root: Any, settings: Any, zone: str) -> None:
    """Migrating takes seconds."""
    settings.TIME_ZONE = zone
    cleared.write(root, cleared.random_clears(300, 5, zone))
    grown = _sums()
    migration = "0026_day_sums"
    from django.db.migrations.loader import MigrationLoader

    before = MigrationLoader(connection).get_migration("cleanup", migration).dependencies[0][1]
    call_command("migrate", "cleanup", before, verbosity=0)
    call_command("migrate", verbosity=0)
    assert _sums() == grown != []


def _sums() -> list[Any]:
    """Each sum as a number: its halves may be carried over or not."""
    keys = ("of_month", "day", "zone", "dimension", "key", "key2", "first_entry")
    rows = DaySum.objects.values_list(*keys, *sums.NUMBERS)
    return sorted((row[: len(keys)], astuple(sums.of_numbers(row[len(keys) :]))) for row in rows)
