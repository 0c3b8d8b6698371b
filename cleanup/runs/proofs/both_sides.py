"""Both sides of a run, read at once: the staged files in a thread here, those of the NAS by its own process."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Self

from cleanup.lab.nas.nas_transport import Reader
from cleanup.lab.roots import opening
from cleanup.runs.proofs.digests import DigestsSoFar
from cleanup.storage import handles, hash_pool, linux
from cleanup.storage.hash_beside import HashBeside
from cleanup.storage.nas import client
from cleanup.storage.run_paths import show
from cleanup.storage.spilled_digests import SpilledDigests
from cleanup.storage.staging import run_tree, tree_entries

_WAIT_SECONDS = 0.2
_LOOK = os.O_PATH | os.O_NOFOLLOW


class BothSides:
    """One reading of all bytes; in its block, and only there, a thread reads the staged files.

    `opened` is the staged run. `progress` gets the bytes read since its last call, several times a second, in the
    caller's thread; an exception from it ends both. `so_far` gets the digests; what it has is read again unless the
    reading `goes_on`. `pace` as for `proofs.compare_bytes`.
    """

    def __init__(
        self,
        opened: int,
        files: Sequence[run_tree.Entry],
        progress: Callable[[int], None],
        *,
        so_far: DigestsSoFar | None = None,
        goes_on: bool = False,
        pace: int = 0,
    ) -> None:
        self._opened = opened
        self._files = files
        self._progress = progress
        self._so_far = so_far
        self._goes_on = goes_on
        self._pace = pace
        self._known_here: dict[bytes, bytes] = {}
        self._known_there: dict[bytes, bytes] = {}
        # Of the files that are read here, in their order.
        self._digests = SpilledDigests(opening.data_dir().path)
        self._changed: set[bytes] = set()
        self._stack = contextlib.ExitStack()
        self._beside: HashBeside[run_tree.Entry] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()
        self._digests.close()

    def listing(self, reader: Reader, twin: str) -> client.Listing:
        """Return the twin with the digests of all files here that it has, and begin with the staged side.

        Raises as `nas.NasReader.read`.
        """
        self._begin()
        note = self._so_far.note_nas if self._so_far is not None else None
        how = client.HowToRead(self._known_there.keys(), self._pace, hash_pool.THREADS_OF_A_SIDE, note)
        wanted = tree_entries.paths_of(self._files)
        found = reader.read(twin, with_bytes=True, wanted=wanted, progress=self._tell, how=how)
        for path, digest in self._known_there.items():
            if path in found.files:
                found.files[path] = found.files[path]._replace(digest=digest)
        return found

    def staged(self) -> Iterator[tuple[run_tree.Entry, bytes, bool]]:
        """Wait for the staged side; yield each file, its digest, and whether it is still the file of the scan.

        Raises OSError that names a file; EBUSY for one that changes while it is read.
        """
        assert self._beside is not None  # noqa: S101
        while not self._beside.has_ended(_WAIT_SECONDS):
            self._tell(0)
        self._tell(0)
        digests = iter(self._digests)
        for entry in self._files:
            known = self._known_here.get(entry.path)
            if known is not None:
                yield entry, known, self._is_still_there(entry)
                continue
            yield entry, next(digests), entry.path not in self._changed

    def _begin(self) -> None:
        if self._so_far is not None and self._goes_on:
            self._progress(sum(self._learn(entry, self._so_far) for entry in self._files))
        known = self._known_here
        files = [entry for entry in self._files if entry.path not in known] if known else self._files
        self._beside = self._stack.enter_context(HashBeside(self._opened, files))

    def _learn(self, entry: run_tree.Entry, so_far: DigestsSoFar) -> int:
        # Returns the bytes that need not be read.
        here, there = so_far.of(entry.path)
        if here is not None:
            self._known_here[entry.path] = here
        if there is not None:
            self._known_there[entry.path] = there
        return entry.size * ((here is not None) + (there is not None))

    def _tell(self, size: int) -> None:
        assert self._beside is not None  # noqa: S101
        for entry, digest, status in self._beside.taken():
            self._digests.add(digest)
            if (status.ino, status.size) != (entry.ino, entry.size):
                self._changed.add(entry.path)
            elif self._so_far is not None and entry.is_unchanged(run_tree.entry_of(entry.path, status)):
                self._so_far.note_staged(entry.path, digest)
        self._progress(size + self._beside.bytes_since())

    def _is_still_there(self, entry: run_tree.Entry) -> bool:
        try:
            with handles.opened(handles.open_beneath(self._opened, entry.path, _LOOK)) as descriptor:
                status = linux.status(descriptor)
        except OSError as error:
            error.filename = show(entry.path)
            raise
        same = (status.ino, status.size, status.mtime_ns) == (entry.ino, entry.size, entry.mtime_ns)
        return same and status.is_file and (entry.nlink > 1 or status.ctime_ns == entry.ctime_ns)
