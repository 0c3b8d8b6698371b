"""What a reading ahead does twice a second: it counts, gives a sign of life, and stops for others who need the disk."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from django.utils import timezone

from cleanup.lab.nas.proving_leases import NasLease
from cleanup.models import ProvingRun, Run
from cleanup.runs.proving import waits
from cleanup.runs.proving.waits import DiskWatch, Stopped, Wait

_LOOK_SECONDS = 0.4
_PROGRESS_SECONDS = 2.0
_DISK_SECONDS = 5.0
_LIFE_SECONDS = 20.0
# What the reading itself makes others wait ends within this.
_REST_SECONDS = 2.0
# Where a rest has shown that the prover itself was what waited, the next one comes so much later.
_TRUSTED_SECONDS = 60.0


@dataclass
class ReadingBeat:
    """The progress callback of one reading; raises Stopped. `until`: by the monotonic clock."""

    run: Run
    lease: NasLease
    roots: list[int]
    disk: DiskWatch
    until: float
    alive: Callable[[], None]
    read: int = 0
    earlier: int = 0  # bytes that an interrupted reading has left
    begun: bool = False
    _parent: int = field(default_factory=os.getppid)
    _last: dict[float, float] = field(default_factory=dict)
    _trusted: float = 0.0

    def __call__(self, size: int) -> None:
        if not self.begun:  # without evidence of both sides nothing would come of it
            raise Stopped(Wait.FRESH)
        self.read += size
        if self._is_time(_LOOK_SECONDS):
            self.look()
        if self._is_time(_PROGRESS_SECONDS):
            rows = ProvingRun.objects.filter(pk=self.run.pk)
            rows.update(read_bytes=self.earlier + self.read, progress_at=timezone.now())
        if self._is_time(_LIFE_SECONDS):
            self.alive()
            if not self.lease.renew():
                raise Stopped(Wait.LEASE)
        if self._is_time(_DISK_SECONDS):
            self._look_at_disk()

    def look(self) -> None:
        """Stop for a clear of this run, or at work on its staging root or NAS, and at the end of the time."""
        if wait := waits.stops_for(self.run, self.roots, timezone.now()):
            raise Stopped(wait)
        if time.monotonic() > self.until or os.getppid() != self._parent:
            raise Stopped(Wait.TIME)

    def _look_at_disk(self) -> None:
        if self.disk.is_written_to():
            raise Stopped(Wait.INSTRUMENT)
        if time.monotonic() < self._trusted or not waits.is_stalled():
            return
        if waits.stalled_percent(_REST_SECONDS) > waits.STALLED_PERCENT:
            raise Stopped(Wait.PRESSURE)
        self._trusted = time.monotonic() + _TRUSTED_SECONDS

    def _is_time(self, every: float) -> bool:
        now = time.monotonic()
        if now - self._last.setdefault(every, now) < every:
            return False
        self._last[every] = now
        return True
