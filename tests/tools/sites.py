"""A lab that many tests share: built and discovered once, its rows laid again for each test.

Building it takes longer than most of these tests. If a test has changed the disks, the next one gets a new
lab.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from tests.tools.lab import Lab

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Site:
    """A lab on disk, its rows, the state of its disks, and when that was (seconds)."""

    lab: Lab
    rows: dict[str, Rows]
    disks: dict[str, tuple[int, ...]]
    built_at: float


_sites: dict[str, Site] = {}


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
    after = _all_rows()
    # If an existing row has changed too, the new rows alone are not enough.
    if all(set(before[table]) <= set(after[table]) for table in before):
        new = {table: [row for row in rows if row not in before[table]] for table, rows in after.items()}
        _sites[name] = Site(lab, {table: rows for table, rows in new.items() if rows}, _disks(lab), time.monotonic())
    return lab


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
