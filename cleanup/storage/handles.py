"""Files by descriptors, across no link and no mount. Most functions raise OSError."""

import contextlib
import errno
import fcntl
import itertools
import os
from collections.abc import Callable, Iterator

from cleanup.storage import linux, run_paths

_NAMES_TOGETHER = 10_000
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """Closes a descriptor at the end of a block."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_root(path: str) -> int:
    """Opens a registered root; a link raises ELOOP or ENOTDIR."""
    return os.open(path, DIRECTORY)


def open_beneath(directory: int, path: bytes, flags: int = DIRECTORY) -> int:
    """Opens beneath a descriptor; errors as `linux.openat2`."""
    return linux.openat2(directory, path, flags)


def holds_anything(root: int) -> bool:
    """Whether a directory has an entry besides `lost+found`."""
    with os.scandir(root) as entries:
        return any(entry.name != "lost+found" for entry in entries)


def names_in(directory: int) -> list[bytes]:
    """Returns the names in an open directory, in no order."""
    names: list[bytes] = []
    with os.scandir(directory) as entries:
        # One call encodes many; no name has a slash. All at once would take twice the room.
        while part := [entry.name for entry in itertools.islice(entries, _NAMES_TOGETHER)]:
            names += os.fsencode("/".join(part)).split(b"/")
    return names


def read_file(directory: int, name: bytes, limit: int) -> bytes:
    """Returns at most `limit` + 1 bytes of a regular file; other kinds raise EINVAL."""
    with opened_file(directory, name) as descriptor:
        parts = []
        while limit >= 0 and (part := os.read(descriptor, min(limit + 1, 1 << 20))):
            parts.append(part)
            limit -= len(part)
    return b"".join(parts)


@contextlib.contextmanager
def opened_file(directory: int, name: bytes) -> Iterator[int]:
    """Opens a regular file for reading; other kinds raise EINVAL."""
    descriptor = open_beneath(directory, name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with opened(descriptor):
        if not linux.status(descriptor).is_file:
            raise OSError(errno.EINVAL, "not a regular file", run_paths.show(name))
        yield descriptor


def write_all(descriptor: int, data: bytes) -> None:
    """Writes all bytes, in as many calls as needed."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def open_to_lock(directory: int, path: bytes) -> int:
    """Opens an existing file to lock it, for writing where allowed."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        # NFS locks only a file that is open for writing.
        return open_beneath(directory, path, os.O_RDWR | flags)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    return open_beneath(directory, path, os.O_RDONLY | flags)


@contextlib.contextmanager
def flocked(descriptor: int) -> Iterator[None]:
    """Holds an exclusive flock for a block. Raises BlockingIOError."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def with_write_permission(directory: int, act: Callable[[], None]) -> None:
    """Runs `act` in a directory; makes our own read-only directory writable first."""
    try:
        act()
    except PermissionError as error:
        mode = os.fstat(directory).st_mode
        if error.errno != errno.EACCES or mode & 0o300 == 0o300:
            raise
        os.fchmod(directory, mode & 0o7777 | 0o300)
        act()
