"""Dates and times as the lab means them: in its zone unless another is named."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.utils import timezone

from cleanup.storage.staging.records.ingest_json import parse_instant

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_TIME_OF_DAY = re.compile(r"\d?\d:\d\d", re.ASCII)
_NAMES_ITS_ZONE = re.compile(r".*(?:Z|[+-]\d\d:?\d\d)")
# The wizard's instants have seconds; operators leave them out.
_TO_THE_MINUTE = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d)(Z|[+-]\d\d:?\d\d)?$")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
# A zone by its name, after a blank or in brackets.
_WITH_ZONE = re.compile(r"(?P<when>[^\s\[]+(?:\s+\d\d?:[^\s\[]*)?)(?:\s+(?P<zone>\S+)|\[(?P<bracketed>[^\]]*)\])?")


class NoInstant(ValueError):
    """A text is neither a day nor an instant; the message says why."""


@dataclass(frozen=True)
class Until:
    """An end: an instant, and the day that ends then, if named."""

    at: datetime
    day: date | None = None

    @property
    def said(self) -> str:
        local = timezone.localtime(self.at)
        of_day = f", the end of {self.day}" if self.day else ""
        return f"{local:%Y-%m-%d %H:%M:%S} {local.tzname()} ({settings.TIME_ZONE}{of_day})"


def end_of(day: date, zone: tzinfo | None = None) -> datetime:
    """The first instant after a day, by default in the lab's zone.

    Midnight may not exist. Raises NoInstant for the calendar's last day.
    """
    try:
        return _latest(datetime.combine(day + timedelta(days=1), time.min), zone)
    except OverflowError:
        raise NoInstant(f"{day} is too far away.") from None


def read_until(text: str) -> Until:
    """The end in a text: a whole day or an instant.

    Forms: `2027-01-05`, `2027-01-05T18:00` (or a blank for the T), `2027-01-05T18:00:00+01:00`, `2027-01-05
    Europe/Zurich`. Raises NoInstant.
    """
    day, zone, when = _parts(text)
    return Until(_instant(when, zone)) if day is None else Until(end_of(day, zone), day)


def read_since(text: str) -> datetime:
    """The beginning in a text of the same forms: a day's first instant, or the instant. Raises NoInstant."""
    day, zone, when = _parts(text)
    if day is None:
        return _instant(when, zone)
    try:
        return end_of(day - timedelta(days=1), zone)
    except OverflowError:
        raise NoInstant(f"{day} is too far away.") from None


def next_at(clock: time, now: datetime) -> datetime:
    """The next instant at which the lab's clock shows a time of day: within about 24 hours."""
    today = timezone.localdate(now)
    for day in (today, today + timedelta(days=1)):
        at = _latest(datetime.combine(day, clock.replace(tzinfo=None)), None)
        if at > now:
            return at
    return _latest(datetime.combine(today + timedelta(days=2), clock.replace(tzinfo=None)), None)


def read_by(text: str, now: datetime) -> datetime:
    """A deadline in a text: a time of day such as `14:00`, which comes next, or as `read_until`. Raises NoInstant."""
    if _TIME_OF_DAY.fullmatch(text.strip()):
        try:
            return next_at(time.fromisoformat(text.strip().zfill(5)), now)
        except ValueError:
            raise NoInstant(f"There is no time {text}.") from None
    return read_until(text).at


def say(at: datetime) -> str:
    """An instant to the minute in the lab's zone: `2027-01-06 00:00 CET`."""
    local = timezone.localtime(at)
    return f"{local:%Y-%m-%d %H:%M} {local.tzname()}"


def say_end(at: datetime, now: datetime, *, with_zone: bool = False) -> str:
    """An end as people mean it, in the lab's zone: `the end of 6 December`, `6 December 2027, 18:00`.

    The year is left out where it is this one. `with_zone`: names the zone of a time.
    """
    local, last_day = timezone.localtime(at), timezone.localtime(at - timedelta(microseconds=1)).date()
    whole_day = end_of(last_day) == at
    day = last_day if whole_day else local.date()
    year = "" if day.year == timezone.localtime(now).year else f" {day.year}"
    said = f"{day.day} {_MONTHS[day.month - 1]}{year}"
    if whole_day:
        return f"the end of {said}"
    return f"{said}, {local:%H:%M}{f' {local.tzname()}' if with_zone else ''}"


def _is_neither(text: str) -> NoInstant:
    return NoInstant(f"{text} is neither a day such as 2027-01-05 nor an instant such as 2027-01-05T18:00.")


def _parts(text: str) -> tuple[date | None, tzinfo | None, str]:
    """(day, named zone, text of an instant where it is no day)."""
    found = _WITH_ZONE.fullmatch(text.strip())
    if found is None:
        raise _is_neither(text)
    named = found["zone"] if found["zone"] is not None else found["bracketed"]
    zone = None if named is None else _zone(named)
    day = _day(found["when"]) if _DAY.fullmatch(found["when"]) else None
    return day, zone, "T".join(found["when"].split())


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise NoInstant(f"There is no time zone {name}: name one such as Europe/Zurich.") from None


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise NoInstant(f"There is no day {text}.") from None


def _instant(text: str, zone: tzinfo | None) -> datetime:
    at = parse_instant(_TO_THE_MINUTE.sub(r"\1:00\2", text))
    if at is None:
        raise _is_neither(text)
    if _NAMES_ITS_ZONE.fullmatch(text):
        return at
    return _latest(at.replace(tzinfo=None), zone)


def _latest(local: datetime, zone: tzinfo | None) -> datetime:
    """The later instant of an ambiguous time: a hold never ends early."""
    aware = local.replace(tzinfo=zone or timezone.get_default_timezone())
    return max(aware.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
