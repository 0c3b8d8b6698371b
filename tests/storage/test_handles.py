"""The way down follows no link and crosses no mount."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from cleanup.storage import handles
from tests.storage.children import mount, with_own_mounts

pytestmark = pytest.mark.one_engine(by="function")


Open = Callable[[Path], int]


class TestOpenBeneath:
    def test_opens_what_lies_beneath(self, tmp_path: Path, open_directory: Open) -> None:
        (tmp_path / "a/b").mkdir(parents=True)
        with handles.opened(handles.open_beneath(open_directory(tmp_path), b"a/b")) as descriptor:
            assert os.fstat(descriptor).st_ino == (tmp_path / "a/b").stat().st_ino
            assert not os.get_inheritable(descriptor)

    @pytest.mark.parametrize("path", [b"..", b"../root", b"a/../..", b"/", b"/etc", b"/proc/self/root"])
    def test_does_not_escape(self, tmp_path: Path, path: bytes, open_directory: Open) -> None:
        (tmp_path / "root/a").mkdir(parents=True)
        assert error_of(open_directory(tmp_path / "root"), path) == errno.EXDEV

    @pytest.mark.parametrize("target", ["/", "..", "inside", "nowhere"])
    @pytest.mark.parametrize("path", [b"link", b"link/sub", b"inside/../link"])
    def test_follows_no_link(self, tmp_path: Path, target: str, path: bytes, open_directory: Open) -> None:
        (tmp_path / "inside/sub").mkdir(parents=True)
        (tmp_path / "link").symlink_to(target)
        assert error_of(open_directory(tmp_path), path) in (errno.ELOOP, errno.ENOTDIR)

    def test_follows_no_magic_link(self, open_directory: Open) -> None:
        myself = open_directory(Path(f"/proc/{os.getpid()}"))
        assert error_of(myself, b"cwd") in (errno.ELOOP, errno.ENOTDIR)
        assert error_of(myself, b"fd/0", os.O_RDONLY) == errno.ELOOP

    def test_crosses_no_mount_even_of_the_same_filesystem(self, tmp_path: Path, open_directory: Open) -> None:
        (tmp_path / "elsewhere/deep").mkdir(parents=True)
        (tmp_path / "root/mounted").mkdir(parents=True)

        def on_a_bind_mount() -> tuple[int, int]:
            mount("--bind", tmp_path / "elsewhere", tmp_path / "root/mounted")
            root = handles.open_root(str(tmp_path / "root"))
            return error_of(root, b"mounted"), error_of(root, b"mounted/deep")

        assert with_own_mounts(on_a_bind_mount) == (errno.EXDEV, errno.EXDEV)

    def test_a_name_is_not_cut_off_at_a_zero_byte(self, tmp_path: Path, open_directory: Open) -> None:
        (tmp_path / "a").mkdir()
        assert error_of(open_directory(tmp_path), b"a\0b") == errno.EINVAL

    def test_says_what_is_missing(self, tmp_path: Path, open_directory: Open) -> None:
        with pytest.raises(FileNotFoundError) as missing:
            handles.open_beneath(open_directory(tmp_path), b"a/b")
        assert missing.value.filename == "a/b"
        assert error_of(open_directory(tmp_path), b"") == errno.ENOENT


def error_of(directory: int, path: bytes, flags: int = handles.DIRECTORY) -> int:
    with pytest.raises(OSError) as error:
        handles.open_beneath(directory, path, flags)
    return error.value.errno or 0


class TestOpenRoot:
    def test_refuses_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        with pytest.raises(OSError, match=r"Not a directory|symbolic"):
            handles.open_root(str(tmp_path / "link"))

    def test_refuses_a_file_and_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError):
            handles.open_root(str(tmp_path / "file"))
        with pytest.raises(FileNotFoundError):
            handles.open_root(str(tmp_path / "nowhere"))


class TestReadFile:
    def test_reads_no_more_than_one_byte_beyond_the_limit(self, tmp_path: Path, open_directory: Open) -> None:
        (tmp_path / "file").write_bytes(b"x" * 5_000_000)
        directory = open_directory(tmp_path)
        for limit in (0, 10, 1 << 20, (1 << 20) + 1, 4_999_999):
            assert len(handles.read_file(directory, b"file", limit)) == limit + 1
        for limit in (5_000_000, 5_000_001):
            assert len(handles.read_file(directory, b"file", limit)) == 5_000_000

    @pytest.mark.parametrize("kind", ["fifo", "directory", "socket"])
    def test_never_reads_what_is_no_file(self, kind: str, tmp_path: Path, open_directory: Open) -> None:
        path = tmp_path / "odd"
        if kind == "directory":
            path.mkdir()
        else:
            os.mknod(path, 0o600 | (stat.S_IFIFO if kind == "fifo" else stat.S_IFSOCK))
        with pytest.raises(OSError, match=r"not a regular file|No such device") as error:
            handles.read_file(open_directory(tmp_path), b"odd", 10)
        assert error.value.errno in (errno.EINVAL, errno.ENXIO)


def test_an_flock_excludes_another_descriptor_and_ends_with_its_block(tmp_path: Path) -> None:
    with (
        handles.opened(handles.open_root(str(tmp_path))) as one,
        handles.opened(handles.open_root(str(tmp_path))) as two,
    ):
        with handles.flocked(one), pytest.raises(BlockingIOError), handles.flocked(two):
            pass
        with handles.flocked(two):
            pass
