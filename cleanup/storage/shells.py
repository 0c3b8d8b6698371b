"""The shell of a run: a folder without data that the wizard makes where a run was renamed away.

A wizard that waits for its lock then makes the missing folders anew, with the lock and perhaps a first record. It holds
nothing of the run, and lies where the run is to be put back.
"""

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from cleanup.storage import handles, linux, record_locks, run_paths
from cleanup.storage.run_paths import METADATA, RunPath
from cleanup.storage.staging import fences, ingest, metadata, run_tree

_ASIDE = re.compile(re.escape(run_paths.FENCE_PREFIX) + rb"(?P<attempt>[0-9a-f]{32})\.shell(-[2-9])?")
_FIRST_STATE = "staging"


@dataclass(frozen=True)
class Shell:
    """What a shell holds; not `complete`: the wizard was about to write its first record."""

    scan: run_tree.Scan
    complete: bool = True

    @property
    def record(self) -> dict[str, int]:
        """What identifies its `ingest.json`, as for `tree.remove`; empty where there is none."""
        for entry in self.scan.entries:
            if entry.path == run_tree.INGEST_PATH:
                return {"ino": entry.ino, "size": entry.size, "mtime_ns": entry.mtime_ns}
        return {}


def read(folder: int, path: RunPath, *, since_ns: int | None) -> Shell | None:
    """The shell open as `folder` of the run at `path`; None for anything else. Raises OSError.

    It holds `.exlab-wizard` with the wizard's locks and a record of one `staging` entry at most, and no data. It was
    born after `since_ns` (nanoseconds since 1970 by the filesystem; None: any time), where that is known.
    """
    if not _holds_metadata_alone(folder):
        return None
    scanned = run_tree.scan(folder)
    early = None not in (since_ns, scanned.birth_ns) and (scanned.birth_ns or 0) < (since_ns or 0)
    if scanned.problems or scanned.is_held or early:
        return None
    inside = [entry for entry in scanned.entries if entry.is_file or entry.path != METADATA]
    if not all(map(_may_be_in_a_shell, inside)):
        return None
    drafts = [entry for entry in inside if metadata.is_draft(_name(entry))]
    has_record = any(entry.path == run_tree.INGEST_PATH for entry in inside)
    if has_record and not _is_first_record(folder, path):
        return None
    return Shell(scanned, complete=not drafts)


def _holds_metadata_alone(folder: int) -> bool:
    """Asked before anything else: of a run with many files the first one tells."""
    with os.scandir(folder) as entries:
        names = [os.fsencode(entry.name) for entry, _ in zip(entries, range(2), strict=False)]
    return names == [METADATA]


def _name(entry: run_tree.Entry) -> bytes:
    return entry.path.removeprefix(METADATA + b"/")


def _may_be_in_a_shell(entry: run_tree.Entry) -> bool:
    known = entry.path == run_tree.INGEST_PATH or run_tree.is_lock(entry) or metadata.is_draft(_name(entry))
    return entry.is_file and run_tree.is_metadata(entry.path) and known


def _is_first_record(folder: int, path: RunPath) -> bool:
    try:
        record = ingest.parse(handles.read_file(folder, run_tree.INGEST_PATH, ingest.MAX_BYTES), path)
    except (ingest.IngestError, OSError):
        return False
    return [entry.state for entry in record.history] == [_FIRST_STATE]


def aside_names(attempt: str) -> Iterator[bytes]:
    """The names that a shell may get while the run of an attempt goes back to its path."""
    first = fences.fence_name(attempt) + b".shell"
    yield first
    yield from (b"%s-%d" % (first, number) for number in range(2, 10))


def attempt_of(name: bytes) -> str | None:
    """The attempt, in hex, that moved a shell aside under this name; None for any other name."""
    found = _ASIDE.fullmatch(name)
    return found["attempt"].decode() if found else None


def kept_aside(parent: int, attempt: str) -> list[bytes]:
    """The shells of an attempt that lie aside in the folder of its run."""
    return [name for name in fences.found_in(parent) if attempt_of(name) == attempt]


def move_aside(parent: int, path: RunPath, attempt: str, *, since_ns: int | None) -> bytes:
    """Give the shell at a run's path a name aside, durably, and return that.

    Raises FileExistsError where anything but a shell lies there, which stays; BlockingIOError while a lock in it is
    held.
    """
    leaf = os.fsencode(path.leaf)
    try:
        folder = handles.open_beneath(parent, leaf)
    except OSError:
        raise _occupied(leaf) from None
    with handles.opened(folder):
        _expect_shell(folder, path, since_ns, leaf)
        name = rename_aside(parent, leaf, attempt)
        try:
            _expect_same(parent, name, folder)
            _expect_shell(folder, path, since_ns, leaf)
        except OSError:
            fences.put_back(parent, name, leaf)
            raise
    return name


def _expect_shell(folder: int, path: RunPath, since_ns: int | None, leaf: bytes) -> None:
    shell = read(folder, path, since_ns=since_ns)
    if shell is None:
        raise _occupied(leaf)
    if record_locks.held_lock(folder, patience_seconds=record_locks.PATIENCE_SECONDS):
        raise BlockingIOError(errno.EAGAIN, "a program holds a lock in the folder at the run's path")
    if not shell.complete:
        raise _occupied(leaf)


def _expect_same(parent: int, name: bytes, folder: int) -> None:
    if linux.status(parent, name).ino != linux.status(folder).ino:
        raise _occupied(name)


def rename_aside(parent: int, leaf: bytes, attempt: str) -> bytes:
    """Give an entry the first free name aside of an attempt, durably. Raises OSError."""
    for name in aside_names(attempt):
        try:
            fences.fence(parent, leaf, name)
        except FileExistsError:
            continue
        return name
    raise _occupied(leaf)


def _occupied(leaf: bytes) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(leaf))
