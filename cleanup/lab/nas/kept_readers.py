"""Processes that read a NAS for one run after another: to start one takes as long as to clear a small run.

A kept process holds nothing open on the NAS: it opens the root anew, by its path and token, for each question. So an
unmounted or exchanged NAS is seen as before.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple

from cleanup.lab.nas.abandoned_readers import AbandonedReaders
from cleanup.storage.nas import reader_process
from cleanup.storage.nas.client import NasReader


class ReadRoot(NamedTuple):
    """A NAS root by path and token, and the token of the staging root whose runs are looked for there."""

    path: str
    token: str
    staging: str


@dataclass
class _KeptReaders:
    readers: dict[ReadRoot, NasReader] = field(default_factory=dict)

    def close(self) -> None:
        while self.readers:
            self.readers.popitem()[1].__exit__()


_keeping: ContextVar[_KeptReaders | None] = ContextVar("kept_readers", default=None)
_of_process = _KeptReaders()


@contextlib.contextmanager
def keeping() -> Iterator[None]:
    """Keep the processes that read a NAS for later runs; they end with the outermost such block."""
    if _keeping.get() is not None:
        yield
        return
    kept = _KeptReaders()
    token = _keeping.set(kept)
    try:
        yield
    finally:
        _keeping.reset(token)
        kept.close()


@contextlib.contextmanager
def keeping_on() -> Iterator[None]:
    """As `keeping`, but they wait for the next such block of this process, and end with the process."""
    token = _keeping.set(_of_process)
    try:
        yield
    finally:
        _keeping.reset(token)


def end() -> None:
    """End those that wait for the next task."""
    _of_process.close()


@contextlib.contextmanager
def lent(
    root: ReadRoot, abandoned: AbandonedReaders, start: Callable[[ReadRoot, AbandonedReaders], NasReader]
) -> Iterator[NasReader]:
    """A reader for some questions: one that is kept, or a new one. `abandoned` learns which of its processes hang."""
    kept = _keeping.get()
    reader = kept.readers.pop(root, None) if kept is not None else None
    if reader is not None and not reader_process.is_waiting(reader):
        reader.__exit__()
        reader = None
    if reader is None:
        reader = start(root, abandoned)
    else:
        reader_process.hand_on(reader, abandoned)
    try:
        yield reader
    finally:
        if kept is not None and reader_process.is_waiting(reader) and root not in kept.readers:
            kept.readers[root] = reader
        else:
            reader.__exit__()
