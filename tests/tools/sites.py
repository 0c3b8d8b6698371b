"""A lab that many tests share: built and discovered once, its rows laid again for each test.

Building it takes longer than most of these tests. If a test has changed the disks, the next one gets a new
lab.
"""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from django.db import IntegrityError, connection, transaction

from tests.tools.lab import Lab

Rows = list[tuple[Any, ...]]
T = TypeVar("T")


@dataclass(frozen=True)
class Site:
    """A lab on disk, its rows, the state of its disks, and when that was (seconds)."""

    lab: Lab
    rows: dict[str, Rows]
    disks: dict[str, tuple[int, ...]]
    built_at: float


_sites: dict[str, Site] = {}
_said: dict[Hashable, tuple[Any, dict[str, Rows]]] = {}


def lay(
    name: str, build: Callable[[Lab], None], directories: pytest.TempPathFactory, *, lasts: float = float("inf")
) -> Lab:
    """The lab of this name with its rows; `build` makes it if it is absent or changed.

    After `lasts` seconds of the real clock it is built anew.
    """
    site = _sites.get(name)
    if site and time.monotonic() < site.built_at + lasts and site.disks == _disks(site.lab) and _write(site.rows):
        return site.lab
    _sites.pop(name, None)
    lab = Lab(directories.mktemp(name) / "lab")
    before = _all_rows()
    build(lab)
    if (new := _since(before)) is not None:
        _sites[name] = Site(lab, new, _disks(lab), time.monotonic())
    return lab


def once(name: Hashable, write: Callable[[], T]) -> T:
    """What `write` returns, with the rows that it writes. The next time these are laid, and it is not called."""
    if name in _said and _write(_said[name][1]):
        said: T = _said[name][0]
        return said
    before = _all_rows()
    said = write()
    if (new := _since(before)) is not None:
        _said[name] = said, new
    return said


def _disks(lab: Lab) -> dict[str, tuple[int, ...]]:
    found = {}
    for path in [lab.base, *lab.base.rglob("*")]:
        status = path.lstat()
        found[str(path)] = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


def _all_rows() -> dict[str, Rows]:
    found = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.django_table_names(only_existing=True, include_views=False):
            cursor.execute(f'SELECT * FROM "{table}" ORDER BY 1')
            found[table] = cursor.fetchall()
    return found


def _since(before: dict[str, Rows]) -> dict[str, Rows] | None:
    """The new rows; None where one that was there has changed as well, and they do not tell it all."""
    after = _all_rows()
    if not all(set(before[table]) <= set(after[table]) for table in before):
        return None
    new = {table: [row for row in rows if row not in before[table]] for table, rows in after.items()}
    return {table: rows for table, rows in new.items() if rows}


def _write(rows: dict[str, Rows]) -> bool:
    """Write rows into tables; False where others have their keys."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            for table, those in rows.items():
                places = ", ".join(["%s"] * len(those[0]))
                cursor.executemany(f'INSERT INTO "{table}" VALUES ({places})', those)
    except IntegrityError:
        return False
    return True
