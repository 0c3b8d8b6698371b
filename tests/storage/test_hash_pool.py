"""Many files are hashed in order, large ones side by side, and nothing goes on after the end."""

import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cleanup.storage import hash_pool, hashing, linux
from cleanup.storage.staging import run_tree
from cleanup.storage.staging.run_tree import Entry

pytestmark = pytest.mark.one_engine(by="function")

Open = Callable[[Path], int]
LARGE = 2 * hash_pool.LARGE
# A batch of its own.
HUGE = (16 << 20) + 1


@pytest.fixture(autouse=True, params=[False, True], ids=["", "waited for"])
def is_waited_for(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether small files seem to come from a storage that lets them be waited for."""
    monkeypatch.setattr(hash_pool, "_WAITS", 0.0 if request.param else 1e9)
    return bool(request.param)


def lay(folder: Path, *sizes: int) -> list[Path]:
    paths = [folder / f"{number:03}" for number in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        path.write_bytes(path.name.encode() * (size // 3 + 1))
    return paths


def entries_of(run: int) -> list[Entry]:
    return sorted(run_tree.scan(run).data_files)


def hash_all(
    run: int, files: list[Entry], take: Callable[..., None], *, beat: Callable[[int], None] = lambda size: None
) -> None:
    with closing(hash_pool.hash_batches(run, files, beat=beat)) as batches:
        for batch in batches:
            for hashed in batch:
                take(*hashed)


def test_every_file_is_taken_in_order_in_this_thread(tmp_path: Path, open_directory: Open) -> None:
    paths = lay(tmp_path, *[10] * 600, *[LARGE] * 9, HUGE, HUGE, *[5] * 3, HUGE, 0)
    run, taken, read, threads = open_directory(tmp_path), list[tuple[bytes, bytes, int]](), list[int](), set[int]()

    def take(entry: Entry, digest: bytes, status: linux.FileStatus) -> None:
        threads.add(threading.get_ident())
        taken.append((entry.path, digest, status.ino))

    def beat(size: int) -> None:
        threads.add(threading.get_ident())
        read.append(size)

    hash_all(run, entries_of(run), take, beat=beat)
    assert taken == [
        (path.name.encode(), hashlib.sha256(path.read_bytes()).digest(), path.stat().st_ino) for path in paths
    ]
    assert sum(read) == sum(path.stat().st_size for path in paths)
    assert threads == {threading.get_ident()}


@pytest.mark.skipif(hash_pool.THREADS < 2, reason="one core alone")
def test_large_files_are_read_at_once_and_small_ones_are_not(
    tmp_path: Path, open_directory: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(tmp_path, 10, HUGE, HUGE, 10)
    run, real, together = open_directory(tmp_path), hashing.hash_file, threading.Barrier(2, timeout=30)
    threads = dict[bytes, int]()

    def met(directory: int, path: bytes, **how: object) -> hashing.Hashed:
        threads[path] = threading.get_ident()
        if path in (b"001", b"002"):
            together.wait()  # breaks if the two are not under way at once
        return real(directory, path, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(hashing, "hash_file", met)
    hash_all(run, entries_of(run), lambda *taken: None)
    assert threads[b"000"] == threads[b"003"] == threading.get_ident()
    assert len({threads[b"001"], threads[b"002"], threading.get_ident()}) == 3


def test_small_files_are_read_at_once_only_where_each_is_waited_for(
    tmp_path: Path, open_directory: Open, monkeypatch: pytest.MonkeyPatch, is_waited_for: bool
) -> None:
    paths, threads, real = lay(tmp_path, *[10] * 900), set[int](), hashing.hash_file
    together = threading.Barrier(12 if is_waited_for else 1, timeout=30)

    def met(directory: int, path: bytes, **how: object) -> hashing.Hashed:
        if path in {b"%03d" % (500 + number * hash_pool._PART) for number in range(together.parties)}:
            together.wait()  # breaks if so many are not under way at once
        threads.add(threading.get_ident())
        return real(directory, path, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(hashing, "hash_file", met)
    taken: list[bytes] = []
    for batch in hash_pool.hash_batches(open_directory(tmp_path), entries_of(open_directory(tmp_path)), at_once=12):
        taken += [digest for _entry, digest, _status in batch]
    assert taken == [hashlib.sha256(path.read_bytes()).digest() for path in paths]
    assert len(threads) == (13 if is_waited_for else 1)


def test_the_first_error_in_order_is_raised_and_no_thread_goes_on(tmp_path: Path, open_directory: Open) -> None:
    paths, threads = lay(tmp_path, *[HUGE] * 4), threading.active_count()
    run, taken = open_directory(tmp_path), list[bytes]()
    files = entries_of(run)
    for path in paths[1:3]:
        path.unlink()
    with pytest.raises(FileNotFoundError) as missing:
        hash_all(run, files, lambda entry, *hashed: taken.append(entry.path))
    assert (missing.value.filename, taken) == ("001", [b"000"])
    assert threading.active_count() == threads


def test_the_first_error_among_small_files_is_raised_and_no_thread_goes_on(
    tmp_path: Path, open_directory: Open
) -> None:
    paths, threads = lay(tmp_path, *[10] * 999), threading.active_count()
    run, taken = open_directory(tmp_path), list[bytes]()
    files = entries_of(run)
    for number in (700, 710, 990):
        paths[number].unlink()
    with pytest.raises(FileNotFoundError) as missing:
        hash_all(run, files, lambda entry, *hashed: taken.append(entry.path))
    assert missing.value.filename == "700"
    assert taken == [b"%03d" % number for number in range(len(taken))]
    assert len(taken) in (500, 500 + 6 * hash_pool._PART)
    assert threading.active_count() == threads


@pytest.mark.parametrize("where", ["take", "beat"])
def test_whatever_stops_the_caller_ends_every_read(where: str, tmp_path: Path, open_directory: Open) -> None:
    lay(tmp_path, HUGE, *[LARGE] * 40)
    run, threads = open_directory(tmp_path), threading.active_count()
    files, descriptors = entries_of(run), len(os.listdir("/proc/self/fd"))

    def stop(*told: object) -> None:
        raise KeyboardInterrupt

    how = {"take": lambda *taken: None, "beat": lambda size: None, where: stop}
    with pytest.raises(KeyboardInterrupt):
        hash_all(run, files, how["take"], beat=how["beat"])
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == descriptors
