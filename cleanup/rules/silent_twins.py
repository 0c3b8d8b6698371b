"""When the schedule asks a silent twin again while the NAS answers."""

from datetime import datetime, timedelta

# After the first silence the next sweep asks again; then the pauses double.
FIRST_PAUSE = timedelta(minutes=30)
LONGEST_PAUSE = timedelta(hours=24)
# Not longer at the end after its pause: if every budget ends before, the run would never have its turn.
LAST_FOR = timedelta(hours=24)


def pause_after(times: int) -> timedelta:
    """How long a twin is not asked after `times` silences in a row."""
    return min(FIRST_PAUSE * (1 << min(max(times - 1, 0), 8)), LONGEST_PAUSE)


def comes_last(retry_at: datetime | None, now: datetime) -> bool:
    """Whether a run comes after all others; `retry_at`: when its twin is asked again."""
    return retry_at is not None and now < retry_at + LAST_FOR
