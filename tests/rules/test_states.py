"""States go one step forward at a time."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleanup.rules.states import ORDER, State, first_illegal_step, may_follow

pytestmark = pytest.mark.one_engine(by="function")


LEGAL_STEPS = {
    (None, State.STAGING),
    (State.STAGING, State.COMPLETE),
    (State.COMPLETE, State.SYNC_QUEUED),
    (State.SYNC_QUEUED, State.SYNC_VERIFIED),
    (State.SYNC_VERIFIED, State.CLEARED),
}


def test_the_states_are_the_wizards() -> None:
    assert [state.value for state in ORDER] == ["staging", "complete", "sync_queued", "sync_verified", "cleared"]


@pytest.mark.parametrize(("before", "after"), list(itertools.product([None, *State], State)))
def test_only_one_step_forward_is_legal(before: State | None, after: State) -> None:
    assert may_follow(before, after) is ((before, after) in LEGAL_STEPS)


@pytest.mark.parametrize("reached", range(len(ORDER) + 1))
def test_every_beginning_of_a_whole_life_is_legal(reached: int) -> None:
    assert first_illegal_step(ORDER[:reached]) is None


@pytest.mark.parametrize(
    ("states", "position"),
    [
        ([State.SYNC_VERIFIED], 0),
        ([State.STAGING, State.SYNC_VERIFIED], 1),
        ([State.STAGING, State.COMPLETE, State.COMPLETE], 2),
        ([State.STAGING, State.COMPLETE, State.STAGING], 2),
        ([*ORDER, State.STAGING], 5),
        ([*ORDER, State.CLEARED], 5),
    ],
)
def test_the_first_illegal_step_is_named(states: list[State], position: int) -> None:
    assert first_illegal_step(states) == position


@given(st.lists(st.sampled_from(State), max_size=8))
def test_a_history_is_legal_only_as_a_beginning_of_the_order(states: list[State]) -> None:
    assert (first_illegal_step(states) is None) is (states == list(ORDER[: len(states)]))
