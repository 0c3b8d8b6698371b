"""SHA-256 of files beneath a descriptor, read anew and without a trace."""

import errno
import hashlib
import os
from collections.abc import Callable

from cleanup.staging import kernel, layout

_BLOCK = 1 << 20


def hash_file(
    directory: int, path: bytes, *, drop_cache: bool = False, beat: Callable[[int], None] = lambda count: None
) -> tuple[bytes, kernel.Status]:
    """Digest and status of a regular file; `beat` is told the bytes of every block.

    With `drop_cache` the kernel is asked to forget what it holds of the file, so that the disk (or the NAS) answers.
    Raises OSError; EINVAL for anything but a regular file, EBUSY for one that changed while it was read.
    """
    with layout.opened(_open_quietly(directory, path)) as descriptor:
        before = kernel.status(descriptor)
        if not before.is_file:
            raise OSError(errno.EINVAL, "not a regular file", layout.show(path))
        if drop_cache:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        digest = hashlib.sha256()
        buffer = bytearray(min(before.size, _BLOCK - 1) + 1)  # small files are many: a block each would be slow
        view = memoryview(buffer)
        while size := os.readv(descriptor, [view]):
            digest.update(view[:size])
            beat(size)
        after = kernel.status(descriptor)
    if (before.size, before.mtime_ns, before.ctime_ns) != (after.size, after.mtime_ns, after.ctime_ns):
        raise OSError(errno.EBUSY, "changed while it was read", layout.show(path))
    return digest.digest(), after


def _open_quietly(directory: int, path: bytes) -> int:
    """Open without leaving an access time behind, where that is allowed: only to the owner and to root."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return layout.open_beneath(directory, path, flags | os.O_NOATIME)
    except PermissionError:
        return layout.open_beneath(directory, path, flags)
