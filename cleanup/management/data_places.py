"""The data directory of `up` and `worker`: made where that is safe, and watched."""

import contextlib
import os
from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection
from django.utils import timezone

from cleanup.lab import sqlite_file
from cleanup.storage.data_directory import data_place
from cleanup.storage.data_directory.data_place import KeptFiles
from cleanup.storage.mounts import mountinfo
from exlab import places
from exlab.reading import WrongSettings

BAD_USAGE = 2
_FSTAB = Path("/etc/fstab")


def prepare(data_dir: Path) -> None:
    """Make a missing data directory. Raises CommandError if it, or the database, seems unmounted."""
    database = sqlite_file.path_of(connection)
    for place in (data_dir, *([database] if database else ())):
        _expect_mounted(place)
        _expect_back(place)
    try:
        places.make(data_dir)
        places.keep_secret_key(data_dir, settings.SECRET_KEY)
    except WrongSettings as error:
        raise CommandError(str(error), returncode=BAD_USAGE) from None


def place_of(lock: int) -> KeptFiles:
    """The files that must stay: the held lock, and a database in a file."""
    files = [(str(settings.EXLAB_DATA_DIR / data_place.LOCK), data_place.identity_of(lock))]
    if database := sqlite_file.path_of(connection):
        files.append((str(database), data_place.identity_at(str(database))))
    return KeptFiles(tuple(files))


def taken_away(data_dir: Path, lost: str) -> CommandError:
    """The error for a lost file; a note keeps a later start from making a new one."""
    of_directory = lost == str(data_dir / data_place.LOCK)
    place = data_dir if of_directory else Path(lost)
    problem = f"{_called(place)} was moved, unmounted or replaced while the program ran on it."
    if not _is_back(place):
        for note in data_place.notes_beside(place):
            with contextlib.suppress(OSError):  # the folder may be read-only
                note.write_text(f"{timezone.now():%Y-%m-%d %H:%M} UTC: {problem}\n")
    return CommandError(
        f"{problem} What lies at {lost} is not what it holds. No other is made in its place. Mount it or move it back, "
        f"or set {'EXLAB_DATA_DIR' if of_directory else 'DATABASE_URL'} to where it is now, then start again.",
        returncode=BAD_USAGE,
    )


def _called(place: Path) -> str:
    return f"The data directory {place}" if place == settings.EXLAB_DATA_DIR else f"The database {place}"


def _is_back(place: Path) -> bool:
    return data_place.was_in_use(place) if place == settings.EXLAB_DATA_DIR else place.exists()


def _expect_back(place: Path) -> None:
    notes = [note for note in data_place.notes_beside(place) if note.exists()]
    if not notes:
        return
    if not _is_back(place):
        note = notes[0]
        raise CommandError(
            f"{note} says that it was taken away while the program ran, and {place} is not back. Mount it or move it "
            "back. To begin anew without it, remove this note.",
            returncode=BAD_USAGE,
        )
    for note in notes:
        with contextlib.suppress(OSError):
            note.unlink()


def _expect_mounted(path: Path) -> None:
    """Raise CommandError if a path lies on an unmounted disk of /etc/fstab."""
    try:
        fstab = os.fsdecode(_FSTAB.read_bytes())
        missing = data_place.missing_mount(path.resolve(), fstab, mountinfo.mount_points())
    except OSError:
        return  # a container has no such table
    if missing:
        raise CommandError(
            f"{path} lies at or below {missing}, which stands in {_FSTAB} and is not mounted: an empty database would "
            "take the place of the real one. Mount it, then start again.",
            returncode=BAD_USAGE,
        )
