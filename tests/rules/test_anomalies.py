"""What is abnormal, and how far a go-on reaches."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cleanup.rules.anomalies import (
    Anomaly,
    AnomalyKind,
    Clock,
    Day,
    PlannedSweep,
    abnormal,
    allows,
    elapsed,
    too_many_failures,
)

pytestmark = pytest.mark.one_engine(by="function")


NOW = datetime(2026, 6, 15, 8, tzinfo=UTC)
GB = 10**9


def kinds(
    planned: PlannedSweep, *, recent: Any = (), staged: int = 10_000 * GB, share: float = 0.5
) -> list[AnomalyKind]:
    return [sight.kind for sight in abnormal(planned, recent=recent, staged_bytes=staged, max_share=share)]


# Size and share


def test_a_first_sweep_has_nothing_to_be_compared_with() -> None:
    assert kinds(PlannedSweep(runs=500, bytes=100 * GB)) == []


@pytest.mark.parametrize(
    ("runs", "size", "found"), [(50, 50, []), (51, 50, [AnomalyKind.SIZE]), (50, 51, [AnomalyKind.SIZE])]
)
def test_many_times_the_largest_recent_sweep(runs: int, size: int, found: list[AnomalyKind]) -> None:
    recent = [(3, 1 * GB), (10, 10 * GB), (1, 9 * GB)]
    assert kinds(PlannedSweep(runs=runs, bytes=size * GB), recent=recent) == found


def test_a_few_runs_are_never_abnormal() -> None:
    assert kinds(PlannedSweep(runs=20, bytes=900 * GB, by_fresh_policy=20), recent=[(1, 1)], staged=901 * GB) == []


@pytest.mark.parametrize(("size", "found"), [(500, []), (501, [AnomalyKind.SHARE])])
def test_more_than_the_share_of_the_root(size: int, found: list[AnomalyKind]) -> None:
    assert kinds(PlannedSweep(runs=21, bytes=size), staged=1000) == found


def test_the_share_is_the_labs_to_set() -> None:
    assert kinds(PlannedSweep(runs=21, bytes=1000), staged=1000, share=1.0) == []
    assert kinds(PlannedSweep(runs=21, bytes=101), staged=1000, share=0.1) == [AnomalyKind.SHARE]


def test_a_policy_that_is_new_and_was_not_rehearsed() -> None:
    assert kinds(PlannedSweep(runs=40, bytes=1, by_fresh_policy=20)) == []
    assert kinds(PlannedSweep(runs=40, bytes=1, by_fresh_policy=21, version=7)) == [AnomalyKind.POLICY]


def test_everything_that_is_abnormal_is_told_with_its_numbers() -> None:
    planned = PlannedSweep(runs=1000, bytes=900 * GB, by_fresh_policy=900, version=7)
    sights = abnormal(planned, recent=[(1, GB)], staged_bytes=1000 * GB, max_share=0.5)
    assert [sight.kind for sight in sights] == [AnomalyKind.SIZE, AnomalyKind.SHARE, AnomalyKind.POLICY]
    assert "1,000 runs, 900,000,000,000 bytes" in sights[0].detail
    assert "50%" in sights[1].detail
    assert "version 7" in sights[2].detail


# A day

DAY = Day(runs=12, bytes=40 * GB, staged_runs=100, staged_bytes=200 * GB)


def of_day(planned: PlannedSweep, day: Day, *, share: float = 0.25) -> list[str]:
    found = abnormal(planned, recent=[], staged_bytes=120 * GB, max_share=share, day=day)
    return [sight.detail for sight in found]


def test_what_went_unasked_within_a_day_counts() -> None:
    assert of_day(PlannedSweep(runs=20, bytes=10 * GB), DAY) == []
    assert of_day(PlannedSweep(runs=20, bytes=11 * GB), DAY) == [
        "In the last 24 hours 12 runs (40.0 GB) went unasked; these 20 (11.0 GB) would make 32 of 100 "
        "(51.0 GB of 200.0 GB), more than 25% of the bytes."
    ]


def test_it_is_a_share_of_what_was_there_and_not_of_the_rest() -> None:
    assert of_day(PlannedSweep(runs=20, bytes=59 * GB), DAY, share=0.5) == []
    assert of_day(PlannedSweep(runs=20, bytes=61 * GB), DAY, share=0.5) != []


def test_where_nothing_tells_what_was_there_it_is_what_is_left_and_what_went() -> None:
    day = Day(runs=12, bytes=40 * GB)
    assert of_day(PlannedSweep(runs=20, bytes=41 * GB), day, share=0.5) != []
    assert of_day(PlannedSweep(runs=20, bytes=40 * GB), day, share=0.5) == []


def test_a_few_runs_in_a_day_are_never_abnormal() -> None:
    assert of_day(PlannedSweep(runs=8, bytes=150 * GB), DAY) == []
    assert of_day(PlannedSweep(runs=9, bytes=150 * GB), DAY) != []


def test_what_came_and_went_within_the_day_is_no_share_of_what_was_there() -> None:
    day = Day(runs=30, bytes=300 * GB, passing_runs=30, passing_bytes=300 * GB, staged_runs=9, staged_bytes=90 * GB)
    fresh = PlannedSweep(runs=20, bytes=200 * GB, passing_runs=20, passing_bytes=200 * GB)
    assert of_day(fresh, day) == []


def test_a_day_many_times_larger_than_the_recent_ones() -> None:
    day = Day(runs=12, bytes=12, staged_runs=1000, staged_bytes=10**6, earlier=[(1, 1), (6, 6)])
    assert of_day(PlannedSweep(runs=18, bytes=18), day) == []
    (said,) = of_day(PlannedSweep(runs=19, bytes=19), day)
    assert said.endswith("would make 31 runs (31 B); the largest recent day had 6 runs (6 B).")


# The clock


def clock(hours: float, *, boot: str = "a", seconds: float | None = None) -> Clock:
    return Clock(wall=NOW + timedelta(hours=hours), boot_id=boot, boot_seconds=seconds)


@pytest.mark.parametrize(
    ("after", "hours"),
    [
        (clock(1, seconds=3600), 1),
        (clock(25, seconds=3600), 1),  # it was set ahead, and the day is not over for all that
        (clock(-20, seconds=7200), 2),
        (clock(3, boot="b", seconds=10), 3),
        (clock(-3, boot="b", seconds=10), 0),
        (clock(2), 2),
    ],
)
def test_the_time_since_boot_tells_how_much_time_has_passed(after: Clock, hours: float) -> None:
    assert elapsed(clock(0, seconds=0), after) == timedelta(hours=hours)


# Failures


@pytest.mark.parametrize(
    ("outcomes", "stops"),
    [
        ("", False),
        ("FF", False),
        ("FFF", True),
        (".FFF", True),
        ("FFF.", False),
        ("F.F.", False),
        ("F.F.F.F.", False),
        ("F.F.F.F.F", True),
        ("FF." * 2 + "." * 20 + "F", False),
        ("." * 15 + "F." * 4 + "F", False),
    ],
)
def test_failures_stop_in_a_row_or_by_their_share(outcomes: str, stops: bool) -> None:
    assert (too_many_failures([one == "F" for one in outcomes]) is not None) == stops


# Going on


@pytest.mark.parametrize(
    ("approved", "seen", "allowed"),
    [
        (
            Anomaly(kind=AnomalyKind.SIZE, detail="", runs=100, bytes=100),
            Anomaly(kind=AnomalyKind.SIZE, detail="", runs=1),
            False,
        ),
        (
            Anomaly(kind=AnomalyKind.SIZE, detail="", runs=100),
            Anomaly(kind=AnomalyKind.SHARE, detail="", runs=1),
            False,
        ),
        (
            Anomaly(kind=AnomalyKind.CLOCK, detail="", seconds=900),
            Anomaly(kind=AnomalyKind.CLOCK, detail="", seconds=1200),
            True,
        ),
        (
            Anomaly(kind=AnomalyKind.CLOCK, detail="", seconds=900),
            Anomaly(kind=AnomalyKind.CLOCK, detail="", seconds=1300),
            False,
        ),
        (
            Anomaly(kind=AnomalyKind.CLOCK, detail="", seconds=-900),
            Anomaly(kind=AnomalyKind.CLOCK, detail="", seconds=900),
            False,
        ),
        (
            Anomaly(kind=AnomalyKind.FAILURES, detail="", runs=3),
            Anomaly(kind=AnomalyKind.FAILURES, detail="", runs=9),
            True,
        ),
        (
            Anomaly(kind=AnomalyKind.POLICY, detail="", runs=30, version=3),
            Anomaly(kind=AnomalyKind.POLICY, detail="", runs=30, version=3),
            False,
        ),
    ],
)
def test_a_go_on_covers_a_condition_and_no_number_of_runs(approved: Anomaly, seen: Anomaly, allowed: bool) -> None:
    assert allows([approved], seen) is allowed
    assert not allows([], seen)
