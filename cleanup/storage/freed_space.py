"""How much space a removal gave back, by the filesystem's count before and after."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cleanup.storage import linux
from cleanup.storage.mounts.mountinfo import mount_of
from cleanup.storage.removal_counts import Turn, counted

# btrfs, XFS and ZFS free space some time after an unlink, so they are synced and waited for.
PATIENCE_SECONDS = 30.0
# ZFS frees in steps of five seconds: a count that stands still for two steps after a sync has settled.
_SETTLED_SECONDS = 10.0
# Journals and logs come and go; a smaller difference says nothing.
NOISE_BYTES = 1 << 20
# A smaller removal is not waited for: other programs write as much.
SMALL_BYTES = 4 * NOISE_BYTES
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.001, 1.0
# XFS needs a moment but no sync, which would also write out the instruments' data.
_SYNC_AFTER_SECONDS = 0.03
# On these the space of an earlier removal may still be on its way, and writes count when they are written out.
_LATE = frozenset({"btrfs", "zfs", "bcachefs"})
_SYNC_FIRST_SECONDS = 2.0

# Values of `Gain.why`.
OVERLAPPED = "overlapped"
FELL = "fell"
MORE = "more"
SMALL = "small"
SLOW = "slow"


@dataclass(frozen=True, slots=True)
class DiskFill:
    """How full a filesystem is, in bytes; `unused` adds the superuser's reserve."""

    total: int
    free: int
    unused: int

    def count(self, *, reserved: bool) -> int:
        return self.unused if reserved else self.free


@dataclass(frozen=True, slots=True)
class Gain:
    """The bytes given back, or None and `why`; the fill before and after."""

    bytes: int | None = None
    why: str = ""
    before: DiskFill | None = None
    after: DiskFill | None = None


def fill_of(descriptor: int) -> DiskFill:
    """Returns how full an open file's filesystem is. Raises OSError."""
    found = os.fstatvfs(descriptor)
    total = (found.f_blocks - found.f_bfree + found.f_bavail) * found.f_frsize
    return DiskFill(total, found.f_bavail * found.f_frsize, found.f_bfree * found.f_frsize)


class Space:
    """A filesystem's free space since just before a removal."""

    def __init__(self, descriptor: int, turn: Turn, before: DiskFill) -> None:
        self._descriptor, self._turn, self._before = descriptor, turn, before
        # On a full disk the freed space may first go to the superuser's reserve.
        self._reserved = before.free == 0
        self._count = self._highest = before.count(reserved=self._reserved)
        self._fall = 0
        self._moved_at = time.monotonic()
        self._sync: threading.Thread | None = None

    def look(self) -> DiskFill:
        """Returns the fill now. Regular calls notice writes of other programs."""
        found = fill_of(self._descriptor)
        count = found.count(reserved=self._reserved)
        if count != self._count:
            self._count, self._moved_at = count, time.monotonic()
        self._highest = max(self._highest, count)
        self._fall = max(self._fall, self._highest - count)
        return found

    def gain(self, removed: int, *, patience: Callable[[], float]) -> Gain:
        """Returns what the removal of `removed` allocated bytes gave back.

        `patience` returns the longest wait in seconds.
        """
        after = self.look()
        if removed >= SMALL_BYTES and self._is_missing(after, removed):
            after = self._wait(removed, patience())
        return self._judge(after, removed)

    def _judge(self, after: DiskFill, removed: int) -> Gain:
        freed = self._freed(after)
        if not self._turn.was_alone():
            why = OVERLAPPED
        elif removed < SMALL_BYTES:
            why = SMALL if self._is_missing(after, removed) or freed > 2 * removed else ""
        elif self._is_missing(after, removed):
            why = FELL if self._fell(removed) else SLOW if self._is_syncing() else ""
        else:
            why = MORE if freed > 2 * removed else ""
        return Gain(None if why else max(freed, 0), why, self._before, after)

    def _is_missing(self, after: DiskFill, removed: int) -> bool:
        tolerance = max(removed // 10, NOISE_BYTES) if removed >= SMALL_BYTES else removed // 10
        return self._freed(after) < removed - tolerance

    def _freed(self, after: DiskFill) -> int:
        return after.count(reserved=self._reserved) - self._before.count(reserved=self._reserved)

    def _fell(self, removed: int) -> bool:
        # Other programs wrote this much: the missing space may have been freed and used again.
        return self._fall > max(removed // 100, NOISE_BYTES)

    def _wait(self, removed: int, patience: float) -> DiskFill:
        began, pause = time.monotonic(), _SHORTEST_PAUSE
        while True:
            after, waited = self.look(), time.monotonic() - began
            if waited >= patience or not self._is_missing(after, removed) or self._fell(removed) or self._has_settled():
                return after
            if waited >= _SYNC_AFTER_SECONDS and self._sync is None:
                self._sync = _start_sync(self._descriptor)
            time.sleep(min(pause, patience - waited))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _is_syncing(self) -> bool:
        if self._sync is not None and self._sync.is_alive():
            self._moved_at = time.monotonic()
            return True
        return False

    def _has_settled(self) -> bool:
        synced = self._sync is not None and not self._is_syncing()
        return synced and time.monotonic() - self._moved_at >= _SETTLED_SECONDS


@contextlib.contextmanager
def watched(descriptor: int, counter: str, *, planned: int) -> Iterator[Space]:
    """Watches free space during one removal of `planned` allocated bytes. Raises OSError.

    `counter`: see `removals.counted`.
    """
    with counted(counter) as turn:
        if planned >= SMALL_BYTES and mount_of(descriptor).fstype in _LATE:
            _start_sync(descriptor).join(_SYNC_FIRST_SECONDS)
        yield Space(descriptor, turn, fill_of(descriptor))


def _start_sync(descriptor: int) -> threading.Thread:
    # In a thread of its own: a sync with much to write takes longer than the wait allows.
    own = os.dup(descriptor)

    def sync() -> None:
        try:
            with contextlib.suppress(OSError):
                linux.sync_filesystem(own)
        finally:
            os.close(own)

    thread = threading.Thread(target=sync, name="sync", daemon=True)
    thread.start()
    return thread
