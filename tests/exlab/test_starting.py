"""Wrong setups: one sentence, status 2, no traceback, nothing begun."""

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from exlab.reading import WrongSettings
from exlab.settings import read
from tests.faults import means
from tests.management.test_up import CHECKOUT, PATIENCE, free_port, kill_all, sessions_of
from tests.storage.children import NOBODY
from tests.tools import engines, ordinary

pytestmark = pytest.mark.one_engine(by="function")


MANAGE = str(CHECKOUT / "manage.py")
Given = dict[str, str]


@dataclass(frozen=True)
class Wrong:
    """Something to mend: settings, how the place is made, and the sentence.

    `spares` are the commands that put it right or do not need it.
    """

    name: str
    make: Callable[[Path, contextlib.ExitStack], Given]
    words: str
    spares: tuple[str, ...] = ()
    as_nobody: bool = field(default=False, kw_only=True)


def database_file(place: Path, *applied: str) -> Given:
    with contextlib.closing(sqlite3.connect(place / "db")) as there:
        there.execute("CREATE TABLE django_migrations (id INTEGER PRIMARY KEY, app TEXT, name TEXT, applied TEXT)")
        rows = [("cleanup", name, "2026-01-01 00:00:00") for name in applied]
        there.executemany("INSERT INTO django_migrations (app, name, applied) VALUES (?, ?, ?)", rows)
        there.commit()
    return {"DATABASE_URL": f"sqlite:///{place}/db"}


def nowhere(place: Path, stack: contextlib.ExitStack) -> Given:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return {"DATABASE_URL": f"postgres://lab:not%40real@127.0.0.1:{taken.getsockname()[1]}/exlab"}


def no_database(place: Path, stack: contextlib.ExitStack) -> Given:
    (place / "db").write_text("nothing of a database\n" * 50)
    return {"DATABASE_URL": f"sqlite:///{place}/db"}


def file_in_the_place(place: Path, stack: contextlib.ExitStack) -> Given:
    (place / "data").touch()
    return {}


def link_to_nothing(place: Path, stack: contextlib.ExitStack) -> Given:
    (place / "data").symlink_to("gone")
    return {}


def empty_key(place: Path, stack: contextlib.ExitStack) -> Given:
    (place / "data").mkdir(mode=0o700)
    (place / "data" / "secret-key").touch()
    return {"EXLAB_SECRET_KEY": ""}


def full(place: Path, stack: contextlib.ExitStack) -> Given:
    stack.enter_context(means.tiny_disk(place / "data"))
    means.fill(place / "data")
    return {}


def for_reading_alone(place: Path, stack: contextlib.ExitStack) -> Given:
    (place / "data").mkdir()
    stack.enter_context(means.mounted("-t", "tmpfs", "-o", "ro", "tmpfs", place / "data"))
    return {}


def left_by_sudo(place: Path, stack: contextlib.ExitStack) -> Given:
    (place / "data" / "locks").mkdir(parents=True, mode=0o700)
    (place / "data" / "secret-key").write_text("k" * 50)
    for path in (place / "data", place / "data" / "secret-key"):
        os.chown(path, NOBODY, NOBODY)
    return {"EXLAB_SECRET_KEY": ""}


def of_root(place: Path, stack: contextlib.ExitStack) -> Given:
    (place / "data").mkdir(mode=0o700)
    return {"EXLAB_SECRET_KEY": ""}


def one(**given: str) -> Callable[[Path, contextlib.ExitStack], Given]:
    return lambda place, stack: given


