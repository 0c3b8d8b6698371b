"""What the sweeps of a root took by themselves within a day: breakers judge a sweep together with it.

It reads the ledger, which the commit of a clear writes: so a sweep that died counts too. It measures ages by the time
since boot where the machine did not restart in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from cleanup.models import LedgerEntry, LedgerKind, Requester, Run, StagingRoot, Sweep, SweepKind
from cleanup.rules.anomalies import RECENT_SWEEPS, WINDOW, Clock, Day, elapsed

# More than the hourly sweeps of a month and some typed ones.
_LOOKED_AT = 1_000


@dataclass(frozen=True)
class Past:
    """An earlier sweep, and how long ago it began."""

    sweep: Sweep
    ago: timedelta


@dataclass(frozen=True)
class Foretold:
    """What a sweep to come will take: `takes` has (run, bytes, whether a go-on covers it)."""

    at: datetime
    takes: Sequence[tuple[Run, int, bool]] = ()

    @property
    def size(self) -> tuple[int, int]:
        return len(self.takes), sum(size for _run, size, _let_go in self.takes)


def clock_of(sweep: Sweep) -> Clock | None:
    """Returns the look at the clock that a sweep took; None if it took none."""
    if not sweep.clock:
        return None
    return Clock(
        wall=datetime.fromisoformat(sweep.clock["wall"]),
        boot_id=sweep.clock["boot_id"],
        boot_seconds=sweep.clock["boot_seconds"],
    )


class Recently:
    """The 24 hours before the sweep `but`, or before now; `foretold`: the sweeps to come in between."""

    def __init__(
        self, root: StagingRoot, clock: Clock, *, but: Sweep | None, foretold: Sequence[Foretold] = ()
    ) -> None:
        self._root, self._clock, self._foretold = root, clock, foretold
        self._past = _past(root, clock, but)
        within = [past for past in self._past if past.ago < WINDOW]
        self._first = next((past.sweep for past in reversed(within) if past.sweep.staged_bytes is not None), None)

    def is_passing(self, first_seen_at: datetime, verified_at: datetime | None) -> bool:
        """Whether a run was first seen and verified after the first sweep of the day began."""
        if self._first is None or verified_at is None:
            return False
        return min(first_seen_at, verified_at) > self._first.now

    def look(self) -> Day:
        went = [*self._went(), *self._will_have_gone()]
        passing = [size for size, first_seen_at, verified_at in went if self.is_passing(first_seen_at, verified_at)]
        return Day(
            runs=len(went),
            bytes=sum(size for size, *_instants in went),
            passing_runs=len(passing),
            passing_bytes=sum(passing),
            staged_runs=self._first.scanned if self._first else None,
            staged_bytes=self._first.staged_bytes if self._first else None,
            earlier=_earlier(self._past),
        )

    def _went(self) -> list[tuple[int, datetime, datetime | None]]:
        """(logical bytes, first sight, verification) of each run that a timed sweep took without a go-on."""
        # The last sweep before the day may have taken runs in it; earlier ones cannot, since sweeps never overlap.
        reach = next((number for number, past in enumerate(self._past) if past.ago >= WINDOW), len(self._past))
        timed = {past.sweep.pk: past for past in self._past[: reach + 1] if past.sweep.kind == SweepKind.TIMED}
        columns = ("attempt__sweep", "at", "bytes", "run__first_seen_at", "run__verified_at")
        found = []
        for key, at, size, first_seen_at, verified_at in self._authorised(timed).values_list(*columns):
            past = timed.get(key)
            if past is None or past.ago - max(at - past.sweep.started_at, timedelta(0)) < WINDOW:
                found.append((size, first_seen_at, verified_at))
        return found

    def _will_have_gone(self) -> list[tuple[int, datetime, datetime | None]]:
        recent = [one for one in self._foretold if self._clock.wall - one.at < WINDOW]
        return [
            (size, run.first_seen_at, run.verified_at)
            for one in recent
            for run, size, let_go in one.takes
            if not let_go
        ]

    def _authorised(self, timed: dict[int, Past]) -> "QuerySet[LedgerEntry]":
        mine = Q(attempt__sweep__in=list(timed), attempt__let_go=None)
        # Entries of earlier program versions do not name their sweep; a typed sweep has an actor.
        older = Q(attempt__sweep=None, requester=Requester.SCHEDULE, actor="", at__gt=self._clock.wall - WINDOW)
        return LedgerEntry.objects.filter(mine | older, run__root=self._root, kind=LedgerKind.AUTHORISED)


def _past(root: StagingRoot, clock: Clock, but: Sweep | None) -> list[Past]:
    sweeps = Sweep.objects.filter(root=root).exclude(kind=SweepKind.DRY_RUN).order_by("-pk")
    if but is not None:
        sweeps = sweeps.filter(pk__lt=but.pk)
    columns = ("kind", "clock", "now", "started_at", "scanned", "staged_bytes", "cleared", "bytes")
    past, ago, after = [], timedelta(0), clock
    for sweep in sweeps.only(*columns)[:_LOOKED_AT]:
        before = clock_of(sweep) or Clock(wall=sweep.now)
        ago, after = ago + elapsed(before, after), before
        past.append(Past(sweep, ago))
    return past


def _earlier(past: Sequence[Past]) -> list[tuple[int, int]]:
    """(runs, bytes) of the latest days with clears before the last 24 hours."""
    days: dict[int, tuple[int, int]] = {}
    for one in past:
        if (day := one.ago // WINDOW) and one.sweep.cleared:
            runs, size = days.get(day, (0, 0))
            days[day] = runs + one.sweep.cleared, size + one.sweep.bytes
    return [days[day] for day in sorted(days)[:RECENT_SWEEPS]]
