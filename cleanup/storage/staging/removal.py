"""Removes from a fenced run only the planned entries that still look as planned."""

import errno
import itertools
import os
import stat
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cleanup.storage import handles, hashing, linux, shared_work
from cleanup.storage.run_paths import METADATA, show
from cleanup.storage.staging import fences, metadata, removal_tasks, run_tree
from cleanup.storage.staging.run_tree import Count, Entry

# More gain nothing: they wait for one another's turn in the interpreter, or for the disk.
_MOST_REMOVERS = min(4, len(os.sched_getaffinity(0)))
# For fewer entries threads cost more than they gain.
_ENTRIES_FOR_MORE = 500
# The proven digest of a file's bytes by its path; None without a proof.
Proven = Callable[[bytes], bytes | None]
KEPT_LAST = "kept until the rest is gone"
_MOVED = "its folder was moved"


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
    removers: int | None = None,
) -> Removal:
    """Removes the planned entries of the fenced run, and the empty fence.

    Changed, unplanned or irremovable entries stay and are reported. `proven` returns a file's proven digest. The
    published record, known by its marks `record`, goes last, after `before_the_record`, and only if nothing else is
    left. `progress` gets the files and bytes done. So many `removers`, by default as many as gain time, are threads
    that take the files; both callbacks are called in this one, and `before_the_record` when the others have ended.
    """
    # An entry that is gone counts as removed, so an interrupted removal can go on.
    directories = {entry.path: entry for entry in planned if not entry.is_file}
    last = fences.record_path(fences.record_file(record))
    files = (entry for entry in planned if entry.is_file and entry.path != last)
    left = _unlink_files(fenced, files, directories, proven, progress, removers or removers_for(len(planned)))
    left |= _remove_directories(fenced, [entry for path, entry in directories.items() if path != METADATA])
    if METADATA in directories:
        left |= _remove_record_last(fenced, directories[METADATA], record, left, before_the_record)
    if not left:
        left |= _remove_fence(parent, name, fenced)
    if left:
        left |= _moved(fenced, planned, left)
    return Removal(run_tree.freed(planned, left), tuple(sorted(left.items())))


def removers_for(entries: int) -> int:
    """Returns how many threads take the files of a run fastest."""
    return _MOST_REMOVERS if entries >= _ENTRIES_FOR_MORE else 1


def _unlink_files(
    fenced: int,
    files: Iterable[Entry],
    directories: Mapping[bytes, Entry],
    proven: Proven,
    progress: Callable[[int, int], None],
    removers: int,
) -> dict[bytes, str]:
    left: dict[bytes, str] = {}
    done_files = done_bytes = 0
    one_at_a_time = threading.Lock()

    def proven_alone(path: bytes) -> bytes | None:
        with one_at_a_time:
            return proven(path)

    def unlink(batches: list[removal_tasks.Batch], stopped: threading.Event) -> tuple[int, int, dict[bytes, str]]:
        found: dict[bytes, str] = {}
        for path, batch in batches:
            found |= _unlink_batch(fenced, path, directories.get(path), batch, proven_alone, stopped)
        entries = [entry for _, batch in batches for entry in batch]
        return len(entries), sum(entry.size for entry in entries), found

    def take(done: tuple[int, int, dict[bytes, str]]) -> None:
        nonlocal left, done_files, done_bytes
        left |= done[2]
        done_files, done_bytes = done_files + done[0], done_bytes + done[1]
        progress(done_files, done_bytes)

    shared_work.share_out(removal_tasks.tasks_of(files, settle_links=removers > 1), unlink, take, threads=removers)
    return left


def _unlink_batch(
    fenced: int,
    path: bytes,
    directory: Entry | None,
    files: list[Entry],
    proven: Proven,
    stopped: threading.Event,
) -> dict[bytes, str]:
    try:
        descriptor = handles.open_beneath(fenced, path or b".")
    except FileNotFoundError:
        return {}
    except OSError as error:
        return dict.fromkeys((entry.path for entry in files), _code(error))
    left: dict[bytes, str] = {}
    with handles.opened(descriptor):
        ino = os.fstat(descriptor).st_ino
        if directory is not None and ino != directory.ino:
            return dict.fromkeys((entry.path for entry in files), "another directory lies there")
        lies_there = _place_of(fenced, path, ino)
        for entry in files:
            if stopped.is_set():
                break
            # An open directory reaches its files also after an operator has moved it elsewhere.
            if why := _unlink_planned(descriptor, entry, proven) if lies_there() else _MOVED:
                left[entry.path] = why
    return left


