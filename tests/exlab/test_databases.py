"""The sentence for each unusable database."""

import contextlib
import os
import shutil
import socket
import sqlite3
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder
from django.db.utils import ConnectionHandler

from exlab import connections, databases
from exlab.databases import Kind
from tests.faults import means
from tests.storage.children import NOBODY
from tests.tools import engines
from tests.tools.ordinary import being_nobody

pytestmark = pytest.mark.django_db


@contextlib.contextmanager
def opened(address: str) -> Iterator[BaseDatabaseWrapper]:
    parsed = connections.database(Path("/"))(address)
    other = ConnectionHandler({"default": parsed})["default"]
    try:
        yield other
    finally:
        other.close()


def said_of(address: str, kind: Kind = Kind.UNUSABLE) -> str:
    with opened(address) as other:
        found = databases.trouble(other)
    assert found is not None
    assert found.kind is kind
    assert found.said.startswith("DATABASE_URL: ")
    assert "\n" not in found.said
    assert found.said.endswith(".")
    return found.said


def as_applied(*names: str) -> None:
    for name in names:
        MigrationRecorder(connection).record_applied("cleanup", name)


def test_a_database_of_this_version_is_well() -> None:
    assert databases.trouble(connection) is None


def test_one_that_lacks_a_migration() -> None:
    applied = sorted(name for app, name in MigrationRecorder(connection).applied_migrations() if app == "cleanup")
    MigrationRecorder(connection).record_unapplied("cleanup", applied[-1])
    found = databases.trouble(connection)
    assert found is not None
    assert (found.kind, found.can_be_migrated) == (Kind.BEHIND, True)
    assert f"1 migrations are missing ({applied[-1]} first); run `manage.py migrate` (or `up`)" in found.said


def test_one_that_a_newer_version_has_changed() -> None:
    as_applied("0999_from_the_future")
    found = databases.trouble(connection)
    assert found is not None
    assert (found.kind, found.can_be_migrated) == (Kind.AHEAD, False)
    assert "changed by a newer version of this program (0999_from_the_future); start that one" in found.said


# SQLite


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that all users can reach, unlike those of pytest."""
    if connection.vendor != "sqlite":
        pytest.skip("of SQLite's files")
    place = Path(tempfile.mkdtemp(dir=engines.HERE))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def test_no_file_is_made_by_looking(place: Path) -> None:
    assert f"there is no database yet at {place}/db; run" in said_of(f"sqlite:///{place}/db", Kind.EMPTY)
    assert list(place.iterdir()) == []


def test_a_file_in_the_data_directory_is_named_by_that(place: Path, settings: object) -> None:
    settings.EXLAB_DATA_DIR = place  # type: ignore[attr-defined]
    with opened(f"sqlite:///{place}/db.sqlite3") as other:
        found = databases.trouble(other)
    assert found is not None
    assert found.said.startswith("EXLAB_DATA_DIR: there is no database yet")


def test_a_file_without_tables(place: Path) -> None:
    (place / "db").touch()
    assert "holds no tables yet; run `manage.py migrate`" in said_of(f"sqlite:///{place}/db", Kind.EMPTY)


def test_what_is_no_file_of_a_database(place: Path) -> None:
    (place / "text").write_text("no database\n" * 100)
    assert "file is not a database); name the file" in said_of(f"sqlite:///{place}/text")
    assert f"{place} is no file" in said_of(f"sqlite:///{place}")
    assert "the folder of" in said_of(f"sqlite:///{place}/gone/db")
    (place / "link").symlink_to("gone")
    assert f"{place}/link is no file" in said_of(f"sqlite:///{place}/link")


def test_a_file_that_another_program_keeps_busy(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no wrong setting; the lock waits report it."""
    with contextlib.closing(sqlite3.connect(place / "db", isolation_level=None)) as there:
        there.execute("BEGIN EXCLUSIVE")
        with opened(f"sqlite:///{place}/db") as other:
            other.settings_dict["OPTIONS"] = {"timeout": 0.1}
            with pytest.raises(OperationalError, match="locked") as caught:
                databases.trouble(other)
    assert databases.is_busy(caught.value)


@pytest.mark.parametrize("name", ["db", "db-wal", "db-shm"])
def test_a_file_of_another_user(place: Path, name: str) -> None:
    for one in ("db", "db-wal", "db-shm"):
        (place / one).touch(mode=0o600)
        if os.geteuid() == 0:
            os.chown(place / one, *((0, 0) if one == name else (NOBODY, NOBODY)))
    if os.geteuid() == 0:
        os.chown(place, NOBODY, NOBODY)
    try:
        with being_nobody():
            said = said_of(f"sqlite:///{place}/db")
    except means.Unavailable as missing:
        means.skip_or_fail(missing)
    assert f"may not write {place}/{name}; give it back by `sudo chown" in said


