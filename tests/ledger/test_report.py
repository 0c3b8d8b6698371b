"""What a report adds up, against an independent count of the ledger's rows."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from cleanup.ledger import report
from cleanup.ledger.period import Period, of_year
from tests.tools.rows import clear_rows, run_row

YEAR = of_year(2026)


def test_a_clear_stands_in_every_table(root: Any, now: datetime) -> None:
    run = run_row(root, "FLOW_01/alpha/Runs/Run_2026-01-01T00-00", first_seen_at=now, verified_at=now)
    at = datetime(2026, 5, 3, 12, tzinfo=UTC)
    run.verified_at = at - timedelta(hours=25)
    run.save()
    clear_rows(run, at, files=3, size=2**40, actor="ada", policy_version=4)
    found = report.report(YEAR, now=at)
    numbers = (1, 3, 2**40, 0, 0, 0)
    assert list(found.tables["months"].rows) == [("2026-05", "FLOW_01", *numbers)]
    assert list(found.tables["projects"].rows) == [("alpha", *numbers)]
    assert list(found.tables["people"].rows) == [("ada", *numbers)]
    assert list(found.tables["triggers"].rows) == [("click", *numbers)]
    assert list(found.tables["policies"].rows) == [("?4", "", *numbers)]
    assert list(found.tables["roots"].rows) == [(root.name, *numbers)]
    assert list(found.tables["durations"].rows) == [("108000", 108_000.0, 1)]
    assert list(found.tables["totals"].rows) == [(*numbers, 108_000.0, 108_000.0)]
    for name in report.NAMES:
        one = report.table(name, YEAR, now=at)
        assert (one.columns, list(one.rows)) == (found.tables[name].columns, found.tables[name].rows), name
    with pytest.raises(KeyError):
        report.table("nothing", YEAR)
    assert report.report(Period(date(2026, 5, 4), date(2026, 5, 3)), now=at).is_empty
