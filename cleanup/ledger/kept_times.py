"""How long the runs of an instrument really stayed after their verification, by the ledger."""

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cleanup.models import AttemptKind, Instrument, LedgerEntry, LedgerKind, Requester, Run
from cleanup.rules.pressure import Cause


@dataclass(frozen=True, kw_only=True)
class KeptTime:
    """One run that was cleared. `length`: from its verification to the instant from which its files go, or None."""

    length: timedelta | None
    level: str  # of its proof
    by_hand: bool
    crowded: bool  # only because the disk was too full


@dataclass(frozen=True, kw_only=True)
class KeptTimes:
    """The clears of one instrument from `since` to `at`; `by_others` counts runs that another program cleared."""

    since: datetime
    at: datetime
    clears: tuple[KeptTime, ...] = ()
    by_others: int = 0

    @property
    def lengths(self) -> list[timedelta]:
        return sorted(clear.length for clear in self.clears if clear.length is not None)

    @property
    def median(self) -> timedelta | None:
        seconds = [length.total_seconds() for length in self.lengths]
        return timedelta(seconds=statistics.median_low(seconds)) if seconds else None

    @property
    def levels(self) -> Mapping[str, int]:
        """How many runs went after each kind of proof."""
        return Counter(clear.level for clear in self.clears)

    def earlier_than(self, hours: float) -> "EarlierClears":
        """How many went before a time after their verification, and why."""
        early = [clear for clear in self.clears if clear.length is not None and clear.length < timedelta(hours=hours)]
        by_hand = sum(clear.by_hand for clear in early)
        crowded = sum(clear.crowded for clear in early)
        return EarlierClears(by_hand=by_hand, crowded=crowded, otherwise=len(early) - by_hand - crowded)


@dataclass(frozen=True, kw_only=True)
class EarlierClears:
    by_hand: int
    crowded: int
    otherwise: int

    @property
    def total(self) -> int:
        return self.by_hand + self.crowded + self.otherwise


def of_instrument(instrument: Instrument, since: datetime, now: datetime) -> KeptTimes:
    """Return what was cleared of an instrument between two instants, in two queries."""
    entries = LedgerEntry.objects.filter(
        kind=LedgerKind.AUTHORISED,
        at__gte=since,
        at__lte=now,
        equipment=instrument.equipment,
        run__root=instrument.root_id,
        attempt__kind=AttemptKind.CLEAR,
    )
    columns = ("run_id", "at", "run__verified_at", "proof_level", "requester", "cause")
    found: dict[int, KeptTime] = {}
    for key, at, verified_at, level, requester, cause in entries.order_by("at").values_list(*columns):
        by_hand = requester == Requester.OPERATOR
        # The first time counts: a later attempt took what an earlier one had left.
        found.setdefault(
            key,
            KeptTime(
                length=None if verified_at is None or verified_at > at else at - verified_at,
                level=level,
                by_hand=by_hand,
                crowded=bool(cause) and not by_hand and Cause.RETENTION not in cause.split("+"),
            ),
        )
    others = Run.objects.filter(
        root=instrument.root_id, equipment=instrument.equipment, cleared_at__gte=since, cleared_at__lte=now
    ).exclude(cleared_by="")
    return KeptTimes(since=since, at=now, clears=tuple(found.values()), by_others=others.count())
