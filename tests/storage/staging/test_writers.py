"""Real programs that have a file of a run open for writing."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cleanup.storage.staging.writers import find_writers
from tests.storage.children import mount, with_own_mounts

pytestmark = pytest.mark.one_engine(by="function")


LEAF = b"Run_2026-04-17T14-32"


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    run = tmp_path / os.fsdecode(LEAF) / "tiles"
    run.mkdir(parents=True)
    path = run / "t.tif"
    path.write_bytes(b"x")
    return path


def found(path: Path, *names: bytes) -> list[str]:
    status = path.stat()
    words = find_writers(status.st_dev, {status.st_ino}, names or [LEAF])
    # A large run is asked only for the few inodes that are open anywhere.
    assert words == find_writers(status.st_dev, lambda written: {status.st_ino} & set(written), names or [LEAF])
    return words


@contextlib.contextmanager
def holding(path: Path, flags: str) -> Iterator[int]:
    program = f"import os, sys; os.open(sys.argv[1], {flags}); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield holder.pid
        holder.communicate()


@pytest.mark.parametrize("flags", ["os.O_WRONLY", "os.O_RDWR", "os.O_WRONLY | os.O_APPEND"])
def test_a_writer_is_found_and_named(flags: str, data_file: Path) -> None:
    assert found(data_file) == []
    with holding(data_file, flags) as pid:
        (words,) = found(data_file)
        assert words.endswith(f"(process {pid}) writes t.tif")
        assert words.startswith("python")
    assert found(data_file) == []


def test_a_writer_is_found_in_memory_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A staging disk may lie beneath `/dev`, where most open files are passed over."""
    path = tmp_path_factory.mktemp("memory") / os.fsdecode(LEAF)
    if not path.is_relative_to("/dev/shm"):
        pytest.skip("too little is free in /dev/shm for the tests' directories")
    path.write_bytes(b"x")
    with holding(path, "os.O_WRONLY"):
        assert len(found(path)) == 1


@pytest.mark.parametrize("flags", ["os.O_RDONLY", "os.O_PATH"])
def test_a_reader_is_none(flags: str, data_file: Path) -> None:
    with holding(data_file, flags):
        assert found(data_file) == []


def test_a_writer_is_found_after_the_run_was_renamed(data_file: Path) -> None:
    run = data_file.parent.parent
    with holding(data_file, "os.O_WRONLY"):
        fence = run.rename(run.with_name(".exlab-clearing-ab12"))
        moved = fence / "tiles/t.tif"
        assert len(found(moved, LEAF, b".exlab-clearing-ab12")) == 1


def test_a_writer_elsewhere_does_not_count(data_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / os.fsdecode(LEAF)
    other.mkdir(parents=True)
    (other / "t.tif").touch()
    with holding(other / "t.tif", "os.O_WRONLY"):
        assert found(data_file) == []
        status = data_file.stat()
        assert find_writers(status.st_dev + 1, {(other / "t.tif").stat().st_ino}, [LEAF]) == []


def test_a_link_into_another_filesystem_is_not_followed(
    data_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = tmp_path / "nas" / os.fsdecode(LEAF)
    twin.mkdir(parents=True)
    (twin / "t.tif").touch()
    followed: list[object] = []
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: followed.append(path) or stat(path, **options))
    with holding(twin / "t.tif", "os.O_WRONLY"):
        assert find_writers(1, {data_file.lstat().st_ino}, [LEAF]) == []
    assert not [path for path in followed if str(path).startswith("/proc/")]


def test_our_own_descriptors_do_not_count(data_file: Path) -> None:
    with data_file.open("ab"):
        assert found(data_file) == []


def test_a_hostile_name_can_be_read(tmp_path: Path) -> None:
    run = tmp_path / os.fsdecode(LEAF)
    run.mkdir()
    path = run / os.fsdecode(b"\x1b[2J\xff\n")
    path.touch()
    with holding(path, "os.O_WRONLY"):
        (words,) = found(path)
        assert words.isprintable()
        assert words.endswith(r"writes \x1b[2J\xff\n")


def test_a_writer_that_sees_the_disk_through_another_mount_is_found(data_file: Path, tmp_path: Path) -> None:
    """As a program in a container, for which the run's folder has another name."""
    (tmp_path / "data").mkdir()

    def hold_and_look() -> list[str]:
        mount("--bind", data_file.parent, tmp_path / "data")
        with holding(tmp_path / "data/t.tif", "os.O_WRONLY"):
            return found(data_file)

    (words,) = with_own_mounts(hold_and_look)
    assert "writes t.tif" in words
