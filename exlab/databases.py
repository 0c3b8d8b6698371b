"""Whether the database can be used, else a sentence that says what to do."""

import enum
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor

from exlab import places

_APP = "cleanup"
_MIGRATE = "run `manage.py migrate` (or `up`)"

# What a server says, and what mends it; the first match counts.
_MENDS = (
    (
        r"password|authentication|role .* does not exist|pg_hba",
        "mend user or password in it",
    ),
    (r"database .* does not exist", "mend the name in it, or make that database by `createdb`"),
    (r"resolve|translate|not known|name resolution", "mend the host in it"),
    (
        r"refused|timeout expired|timed out|unreachable|no route|no such file",
        "start the server there, or mend host and port in it",
    ),
    (r"ssl|certificate", "mend what stands behind its question mark, as in ?sslmode=require"),
    (r"too many|slots", "let the server take more connections (max_connections)"),
    (r"starting up|shutting down|recovery", "try again in a moment"),
)


class Kind(enum.Enum):
    UNUSABLE = enum.auto()
    EMPTY = enum.auto()  # there is none yet, or it holds no tables of ours
    BEHIND = enum.auto()
    AHEAD = enum.auto()


@dataclass(frozen=True)
class Trouble:
    kind: Kind
    said: str

    @property
    def can_be_migrated(self) -> bool:
        return self.kind in (Kind.EMPTY, Kind.BEHIND)


def trouble(connection: BaseDatabaseWrapper) -> Trouble | None:
    """Why the database cannot be used, or None; never makes one.

    Raises OperationalError if another program keeps it busy.
    """
    found = _trouble_of_file(connection) if connection.vendor == "sqlite" else None
    return found or _trouble_of_connection(connection)


def is_busy(error: BaseException) -> bool:
    """Another program's lock is no fault of a setting."""
    cause = error.__cause__ or error
    busy = str(getattr(cause, "sqlite_errorname", "")).startswith("SQLITE_BUSY")
    return busy or getattr(cause, "sqlstate", None) == "55P03"


def _trouble_of_connection(connection: BaseDatabaseWrapper) -> Trouble | None:
    try:
        connection.ensure_connection()
        if connection.vendor == "postgresql" and _is_read_only(connection):
            return _unusable(connection, "the server takes no writes, as a standby does", "name the one that does")
        return _trouble_of_tables(connection)
    except (DatabaseError, InterfaceError) as error:
        if is_busy(error):
            raise
        return _unusable(connection, *_why(connection, error))


def _trouble_of_tables(connection: BaseDatabaseWrapper) -> Trouble | None:
    loader = (executor := MigrationExecutor(connection)).loader
    applied = {name for app, name in loader.applied_migrations if app == _APP}
    known = {name for app, name in loader.disk_migrations if app == _APP}
    replaced = {name for migration in loader.disk_migrations.values() for _app, name in migration.replaces}
    if newer := sorted(applied - known - replaced):
        said = f"the database was changed by a newer version of this program ({newer[-1]}); start that one"
        return Trouble(Kind.AHEAD, f"{_setting(connection)}: {said} or name another database.")
    waiting = [migration for migration, _backwards in executor.migration_plan(loader.graph.leaf_nodes())]
    if not waiting:
        return None
    if not applied:
        return Trouble(Kind.EMPTY, f"{_setting(connection)}: the database holds no tables yet; {_MIGRATE}.")
    said = f"the database is not of this version, {len(waiting)} migrations are missing ({waiting[0].name} first)"
    return Trouble(Kind.BEHIND, f"{_setting(connection)}: {said}; {_MIGRATE} on one host.")


def _trouble_of_file(connection: BaseDatabaseWrapper) -> Trouble | None:
    name = str(connection.settings_dict["NAME"])
    if not os.path.isabs(name):
        return None  # in memory: only tests use it
    path = Path(name)
    who, folder = places.account(), path.parent
    if os.path.isdir(folder):
        if not os.access(folder, os.W_OK | os.X_OK):
            return _unusable(connection, f"{who} may not write beside {path}", _give_back(folder))
    elif folder != settings.EXLAB_DATA_DIR:
        said = f"the folder of {path} is not there for {who}"
        return _unusable(connection, said, "mount, make or open it, or name another file")
    if not os.path.lexists(path):
        said = f"{_setting(connection)}: there is no database yet at {path}; {_MIGRATE} or name another place."
        return Trouble(Kind.EMPTY, said)
    if not os.path.isfile(path):
        return _unusable(connection, f"{path} is no file", "name the file of a database")
    for end in ("", "-wal", "-shm", "-journal"):
        needed = path.with_name(f"{path.name}{end}")
        if os.path.lexists(needed) and not os.access(needed, os.R_OK | os.W_OK):
            return _unusable(connection, f"{who} may not write {needed}", _give_back(needed))
    return None


def _give_back(path: Path) -> str:
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return "mount it for writing or name another place"
    return f"give it back by `sudo chown {places.account()}: {shlex.quote(str(path))}` or name another place"


def _is_read_only(connection: BaseDatabaseWrapper) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SHOW transaction_read_only")
        return bool(cursor.fetchone()[0] == "on")


def _unusable(connection: BaseDatabaseWrapper, why: str, mend: str) -> Trouble:
    return Trouble(Kind.UNUSABLE, f"{_setting(connection)}: {why}; {mend}.")


def _setting(connection: BaseDatabaseWrapper) -> str:
    path = Path(str(connection.settings_dict["NAME"]))
    kept = connection.vendor == "sqlite" and path.parent == settings.EXLAB_DATA_DIR
    return places.NAME if kept else "DATABASE_URL"


def _why(connection: BaseDatabaseWrapper, error: Exception) -> tuple[str, str]:
    # The library's questions are indented lines.
    lines = [line for line in str(error).splitlines() if not line.startswith("\t")]
    said = " ".join(" ".join(lines).split()) or type(error).__name__
    if connection.vendor == "sqlite":
        name = connection.settings_dict["NAME"]
        return f"{name} cannot be used ({said})", "name the file of a database, or put back one that was saved"
    mend = next((mend for words, mend in _MENDS if re.search(words, said, re.IGNORECASE)), "mend it or the server")
    return f"the database cannot be used ({said.rstrip('.')})", mend
