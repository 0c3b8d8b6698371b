"""What the address of an audit's page asks for: a period, and values."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

from django.http import QueryDict
from django.utils.http import urlencode

from cleanup.ledger import period
from cleanup.ledger.lists import Place
from cleanup.ledger.period import NoPeriod, Period
from cleanup.models import Dimension
from cleanup.text import audit

# The names of values in addresses.
NAMES = {str(dimension): dimension for dimension in Dimension}
_EARLIEST = date(1970, 1, 1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class AuditQuestion:
    """`said`: the period as its address says it, such as {"year": "2026"}."""

    period: Period
    said: Mapping[str, str]
    values: Mapping[Dimension, str] = field(default_factory=dict)

    def address(self, **values: str) -> str:
        """The query of an address for the same period with these values; a value may be a narrower period."""
        said = {} if {"month", "year", "since"} & values.keys() else self.said
        return urlencode({**said, **values})

    @property
    def is_year(self) -> bool:
        return "year" in self.said

    @property
    def title(self) -> str:
        """`2026`, `May 2026` or `2026-01-01 to 2026-03-31`."""
        if "year" in self.said:
            return f"{self.period.first.year}"
        if "month" in self.said:
            return f"{self.period.first:%B %Y}"
        return f"{self.period.first} to {self.period.last}"

    @property
    def when(self) -> str:
        """`in 2026`, or `from 2026-01-01 to 2026-03-31`."""
        return f"from {self.title}" if "since" in self.said else f"in {self.title}"

    @property
    def words(self) -> list[tuple[str, str]]:
        """The values with the names of what they are of."""
        return [(str(dimension.label), audit.said(dimension, value)) for dimension, value in self.values.items()]


def read(asked: QueryDict, today: date) -> AuditQuestion:
    """Return what an address asks for, the current year where it says nothing. Raises NoPeriod."""
    # PostgreSQL takes no text with a NUL, so no row has one.
    values = {one: (asked.get(name) or "").replace("\0", "\ufffd") for name, one in NAMES.items() if name in asked}
    found = asked_period(asked, today)
    return AuditQuestion(*found, values) if found else replace(this_year(today), values=values)


def this_year(today: date) -> AuditQuestion:
    """Return the question for the current year."""
    return AuditQuestion(period.of_year(today.year), {"year": f"{today.year}"})


def asked_period(asked: QueryDict, today: date) -> tuple[Period, dict[str, str]] | None:
    """Return the period of an address and how the address says it; None without one. Raises NoPeriod."""
    since, until = asked.get("since", ""), asked.get("until", "")
    if since or until:
        found = period.between(since or f"{_EARLIEST}", until or f"{today}")
        return found, {"since": f"{found.first}", "until": f"{found.last}"}
    if month := asked.get("month", ""):
        return period.of_month(month), {"month": month}
    year = asked.get("year", "")
    if not year:
        return None
    if not (year.isascii() and year.isdecimal() and len(year) < 10):
        raise NoPeriod(f"{year[:40]} is no year.")
    return period.of_year(int(year)), {"year": f"{int(year)}"}


def write_place(place: Place | None) -> str:
    """Return a place as an address says it; empty for none."""
    return f"{(place[0] - _EPOCH) // _MICROSECOND}.{place[1]}" if place else ""


def read_place(text: str | None) -> Place | None:
    """Return the place that an address names; what is none counts as none."""
    instant, _point, key = (text or "").partition(".")
    try:
        number, micros = int(key), int(instant)
        if len(text or "") > 40 or not 0 <= number <= _LARGEST:
            return None
        return _EPOCH + micros * _MICROSECOND, number
    except (ValueError, OverflowError):
        return None