TO_MEND = [
    Wrong("unit", one(EXLAB_NAS_TIMEOUT="1m"), "EXLAB_NAS_TIMEOUT: '1m' is no number of seconds"),
    Wrong("switch", one(EXLAB_DEBUG="maybe"), "EXLAB_DEBUG: 'maybe' is neither on nor off"),
    Wrong("slip", one(EXLAB_NAS_TIMOUT="60"), "EXLAB_NAS_TIMOUT: there is no such setting; write EXLAB_NAS_TIMEOUT"),
    Wrong("zone", one(EXLAB_TIME_ZONE="Europe/Zurch"), "EXLAB_TIME_ZONE: 'Europe/Zurch' is no time zone"),
    Wrong("module", one(DJANGO_SETTINGS_MODULE="nowhere"), "DJANGO_SETTINGS_MODULE: there is no module 'nowhere' here"),
    Wrong("password", one(DATABASE_URL="postgres://lab:not@real/w#rd@db/exlab"), "DATABASE_URL: user and password"),
    Wrong("home", one(EXLAB_DATA_DIR="~nobody-of-that-name/x"), "EXLAB_DATA_DIR: '~nobody-of-that-name/x' names"),
    Wrong("server", nowhere, "DATABASE_URL: the database cannot be used (connection"),
    Wrong("text", no_database, "DATABASE_URL: "),
    Wrong("folder", lambda place, stack: {"DATABASE_URL": f"sqlite:///{place}/gone/db"}, "DATABASE_URL: the folder of"),
    Wrong(
        "new",
        lambda place, stack: database_file(place, "0999_later"),
        "DATABASE_URL: the database was changed by a newer",
    ),
    Wrong(
        "old",
        lambda place, stack: database_file(place, "0001_initial"),
        "DATABASE_URL: the database is not of",
        ("up",),
    ),
    Wrong("none", one(), "EXLAB_DATA_DIR: there is no database yet", ("up", "check")),
    Wrong("file", file_in_the_place, "EXLAB_DATA_DIR: "),
    Wrong("link", link_to_nothing, "EXLAB_DATA_DIR: "),
    Wrong("key", empty_key, "EXLAB_DATA_DIR: "),
    Wrong("full", full, "EXLAB_DATA_DIR: "),
    Wrong("read-only", for_reading_alone, "EXLAB_DATA_DIR: "),
    Wrong("root", of_root, "EXLAB_DATA_DIR: ", as_nobody=True),
    Wrong("sudo", left_by_sudo, "EXLAB_DATA_DIR: ", as_nobody=True),
]
BY_NAME = {wrong.name: wrong for wrong in TO_MEND}


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that all users can reach, unlike those of pytest."""
    place = Path(tempfile.mkdtemp(dir=engines.HERE))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def environment(place: Path, given: Given, base: Given) -> Given:
    kept = {name: text for name, text in base.items() if name not in read.settings}
    return {**kept, "EXLAB_SECRET_KEY": "k" * 50, "EXLAB_DATA_DIR": str(place / "data"), **given}


def run(wrong: Wrong, place: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    with contextlib.ExitStack() as stack:
        try:
            base = ordinary.python_env() if wrong.as_nobody else {**os.environ, "PYTHON": sys.executable}
            env = environment(place, wrong.make(place, stack), base)
        except means.Unavailable as missing:
            means.skip_or_fail(missing)
        before = [*(ordinary.AS_NOBODY if wrong.as_nobody else []), env["PYTHON"]]
        return subprocess.run(
            [*before, *words], cwd="/", env=env, capture_output=True, text=True, check=False, timeout=PATIENCE
        )


def expect_one_sentence(done: subprocess.CompletedProcess[str], wrong: Wrong, status: int = 2) -> str:
    said = done.stderr.strip()
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert said.count("\n") == 0, said
    assert wrong.words in said
    assert "real" not in said, "no part of a password is shown"
    assert said.endswith(".")
    return said


def command(name: str) -> list[str]:
    return [MANAGE, name, *{"up": ["--bind", f"127.0.0.1:{free_port()}"], "sweep": ["--json"]}.get(name, [])]


@pytest.mark.parametrize(
    ("name", "said_by"),
    [("unit", "sweep"), ("server", "check"), ("sudo", "up"), ("new", "worker"), ("full", "migrate")],
)
def test_what_is_to_be_mended_is_one_sentence(place: Path, name: str, said_by: str) -> None:
    """Takes 1 s each. The exhaustive run covers all combinations."""
    expect_one_sentence(run(BY_NAME[name], place, command(said_by)), BY_NAME[name])


@pytest.mark.exhaustive
@pytest.mark.parametrize("wrong", TO_MEND, ids=lambda wrong: wrong.name)
def test_everything_that_is_to_be_mended_is_said(place: Path, wrong: Wrong) -> None:
    """Takes 30 s for all; `check` says the same as the command."""
    wanted = ("check", "up" if wrong.as_nobody else "sweep", "up")
    for number, name in enumerate(list(dict.fromkeys(one for one in wanted if one not in wrong.spares))[:2]):
        (at := place / str(number)).mkdir()
        if wrong.as_nobody:
            os.chown(at, NOBODY, NOBODY)
        expect_one_sentence(run(wrong, at, command(name)), wrong)


GUNICORN = ["-m", "gunicorn", "--chdir", str(CHECKOUT), "--bind", "127.0.0.1:0"]
SERVING = [*GUNICORN, "--config", "python:exlab.serving", "exlab.wsgi"]


@pytest.mark.parametrize(
    ("words", "status", "name"),
    [
        ([*GUNICORN, "--config", "python:exlab.serving", "exlab.wsgi"], 2, "unit"),
        pytest.param(
            [*GUNICORN, "--config", "python:exlab.serving", "exlab.wsgi"], 2, "old", marks=pytest.mark.exhaustive
        ),
        pytest.param([str(CHECKOUT / "docker/heartbeat.py"), "watch"], 1, "server", marks=pytest.mark.exhaustive),
    ],
    ids=["settings", "database", "heartbeat"],
)
def test_a_web_server_and_a_probe_say_it_too(
    monkeypatch: pytest.MonkeyPatch, place: Path, words: list[str], status: int, name: str
) -> None:
    """Takes 1 s each."""
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    expect_one_sentence(run(BY_NAME[name], place, words), BY_NAME[name], status)


@pytest.mark.exhaustive
def test_a_web_server_without_our_configuration_does_not_try_for_ever(place: Path) -> None:
    """Takes 2 s. The worker prints the sentence."""
    done = run(BY_NAME["switch"], place, [*GUNICORN, "exlab.wsgi"])
    assert done.returncode == 3
    assert BY_NAME["switch"].words in done.stderr
    assert "Traceback" not in done.stderr


def test_check_says_that_the_first_start_is_to_come(place: Path) -> None:
    """Takes 1 s."""
    done = run(BY_NAME["none"], place, [MANAGE, "check"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "EXLAB_DATA_DIR: there is no database yet" in done.stdout
    assert not (place / "data" / "db.sqlite3").exists()


@pytest.mark.exhaustive
def test_migrate_makes_the_place_of_its_database(place: Path) -> None:
    """Takes 5 s."""
    done = run(BY_NAME["none"], place, [MANAGE, "migrate", "-v", "0"])
    assert (done.returncode, done.stderr) == (0, "")
    assert (place / "data" / "db.sqlite3").stat().st_size > 0


@pytest.mark.exhaustive
def test_check_of_the_database_wants_one(place: Path) -> None:
    """Takes 1 s."""
    done = run(BY_NAME["none"], place, [MANAGE, "check", "--database", "default"])
    expect_one_sentence(done, BY_NAME["none"])


@pytest.mark.exhaustive
def test_up_and_its_children_work_in_one_place(place: Path) -> None:
    """Takes 15 s."""
    (elsewhere := place / "elsewhere").mkdir()
    named = os.path.relpath(place / "data", CHECKOUT)
    env = environment(place, {"EXLAB_DATA_DIR": named}, dict(os.environ))
    up = [sys.executable, MANAGE, "up", "--json", "--bind", f"127.0.0.1:{free_port()}"]
    with open(place / "errors", "wb") as errors:
        process = subprocess.Popen(up, cwd=elsewhere, env=env, stdout=subprocess.PIPE, stderr=errors)
    sessions: set[int] = set()
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline() or b"{}"), (place / "errors").read_text()
        sessions = set(sessions_of(process.pid))
        told = [Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in sessions]
        assert len(told) == 6  # web server, three task clusters, listener, watchdog
        for variables in told:
            assert f"EXLAB_DATA_DIR={place / 'data'}".encode() in variables
            assert f"DATABASE_URL=sqlite:///{place / 'data' / 'db.sqlite3'}".encode() in variables
        assert list(elsewhere.iterdir()) == []
        assert [str(path.relative_to(place)) for path in place.rglob("*.sqlite3")] == ["data/db.sqlite3"]
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0, (place / "errors").read_text()
        kill_all(sessions)
        process.stdout.close()


def test_a_trace_stays_where_nothing_is_to_be_mended() -> None:
    """A defect of the product must not look like a mistake of the lab."""
    from exlab import starting

    with pytest.raises(OSError, match="a mistake"), starting.guarded():
        raise OSError("a mistake")
    with pytest.raises(SystemExit) as caught, starting.guarded(status=3):
        raise WrongSettings("EXLAB_X: is wrong; mend it.")
    assert caught.value.code == 3
