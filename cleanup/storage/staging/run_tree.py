"""A staged run: its entries, files and bytes, and the findings against its clear. Reads only."""

import contextlib
import errno
import os
import stat
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cleanup.rules.findings import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import errors, handles, linux, run_paths
from cleanup.storage.errors import MetAt
from cleanup.storage.run_paths import METADATA, show
from cleanup.storage.staging import desktop_files, hold_file, metadata, tree_size

MAX_DEPTH = 128
# Below PATH_MAX, so that the kernel takes each path beneath an open directory in one call.
MAX_PATH = 4000

INGEST_PATH = METADATA + b"/" + run_paths.INGEST
SYNC_STATE_PATH = METADATA + b"/" + run_paths.SYNC_STATE
_IN_METADATA = METADATA + b"/"
MANIFEST_PATH = METADATA + b"/" + run_paths.MANIFEST


class Entry(NamedTuple):
    """One file or directory of a run: path and identity. Sizes in bytes."""

    path: bytes
    is_file: bool
    ino: int
    nlink: int
    size: int
    allocated: int
    mtime_ns: int
    ctime_ns: int

    def is_unchanged(self, other: "Entry") -> bool:
        """As `same_as`, and no link of it has come or gone."""
        return self.same_as(other) and (not self.is_file or self.ctime_ns == other.ctime_ns)

    def same_as(self, other: "Entry") -> bool:
        """Whether `other` is this entry, unchanged."""
        if self.is_file != other.is_file or self.ino != other.ino:
            return False
        if not self.is_file:
            return True  # removals in a directory change its times
        # The ctime of a file with several links changes when another link goes.
        return (
            self.size == other.size
            and self.mtime_ns == other.mtime_ns
            and (self.nlink > 1 or self.ctime_ns == other.ctime_ns)
        )


@dataclass(frozen=True)
class Count:
    """Files and bytes, each inode once; `allocated`: only blocks that become free."""

    files: int = 0
    bytes: int = 0
    allocated: int = 0


@dataclass(frozen=True)
class Scan:
    """Everything below a run; `ino`, `birth_ns` and `modified_ns` are its own.

    `unseen`: problems that may hide more. `is_held`: by a hold file. `desktop`: paths of `desktop_files`.
    """

    ino: int
    birth_ns: int | None
    device: int
    entries: tuple[Entry, ...]
    problems: tuple[Finding, ...]
    unseen: tuple[Finding, ...] = ()
    is_held: bool = False
    modified_ns: int | None = None
    desktop: frozenset[bytes] = frozenset()

    @property
    def data_files(self) -> list[Entry]:
        """Returns the files without metadata, hold file and files of desktops."""
        return [
            entry for entry in self.entries if entry.is_file and is_data(entry.path) and entry.path not in self.desktop
        ]

    @property
    def compared(self) -> list[Entry]:
        """Returns the entries that show a change of the run: no locks."""
        return [entry for entry in self.entries if not is_lock(entry)]

    @property
    def metadata_files(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.is_file and is_metadata(entry.path)]


def is_metadata(path: bytes) -> bool:
    """Whether a path lies in the top-level `.exlab-wizard`; nested folders are data."""
    return path.startswith(_IN_METADATA)


def is_data(path: bytes) -> bool:
    """Whether a path is neither metadata nor the hold file."""
    return not path.startswith(_IN_METADATA) and not hold_file.is_hold(path)


def is_lock(entry: Entry) -> bool:
    """Whether an entry is a lock of the wizard's."""
    return is_metadata(entry.path) and metadata.is_lock(entry.path.removeprefix(METADATA + b"/"), entry)


def is_linked_lock(entry: Entry) -> bool:
    return is_metadata(entry.path) and metadata.is_linked_lock(entry.path.removeprefix(METADATA + b"/"), entry)


def locks(run: int) -> list[Entry]:
    """Returns the wizard's locks in a run. Raises OSError."""
    found = []
    with handles.opened(handles.open_beneath(run, METADATA)) as folder:
        for name in filter(metadata.may_be_lock, sorted_names(folder)):
            with contextlib.suppress(FileNotFoundError):
                found.append(entry_of(METADATA + b"/" + name, linux.status(folder, name)))
    return [entry for entry in found if is_lock(entry)]


def _may_be_lock(path: bytes) -> bool:
    return is_metadata(path) and metadata.may_be_lock(path.removeprefix(METADATA + b"/"))


