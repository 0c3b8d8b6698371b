"""The reserve: 1 MiB at the top of a root, given back to its disk on the day when that is full."""

import contextlib
import errno
import os
from collections.abc import Callable
from typing import TypeVar

from cleanup.storage import handles, linux

RESERVE = b".exlab-reserve"
RESERVE_BYTES = 1 << 20

T = TypeVar("T")


def lay_reserve(directory: int) -> bool:
    """Keep 1 MiB at the top of a root for the day when its disk is full; False when it is there. Raises OSError.

    One that a crash left unfinished is made anew.
    """
    with contextlib.suppress(FileNotFoundError):
        found = linux.status(directory, RESERVE)
        if not found.is_file or found.size >= RESERVE_BYTES:
            return False
        os.unlink(RESERVE, dir_fd=directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(RESERVE, flags, 0o600, dir_fd=directory)
    except FileExistsError:
        return False  # another process was faster
    try:
        with handles.opened(descriptor):
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            os.fsync(descriptor)
    except OSError:
        os.unlink(RESERVE, dir_fd=directory)
        raise
    return True


def release_reserve(directory: int) -> bool:
    """Give the reserved space back to a full disk. False if there was none."""
    try:
        os.unlink(RESERVE, dir_fd=directory)
    except FileNotFoundError:
        return False
    os.fsync(directory)
    return True


def with_reserve(directory: int, act: Callable[[], T], *, spare: int = 0) -> T:
    """Do a write; when the disk is full, release the reserve and do it once more. Raises OSError.

    The reserve is laid again when there is room for it and `spare` bytes.
    """
    try:
        result = act()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not release_reserve(directory):
            raise
        result = act()
    renew_reserve(directory, spare=spare)
    return result


def renew_reserve(directory: int, *, spare: int = 0) -> None:
    """Lay the reserve again if there is room for it and `spare` bytes; else the next clear does."""
    with contextlib.suppress(OSError):
        if free_bytes(directory) >= spare + RESERVE_BYTES:
            lay_reserve(directory)


def free_bytes(directory: int) -> int:
    """What this process may still write on the filesystem of an open directory."""
    found = os.fstatvfs(directory)
    return found.f_bavail * found.f_frsize
