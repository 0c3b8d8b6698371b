"""When a silent twin is asked again."""

from datetime import UTC, datetime, timedelta

import pytest

from cleanup.rules.pressure import Candidate, in_order
from cleanup.rules.silent_twins import FIRST_PAUSE, LAST_FOR, comes_last, pause_after

pytestmark = pytest.mark.one_engine(by="function")


NOW = datetime(2026, 6, 15, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_the_pauses_double_up_to_a_day() -> None:
    hours = [pause_after(times) / HOUR for times in (1, 2, 3, 4, 5, 6, 7, 8, 10**6)]
    assert hours == [0.5, 1, 2, 4, 8, 16, 24, 24, 24]
    assert pause_after(1) == FIRST_PAUSE


@pytest.mark.parametrize(
    ("retry_at", "last"),
    [
        (None, False),
        (NOW + HOUR, True),
        (NOW, True),
        (NOW - LAST_FOR + HOUR, True),
        (NOW - LAST_FOR, False),
    ],
)
def test_a_run_comes_last_but_not_for_ever(retry_at: datetime | None, last: bool) -> None:
    assert comes_last(retry_at, NOW) is last


@pytest.mark.parametrize("after", [None, (NOW, 2), (NOW, 1)])
def test_last_is_last_wherever_the_sweep_before_ended(after: tuple[datetime, int] | None) -> None:
    found = in_order(
        [Candidate(key=key, verified_at=NOW, due=True, eligible=True, last=key == 2) for key in range(4)], after=after
    )
    assert [candidate.key for candidate in found][-1] == 2
