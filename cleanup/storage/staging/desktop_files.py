"""Files of Windows, macOS and NAS systems: no data, not compared, kept whole in a run's tombstone."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

# The list is closed and sizes are bounded: a larger file counts as data.
MAX_FILE_BYTES = 1 << 20
# One tombstone keeps at most this size of them.
MAX_RUN_BYTES = 4 << 20
# First bytes of a file that macOS lays beside another one where the disk keeps no attributes.
APPLE_DOUBLE = bytes.fromhex("00051607")

_FILES = frozenset({b".ds_store", b"thumbs.db", b"desktop.ini"})
_FOLDER = b"@eadir"
_BESIDE = b"._"
_SIGNS = (*_FILES, _FOLDER, _BESIDE)
_TOGETHER = 500
# NFS clients and FUSE filesystems give this name to a file that was deleted while a program has it open.
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


F = TypeVar("F", bound=_SizedFile)


def candidates(files: Sequence[F]) -> Iterator[F]:
    """Yields the files of which `is_named` or `is_beside` may be true, and some others."""
    # One search through many paths is much cheaper than a question for each of 100,000 files.
    for start in range(0, len(files), _TOGETHER):
        part = files[start : start + _TOGETHER]
        together = b"/".join(file.path for file in part).lower()
        if any(sign in together for sign in _SIGNS):
            yield from part


def is_named(path: bytes) -> bool:
    """Whether a file's path says that it is on the list."""
    *folders, name = path.lower().split(b"/")
    return name in _FILES or _FOLDER in folders


def is_beside(path: bytes) -> bool:
    """Whether macOS may have laid this file beside another, if it begins with `APPLE_DOUBLE`."""
    return path.rpartition(b"/")[2].startswith(_BESIDE)


def is_folder(path: bytes) -> bool:
    """Whether a path is, or lies in, a folder of such files."""
    return _FOLDER in path.lower().split(b"/")


def is_open(path: bytes) -> bool:
    """Whether the name belongs to a deleted file that is still open."""
    return _OPEN.fullmatch(path.rpartition(b"/")[2]) is not None


def is_system_folder(name: bytes) -> bool:
    """Whether a filesystem, Windows or a NAS system gives folders this name."""
    return name.lower() in _SYSTEM_FOLDERS


def bounded(files: Iterable[_SizedFile]) -> frozenset[bytes]:
    """Returns the paths of the files that one tombstone can keep."""
    kept: set[bytes] = set()
    total = 0
    for file in sorted(files, key=lambda file: file.path):
        if file.size <= MAX_FILE_BYTES and total + file.size <= MAX_RUN_BYTES:
            kept.add(file.path)
            total += file.size
    return frozenset(kept)


def main_of(path: bytes) -> bytes:
    """Returns the path of the file beside which this one lies."""
    folder, slash, name = path.rpartition(b"/")
    return folder + slash + name.removeprefix(_BESIDE)


def may_be_missing(path: bytes, listed: Collection[bytes]) -> bool:
    """Whether a missing listed file may be on the list: macOS removes its own."""
    return is_named(path) or (is_beside(path) and main_of(path) in listed)


def expected(listed: Collection[bytes], staged: Collection[bytes], desktop: Collection[bytes]) -> set[bytes]:
    """Returns the listed paths that must be on the disk as data."""
    return {path for path in listed if path in staged or (path not in desktop and not may_be_missing(path, listed))}


def describe(path: bytes) -> str:
    """Says why a file on the list cannot be kept; empty for others."""
    return "too large or too many to be kept as a desktop's" if is_named(path) else ""
