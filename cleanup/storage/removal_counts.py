"""Counts the removals on a filesystem, so that a removal knows whether it ran alone."""

import contextlib
import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from cleanup.storage import handles

# The count is held for microseconds; a process that hangs with it must not block other removals.
_TRIES = 50
_PAUSE_SECONDS = 0.002
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def counter_of(filesystem: str) -> str:
    """Returns the name of the file that counts a filesystem's removals."""
    return hashlib.sha256(filesystem.encode("utf-8", "surrogateescape")).hexdigest()[:32]


@dataclass(frozen=True)
class Turn:
    """One counted removal."""

    _count: int
    _number: int
    _alone: bool

    def was_alone(self) -> bool:
        """Whether no other removal overlapped this one until now. Raises OSError."""
        with _held(self._count):
            return self._alone and os.fstat(self._count).st_size == self._number


@contextlib.contextmanager
def counted(path: str) -> Iterator[Turn]:
    """Counts a removal in the file at `path` for a block. Raises OSError."""
    with (
        handles.opened(os.open(path, _FLAGS, 0o600)) as count,
        handles.opened(os.open(f"{path}.active", _FLAGS, 0o600)) as active,
    ):
        with _held(count):
            alone = _locked(active, fcntl.LOCK_EX)
            fcntl.flock(active, fcntl.LOCK_SH | fcntl.LOCK_NB)
            number = os.fstat(count).st_size + 1
            os.ftruncate(count, number)  # a file's size can grow where the disk is full
        yield Turn(count, number, alone)


@contextlib.contextmanager
def _held(count: int) -> Iterator[None]:
    for _ in range(_TRIES):
        if _locked(count, fcntl.LOCK_EX):
            break
        time.sleep(_PAUSE_SECONDS)
    else:
        raise BlockingIOError(errno.EAGAIN, "the count of removals is held")
    try:
        yield
    finally:
        fcntl.flock(count, fcntl.LOCK_UN)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
