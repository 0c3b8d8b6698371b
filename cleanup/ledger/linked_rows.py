"""The links of the chain with their rows, read fast: columns as the database keeps them, without model objects."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple

from django.db import connection

from cleanup.ledger import chain
from cleanup.models import LedgerEntry, LedgerLink

_AT_ONCE = 5_000
_INSTANT = "at"
_KEY = "attempt_id"
_JSON = "decided_by"
_SQLITE_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{6}))?", re.ASCII)
_NAMES = tuple(sorted(chain.FIELDS[1]))
_ID = _NAMES.index("id")
_TEMPLATE = "{" + ",".join(f'"{name}":%s' for name in _NAMES) + "}"
_LINK = ("position", "entry_id", "form", "content_sha256", "sha256")


class LinkedRow(NamedTuple):
    """A link; `content`: its row's canonical content by form 1, None where the row is not there."""

    position: int
    entry_id: int
    form: int
    content_sha256: str
    sha256: str
    content: bytes | None


def linked_rows(after: int, upto: int) -> Iterator[LinkedRow]:
    """Yields the links beyond position `after` up to `upto`, in order, a few thousand at a time.

    `content` may differ from `chain.canonical` for values that no program of ours writes: let `chain` have the last
    word on a difference.
    """
    statement = _statement()
    while True:
        with connection.cursor() as cursor:
            cursor.execute(statement, [after, upto, _AT_ONCE])
            rows = cursor.fetchall()
        for row in rows:
            position, key, form, content_sha256, sha256, *values = row
            yield LinkedRow(position, key, form, content_sha256, sha256, content_of(values))
        if len(rows) < _AT_ONCE:
            return
        after = rows[-1][0]


def _statement() -> str:
    links = ", ".join(f'l."{name}"' for name in _LINK)
    return (
        f'SELECT {links}, {columns()} FROM "{LedgerLink._meta.db_table}" l '  # noqa: S608
        f'LEFT JOIN "{LedgerEntry._meta.db_table}" e ON e."id" = l."entry_id" '
        'WHERE l."position" > %s AND l."position" <= %s ORDER BY l."position" LIMIT %s'
    )


def columns() -> str:
    """Return what to select of the rows `e` for `content_of`."""
    return ", ".join(_column(name) for name in _NAMES)


def _column(name: str) -> str:
    column = f'e."{name}"'
    if connection.vendor != "postgresql":
        return f"CAST({column} AS text)" if name == _INSTANT else column  # else the driver parses it
    if name == _INSTANT:
        return f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
    if name == _KEY:
        return f"replace({column}::text, '-', '')"
    return f"{column}::text" if name == _JSON else column


def content_of(values: Sequence[Any]) -> bytes | None:
    """Return the canonical content of one row of `columns`; None where an outer join has found none."""
    if values[_ID] is None:  # a row has a key
        return None
    # Most of the check's time is spent here.
    parts = [
        encode_basestring_ascii(value) if type(value) is str else "null" if value is None else str(value)
        for value in values
    ]
    for place, said in _SAID:
        if type(value := values[place]) is str:
            parts[place] = said(value)
    return (_TEMPLATE % tuple(parts)).encode("ascii")


def _instant(text: str) -> str:
    # PostgreSQL writes it as it is meant; SQLite leaves a fraction of zero out. Anything else stays unlike.
    found = _SQLITE_INSTANT.fullmatch(text)
    return f'"{found[1]}T{found[2]}.{found[3] or "000000"}Z"' if found else encode_basestring_ascii(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    said = dict(pairs)
    if len(said) < len(pairs):
        raise ValueError("a name stands in it twice")  # SQLite takes the first one, Python the last
    return said


@lru_cache(maxsize=1024)
def _canonical_json(text: str) -> str:
    try:
        return json.dumps(json.loads(text, object_pairs_hook=_once), sort_keys=True, separators=(",", ":"))
    except ValueError:
        return encode_basestring_ascii(text)


_SAID: tuple[tuple[int, Callable[[str], str]], ...] = (
    (_NAMES.index(_INSTANT), _instant),
    (_NAMES.index(_JSON), _canonical_json),
)
