"""A clock is believed by the time since boot or by other clocks; else it is in doubt."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleanup.rules.anomalies import CLOCK_TOLERANCE, AnomalyKind, Clock
from cleanup.rules.clocks import (
    BETWEEN_LOOKS,
    LONGEST_PAUSE,
    ClockState,
    Judged,
    KnownClock,
    Other,
    OtherClocks,
    confirmed,
    judge,
)

pytestmark = pytest.mark.one_engine(by="function")


NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)
HOUR, DAY, SECOND = timedelta(hours=1), timedelta(days=1), timedelta(seconds=1)
NOBODY = OtherClocks(none=("the NAS is a local folder",))
SOUND, DOUBT, UNSETTLED = ClockState.SOUND, ClockState.DOUBT, ClockState.UNSETTLED


def clock(wall: timedelta, *, boot: str = "a", passed: timedelta | None = None) -> Clock:
    """A look at a clock; `passed` is the time since the first one by a clock that cannot be set."""
    return Clock(wall=NOW + wall, boot_id=boot, boot_seconds=None if passed is None else passed.total_seconds())


FIRST = confirmed(clock(0 * HOUR, passed=0 * HOUR))


@pytest.mark.parametrize(
    ("look", "verdict"),
    [
        (clock(HOUR, passed=HOUR), SOUND),
        (clock(HOUR, passed=HOUR - 299 * SECOND), SOUND),
        (clock(HOUR, passed=HOUR - 301 * SECOND), DOUBT),  # ahead of the time that has really passed
        (clock(HOUR, passed=HOUR + 301 * SECOND), DOUBT),  # behind it
        (clock(-299 * SECOND, passed=0 * HOUR), SOUND),
        (clock(-301 * SECOND, passed=0 * HOUR), DOUBT),
        (clock(365 * DAY, passed=365 * DAY), SOUND),  # a year without a sweep, on one boot: it is so
        (clock(3 * DAY, boot="b", passed=5 * SECOND), SOUND),  # a long weekend without a look
        (clock(LONGEST_PAUSE + BETWEEN_LOOKS + SECOND, boot="b", passed=5 * SECOND), DOUBT),
        (clock(20 * DAY, boot="b", passed=12 * DAY), DOUBT),
        (clock(-HOUR, boot="b", passed=5 * SECOND), DOUBT),
        (clock(4 * DAY), DOUBT),  # nothing but the wall to go by
        (clock(HOUR), SOUND),
    ],
)
def test_without_another_clock_to_ask(look: Clock, verdict: ClockState) -> None:
    judged = judge(FIRST, look, asked=NOBODY)
    assert judged.verdict is verdict
    assert (judged.sight is None) == (verdict is SOUND)
    if judged.sight:
        assert judged.sight.kind is AnomalyKind.CLOCK
        assert judged.sight.detail.endswith(
            "cannot be compared with another clock: the NAS is a local folder. Is it right?"
        )
        assert judged.known.sound == FIRST.sound, "a doubt never takes the place of the last sound look"


def test_the_first_look_is_believed() -> None:
    assert judge(None, clock(HOUR), asked=None).verdict is SOUND


AHEAD = clock(20 * DAY, boot="b", passed=5 * SECOND)
WEEKEND = clock(2 * DAY, boot="b", passed=5 * SECOND)
JUMPED = clock(20 * DAY, passed=HOUR)


def others(*differences: timedelta, look: Clock) -> OtherClocks:
    names = ("the NAS at /mnt/nas", "the PostgreSQL server")
    return OtherClocks(
        others=tuple(Other(name=name, at=look.wall + by) for name, by in zip(names, differences, strict=False))
    )


@pytest.mark.parametrize("look", [AHEAD, WEEKEND, JUMPED, clock(-5 * DAY, boot="b")])
def test_other_clocks_decide(look: Clock) -> None:
    assert judge(FIRST, look, asked=others(HOUR, look=look)).verdict is SOUND
    assert judge(FIRST, look, asked=others(-HOUR, HOUR, look=look)).verdict is SOUND
    wrong = judge(FIRST, look, asked=others(-HOUR - SECOND, look=look))
    assert wrong.verdict is DOUBT
    assert "ahead of the NAS at /mnt/nas" in wrong.detail
    one_of_two = judge(FIRST, look, asked=others(0 * HOUR, 2 * DAY, look=look))
    assert one_of_two.verdict is DOUBT
    assert "2.0 days behind the PostgreSQL server." in one_of_two.detail and "NAS" not in one_of_two.detail


def test_what_no_other_clock_is_needed_for_is_not_asked() -> None:
    assert judge(FIRST, clock(HOUR, passed=HOUR), asked=None).verdict is SOUND
    assert judge(FIRST, WEEKEND, asked=None).verdict is UNSETTLED
    known = judge(FIRST, WEEKEND, asked=None).known
    assert known.sure is not None and known.sure.wall == NOW, "until then no hold ends by it either"
    assert judge(known, WEEKEND, asked=NOBODY).verdict is SOUND
    assert judge(FIRST, AHEAD, asked=None).verdict is DOUBT, "no hold may end by it until they were asked"


def test_small_steps_add_up() -> None:
    known, seen = FIRST, []
    for hours in range(1, 4):
        judged = judge(known, clock(hours * (HOUR + 2 * timedelta(minutes=1)), passed=hours * HOUR), asked=NOBODY)
        known = judged.known
        seen.append(judged.verdict)
    assert seen == [SOUND, SOUND, DOUBT]


def test_a_second_look_makes_no_clock_right_and_what_is_sure_goes_on_with_the_time() -> None:
    judged = judge(FIRST, AHEAD, asked=NOBODY)
    later = clock(20 * DAY + HOUR, boot="b", passed=5 * SECOND + HOUR)
    again = judge(judged.known, later, asked=NOBODY)
    assert again.verdict is DOUBT
    assert again.seconds == judged.seconds == timedelta(days=20).total_seconds()
    assert again.known.sure is not None and again.known.sure.wall == NOW + HOUR


def test_another_boot_makes_no_jump_right() -> None:
    jumped = judge(FIRST, clock(2 * DAY, passed=0 * HOUR), asked=NOBODY)
    assert jumped.verdict is DOUBT
    assert judge(jumped.known, clock(2 * DAY + HOUR, boot="b"), asked=NOBODY).verdict is DOUBT
    assert judge(jumped.known, clock(HOUR, boot="b"), asked=NOBODY).verdict is SOUND, "it was set right"


def test_a_clock_that_is_right_again_is_sound() -> None:
    ahead = judge(FIRST, AHEAD, asked=NOBODY)
    assert judge(ahead.known, clock(2 * HOUR, boot="b", passed=HOUR), asked=NOBODY).verdict is SOUND
    behind = judge(FIRST, clock(-5 * DAY, boot="b", passed=5 * SECOND), asked=NOBODY)
    assert behind.verdict is DOUBT
    assert judge(behind.known, clock(2 * HOUR, boot="b", passed=HOUR), asked=NOBODY).verdict is SOUND


def test_a_person_can_say_that_it_is_right() -> None:
    known = confirmed(AHEAD)
    assert judge(known, replace(AHEAD, wall=AHEAD.wall + HOUR, boot_seconds=3605), asked=NOBODY).verdict is SOUND
    assert judge(known, replace(AHEAD, wall=AHEAD.wall + 20 * DAY, boot_seconds=3605), asked=NOBODY).verdict is DOUBT


def _time_by(judged: Judged, look: Clock) -> datetime:
    sure = judged.known.sure
    return look.wall if sure is None else sure.wall


steps = st.tuples(
    st.integers(0, 100),  # hours that really pass
    st.one_of(st.just(0), st.integers(-30 * 24, 30 * 24)),  # hours by which the clock is set meanwhile
    st.booleans(),  # the machine is started anew
    st.booleans(),  # the watchdog looks, and not a pass
)


@given(st.lists(steps, max_size=12))
@settings(max_examples=200)
def test_holds_run_ahead_of_the_true_time_by_no_more_than_what_is_invisible(
    days: list[tuple[int, int, bool, bool]],
) -> None:
    """Without another clock: by nothing on one boot, and by three days and some hours for each restart."""
    known: KnownClock = FIRST
    true, wrong, boots, boot_began = NOW, timedelta(0), 0, NOW
    for hours, set_by, restarted, watching in days:
        true += hours * HOUR
        wrong += set_by * HOUR
        if restarted:
            boots, boot_began = boots + 1, true
        passed = (true - boot_began).total_seconds()
        look = Clock(wall=true + wrong, boot_id=f"boot {boots}", boot_seconds=passed)
        if boots == 0:
            look = replace(look, boot_id="a")
        judged = judge(known, look, asked=None if watching else NOBODY)
        known = judged.known
        allowed = boots * (LONGEST_PAUSE + BETWEEN_LOOKS) + (boots + 1) * CLOCK_TOLERANCE
        assert _time_by(judged, look) <= true + allowed
