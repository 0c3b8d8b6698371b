"""Triggers that keep tables append-only, and rows of the ledger to their links.

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
# A row of the ledger follows its link in the chain; the link's reference keeps a link from standing without its row.
_LINKED = "cleanup_ledgerentry"
_LINKS = "cleanup_ledgerlink"
_UNLINKED = f"rows of {_LINKED} are written with their link in the chain"
_POSTGRES_LINKED = f"""
CREATE OR REPLACE FUNCTION cleanup_linked() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM "{_LINKS}" WHERE entry_id = NEW.id) THEN RAISE EXCEPTION '{_UNLINKED}'; END IF;
  RETURN NULL;
END $$
"""  # noqa: S608


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
            cursor.execute(_POSTGRES_LINKED)
        for table in sorted(existing.intersection(tables())):
            for statement in _statements(connection.vendor, table):
                cursor.execute(statement)


def lift(*, using: str, **kwargs: Any) -> None:  # noqa: ANN401
    """Take away the trigger that names a second table, until `install`; a handler of `pre_migrate`.

    SQLite alters no table while the trigger of another one names it.
    """
    connection = connections[using]
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f'DROP TRIGGER IF EXISTS "{_LINKED}_append_only_insert"')


def remove(connection: BaseDatabaseWrapper) -> None:
    """Only for a flush between tests."""
    with connection.cursor() as cursor:
        for table, name in standing(connection):
            on = f' ON "{table}"' if connection.vendor == "postgresql" else ""
            cursor.execute(f'DROP TRIGGER "{name}"{on}')


def missing(connection: BaseDatabaseWrapper) -> list[str]:
    standing_tables = [table for table, _name in standing(connection)]
    wanted = 3 if connection.vendor == "postgresql" else 2
    return [table for table in tables() if standing_tables.count(table) < wanted + (table == _LINKED)]


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
        linked = "EXECUTE FUNCTION cleanup_linked()"
        never = [
            f'CREATE TRIGGER "{table}_append_only_{verb.lower()}" BEFORE {verb} ON "{table}" '
            f"FOR EACH {'STATEMENT' if verb == 'TRUNCATE' else 'ROW'} EXECUTE FUNCTION cleanup_append_only()"
            for verb in ("UPDATE", "DELETE", "TRUNCATE")
        ]
    else:
        linked = (
            f'WHEN NOT EXISTS (SELECT 1 FROM "{_LINKS}" WHERE entry_id = NEW.id) '  # noqa: S608
            f"BEGIN SELECT RAISE(ABORT, '{_UNLINKED}'); END"
        )
        never = [
            f'CREATE TRIGGER "{table}_append_only_{verb.lower()}" BEFORE {verb} ON "{table}" '
            f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are never changed or removed'); END"
            for verb in ("UPDATE", "DELETE")
        ]
    if table != _LINKED:
        return never
    return [*never, f'CREATE TRIGGER "{table}_append_only_insert" AFTER INSERT ON "{table}" FOR EACH ROW {linked}']
