"""SHA-256 of many files: large ones on several cores, small ones in batches, at once where each is waited for."""

import os
import resource
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from cleanup.storage import hashing, linux

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

_CORES = len(os.sched_getaffinity(0))
# More readers at once would only make a disk seek.
THREADS = min(4, _CORES)
# For each of two sides that are read at once.
THREADS_OF_A_SIDE = max(1, min(4, _CORES // 2))
# Bytes a file, in the middle of a batch, from which threads gain more than they cost.
LARGE = 256 << 10
# Small files at once where each is waited for: over a network every one costs several round trips.
AT_ONCE = 16
# How often a file is waited for, in the middle of a batch, from which on several are read at once.
_WAITS = 0.5
# Small files that a thread takes at a time.
_PART = 32
_BEAT_SECONDS = 0.2


class FileToHash(Protocol):
    """A path beneath the directory, and about how many bytes."""

    @property
    def path(self) -> bytes: ...
    @property
    def size(self) -> int: ...


T = TypeVar("T", bound=FileToHash)
HashedFiles = list[tuple[T, bytes, linux.FileStatus]]
Beat = Callable[[int], None]


class _Stopped(Exception):
    """The caller no longer waits for this file."""


def hash_batches(
    directory: int,
    files: Iterable[T],
    *,
    beat: Beat = lambda count: None,
    threads: int = THREADS,
    at_once: int = AT_ONCE,
    drop_cache: bool = False,
) -> Generator[HashedFiles[T], None, None]:
    """Yields the files with their SHA-256 and status, in order; `beat` gets the bytes read since its last call.

    `beat` is called in this thread, also with 0; no other thread is left when the generator is at its end or closed.
    `threads` read large files, and `at_once` small ones that are waited for; `drop_cache` as for `hashing.hash_file`.
    Raises OSError as `hashing.hash_batch`, of the first file in order.
    """
    hash_batch = partial(hashing.hash_batch, directory, drop_cache=drop_cache)
    is_waited_for = False
    with _Pool[T](hash_batch, threads) as large, _Pool[T](hash_batch, at_once) as small:
        for batch in hashing.batches(files):
            size = sum(file.size for file in batch)
            if threads > 1 and size >= LARGE * len(batch):
                yield from small.done(0, beat)
                large.begin(batch)
                yield from large.done(2 * threads, beat)
                continue
            yield from large.done(0, beat)
            if is_waited_for and at_once > 1 and len(batch) >= _PART:
                for at in range(0, len(batch), _PART):
                    small.begin(batch[at : at + _PART])
                yield from small.done(2 * at_once, beat)
                continue
            yield from small.done(0, beat)
            before = _waits()
            yield _with(batch, hash_batch([file.path for file in batch], beat=beat))
            is_waited_for = _waits() - before >= _WAITS * max(len(batch), _PART)
        yield from large.done(0, beat)
        yield from small.done(0, beat)


def _waits() -> int:
    # A thread that waits leaves its processor of its own accord; on a busy machine it is made to.
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


class _Pool(Generic[T]):
    """Threads that hash batches; all have ended after the block."""

    def __init__(self, hash_batch: Callable[..., list[hashing.Hashed]], threads: int) -> None:
        self._hash_batch = hash_batch
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: deque[tuple[list[T], Future[list[hashing.Hashed]]]] = deque()
        self._read: deque[int] = deque()
        self._is_stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        # The caller closes the directory: its number must not be another's while a thread reads.
        self._is_stopped = True
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def begin(self, batch: list[T]) -> None:
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor  # long to import, and needed by few runs

            self._pool = ThreadPoolExecutor(self._threads)
        paths = [file.path for file in batch]
        self._waiting.append((batch, self._pool.submit(self._hash_batch, paths, beat=self._note)))

    def done(self, most: int, beat: Beat) -> Iterator[HashedFiles[T]]:
        """Waits until at most `most` batches are under way."""
        while len(self._waiting) > most:
            from concurrent.futures import wait

            batch, hashed = self._waiting.popleft()
            while not hashed.done():
                wait([hashed], timeout=_BEAT_SECONDS)
                beat(self._drained())
            beat(self._drained())
            yield _with(batch, hashed.result())

    def _note(self, size: int) -> None:
        if self._is_stopped:
            raise _Stopped
        self._read.append(size)

    def _drained(self) -> int:
        return sum(self._read.popleft() for _ in range(len(self._read)))


def _with(batch: list[T], hashed: list[hashing.Hashed]) -> HashedFiles[T]:
    return [(file, digest, status) for file, (digest, status) in zip(batch, hashed, strict=True)]
