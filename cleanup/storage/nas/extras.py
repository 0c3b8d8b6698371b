"""What lies in a twin and cannot be listed: no matter, unless a file that a comparison asks for lies there."""

import errno
import os
from collections.abc import Collection, Iterable
from typing import NamedTuple

from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage.run_paths import show


class Unread(NamedTuple):
    """A path in a twin that could not be listed or looked at, and the errno."""

    path: bytes
    code: int

    @property
    def problem(self) -> Finding:
        """What speaks against a run of which this is a part."""
        if self.code == errno.EXDEV:
            return mount_below(self.path, "in the copy itself")
        if self.code == errno.ENAMETOOLONG:
            return Finding(Reason.NAS_IO_ERROR, f"{show(self.path[:60])}… is nested too deeply")
        return Finding(Reason.NAS_IO_ERROR, f"{show(self.path)}: {os.strerror(self.code)}")


def mount_below(place: bytes, where: str = "") -> Finding:
    """Another filesystem is mounted at a path below a NAS root, or as `where` says."""
    return Finding(Reason.NAS_MOUNT_BELOW, f"another filesystem is mounted at {show(place)} {where}".rstrip())


def in_the_way(unread: Iterable[Unread], wanted: Collection[bytes] | None) -> Unread | None:
    """The first that is wanted, or a folder on the way to a wanted path; None if there is none.

    Without `wanted` all are.
    """
    found = list(unread)
    if not found or wanted is None:
        return found[0] if found else None
    ways = {b"/".join(steps[:count]) for steps in (path.split(b"/") for path in wanted) for count in _counts(steps)}
    return next((one for one in found if one.path in ways), None)


def _counts(steps: list[bytes]) -> range:
    return range(1, len(steps) + 1)
