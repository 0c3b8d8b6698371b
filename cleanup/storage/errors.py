"""What an error of the operating system means for a run."""

import errno
import os
from typing import NamedTuple

from cleanup.rules.gates import Finding
from cleanup.rules.reasons import Reason


class UnsafePath(ValueError):
    """A path that no run can have."""


class WrongToken(Exception):
    """A root does not carry the expected token; `found` is what it carries, None for no token at all."""

    def __init__(self, found: str | None) -> None:
        super().__init__(found)
        self.found = found


class Problem(NamedTuple):
    """Something on disk that speaks against a clear: the code of a reason (see `policy.reasons`) and what was seen."""

    reason: str
    detail: str = ""


def way_blocked(error: OSError) -> Finding:
    """The finding for an error met on the way to a run."""
    reasons = {
        errno.ENOENT: Reason.MISSING_DIRECTORY,
        errno.ELOOP: Reason.UNSAFE_PATH,
        errno.ENOTDIR: Reason.UNSAFE_PATH,
        errno.EXDEV: Reason.MOUNT_INSIDE,
        errno.EACCES: Reason.PERMISSION_DENIED,
        errno.EPERM: Reason.PERMISSION_DENIED,
    }
    return Finding(reasons.get(error.errno or 0, Reason.STAGING_IO_ERROR), os.strerror(error.errno or 0))
