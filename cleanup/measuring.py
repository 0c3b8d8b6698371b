"""How full the disks of the staging roots are, how fast they fill, and when they will be full at that pace."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.db.models import OuterRef, Q, Subquery

from cleanup import gathering
from cleanup.gathering import Unreachable
from cleanup.models import DiskUsage, LedgerEntry, StagingRoot
from cleanup.models.sums import bytes_sum

# One sample in ten minutes is enough to see how a disk fills, and few enough to keep for a quarter of a year.
BETWEEN_SAMPLES = timedelta(minutes=10)
KEPT = timedelta(days=90)
# The pace is that of the last week; what was seen for less than some hours may be one run that was just written.
WEEK = timedelta(days=7)
SHORTEST_SPAN = timedelta(hours=6)
# Further ahead nobody plans by the pace of one week.
FURTHEST = timedelta(days=365)
_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """How full a disk was at `at`, in bytes as an ordinary user may have them, and where that leads.

    `pace` is how many bytes a day arrived, net of what was freed by us, since `since`; None where too little was seen.
    `full_at` is when the disk will be full at that pace unless something is cleared; None where it is not filling up,
    where nobody knows, or where that is more than a year away.
    """

    at: datetime
    total_bytes: int
    free_bytes: int
    since: datetime | None = None
    pace: float | None = None
    full_at: datetime | None = None

    @property
    def used_bytes(self) -> int:
        return max(self.total_bytes - self.free_bytes, 0)

    @property
    def span(self) -> timedelta | None:
        """How long was looked for the pace."""
        return None if self.since is None else self.at - self.since

    @property
    def bytes_a_day(self) -> int | None:
        """Bytes a day, as a whole number."""
        return None if self.pace is None else round(self.pace)

    @property
    def is_a_week(self) -> bool:
        """Whether the pace is that of a whole week, or nearly."""
        return self.span is not None and self.span > WEEK - _DAY / 2

    @property
    def is_filling(self) -> bool:
        return self.pace is not None and self.pace > 0


def measure(root: StagingRoot, now: datetime) -> DiskUsage | None:
    """Write down how full the disk of a staging root of this host is, at most once in ten minutes.

    None where it was measured a short while ago, and where the root is not there or is another one. Samples older than
    90 days are removed.
    """
    samples = DiskUsage.objects.filter(root=root)
    if samples.filter(at__gt=now - BETWEEN_SAMPLES, at__lte=now).exists():
        return None
    try:
        with gathering.open_root(root) as descriptor:
            found = os.fstatvfs(descriptor)
    except Unreachable:
        return None
    samples.filter(at__lt=now - KEPT).delete()
    # What is reserved for the superuser belongs neither to the whole nor to the free space of anybody else.
    total = (found.f_blocks - found.f_bfree + found.f_bavail) * found.f_frsize
    sample, _new = DiskUsage.objects.get_or_create(
        root=root, at=now, defaults={"total_bytes": total, "free_bytes": found.f_bavail * found.f_frsize}
    )
    return sample


def outlook(root: StagingRoot, now: datetime) -> Outlook | None:
    """How full the disk of one staging root is and where that leads; None where it was never measured."""
    return outlooks([root], now).get(root.pk)


def outlooks(roots: Sequence[StagingRoot], now: datetime) -> dict[int, Outlook]:
    """The outlook of each staging root whose disk was measured, by the root's key; many ask no more than one."""
    pairs = _first_and_last(roots, now)
    freed = _freed(roots, pairs)
    return {root.pk: _look_out(*pairs[root.pk], freed.get(root.name, 0)) for root in roots if root.pk in pairs}


def _first_and_last(roots: Sequence[StagingRoot], now: datetime) -> dict[int, tuple[DiskUsage, DiskUsage]]:
    """The first sample of the week up to now, and the last of all; the same one where the week has none."""
    samples = DiskUsage.objects.filter(root=OuterRef("pk"), at__lte=now)
    first = Subquery(samples.filter(at__gte=now - WEEK).order_by("at").values("pk")[:1])
    last = Subquery(samples.order_by("-at").values("pk")[:1])
    found = StagingRoot.objects.filter(pk__in=[root.pk for root in roots]).annotate(first=first, last=last)
    keys = {pk: (first or last, last) for pk, first, last in found.values_list("pk", "first", "last") if last}
    rows = DiskUsage.objects.in_bulk({key for pair in keys.values() for key in pair})
    return {pk: (rows[first], rows[last]) for pk, (first, last) in keys.items()}


def _freed(roots: Sequence[StagingRoot], pairs: dict[int, tuple[DiskUsage, DiskUsage]]) -> dict[str, int]:
    """The allocated bytes that our clears gave back to each root's disk between its two samples, by the root's name."""
    between = Q(pk__in=[])
    for root in roots:
        if root.pk in pairs:
            first, last = pairs[root.pk]
            between |= Q(root_name=root.name, at__gt=first.at, at__lte=last.at)
    sums = LedgerEntry.objects.freeing().filter(between).order_by().values_list("root_name")
    return {name: int(size) for name, size in sums.annotate(size=bytes_sum("allocated_bytes", default=0))}


def _look_out(first: DiskUsage, last: DiskUsage, freed: int) -> Outlook:
    """Where the space used at two instants leads, with the allocated bytes that were freed between them."""
    seen = Outlook(at=last.at, total_bytes=last.total_bytes, free_bytes=last.free_bytes)
    span = last.at - first.at
    if span < SHORTEST_SPAN:
        return seen
    grown = (last.total_bytes - last.free_bytes) - (first.total_bytes - first.free_bytes)
    pace = (grown + freed) / (span / _DAY)
    fills = pace > 0 and last.free_bytes / pace < FURTHEST / _DAY
    return replace(seen, since=first.at, pace=pace, full_at=last.at + last.free_bytes / pace * _DAY if fills else None)
