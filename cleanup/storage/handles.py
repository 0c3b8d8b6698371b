"""Files and folders by descriptors: open, read, write, lock, without following a link or crossing a mount."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator

from cleanup.storage import linux, run_paths

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """Close a descriptor at the end of a block."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_root(path: str) -> int:
    """Open a registered root. Raises OSError; ELOOP or ENOTDIR where its last step is a symbolic link."""
    return os.open(path, DIRECTORY)


def open_beneath(directory: int, path: bytes, flags: int = DIRECTORY) -> int:
    """Open beneath a descriptor without following links or crossing mounts. Raises OSError as `kernel.openat2`."""
    return linux.openat2(directory, path, flags)


def holds_anything(root: int) -> bool:
    """Whether a directory has any entry but a filesystem's own `lost+found`."""
    with os.scandir(root) as entries:
        return any(entry.name != "lost+found" for entry in entries)


def read_file(directory: int, name: bytes, limit: int) -> bytes:
    """The bytes of a regular file beneath a descriptor, at most `limit` and one more.

    Raises OSError; EINVAL for anything but a regular file.
    """
    with opened_file(directory, name) as descriptor:
        parts = []
        while limit >= 0 and (part := os.read(descriptor, min(limit + 1, 1 << 20))):
            parts.append(part)
            limit -= len(part)
    return b"".join(parts)


@contextlib.contextmanager
def opened_file(directory: int, name: bytes) -> Iterator[int]:
    """A regular file beneath a descriptor, open for reading. Raises OSError; EINVAL for anything else."""
    descriptor = open_beneath(directory, name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with opened(descriptor):
        if not linux.status(descriptor).is_file:
            raise OSError(errno.EINVAL, "not a regular file", run_paths.show(name))
        yield descriptor


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it, however many calls that takes. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def open_to_lock(directory: int, path: bytes) -> int:
    """Open an existing file to lock it; for writing where that is allowed, since NFS locks nothing else.

    Raises OSError.
    """
    flags = os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return open_beneath(directory, path, os.O_RDWR | flags)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    return open_beneath(directory, path, os.O_RDONLY | flags)


@contextlib.contextmanager
def flocked(descriptor: int) -> Iterator[None]:
    """Hold an exclusive flock on an open file or directory for a block. Raises BlockingIOError."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def with_write_permission(directory: int, act: Callable[[], None]) -> None:
    """Do something in a directory; if it is read-only and ours, make it writable first."""
    try:
        act()
    except PermissionError as error:
        mode = os.fstat(directory).st_mode
        if error.errno != errno.EACCES or mode & 0o300 == 0o300:
            raise
        os.fchmod(directory, mode & 0o7777 | 0o300)
        act()
