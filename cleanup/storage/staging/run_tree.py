"""A staged run: its entries, files and bytes, and the findings against its clear. Reads only."""

import contextlib
import errno
import functools
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cleanup.rules.findings import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import errors, handles, linux, run_paths
from cleanup.storage.errors import MetAt
from cleanup.storage.packed_rows import TOGETHER
from cleanup.storage.run_paths import METADATA, show
from cleanup.storage.staging import desktop_files, hold_file, metadata, tree_entries, tree_size
from cleanup.storage.staging.tree_entries import ChosenEntries as ChosenEntries
from cleanup.storage.staging.tree_entries import Count as Count
from cleanup.storage.staging.tree_entries import Entry as Entry
from cleanup.storage.staging.tree_entries import Totals
from cleanup.storage.staging.tree_entries import count as count
from cleanup.storage.staging.tree_entries import differences as differences
from cleanup.storage.staging.tree_entries import freed as freed
from cleanup.storage.staging.tree_entries import is_data as is_data
from cleanup.storage.staging.tree_entries import is_linked_lock as is_linked_lock
from cleanup.storage.staging.tree_entries import is_lock as is_lock
from cleanup.storage.staging.tree_entries import is_metadata as is_metadata

MAX_DEPTH = 128
# Below PATH_MAX, so that the kernel takes each path beneath an open directory in one call.
MAX_PATH = 4000

INGEST_PATH = METADATA + b"/" + run_paths.INGEST
SYNC_STATE_PATH = METADATA + b"/" + run_paths.SYNC_STATE
MANIFEST_PATH = METADATA + b"/" + run_paths.MANIFEST


@dataclass(frozen=True)
class Scan:
    """Everything below a run; `ino`, `birth_ns` and `modified_ns` are its own.

    `unseen`: problems that may hide more. `is_held`: by a hold file. `desktop`: paths of `desktop_files`.
    """

    ino: int
    birth_ns: int | None
    device: int
    entries: Sequence[Entry]
    problems: tuple[Finding, ...]
    unseen: tuple[Finding, ...] = ()
    is_held: bool = False
    modified_ns: int | None = None
    desktop: frozenset[bytes] = frozenset()

    @functools.cached_property
    def totals(self) -> Totals:
        """Returns what all entries count, from one pass over them."""
        return tree_entries.totals(self.entries, self.desktop)

    @property
    def data_files(self) -> ChosenEntries:
        """Returns the files without metadata, hold file and files of desktops."""
        return ChosenEntries(
            self.entries, lambda part: tree_entries.data_of(part, self.desktop), self.totals.data_files
        )

    @property
    def compared(self) -> ChosenEntries:
        """Returns the entries that show a change of the run: no locks."""
        return ChosenEntries(self.entries, tree_entries.without_locks, len(self.entries) - self.totals.locks)

    @property
    def metadata_files(self) -> list[Entry]:
        return [entry for entry in self.totals.metadata if entry.is_file]


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


class _Gathered:
    # What a scan has found so far. A part at a time is packed: a run may have a million files.

    def __init__(self, run: int) -> None:
        # Bit and owner of files that this process may surely read; None where the mode does not tell it.
        self.readable = (stat.S_IRUSR, os.geteuid()) if linux.is_local(run) else None
        self.entries = tree_entries.packed(is_ordered=True)
        self.beside: list[Entry] = []  # perhaps of a desktop
        self.new: list[Entry] = []

    def pack(self) -> None:
        self.beside += filter(_may_be_of_a_desktop, desktop_files.candidates(self.new))
        self.entries.extend(self.new)
        self.new.clear()


def scan(run: int) -> Scan:
    """Returns everything below the directory open as `run`.

    Its problems are `unsafe_path`, `mount_inside`, `special_file`, `permission_denied`, `tree_too_deep` and
    `staging_io_error`; an entry that vanishes meanwhile is one too.
    """
    top = linux.status(run)
    found = _Gathered(run)
    problems: list[Finding] = []
    closed: list[Finding] = []
    of_the_hold: list[Finding] = []
    unseen: list[Finding] = []
    pending: list[tuple[bytes, int]] = [(b"", top.ino)]
    while pending:
        directory, ino = pending.pop()
        is_hold = hold_file.is_hold(directory)
        try:
            pending += _scan_directory(run, top.device, directory, ino, found, of_the_hold if is_hold else problems)
        except OSError as error:
            (unseen if is_hold else closed).append(_problem_of(error, directory))
    found.pack()
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
        found.entries,
        (*problems, *closed),
        (*closed, *unseen, *too_deep),
        is_held,
        top.mtime_ns,
        _desktop_files(run, found.beside),
    )


def _may_be_of_a_desktop(entry: Entry) -> bool:
    known = desktop_files.is_named(entry.path) or desktop_files.is_beside(entry.path)
    return entry.is_file and known and not hold_file.is_hold(entry.path)


def _desktop_files(run: int, entries: Iterable[Entry]) -> frozenset[bytes]:
    return desktop_files.bounded(
        entry for entry in entries if desktop_files.is_named(entry.path) or _is_apple_double(run, entry)
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
    run: int, device: int, directory: bytes, ino: int, found: _Gathered, problems: list[Finding]
) -> list[tuple[bytes, int]]:
    with handles.opened(handles.open_beneath(run, directory or b".")) as descriptor:
        own = linux.status(descriptor)
        if own.ino != ino:
            problems.append(Finding(Reason.UNSAFE_PATH, f"{show(directory)} was replaced while it was looked at"))
            return []
        if own.is_fixed or not may_empty(descriptor, own):
            problems.append(Finding(Reason.PERMISSION_DENIED, f"{show(directory or b'.')} may not be emptied"))
        return _scan_names(descriptor, own, device, directory + b"/" if directory else b"", found, problems)


def _scan_names(
    descriptor: int,
    own: linux.FileStatus,
    device: int,
    above: bytes,
    found: _Gathered,
    problems: list[Finding],
) -> list[tuple[bytes, int]]:
    below: list[tuple[bytes, int]] = []
    read, new, readable = linux.status_reader(), found.new, found.readable
    # What nearly every entry is comes first: it makes a large run cheaper by a third.
    may_be_plain, longest = not own.mode & stat.S_ISVTX, MAX_PATH - len(above)
    for name in sorted_names(descriptor):
        path = above + name
        try:
            status = read(descriptor, name)
        except FileNotFoundError:
            if not _may_be_lock(path):
                raise
            continue
        if may_be_plain and status.is_plain_file and len(name) <= longest and path != hold_file.NAME:
            if (status.mode & stat.S_IRUSR, status.uid) != readable and not _may_read(descriptor, name):
                problems.append(Finding(Reason.PERMISSION_DENIED, f"{show(path)} may not be read"))
        elif problem := _objection(path, status, device):
            if path != hold_file.NAME:
                problems.append(problem)
            continue
        else:
            if path != hold_file.NAME:
                problems += _permissions(descriptor, own, name, path, status)
            if status.is_directory:
                below.append((path, status.ino))
        new.append(entry_of(path, status))
        if len(new) == TOGETHER:
            found.pack()
    return below


def _permissions(
    descriptor: int, own: linux.FileStatus, name: bytes, path: bytes, status: linux.FileStatus
) -> list[Finding]:
    if status.is_fixed or not _may_remove(own, status):
        return [Finding(Reason.PERMISSION_DENIED, f"{show(path)} may not be removed")]
    if status.is_file and not _may_read(descriptor, name):
        return [Finding(Reason.PERMISSION_DENIED, f"{show(path)} may not be read")]
    return []


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
