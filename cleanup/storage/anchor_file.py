"""Files to which heads of the ledger's chain are appended, one a line. Nothing in them is changed or removed."""

import contextlib
import errno
import fcntl
import os
import stat
import time
import uuid

from cleanup.storage import handles, run_paths

# At the top of a NAS root, followed by the installation.
PREFIX = b".exlab-ledger-"
# Decades at a hundred lines a day.
MAX_BYTES = 16 << 20
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
    """Appends a line to a plain file in an open directory, durably; makes the file.

    Raises OSError: EINVAL for no plain file, EMLINK for one with a second name, EFBIG where it is full, EAGAIN while
    it is locked.
    """
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
            raise OSError(errno.EFBIG, "the file is full", run_paths.show(name))
        # What was cut off by a crash stays a line of its own.
        torn = status.st_size and os.pread(file, 1, status.st_size - 1) != b"\n"
        handles.write_all(file, (b"\n" if torn else b"") + line + b"\n")
        os.fsync(file)
    _sync(directory)


def read(directory: int, name: bytes) -> bytes:
    """Returns what a file holds, cut at MAX_BYTES; empty without one. Raises OSError."""
    try:
        return handles.read_file(directory, name, MAX_BYTES)[:MAX_BYTES]
    except FileNotFoundError:
        return b""


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
