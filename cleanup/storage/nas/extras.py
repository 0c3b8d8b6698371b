"""Parts of a twin that cannot be listed: they matter only if a wanted file lies there."""

import errno
import os
from collections.abc import Collection, Iterable
from typing import NamedTuple

from cleanup.rules.findings import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage.run_paths import show


class Unread(NamedTuple):
    """A path in a twin that could not be read, and the errno."""

    path: bytes
    code: int

    @property
    def problem(self) -> Finding:
        if self.code == errno.EXDEV:
            return mount_below(self.path, "in the copy itself")
        if self.code == errno.ENAMETOOLONG:
            return Finding(Reason.NAS_IO_ERROR, f"{show(self.path[:60])}… is nested too deeply")
        return Finding(Reason.NAS_IO_ERROR, f"{show(self.path)}: {os.strerror(self.code)}")


def mount_below(place: bytes, where: str = "") -> Finding:
    """Returns the finding for another filesystem mounted below a NAS root."""
    return Finding(Reason.NAS_MOUNT_BELOW, f"another filesystem is mounted at {show(place)} {where}".rstrip())


def in_the_way(unread: Iterable[Unread], wanted: Collection[bytes] | None) -> Unread | None:
    """Returns the first unread path on the way to a `wanted` one (None: any)."""
    found = list(unread)
    if not found or wanted is None:
        return found[0] if found else None
    ways = {b"/".join(steps[:count]) for steps in (path.split(b"/") for path in wanted) for count in _counts(steps)}
    return next((one for one in found if one.path in ways), None)


def _counts(steps: list[bytes]) -> range:
    return range(1, len(steps) + 1)
