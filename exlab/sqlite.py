"""Opens only an SQLite database that exists: SQLite itself makes a missing one."""

import sqlite3
from typing import Any
from urllib.parse import quote


class ExistingDatabase(sqlite3.Connection):
    """A connection that makes no database.

    An empty one in an unmounted data directory would look like a lab without runs; only `migrate` and `up` make the
    file.
    """

    def __init__(self, database: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(existing(str(database)), *args, **kwargs)


def existing(database: str) -> str:
    """The name with which SQLite opens a file without making it; other names stay."""
    if database == ":memory:" or database.startswith("file:"):
        return database
    return f"file:{quote(database)}?mode=rw"
