"""Durable renames of a run to its fence and back and of its record into place, and the challenge in a run."""

import contextlib
import errno
import os
import re
import uuid
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from cleanup.storage import handles, linux, run_paths
from cleanup.storage.run_paths import METADATA
from cleanup.storage.staging import run_tree

# An entry that cannot be opened for one of these reasons is no run that we fenced.
_NO_RUN_OF_OURS = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.EACCES)
_FENCE = re.compile(re.escape(run_paths.FENCE_PREFIX) + rb"[0-9a-f]{32}")


def fence_name(attempt: str) -> bytes:
    """Returns the sibling name that a run gets before anything is removed."""
    return run_paths.FENCE_PREFIX + attempt.encode("ascii")


def is_fence_name(name: bytes) -> bool:
    """Whether a name is that of a fence, ours or not."""
    return _FENCE.fullmatch(name) is not None


def prepared_name(attempt: str) -> bytes:
    """Returns the sibling file of the new record until it is published."""
    return fence_name(attempt) + run_paths.PREPARED_SUFFIX


def fence(parent: int, leaf: bytes, name: bytes) -> None:
    """Renames a run to its fence. Raises FileExistsError if the name is taken."""
    linux.rename_noreplace(parent, leaf, parent, name)
    os.fsync(parent)


def put_back(parent: int, name: bytes, leaf: bytes) -> None:
    """Renames a fence back. Raises FileExistsError if the run's path is taken."""
    linux.rename_noreplace(parent, name, parent, leaf)
    os.fsync(parent)


def record_path(file: bytes) -> bytes:
    """Returns the path of a record with this file name in a run."""
    return METADATA + b"/" + file


def record_file(record: Mapping[str, Any]) -> bytes:
    """Returns the file name of a prepared record, from its marks."""
    return os.fsencode(record.get("file", os.fsdecode(run_paths.INGEST)))


def prepare_record(
    parent: int, name: bytes, data: bytes, like: os.stat_result, file: bytes = run_paths.INGEST
) -> dict[str, int | str]:
    """Writes the new record beside the fence, with mode and (as root) owner of `like`.

    Returns its marks: `ino`, `size`, `mtime_ns`, and `file` unless `ingest.json`. Raises OSError.
    """
    descriptor = os.open(
        name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent
    )
    try:
        with handles.opened(descriptor):
            handles.write_all(descriptor, data)
            if os.geteuid() == 0:
                os.fchown(descriptor, like.st_uid, like.st_gid)
            os.fchmod(descriptor, like.st_mode & 0o7777)
            os.fsync(descriptor)
            written = linux.status(descriptor)
        os.fsync(parent)
    except OSError:
        discard_prepared(parent, name)
        raise
    marks: dict[str, int | str] = {"ino": written.ino, "size": written.size, "mtime_ns": written.mtime_ns}
    return marks if file == run_paths.INGEST else {**marks, "file": os.fsdecode(file)}


def discard_prepared(parent: int, name: bytes) -> None:
    """Removes a prepared record; harmless if it is gone."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    os.fsync(parent)


def challenge_name(attempt: str) -> bytes:
    """Returns the name of the empty file laid in a fenced run."""
    return run_paths.CHALLENGE_PREFIX + attempt.encode("ascii")


def lay_challenge(fenced: int, name: bytes) -> None:
    """Makes an empty file with the run's time, which the run gets back later."""
    before = os.fstat(fenced)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with handles.opened(os.open(name, flags, 0o600, dir_fd=fenced)) as descriptor:
        os.utime(descriptor, ns=(before.st_atime_ns, before.st_mtime_ns))


def discard_challenge(run: int, name: bytes) -> None:
    """Removes a challenge and gives the run its time back; harmless if it is gone."""
    try:
        found = linux.status(run, name)
    except FileNotFoundError:
        return
    if not found.is_file or found.size:
        return  # only an empty file is ours
    handles.with_write_permission(run, lambda: os.unlink(name, dir_fd=run))
    os.fsync(run)
    with contextlib.suppress(PermissionError):  # a group may write in a folder, but only its owner may set its time
        os.utime(run, ns=(os.fstat(run).st_atime_ns, found.mtime_ns))


