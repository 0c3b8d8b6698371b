"""What kernel and database must offer before this host clears."""

from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import linux

# With these a committed row survives a power cut, and REPLACE cannot bypass the triggers.
_SQLITE_PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "recursive_triggers": 1, "foreign_keys": 1}
_POSTGRES_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes")


def hindrances() -> tuple[Finding, ...]:
    """Why nothing may be cleared here now; empty if nothing prevents it."""
    found: tuple[Finding, ...] = ()
    if missing := linux.missing_calls():
        found += (Finding(Reason.CLEARING_UNSUPPORTED, f"missing: {', '.join(missing)}"),)
    if lapses := durability_lapses(connection):
        found += (Finding(Reason.DATABASE_NOT_DURABLE, ", ".join(lapses)),)
    return found


def durability_lapses(database: BaseDatabaseWrapper) -> list[str]:
    """Settings with which a database may lose a commit."""
    return _sqlite_lapses(database) if database.vendor == "sqlite" else _postgres_lapses(database)


def _sqlite_lapses(database: BaseDatabaseWrapper) -> list[str]:
    with database.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {', '.join(f'pragma_{name}' for name in _SQLITE_PRAGMAS)}")  # noqa: S608
        found = dict(zip(_SQLITE_PRAGMAS, cursor.fetchone(), strict=True))
    return [f"{name} is {found[name]}" for name, wanted in _SQLITE_PRAGMAS.items() if found[name] != wanted]


def _postgres_lapses(database: BaseDatabaseWrapper) -> list[str]:
    with database.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_settings WHERE name = ANY(%s) AND setting = 'off'", [[*_POSTGRES_SETTINGS]])
        return [f"{name} is off" for (name,) in cursor.fetchall()]
