"""The shell of a run: a folder without data that the wizard makes where a run was renamed away."""

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from cleanup.storage import handles, linux, run_paths
from cleanup.storage.run_paths import METADATA, RunPath
from cleanup.storage.staging import fences, metadata, record_locks, run_tree
from cleanup.storage.staging.records import ingest_json as ingest

_ASIDE = re.compile(re.escape(run_paths.FENCE_PREFIX) + rb"(?P<attempt>[0-9a-f]{32})\.shell(-[2-9])?")
# A wizard that waits for its lock makes missing folders anew, with the lock and perhaps a first record.
_FIRST_STATE = "staging"


@dataclass(frozen=True)
class Shell:
    """The entries of a shell; not `complete`: the wizard is about to write its first record."""

    scan: run_tree.Scan
    complete: bool = True

    @property
    def record(self) -> dict[str, int]:
        """Returns the marks of its `ingest.json`, as `fences.prepare_record` does, or nothing."""
        for entry in self.scan.entries:
            if entry.path == run_tree.INGEST_PATH:
                return {"ino": entry.ino, "size": entry.size, "mtime_ns": entry.mtime_ns}
        return {}


def read(folder: int, path: RunPath, *, since_ns: int | None) -> Shell | None:
    """Returns the shell open as `folder` of the run at `path`, or None.

    It holds only the wizard's locks, drafts and a record of one `staging` entry, and was born after `since_ns`
    (nanoseconds since 1970; None: any time), where known. Raises OSError.
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
    # Asked first: for a run with many files the first names are enough.
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
    """Yields the names aside for a shell while an attempt's run returns to its path."""
    first = fences.fence_name(attempt) + b".shell"
    yield first
    yield from (b"%s-%d" % (first, number) for number in range(2, 10))


def attempt_of(name: bytes) -> str | None:
    """Returns the attempt, in hex, that moved a shell to this name, or None."""
    found = _ASIDE.fullmatch(name)
    return found["attempt"].decode() if found else None


def kept_aside(parent: int, attempt: str) -> list[bytes]:
    """Returns the shells that an attempt moved aside in its run's folder."""
    return [name for name in fences.found_in(parent) if attempt_of(name) == attempt]


def move_aside(parent: int, path: RunPath, attempt: str, *, since_ns: int | None) -> bytes:
    """Renames the shell at a run's path aside, durably; returns the name.

    Raises FileExistsError for anything else there, which stays; BlockingIOError for a held lock.
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
    """Renames an entry to an attempt's first free name aside, durably. Raises OSError."""
    for name in aside_names(attempt):
        try:
            fences.fence(parent, leaf, name)
        except FileExistsError:
            continue
        return name
    raise _occupied(leaf)


def _occupied(leaf: bytes) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(leaf))
