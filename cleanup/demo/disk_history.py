"""How the demo's disk filled before the demo was made: invented, unlike every later measurement.

The size of the disk and what is free on it are those of the real disk. Only the way there is made up, so that charts
and forecasts have something to show at once.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from cleanup.lab.roots import disk_usage
from cleanup.models import DiskUsage, StagingRoot

_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
# It fills fastest in the last hours, at a pace by which it is full after this time.
_FAST = 10 * _HOUR
_FULL_AFTER = 20 * _HOUR
_LAST_DAYS = 8 * _DAY
_FORTNIGHT = 14 * _DAY
# No more than these parts of what is used now have come in the last hours, and in the days before.
_MOST_LATELY = 0.4
_MOST_BEFORE = 0.25


def invent(root: StagingRoot, now: datetime) -> None:
    """Replace the samples until now by an invented past and one real sample."""
    DiskUsage.objects.filter(root=root, at__lte=now).delete()
    today = disk_usage.measure(root, now)
    if today is None:
        return
    used = today.total_bytes - today.free_bytes
    lately = min(today.free_bytes * (_FAST / _FULL_AFTER), used * _MOST_LATELY)
    before = used * _MOST_BEFORE
    DiskUsage.objects.bulk_create(
        DiskUsage(
            root=root,
            at=now - ago,
            total_bytes=today.total_bytes,
            free_bytes=today.free_bytes + round(_less(ago, lately, before)),
        )
        for ago in _times()
    )


def _less(ago: timedelta, lately: float, before: float) -> float:
    """By how many bytes less the disk was filled so long ago."""
    if ago <= _FAST:
        return lately * (ago / _FAST)
    if ago <= _LAST_DAYS:
        return lately + before * (ago / _LAST_DAYS)
    # A fortnight's work came, and most of it was cleared.
    part = ((ago - _LAST_DAYS) % _FORTNIGHT) / _FORTNIGHT
    return lately + before * (0.3 + 0.7 * part)


def _times() -> Iterator[timedelta]:
    for number in range(1, 12 * 6 + 1):
        yield number * timedelta(minutes=10)
    for number in range(13, _LAST_DAYS // _HOUR):
        yield number * _HOUR
    for number in range(_LAST_DAYS // _DAY, disk_usage.KEPT // _DAY):
        yield number * _DAY
