"""No command replaces a missing data directory by a new one."""

import contextlib
import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.core.management.base import CommandError

from cleanup.lab import sqlite_file
from cleanup.management import data_places
from cleanup.management.supervisor import Child, Supervisor, sole_holder
from cleanup.storage.data_directory import data_place
from cleanup.storage.data_directory.datadir import DataDir
from exlab import sqlite
from tests.faults import means
from tests.tools.checkout import CHECKOUT

pytestmark = pytest.mark.one_engine(by="function")


@pytest.fixture
def data(tmp_path: Path, settings: Any) -> Path:
    settings.EXLAB_DATA_DIR = tmp_path / "data"
    return tmp_path / "data"


@contextlib.contextmanager
def watched(data: Path) -> Iterator[Supervisor]:
    with sole_holder(data, "up") as lock:
        place = data_place.KeptFiles(((str(data / data_place.LOCK), data_place.identity_of(lock)),))
        yield Supervisor(lock, [], place=place)


def look(supervisor: Supervisor) -> None:
    for _ in range(2):
        supervisor.expect_in_place()


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(CommandError) as caught:
        act()
    assert caught.value.returncode == 2
    return str(caught.value)


def start(data: Path) -> None:
    with sole_holder(data, "up"):
        pass


def test_one_that_is_moved_ends_up_and_comes_back(data: Path) -> None:
    with watched(data) as supervisor:
        look(supervisor)
        data.rename(data.with_name("away"))
        assert "was moved, unmounted or replaced" in refused(lambda: look(supervisor))
    assert not data.exists()
    note = data_place.note_beside(data)
    assert f"{note} says that it was taken away" in refused(lambda: start(data))
    data.mkdir()
    refused(lambda: start(data))
    assert list(data.iterdir()) == []
    data.rmdir()
    data.with_name("away").rename(data)
    start(data)
    assert not note.exists()


def test_one_behind_a_link_is_missed_by_either_path(data: Path, tmp_path: Path, settings: Any) -> None:
    data.mkdir()
    link = settings.EXLAB_DATA_DIR = tmp_path / "link"
    link.symlink_to(data)
    with watched(link) as supervisor:
        data.rename(data.with_name("away"))
        refused(lambda: look(supervisor))
    settings.EXLAB_DATA_DIR = data
    assert "says that it was taken away" in refused(lambda: start(data))
    data.with_name("away").rename(data)
    settings.EXLAB_DATA_DIR = link
    start(link)
    assert not list(tmp_path.glob("*.taken-away.txt"))


def test_a_look_that_fails_once_ends_nothing(data: Path) -> None:
    with watched(data) as supervisor:
        data.rename(data.with_name("away"))
        supervisor.expect_in_place()
        data.with_name("away").rename(data)
        look(supervisor)


def test_a_child_that_ends_for_want_of_it_is_not_the_reason_given(data: Path) -> None:
    child = Child("The watchdog", ["false"], process=subprocess.Popen(["false"]))
    child.process.wait()
    with watched(data) as supervisor:
        supervisor.children.append(child)
        with pytest.raises(CommandError, match=r"The watchdog ended by itself \(status 1\)") as caught:
            supervisor.tend(print)
        assert caught.value.returncode == 1
        data.rename(data.with_name("away"))
        assert "was moved, unmounted or replaced" in refused(lambda: supervisor.tend(print))
        supervisor.missed = False
        supervisor.place = cast(Any, SimpleNamespace(lost=iter(["", str(data / data_place.LOCK)]).__next__))
        assert "was moved, unmounted or replaced" in refused(lambda: supervisor.tend(print))


def test_one_in_whose_place_another_lies_ends_up(data: Path) -> None:
    with watched(data) as supervisor:
        data.rename(data.with_name("away"))
        data.mkdir()
        (data / "up.lock").touch()
        assert f"What lies at {data}/up.lock is not what it holds" in refused(lambda: look(supervisor))
    start(data)


def test_a_mount_over_it_and_one_that_is_taken_away_end_up(data: Path, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(means.tiny_disk(data))
            supervisor = stack.enter_context(watched(data))
            stack.enter_context(means.tiny_disk(data))
        except means.Unavailable as missing:
            means.skip_or_fail(missing)
        refused(lambda: look(supervisor))
        assert list(data.iterdir()) == []
    data_place.note_beside(data).unlink()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(data)], check=True)
    try:
        with watched(data) as supervisor:
            subprocess.run(["umount", "--lazy", str(data)], check=True)
            refused(lambda: look(supervisor))
        assert list(data.iterdir()) == []
    finally:
        if os.path.ismount(data):
            subprocess.run(["umount", "--lazy", str(data)], check=True)


