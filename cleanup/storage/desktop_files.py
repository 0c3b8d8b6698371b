"""Files that Windows, macOS and NAS systems lay into each folder that a person opens.

They are no data on either side: not compared, and they go with the run, kept whole in its tombstone. So the list is
closed and sizes are bounded; a larger file is like any other. Folders of such systems are passed over among runs;
inside a run they are data.
"""

import re
from collections.abc import Collection, Iterable
from typing import Protocol

MAX_FILE_BYTES = 1 << 20
# What one tombstone keeps of them at most.
MAX_RUN_BYTES = 4 << 20
# How a file begins that macOS lays beside another one where the disk keeps no attributes.
APPLE_DOUBLE = bytes.fromhex("00051607")

_FILES = frozenset({b".ds_store", b"thumbs.db", b"desktop.ini"})
_FOLDER = b"@eadir"
_BESIDE = b"._"
# An NFS client, or a FUSE filesystem, gives a file this name that was deleted while a program has it open.
_OPEN = re.compile(rb"\.(?:nfs|fuse_hidden)[0-9a-f]*", re.IGNORECASE)
_SYSTEM_FOLDERS = frozenset(
    {
        b"lost+found",
        b"$recycle.bin",
        b"recycler",
        b"recycled",
        b"system volume information",
        b"found.000",
        b"network trash folder",
        b"temporary items",
        b"#recycle",
        b"#snapshot",
        b"@recycle",
        b"@recently-snapshot",
        b"@sharebin",
        b"@tmp",
        b"~snapshot",
        _FOLDER,
    }
)


class _SizedFile(Protocol):
    @property
    def path(self) -> bytes: ...
    @property
    def size(self) -> int: ...


def is_named(path: bytes) -> bool:
    """Whether a file at this relative path is one of a desktop's by its name; one beside another may be anything."""
    *folders, name = path.lower().split(b"/")
    return name in _FILES or _FOLDER in folders


def is_beside(path: bytes) -> bool:
    """Whether this is the name of a file that macOS lays beside another one, if it begins with `APPLE_DOUBLE`."""
    return path.rpartition(b"/")[2].startswith(_BESIDE)


def is_folder(path: bytes) -> bool:
    """Whether a directory holds nothing but such files, or lies in one that does."""
    return _FOLDER in path.lower().split(b"/")


def is_open(path: bytes) -> bool:
    """Whether a file's name says that it was deleted while a program had it open."""
    return _OPEN.fullmatch(path.rpartition(b"/")[2]) is not None


def is_system_folder(name: bytes) -> bool:
    """Whether a folder of this name among runs belongs to a filesystem, Windows, or a NAS system."""
    return name.lower() in _SYSTEM_FOLDERS


def bounded(files: Iterable[_SizedFile]) -> frozenset[bytes]:
    """The paths of those files that one tombstone can keep, in the order of their paths. Sizes in bytes."""
    kept: set[bytes] = set()
    total = 0
    for file in sorted(files, key=lambda file: file.path):
        if file.size <= MAX_FILE_BYTES and total + file.size <= MAX_RUN_BYTES:
            kept.add(file.path)
            total += file.size
    return frozenset(kept)


def main_of(path: bytes) -> bytes:
    """The path of the file beside which one with this name lies."""
    folder, slash, name = path.rpartition(b"/")
    return folder + slash + name.removeprefix(_BESIDE)


def may_be_missing(path: bytes, listed: Collection[bytes]) -> bool:
    """Whether a listed file that is gone may have been one of these: macOS removes its own."""
    return is_named(path) or (is_beside(path) and main_of(path) in listed)


def expected(listed: Collection[bytes], staged: Collection[bytes], desktop: Collection[bytes]) -> set[bytes]:
    """The listed files that must be on the disk as data, of `staged` data files and `desktop` files there."""
    return {path for path in listed if path in staged or (path not in desktop and not may_be_missing(path, listed))}


def describe(path: bytes) -> str:
    """What a file is that cannot be kept although its name is one of these; empty for any other file."""
    return "too large or too many to be kept as a desktop's" if is_named(path) else ""