def scan(run: int) -> Scan:
    """Returns everything below the directory open as `run`.

    Its problems are `unsafe_path`, `mount_inside`, `special_file`, `permission_denied`, `tree_too_deep` and
    `staging_io_error`; an entry that vanishes meanwhile is one too.
    """
    top = linux.status(run)
    entries: list[Entry] = []
    problems: list[Finding] = []
    closed: list[Finding] = []
    of_the_hold: list[Finding] = []
    unseen: list[Finding] = []
    pending: list[tuple[bytes, int]] = [(b"", top.ino)]
    while pending:
        directory, ino = pending.pop()
        is_hold = hold_file.is_hold(directory)
        try:
            found = of_the_hold if is_hold else problems
            pending += _scan_directory(run, top.device, directory, ino, entries, found)
        except OSError as error:
            (unseen if is_hold else closed).append(_problem_of(error, directory))
    try:
        is_held = _is_held(run)
    except OSError as error:  # it may be held
        is_held = False
        closed.append(_problem_of(error, hold_file.NAME))
    too_deep = [problem for problem in (*problems, *of_the_hold) if problem.reason == "tree_too_deep"]
    return Scan(
        top.ino,
        top.birth_ns,
        top.device,
        tuple(entries),
        (*problems, *closed),
        (*closed, *unseen, *too_deep),
        is_held,
        top.mtime_ns,
        _desktop_files(run, entries),
    )


def _desktop_files(run: int, entries: Sequence[Entry]) -> frozenset[bytes]:
    return desktop_files.bounded(
        entry
        for entry in desktop_files.candidates(entries)
        if entry.is_file
        and not hold_file.is_hold(entry.path)
        and (
            desktop_files.is_named(entry.path) or (desktop_files.is_beside(entry.path) and _is_apple_double(run, entry))
        )
    )


def _is_apple_double(run: int, entry: Entry) -> bool:
    magic = desktop_files.APPLE_DOUBLE
    if not len(magic) <= entry.size <= desktop_files.MAX_FILE_BYTES:
        return False
    try:
        return handles.read_file(run, entry.path, len(magic) - 1)[: len(magic)] == magic
    except OSError:
        return False


def _is_held(run: int) -> bool:
    # Asked last, so that a hold file laid during the scan counts.
    try:
        linux.status(run, hold_file.NAME)
    except FileNotFoundError:
        return False
    return True


def _scan_directory(
    run: int, device: int, directory: bytes, ino: int, entries: list[Entry], problems: list[Finding]
) -> list[tuple[bytes, int]]:
    with handles.opened(handles.open_beneath(run, directory or b".")) as descriptor:
        own = linux.status(descriptor)
        if own.ino != ino:
            problems.append(Finding(Reason.UNSAFE_PATH, f"{show(directory)} was replaced while it was looked at"))
            return []
        if own.is_fixed or not may_empty(descriptor, own):
            problems.append(Finding(Reason.PERMISSION_DENIED, f"{show(directory or b'.')} may not be emptied"))
        return _scan_names(descriptor, own, device, directory + b"/" if directory else b"", entries, problems)


def _scan_names(
    descriptor: int,
    own: linux.FileStatus,
    device: int,
    above: bytes,
    entries: list[Entry],
    problems: list[Finding],
) -> list[tuple[bytes, int]]:
    below: list[tuple[bytes, int]] = []
    read, is_sticky = linux.status_reader(), own.mode & stat.S_ISVTX
    for name in sorted_names(descriptor):
        path = above + name
        try:
            status = read(descriptor, name)
        except FileNotFoundError:
            if not _may_be_lock(path):
                raise
            continue
        # What nearly every entry is comes first: it makes a large run cheaper by a third.
        is_plain = status.is_plain_file and not is_sticky and len(path) <= MAX_PATH and path != hold_file.NAME
        if is_plain:
            if not _may_read(descriptor, name):
                problems.append(Finding(Reason.PERMISSION_DENIED, f"{show(path)} may not be read"))
        elif problem := _objection(path, status, device):
            if path != hold_file.NAME:
                problems.append(problem)
            continue
        elif path != hold_file.NAME:
            if status.is_fixed or not _may_remove(own, status):
                problems.append(Finding(Reason.PERMISSION_DENIED, f"{show(path)} may not be removed"))
            elif status.is_file and not _may_read(descriptor, name):
                problems.append(Finding(Reason.PERMISSION_DENIED, f"{show(path)} may not be read"))
        entries.append(entry_of(path, status))
        if not is_plain and status.is_directory:
            below.append((path, status.ino))
    return below


def sorted_names(descriptor: int) -> list[bytes]:
    """Returns the names in an open directory, by their bytes."""
    return sorted(handles.names_in(descriptor))


def may_write(descriptor: int) -> bool:
    """Whether this process may change names in an open directory."""
    return os.access(".", os.W_OK | os.X_OK, dir_fd=descriptor, effective_ids=True)


def may_empty(descriptor: int, status: linux.FileStatus) -> bool:
    """Whether this process may remove names, perhaps after a chmod."""
    return may_write(descriptor) or status.uid == os.geteuid()


def _may_remove(directory: linux.FileStatus, entry: linux.FileStatus) -> bool:
    # In a sticky directory only its owner, the entry's owner and root may remove an entry.
    return not directory.mode & stat.S_ISVTX or os.geteuid() in (0, directory.uid, entry.uid)


