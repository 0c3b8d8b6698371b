"""Removes from a fenced run only the planned entries that still look as planned."""

import errno
import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cleanup.storage import handles, hashing, linux
from cleanup.storage.run_paths import METADATA, show
from cleanup.storage.staging import fences, metadata, run_tree
from cleanup.storage.staging.run_tree import Count, Entry

BATCH_FILES = 1000
# The proven digest of a file's bytes by its path; None without a proof.
Proven = Callable[[bytes], bytes | None]
KEPT_LAST = "kept until the rest is gone"


@dataclass(frozen=True)
class Removal:
    """The freed count, and the left entries: relative path and why."""

    freed: Count
    left: tuple[tuple[bytes, str], ...]


def may_be_emptied(fenced: int, record: Mapping[str, Any]) -> bool:
    """Whether a fenced run holds the published record, or no other file."""
    try:
        with handles.opened(handles.open_beneath(fenced, METADATA)) as folder:
            if is_record(linux.status(folder, fences.record_file(record)), record):
                return True
    except FileNotFoundError:
        pass  # an earlier removal came this far
    path = fences.record_path(fences.record_file(record))
    return not any(entry.is_file and entry.path != path for entry in run_tree.scan(fenced).compared)


def is_record(found: linux.FileStatus, record: Mapping[str, Any]) -> bool:
    marks = {name: value for name, value in record.items() if name != "file"}
    return {"ino": found.ino, "size": found.size, "mtime_ns": found.mtime_ns} == marks


def remove(
    parent: int,
    name: bytes,
    fenced: int,
    planned: Collection[Entry],
    *,
    record: Mapping[str, Any],
    proven: Proven = lambda path: None,
    progress: Callable[[int, int], None] = lambda files, size: None,
    before_the_record: Callable[[], None] = lambda: None,
) -> Removal:
    """Removes the planned entries of the fenced run, and the empty fence.

    Changed, unplanned or irremovable entries stay and are reported. `proven` returns a file's proven digest. The
    published record, known by its marks `record`, goes last, after `before_the_record`, and only if nothing else is
    left. `progress` gets the files and bytes done.
    """
    # An entry that is gone counts as removed, so an interrupted removal can go on.
    left: dict[bytes, str] = {}
    directories = {entry.path: entry for entry in planned if not entry.is_file}
    done_files = done_bytes = 0
    last = fences.record_path(fences.record_file(record))
    for path, files in batches(entry for entry in planned if entry.is_file and entry.path != last):
        left |= _unlink_batch(fenced, path, directories.get(path), files, proven)
        done_files += len(files)
        done_bytes += sum(entry.size for entry in files)
        progress(done_files, done_bytes)
    for path in sorted(directories, key=lambda path: path.count(b"/"), reverse=True):
        if path != METADATA:
            left |= _remove_directory(fenced, directories[path])
    if METADATA in directories:
        left |= _remove_record_last(fenced, directories[METADATA], record, left, before_the_record)
    if not left:
        left |= _remove_fence(parent, name, fenced)
    if left:
        left |= _moved(fenced, planned, left)
    return Removal(run_tree.freed(planned, left), tuple(sorted(left.items())))


def batches(files: Iterable[Entry]) -> Iterator[tuple[bytes, list[Entry]]]:
    """Yields files by directory, at most `BATCH_FILES` at a time; in a plan those of a directory follow each other."""
    for path, entries in itertools.groupby(files, key=lambda entry: entry.path.rpartition(b"/")[0]):
        while batch := list(itertools.islice(entries, BATCH_FILES)):
            yield path, batch


def _unlink_batch(
    fenced: int, path: bytes, directory: Entry | None, files: list[Entry], proven: Proven
) -> dict[bytes, str]:
    try:
        descriptor = handles.open_beneath(fenced, path or b".")
    except FileNotFoundError:
        return {}
    except OSError as error:
        return {entry.path: errno.errorcode.get(error.errno or 0, "error") for entry in files}
    left: dict[bytes, str] = {}
    with handles.opened(descriptor):
        ino = linux.status(descriptor).ino
        if directory is not None and ino != directory.ino:
            return {entry.path: "another directory lies there" for entry in files}
        for entry in files:
            # An open directory reaches its files also after an operator has moved it elsewhere.
            why = _unlink_planned(descriptor, entry, proven) if _lies_at(fenced, path, ino) else "its folder was moved"
            if why:
                left[entry.path] = why
    return left


def _lies_at(fenced: int, path: bytes, ino: int) -> bool:
    if not path:
        return True
    try:
        with handles.opened(handles.open_beneath(fenced, path, os.O_PATH)) as found:
            return linux.status(found).ino == ino
    except OSError:
        return False


