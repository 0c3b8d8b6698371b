"""Which runs make room: enough where that is possible, none too many, and none that is not safe."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleanup.rules.room_choice import RoomCandidate, choose_runs

pytestmark = pytest.mark.one_engine(by="function")

CANDIDATES = st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=30).map(
    lambda rows: [RoomCandidate(key=key, gives=gives, safe=safe) for key, (gives, safe) in enumerate(rows)]
)


def chosen(sizes: list[int], missing: int, most: int = 1000) -> list[int]:
    candidates = [RoomCandidate(key=key, gives=gives) for key, gives in enumerate(sizes)]
    return [candidate.gives for candidate in choose_runs(candidates, missing, most=most).chosen]


@given(CANDIDATES, st.integers(0, 900), st.integers(1, 40))
def test_it_gives_enough_where_that_is_possible_and_no_run_is_unneeded_or_unsafe(
    candidates: list[RoomCandidate], missing: int, most: int
) -> None:
    choice = choose_runs(candidates, missing, most=most)
    safe = sorted((candidate.gives for candidate in candidates if candidate.safe), reverse=True)
    assert all(candidate.safe for candidate in choice.chosen)
    assert len(choice.chosen) <= most
    assert choice.short == max(missing - sum(safe[:most]), 0)
    assert choice.gives + choice.short >= missing
    if not choice.short:
        assert all(choice.gives - candidate.gives < missing for candidate in choice.chosen)
    keys = [candidate.key for candidate in choice.chosen]
    assert keys == sorted(keys)  # in the order asked for


@pytest.mark.parametrize(
    ("sizes", "missing", "expected"),
    [
        ([10, 20, 30], 0, []),
        ([10, 20, 30], 25, [10, 20]),
        ([10, 20, 90, 30], 95, [10, 90]),  # the 20 are not needed
        ([10, 20, 100], 100, [100]),  # neither are the two that came first
        ([10, 0, 20], 100, [10, 20]),
    ],
)
def test_the_first_ones_go_without_those_that_are_not_needed(
    sizes: list[int], missing: int, expected: list[int]
) -> None:
    assert chosen(sizes, missing) == expected


def test_the_largest_go_where_too_many_of_the_first_ones_would_have_to() -> None:
    assert chosen([1, 1, 1, 50], 50, most=2) == [50]