def _may_read(descriptor: int, name: bytes) -> bool:
    return os.access(name, os.R_OK, dir_fd=descriptor, effective_ids=True, follow_symlinks=False)


def _objection(path: bytes, status: linux.FileStatus, device: int) -> Finding | None:
    if status.is_symlink:
        return Finding(Reason.UNSAFE_PATH, f"{show(path)} is a symbolic link")
    # A subvolume is no mount, but has inode numbers of its own. Files may lie on another device in an overlay.
    if status.is_mount_root or (status.is_directory and status.device != device):
        return Finding(Reason.MOUNT_INSIDE, show(path))
    if not (status.is_file or status.is_directory):
        return Finding(Reason.SPECIAL_FILE, show(path))
    if status.is_directory and (path.count(b"/") + 1 >= MAX_DEPTH or len(path) > MAX_PATH):
        return Finding(Reason.TREE_TOO_DEEP, f"{show(path[:60])}… is {path.count(b'/') + 1} levels deep")
    if len(path) > MAX_PATH:
        return Finding(Reason.TREE_TOO_DEEP, f"{show(path[:60])}… is {len(path)} bytes long")
    return None


def _problem_of(error: OSError, path: bytes) -> Finding:
    return Finding(errors.reason_of(error, MetAt.IN_THE_RUN), f"{show(path or b'.')}: {errors.words_of(error)}")


def entry_of(path: bytes, status: linux.FileStatus) -> Entry:
    if not status.is_file:
        return Entry(path, False, status.ino, 1, 0, 0, status.mtime_ns, status.ctime_ns)
    # One unpacking and `tuple.__new__` cost half of what names and `Entry` do.
    _, _, nlink, _, _, ino, size, blocks, _, _, changed, changed_rest, modified, modified_rest, _, _, _ = status
    mtime_ns, ctime_ns = modified * linux.SECOND + modified_rest, changed * linux.SECOND + changed_rest
    return tuple.__new__(Entry, (path, True, ino, nlink, size, blocks * 512, mtime_ns, ctime_ns))


def count(entries: Iterable[Entry]) -> Count:
    """Counts regular files and bytes, each inode once."""
    return freed(entries, left=frozenset())


def freed(entries: Iterable[Entry], left: Collection[bytes]) -> Count:
    """Counts the planned entries that are gone when `left` remains."""
    again: dict[int, int] = defaultdict(int)
    remaining: set[int] = set()
    files: dict[int, Entry] = {}
    for entry in entries:
        if entry.is_file:
            if entry.ino in files:
                again[entry.ino] += 1
            files[entry.ino] = entry
            if left and entry.path in left:
                remaining.add(entry.ino)
    # An inode is gone when none of its planned names is left; its blocks are free if it had no other name.
    gone = [entry for ino, entry in files.items() if ino not in remaining]
    return Count(
        files=len(gone),
        bytes=sum(entry.size for entry in gone),
        allocated=sum(entry.allocated for entry in gone if entry.nlink <= 1 + again.get(entry.ino, 0)),
    )


def size_of(run: int) -> Count:
    """Counts what lies below an open directory, as `count` of its scan, at half the cost. Raises OSError."""
    with contextlib.suppress(OSError):
        if (plain := tree_size.of_plain_tree(run, max_depth=MAX_DEPTH, max_path=MAX_PATH)) is not None:
            return Count(*plain)
    scanned = scan(run)
    if scanned.unseen:
        raise OSError(errno.EIO, f"cannot be counted: {scanned.unseen[0].detail}")
    return count(scanned.entries)


def freed_bytes_and_count(run_path: str | os.PathLike[str]) -> tuple[int, int]:
    """Returns (file count, bytes) below a directory, as ExLab-Wizard's function does.

    A missing path is (0, 0). Unlike the wizard it follows no link, counts each inode once, and raises OSError for an
    unreadable entry.
    """
    name = os.fspath(run_path)
    try:
        # A slash at the end would follow a link.
        descriptor = os.open(name.rstrip("/") or name[:1], handles.DIRECTORY)
    except FileNotFoundError:
        return 0, 0
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            return 0, 0
        raise
    with handles.opened(descriptor):
        try:
            counted = size_of(descriptor)
        except OSError as error:
            error.filename = os.fspath(run_path)
            raise
    return counted.files, counted.bytes


def differences(planned: Iterable[Entry], found: Iterable[Entry], *, strict: bool = False) -> list[str]:
    """Says how two scans of one run differ, without locks.

    `strict`: files with several links must have kept their ctime.
    """
    same = Entry.is_unchanged if strict else Entry.same_as
    before = {entry.path: entry for entry in planned if not is_lock(entry)}
    after = {entry.path: entry for entry in found if not is_lock(entry)}
    words = [f"{show(path)} is gone" for path in before.keys() - after.keys()]
    words += [f"{show(path)} is new" for path in after.keys() - before.keys()]
    words += [
        f"{show(path)} has changed" for path, entry in before.items() if path in after and not same(entry, after[path])
    ]
    return sorted(words)
