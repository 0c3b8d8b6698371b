"""When a disk will be full at the pace of its last hours, and when its alarm begins and ends."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

# The pace is that of these last hours, as the median of slopes over one hour each.
WINDOW = timedelta(hours=4)
OVER = timedelta(hours=1)
# One sudden copy lies in the slopes that begin within one hour: with fewer hours it could be half of them.
SHORTEST = timedelta(hours=3, minutes=30)
_SLOPES_BEGIN_WITHIN = timedelta(hours=2, minutes=15)
# A slope over a gap in the measurements is none.
_WIDEST = 2 * OVER
# The pace of some hours predicts no further.
FURTHEST = timedelta(days=3)
# An older measurement says nothing of now.
OUTDATED = timedelta(minutes=30)

DEFAULT_PERCENT, DEFAULT_HOURS = 85, 24
MAX_HOURS = 72
# An alarm ends this far below its mark: else it would come and go.
POINTS_BELOW = 2
LONGER = 1.5
_HOUR = timedelta(hours=1)
_STEP_MINUTES = 30


@dataclass(frozen=True)
class Arrived:
    """The bytes on a disk at an instant, with those that were freed since the first instant added back."""

    at: datetime
    bytes: int


@dataclass(frozen=True, kw_only=True)
class MeasuredFill:
    """A disk for an ordinary user; `bytes_an_hour` is None, and not known, with too few measurements."""

    at: datetime
    total_bytes: int
    free_bytes: int
    bytes_an_hour: float | None = None

    @property
    def percent(self) -> float:
        return 100 * (self.total_bytes - self.free_bytes) / self.total_bytes if self.total_bytes > 0 else 0.0

    @property
    def full_at(self) -> datetime | None:
        """None if it does not fill up within three days, or if that is not known."""
        if self.bytes_an_hour is None or self.bytes_an_hour <= 0:
            return self.at if self.free_bytes <= 0 else None
        hours = self.free_bytes / self.bytes_an_hour
        return self.at + hours * _HOUR if hours <= FURTHEST / _HOUR else None


@dataclass(frozen=True)
class AlarmMark:
    """When to tell people: from this share on, or so many hours before the disk is full; None: not by that."""

    percent: int | None = DEFAULT_PERCENT
    hours: int | None = DEFAULT_HOURS


@dataclass(frozen=True)
class DiskAlarm:
    """`on`: people are told. `foreseen`: by the pace, as last known, the disk will be full too soon."""

    on: bool = False
    foreseen: bool = False


def pace(arrived: Sequence[Arrived]) -> float | None:
    """Bytes that arrive an hour, by measurements in their order; None with too few of them."""
    if not arrived or arrived[-1].at - arrived[0].at < SHORTEST:
        return None
    slopes, end = [], 0
    for start in arrived:
        while end < len(arrived) and arrived[end].at - start.at < OVER:
            end += 1
        if end == len(arrived):
            break
        span = arrived[end].at - start.at
        if span <= _WIDEST:
            slopes.append((start.at, (arrived[end].bytes - start.bytes) / (span / _HOUR)))
    if not slopes or slopes[-1][0] - slopes[0][0] < _SLOPES_BEGIN_WITHIN:
        return None
    return statistics.median(slope for _at, slope in slopes)


def next_alarm(fill: MeasuredFill, mark: AlarmMark, now: datetime, was: DiskAlarm) -> DiskAlarm:
    """Whether people are to be told, by a new measurement. An alarm ends only well below its mark.

    While the pace is not known, what was foreseen stays foreseen.
    """
    if mark.percent is None and mark.hours is None:
        return DiskAlarm()
    foreseen = _is_foreseen(fill, mark, now, was)
    reached = mark.percent is not None and fill.percent >= mark.percent - POINTS_BELOW * was.on
    return DiskAlarm(on=fill.free_bytes <= 0 or reached or foreseen, foreseen=foreseen)


def _is_foreseen(fill: MeasuredFill, mark: AlarmMark, now: datetime, was: DiskAlarm) -> bool:
    if mark.hours is None:
        return False
    if fill.bytes_an_hour is None:
        return was.foreseen
    within = mark.hours * _HOUR * (LONGER if was.on else 1)
    return fill.full_at is not None and fill.full_at - now <= within


def is_outdated(fill: MeasuredFill, now: datetime) -> bool:
    return abs(now - fill.at) > OUTDATED


def say_full(full_at: datetime, now: datetime, zone: ZoneInfo) -> str:
    """`full at about 18:00`, `full tomorrow at about 09:30`, `full on 3 December at about 09:30`, `full about now`.

    To the half hour before.
    """
    if full_at <= now:
        return "full about now"
    moment, here = full_at.astimezone(zone), now.astimezone(zone)
    moment -= timedelta(minutes=moment.minute % _STEP_MINUTES, seconds=moment.second, microseconds=moment.microsecond)
    if moment <= here:
        return "full within half an hour"
    days = (moment.date() - here.date()).days
    day = {0: "", 1: "tomorrow "}.get(days, f"on {moment.day} {moment:%B} ")
    return f"full {day}at about {moment:%H:%M}"


def say_percent(fill: MeasuredFill) -> str:
    """`87 % used`; 100 only of a disk without free bytes."""
    return f"{min(int(fill.percent), 100 if fill.free_bytes <= 0 else 99)} % used"
