"""Files to which heads of the ledger's chain are appended, one a line. Nothing in them is changed or removed.

A full file stays as it is, and the next one gets a new name: NAME, NAME-2, NAME-3.
"""

import contextlib
import errno
import fcntl
import os
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from cleanup.storage import handles, run_paths

# At the top of a NAS root, followed by the installation.
PREFIX = b".exlab-ledger-"
# Of each file: two years at a hundred lines a day.
MAX_BYTES = 16 << 20
# Of one reading, so that many files need no memory.
PART = 1 << 20
_NUMBER = re.compile(rb"-([1-9]\d{0,5})")
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TO_APPEND = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
# Another host appends for an instant only.
_LOCK_TRIES, _LOCK_PAUSE = 20, 0.05
# Some network filesystems lock nothing: two hosts may then spoil one another's line, which its reader leaves out.
_LOCKS_NOTHING = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def name_of(installation: str) -> bytes:
    """Returns the name of an installation's file on a NAS root. Raises ValueError unless it is a UUID."""
    return PREFIX + str(uuid.UUID(installation)).encode("ascii")


def append(directory: int, name: bytes, line: bytes) -> None:
    """Appends a line to the newest of the plain files in an open directory, durably; makes the file.

    Raises OSError: EINVAL for no plain file, EMLINK for one with a second name, EFBIG where no number is left, EAGAIN
    while it is locked.
    """
    number = max(numbers(directory, name), default=1)
    while not _append(directory, _numbered(name, number), line):
        number += 1
        if not _NUMBER.fullmatch(b"-%d" % number):
            raise OSError(errno.EFBIG, "the last file is full", run_paths.show(name))
    _sync(directory)


def _append(directory: int, name: bytes, line: bytes) -> bool:
    """Returns whether there was room."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(name, _NEW, 0o644, dir_fd=directory))
    with handles.opened(handles.open_beneath(directory, name, _TO_APPEND)) as file:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, "no plain file", run_paths.show(name))
        _lock(file)
        status = os.fstat(file)
        if status.st_nlink != 1:
            raise OSError(errno.EMLINK, "it has a second name", run_paths.show(name))
        if status.st_size + len(line) + 2 > MAX_BYTES:
            return False
        # What was cut off by a crash stays a line of its own.
        torn = status.st_size and os.pread(file, 1, status.st_size - 1) != b"\n"
        handles.write_all(file, (b"\n" if torn else b"") + line + b"\n")
        os.fsync(file)
    return True


def numbers(directory: int, name: bytes) -> list[int]:
    """Returns which files there are, in their order; the first is 1. Raises OSError."""
    found = []
    for entry in map(os.fsencode, os.listdir(directory)):
        if entry == name:
            found.append(1)
        elif entry.startswith(name) and (match := _NUMBER.fullmatch(entry[len(name) :])) and match[1] != b"1":
            found.append(int(match[1]))
    return sorted(found)


def _numbered(name: bytes, number: int) -> bytes:
    return name if number == 1 else b"%s-%d" % (name, number)


def read_part(directory: int, name: bytes, number: int, at: int) -> bytes:
    """Returns the next bytes of a file, at most PART; empty at its end or at MAX_BYTES. Raises OSError."""
    size = min(PART, MAX_BYTES - at)
    with handles.opened_file(directory, _numbered(name, number)) as file:
        return os.pread(file, size, at) if size > 0 else b""


def read(directory: int, name: bytes) -> Iterator[bytes]:
    """Yields what the files hold, each cut at MAX_BYTES, in parts; nothing without one. Raises OSError."""
    yield from joined(numbers(directory, name), partial(read_part, directory, name))


def joined(found: Iterable[int], read_part: Callable[[int, int], bytes]) -> Iterator[bytes]:
    """Yields the parts of files that are known by number; a line that was cut off ends with its file."""
    for number in found:
        at, last = 0, b""
        while part := read_part(number, at):
            at, last = at + len(part), part
            yield part
        if last and not last.endswith(b"\n"):
            yield b"\n"


def _lock(file: int) -> None:
    # Until it is closed.
    for left in reversed(range(_LOCK_TRIES)):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not left:
                raise
            time.sleep(_LOCK_PAUSE)
        except OSError as error:
            if error.errno not in _LOCKS_NOTHING:
                raise
            return


def _sync(directory: int) -> None:
    # Some network filesystems cannot sync a folder.
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
