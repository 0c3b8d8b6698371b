"""What an account shows, as tables: one shape for pages, files and commands."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What a column holds. Its values: text; int; int of bytes; aware datetime; float of seconds. None is unknown."""

    TEXT = "text"
    COUNT = "count"
    BYTES = "bytes"
    INSTANT = "instant"
    SECONDS = "seconds"


@dataclass(frozen=True)
class Column:
    """`name` is the key in files and never changes its meaning; `title` is for people."""

    name: str
    title: str
    kind: Kind = Kind.TEXT


@dataclass(frozen=True)
class Table:
    """Rows in the order of the columns. `rows` may be read once only."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: Iterable[tuple[Any, ...]]
