"""How long the program waits for a database lock, and its message then."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import sqlite_version_info
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError

# Users reload a page that takes longer. SQLite's `timeout` in the settings is the same.
LONGEST_SECONDS = 10
# SQLite always knows JSON from this version on.
_JSON_SINCE = (3, 38)
# A migration locks whole tables.
_MIGRATION_SECONDS = 120
# A program that stands still in a transaction keeps its locks, the ledger's head among them, until PostgreSQL ends its
# session. No transaction of ours waits that long for anything but the database.
IDLE_SECONDS = 30
_SHOWN = 3
# PostgreSQL cuts longer names (bytes).
_LONGEST_NAME = 63

# Our own wait is over when this runs, so pg_blocking_pids shows only what others wait for. Sessions whose transaction
# is as old as our wait, with a lock that keeps writers out, may have held us up.
_HOLDERS = """
SELECT pid, application_name, usename, host(client_addr), state,
       extract(epoch FROM clock_timestamp() - xact_start)::int
FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND datname = current_database() AND wait_event_type IS DISTINCT FROM 'Lock'
  AND (xact_start IS NULL OR xact_start < clock_timestamp() - %(seconds)s * interval '1 second')
  AND pid IN (
    SELECT unnest(pg_blocking_pids(waiting.pid)) FROM pg_stat_activity waiting
    WHERE waiting.datname = current_database() AND waiting.wait_event_type = 'Lock'
    UNION
    SELECT pid FROM pg_locks
    WHERE granted AND locktype = 'relation' AND mode NOT IN ('AccessShareLock')
      AND (%(table)s::text IS NULL OR relation = to_regclass(%(table)s::text))
  )
ORDER BY xact_start NULLS LAST, pid LIMIT %(most)s
"""


@dataclass(frozen=True, kw_only=True)
class LockSession:
    """A database session that may hold the lock; unknowns are empty."""

    process: int
    program: str
    user: str
    address: str
    idle: bool
    seconds: int | None

    def __str__(self) -> str:
        names = ", ".join(part for part in (self.program, self.user and f"user {self.user}", self.address) if part)
        at_it = "" if self.seconds is None else f", in its transaction for {self.seconds} s"
        return f"process {self.process} ({names}{at_it}{', idle' if self.idle else ''})"


def limit(*, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:  # noqa: ANN401
    """Let a new connection wait at most LONGEST_SECONDS; handles `connection_created`.

    On PostgreSQL a transaction may stand still for IDLE_SECONDS, and so may a network that takes nothing. There it also
    names the connection for others to see. SQLite is told its limit when it is opened.
    """
    if connection.vendor != "postgresql":
        if sqlite_version_info >= _JSON_SINCE:
            # Django asks the database itself, and takes a busy one for one without JSON as long as the process lives.
            connection.features.supports_json_field = True
        return
    name = "coalesce(nullif(current_setting('application_name'), ''), %s)"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT set_config('application_name', {name}, false)", [_what_runs()])
        _set_limit(cursor, connection, LONGEST_SECONDS)
        _set_idle(cursor, connection, IDLE_SECONDS)
        cursor.execute("SELECT set_config('tcp_user_timeout', %s, false)", [f"{IDLE_SECONDS}s"])


def lift(*, using: str, **kwargs: Any) -> None:  # noqa: ANN401
    """Let a migration wait longer, and compute between its statements; handles `pre_migrate`."""
    _change(using, _MIGRATION_SECONDS, idle=0)


def restore(*, using: str, **kwargs: Any) -> None:  # noqa: ANN401
    """Restore the limit after a migration; handles `post_migrate`."""
    _change(using, LONGEST_SECONDS, idle=IDLE_SECONDS)


@contextmanager
def not_waiting() -> Iterator[None]:
    """For a write that may be left out: SQLite refuses it at once while another writes."""
    if connection.vendor != "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        before = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
        cursor.execute("PRAGMA busy_timeout = 0")
        try:
            yield
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {before}")


def is_at_fault(error: BaseException | None) -> bool:
    """Whether an error, or its cause, is a lock not got in time."""
    return any(_is_of_a_lock(one) for one in _chain(error))


def say(error: BaseException) -> str:
    """The message for such an error; empty for any other."""
    if not is_at_fault(error):
        return ""
    begin = f"The database was busy with something else for {LONGEST_SECONDS} seconds, so this was given up."
    holders = "; ".join(map(str, find_holders(error)))
    return f"{begin} {f'Busy: {holders}. ' if holders else ''}Try again in a moment."


def find_holders(error: BaseException) -> list[LockSession]:
    """The sessions that may hold the lock, longest first; empty if unknown."""
    if connection.vendor != "postgresql":
        return []
    asked = {"seconds": LONGEST_SECONDS - 1, "table": _table_of(error), "most": _SHOWN}
    try:
        with connection.cursor() as cursor:
            cursor.execute(_HOLDERS, asked)
            return [_holder(*row) for row in cursor.fetchall()]
    except (DatabaseError, TransactionManagementError):
        return []  # in a transaction that has failed nothing can be asked


def _holder(
    pid: int,
    program: str | None,
    user: str | None,
    address: str | None,
    state: str | None,
    s: Any,  # noqa: ANN401
) -> LockSession:
    idle = (state or "").startswith("idle")
    return LockSession(process=pid, program=program or "", user=user or "", address=address or "", idle=idle, seconds=s)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_of_a_lock(error: BaseException) -> bool:
    busy = str(getattr(error, "sqlite_errorname", "")).startswith("SQLITE_BUSY")
    return busy or getattr(error, "sqlstate", None) == "55P03"


def _table_of(error: BaseException) -> str | None:
    """The quoted relation in PostgreSQL's error context."""
    for one in _chain(error):
        context = getattr(getattr(one, "diag", None), "context", None)
        if context and (named := re.search(r'"\w+"', context)):
            return named.group()
    return None


def _change(using: str, seconds: int, *, idle: int) -> None:
    from django.db import connections

    changed = connections[using]
    with changed.cursor() as cursor:
        _set_limit(cursor, changed, seconds)
        _set_idle(cursor, changed, idle)


def _set_idle(cursor: Any, connection: BaseDatabaseWrapper, seconds: int) -> None:  # noqa: ANN401
    # SQLite has one writer on one host, and nothing that could end a program which stands still.
    if connection.vendor == "postgresql":
        cursor.execute("SELECT set_config('idle_in_transaction_session_timeout', %s, false)", [f"{seconds}s"])


def _set_limit(cursor: Any, connection: BaseDatabaseWrapper, seconds: int) -> None:  # noqa: ANN401
    if connection.vendor == "postgresql":
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{seconds}s"])
    else:
        cursor.execute(f"PRAGMA busy_timeout = {seconds * 1000}")


def _what_runs() -> str:
    """For example `exlab sweep on labpc-04`."""
    program = Path(sys.argv[0])
    if program.name == "manage.py":
        doing = " ".join(sys.argv[1:2])
    else:
        doing = "web server" if "gunicorn" in program.parts or program.name == "gunicorn" else f"in {program.name}"
    return f"exlab {doing} on {settings.EXLAB_HOST}"[:_LONGEST_NAME]
