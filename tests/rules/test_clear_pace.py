import pytest

from cleanup.rules.clear_pace import ClearPace, ClearWork, PastClear, pace_of

pytestmark = pytest.mark.one_engine(by="function")

GB = 10**9


def past(seconds: float, size: int, compared: bool = True) -> PastClear:
    return PastClear(seconds=seconds, bytes=size, compared=compared)


def test_a_clear_that_stood_still_for_hours_does_not_set_the_pace() -> None:
    pace = pace_of([past(10, GB), past(9, GB), past(11, GB), past(36_000, GB)])
    assert pace.compared is not None
    assert pace.compared == pytest.approx(GB / 11)
    assert pace.ready is None


def test_one_clear_is_too_few() -> None:
    assert pace_of([past(10, GB), past(1, GB, compared=False)]) == ClearPace()


def test_compared_and_ready_runs_have_their_own_pace() -> None:
    pace = pace_of([past(10, GB), past(10, GB), past(1, GB, compared=False), past(1, GB, compared=False)])
    work = ClearWork(compared_runs=1, compared_bytes=2 * GB, ready_runs=1, ready_bytes=5 * GB)
    assert pace.seconds_for(work) == pytest.approx(1 + 20 + 1 + 5)
    assert pace.seconds_for(work + work) == pytest.approx(2 * 27)


def test_what_is_not_known_is_not_guessed_but_for_the_longer_time() -> None:
    compared = ClearPace(compared=GB)
    assert compared.seconds_for(ClearWork(ready_runs=1, ready_bytes=GB)) == pytest.approx(2)
    assert ClearPace(ready=GB).seconds_for(ClearWork(compared_runs=1, compared_bytes=GB)) is None
    assert ClearPace().seconds_for(ClearWork()) == 0
