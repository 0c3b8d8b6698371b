"""Linux calls, compared with what Python sees by other means."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cleanup.storage import linux
from tests.storage.children import mount, with_own_mounts

pytestmark = pytest.mark.one_engine(by="function")


Open = Callable[[Path], int]


def test_this_machine_has_every_call() -> None:
    before = os.listdir("/proc/self/fd")
    assert linux.missing_calls() == []
    assert len(os.listdir("/proc/self/fd")) == len(before)


class TestStatus:
    @pytest.mark.parametrize("name", ["file", "directory", "link", "fifo", "sparse"])
    def test_says_what_stat_says(self, name: str, tmp_path: Path, open_directory: Open) -> None:
        (tmp_path / "file").write_bytes(b"x" * 10_000)
        os.link(tmp_path / "file", tmp_path / "another name")
        (tmp_path / "directory").mkdir(mode=0o750)
        (tmp_path / "link").symlink_to("nowhere")
        os.mkfifo(tmp_path / "fifo")
        with (tmp_path / "sparse").open("wb") as file:
            file.truncate(5 << 30)
        os.utime(tmp_path / "file", ns=(1, 1_776_442_543_123_456_789))
        os.utime(tmp_path / "directory", ns=(-1, -1_500_000_000))
        expected = (tmp_path / name).lstat()
        found = linux.status(open_directory(tmp_path), name.encode())
        assert (found.mode, found.uid, found.ino, found.nlink, found.size, found.allocated) == (
            expected.st_mode,
            expected.st_uid,
            expected.st_ino,
            expected.st_nlink,
            expected.st_size,
            expected.st_blocks * 512,
        )
        assert (found.mtime_ns, found.ctime_ns, found.device) == (
            expected.st_mtime_ns,
            expected.st_ctime_ns,
            expected.st_dev,
        )
        assert (found.is_file, found.is_directory, found.is_symlink) == (
            name in ("file", "sparse"),
            name == "directory",
            name == "link",
        )
        assert not found.is_mount_root

    def test_without_a_name_it_is_the_descriptors_own(self, tmp_path: Path, open_directory: Open) -> None:
        assert linux.status(open_directory(tmp_path)).ino == tmp_path.stat().st_ino

    def test_says_what_is_missing(self, tmp_path: Path, open_directory: Open) -> None:
        with pytest.raises(FileNotFoundError) as missing:
            linux.status(open_directory(tmp_path), b"nothing\xff")
        assert os.fsencode(missing.value.filename) == b"nothing\xff"

    def test_a_name_is_not_cut_off_at_a_zero_byte(self, tmp_path: Path, open_directory: Open) -> None:
        (tmp_path / "a").touch()
        with pytest.raises(OSError, match="zero byte"):
            linux.status(open_directory(tmp_path), b"a\0b")

    def test_knows_a_mount_even_of_a_single_file(self, tmp_path: Path) -> None:
        for name in ("source", "target"):
            (tmp_path / name).mkdir()
            (tmp_path / f"{name}.file").touch()

        def on_bind_mounts() -> list[bool]:
            mount("--bind", tmp_path / "source", tmp_path / "target")
            mount("--bind", tmp_path / "source.file", tmp_path / "target.file")
            directory = os.open(tmp_path, os.O_RDONLY)
            names = (b"source", b"source.file", b"target", b"target.file")
            return [linux.status(directory, name).is_mount_root for name in names]

        assert with_own_mounts(on_bind_mounts) == [False, False, True, True]


class TestRenameNoreplace:
    def test_renames_between_directories(self, tmp_path: Path, open_directory: Open) -> None:
        (tmp_path / "a/run").mkdir(parents=True)
        (tmp_path / "b").mkdir()
        inode = (tmp_path / "a/run").stat().st_ino
        linux.rename_noreplace(open_directory(tmp_path / "a"), b"run", open_directory(tmp_path / "b"), b"fence")
        assert (tmp_path / "b/fence").stat().st_ino == inode
        assert not (tmp_path / "a/run").exists()

    @pytest.mark.parametrize("kind", ["empty directory", "file", "dangling link"])
    def test_replaces_nothing(self, kind: str, tmp_path: Path, open_directory: Open) -> None:
        (tmp_path / "run").mkdir()
        taken = tmp_path / "taken"
        if kind == "empty directory":
            taken.mkdir()
        elif kind == "file":
            taken.touch()
        else:
            taken.symlink_to("nowhere")
        inodes = {path.name: path.lstat().st_ino for path in tmp_path.iterdir()}
        directory = open_directory(tmp_path)
        with pytest.raises(FileExistsError):
            linux.rename_noreplace(directory, b"run", directory, b"taken")
        assert {path.name: path.lstat().st_ino for path in tmp_path.iterdir()} == inodes

    def test_says_what_is_missing(self, tmp_path: Path, open_directory: Open) -> None:
        directory = open_directory(tmp_path)
        with pytest.raises(FileNotFoundError):
            linux.rename_noreplace(directory, b"run", directory, b"fence")

    def test_a_name_is_not_cut_off_at_a_zero_byte(self, tmp_path: Path, open_directory: Open) -> None:
        (tmp_path / "a").mkdir()
        directory = open_directory(tmp_path)
        for names in ((b"a\0", b"b"), (b"a", b"b\0c")):
            with pytest.raises(OSError, match="zero byte") as error:
                linux.rename_noreplace(directory, names[0], directory, names[1])
            assert error.value.errno == errno.EINVAL
        assert (tmp_path / "a").is_dir()


def test_who_comes_last_takes_its_children_and_threads_along() -> None:
    """In a process of its own: an ordinary user never gets a niceness back."""
    number = {"x86_64": 252, "aarch64": 31, "riscv64": 31}.get(os.uname().machine)
    if number is None:
        pytest.skip("the number of ioprio_get is not known for this processor")
    told = f"import ctypes, os; print(os.nice(0), ctypes.CDLL(None).syscall({number}, 1, 0) >> 13)"
    script = (
        "import subprocess, sys, threading\n"
        "from cleanup.storage import linux\n"
        "print(linux.come_last(), flush=True)\n"
        f"subprocess.run([sys.executable, '-c', {told!r}], check=True)\n"
        f"thread = threading.Thread(target=exec, args=({told!r},)); thread.start(); thread.join()\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["True", "19", "3", "19", "3"]
