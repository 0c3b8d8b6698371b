"""inotify: the kernel tells what changes in a folder. A watch keeps no folder open, so its disk can be unmounted."""

import ctypes
import enum
import errno
import os
import select
import struct
from collections.abc import Iterator
from typing import NamedTuple, Self

_libc = ctypes.CDLL(None, use_errno=True)
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_BUFFER = 1 << 16
_ONLYDIR = 0x01000000
_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK


class Change(enum.IntFlag):
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


_ASKED = Change.ATTRIB | Change.CLOSE_WRITE | Change.MOVED_FROM | Change.MOVED_TO | Change.CREATE | Change.DELETE


class FolderEvent(NamedTuple):
    """One change in a watched folder; `watch` is its number, -1 where events were dropped."""

    watch: int
    change: Change
    name: bytes


class NoMoreWatches(OSError):
    """The limits of this user are reached (`fs.inotify.max_user_watches`, `…_instances`)."""


class FolderWatches:
    """Watches on folders. Closing it ends them all."""

    def __init__(self) -> None:
        """Raises NoMoreWatches."""
        self._descriptor: int = _libc.inotify_init1(_FLAGS)
        if self._descriptor < 0:
            raise _error()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._descriptor)

    def add(self, directory: int) -> int:
        """Watch an open directory, which may be closed then; returns the watch. Raises OSError, NoMoreWatches."""
        # By the descriptor: a path could lead elsewhere by now.
        path = f"/proc/self/fd/{directory}/.".encode()
        watch: int = _libc.inotify_add_watch(self._descriptor, path, ctypes.c_uint32(_ASKED | _ONLYDIR))
        if watch < 0:
            raise _error()
        return watch

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
            yield FolderEvent(watch, Change(mask & 0xFFFF), data[at - length : at].rstrip(b"\0"))


def _error() -> OSError:
    code = ctypes.get_errno()
    kind = NoMoreWatches if code in (errno.ENOSPC, errno.EMFILE) else OSError
    return kind(code, os.strerror(code))
