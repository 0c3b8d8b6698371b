"""Triggers that keep tables append-only.

Laid after every migrate: SQLite drops them silently when a migration remakes a table.
"""

from typing import Any

from django.apps import apps
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from cleanup.models import AppendOnly

_POSTGRES_FUNCTION = """
CREATE OR REPLACE FUNCTION cleanup_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'rows of % are never changed or removed', TG_TABLE_NAME; END $$
"""


def tables() -> list[str]:
    models = apps.get_app_config("cleanup").get_models()
    return [model._meta.db_table for model in models if issubclass(model, AppendOnly)]


def install(*, using: str, **kwargs: Any) -> None:  # noqa: ANN401
    """Lay the triggers; a handler of `post_migrate`."""
    connection = connections[using]
    existing = set(connection.introspection.table_names())
    remove(connection)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(_POSTGRES_FUNCTION)
        for table in sorted(existing.intersection(tables())):
            for statement in _statements(connection.vendor, table):
                cursor.execute(statement)


def remove(connection: BaseDatabaseWrapper) -> None:
    """Only for a flush between tests."""
    with connection.cursor() as cursor:
        for table, name in standing(connection):
            on = f' ON "{table}"' if connection.vendor == "postgresql" else ""
            cursor.execute(f'DROP TRIGGER "{name}"{on}')


def missing(connection: BaseDatabaseWrapper) -> list[str]:
    standing_tables = [table for table, _name in standing(connection)]
    wanted = 3 if connection.vendor == "postgresql" else 2
    return [table for table in tables() if standing_tables.count(table) < wanted]


def standing(connection: BaseDatabaseWrapper) -> list[tuple[str, str]]:
    """As (table, name)."""
    if connection.vendor == "postgresql":
        query = (
            "SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
            "WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgname LIKE %s "
            "AND c.relnamespace = current_schema()::regnamespace"
        )
    else:
        query = "SELECT tbl_name, name FROM sqlite_master WHERE type = 'trigger' AND name LIKE %s"
    with connection.cursor() as cursor:
        cursor.execute(query, ["%_append_only_%"])
        return [(str(table), str(name)) for table, name in cursor.fetchall()]


def _statements(vendor: str, table: str) -> list[str]:
    if vendor == "postgresql":
        return [
            f'CREATE TRIGGER "{table}_append_only_{verb.lower()}" BEFORE {verb} ON "{table}" '
            f"FOR EACH {'STATEMENT' if verb == 'TRUNCATE' else 'ROW'} EXECUTE FUNCTION cleanup_append_only()"
            for verb in ("UPDATE", "DELETE", "TRUNCATE")
        ]
    return [
        f'CREATE TRIGGER "{table}_append_only_{verb.lower()}" BEFORE {verb} ON "{table}" '
        f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are never changed or removed'); END"
        for verb in ("UPDATE", "DELETE")
    ]
