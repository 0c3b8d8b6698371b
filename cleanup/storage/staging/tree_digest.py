"""The digest of a run's tree, by the status of each entry: while it stays, another look would see the same."""

import hashlib
import marshal
import operator
import os
import stat
from dataclasses import dataclass

from cleanup.storage import handles, linux
from cleanup.storage.mounts import mountinfo
from cleanup.storage.staging import run_tree

_name_of = operator.itemgetter(0)
# Without back references, which depend on how often a value is held.
_FORM = 2


@dataclass(frozen=True)
class TreeDigest:
    """`sha` changes with any entry; `newest_ns`: the newest change of status; `ino`: the run's own."""

    sha: str
    newest_ns: int
    ino: int


def of_parent(parent: int) -> bytes:
    """Returns what a look asks of the open folder that holds runs, as bytes. Raises OSError."""
    own = linux.status(parent)
    said = own.ino, own.mode, own.uid, own.is_fixed, run_tree.may_write(parent), os.geteuid()
    return repr((said, linux.project(parent))).encode()


def of_run(parent: int, name: bytes, beside: bytes) -> TreeDigest:
    """Returns the digest of a run beneath its open folder; `beside` goes into it.

    Raises OSError, also for a link and a mounted folder; `has_mounts_below` sees mounted files too.
    """
    seen, newest, ino = hashlib.sha256(beside), 0, 0
    pending = [name]
    while pending:
        path = pending.pop()
        descriptor = handles.open_beneath(parent, path)
        try:
            own = os.fstat(descriptor)
            found, below, changed_ns = _entries(descriptor)
        finally:
            os.close(descriptor)
        newest, ino = max(newest, own.st_ctime_ns, changed_ns), ino or own.st_ino
        pending += [path + b"/" + os.fsencode(inner) for inner in below]
        found.append((path, own.st_ino, own.st_dev, own.st_mode, own.st_uid, own.st_mtime_ns, own.st_ctime_ns))
        seen.update(marshal.dumps(found, _FORM))
    return TreeDigest(seen.hexdigest(), newest, ino)


def _entries(descriptor: int) -> tuple[list[tuple[object, ...]], list[str], int]:
    # What is asked of the entries, by name; the folders among them, whose own turn tells more; the newest change.
    found: list[tuple[object, ...]] = []
    below, newest = [], 0
    with os.scandir(descriptor) as entries:
        for entry in entries:
            status, name = entry.stat(follow_symlinks=False), entry.name
            mode, ino = status.st_mode, status.st_ino
            if stat.S_ISDIR(mode):
                below.append(name)
                found.append((name, ino))
                continue
            changed = status.st_ctime_ns
            if changed > newest:
                newest = changed
            # Links, owner and rights change with the time of the last change of status.
            found.append((name, mode, ino, status.st_size, status.st_blocks, status.st_mtime_ns, changed))
    found.sort(key=_name_of)
    return found, sorted(below, reverse=True), newest


def has_mounts_below(root: int) -> bool:
    """Returns whether anything is mounted beneath an open directory. Raises OSError."""
    top = os.readlink(f"/proc/self/fd/{root}").rstrip("/") + "/"
    return any(point.startswith(top) for point in mountinfo.mount_points())
