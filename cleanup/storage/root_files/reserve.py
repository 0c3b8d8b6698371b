"""The reserve: 1 MiB at the top of a root, released when its disk is full."""

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
    """Lays the reserve at a root's top; False if it is there. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        found = linux.status(directory, RESERVE)
        if not found.is_file or found.size >= RESERVE_BYTES:
            return False
        os.unlink(RESERVE, dir_fd=directory)  # a crash left it unfinished
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
    """Removes the reserve; False if there was none."""
    try:
        os.unlink(RESERVE, dir_fd=directory)
    except FileNotFoundError:
        return False
    os.fsync(directory)
    return True


def with_reserve(directory: int, act: Callable[[], T], *, spare: int = 0) -> T:
    """Runs a write; on a full disk releases the reserve and repeats it. Raises OSError.

    Then lays the reserve again, as `renew_reserve`.
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
    """Lays the reserve if there is room for it and `spare` bytes."""
    with contextlib.suppress(OSError):
        if free_bytes(directory) >= spare + RESERVE_BYTES:
            lay_reserve(directory)


def free_bytes(directory: int) -> int:
    """Returns the bytes that this process may still write in a directory's filesystem."""
    found = os.fstatvfs(directory)
    return found.f_bavail * found.f_frsize