def test_a_database_that_is_replaced_ends_up(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = tmp_path / "db.sqlite3"
    database.write_bytes(b"1")
    with sole_holder(data, "up") as lock:
        place = data_place.KeptFiles(((str(database), data_place.identity_at(str(database))),))
        supervisor = Supervisor(lock, [], place=place)
        look(supervisor)
        (tmp_path / "other").write_bytes(b"2")
        (tmp_path / "other").rename(database)
        assert f"The database {database} was moved" in refused(lambda: look(supervisor))
        note = data_place.note_beside(database)
        assert not note.exists()
        database.unlink()
        refused(lambda: look(supervisor))
    assert not data_place.note_beside(data).exists()
    monkeypatch.setattr(sqlite_file, "path_of", lambda connection: database)
    assert f"{database} is not back" in refused(lambda: start(data))
    database.touch()
    start(data)
    assert not note.exists()


def test_a_child_makes_nothing_where_its_data_directory_was(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sole_holder(data, "up") as lock:
        monkeypatch.setenv(data_place.VARIABLE, data_place.identity_of(lock))
        kept = DataDir(str(data))
        with kept.lock("17") as free:
            assert free
        data.rename(data.with_name("away"))
        for replaced in (False, True):
            if replaced:
                data.mkdir()
            with pytest.raises(OSError, match="data directory was moved") as caught, kept.lock("17"):
                pass
            assert caught.value.errno == errno.ESTALE
            with pytest.raises(OSError, match=r"data directory was moved|No such file"):
                kept.write_plan("a" * 32, b"plan")
        assert list(data.iterdir()) == []


FSTAB = r"""
# /srv/commented none none
UUID=1 / ext4 defaults 0 1
UUID=2 /srv/disk\040one ext4 noauto 0 2
server:/x /srv/nas/ nfs defaults 0 0
UUID=3 none swap sw 0 0
short
"""


@pytest.mark.parametrize(
    ("path", "mounted", "missing"),
    [
        ("/srv/disk one/data", {"/"}, "/srv/disk one"),
        ("/srv/disk one", {"/"}, "/srv/disk one"),
        ("/srv/disk one/data", {"/", "/srv/disk one"}, ""),
        ("/srv/nas/data", {"/"}, "/srv/nas"),
        ("/srv/nasty/data", {"/"}, ""),
        ("/srv/commented/data", {"/"}, ""),
        ("/home/data", set(), ""),
    ],
)
def test_a_disk_that_the_host_mounts_at_its_start_is_expected(path: str, mounted: set[str], missing: str) -> None:
    assert data_place.missing_mount(Path(path), FSTAB, mounted) == missing


def test_a_start_before_its_disk_is_mounted_makes_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "fstab"
    (tmp_path / "disk").mkdir()
    table.write_text(f"UUID=1 {tmp_path}/disk ext4 defaults 0 2\n")
    monkeypatch.setattr(data_places, "_FSTAB", table)
    place = tmp_path / "link"
    place.symlink_to(tmp_path / "disk" / "exlab")
    words = refused(lambda: start(place))
    assert f"{place} lies at or below {tmp_path}/disk" in words
    assert list((tmp_path / "disk").iterdir()) == []
    start(data)


def test_only_a_database_that_is_there_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "a?b#c%20 d.sqlite3"
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        sqlite3.connect(str(path), factory=sqlite.ExistingDatabase, uri=True)
    assert list(tmp_path.iterdir()) == []
    path.touch()
    with contextlib.closing(sqlite3.connect(str(path), factory=sqlite.ExistingDatabase, uri=True)) as database:
        database.execute("CREATE TABLE x (y)")
    assert path.stat().st_size
    for name in (":memory:", "file:x?mode=memory&cache=shared"):
        sqlite3.connect(name, factory=sqlite.ExistingDatabase, uri=True).close()


def database_at(path: Path) -> Any:
    return cast("Any", SimpleNamespace(vendor="sqlite", settings_dict={"NAME": str(path)}))


def test_no_database_is_made_beside_the_records_of_clears(data: Path) -> None:
    (data / "tombstones").mkdir(parents=True)
    sqlite_file.lay(database_at(data / "db.sqlite3"))
    assert (data / "db.sqlite3").read_bytes() == b""
    (data / "db.sqlite3").unlink()
    (data / "tombstones" / "x.tar.gz").touch()
    with pytest.raises(sqlite_file.NoDatabaseMade, match=r"holds records of clears \(tombstones\) and no database"):
        sqlite_file.lay(database_at(data / "db.sqlite3"))
    assert not (data / "db.sqlite3").exists()
    with pytest.raises(sqlite_file.NoDatabaseMade, match="No such file or directory"):
        sqlite_file.lay(database_at(data / "missing" / "db.sqlite3"))


_OTHERS = [("discover",), ("check", "--database", "default"), ("watch", "--once"), ("worker",), ("createsuperuser",)]


def test_migrate_makes_a_database_but_not_in_the_place_of_one_that_was_taken_away(tmp_path: Path) -> None:
    """Takes 2 s: its checks read the database before it does anything."""
    environment = {**os.environ, "EXLAB_DATA_DIR": str(tmp_path / "data"), "EXLAB_SECRET_KEY": ""}
    environment["DATABASE_URL"] = f"sqlite:///{tmp_path}/data/db.sqlite3"
    command = [sys.executable, "manage.py", "migrate", "-v", "0", "contenttypes"]
    note = data_place.note_beside(tmp_path / "data")
    for refused_by, left in ((note, {note}), (None, {tmp_path / "data"})):
        if refused_by is not None:
            refused_by.touch()
        done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == (2 if refused_by else 0), done.stderr
        assert ("is not back" in done.stderr) is bool(refused_by)
        assert set(tmp_path.iterdir()) == left
        note.unlink(missing_ok=True)
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"db.sqlite3", "secret-key"}


@pytest.mark.parametrize(
    "command", [("sweep",), *(pytest.param(one, marks=pytest.mark.exhaustive) for one in _OTHERS)], ids=" ".join
)
def test_a_command_without_a_database_says_so_and_leaves_no_trace(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Takes 1 s each: real processes, because of `manage.py` and the settings."""
    environment = {**os.environ, "EXLAB_DATA_DIR": str(tmp_path / "data"), "EXLAB_SECRET_KEY": ""}
    environment["DATABASE_URL"] = f"sqlite:///{tmp_path}/data/db.sqlite3"
    done = subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{tmp_path}/data/db.sqlite3" in done.stderr
    assert "Traceback" not in done.stderr
    left = set(tmp_path.rglob("*")) if command != ("worker",) else set()
    assert left == set()
