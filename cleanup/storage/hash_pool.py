"""SHA-256 of many files: small ones one after the other, large ones on several cores at once."""

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Protocol, TypeVar

from cleanup.storage import hashing, linux

# More readers at once would only make a disk seek.
THREADS = min(4, len(os.sched_getaffinity(0)))
# Bytes a file, in the middle of a batch, from which threads gain more than they cost.
LARGE = 256 << 10
_BEAT_SECONDS = 0.2


class _FileToHash(Protocol):
    @property
    def path(self) -> bytes: ...
    @property
    def size(self) -> int: ...


T = TypeVar("T", bound=_FileToHash)
Take = Callable[[T, bytes, linux.FileStatus], None]


class _Stopped(Exception):
    """The caller no longer waits for this file."""


def hash_all(
    directory: int, files: Iterable[T], take: Take[T], *, beat: Callable[[int], None] = lambda count: None
) -> None:
    """Gives `take` each file with its SHA-256 and status, in order; `beat` gets the bytes read since its last call.

    Both are called in this thread, and no other thread is left at the end. Raises OSError as `hashing.hash_batch`, of
    the first file in order.
    """
    read: queue.SimpleQueue[int] = queue.SimpleQueue()
    stopped = threading.Event()

    def note(size: int) -> None:
        if stopped.is_set():
            raise _Stopped
        read.put(size)

    waiting: deque[tuple[list[T], Future[list[hashing.Hashed]]]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for batch in hashing.batches(files):
                paths = [file.path for file in batch]
                if sum(file.size for file in batch) >= LARGE * len(batch):
                    waiting.append((batch, pool.submit(hashing.hash_batch, directory, paths, beat=note)))
                    _take_first(waiting, 2 * THREADS, take, read, beat)
                else:
                    _take_first(waiting, 0, take, read, beat)
                    _take(batch, hashing.hash_batch(directory, paths, beat=beat), take)
            _take_first(waiting, 0, take, read, beat)
        finally:
            # The caller closes the directory: its number must not be another's while a thread reads.
            stopped.set()
            pool.shutdown(cancel_futures=True)


def _take_first(
    waiting: "deque[tuple[list[T], Future[list[hashing.Hashed]]]]",
    most: int,
    take: Take[T],
    read: "queue.SimpleQueue[int]",
    beat: Callable[[int], None],
) -> None:
    """Waits until at most `most` batches are under way."""
    while len(waiting) > most:
        batch, hashed = waiting.popleft()
        while not hashed.done():
            wait([hashed], timeout=_BEAT_SECONDS)
            beat(_drained(read))
        beat(_drained(read))
        _take(batch, hashed.result(), take)


def _drained(read: "queue.SimpleQueue[int]") -> int:
    return sum(read.get() for _ in range(read.qsize()))


def _take(batch: list[T], hashed: list[hashing.Hashed], take: Take[T]) -> None:
    for file, (digest, status) in zip(batch, hashed, strict=True):
        take(file, digest, status)