def discard_challenge_in(parent: int, run: bytes, name: bytes) -> None:
    """As `discard_challenge`, in the run of this name, if there is one."""
    with contextlib.ExitStack() as stack:
        if (descriptor := _enter_run(stack, parent, run)) is not None:
            discard_challenge(descriptor, name)


def give_time_back(parent: int, run: bytes, ino: int, names: Collection[bytes], modified_ns: int) -> None:
    """Gives a run of this inode its planned time back, after a crash around a challenge."""
    with contextlib.ExitStack() as stack:
        if (descriptor := _enter_run(stack, parent, run)) is None:
            return
        found = os.fstat(descriptor)
        if (
            found.st_ino == ino
            and found.st_mtime_ns != modified_ns
            # Else more than the challenge has come or gone.
            and set(run_tree.sorted_names(descriptor)) == set(names)
        ):
            with contextlib.suppress(PermissionError):
                os.utime(descriptor, ns=(found.st_atime_ns, modified_ns))


def _enter_run(stack: contextlib.ExitStack, parent: int, run: bytes) -> int | None:
    try:
        return stack.enter_context(handles.opened(handles.open_beneath(parent, run)))
    except OSError as error:
        if error.errno in _NO_RUN_OF_OURS:
            return None
        raise


def publish(parent: int, name: bytes, fenced: int, file: bytes = run_paths.INGEST) -> None:
    """Moves the prepared record into the fenced run; harmless twice.

    Raises OSError; EXDEV where the run is storage of its own.
    """
    with contextlib.suppress(FileNotFoundError), handles.opened(handles.open_beneath(fenced, METADATA)) as folder:
        with contextlib.suppress(FileNotFoundError):  # already moved, perhaps by a process that died before the sync
            handles.with_write_permission(folder, lambda: os.rename(name, file, src_dir_fd=parent, dst_dir_fd=folder))
        os.fsync(folder)
    os.fsync(parent)


def draft_name(attempt: str, file: bytes) -> bytes:
    """Returns the name of a record inside the fenced run, before it takes its place."""
    # As the wizard names its drafts.
    return file + b"." + attempt[:16].encode("ascii") + b".tmp"


def copy_prepared(parent: int, name: bytes, fenced: int, draft: bytes, file: bytes) -> dict[str, int | str] | None:
    """Copies the prepared record into the fenced run, where a rename is impossible.

    Returns the copy's marks; None where nothing is prepared. Raises OSError.
    """
    try:
        with handles.opened(handles.open_beneath(parent, name, os.O_RDONLY | os.O_NOFOLLOW)) as descriptor:
            like = os.fstat(descriptor)
        data = handles.read_file(parent, name, like.st_size)
    except FileNotFoundError:
        return None
    with handles.opened(handles.open_beneath(fenced, METADATA)) as folder:
        discard_prepared(folder, draft)  # a crash may have left it unfinished
        made: list[dict[str, int | str]] = []
        handles.with_write_permission(folder, lambda: made.append(prepare_record(folder, draft, data, like, file)))
        return made[0]


def publish_copy(parent: int, name: bytes, fenced: int, draft: bytes, file: bytes) -> None:
    """Moves the copy of a prepared record into place, then removes the prepared one."""
    with handles.opened(handles.open_beneath(fenced, METADATA)) as folder:
        os.rename(draft, file, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    discard_prepared(parent, name)


def found_in(parent: int) -> Iterator[bytes]:
    """Yields the names in a directory that begin like a fence, ours or not."""
    for name in run_tree.sorted_names(parent):
        if name.startswith(run_paths.FENCE_PREFIX):
            yield name


def probe(directory: int) -> None:
    """Tries the rename of a clear; it writes, so for registration only. Raises OSError."""
    first = run_paths.FENCE_PREFIX + b"probe-" + uuid.uuid4().hex.encode()
    second = first + b"-renamed"
    os.mkdir(first, 0o700, dir_fd=directory)
    try:
        linux.rename_noreplace(directory, first, directory, second)
        os.rmdir(second, dir_fd=directory)
    except OSError:
        os.rmdir(first, dir_fd=directory)
        raise
