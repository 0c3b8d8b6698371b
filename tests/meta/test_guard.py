"""The removal guard works: shown on files that may be lost."""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cleanup.storage import linux
from tests.tools.guard import Guard, RemovalOutsideTests, place_of


@pytest.fixture
def outside(removal_guard: Guard) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="exlab-guarded-", dir=os.environ["PYTEST_DEBUG_TEMPROOT"]))
    (directory / "file").write_text("kept")
    (directory / "folder").mkdir()
    yield directory
    # These attempts are intended.
    removal_guard.violations.clear()
    removal_guard.active = False
    shutil.rmtree(directory)
    removal_guard.active = True


def by_descriptor(call: Callable[..., None], name: str, directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        call(name, dir_fd=descriptor)
    finally:
        os.close(descriptor)


def by_renameat2(source: Path, target: Path) -> None:
    first, second = os.open(source.parent, os.O_RDONLY), os.open(target.parent, os.O_RDONLY)
    try:
        linux.rename_noreplace(first, os.fsencode(source.name), second, os.fsencode(target.name))
    finally:
        os.close(first)
        os.close(second)


ATTEMPTS: dict[str, Callable[[Path, Path], None]] = {
    "unlink": lambda outside, inside: (outside / "file").unlink(),
    "remove": lambda outside, inside: os.remove(outside / "file"),
    "remove bytes": lambda outside, inside: os.remove(os.fsencode(outside / "file")),
    "rmdir": lambda outside, inside: (outside / "folder").rmdir(),
    "removedirs": lambda outside, inside: os.removedirs(outside / "folder"),
    "rmtree": lambda outside, inside: shutil.rmtree(outside / "folder"),
    "rmtree that ignores errors": lambda outside, inside: shutil.rmtree(outside, ignore_errors=True),
    "unlink by descriptor": lambda outside, inside: by_descriptor(os.unlink, "file", outside),
    "rmdir by descriptor": lambda outside, inside: by_descriptor(os.rmdir, "folder", outside),
    "rename away": lambda outside, inside: os.rename(outside / "file", inside / "taken"),
    "rename onto": lambda outside, inside: os.replace(inside / "mine", outside / "file"),
    "move": lambda outside, inside: shutil.move(outside / "file", inside / "taken"),
    "renameat2 away": lambda outside, inside: by_renameat2(outside / "file", inside / "taken"),
    "renameat2 into": lambda outside, inside: by_renameat2(inside / "mine", outside / "new"),
    "through a link": lambda outside, inside: (inside / "link" / "file").unlink(),
}


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_bites(attempt: Callable[[Path, Path], None], outside: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    (tmp_path / "link").symlink_to(outside)
    with pytest.raises(RemovalOutsideTests):
        attempt(outside, tmp_path)
    assert (outside / "file").read_text() == "kept"
    assert sorted(os.listdir(outside)) == ["file", "folder"]


def test_a_thread_that_swallows_it_is_remembered(outside: Path, removal_guard: Guard) -> None:
    def swallow() -> None:
        try:
            (outside / "file").unlink()
        except BaseException:
            return

    thread = threading.Thread(target=swallow)
    thread.start()
    thread.join()
    assert len(removal_guard.violations) == 1
    assert (outside / "file").exists()


def test_lets_tests_work_in_their_own_directories(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    by_renameat2(tmp_path / "a", tmp_path / "b")
    by_descriptor(os.unlink, "b", tmp_path)
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "file").touch()
    (tmp_path / "link").symlink_to("/")
    (tmp_path / "link").unlink()  # the link itself lies inside


def test_follows_a_directory_too_deep_to_be_named(tmp_path: Path) -> None:
    depth, name = 60, "d" * 100
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=descriptor)
        below = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    try:
        assert place_of(b"leaf", descriptor).startswith(os.fsencode(tmp_path))
    finally:
        os.close(descriptor)
