"""How a SQLite database is opened: only one that is there, since to open is to make in SQLite's own way."""

import sqlite3
from typing import Any
from urllib.parse import quote


class ExistingDatabase(sqlite3.Connection):
    """A connection that makes no database. In a data directory that is not mounted an empty one would look like a lab
    without runs; `migrate`, and `up` with it, makes the file before it opens it."""

    def __init__(self, database: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(existing(str(database)), *args, **kwargs)


def existing(database: str) -> str:
    """The name with which SQLite opens a file without making it. Names that are no paths stay as they are."""
    if database == ":memory:" or database.startswith("file:"):
        return database
    return f"file:{quote(database)}?mode=rw"
