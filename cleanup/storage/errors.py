"""What an error of the operating system means for a run."""

import errno
import os

from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason


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
