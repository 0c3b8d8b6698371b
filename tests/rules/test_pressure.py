"""How much has to go under pressure, and in what order."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleanup.rules.policies.policy import Limits
from cleanup.rules.pressure import (
    Candidate,
    Cause,
    Picker,
    Pressure,
    RootFill,
    in_order,
    pressure_of,
)

pytestmark = pytest.mark.one_engine(by="function")


START = datetime(2026, 1, 1, tzinfo=UTC)
FULL = RootFill(staged_bytes=1000, staged_runs=10, free_bytes=50)


def candidate(key: int, *, due: bool = False, eligible: bool = True, **fields: Any) -> Candidate:
    defaults = {"verified_at": START + timedelta(hours=key), "size": 100, "allocated": 100}
    return Candidate(key=key, due=due, eligible=eligible, **{**defaults, **fields})


# How much


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        ({}, Pressure()),
        ({"max_bytes": 1000}, Pressure()),
        ({"max_bytes": 999}, Pressure(bytes_over=1)),
        ({"max_bytes": 0}, Pressure(bytes_over=1000)),
        ({"max_runs": 10}, Pressure()),
        ({"max_runs": 7}, Pressure(runs_over=3)),
        ({"max_runs": 0}, Pressure(runs_over=10)),
        ({"free_start_bytes": 50, "free_stop_bytes": 90}, Pressure()),
        ({"free_start_bytes": 51, "free_stop_bytes": 90}, Pressure(free_wanted=40)),
        ({"max_bytes": 900, "max_runs": 9}, Pressure(bytes_over=100, runs_over=1)),
    ],
)
def test_a_limit_is_exceeded_only_beyond_it(limits: dict[str, int], wanted: Pressure) -> None:
    assert pressure_of(Limits(**limits), FULL, going_on=False) == wanted  # type: ignore[arg-type]


def test_free_space_goes_on_between_its_marks_once_begun() -> None:
    limits = Limits(free_start_bytes=40, free_stop_bytes=90)
    assert not pressure_of(limits, FULL, going_on=False)
    assert pressure_of(limits, FULL, going_on=True) == Pressure(free_wanted=40)
    assert not pressure_of(limits, RootFill(staged_bytes=0, staged_runs=0, free_bytes=90), going_on=True)


def test_free_space_that_cannot_be_told_is_no_pressure() -> None:
    limits = Limits(free_start_bytes=40, free_stop_bytes=90)
    assert not pressure_of(limits, RootFill(staged_bytes=9, staged_runs=9, free_bytes=None), going_on=True)


def test_what_goes_takes_from_every_limit() -> None:
    pressure = Pressure(bytes_over=150, runs_over=1, free_wanted=30)
    assert pressure.causes == (Cause.MAX_BYTES, Cause.MAX_RUNS, Cause.FREE_SPACE)
    assert pressure.after(size=100, allocated=10) == Pressure(bytes_over=50, free_wanted=20)
    assert pressure.after(size=200, allocated=30) == Pressure()


# Which, and in what order


def pick(candidates: list[Candidate], pressure: Pressure, refused: frozenset[int] = frozenset()) -> list[Any]:
    picker = Picker(candidates, pressure)
    went = []
    for chosen, causes in picker:
        if chosen.key not in refused:
            picker.gone(chosen, size=chosen.size, allocated=chosen.allocated)
            went.append((chosen.key, "+".join(causes)))
    return went


def test_what_is_due_goes_first_and_may_be_enough() -> None:
    candidates = [candidate(1), candidate(2, due=True), candidate(3)]
    assert pick(candidates, Pressure(bytes_over=100)) == [(2, "retention+max_bytes")]


def test_then_no_more_than_are_needed_the_oldest_first() -> None:
    candidates = [candidate(1), candidate(2, due=True), candidate(3), candidate(4)]
    assert pick(candidates, Pressure(bytes_over=101)) == [(2, "retention+max_bytes"), (1, "max_bytes")]


def test_a_run_that_cannot_go_is_made_up_for_by_the_next() -> None:
    candidates = [candidate(1), candidate(2), candidate(3)]
    assert pick(candidates, Pressure(runs_over=2), frozenset({1})) == [(2, "max_runs"), (3, "max_runs")]


def test_what_is_kept_under_pressure_too_stays() -> None:
    assert pick([candidate(1, eligible=False)], Pressure(bytes_over=1)) == []


def test_causes_add_up() -> None:
    pressure = Pressure(bytes_over=1, runs_over=2, free_wanted=1)
    assert pick([candidate(1, due=True), candidate(2)], pressure) == [
        (1, "retention+max_bytes+max_runs+free_space"),
        (2, "max_runs"),
    ]


def test_a_rehearsed_run_frees_nothing_for_the_others() -> None:
    candidates = [candidate(1, rehearsed=True), candidate(2), candidate(3, rehearsed=True)]
    assert pick(candidates, Pressure(runs_over=1)) == [(1, "max_runs"), (2, "max_runs")]


def test_what_is_left_to_the_next_sweep_is_not_made_up_for() -> None:
    picker = Picker([candidate(1), candidate(2), candidate(3)], Pressure(runs_over=1))
    seen = []
    for chosen, _causes in picker:
        seen.append(chosen.key)
        picker.left_over(chosen)
    assert seen == [1]
    assert picker.pressure == Pressure(runs_over=1)  # nothing has gone yet


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 300), st.booleans()), max_size=12),
    st.integers(0, 1500),
    st.integers(0, 8),
    st.integers(0, 1500),
)
def test_enough_goes_and_nothing_more(rows: Any, bytes_over: int, runs_over: int, free_wanted: int) -> None:
    """The target is met while runs may go, and not without the last one."""
    pressure = Pressure(bytes_over=bytes_over, runs_over=runs_over, free_wanted=free_wanted)
    candidates = [
        candidate(key, due=due, eligible=due or eligible, size=size, allocated=size)
        for key, (due, eligible, size, _refused) in enumerate(rows)
    ]
    refused = frozenset(key for key, row in enumerate(rows) if row[3])
    went = pick(candidates, pressure, refused)
    keys = [key for key, _causes in went]
    assert {candidate.key for candidate in candidates if candidate.due} - refused <= set(keys)
    left = pressure
    for key in keys:
        left = left.after(size=rows[key][2], allocated=rows[key][2])
    may_go = {one.key for one in candidates if one.due or (one.eligible and left.is_eased_by(one))} - refused
    assert not left or may_go <= set(keys)
    pressed = [key for key, causes in went if not causes.startswith("retention")]
    assert pressed == sorted(pressed)
    if pressed:
        left = pressure
        for key in keys[:-1]:
            left = left.after(size=rows[key][2], allocated=rows[key][2])
        assert left


# Order and cursor


def test_oldest_verification_first() -> None:
    candidates = [candidate(3), candidate(1), candidate(2)]
    assert [one.key for one in in_order(candidates, after=None)] == [1, 2, 3]


def test_what_was_left_over_comes_first() -> None:
    candidates = [candidate(key) for key in range(5)]
    assert [one.key for one in in_order(candidates, after=(START + timedelta(hours=2), 2))] == [3, 4, 0, 1, 2]


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(1, 4))
def test_no_run_starves_with_any_budget(ages: list[int], budget: int) -> None:
    candidates = [
        candidate(key, due=True, verified_at=START + timedelta(hours=hours)) for key, hours in enumerate(ages)
    ]
    after, handled = None, set()
    for _pass in range(-(-len(candidates) // budget)):
        for one in in_order(candidates, after=after)[:budget]:
            handled.add(one.key)
            after = (one.verified_at, one.key)
    assert handled == {one.key for one in candidates}
