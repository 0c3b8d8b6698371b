"""The days that an account covers, in the lab's zone."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from django.utils import timezone

from cleanup.lab import days


class NoPeriod(ValueError):
    """A text names no period; the message says why."""


@dataclass(frozen=True)
class Period:
    """Days from `first` to `last`, both within it. Empty where `last` lies before `first`."""

    first: date
    last: date

    @property
    def begins_at(self) -> datetime:
        """The first instant within it."""
        return timezone.make_aware(datetime.combine(self.first, time.min))

    @property
    def ends_at(self) -> datetime:
        """The first instant after it."""
        return days.end_of(self.last)

    @property
    def is_empty(self) -> bool:
        return self.last < self.first


# No clear was earlier, and none is written down for later.
ALL_TIMES = Period(date(1970, 1, 1), date(9998, 12, 31))


def of_year(year: int) -> Period:
    """Return a calendar year. Raises NoPeriod outside of 1 to 9998."""
    if not 1 <= year <= 9998:
        raise NoPeriod(f"There is no year {year}.")
    return Period(date(year, 1, 1), date(year, 12, 31))


def of_month(text: str) -> Period:
    """Return the month of a text such as 2026-05. Raises NoPeriod."""
    try:
        first = date.fromisoformat(f"{text}-01")
        following = month_after(first)
    except (ValueError, OverflowError):
        raise NoPeriod(f"There is no month {text}.") from None
    return Period(first, following - timedelta(days=1))


def month_after(day: date) -> date:
    """Return the first day of the next month. Raises OverflowError."""
    return (day.replace(day=1) + timedelta(days=31)).replace(day=1)


def between(first: str, last: str) -> Period:
    """Return the days between two texts such as 2026-05-01. Raises NoPeriod."""
    return Period(_day(first), _day(last))


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise NoPeriod(f"There is no day {text}: write it as 2026-05-01.") from None
    if not 1 < day.year < 9999:
        raise NoPeriod(f"The day {text} is too far away.")
    return day
