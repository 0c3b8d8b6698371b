"""The file of a SQLite database: only `migrate` makes it."""

import os
from pathlib import Path

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

# Only clears make these, and they outlive a lost database.
_RECORDS = ("tombstones", "plans")


class NoDatabaseMade(Exception):
    """No database is made; the message says why."""


def path_of(database: BaseDatabaseWrapper) -> Path | None:
    """The path of a SQLite database file, else None."""
    name = str(database.settings_dict["NAME"])
    in_memory = name == ":memory:" or name.startswith("file:")
    return None if database.vendor != "sqlite" or in_memory else Path(name)


def lay(database: BaseDatabaseWrapper) -> None:
    """Make the empty file of a missing database. Raises NoDatabaseMade."""
    path = path_of(database)
    if path is None or path.exists():
        return
    data_dir = Path(settings.EXLAB_DATA_DIR)
    if path.parent == data_dir and (
        left := [name for name in _RECORDS if (data_dir / name).is_dir() and any((data_dir / name).iterdir())]
    ):
        raise NoDatabaseMade(
            f"{data_dir} holds records of clears ({', '.join(left)}) and no database. Put {path.name} back from a "
            "backup; to begin without it, move these folders elsewhere."
        )
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))
    except OSError as error:
        raise NoDatabaseMade(f"No database can be made at {path}: {os.strerror(error.errno or 0)}.") from None
