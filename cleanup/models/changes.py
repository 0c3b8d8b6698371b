"""Whether anything that pages show has changed: one question for every page.

Triggers note it in the transaction of the change. In SQLite, where only one writes at a time, they count in one row.
In PostgreSQL a counter would make all writers wait for each other, and a sequence would tell of a change before it is
there to be read: each transaction leaves a row with its own number, and a mark is a snapshot, which says what of these
it could see. What they told ten minutes ago concerns no page.
"""

import re
from datetime import datetime, timedelta
from typing import Any

from django.db import DataError, connection, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

# What pages show, and what decides who may see it. Not the heartbeats: they come each minute.
TABLES = (
    *(
        f"cleanup_{name}"
        for name in (
            *("access", "alert", "acceptedbytes", "bytecheck", "clearattempt", "clearbatch", "difference", "diskusage"),
            *("diskforecast", "problemcase", "casenote"),
            *("forecast", "hold", "instrument", "likeness", "nasbreaker", "orphan", "project", "retentionpolicy"),
            *("rootnote", "run", "setaside", "stagingroot", "surprise", "sweep", "sweepbreaker", "sweptrun"),
            *("rootrequest", "waitingrun"),
            *("accountname", "runreminder"),
        )
    ),
    *("auth_user", "auth_user_groups", "auth_user_user_permissions", "auth_group_permissions"),
)
KEPT_FOR = timedelta(minutes=10)
_VERBS = ("insert", "update", "delete")
_PREFIX = "cleanup_changed_"
_SNAPSHOT = re.compile(r"\d{1,18}:\d{1,18}:(\d{1,18}(,\d{1,18})*)?", re.ASCII)
_POSTGRES_FUNCTION = """
CREATE OR REPLACE FUNCTION cleanup_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO cleanup_change (mark, at) VALUES (pg_current_xact_id()::text::bigint, now()) ON CONFLICT DO NOTHING;
  RETURN NULL;
END $$
"""
_POSTGRES_NEWS = """
SELECT pg_current_snapshot()::text, EXISTS (
  SELECT 1 FROM cleanup_change WHERE mark >= pg_snapshot_xmin(%(mark)s::pg_snapshot)::text::bigint
  AND NOT pg_visible_in_snapshot(mark::text::xid8, %(mark)s::pg_snapshot))
"""


class NotedChange(models.Model):
    """SQLite: the only row counts changes. PostgreSQL: the number of a transaction that changed something."""

    mark = models.BigIntegerField(unique=True)
    at = models.DateTimeField()

    class Meta:
        db_table = "cleanup_change"

    def __str__(self) -> str:
        return str(self.mark)


def mark() -> str:
    """What has changed so far; ask before the page is read. Empty if it cannot be told."""
    with connection.cursor() as cursor:
        postgres = connection.vendor == "postgresql"
        cursor.execute("SELECT pg_current_snapshot()::text" if postgres else "SELECT mark FROM cleanup_change")
        row = cursor.fetchone()
    return str(row[0]) if row else ""


def nothing_since(before: str) -> bool:
    """Whether surely nothing has changed since a mark; a text that is no mark says no."""
    if connection.vendor != "postgresql":
        return bool(before) and mark() == before
    if not _SNAPSHOT.fullmatch(before):
        return False
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_POSTGRES_NEWS, {"mark": before})
            _now, news = cursor.fetchone()
    except DataError:  # numbers in an impossible order
        return False
    return not news


def forget_old(now: datetime) -> int:
    """Remove what no page asks for any more; returns how many rows."""
    if connection.vendor != "postgresql":
        return 0
    return NotedChange.objects.filter(at__lt=now - KEPT_FOR).delete()[0]


def install(*, using: str, **kwargs: Any) -> None:  # noqa: ANN401
    """Lay the triggers that do not stand; a handler of `post_migrate`, for SQLite drops them with a table.

    Those that stand stay: to lay one anew waits for everyone who uses its table.
    """
    database = connections[using]
    existing = set(database.introspection.table_names())
    if NotedChange._meta.db_table not in existing:
        return
    standing = _standing(database)
    with database.cursor() as cursor:
        if database.vendor == "postgresql":
            cursor.execute(_POSTGRES_FUNCTION)
        else:
            cursor.execute("INSERT OR IGNORE INTO cleanup_change (id, mark, at) VALUES (1, 1, '1970-01-01 00:00:00')")
        for table in sorted(existing.intersection(TABLES)):
            for verb in _VERBS:
                if f"{_PREFIX}{table}_{verb}" not in standing:
                    cursor.execute(_statement(database.vendor, table, verb))


def lift(*, using: str, **kwargs: Any) -> None:  # noqa: ANN401
    """Take the triggers away; a handler of `pre_migrate`. SQLite alters no table that another one's trigger names."""
    database = connections[using]
    if database.vendor == "sqlite":
        with database.cursor() as cursor:
            for name in _standing(database):
                cursor.execute(f'DROP TRIGGER "{name}"')


def _standing(database: BaseDatabaseWrapper) -> set[str]:
    if database.vendor == "postgresql":
        query = (
            "SELECT t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
            "WHERE t.tgname LIKE %s AND c.relnamespace = current_schema()::regnamespace"
        )
    else:
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE %s"
    with database.cursor() as cursor:
        cursor.execute(query, [f"{_PREFIX}%"])
        return {str(name) for (name,) in cursor.fetchall()}


def _statement(vendor: str, table: str, verb: str) -> str:
    beginning = f'CREATE TRIGGER "{_PREFIX}{table}_{verb}" AFTER {verb.upper()} ON "{table}"'
    if vendor == "postgresql":
        return f"{beginning} FOR EACH STATEMENT EXECUTE FUNCTION cleanup_changed()"
    return f"{beginning} BEGIN UPDATE cleanup_change SET mark = mark + 1; END"  # noqa: S608  # names of ours
