"""Digests are correct, of unchanged files only, and leave no trace."""

import errno
import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cleanup.storage.hashing import batches, hash_batch, hash_file
from cleanup.storage.staging.run_tree import Entry
from tests.storage.children import as_ordinary_user, give_away

pytestmark = pytest.mark.one_engine(by="function")


Open = Callable[[Path], int]
BLOCK = 1 << 20


@pytest.mark.parametrize("size", [0, 1, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17])
@pytest.mark.parametrize("drop_cache", [False, True])
def test_equals_what_sha256sum_says(size: int, drop_cache: bool, tmp_path: Path, open_directory: Open) -> None:
    content = (os.urandom(4099) * (size // 4099 + 1))[:size]
    (tmp_path / "file").write_bytes(content)
    told: list[int] = []
    digest, status = hash_file(open_directory(tmp_path), b"file", drop_cache=drop_cache, beat=told.append)
    assert digest == hashlib.sha256(content).digest()
    said = subprocess.run(["sha256sum", tmp_path / "file"], capture_output=True, check=True).stdout
    assert digest.hex().encode() == said.split()[0]
    assert (status.ino, status.size) == ((tmp_path / "file").stat().st_ino, size)
    assert sum(told) == size


def test_reads_beneath_folders_and_by_any_name(tmp_path: Path, open_directory: Open) -> None:
    name = b"a/\xff\n-rf"
    (tmp_path / "a").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"x")
    assert hash_file(open_directory(tmp_path), name)[0] == hashlib.sha256(b"x").digest()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda path: path.open("ab").write(b"more"), id="grows"),
        pytest.param(lambda path: os.truncate(path, 10), id="shrinks"),
        pytest.param(lambda path: os.pwrite(os.open(path, os.O_WRONLY), b"x", 0), id="same size"),
        pytest.param(lambda path: os.utime(path, ns=(0, path.stat().st_mtime_ns)), id="times set back"),
    ],
)
def test_a_file_that_changes_meanwhile_is_busy(
    change: Callable[[Path], object], tmp_path: Path, open_directory: Open
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"y" * (2 * BLOCK))
    os.utime(path, (1_776_000_000, 1_776_000_000))
    changed: list[object] = []

    def meanwhile(size: int) -> None:
        if not changed:
            changed.append(change(path))

    with pytest.raises(OSError, match="changed while it was read") as busy:
        hash_file(open_directory(tmp_path), b"file", beat=meanwhile)
    assert busy.value.errno == errno.EBUSY


@pytest.mark.parametrize("name", [b"link", b"folder/file", b"folder/../real/file"])
def test_follows_no_link(name: bytes, tmp_path: Path, open_directory: Open) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").write_bytes(b"secret")
    (tmp_path / "link").symlink_to("real/file")
    (tmp_path / "folder").symlink_to("real")
    with pytest.raises(OSError, match="symbolic") as refused:
        hash_file(open_directory(tmp_path), name)
    assert refused.value.errno == errno.ELOOP


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_what_is_no_file_is_refused_and_never_waited_for(kind: str, tmp_path: Path, open_directory: Open) -> None:
    (tmp_path / "odd").mkdir() if kind == "directory" else os.mkfifo(tmp_path / "odd")
    with pytest.raises(OSError, match="not a regular file") as refused:
        hash_file(open_directory(tmp_path), b"odd")
    assert refused.value.errno == errno.EINVAL


def test_a_missing_file_is_missing(tmp_path: Path, open_directory: Open) -> None:
    with pytest.raises(FileNotFoundError):
        hash_file(open_directory(tmp_path), b"nothing")


def test_leaves_no_access_time_behind(tmp_path: Path, open_directory: Open) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    os.utime(path, (1_000_000_000, 1_776_000_000))  # read so long ago that even "relatime" would write the new time
    before = path.stat()
    hash_file(open_directory(tmp_path), b"file")
    assert path.stat() == before
    path.read_bytes()
    if path.stat().st_atime == before.st_atime:
        pytest.skip("access times are not kept on this filesystem, so the test proves nothing")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_reads_files_of_others_which_leave_an_access_time(tmp_path: Path, open_directory: Open) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "file").chmod(0o644)
    tmp_path.chmod(0o755)
    directory = open_directory(tmp_path)
    assert as_ordinary_user(lambda: hash_file(directory, b"file")[0]) == hashlib.sha256(b"x").digest()


def test_an_unreadable_file_is_an_error(tmp_path: Path, open_directory: Open) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "file").chmod(0)
    give_away(tmp_path, tmp_path / "file")
    directory = open_directory(tmp_path)
    with pytest.raises(PermissionError):
        as_ordinary_user(lambda: hash_file(directory, b"file"))


def entry(path: bytes, size: int) -> Entry:
    return Entry(path, True, 1, 1, size, size, 0, 0)


def test_batches_are_small_files_together_and_big_ones_alone() -> None:
    files = [entry(b"small", 10)] * 1200 + [entry(b"big", 1 << 30), entry(b"bigger", 2 << 30), entry(b"last", 1)]
    sizes = [[one.size for one in batch] for batch in batches(files)]
    assert [len(batch) for batch in sizes] == [500, 500, 200, 1, 1, 1]
    assert [one for batch in sizes for one in batch] == [one.size for one in files]
    assert list(batches([])) == []


def test_a_batch_is_hashed_in_order_and_names_what_cannot_be_read(tmp_path: Path, open_directory: Open) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    digests = [digest for digest, _status in hash_batch(open_directory(tmp_path), [b"b", b"a"])]
    assert digests == [hashlib.sha256(name).digest() for name in (b"b", b"a")]
    with pytest.raises(FileNotFoundError) as missing:
        hash_batch(open_directory(tmp_path), [b"a", b"gone\n"])
    assert missing.value.filename == "gone\\n"
