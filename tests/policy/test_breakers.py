"""Breakers: what is abnormal, what is not, and how far a person's go-on reaches."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cleanup.policy.breakers import (
    Clock,
    Kind,
    Planned,
    Sight,
    abnormal,
    allows,
    clock_jump,
    too_many_failures,
)

NOW = datetime(2026, 6, 15, 8, tzinfo=UTC)
GB = 10**9


def kinds(planned: Planned, *, recent: Any = (), staged: int = 10_000 * GB, share: float = 0.5) -> list[Kind]:
    return [sight.kind for sight in abnormal(planned, recent=recent, staged_bytes=staged, max_share=share)]


# Size and share


def test_a_first_sweep_has_nothing_to_be_compared_with() -> None:
    assert kinds(Planned(runs=500, bytes=100 * GB)) == []


@pytest.mark.parametrize(("runs", "size", "found"), [(50, 50, []), (51, 50, [Kind.SIZE]), (50, 51, [Kind.SIZE])])
def test_many_times_the_largest_recent_sweep(runs: int, size: int, found: list[Kind]) -> None:
    recent = [(3, 1 * GB), (10, 10 * GB), (1, 9 * GB)]
    assert kinds(Planned(runs=runs, bytes=size * GB), recent=recent) == found


def test_a_few_runs_are_never_abnormal() -> None:
    assert kinds(Planned(runs=20, bytes=900 * GB, by_fresh_policy=20), recent=[(1, 1)], staged=901 * GB) == []


@pytest.mark.parametrize(("size", "found"), [(500, []), (501, [Kind.SHARE])])
def test_more_than_the_share_of_the_root(size: int, found: list[Kind]) -> None:
    assert kinds(Planned(runs=21, bytes=size), staged=1000) == found


def test_the_share_is_the_labs_to_set() -> None:
    assert kinds(Planned(runs=21, bytes=1000), staged=1000, share=1.0) == []
    assert kinds(Planned(runs=21, bytes=101), staged=1000, share=0.1) == [Kind.SHARE]


def test_a_policy_that_is_new_and_was_not_rehearsed() -> None:
    assert kinds(Planned(runs=40, bytes=1, by_fresh_policy=20)) == []
    assert kinds(Planned(runs=40, bytes=1, by_fresh_policy=21, version=7)) == [Kind.POLICY]


def test_everything_that_is_abnormal_is_told_with_its_numbers() -> None:
    planned = Planned(runs=1000, bytes=900 * GB, by_fresh_policy=900, version=7)
    sights = abnormal(planned, recent=[(1, GB)], staged_bytes=1000 * GB, max_share=0.5)
    assert [sight.kind for sight in sights] == [Kind.SIZE, Kind.SHARE, Kind.POLICY]
    assert "1,000 runs, 900,000,000,000 bytes" in sights[0].detail
    assert "50%" in sights[1].detail
    assert "version 7" in sights[2].detail


# The clock


def clock(hours: float, *, boot: str = "a", seconds: float | None = None) -> Clock:
    return Clock(wall=NOW + timedelta(hours=hours), boot_id=boot, boot_seconds=seconds)


@pytest.mark.parametrize(
    ("after", "jumped"),
    [
        (clock(1, seconds=3600), False),
        (clock(1, seconds=3600 - 299), False),
        (clock(1, seconds=3600 - 301), True),  # ahead of the time that has really passed
        (clock(1, seconds=3600 + 301), True),  # behind it
        (clock(-0.08, seconds=0), False),
        (clock(-0.09, seconds=3600), True),
        (clock(24 * 365, seconds=24 * 365 * 3600), False),  # a year without a sweep, on one boot: it is so
        (clock(24 * 29, boot="b", seconds=5), False),
        (clock(24 * 31, boot="b", seconds=5), True),
        (clock(-1, boot="b", seconds=5), True),
        (clock(24 * 31), True),  # nothing but the wall to go by
        (clock(1), False),
    ],
)
def test_a_clock_jumps_when_it_leaves_the_time_since_boot(after: Clock, jumped: bool) -> None:
    sight = clock_jump(clock(0, seconds=0), after)
    assert (sight is not None) == jumped
    if sight:
        assert sight.kind is Kind.CLOCK


def test_without_an_earlier_look_there_is_no_jump() -> None:
    assert clock_jump(None, clock(0)) is None


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
        (Sight(kind=Kind.SIZE, detail="", runs=100, bytes=100), Sight(kind=Kind.SIZE, detail="", runs=125), True),
        (Sight(kind=Kind.SIZE, detail="", runs=100, bytes=100), Sight(kind=Kind.SIZE, detail="", runs=126), False),
        (
            Sight(kind=Kind.SIZE, detail="", runs=100, bytes=100),
            Sight(kind=Kind.SIZE, detail="", runs=1, bytes=126),
            False,
        ),
        (Sight(kind=Kind.SIZE, detail="", runs=100), Sight(kind=Kind.SHARE, detail="", runs=1), False),
        (Sight(kind=Kind.CLOCK, detail="", seconds=900), Sight(kind=Kind.CLOCK, detail="", seconds=1200), True),
        (Sight(kind=Kind.CLOCK, detail="", seconds=900), Sight(kind=Kind.CLOCK, detail="", seconds=1300), False),
        (Sight(kind=Kind.CLOCK, detail="", seconds=-900), Sight(kind=Kind.CLOCK, detail="", seconds=900), False),
        (Sight(kind=Kind.FAILURES, detail="", runs=3), Sight(kind=Kind.FAILURES, detail="", runs=9), True),
        (
            Sight(kind=Kind.POLICY, detail="", runs=30, version=3),
            Sight(kind=Kind.POLICY, detail="", runs=30, version=3),
            True,
        ),
        (
            Sight(kind=Kind.POLICY, detail="", runs=30, version=3),
            Sight(kind=Kind.POLICY, detail="", runs=30, version=4),
            False,
        ),
    ],
)
def test_a_go_on_covers_what_was_seen_and_little_more(approved: Sight, seen: Sight, allowed: bool) -> None:
    assert allows([approved], seen) is allowed
    assert not allows([], seen)
