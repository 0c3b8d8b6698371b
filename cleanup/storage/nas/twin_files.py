"""The files of a twin on their way to the reader: listed, or read and hashed."""

import os
import time
from collections.abc import Callable, Container, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

from cleanup.storage import hash_pool, linux
from cleanup.storage.nas import protocol

# The most files of one frame, and the most seconds that a file waits for its frame.
_FILES = 500
_SECONDS = 1.0
# A paced reading gives a sign of life this often.
_NAP_SECONDS = 0.5

Answer = dict[str, Any]
Beat = Callable[[int], None]


class Found(NamedTuple):
    """A file that the walk has found."""

    path: bytes
    status: linux.FileStatus

    @property
    def size(self) -> int:
        return self.status.size


def answers(run: int, walk: Iterable[Answer | Found], request: Answer, beat: Beat) -> Iterator[Answer]:
    """Yields batches of the files that a walk through the open run finds, and what else it says.

    The request's `wanted` files, or all, are hashed if it asks `with_bytes`; `pace` and `threads` as for
    `client.HowToRead`. Raises OSError that names the file.
    """
    listed = _Batches(with_digests=False)
    if not request["with_bytes"]:
        for found in walk:
            yield from listed.add(found.path, found.status) if isinstance(found, Found) else (found,)
        yield from listed.rest()
        return
    wanted: Container[bytes] | None = request.get("wanted")
    read, aside = _Batches(with_digests=True), list[Answer]()

    def to_read() -> Iterator[Found]:
        for found in walk:
            if not isinstance(found, Found):
                aside.append(found)
            elif wanted is None or found.path in wanted:
                yield found
            else:
                aside.extend(listed.add(found.path, found.status))

    with closing(_hashed(run, to_read(), request, beat)) as batches:
        for batch in batches:
            yield from _all_of(aside)
            for found, digest, status in batch:
                yield from read.add(found.path, status, digest)
            yield from read.late()
    yield from (*_all_of(aside), *listed.rest(), *read.rest())


def _hashed(
    run: int, files: Iterator[Found], request: Answer, beat: Beat
) -> Generator[hash_pool.HashedFiles[Found], None, None]:
    pace = request.get("pace", 0)
    note = Pace(pace, beat).note if pace else beat
    return hash_pool.hash_batches(
        run,
        files,
        # Without bytes no sign of life: a thread may hang.
        beat=lambda size: note(size) if size else None,
        threads=1 if pace else request.get("threads", 1),
        at_once=1 if pace else hash_pool.AT_ONCE,
        drop_cache=True,
    )


def _all_of(aside: list[Answer]) -> list[Answer]:
    found = aside.copy()
    aside.clear()
    return found


class _Batches:
    """Files for the reader, in batches: soon after they were read."""

    def __init__(self, *, with_digests: bool) -> None:
        self._with_digests = with_digests
        self._batch = protocol.FileBatch(with_digests=with_digests)
        self._since = time.monotonic()

    def add(self, path: bytes, status: linux.FileStatus, digest: bytes = b"") -> Iterator[Answer]:
        try:
            self._batch.add(path, status, digest)
        except OSError as error:  # no message carries its time: it counts only if it is wanted
            yield {"unread": [os.fsdecode(path), error.errno]}
        if len(self._batch) >= _FILES:
            yield from self.rest()

    def late(self) -> Iterator[Answer]:
        """Yields a batch that has waited long enough."""
        if time.monotonic() - self._since >= _SECONDS:
            yield from self.rest()

    def rest(self) -> Iterator[Answer]:
        if len(self._batch):
            yield {"files": self._batch}
        self._batch, self._since = protocol.FileBatch(with_digests=self._with_digests), time.monotonic()


class Pace:
    """Sleeps so that at most `most` bytes a second are read; `beat` goes on meanwhile."""

    def __init__(self, most: int, beat: Beat) -> None:
        self._most = most
        self._beat = beat
        self._free_at = time.monotonic()

    def note(self, size: int) -> None:
        """Waits as long as this number of bytes may take."""
        self._beat(size)
        # What it was slower before is not made up for.
        self._free_at = max(self._free_at, time.monotonic()) + size / self._most
        while (left := self._free_at - time.monotonic()) > 0:
            time.sleep(min(left, _NAP_SECONDS))
            self._beat(0)