def _unlink_planned(directory: int, entry: Entry, proven: Proven) -> str:
    name = entry.path.rpartition(b"/")[2]
    try:
        # Compared with the plan just before it goes.
        found = run_tree.entry_of(entry.path, linux.status(directory, name))
        no_bytes = all(run_tree.is_lock(one) or run_tree.is_linked_lock(one) for one in (entry, found))
        if not (no_bytes or entry.is_unchanged(found) or _holds_proven_bytes(directory, name, entry, found, proven)):
            return "changed"
        _unlink(directory, name)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "error")
    return ""


def _unlink(directory: int, name: bytes) -> None:
    handles.with_write_permission(directory, lambda: os.unlink(name, dir_fd=directory))


def _holds_proven_bytes(directory: int, name: bytes, entry: Entry, found: Entry, proven: Proven) -> bool:
    # A chmod changes only the ctime: then the bytes, read now, must be those that the NAS was proven to hold.
    if not entry.same_as(found._replace(ctime_ns=entry.ctime_ns)):
        return False
    expected = proven(entry.path)
    if expected is None:
        return entry.nlink > 1  # each removed name changes its ctime, and the policy asks for no more proof
    digest, status = hashing.hash_file(directory, name)
    return digest == expected and found.same_as(run_tree.entry_of(entry.path, status))


def _remove_directory(fenced: int, directory: Entry) -> dict[bytes, str]:
    above, _, name = directory.path.rpartition(b"/")
    try:
        with handles.opened(handles.open_beneath(fenced, above or b".")) as parent:
            if linux.status(parent, name).ino != directory.ino:
                return {directory.path: "another directory lies there"}
            handles.with_write_permission(parent, lambda: os.rmdir(name, dir_fd=parent))
    except FileNotFoundError:
        return {}
    except OSError as error:
        return {directory.path: errno.errorcode.get(error.errno or 0, "error")}
    return {}


def _remove_record_last(
    fenced: int,
    top: Entry,
    record: Mapping[str, Any],
    left: dict[bytes, str],
    before_the_record: Callable[[], None],
) -> dict[bytes, str]:
    # While anything else is left the record stays, so that the folder still tells its story.
    file = fences.record_file(record)
    path = fences.record_path(file)
    unplanned = [name for name in run_tree.sorted_names(fenced) if name != METADATA and name not in left]
    if left or unplanned:
        return {**_kept_record(fenced, file), **dict.fromkeys(unplanned, "not in the plan")}
    try:
        with handles.opened(handles.open_beneath(fenced, METADATA)) as directory:
            _unlink_locks(directory)
            unplanned = [name for name in run_tree.sorted_names(directory) if name != file]
            if unplanned:
                return {
                    path: KEPT_LAST,
                    METADATA: f"{show(unplanned[0])} is not in the plan",
                }
            if not is_record(linux.status(directory, file), record):
                return {path: "changed"}
            before_the_record()
            _unlink(directory, file)
    except FileNotFoundError:
        pass
    except OSError as error:
        return {path: errno.errorcode.get(error.errno or 0, "error")}
    return _remove_directory(fenced, top)


def _unlink_locks(directory: int) -> None:
    # Also locks that came after the plan: they are empty.
    for name in run_tree.sorted_names(directory):
        if metadata.may_be_lock(name) and metadata.is_lock(name, linux.status(directory, name)):
            _unlink(directory, name)


def _kept_record(fenced: int, file: bytes) -> dict[bytes, str]:
    try:
        with handles.opened(handles.open_beneath(fenced, METADATA)) as directory:
            linux.status(directory, file)
    except FileNotFoundError:
        return {}
    except OSError:
        pass  # unreadable, so it is left
    return {fences.record_path(file): KEPT_LAST}


def _moved(fenced: int, planned: Collection[Entry], left: Collection[bytes]) -> dict[bytes, str]:
    # Planned files that lie elsewhere in the fence are not removed, so not freed.
    remaining = {entry.path: entry for entry in run_tree.scan(fenced).entries if entry.is_file}
    for entry in planned:
        if entry.path in remaining and remaining[entry.path].ino == entry.ino:
            del remaining[entry.path]
    elsewhere = {(entry.ino, entry.size, entry.mtime_ns): entry.path for entry in remaining.values()}
    moved = {}
    for entry in planned:
        place = elsewhere.get((entry.ino, entry.size, entry.mtime_ns))
        if entry.is_file and entry.path not in left and place is not None:
            moved[entry.path] = f"moved to {show(place)}"
    return moved


def _remove_fence(parent: int, name: bytes, fenced: int) -> dict[bytes, str]:
    try:
        if linux.status(parent, name).ino != linux.status(fenced).ino:
            return {b".": "another directory lies at the fence"}
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        unplanned = ", ".join(show(entry) for entry in run_tree.sorted_names(fenced)[:3])
        return {b".": f"{errno.errorcode.get(error.errno or 0, 'error')}: {unplanned}" if unplanned else "error"}
    os.fsync(parent)
    return {}
