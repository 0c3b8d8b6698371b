"""Files that are hashed in a thread of their own, while the caller does something else."""

import threading
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from typing import Generic, Self

from cleanup.storage import hash_pool
from cleanup.storage.hash_pool import HashedFiles, T

# Batches that wait for the caller, and how long the thread then rests.
_MOST_WAITING = 32
_PAUSE_SECONDS = 0.01


class _NoLongerWanted(Exception):
    """The caller has left the block."""


class HashBeside(Generic[T]):
    """Hashes files as `hash_pool.hash_batches`, beside the caller, from the beginning of a block to its end.

    The thread touches nothing but the files, and has ended after the block.
    """

    def __init__(self, directory: int, files: Sequence[T]) -> None:
        self._directory = directory
        self._files = files
        self._hashed: deque[HashedFiles[T]] = deque()
        self._read = self._told = 0  # bytes
        self._stopped = threading.Event()
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._hash, name="hash-beside")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set()
        self._thread.join()

    def taken(self) -> HashedFiles[T]:
        """Returns what has been hashed since the last call, in order."""
        found: HashedFiles[T] = []
        while self._hashed:
            found += self._hashed.popleft()
        return found

    def bytes_since(self) -> int:
        """Returns the bytes read since the last call."""
        read, told = self._read, self._told
        self._told = read
        return read - told

    def has_ended(self, seconds: float) -> bool:
        """Waits at most so long; whether all that is to come can be `taken`. Raises as `hash_pool.hash_batches`."""
        ended = self._ended.wait(seconds)
        if ended and self._error is not None:
            raise self._error
        return ended

    def _hash(self) -> None:
        hashed = hash_pool.hash_batches(
            self._directory, self._files, beat=self._note, threads=hash_pool.THREADS_OF_A_SIDE
        )
        try:
            with closing(hashed) as batches:
                for batch in batches:
                    self._hashed.append(batch)
                    # What the caller has not taken takes room.
                    while len(self._hashed) >= _MOST_WAITING and not self._stopped.wait(_PAUSE_SECONDS):
                        pass
        except BaseException as error:  # of every kind: the caller waits, and raises it in its own thread
            self._error = error
        self._ended.set()

    def _note(self, size: int) -> None:
        if self._stopped.is_set():
            raise _NoLongerWanted
        self._read += size
