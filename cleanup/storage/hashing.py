"""SHA-256 of files beneath a descriptor, read without new access times where that is allowed."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from cleanup.storage import handles, linux, run_paths

_BLOCK = 1 << 20
_SMALL = 128 << 10
_END = 4096
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_BATCH_BYTES = 16 << 20
_BATCH_FILES = 500


class _Sized(Protocol):
    @property
    def size(self) -> int: ...


T = TypeVar("T", bound=_Sized)
Hashed = tuple[bytes, linux.FileStatus]


def hash_file(
    directory: int,
    path: bytes,
    *,
    drop_cache: bool = False,
    beat: Callable[[int], None] = lambda count: None,
    look: Callable[[int], linux.FileStatus] = linux.status,
) -> Hashed:
    """Returns SHA-256 and status of a regular file; `beat` gets each block's bytes.

    `drop_cache`: the storage answers, not the kernel's cache. `look` does as `linux.status`. Raises OSError; EINVAL for
    other kinds, EBUSY for a change meanwhile.
    """
    descriptor = _open_quietly(directory, path)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", run_paths.show(path))
        if drop_cache:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        digest = _digest(descriptor, before.st_size, beat)
        after = look(descriptor)
    finally:
        os.close(descriptor)
    if (before.st_size, before.st_mtime_ns, before.st_ctime_ns) != (after.size, after.mtime_ns, after.ctime_ns):
        raise OSError(errno.EBUSY, "changed while it was read", run_paths.show(path))
    return digest, after


def _digest(descriptor: int, expected: int, beat: Callable[[int], None]) -> bytes:
    # To the end of the file, which need not be where it is expected: one call for a small file.
    room = min(expected, _SMALL - 1) + 1
    first = os.read(descriptor, room)
    beat(len(first))
    if len(first) == expected < room:
        return hashlib.sha256(first).digest()
    digest, read = hashlib.sha256(first), len(first)
    view = memoryview(bytearray(min(expected, _BLOCK - 1) + 1))
    while size := os.readv(descriptor, [view]):
        digest.update(view[:size])
        beat(size)
        read += size
        if read == expected and size < len(view):
            break  # there was room for more
    return digest.digest()


def ends(
    directory: int, path: bytes, *, pieces: Sequence[tuple[int, int]] = (), drop_cache: bool = False
) -> tuple[int, bytes]:
    """Returns size and SHA-256 of the first and last 4096 bytes, or of `pieces`.

    `pieces`: (offset, size). Raises OSError; EINVAL for other kinds, EIO for an early end.
    """
    with handles.opened(_open_quietly(directory, path)) as descriptor:
        status = linux.status(descriptor)
        if not status.is_file:
            raise OSError(errno.EINVAL, "not a regular file", run_paths.show(path))
        if drop_cache:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        digest = hashlib.sha256()
        for offset, size in pieces or _ends_of(status.size):
            for start in range(offset, offset + size, _BLOCK):
                digest.update(_read_at(descriptor, start, min(_BLOCK, offset + size - start)))
    return status.size, digest.digest()


def _ends_of(size: int) -> list[tuple[int, int]]:
    first = (0, min(size, _END))
    return [first, (size - _END, _END)] if size > _END else [first]


def _read_at(descriptor: int, offset: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = os.pread(descriptor, size - len(data), offset + len(data))
        if not part:
            raise OSError(errno.EIO, "it ends too early")
        data += part
    return data


def batches(files: Iterable[T]) -> Iterator[list[T]]:
    """Yields units of work: a big file alone, small files together."""
    batch: list[T] = []
    size = 0
    for entry in files:
        if batch and (len(batch) >= _BATCH_FILES or size + entry.size > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry.size
    if batch:
        yield batch


def hash_batch(
    directory: int,
    paths: Iterable[bytes],
    *,
    drop_cache: bool = False,
    beat: Callable[[int], None] = lambda count: None,
) -> list[Hashed]:
    """Returns `hash_file` of each path. An OSError names the file."""
    hashed, look = [], linux.descriptor_reader()
    for path in paths:
        try:
            hashed.append(hash_file(directory, path, drop_cache=drop_cache, beat=beat, look=look))
        except OSError as error:
            error.filename = run_paths.show(path)
            raise
    return hashed


def _open_quietly(directory: int, path: bytes) -> int:
    # Only the owner and root may open without leaving an access time.
    try:
        return handles.open_beneath(directory, path, _READ | os.O_NOATIME)
    except PermissionError:
        return handles.open_beneath(directory, path, _READ)
