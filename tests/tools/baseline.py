"""The database before the first test, and the way back to it after a transactional one.

Django's flush empties all tables, and post_migrate fills them again, which takes longer than most tests. This
only undoes what a test has left.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

Rows = list[tuple[Any, ...]]


class Baseline:
    """The rows of migrations and their handlers; every other table is empty between tests."""

    def __init__(self) -> None:
        with connection.cursor() as cursor:
            self._tables = sorted(connection.introspection.django_table_names(only_existing=True, include_views=False))
            self._rows = {table: _read(cursor, table) for table in self._filled(cursor)}

    def restore(self) -> None:
        from django_q.models import Schedule

        from cleanup.models import triggers as table_triggers

        with transaction.atomic(), connection.cursor() as cursor:
            _keep_writers_out(cursor, self._tables)
            suspects = {*self._filled(cursor), *self._rows}
            changed = sorted(table for table in suspects if not self._is_as_before(cursor, table))
            with _triggers_lifted(cursor, changed):
                for table in changed:
                    cursor.execute(f'DELETE FROM "{table}"')
                for table in changed:
                    _write(cursor, table, self._rows.get(table, []))
            Schedule.objects.update(next_run=timezone.now() + timedelta(seconds=5))
        if table_triggers.missing(connection):
            table_triggers.install(using=connection.alias)

    def _filled(self, cursor: Any) -> list[str]:
        cursor.execute(" UNION ALL ".join(_FILLED.format(table=table) for table in self._tables))
        return [table for (table,) in cursor.fetchall()]

    def _is_as_before(self, cursor: Any, table: str) -> bool:
        return table in self._rows and _read(cursor, table) == self._rows[table]


_FILLED = """SELECT '{table}' WHERE EXISTS (SELECT 1 FROM "{table}")"""


def _read(cursor: Any, table: str) -> Rows:
    cursor.execute(f'SELECT * FROM "{table}" ORDER BY 1')
    return cursor.fetchall()


def _write(cursor: Any, table: str, rows: Rows) -> None:
    for row in rows:
        cursor.execute(f'INSERT INTO "{table}" VALUES ({", ".join(["%s"] * len(row))})', row)


def _keep_writers_out(cursor: Any, tables: list[str]) -> None:
    """Wait for what a killed process had begun; on SQLite the transaction has done so."""
    if connection.vendor == "postgresql":
        cursor.execute(f"LOCK TABLE {', '.join(map(connection.ops.quote_name, tables))} IN SHARE ROW EXCLUSIVE MODE")


@contextmanager
def _triggers_lifted(cursor: Any, tables: list[str]) -> Iterator[None]:
    """Suspend the triggers that forbid emptying append-only tables."""
    if connection.vendor == "postgresql":
        for table in tables:
            cursor.execute(f'ALTER TABLE "{table}" DISABLE TRIGGER USER')
        yield
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # a table with pending checks is not altered
        for table in tables:
            cursor.execute(f'ALTER TABLE "{table}" ENABLE TRIGGER USER')
        return
    cursor.execute("SELECT tbl_name, name, sql FROM sqlite_master WHERE type = 'trigger'")
    triggers = [(name, sql) for table, name, sql in cursor.fetchall() if table in tables]
    for name, _sql in triggers:
        cursor.execute(f'DROP TRIGGER "{name}"')
    yield
    for _name, sql in triggers:
        cursor.execute(sql)
