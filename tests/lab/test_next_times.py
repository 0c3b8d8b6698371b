"""A time of day means the next one that comes, in the lab's zone."""

from datetime import UTC, datetime, time
from typing import Any

import pytest

from cleanup.lab import days
from cleanup.lab.days import NoInstant

pytestmark = pytest.mark.one_engine(by="function")

NOON = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "clock", "now", "expected"),
    [
        ("UTC", time(14), NOON, datetime(2026, 6, 15, 14, tzinfo=UTC)),
        ("UTC", time(12), NOON, datetime(2026, 6, 16, 12, tzinfo=UTC)),  # now is not to come
        ("Europe/Zurich", time(14, 30), NOON, datetime(2026, 6, 15, 12, 30, tzinfo=UTC)),
        ("America/Los_Angeles", time(22), NOON, datetime(2026, 6, 16, 5, tzinfo=UTC)),
        # The hour that is left out in spring, and the later one of two in autumn.
        ("Europe/Zurich", time(2, 30), datetime(2027, 3, 27, 22, tzinfo=UTC), datetime(2027, 3, 28, 1, 30, tzinfo=UTC)),
        (
            "Europe/Zurich",
            time(2, 30),
            datetime(2026, 10, 24, 22, tzinfo=UTC),
            datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
        ),
    ],
)
def test_the_next_time_of_day(settings: Any, zone: str, clock: time, now: datetime, expected: datetime) -> None:
    settings.TIME_ZONE = zone
    assert days.next_at(clock, now) == expected


def test_a_deadline_is_a_time_of_day_or_an_instant(settings: Any) -> None:
    settings.TIME_ZONE = "Europe/Zurich"
    assert days.read_by("14:30", NOON) == days.read_by(" 14:30", NOON) == datetime(2026, 6, 15, 12, 30, tzinfo=UTC)
    assert days.read_by("9:00", NOON) == datetime(2026, 6, 16, 7, tzinfo=UTC)
    assert days.read_by("2026-06-16T08:00:00Z", NOON) == datetime(2026, 6, 16, 8, tzinfo=UTC)
    for wrong in ("24:00", "99:99", "soon", ""):
        with pytest.raises(NoInstant):
            days.read_by(wrong, NOON)
