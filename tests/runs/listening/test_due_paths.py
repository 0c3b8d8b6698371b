"""A run that keeps changing is looked at less and less often."""

import itertools

import pytest

from cleanup.runs.listening.due_paths import DuePaths, RunPlace

pytestmark = pytest.mark.one_engine

PLACE, OTHER = RunPlace(1, "a"), RunPlace(1, "b")


def test_changes_of_a_second_are_one() -> None:
    due = DuePaths()
    for tenth in range(5):
        due.note(PLACE, tenth / 10)
    due.note(OTHER, 0.5)
    assert due.take(0.9) == []
    assert due.take(1.6) == [PLACE, OTHER]
    assert due.take(100) == []


def test_a_run_that_keeps_changing_waits_longer_each_time_until_it_was_quiet() -> None:
    due, looks = DuePaths(), []
    for second in range(300):
        due.note(PLACE, float(second))
        looks += [second for _place in due.take(second + 0.5)]
    assert looks[:5] == [1, 5, 13, 29, 61]
    assert max(later - earlier for earlier, later in itertools.pairwise(looks)) <= 65
    due.take(400.0)
    due.take(500.0)
    due.note(PLACE, 1000.0)
    assert due.take(1001.1) == [PLACE]
