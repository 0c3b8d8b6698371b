"""What the watchdog calls wrong: values in, values out. Silence counts only while the watchdog has listened.

`listening_since` is where that began: after a start, or a sleep of the machine, every sign of life is old.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cleanup.rules.policy import Policy
from cleanup.rules.states import State

# A run in one of these waits for the data wizard, and should not wait for ever.
WAITING = (State.STAGING, State.COMPLETE, State.SYNC_QUEUED)
# A cluster can hang while its own status still says that it works; its heartbeat is a task, so it tells.
SILENT_AFTER = timedelta(minutes=3)
# A host with neither cluster nor watchdog.
UNSERVED_AFTER = timedelta(minutes=5)
# The watchdog looks every 30 seconds.
WATCH_SILENT_AFTER = timedelta(minutes=2)
# What a clear writes about its progress comes every second, and a NAS that hangs is given up after a minute.
NO_PROGRESS_AFTER = timedelta(minutes=10)
# The clusters look for what is due twice a minute.
SCHEDULE_LEEWAY = timedelta(minutes=3)
# A sign of life that lies further ahead was given by a clock that was wrong, and says nothing.
AHEAD = timedelta(minutes=2)

# So long it is told that something was mended after a clock went back.
TOLD_FOR = timedelta(days=1)

# A longer break between two looks was not the watchdog's: the machine slept, or its clock was set.
_LONGEST_BREAK = timedelta(minutes=2)


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A timed task as its row says, started `every` so often; `repeats`: how often still, negative for ever."""

    next_run: datetime | None
    every: timedelta
    repeats: int = -1


def waiting_since(at: datetime | None, entry_seen_at: datetime | None, first_seen_at: datetime) -> datetime:
    """Since when a run stands in its state: by the last entry of its history, or by our first sight of the run.

    Never later than our first sight of the entry, and never before that of the run where it showed an earlier state:
    the instrument's clock may be wrong either way.
    """
    if entry_seen_at is None:
        return first_seen_at
    if at is None:
        return entry_seen_at
    earliest = first_seen_at if first_seen_at < entry_seen_at else at
    return min(max(at, earliest), entry_seen_at)


def is_stalled(since: datetime, policy: Policy, now: datetime) -> bool:
    """Whether a run has stood in one state for longer than its policy's `stalled_after_hours`."""
    return now - since > timedelta(hours=policy.stalled_after_hours)


def last_sign(*instants: datetime | None) -> datetime | None:
    """The latest of several instants, where there is any."""
    return max((instant for instant in instants if instant is not None), default=None)


def has_no_progress(last: datetime, now: datetime, *, nas_timeout: timedelta) -> bool:
    """Whether an attempt that holds its lock has made no progress for too long.

    A NAS that hangs is given up by the clear itself after `nas_timeout`.
    """
    return now - last > max(NO_PROGRESS_AFTER, nas_timeout + timedelta(minutes=1))


def listens_since(since: datetime, last_look: datetime | None, now: datetime) -> datetime:
    """Since when the watchdog has listened without a break; `since` is what the look before said.

    `last_look` is None after a start, or where the database was away.
    """
    if last_look is None or abs(now - last_look) > _LONGEST_BREAK:
        return now
    return since


def is_silent(
    last: datetime | None, now: datetime, after: timedelta, *, listening_since: datetime | None = None
) -> bool:
    """Whether nothing was heard for at least `after` of the time in which the watchdog listened.

    A sign that lies ahead of the clock does not count.
    """
    heard = last_sign(None if last is None or is_ahead(last, now) else last, listening_since)
    return heard is None or now - heard >= after


def is_ahead(sign: datetime, now: datetime) -> bool:
    """Whether a wrong clock gave a sign of life: it lies further ahead than clocks may differ."""
    return sign > now + AHEAD


def missed(timed: Timed | None, now: datetime, *, listening_since: datetime | None = None) -> str:
    """What is wrong with a timed task, in words; empty if nothing is.

    Its next run moves ahead by one interval when it starts. If it lies well back, it did not start; if it lies further
    ahead, a wrong clock set it.
    """
    if timed is None:
        return "it is missing"
    if timed.repeats == 0:
        return "it has been used up"
    if timed.next_run is None:
        return "it has no next run"
    if timed.next_run > now + timed.every + SCHEDULE_LEEWAY:
        return f"it is not due before {timed.next_run:%Y-%m-%d %H:%M} UTC, by a clock that was ahead"
    if timed.next_run <= now and is_silent(timed.next_run, now, SCHEDULE_LEEWAY, listening_since=listening_since):
        return "it was due and was not started"
    return ""


def unserved(
    beats: Sequence[datetime], now: datetime, *, known_since: datetime, listening_since: datetime | None = None
) -> bool:
    """Whether a host with staging roots gives no sign of life; a host that was just registered has time."""
    heard = last_sign(*(sign for sign in (known_since, *beats) if not is_ahead(sign, now)))
    return is_silent(heard, now, UNSERVED_AFTER, listening_since=listening_since)
