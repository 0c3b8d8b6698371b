"""Why the prover waits: others need the disk or the NAS, or it is not its hour."""

import enum
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from cleanup.lab.nas import nas_roots
from cleanup.models import ClearAttempt, Phase, Run, StagingRoot
from cleanup.rules.liveness import NO_PROGRESS_AFTER, WAITING
from cleanup.storage import disk_activity
from cleanup.storage.disk_activity import IoPressure

# More than the prover's own files and a quiet machine write.
WRITES_A_SECOND = 4 << 20
# Of the time, in percent: so long some process waits for a disk.
STALLED_PERCENT = 20.0
# A run that has changed since is being written.
WRITTEN_LATELY = timedelta(minutes=5)
_UNVERIFIED = 200
_FIRST_SAMPLE_SECONDS = 1.0


class Wait(enum.StrEnum):
    """Why no byte is read just now; stable codes, in the column `reason`."""

    INSTRUMENT = "instrument_writes"
    PRESSURE = "disk_busy"
    CLEAR = "clear_under_way"
    HOURS = "outside_hours"
    TAKEN_OVER = "taken_over"
    TIME = "time_is_over"
    LEASE = "lease_lost"
    SLOW = "limit_too_low"
    FRESH = "copy_just_written"


class Stopped(Exception):
    """The reading stops now and goes on later; `wait` says why."""

    def __init__(self, wait: Wait) -> None:
        super().__init__(wait)
        self.wait = wait


@dataclass
class DiskWatch:
    """What others do on one disk, between two looks at it."""

    device: int
    _seen: tuple[float, int] | None = None
    _pressure: IoPressure | None = field(default=None)

    def is_written_to(self) -> bool:
        """Whether others have written much since the last look; the prover only reads. The first look takes 1 s."""
        if self._seen is None:
            if self._look() is None:
                return False
            time.sleep(_FIRST_SAMPLE_SECONDS)
        before, now = self._seen, self._look()
        if before is None or now is None or now[0] <= before[0]:
            return False
        return (now[1] - before[1]) / (now[0] - before[0]) > WRITES_A_SECOND

    def _look(self) -> tuple[float, int] | None:
        written = disk_activity.written_bytes(self.device)
        self._seen = None if written is None else (time.monotonic(), written)
        return self._seen


def is_stalled() -> bool:
    """Whether processes wait for disks, by the last 10 s."""
    found = disk_activity.io_pressure()
    return found is not None and found.avg10 > STALLED_PERCENT


def stalled_percent(seconds: float) -> float:
    """The share of the next seconds in which some process waits for a disk, in percent.

    It is 0 where the kernel does not measure that. The prover reads nothing meanwhile: its own waiting does not count.
    """
    before = disk_activity.io_pressure()
    began = time.monotonic()
    time.sleep(seconds)
    after = disk_activity.io_pressure()
    if before is None or after is None:
        return 0.0
    return (after.total - before.total) / 10_000 / (time.monotonic() - began)


def is_open(root: StagingRoot, now: datetime) -> bool:
    """Whether proofs may be made at this hour of the lab."""
    start, end = root.prove_from, root.prove_until
    if start is None or end is None or start == end:
        return True
    at = timezone.localtime(now).time()
    return start <= at < end if start < end else at >= start or at < end


def opens_at(root: StagingRoot, now: datetime) -> datetime:
    """When the next hours begin; `now` if they are open."""
    if is_open(root, now) or root.prove_from is None:
        return now
    here = timezone.localtime(now)
    begin = here.replace(hour=root.prove_from.hour, minute=root.prove_from.minute, second=0, microsecond=0)
    return begin if begin > here else begin + timedelta(days=1)


def is_written(root: StagingRoot, now: datetime) -> bool:
    """Whether discovery saw a run there that is not verified and has just changed."""
    unverified = Run.objects.here().filter(root=root, state__in=["", *WAITING]).order_by("-pk")
    for text in unverified.values_list("facts__newest_data_at", flat=True)[:_UNVERIFIED]:
        newest = parse_datetime(text) if isinstance(text, str) else None
        if newest is not None and now - WRITTEN_LATELY < newest <= now + WRITTEN_LATELY:
            return True
    return False


def clears_there(roots: list[int], now: datetime) -> Q:
    """The attempts at work on these staging roots, by their keys; one that stands still keeps no proof waiting."""
    moving = now - NO_PROGRESS_AFTER
    at_work = Q(run__root__in=roots, phase__in=[Phase.INTENT, Phase.COMMITTED])
    return at_work & (Q(phase_at__gt=moving) | Q(progress_at__gt=moving))


def stops_for(run: Run, roots: list[int], now: datetime) -> Wait | None:
    """Whether a clear of this run has been asked for, or others are at work there; one query."""
    mine = Q(run=run, phase__in=ClearAttempt.ACTIVE)
    found = ClearAttempt.objects.filter(mine | clears_there(roots, now)).order_by().values_list("run", flat=True)[:100]
    keys = set(found)
    if run.pk in keys:
        return Wait.TAKEN_OVER
    return Wait.CLEAR if keys else None


def roots_on(nas: str) -> list[int]:
    """The staging roots, by key, that have copies on a NAS root, given by its token."""
    roots = StagingRoot.objects.all()
    return [root.pk for root in roots if nas in {each.token for each in nas_roots.nas_roots(root)}]
