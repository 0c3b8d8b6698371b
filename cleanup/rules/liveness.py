"""What the watchdog calls wrong. Silence counts from `listening_since`: at a start every sign is old."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cleanup.rules.policies.policy import Policy
from cleanup.rules.states import State

# States in which a run waits for the data wizard.
WAITING = (State.STAGING, State.COMPLETE, State.SYNC_QUEUED)
# A hung cluster may still report that it works; its heartbeat is a task, so it stops.
SILENT_AFTER = timedelta(minutes=3)
# A host with neither cluster nor watchdog.
UNSERVED_AFTER = timedelta(minutes=5)
# The watchdog looks every 30 seconds.
WATCH_SILENT_AFTER = timedelta(minutes=2)
# A clear writes progress every second, and gives up a hanging NAS after a minute.
NO_PROGRESS_AFTER = timedelta(minutes=10)
# The clusters look for what is due twice a minute.
SCHEDULE_LEEWAY = timedelta(minutes=3)
# A sign of life further ahead is from a wrong clock.
AHEAD = timedelta(minutes=2)

# How long a mend after a clock went back is shown.
TOLD_FOR = timedelta(days=1)

# Before a longer break between looks the machine slept, or its clock was set.
_LONGEST_BREAK = timedelta(minutes=2)


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A timed task as its row says; negative `repeats`: for ever."""

    next_run: datetime | None
    every: timedelta
    repeats: int = -1


def waiting_since(at: datetime | None, entry_seen_at: datetime | None, first_seen_at: datetime) -> datetime:
    """Since when a run stands in its state.

    The instrument's clock may be wrong: our first sights of run and entry bound it.
    """
    if entry_seen_at is None:
        return first_seen_at
    if at is None:
        return entry_seen_at
    earliest = first_seen_at if first_seen_at < entry_seen_at else at
    return min(max(at, earliest), entry_seen_at)


def is_stalled(since: datetime, policy: Policy, now: datetime) -> bool:
    """Whether a run stands in one state longer than `stalled_after_hours`."""
    return now - since > timedelta(hours=policy.stalled_after_hours)


def last_sign(*instants: datetime | None) -> datetime | None:
    """The latest of several instants; None without one."""
    return max((instant for instant in instants if instant is not None), default=None)


def has_no_progress(last: datetime, now: datetime, *, nas_timeout: timedelta) -> bool:
    """Whether an attempt that holds its lock stands still too long.

    The clear itself gives up a hanging NAS after `nas_timeout`.
    """
    return now - last > max(NO_PROGRESS_AFTER, nas_timeout + timedelta(minutes=1))


def listens_since(since: datetime, last_look: datetime | None, now: datetime) -> datetime:
    """Since when the watchdog has listened without a break.

    `since`: the last result. `last_look`: None after a start, or without the database.
    """
    if last_look is None or abs(now - last_look) > _LONGEST_BREAK:
        return now
    return since


def is_silent(
    last: datetime | None, now: datetime, after: timedelta, *, listening_since: datetime | None = None
) -> bool:
    """Whether nothing was heard for `after` while the watchdog listened.

    A sign ahead of the clock does not count.
    """
    heard = last_sign(None if last is None or is_ahead(last, now) else last, listening_since)
    return heard is None or now - heard >= after


def is_ahead(sign: datetime, now: datetime) -> bool:
    """Whether a sign of life is from a wrong clock."""
    return sign > now + AHEAD


def missed(timed: Timed | None, now: datetime, *, listening_since: datetime | None = None) -> str:
    """What is wrong with a timed task, in words, or empty."""
    if timed is None:
        return "it is missing"
    if timed.repeats == 0:
        return "it has been used up"
    if timed.next_run is None:
        return "it has no next run"
    # A start moves it ahead by one interval.
    if timed.next_run > now + timed.every + SCHEDULE_LEEWAY:
        return f"it is not due before {timed.next_run:%Y-%m-%d %H:%M} UTC, by a clock that was ahead"
    if timed.next_run <= now and is_silent(timed.next_run, now, SCHEDULE_LEEWAY, listening_since=listening_since):
        return "it was due and was not started"
    return ""


def unserved(
    beats: Sequence[datetime], now: datetime, *, known_since: datetime, listening_since: datetime | None = None
) -> bool:
    """Whether a host with staging roots is silent; a new host has time."""
    heard = last_sign(*(sign for sign in (known_since, *beats) if not is_ahead(sign, now)))
    return is_silent(heard, now, UNSERVED_AFTER, listening_since=listening_since)
