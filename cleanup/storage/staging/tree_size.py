"""The size of a tree of plain files and folders, in one look at each. The scan handles every other tree."""

import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from cleanup.storage import handles, linux

# Of the inodes with several links, by number: links, bytes and blocks at each name.
_Linked = dict[int, list[tuple[int, int, int]]]


class _Folder(NamedTuple):
    files: int
    size: int
    blocks: int
    below: list[tuple[bytes, int]]


def of_plain_tree(run: int, *, max_depth: int, max_path: int) -> tuple[int, int, int] | None:
    """Returns (files, bytes, allocated bytes) below an open directory, each inode once, as `run_tree.count`.

    None: there is no file, or something that is no plain file or folder, lies too deep or has just changed. Raises
    OSError.
    """
    files = size = blocks = 0
    linked: _Linked = {}
    top, read = os.fstat(run), linux.fields_reader(linux.SIZE_FIELDS)
    pending = [(b"", top.st_ino)]
    while pending:
        folder, ino = pending.pop()
        above = folder + b"/" if folder else b""
        descriptor = handles.open_beneath(run, folder or b".")
        try:
            own = os.fstat(descriptor)
            found = _of_folder(read, descriptor, max_path - len(above), linked)
        finally:
            os.close(descriptor)
        is_deep = found is not None and found.below and above.count(b"/") + 1 >= max_depth
        if found is None or is_deep or (own.st_ino, own.st_dev) != (ino, top.st_dev):
            return None
        files, size, blocks = files + found.files, size + found.size, blocks + found.blocks
        pending += [(above + name, number) for name, number in found.below]
    for names in linked.values():
        links, length, count = names[-1]
        files, size, blocks = files + 1, size + length, blocks + (count if links <= len(names) else 0)
    return (files, size, blocks * 512) if files else None


def _of_folder(
    read: Callable[[int, bytes], tuple[int, ...]], descriptor: int, longest: int, linked: _Linked
) -> _Folder | None:
    files = size = blocks = 0
    below = []
    for name in handles.names_in(descriptor):
        attributes, links, mode, ino, length, count = read(descriptor, name)
        kind = stat.S_IFMT(mode)
        if attributes & linux.STATX_ATTR_MOUNT_ROOT or len(name) > longest:
            return None
        if kind == stat.S_IFREG and links == 1:
            files += 1
            size += length
            blocks += count
        elif kind == stat.S_IFREG:
            linked.setdefault(ino, []).append((links, length, count))
        elif kind == stat.S_IFDIR:
            below.append((name, ino))
        else:
            return None
    return _Folder(files, size, blocks, below)
