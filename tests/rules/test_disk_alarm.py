"""When a disk is foreseen to be full, and when that is told."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleanup.rules import disk_alarm
from cleanup.rules.disk_alarm import AlarmMark, Arrived, DiskAlarm, MeasuredFill, next_alarm, pace, say_full

pytestmark = pytest.mark.one_engine(by="function")

NOW = datetime(2026, 6, 15, 14, 0, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
GB, TB = 10**9, 10**12


def measured(of_hour: Callable[[float], float], *, hours: float = 4, every: int = 10) -> list[Arrived]:
    """Measurements of the last hours; `of_hour`: bytes so many hours after the first."""
    number = round(hours * 60 / every)
    steps = [index * every / 60 for index in range(number + 1)]
    return [Arrived(NOW - (hours - step) * HOUR, round(of_hour(step))) for step in steps]


@pytest.mark.parametrize(
    ("of_hour", "wanted"),
    [
        (lambda hour: 50 * GB * hour, 50 * GB),  # steadily
        (lambda hour: 60 * GB * int(hour * 2) / 2, 60 * GB),  # a run each half hour
        (lambda hour: 700 * GB * (hour > 2), 0),  # one sudden copy
        (lambda hour: 50 * GB * hour + 700 * GB * (hour > 1), 50 * GB),  # one beside a steady stream
        (lambda hour: 50 * GB * hour - 300 * GB * (hour > 3), 50 * GB),  # files were removed by hand
        (lambda _hour: 5 * TB, 0),
        (lambda hour: -20 * GB * hour, -20 * GB),
    ],
)
def test_the_pace_is_that_of_most_hours(of_hour: Callable[[float], float], wanted: float) -> None:
    assert pace(measured(of_hour)) == pytest.approx(wanted, abs=GB)


@settings(max_examples=60)
@given(at=st.floats(0, 4), size=st.integers(-5 * TB, 5 * TB), every=st.integers(10, 15), hours=st.floats(3.6, 4))
def test_no_single_jump_makes_a_pace(at: float, size: int, every: int, hours: float) -> None:
    found = pace(measured(lambda hour: size * (hour > at), hours=hours, every=every))
    assert found in (None, 0)


@pytest.mark.parametrize("hours", [0, 1, 3, 3.4])
def test_too_few_measurements_say_nothing(hours: float) -> None:
    assert pace(measured(lambda hour: 50 * GB * hour, hours=hours)) is None
    assert pace([]) is None


def test_a_gap_in_the_measurements_is_no_slope() -> None:
    whole = measured(lambda hour: 50 * GB * hour)
    assert pace([one for one in whole if not HOUR / 2 < NOW - one.at < 3.5 * HOUR]) is None


def fill(*, used: float = 0.5, an_hour: float | None = 0) -> MeasuredFill:
    return MeasuredFill(at=NOW, total_bytes=TB, free_bytes=round(TB * (1 - used)), bytes_an_hour=an_hour)


@pytest.mark.parametrize(
    ("disk", "begins", "stays"),
    [
        (fill(used=0.5), False, False),
        (fill(used=0.85), True, True),
        (fill(used=0.849), False, True),  # it does not come and go
        (fill(used=0.83), False, True),
        (fill(used=0.829), False, False),
        (fill(an_hour=500 * GB / 24), True, True),
        (fill(an_hour=500 * GB / 25), False, True),
        (fill(an_hour=500 * GB / 36), False, True),
        (fill(an_hour=500 * GB / 37), False, False),
        (fill(an_hour=-50 * GB), False, False),
        (fill(an_hour=None), False, False),
        (fill(used=1, an_hour=None), True, True),
    ],
)
def test_an_alarm_begins_at_its_mark_and_ends_well_below(disk: MeasuredFill, begins: bool, stays: bool) -> None:
    assert next_alarm(disk, AlarmMark(), NOW, DiskAlarm()).on is begins
    assert next_alarm(disk, AlarmMark(), NOW, DiskAlarm(on=True)).on is stays


def test_what_was_foreseen_stays_while_the_pace_is_not_known() -> None:
    """A host that was off for an hour has no pace for some hours. An alarm by the share alone does not wait for one."""
    foreseen = next_alarm(fill(an_hour=500 * GB / 24), AlarmMark(), NOW, DiskAlarm())
    assert foreseen == DiskAlarm(on=True, foreseen=True)
    assert next_alarm(fill(an_hour=None), AlarmMark(), NOW, foreseen) == foreseen
    assert next_alarm(fill(an_hour=0), AlarmMark(), NOW, foreseen) == DiskAlarm()
    full = next_alarm(fill(used=0.9, an_hour=None), AlarmMark(), NOW, DiskAlarm())
    assert full == DiskAlarm(on=True)
    assert next_alarm(fill(an_hour=None), AlarmMark(), NOW, full) == DiskAlarm()


def test_an_empty_mark_is_none() -> None:
    soon, much = fill(an_hour=250 * GB), fill(used=0.99)
    was = DiskAlarm(on=True, foreseen=True)
    assert not next_alarm(soon, AlarmMark(percent=85, hours=None), NOW, was).on
    assert not next_alarm(much, AlarmMark(percent=None, hours=24), NOW, DiskAlarm(on=True)).on
    assert not next_alarm(fill(used=1), AlarmMark(percent=None, hours=None), NOW, was).on


def test_nothing_is_foreseen_beyond_three_days() -> None:
    assert fill(an_hour=500 * GB / 71).full_at == NOW + timedelta(hours=71)
    assert fill(an_hour=500 * GB / 73).full_at is None


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (timedelta(0), "full about now"),
        (20 * MINUTE, "full within half an hour"),
        (4 * HOUR + 20 * MINUTE, "full at about 18:00"),  # 16:00 here is 18:00 in Zurich, to the half hour before
        (4 * HOUR + 31 * MINUTE, "full at about 18:30"),
        (20 * HOUR, "full tomorrow at about 10:00"),
        (50 * HOUR, "full on 17 June at about 16:00"),
    ],
)
def test_the_hour_is_said_in_the_labs_zone(after: timedelta, said: str) -> None:
    now = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)
    assert say_full(now + after, now, ZoneInfo("Europe/Zurich")) == said


def test_a_disk_is_called_full_only_without_free_bytes() -> None:
    assert disk_alarm.say_percent(fill(used=0.9999)) == "99 % used"
    assert disk_alarm.say_percent(fill(used=1)) == "100 % used"
