"""The reason for each error of the operating system."""

import enum
import errno
import os

from cleanup.rules.findings import Finding
from cleanup.rules.reasons import Reason


class UnsafePath(ValueError):
    """A path that no run can have."""


class WrongToken(Exception):
    """A root carries another token, `found`; None: no token."""

    def __init__(self, found: str | None) -> None:
        super().__init__(found)
        self.found = found


class MetAt(enum.IntEnum):
    """Where an error was met: a column of the table."""

    ON_THE_WAY = 0
    IN_THE_RUN = 1
    NAS_RECORD = 2


_LINKS, _MOUNTS = Reason.UNSAFE_PATH, Reason.MOUNT_INSIDE
_STAGING, _FORBIDDEN, _READ_ONLY = Reason.STAGING_IO_ERROR, Reason.PERMISSION_DENIED, Reason.NAS_NOT_WRITABLE
# errno: its reason on the way to a run, within the run, and at the record of its copy on the NAS.
_REASONS: dict[int, tuple[Reason, Reason, Reason]] = {
    errno.ENOENT: (Reason.MISSING_DIRECTORY, Reason.UNSAFE_PATH, Reason.NAS_IO_ERROR),
    errno.ELOOP: (_LINKS, _LINKS, _LINKS),
    errno.ENOTDIR: (_LINKS, _LINKS, _LINKS),
    errno.EXDEV: (_MOUNTS, _MOUNTS, _MOUNTS),
    errno.EACCES: (_FORBIDDEN, _FORBIDDEN, _READ_ONLY),
    errno.EPERM: (_FORBIDDEN, _FORBIDDEN, _READ_ONLY),
    errno.EROFS: (_STAGING, _STAGING, _READ_ONLY),
    errno.ENOSPC: (_STAGING, _STAGING, Reason.STORAGE_ERROR),
    errno.EDQUOT: (_STAGING, _STAGING, Reason.STORAGE_ERROR),
}
_ANY_OTHER = (_STAGING, _STAGING, Reason.NAS_IO_ERROR)


def reason_of(error: OSError, where: MetAt) -> Reason:
    """Returns the reason for an error, by its place."""
    return _REASONS.get(error.errno or 0, _ANY_OTHER)[where]


def words_of(error: OSError) -> str:
    """Returns the system's text for an error."""
    return os.strerror(error.errno or 0)


def way_blocked(error: OSError) -> Finding:
    """Returns the finding for an error on the way to a run."""
    return Finding(reason_of(error, MetAt.ON_THE_WAY), words_of(error))
