"""The files of a removal, in tasks that threads take."""

import itertools
from collections.abc import Iterable, Iterator

from cleanup.storage.staging.run_tree import Entry

# About as many files are one task: enough that taking one costs nothing, few enough that all threads end together.
TASK_FILES = 250
# Neighbours in one directory, with its path.
Batch = tuple[bytes, list[Entry]]


def tasks_of(files: Iterable[Entry], *, settle_links: bool) -> Iterator[list[Batch]]:
    """Yields all files in their order, some `TASK_FILES` at a time; a large directory is several tasks.

    `settle_links`: files with several links come last, all names of an inode in one task. Each name that goes changes
    the times of the others, so one thread must take them all.
    """
    linked: list[Entry] = []
    yield from _filled(batches(_without_links(files, linked) if settle_links else files))
    share: list[Entry] = []
    for _, names in itertools.groupby(sorted(linked, key=_inode_of), _inode_of):
        share += names
        if len(share) >= TASK_FILES:
            yield list(batches(sorted(share)))
            share = []
    if share:
        yield list(batches(sorted(share)))


def _filled(found: Iterable[Batch]) -> Iterator[list[Batch]]:
    task: list[Batch] = []
    size = 0
    for batch in found:
        task.append(batch)
        size += len(batch[1])
        if size >= TASK_FILES:
            yield task
            task, size = [], 0
    if task:
        yield task


def _without_links(files: Iterable[Entry], linked: list[Entry]) -> Iterator[Entry]:
    for entry in files:
        if entry.nlink > 1:
            linked.append(entry)
        else:
            yield entry


def batches(files: Iterable[Entry]) -> Iterator[Batch]:
    """Yields neighbours in one directory, at most `TASK_FILES` at a time."""
    for path, entries in itertools.groupby(files, folder_of):
        while batch := list(itertools.islice(entries, TASK_FILES)):
            yield path, batch


def _inode_of(entry: Entry) -> int:
    return entry.ino


def folder_of(entry: Entry) -> bytes:
    return entry.path.rpartition(b"/")[0]
