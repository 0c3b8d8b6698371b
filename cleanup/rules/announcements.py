"""What people are told before sweeps: when, how much, in which words."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

# In the lab's zone: the day's work is known, and people still read mail.
EVENING = time(18)
# A pass above one of these is announced; the share is of a root's staged bytes.
MIN_RUNS = 10
SHARE = 0.05
# The evening's news reaches into the next evening, so that a pass just after it is also told a day before.
_BEYOND = timedelta(hours=6)
_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class AnnouncedAmount:
    """Runs and their logical bytes."""

    runs: int = 0
    bytes: int = 0

    def __add__(self, other: "AnnouncedAmount") -> "AnnouncedAmount":
        return AnnouncedAmount(runs=self.runs + other.runs, bytes=self.bytes + other.bytes)


def last_evening(now: datetime, zone: ZoneInfo) -> datetime:
    """The latest evening that has begun by now."""
    today = _evening_of(now.astimezone(zone), zone)
    return today if today <= now else _evening_of(today.astimezone(zone) - _DAY, zone)


def told_until(now: datetime, zone: ZoneInfo) -> datetime:
    """Sweeps up to this instant are announced now."""
    began = last_evening(now, zone)
    following = _evening_of(began.astimezone(zone) + _DAY, zone)
    return following + _BEYOND if now - began < _BEYOND else following


def is_much(amount: AnnouncedAmount, *, staged_bytes: int) -> bool:
    """Whether an amount is large enough to be announced."""
    return amount.runs > MIN_RUNS or (amount.runs > 0 and amount.bytes > SHARE * staged_bytes)


def is_news(
    coming: AnnouncedAmount,
    untold: AnnouncedAmount,
    *,
    staged_bytes: int,
    told_this_evening: bool,
    first_of: frozenset[int],
) -> bool:
    """Whether what is coming must be told now.

    `untold`: not told since the last evening. `first_of`: untold versions before their first real pass.
    """
    if not untold.runs:
        return False
    if first_of or is_much(untold, staged_bytes=staged_bytes):
        return True
    return not told_this_evening and is_much(coming, staged_bytes=staged_bytes)


def name_moment(at: datetime, now: datetime, zone: ZoneInfo) -> str:
    """`at any moment`, `tonight at 02:00`, `today at 14:00`, `tomorrow at 09:00`, `on 2026-06-20 at 09:00`."""
    moment, here = at.astimezone(zone), now.astimezone(zone)
    days = (moment.date() - here.date()).days
    clock = f"{moment:%H:%M}"
    by_night = moment.hour < 6 or moment.hour >= EVENING.hour
    if moment <= here:
        return "at any moment"
    if (days == 0 and by_night and moment.hour >= EVENING.hour) or (days == 1 and moment.hour < 6):
        return f"tonight at {clock}"
    if days in (0, 1):
        return f"{'tomorrow' if days else 'today'} at {clock}"
    return f"on {moment:%Y-%m-%d} at {clock}"


def _evening_of(day: datetime, zone: ZoneInfo) -> datetime:
    return datetime.combine(day.date(), EVENING, tzinfo=zone)