def test_a_file_in_a_folder_that_may_not_be_entered(place: Path) -> None:
    (place / "closed" / "below").mkdir(parents=True)
    (place / "closed").chmod(0o700)
    try:
        with being_nobody():
            assert "is not there for" in said_of(f"sqlite:///{place}/closed/below/db")
            assert f"may not write beside {place}/closed/db" in said_of(f"sqlite:///{place}/closed/db")
    except means.Unavailable as missing:
        means.skip_or_fail(missing)


def test_a_file_in_another_user_s_folder(place: Path) -> None:
    (place / "db").touch(mode=0o666)
    (place / "db").chmod(0o666)
    try:
        with being_nobody():
            assert f"may not write beside {place}/db; give it back" in said_of(f"sqlite:///{place}/db")
    except means.Unavailable as missing:
        means.skip_or_fail(missing)


def test_a_file_on_a_disk_that_may_only_be_read(place: Path) -> None:
    try:
        with means.tiny_disk(place / "disk"):
            (place / "disk" / "db").touch()
            subprocess.run(["mount", "-o", "remount,ro", place / "disk"], check=True)
            assert "mount it for writing" in said_of(f"sqlite:///{place}/disk/db")
    except means.Unavailable as missing:
        means.skip_or_fail(missing)


# PostgreSQL


def address(**parts: object) -> str:
    if connection.vendor != "postgresql":
        pytest.skip("of a server")
    return engines.url_of({**connection.settings_dict, **parts})


def test_a_database_or_a_user_that_the_server_does_not_know() -> None:
    said = said_of(address(NAME="no_such_database"))
    assert "does not exist); mend the name in it, or make that database" in said
    assert "mend user or password in it" in said_of(address(USER="no_such_user"))


def test_a_database_without_tables() -> None:
    assert "holds no tables yet" in said_of(address(NAME="template1"), Kind.EMPTY)


def test_a_server_that_takes_no_writes() -> None:
    options = {**connection.settings_dict["OPTIONS"], "options": "-c default_transaction_read_only=on"}
    said = said_of(address(OPTIONS=options))
    assert "the server takes no writes, as a standby does; name the one that does" in said


def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    said = said_of(f"postgres://lab:not%40real@127.0.0.1:{port}/exlab")
    assert "refused" in said
    assert "start the server there, or mend host and port in it" in said
    assert "real" not in said
    assert "mend the host in it" in said_of("postgres://lab@no-such-host.invalid/exlab")
    assert "start the server there" in said_of("postgres:////no/such/folder/exlab")


@contextlib.contextmanager
def server_that_says(answer: bytes) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    visitor, _address = listening.accept()
                    with visitor:
                        visitor.recv(1024)
                        visitor.sendall(answer)
                        visitor.recv(1024)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def refusal(code: str, words: str) -> bytes:
    """A refusal in PostgreSQL's protocol; the tests' server trusts everyone and never sends one."""
    fields = b"".join(key + text.encode() + b"\0" for key, text in ((b"S", "FATAL"), (b"C", code), (b"M", words)))
    return b"E" + struct.pack("!I", len(fields) + 5) + fields + b"\0"


@pytest.mark.parametrize(
    ("code", "words", "mend"),
    [
        ("28P01", 'password authentication failed for user "lab"', "mend user or password in it"),
        ("28000", 'no pg_hba.conf entry for host "10.0.0.9", user "lab"', "mend user or password in it"),
        ("53300", "sorry, too many clients already", "let the server take more connections"),
        ("57P03", "the database system is starting up", "try again in a moment"),
    ],
)
def test_what_a_server_answers(code: str, words: str, mend: str) -> None:
    with server_that_says(refusal(code, words)) as port:
        said = said_of(f"postgres://lab:not%40real@127.0.0.1:{port}/exlab?sslmode=disable&gssencmode=disable")
    assert words in said
    assert said.endswith(f"; {mend}.") or mend in said.rpartition(";")[2]
    assert "real" not in said


@pytest.mark.exhaustive
def test_a_server_that_is_silent_is_given_up() -> None:
    """Takes 2 s, the least that the library waits."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        said = said_of(f"postgres://lab@127.0.0.1:{port}/exlab?connect_timeout=2")
    assert "start the server there" in said


def test_a_server_is_given_up_after_ten_seconds_by_default() -> None:
    assert connections.database(Path("/"))("postgres://lab@db/exlab")["OPTIONS"] == {
        "connect_timeout": "10",
        "tcp_user_timeout": "30000",
    }
    if connection.vendor == "postgresql":
        assert settings.DATABASES["default"]["OPTIONS"]["connect_timeout"] == "10"
