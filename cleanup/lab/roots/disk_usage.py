"""How full the disks of staging roots are, and when they will be full."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from django.db.models import F, Max, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce, Least, TruncDate

from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import DiskUsage, LedgerEntry, StagingRoot
from cleanup.models.aggregates import bytes_sum
from cleanup.storage.freed_space import fill_of
from cleanup.storage.mounts.mountinfo import UnknownMount, mount_of

logger = logging.getLogger(__name__)

# Enough to see how a disk fills, and few enough to keep for 90 days.
BETWEEN_SAMPLES = timedelta(minutes=10)
KEPT = timedelta(days=90)
# Growth within a few hours may be one run that was just written.
WEEK = timedelta(days=7)
SHORTEST_SPAN = timedelta(hours=6)
# The pace of one week predicts no further.
FURTHEST = timedelta(days=365)
_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """How full a disk was, for an ordinary user, and when it will be full."""

    at: datetime
    total_bytes: int
    free_bytes: int
    since: datetime | None = None  # start of the time in which `pace` was seen
    pace: float | None = None  # bytes that arrive per day, freed ones added back; None if seen too briefly
    full_at: datetime | None = None  # None if it does not fill, is unknown, or is more than a year away

    @property
    def used_bytes(self) -> int:
        return max(self.total_bytes - self.free_bytes, 0)

    @property
    def span(self) -> timedelta | None:
        return None if self.since is None else self.at - self.since

    @property
    def bytes_a_day(self) -> int | None:
        return None if self.pace is None else round(self.pace)

    @property
    def is_a_week(self) -> bool:
        return self.span is not None and self.span > WEEK - _DAY / 2

    @property
    def is_filling(self) -> bool:
        return self.pace is not None and self.pace > 0


def measure(root: StagingRoot, now: datetime) -> DiskUsage | None:
    """Store how full a staging root's disk is; None if it cannot be opened.

    A new sample replaces one of the last ten minutes. Samples are kept for 90 days.
    """
    try:
        with opening.open_root(root) as descriptor:
            sample = keep(_sample(root, descriptor, now))
            _note_filesystem(root, descriptor)
        DiskUsage.objects.filter(root=root, at__lt=now - KEPT).delete()
        return sample
    except (Unreachable, OSError):
        return None


def _note_filesystem(root: StagingRoot, descriptor: int) -> None:
    try:
        found = mount_of(descriptor).fstype[:64]
    except UnknownMount:
        found = ""
    if found != root.filesystem:
        StagingRoot.objects.filter(pk=root.pk).update(filesystem=found)
        root.filesystem = found


def look(root: StagingRoot, descriptor: int, now: datetime) -> DiskUsage | None:
    """Return how full the disk of an open root is, for `keep`; None, and a line in the log, if it does not say."""
    try:
        return _sample(root, descriptor, now)
    except OSError as error:
        logger.warning("how full the disk of %s is cannot be kept: %s", root, error)
        return None


def _sample(root: StagingRoot, descriptor: int, now: datetime) -> DiskUsage:
    fill = fill_of(descriptor)
    return DiskUsage(root=root, at=now, total_bytes=fill.total, free_bytes=fill.free)


def keep(sample: DiskUsage) -> DiskUsage:
    """Store a sample, in the place of one of the last ten minutes."""
    at = sample.at
    latest = DiskUsage.objects.filter(root=sample.root, at__lte=at).order_by("-at").values_list("pk", "at")[:2]
    found = list(latest)
    crowded = len(found) == 2 and at - found[1][1] < BETWEEN_SAMPLES
    if found and (crowded or found[0][1] == at):
        sample.pk, sample._state.adding = found[0][0], False
    sample.save()
    return sample


def outlook(root: StagingRoot, now: datetime) -> Outlook | None:
    """The outlook of one staging root's disk; None if never measured."""
    return outlooks([root], now).get(root.pk)


def outlooks(roots: Sequence[StagingRoot], now: datetime) -> dict[int, Outlook]:
    """The outlooks of measured roots by primary key, in a fixed number of queries."""
    pairs = _first_and_last(roots, now)
    freed = _freed(roots, pairs)
    return {root.pk: _look_out(*pairs[root.pk], freed.get(root.name, 0)) for root in roots if root.pk in pairs}


def _first_and_last(roots: Sequence[StagingRoot], now: datetime) -> dict[int, tuple[DiskUsage, DiskUsage]]:
    samples = DiskUsage.objects.filter(root=OuterRef("pk"), at__lte=now)
    first = Subquery(samples.filter(at__gte=now - WEEK).order_by("at").values("pk")[:1])
    last = Subquery(samples.order_by("-at").values("pk")[:1])
    asked = StagingRoot.objects.filter(pk__in=[root.pk for root in roots]).order_by().annotate(first=first, last=last)
    firsts, lasts = (DiskUsage.objects.filter(pk__in=asked.values(name)).order_by() for name in ("first", "last"))
    pairs: dict[int, list[DiskUsage]] = {}
    for row in sorted(firsts.union(lasts), key=lambda sample: sample.at):
        pairs.setdefault(row.root_id, []).append(row)
    return {pk: (samples[0], samples[-1]) for pk, samples in pairs.items()}


def _freed(roots: Sequence[StagingRoot], pairs: dict[int, tuple[DiskUsage, DiskUsage]]) -> dict[str, int]:
    """Per root name: measured bytes, at most the allocated; else the allocated."""
    between = Q(pk__in=[])
    for root in roots:
        if root.pk in pairs:
            first, last = pairs[root.pk]
            between |= Q(root_name=root.name, at__gt=first.at, at__lte=last.at)
    sums = LedgerEntry.objects.freeing().filter(between).order_by().values_list("root_name")
    given_back = Coalesce(Least(F("measured_bytes"), F("allocated_bytes")), F("allocated_bytes"))
    return {name: int(size) for name, size in sums.annotate(size=bytes_sum(given_back, default=0))}


def _look_out(first: DiskUsage, last: DiskUsage, freed: int) -> Outlook:
    seen = Outlook(at=last.at, total_bytes=last.total_bytes, free_bytes=last.free_bytes)
    span = last.at - first.at
    if span < SHORTEST_SPAN:
        return seen
    grown = (last.total_bytes - last.free_bytes) - (first.total_bytes - first.free_bytes)
    pace = (grown + freed) / (span / _DAY)
    fills = pace > 0 and last.free_bytes / pace < FURTHEST / _DAY
    return replace(seen, since=first.at, pace=pace, full_at=last.at + last.free_bytes / pace * _DAY if fills else None)


@dataclass(frozen=True, kw_only=True)
class DiskDay:
    """The fullest moment of a disk on one day of the lab."""

    day: date
    used_bytes: int
    total_bytes: int


def by_day(root: StagingRoot, since: datetime, now: datetime) -> list[DiskDay]:
    """The days with samples, oldest first; a disk that was replaced counts with its larger size."""
    samples = DiskUsage.objects.filter(root=root, at__gte=since, at__lte=now).order_by()
    used = F("total_bytes") - F("free_bytes")
    days = samples.annotate(day=TruncDate("at")).values("day").annotate(used=Max(used), total=Max("total_bytes"))
    return [
        DiskDay(day=row["day"], used_bytes=max(row["used"], 0), total_bytes=row["total"])
        for row in days.order_by("day")
    ]
