"""Which rows of the ledger an account is about."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from django.db.models import Max, Min, Q

from cleanup.ledger.dimensions import Trigger, trigger_column
from cleanup.ledger.period import Period
from cleanup.models import LedgerEntry, LedgerQuerySet
from cleanup.rules.policies.fields import TOLD_FIELDS


@dataclass(frozen=True, kw_only=True)
class EntryFilter:
    """Rows from `since` on and before `until`; an empty name asks for all. Names are those of the rows."""

    since: datetime | None = None
    until: datetime | None = None
    equipment: str = ""
    project: str = ""
    person: str | None = None  # empty: no person, as for the schedule
    root: str = ""
    policy: int | None = None  # a version that decided something
    trigger: Trigger | None = None

    @classmethod
    def of(cls, period: Period | None) -> Self:
        """All rows of a period's days, or of all times."""
        if period is None:
            return cls()
        try:
            since: datetime | None = period.begins_at.astimezone(UTC)
        except OverflowError:  # before the calendar begins in UTC
            since = None
        return cls(since=since, until=period.ends_at)

    def includes(self, at: datetime) -> bool:
        """Whether an instant lies within it."""
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    def entries(self) -> LedgerQuerySet:
        """The rows."""
        return _within(self, self.of_all_times())

    def of_all_times(self) -> LedgerQuerySet:
        """The rows of any instant."""
        entries = LedgerEntry.objects.all()
        columns = {"equipment": self.equipment, "project": self.project, "root_name": self.root}
        entries = entries.filter(**{name: value for name, value in columns.items() if value})
        if self.person is not None:
            entries = entries.filter(actor=self.person)
        if self.policy is not None:
            entries = entries.filter(_decided_by(self.policy))
        if self.trigger is not None:
            entries = entries.annotate(begun_by=trigger_column()).filter(begun_by=self.trigger.value)
        return entries

    def bounds(self) -> tuple[int, int]:
        """The smallest and the largest key of a row of these instants; (0, 0) without one.

        Keys grow with time but for clocks that were set, so between them lie few other rows.
        """
        keys = _within(self, LedgerEntry.objects.order_by()).aggregate(first=Min("pk"), last=Max("pk"))
        return keys["first"] or 0, keys["last"] or 0


def _within(chosen: EntryFilter, entries: LedgerQuerySet) -> LedgerQuerySet:
    if chosen.since is not None:
        entries = entries.filter(at__gte=chosen.since)
    return entries if chosen.until is None else entries.filter(at__lt=chosen.until)


def _decided_by(version: int) -> Q:
    """Older rows know only the newest version of their time."""
    found = Q(decided_by={}, policy_version=version)
    for name in TOLD_FIELDS:
        found |= Q(**{f"decided_by__{name}__version": version})
    return found
