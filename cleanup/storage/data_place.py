"""Whether the data directory is still the one with which this program began: it can be moved, unmounted, mounted over.

What goes on by its path would begin a second life in another place: locks that exclude no process, an empty database.
"""

import errno
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LOCK = "up.lock"
# What lies in a data directory that was in use; a secret key, or static files, any command may have made.
_SIGNS = (LOCK, "db.sqlite3", "tombstones", "plans")
# What the processes that `up` and `worker` start are given: the identity of the lock that was taken.
VARIABLE = "UP_LOCK_IDENTITY"
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class KeptFiles:
    """Files that must stay where they are, by path, with the identity that each had when it was opened."""

    files: tuple[tuple[str, str], ...] = ()

    def lost(self) -> str:
        """The first of them that is not there any more, or is another one; empty: all are as they were."""
        return next((path for path, identity in self.files if identity_at(path) != identity), "")


def identity_of(descriptor: int) -> str:
    """What tells an open file from every other one for as long as it is open."""
    return _identity(os.fstat(descriptor))


def identity_at(path: str) -> str:
    """The same of what lies at a path; empty where nothing lies, or where that cannot be asked."""
    try:
        return _identity(os.stat(path))
    except OSError:
        return ""


def expect_same(data_dir: str) -> None:
    """Raise ESTALE in a process of `up` or `worker` whose data directory was taken away or replaced."""
    expected = os.environ.get(VARIABLE)
    if expected and identity_at(os.path.join(data_dir, LOCK)) != expected:
        raise OSError(errno.ESTALE, "the data directory was moved, unmounted or replaced", data_dir)


def was_in_use(data_dir: Path) -> bool:
    """Whether a directory looks like a data directory with a past."""
    return any((data_dir / name).exists() for name in _SIGNS)


def note_beside(data_dir: Path) -> Path:
    """Where it is noted that the data directory was taken away: beside it, so that no mount hides the note."""
    return data_dir.with_name(f"{data_dir.name}.taken-away.txt")


def notes_beside(data_dir: Path) -> list[Path]:
    """The same where the directory lies behind a link: beside the link, and beside what it leads to."""
    return list(dict.fromkeys(map(note_beside, (data_dir, Path(os.path.realpath(data_dir))))))


def missing_mount(path: Path, fstab: str, mounted: Iterable[str]) -> str:
    """The mount point at or above `path` that a table of filesystems lists and that is not mounted; else empty."""
    there = set(mounted)
    places = {str(place) for place in (path, *path.parents)}
    listed = (os.path.normpath(_unescaped(fields[1])) for fields in _lines(fstab))
    return next((point for point in listed if point in places and point != "/" and point not in there), "")


def _lines(fstab: str) -> Iterable[list[str]]:
    lines = (line.split() for line in fstab.splitlines() if not line.lstrip().startswith("#"))
    return (fields for fields in lines if len(fields) >= 3 and fields[1].startswith("/"))


def _unescaped(field: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), field)


def _identity(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}"
