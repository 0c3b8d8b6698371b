from datetime import UTC, datetime, timedelta

import pytest

from cleanup.rules.liveness import (
    AHEAD,
    NO_PROGRESS_AFTER,
    SILENT_AFTER,
    UNSERVED_AFTER,
    WAITING,
    Timed,
    has_no_progress,
    is_silent,
    is_stalled,
    listens_since,
    missed,
    unserved,
    waiting_since,
)
from cleanup.rules.policies.policy import Policy
from cleanup.rules.states import State

pytestmark = pytest.mark.one_engine(by="function")


NOW = datetime(2026, 6, 15, 8, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def test_only_what_waits_for_the_wizard_can_stall() -> None:
    assert set(State) - set(WAITING) == {State.SYNC_VERIFIED, State.CLEARED}


@pytest.mark.parametrize(
    ("at", "seen", "since"),
    [
        (NOW - 30 * HOUR, NOW - 29 * HOUR, NOW - 30 * HOUR),
        (NOW + 900 * HOUR, NOW - 29 * HOUR, NOW - 29 * HOUR),
        (None, NOW - 29 * HOUR, NOW - 29 * HOUR),
        (None, None, NOW - 40 * HOUR),
        (NOW, None, NOW - 40 * HOUR),
    ],
    ids=["the entry's own", "a clock ahead", "no usable instant", "no history", "never seen"],
)
def test_since_when_a_run_waits(at: datetime | None, seen: datetime | None, since: datetime) -> None:
    assert waiting_since(at, seen, NOW - 40 * HOUR) == since


@pytest.mark.parametrize(
    ("hours", "waited", "stalled"),
    [
        (24.0, 24 * HOUR, False),
        (24.0, 24 * HOUR + SECOND, True),
        (2.5, 2.5 * HOUR + SECOND, True),
        (0.0, SECOND, True),
        (0.0, -HOUR, False),
        (87_660.0, 9000 * HOUR, False),
    ],
)
def test_longer_than_its_policy_says_is_stalled(hours: float, waited: timedelta, stalled: bool) -> None:
    assert is_stalled(NOW - waited, Policy(stalled_after_hours=hours), NOW) is stalled


def test_a_day_where_no_policy_says_otherwise() -> None:
    assert not is_stalled(NOW - 23 * HOUR, Policy(), NOW)
    assert is_stalled(NOW - 25 * HOUR, Policy(), NOW)


@pytest.mark.parametrize(
    ("nas_timeout", "still", "stuck"),
    [
        (MINUTE, NO_PROGRESS_AFTER, False),
        (MINUTE, NO_PROGRESS_AFTER + SECOND, True),
        (HOUR, HOUR, False),
        (HOUR, HOUR + MINUTE + SECOND, True),
    ],
)
def test_a_nas_that_is_still_waited_for_is_no_standstill(nas_timeout: timedelta, still: timedelta, stuck: bool) -> None:
    assert has_no_progress(NOW - still, NOW, nas_timeout=nas_timeout) is stuck


def test_silence_begins_with_the_last_sign_or_with_listening() -> None:
    assert is_silent(None, NOW, SILENT_AFTER)
    assert is_silent(NOW - SILENT_AFTER, NOW, SILENT_AFTER)
    assert not is_silent(NOW - SILENT_AFTER + SECOND, NOW, SILENT_AFTER)
    assert not is_silent(NOW - HOUR, NOW, SILENT_AFTER, listening_since=NOW - MINUTE)
    assert is_silent(NOW - HOUR, NOW, SILENT_AFTER, listening_since=NOW - SILENT_AFTER)
    assert not is_silent(NOW + AHEAD, NOW, SILENT_AFTER), "two clocks may differ a little"
    assert is_silent(NOW + AHEAD + SECOND, NOW, SILENT_AFTER), "a clock that was ahead says nothing about life"
    assert not is_silent(NOW + HOUR, NOW, SILENT_AFTER, listening_since=NOW - MINUTE)


@pytest.mark.parametrize(
    ("last_look", "since"),
    [
        (NOW - MINUTE, NOW - HOUR),
        (None, NOW),
        (NOW - 3 * MINUTE, NOW),
        (NOW + 3 * MINUTE, NOW),
    ],
    ids=["as before", "after a start", "after a sleep", "after the clock was set back"],
)
def test_listening_begins_anew_after_a_break(last_look: datetime | None, since: datetime) -> None:
    assert listens_since(NOW - HOUR, last_look, NOW) == since


@pytest.mark.parametrize(
    ("timed", "words"),
    [
        (None, "missing"),
        (Timed(next_run=NOW + MINUTE, every=HOUR, repeats=0), "used up"),
        (Timed(next_run=None, every=HOUR), "no next run"),
        (Timed(next_run=NOW - 5 * MINUTE, every=HOUR), "was not started"),
        (Timed(next_run=NOW - 5 * MINUTE, every=HOUR), "was not started"),
        (Timed(next_run=NOW - 2 * MINUTE, every=HOUR), ""),
        (Timed(next_run=NOW + HOUR, every=HOUR, repeats=3), ""),
        (Timed(next_run=NOW + HOUR + 3 * MINUTE, every=HOUR), ""),
        (Timed(next_run=NOW + HOUR + 3 * MINUTE + SECOND, every=HOUR), "not due before 2026-06-15 09:03 UTC"),
        (Timed(next_run=NOW + HOUR, every=MINUTE), "by a clock that was ahead"),
    ],
)
def test_a_timed_task_that_is_not_started_in_time_is_missed(timed: Timed | None, words: str) -> None:
    said = missed(timed, NOW)
    assert words in said
    assert bool(words) == bool(said)


def test_a_timed_task_has_a_moment_after_a_start() -> None:
    late = Timed(next_run=NOW - HOUR, every=HOUR)
    assert not missed(late, NOW, listening_since=NOW - MINUTE)
    assert missed(late, NOW, listening_since=NOW - 3 * MINUTE)
    assert missed(None, NOW, listening_since=NOW), "time does not bring it back"


def test_a_host_is_served_by_any_beat_and_given_time_when_it_is_new() -> None:
    old = NOW - HOUR
    assert unserved([], NOW, known_since=old)
    assert unserved([NOW - UNSERVED_AFTER], NOW, known_since=old)
    assert not unserved([old, NOW - MINUTE], NOW, known_since=old)
    assert not unserved([], NOW, known_since=NOW - MINUTE)
    assert not unserved([], NOW, known_since=old, listening_since=NOW - MINUTE)
    assert unserved([NOW + HOUR], NOW, known_since=old), "a beat to come is none"
    assert not unserved([NOW + HOUR, NOW - MINUTE], NOW, known_since=old)