def _place_of(fenced: int, path: bytes, ino: int) -> Callable[[], bool]:
    """Returns a question: does the directory `ino` lie at `path`, behind no link and no mount, at this moment?"""
    if not path:
        return lambda: True
    if b"/" in path:
        return lambda: _is_reached(fenced, path, ino)
    # One call sees as much of a name directly in the fence, at a third of the cost.
    read = linux.fields_reader(linux.PLACE_FIELDS)

    def lies_there() -> bool:
        try:
            attributes, found = read(fenced, path)
        except OSError:
            return False
        return found == ino and not attributes & linux.STATX_ATTR_MOUNT_ROOT

    return lies_there


def _is_reached(fenced: int, path: bytes, ino: int) -> bool:
    try:
        descriptor = handles.open_beneath(fenced, path, os.O_PATH)
    except OSError:
        return False
    try:
        return os.fstat(descriptor).st_ino == ino
    finally:
        os.close(descriptor)


def _unlink_planned(directory: int, entry: Entry, proven: Proven) -> str:
    name = entry.path.rpartition(b"/")[2]
    try:
        # Compared with the plan just before it goes.
        if not (_is_as_planned(directory, name, entry) or _may_go_changed(directory, name, entry, proven)):
            return "changed"
        _unlink(directory, name)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return _code(error)
    return ""


def _is_as_planned(directory: int, name: bytes, entry: Entry) -> bool:
    # As `Entry.is_unchanged`, at half the cost: nearly every file is.
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    return (
        found.st_ino == entry.ino
        and found.st_size == entry.size
        and found.st_mtime_ns == entry.mtime_ns
        and found.st_ctime_ns == entry.ctime_ns
        and stat.S_ISREG(found.st_mode)
    )


def _may_go_changed(directory: int, name: bytes, entry: Entry, proven: Proven) -> bool:
    found = run_tree.entry_of(entry.path, linux.status(directory, name))
    no_bytes = all(run_tree.is_lock(one) or run_tree.is_linked_lock(one) for one in (entry, found))
    return no_bytes or entry.is_unchanged(found) or _holds_proven_bytes(directory, name, entry, found, proven)


def _unlink(directory: int, name: bytes) -> None:
    try:
        handles.with_write_permission(directory, lambda: os.unlink(name, dir_fd=directory))
    except PermissionError as error:
        if error.errno != errno.EACCES:
            raise
        # Another thread may have made the directory writable between the refusal and the look at its mode.
        os.unlink(name, dir_fd=directory)


def _holds_proven_bytes(directory: int, name: bytes, entry: Entry, found: Entry, proven: Proven) -> bool:
    # A chmod changes only the ctime: then the bytes, read now, must be those that the NAS was proven to hold.
    if not entry.same_as(found._replace(ctime_ns=entry.ctime_ns)):
        return False
    expected = proven(entry.path)
    if expected is None:
        return entry.nlink > 1  # each removed name changes its ctime, and the policy asks for no more proof
    digest, status = hashing.hash_file(directory, name)
    return digest == expected and found.same_as(run_tree.entry_of(entry.path, status))


def _remove_directories(fenced: int, directories: Iterable[Entry]) -> dict[bytes, str]:
    """Removes what is empty of them, the deepest first."""
    left: dict[bytes, str] = {}
    deepest_first = sorted(directories, key=lambda entry: entry.path.count(b"/"), reverse=True)
    for above, siblings in itertools.groupby(deepest_first, removal_tasks.folder_of):
        left |= _remove_siblings(fenced, above, list(siblings))
    return left


def _remove_siblings(fenced: int, above: bytes, siblings: list[Entry]) -> dict[bytes, str]:
    try:
        descriptor = handles.open_beneath(fenced, above or b".")
    except FileNotFoundError:
        return {}
    except OSError as error:
        return dict.fromkeys((entry.path for entry in siblings), _code(error))
    left: dict[bytes, str] = {}
    with handles.opened(descriptor):
        lies_there = _place_of(fenced, above, os.fstat(descriptor).st_ino)
        for entry in siblings:
            if why := _remove_directory(descriptor, entry) if lies_there() else _MOVED:
                left[entry.path] = why
    return left


def _remove_directory(parent: int, directory: Entry) -> str:
    name = directory.path.rpartition(b"/")[2]
    try:
        if os.stat(name, dir_fd=parent, follow_symlinks=False).st_ino != directory.ino:
            return "another directory lies there"
        handles.with_write_permission(parent, lambda: os.rmdir(name, dir_fd=parent))
    except FileNotFoundError:
        return ""
    except OSError as error:
        return _code(error)
    return ""


def _code(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "error")


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
        return {path: _code(error)}
    return _remove_directories(fenced, [top])


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
        return {b".": f"{_code(error)}: {unplanned}" if unplanned else "error"}
    os.fsync(parent)
    return {}
