"""Checks that the data directory is still the one with which this program began."""

import errno
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LOCK = "up.lock"
# Files of a data directory that was in use. Any command may make a secret key or static files, so they do not count.
_SIGNS = (LOCK, "db.sqlite3", "tombstones", "plans")
# Processes that `up` and `worker` start get the identity of the taken lock in this variable.
VARIABLE = "UP_LOCK_IDENTITY"
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class KeptFiles:
    """Files that must stay in place: path and identity when opened."""

    files: tuple[tuple[str, str], ...] = ()

    def lost(self) -> str:
        """Returns the first path that is gone or replaced; else empty."""
        return next((path for path, identity in self.files if identity_at(path) != identity), "")


def identity_of(descriptor: int) -> str:
    """Returns an identity that no other file has while this one is open."""
    return _identity(os.fstat(descriptor))


def identity_at(path: str) -> str:
    """As `identity_of`, by path; empty if that fails."""
    try:
        return _identity(os.stat(path))
    except OSError:
        return ""


def expect_same(data_dir: str) -> None:
    """Raises ESTALE if the data directory of `up` or `worker` was replaced."""
    # Behind a moved or unmounted path lie other locks, which exclude no process, and an empty database.
    expected = os.environ.get(VARIABLE)
    if expected and identity_at(os.path.join(data_dir, LOCK)) != expected:
        raise OSError(errno.ESTALE, "the data directory was moved, unmounted or replaced", data_dir)


def was_in_use(data_dir: Path) -> bool:
    """Whether a directory looks like a used data directory."""
    return any((data_dir / name).exists() for name in _SIGNS)


def note_beside(data_dir: Path) -> Path:
    """Returns the path of the note that the data directory was taken away."""
    # Beside the directory, so that no mount hides it.
    return data_dir.with_name(f"{data_dir.name}.taken-away.txt")


def notes_beside(data_dir: Path) -> list[Path]:
    """As `note_beside`, for the path and for the target of its link."""
    return list(dict.fromkeys(map(note_beside, (data_dir, Path(os.path.realpath(data_dir))))))


def missing_mount(path: Path, fstab: str, mounted: Iterable[str]) -> str:
    """Returns an unmounted mount point of `fstab` at or above `path`; else empty."""
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
