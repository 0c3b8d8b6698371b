"""The wizard's locks are released at once, never made or changed."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cleanup.storage import handles
from cleanup.storage.staging import record_locks
from tests.faults.means import flocked_elsewhere
from tests.tools.lab import METADATA

pytestmark = pytest.mark.one_engine(by="function")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[int]:
    (tmp_path / METADATA).mkdir()
    for name in record_locks.LOCKS:
        (tmp_path / METADATA / os.fsdecode(name)).touch()
    with handles.opened(os.open(tmp_path, handles.DIRECTORY)) as descriptor:
        yield descriptor


@pytest.mark.parametrize("name", [os.fsdecode(name) for name in record_locks.LOCKS])
def test_a_lock_that_another_program_holds(run: int, tmp_path: Path, name: str) -> None:
    with flocked_elsewhere(tmp_path / METADATA / name):
        assert record_locks.held_lock(run) == name.encode()
    assert record_locks.held_lock(run) is None


def test_a_lock_that_was_asked_for_is_free(run: int, tmp_path: Path) -> None:
    assert record_locks.held_lock(run) is None
    for name in record_locks.LOCKS:
        with (tmp_path / METADATA / os.fsdecode(name)).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_lock_is_neither_made_nor_changed(run: int, tmp_path: Path) -> None:
    (tmp_path / METADATA / "ingest.json.lock").unlink()
    before = {path.name: path.stat() for path in (tmp_path / METADATA).iterdir()}
    assert record_locks.held_lock(run) is None
    after = {path.name: path.stat() for path in (tmp_path / METADATA).iterdir()}
    assert {name: (seen.st_mtime_ns, seen.st_ctime_ns) for name, seen in before.items()} == {
        name: (seen.st_mtime_ns, seen.st_ctime_ns) for name, seen in after.items()
    }


def test_a_run_without_metadata_has_no_locks(tmp_path: Path) -> None:
    with handles.opened(os.open(tmp_path, handles.DIRECTORY)) as descriptor:
        assert record_locks.held_lock(descriptor) is None


def test_a_lock_that_is_a_link_cannot_be_asked(run: int, tmp_path: Path) -> None:
    lock = tmp_path / METADATA / "ingest.json.lock"
    lock.unlink()
    lock.symlink_to("/")
    with pytest.raises(OSError, match="symbolic links"):
        record_locks.held_lock(run)


def test_a_lock_that_is_let_go_in_a_moment_is_waited_for(run: int, tmp_path: Path) -> None:
    with flocked_elsewhere(tmp_path / METADATA / "ingest.json.lock") as program:
        program.stdin.write("\n")
        program.stdin.flush()
        assert record_locks.held_lock(run, patience_seconds=30) is None
