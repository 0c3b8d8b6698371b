"""inotify: the kernel tells what changes in a folder. A watch keeps no folder open, so its disk can be unmounted."""

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


_ASKED = (
    FolderChange.ATTRIB
    | FolderChange.CLOSE_WRITE
    | FolderChange.MOVED_FROM
    | FolderChange.MOVED_TO
    | FolderChange.CREATE
    | FolderChange.DELETE
)


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
        try:
            self._descriptor = linux.open_inotify()
        except OSError as error:
            raise _of_limits(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._descriptor)

    def add(self, directory: int) -> int:
        """Watch an open directory, which may be closed then; returns the watch. Raises OSError, NoMoreWatches."""
        try:
            return linux.watch_directory(self._descriptor, directory, _ASKED)
        except OSError as error:
            raise _of_limits(error) from None

    def read(self, seconds: float) -> Iterator[FolderEvent]:
        """Yield what has happened, after at most so many seconds of waiting."""
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


def _of_limits(error: OSError) -> OSError:
    return NoMoreWatches(error.errno, error.strerror) if error.errno in (errno.ENOSPC, errno.EMFILE) else error
