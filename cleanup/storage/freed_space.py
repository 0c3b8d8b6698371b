"""How much space a removal gave back: the filesystem's own count before the first unlink and after the last.

btrfs, XFS and ZFS give space back some time after an unlink: they are asked to write out, and waited for.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cleanup.storage import linux
from cleanup.storage.mounts import mount_of
from cleanup.storage.removals import Turn, counted

PATIENCE_SECONDS = 30.0
# ZFS frees in steps of five seconds; what has not moved for two of them after a sync will not come back by itself.
_SETTLED_SECONDS = 10.0
# Other files come and go: a journal of the database, a log. Less than this says nothing.
NOISE_BYTES = 1 << 20
# So little is not waited for: what other programs write would be as much.
SMALL_BYTES = 4 * NOISE_BYTES
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.001, 1.0
# XFS needs a moment and no sync, which would write out what instruments have written as well.
_SYNC_AFTER_SECONDS = 0.03
# On these what an earlier removal gave back may be to come still, and what was written counts when it is written out.
_LATE = frozenset({"btrfs", "zfs", "bcachefs"})
_SYNC_FIRST_SECONDS = 2.0

# Why it cannot be told what a removal gave back.
OVERLAPPED = "overlapped"
FELL = "fell"
MORE = "more"
SMALL = "small"
SLOW = "slow"
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class DiskFill:
    """How full a filesystem is, in bytes for an ordinary user; `unused` adds what is reserved for the superuser."""

    total: int
    free: int
    unused: int

    def count(self, *, reserved: bool) -> int:
        """What is free, if asked for with what is reserved."""
        return self.unused if reserved else self.free


@dataclass(frozen=True, slots=True)
class Gain:
    """What a removal gave back in bytes, or None and `why`; how full the filesystem was `before` and `after`."""

    bytes: int | None = None
    why: str = ""
    before: DiskFill | None = None
    after: DiskFill | None = None


def fill_of(descriptor: int) -> DiskFill:
    """How full the filesystem of an open file is. Raises OSError."""
    found = os.fstatvfs(descriptor)
    total = (found.f_blocks - found.f_bfree + found.f_bavail) * found.f_frsize
    return DiskFill(total, found.f_bavail * found.f_frsize, found.f_bfree * found.f_frsize)


class Space:
    """The free space of a filesystem from just before a removal on, as `watched` gives it."""

    def __init__(self, descriptor: int, turn: Turn, before: DiskFill) -> None:
        self._descriptor, self._turn, self._before = descriptor, turn, before
        # Of a disk that is full what comes free may go to the reserve at first.
        self._reserved = before.free == 0
        self._count = self._highest = before.count(reserved=self._reserved)
        self._fall = 0
        self._moved_at = time.monotonic()
        self._sync: threading.Thread | None = None

    def look(self) -> DiskFill:
        """How full it is now. Called now and then, it shows whether other programs write. Raises OSError."""
        found = fill_of(self._descriptor)
        count = found.count(reserved=self._reserved)
        if count != self._count:
            self._count, self._moved_at = count, time.monotonic()
        self._highest = max(self._highest, count)
        self._fall = max(self._fall, self._highest - count)
        return found

    def gain(self, removed: int, *, patience: Callable[[], float]) -> Gain:
        """What a removal of so many allocated bytes gave back. Raises OSError.

        Where that must be waited for, `patience` says for how many seconds at most.
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
        """Whether clearly less has come back than was removed."""
        tolerance = max(removed // 10, NOISE_BYTES) if removed >= SMALL_BYTES else removed // 10
        return self._freed(after) < removed - tolerance

    def _freed(self, after: DiskFill) -> int:
        return after.count(reserved=self._reserved) - self._before.count(reserved=self._reserved)

    def _fell(self, removed: int) -> bool:
        """Whether so much was written meanwhile that what is missing may have come back and been used again."""
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
        """Whether the disk is still at writing out what it holds back."""
        if self._sync is not None and self._sync.is_alive():
            self._moved_at = time.monotonic()
            return True
        return False

    def _has_settled(self) -> bool:
        """Whether the disk was synced, and its count has stood still for so long that nothing is to be expected."""
        synced = self._sync is not None and not self._is_syncing()
        return synced and time.monotonic() - self._moved_at >= _SETTLED_SECONDS


@contextlib.contextmanager
def watched(descriptor: int, counter: str, *, planned: int) -> Iterator[Space]:
    """Watch the free space of an open directory's filesystem over one removal of `planned` allocated bytes.

    `counter` is the file that counts the removals there (see `removals`). Raises OSError.
    """
    with counted(counter) as turn:
        if planned >= SMALL_BYTES and mount_of(descriptor).fstype in _LATE:
            _start_sync(descriptor).join(_SYNC_FIRST_SECONDS)
        yield Space(descriptor, turn, fill_of(descriptor))


def _start_sync(descriptor: int) -> threading.Thread:
    """Sync a filesystem in a thread of its own: where much is to be written that may take longer than one waits."""
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
