"""Opens only an SQLite database that exists."""

import sqlite3
from typing import Any
from urllib.parse import quote


class ExistingDatabase(sqlite3.Connection):
    """Makes no database: an empty one in an unmounted data directory would look like a lab without runs."""

    def __init__(self, database: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(existing(str(database)), *args, **kwargs)


def existing(database: str) -> str:
    """SQLite opens a file by this name without making it."""
    if database == ":memory:" or database.startswith("file:"):
        return database
    return f"file:{quote(database)}?mode=rw"
