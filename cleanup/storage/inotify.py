"""inotify: the kernel tells what changes in a folder. A watch keeps no folder open, so its disk can be unmounted."""

import contextlib
import enum
import errno
import os
import select
import struct
from collections.abc import Iterator
from typing import NamedTuple, Self

from cleanup.storage import linux

_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_BUFFER = 1 << 16
_ONLYDIR = 0x01000000


class FolderChange(enum.IntFlag):
    """What may happen in a folder; `LOST`: events were dropped."""

    ATTRIB = 0x4
    CLOSE_WRITE = 0x8
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATE = 0x100
    DELETE = 0x200
    UNMOUNT = 0x2000
    LOST = 0x4000
    ENDED = 0x8000


_WRITTEN = FolderChange.ATTRIB | FolderChange.CLOSE_WRITE
_NAMED = FolderChange.MOVED_FROM | FolderChange.MOVED_TO | FolderChange.CREATE | FolderChange.DELETE
_ASKED = _WRITTEN | _NAMED


class FolderEvent(NamedTuple):
    """One change in a watched folder; `watch` is its number, -1 where events were dropped."""

    watch: int
    change: FolderChange
    name: bytes


class NoMoreWatches(OSError):
    """The limits of this user are reached (`fs.inotify.max_user_watches`, `…_instances`)."""


class FolderWatches:
    """Watches on folders. Closing it ends them all."""

    def __init__(self) -> None:
        """Raises NoMoreWatches."""
        with _limits_named():
            self._descriptor = linux.inotify()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._descriptor)

    def add(self, directory: int) -> int:
        """Watch an open directory, which may be closed then; returns the watch. Raises OSError, NoMoreWatches."""
        with _limits_named():
            return linux.watch(self._descriptor, directory, _ASKED | _ONLYDIR)

    def read(self, seconds: float) -> Iterator[FolderEvent]:
        """Yield what has happened; waits for it at most `seconds`."""
        ready, _, _ = select.select([self._descriptor], [], [], seconds)
        if not ready:
            return
        try:
            data = os.read(self._descriptor, _BUFFER)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            watch, mask, _cookie, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + length
            yield FolderEvent(watch, FolderChange(mask & 0xFFFF), data[at - length : at].rstrip(b"\0"))


@contextlib.contextmanager
def _limits_named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EMFILE):
            raise NoMoreWatches(error.errno, error.strerror) from None
        raise
