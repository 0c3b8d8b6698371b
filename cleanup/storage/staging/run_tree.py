"""The staged tree: scan, measure, fence, publish, remove. The only module that renames or unlinks a staged path.

Everything works by directory descriptors, names are bytes, and nothing is removed that does not stand in a plan and
does not still look as it did when the plan was made.
"""

import contextlib
import errno
import functools
import os
import re
import stat
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from cleanup.storage import desktop_files, hashing, linux, run_paths
from cleanup.storage.run_paths import METADATA, Problem, show
from cleanup.storage.staging import hold_file, metadata, near_misses

MAX_DEPTH = 128
# Below PATH_MAX, so that a path beneath an open directory can always be handed to the kernel in one piece.
MAX_PATH = 4000
MAX_METADATA_BYTES = 4 * 1024 * 1024
RESERVE = b".exlab-reserve"
RESERVE_BYTES = 1 << 20

BATCH_FILES = 1000

T = TypeVar("T")
# The digest that a file's bytes have been proven to have, by its path; None where there is no such proof.
Proven = Callable[[bytes], bytes | None]

INGEST_PATH = METADATA + b"/" + run_paths.INGEST
SYNC_STATE_PATH = METADATA + b"/" + run_paths.SYNC_STATE
MANIFEST_PATH = METADATA + b"/" + run_paths.MANIFEST
# What lies there under a run's name, if it cannot be opened for one of these, is none that we have fenced.
_NO_RUN_OF_OURS = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.EACCES)
KEPT_LAST = "kept until the rest is gone"
_FENCE = re.compile(re.escape(run_paths.FENCE_PREFIX) + rb"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or directory of a run: its path relative to the run and what identifies it. Sizes in bytes."""

    path: bytes
    is_file: bool
    ino: int
    nlink: int
    size: int
    allocated: int
    mtime_ns: int
    ctime_ns: int

    def is_unchanged(self, other: "Entry") -> bool:
        """As `same_as`, and not even a link of it has come or gone."""
        return self.same_as(other) and (not self.is_file or self.ctime_ns == other.ctime_ns)

    def same_as(self, other: "Entry") -> bool:
        """Whether `other` is this very entry, unchanged.

        A directory is known by its inode: making and removing what is in it changes its times. A file with several
        links is compared without ctime, which changes when any of the other links goes.
        """
        if self.is_file != other.is_file or self.ino != other.ino:
            return False
        if not self.is_file:
            return True
        return (
            self.size == other.size
            and self.mtime_ns == other.mtime_ns
            and (self.nlink > 1 or self.ctime_ns == other.ctime_ns)
        )


@dataclass(frozen=True)
class Count:
    """Files and bytes, every inode once however many names it has; `allocated` only where its last link is there."""

    files: int = 0
    bytes: int = 0
    allocated: int = 0


@dataclass(frozen=True)
class Scan:
    """Everything below one run, the directory itself apart, whose are `ino`, `birth_ns` and `modified_ns`.

    `unseen` are those of the problems behind which there may be more that was not seen. `is_held`: a hold file lies at
    the run's top, whatever it is. `desktop` are the paths of the files of desktops and NAS systems, which are no data.
    """

    ino: int
    birth_ns: int | None
    device: int
    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]
    unseen: tuple[Problem, ...] = ()
    is_held: bool = False
    modified_ns: int | None = None
    desktop: frozenset[bytes] = frozenset()

    @property
    def data_files(self) -> list[Entry]:
        """The files outside the run's top-level metadata folder, a hold file and those of desktops apart."""
        return [
            entry for entry in self.entries if entry.is_file and is_data(entry.path) and entry.path not in self.desktop
        ]

    @property
    def compared(self) -> list[Entry]:
        """All entries by which a change of the run would show: without the wizard's locks."""
        return [entry for entry in self.entries if not is_lock(entry)]

    @property
    def metadata_files(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.is_file and is_metadata(entry.path)]


@dataclass(frozen=True)
class Removal:
    """What a removal freed, and what it left: relative path and why."""

    freed: Count
    left: tuple[tuple[bytes, str], ...]


def is_metadata(path: bytes) -> bool:
    """Whether a relative path lies in the run's top-level `.exlab-wizard`; a nested folder of that name is data."""
    return path.startswith(METADATA + b"/")


def is_data(path: bytes) -> bool:
    """Whether a relative path is the run's own: neither metadata nor its hold file."""
    return not is_metadata(path) and not hold_file.is_hold(path)


def is_lock(entry: Entry) -> bool:
    """Whether an entry is one of the wizard's locks, which may come, go or change until the commit."""
    return is_metadata(entry.path) and metadata.is_lock(entry.path.removeprefix(METADATA + b"/"), entry)


def _is_linked_lock(entry: Entry) -> bool:
    return is_metadata(entry.path) and metadata.is_linked_lock(entry.path.removeprefix(METADATA + b"/"), entry)


def locks(run: int) -> list[Entry]:
    """The wizard's locks in a run as they are now. Raises OSError where its metadata folder cannot be read."""
    found = []
    with run_paths.opened(run_paths.open_beneath(run, METADATA)) as folder:
        for name in filter(metadata.may_be_lock, _names(folder)):
            with contextlib.suppress(FileNotFoundError):
                found.append(_entry(METADATA + b"/" + name, linux.status(folder, name)))
    return [entry for entry in found if is_lock(entry)]


def _may_be_lock(path: bytes) -> bool:
    return is_metadata(path) and metadata.may_be_lock(path.removeprefix(METADATA + b"/"))


def scan(run: int) -> Scan:
    """Everything below the directory open as `run`; one descriptor is open at a time.

    What must not be in a run (links, mounts, special files, things that may not be read or removed, too deep nesting)
    comes back as problems: `unsafe_path`, `mount_inside`, `special_file`, `permission_denied`, `tree_too_deep`,
    `staging_io_error`. An entry that vanishes while it is looked at is a problem as well. A hold file holds the run,
    whatever it is, and is no problem besides.
    """
    top = linux.status(run)
    entries: list[Entry] = []
    problems: list[Problem] = []
    closed: list[Problem] = []
    of_the_hold: list[Problem] = []
    unseen: list[Problem] = []
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
    except OSError as error:  # whether it is held cannot be told
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


def _desktop_files(run: int, entries: Iterable[Entry]) -> frozenset[bytes]:
    """The paths of the files of desktops and NAS systems, as far as a tombstone can keep them; a hold file is none."""
    named = (entry for entry in entries if entry.is_file and not hold_file.is_hold(entry.path))
    return desktop_files.bounded(
        entry
        for entry in named
        if desktop_files.is_named(entry.path) or (desktop_files.is_beside(entry.path) and _is_apple_double(run, entry))
    )


def _is_apple_double(run: int, entry: Entry) -> bool:
    """Whether a file begins as those do that macOS lays beside others; one that cannot be read is like any other."""
    magic = desktop_files.APPLE_DOUBLE
    if not len(magic) <= entry.size <= desktop_files.MAX_FILE_BYTES:
        return False
    try:
        return run_paths.read_file(run, entry.path, len(magic) - 1)[: len(magic)] == magic
    except OSError:
        return False


def _is_held(run: int) -> bool:
    """Whether the run has a hold file. Asked last, so that one that was laid during a scan is seen as well."""
    try:
        linux.status(run, hold_file.NAME)
    except FileNotFoundError:
        return False
    return True


def _scan_directory(
    run: int, device: int, directory: bytes, ino: int, entries: list[Entry], problems: list[Problem]
) -> list[tuple[bytes, int]]:
    """Add what stands in one directory; returns its subdirectories."""
    below: list[tuple[bytes, int]] = []
    with run_paths.opened(run_paths.open_beneath(run, directory or b".")) as descriptor:
        own = linux.status(descriptor)
        if own.ino != ino:
            problems.append(Problem("unsafe_path", f"{show(directory)} was replaced while it was looked at"))
            return []
        if own.is_fixed or not may_empty(descriptor, own):
            problems.append(Problem("permission_denied", f"{show(directory or b'.')} may not be emptied"))
        for name in _names(descriptor):
            path = directory + b"/" + name if directory else name
            try:
                status = linux.status(descriptor, name)
            except FileNotFoundError:
                if not _may_be_lock(path):
                    raise
                continue
            problem = _objection(path, status, device)
            if path == hold_file.NAME:
                if problem is None:
                    entries.append(_entry(path, status))
                    below += [(path, status.ino)] if status.is_directory else []
                continue
            if problem is not None:
                problems.append(problem)
                continue
            if status.is_fixed or not _may_remove(own, status):
                problems.append(Problem("permission_denied", f"{show(path)} may not be removed"))
            elif status.is_file and not _may_read(descriptor, name):
                problems.append(Problem("permission_denied", f"{show(path)} may not be read"))
            entries.append(_entry(path, status))
            if status.is_directory:
                below.append((path, status.ino))
    return below


def _names(descriptor: int) -> list[bytes]:
    with os.scandir(descriptor) as found:
        return sorted(os.fsencode(entry.name) for entry in found)


def may_write(descriptor: int) -> bool:
    """Whether this process may make, rename and remove names in an open directory as it stands."""
    return os.access(".", os.W_OK | os.X_OK, dir_fd=descriptor, effective_ids=True)


def may_empty(descriptor: int, status: linux.Status) -> bool:
    """Whether this process may remove names from an open directory, if need be after making it writable."""
    return may_write(descriptor) or status.uid == os.geteuid()


def _may_remove(directory: linux.Status, entry: linux.Status) -> bool:
    """Whether a sticky directory lets this process remove an entry: its owner, the entry's owner and root may."""
    return not directory.mode & stat.S_ISVTX or os.geteuid() in (0, directory.uid, entry.uid)


def _may_read(descriptor: int, name: bytes) -> bool:
    return os.access(name, os.R_OK, dir_fd=descriptor, effective_ids=True, follow_symlinks=False)


def _objection(path: bytes, status: linux.Status, device: int) -> Problem | None:
    if status.is_symlink:
        return Problem("unsafe_path", f"{show(path)} is a symbolic link")
    # A subvolume is no mount, but has inode numbers of its own. Files may lie on another device in an overlay.
    if status.is_mount_root or (status.is_directory and status.device != device):
        return Problem("mount_inside", show(path))
    if not (status.is_file or status.is_directory):
        return Problem("special_file", show(path))
    if status.is_directory and (path.count(b"/") + 1 >= MAX_DEPTH or len(path) > MAX_PATH):
        return Problem("tree_too_deep", f"{show(path[:60])}… is {path.count(b'/') + 1} levels deep")
    if len(path) > MAX_PATH:
        return Problem("tree_too_deep", f"{show(path[:60])}… is {len(path)} bytes long")
    return None


def _problem_of(error: OSError, path: bytes) -> Problem:
    reasons = {
        errno.EACCES: "permission_denied",
        errno.EPERM: "permission_denied",
        errno.ELOOP: "unsafe_path",
        errno.ENOTDIR: "unsafe_path",
        errno.ENOENT: "unsafe_path",
        errno.EXDEV: "mount_inside",
    }
    return Problem(
        reasons.get(error.errno or 0, "staging_io_error"),
        f"{show(path or b'.')}: {os.strerror(error.errno or 0)}",
    )


def _entry(path: bytes, status: linux.Status) -> Entry:
    return Entry(
        path=path,
        is_file=status.is_file,
        ino=status.ino,
        nlink=status.nlink if status.is_file else 1,
        size=status.size if status.is_file else 0,
        allocated=status.allocated if status.is_file else 0,
        mtime_ns=status.mtime_ns,
        ctime_ns=status.ctime_ns,
    )


def unexpected_metadata(scanned: Scan, now_ns: int) -> list[Problem]:
    """`unexpected_metadata` for what in `.exlab-wizard` is not on the closed list, or for too much of it.

    `writer_active` for what only a crash leaves, as a record's draft, if it is less than an hour old at `now_ns`, in
    nanoseconds since 1970.
    """
    top = METADATA + b"/"
    problems = [problem for entry in _within(scanned) if (problem := _unexpected(entry, _name_within(entry), now_ns))]
    # Two files grow with the run, and each has a bound of its own where it is read.
    apart = scanned.desktop | {MANIFEST_PATH, SYNC_STATE_PATH}
    counted = {entry.path.removeprefix(top): entry.size for entry in scanned.metadata_files if entry.path not in apart}
    size = sum(counted.values())
    if size > MAX_METADATA_BYTES:
        said = f"{size} bytes of metadata, {MAX_METADATA_BYTES} at the most{near_misses.of_size(counted)}"
        problems.append(Problem("unexpected_metadata", said))
    return problems


def unexpected_files(scanned: Scan, now_ns: int) -> list[Entry]:
    """The files at the top of `.exlab-wizard` that are `unexpected_metadata` by their names."""
    return [
        entry
        for entry in _within(scanned)
        if entry.is_file
        and b"/" not in _name_within(entry)
        and (problem := _unexpected(entry, _name_within(entry), now_ns))
        and problem.reason == "unexpected_metadata"
    ]


def _within(scanned: Scan) -> list[Entry]:
    """What lies in `.exlab-wizard`, but for files of desktops."""
    top = METADATA + b"/"
    return [entry for entry in scanned.entries if entry.path.startswith(top) and not _is_desktops(scanned, entry)]


def _name_within(entry: Entry) -> bytes:
    return entry.path.removeprefix(METADATA + b"/")


def _is_desktops(scanned: Scan, entry: Entry) -> bool:
    return entry.path in scanned.desktop if entry.is_file else desktop_files.is_folder(entry.path)


def _unexpected(entry: Entry, name: bytes, now_ns: int) -> Problem | None:
    if entry.is_file and metadata.is_known(name):
        return None
    if entry.is_file and desktop_files.is_open(name):
        return Problem("writer_active", f"{show(entry.path)} was deleted and is still open")
    if not metadata.may_be_left(name, entry):
        return Problem("unexpected_metadata", show(entry.path) + near_misses.of_metadata(name))
    # A time in the future is one of a wrong clock; when this host wrote the entry it knows itself.
    written_ns = entry.mtime_ns if entry.mtime_ns <= now_ns else entry.ctime_ns
    if now_ns - written_ns < metadata.STALE_DRAFT_SECONDS * 1_000_000_000:
        return Problem("writer_active", f"{show(entry.path)} was written less than an hour ago")
    return None


def count(entries: Iterable[Entry]) -> Count:
    """Files and bytes of some entries: regular files only, no inode twice."""
    return freed(entries, left=frozenset())


def freed(entries: Iterable[Entry], left: Collection[bytes]) -> Count:
    """What is gone of some planned entries when the paths in `left` are still there: the plan less what remains.

    An inode is gone when none of its planned names is left; its blocks are free only if it had no name elsewhere.
    """
    names: dict[int, int] = defaultdict(int)
    remaining: set[int] = set()
    files: dict[int, Entry] = {}
    for entry in entries:
        if entry.is_file:
            files[entry.ino] = entry
            names[entry.ino] += 1
            if entry.path in left:
                remaining.add(entry.ino)
    gone = [entry for ino, entry in files.items() if ino not in remaining]
    return Count(
        files=len(gone),
        bytes=sum(entry.size for entry in gone),
        allocated=sum(entry.allocated for entry in gone if entry.nlink <= names[entry.ino]),
    )


def freed_bytes_and_count(run_path: str | os.PathLike[str]) -> tuple[int, int]:
    """(file count, bytes) below a directory, as ExLab-Wizard's function of this name counts them.

    Files only, the metadata folder included; a missing path is (0, 0). Unlike the wizard's, it follows no symbolic
    link, counts no inode twice, and raises OSError where something cannot be read instead of leaving it out.
    """
    name = os.fspath(run_path)
    try:
        # With a slash at its end, a link would be followed.
        descriptor = os.open(name.rstrip("/") or name[:1], run_paths.DIRECTORY)
    except FileNotFoundError:
        return 0, 0
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            return 0, 0
        raise
    with run_paths.opened(descriptor):
        scanned = scan(descriptor)
    if scanned.unseen:
        raise OSError(errno.EIO, f"cannot be counted: {scanned.unseen[0].detail}", os.fspath(run_path))
    counted = count(scanned.entries)
    return counted.files, counted.bytes


def differences(planned: Iterable[Entry], found: Iterable[Entry], *, strict: bool = False) -> list[str]:
    """What distinguishes two scans of one run, in words; empty if they are the same tree unchanged.

    The wizard's locks are left out: they may come, go or change. `strict`: files with several links must have kept
    their ctime too, as they do until a link of theirs goes.
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


def fence_name(attempt: str) -> bytes:
    """The sibling name that a run gets before anything is removed. `attempt` is the attempt's id in hex."""
    return run_paths.FENCE_PREFIX + attempt.encode("ascii")


def is_fence_name(name: bytes) -> bool:
    """Whether a name is that of a fence of some attempt, ours or not."""
    return _FENCE.fullmatch(name) is not None


def prepared_name(attempt: str) -> bytes:
    """The sibling file that holds the new record, of any format, until it is published."""
    return fence_name(attempt) + run_paths.PREPARED_SUFFIX


def fence(parent: int, leaf: bytes, name: bytes) -> None:
    """Rename a run to its fence, durably. Raises OSError; FileExistsError if the name is taken."""
    linux.rename_noreplace(parent, leaf, parent, name)
    os.fsync(parent)


def put_back(parent: int, name: bytes, leaf: bytes) -> None:
    """Rename a fence back to the run, durably. Raises FileExistsError if something lies at the run's path."""
    linux.rename_noreplace(parent, name, parent, leaf)
    os.fsync(parent)


def record_path(file: bytes) -> bytes:
    """Where a record with this file name lies in a run."""
    return METADATA + b"/" + file


def record_file(record: Mapping[str, Any]) -> bytes:
    """The file name of a prepared record, as `prepare_record` returned it."""
    return os.fsencode(record.get("file", os.fsdecode(run_paths.INGEST)))


def prepare_record(
    parent: int, name: bytes, data: bytes, like: os.stat_result, file: bytes = run_paths.INGEST
) -> dict[str, int | str]:
    """Write the new record beside the fence, with the mode (and where possible the owner) of the old one.

    Returns what identifies it: `ino`, `size`, `mtime_ns`, and the `file` name under which it is to be published where
    that is not `ingest.json`. Raises OSError; what was written by then is taken away.
    """
    descriptor = os.open(
        name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent
    )
    try:
        with run_paths.opened(descriptor):
            run_paths.write_all(descriptor, data)
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
    """Take a prepared record away again, durably; harmless when it is gone."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    os.fsync(parent)


def challenge_name(attempt: str) -> bytes:
    """The empty file that is laid in a fenced run for a moment, to see whether the NAS shows it."""
    return run_paths.CHALLENGE_PREFIX + attempt.encode("ascii")


def lay_challenge(fenced: int, name: bytes) -> None:
    """Make an empty file in a fenced run. It gets the run's own time, which is given back when it goes.

    Raises OSError.
    """
    before = os.fstat(fenced)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with run_paths.opened(os.open(name, flags, 0o600, dir_fd=fenced)) as descriptor:
        os.utime(descriptor, ns=(before.st_atime_ns, before.st_mtime_ns))


def discard_challenge(run: int, name: bytes) -> None:
    """Take a challenge out of an open run again, durably, and give the run its time back; harmless when it is gone.

    Only an empty file is one of ours. Raises OSError.
    """
    try:
        found = linux.status(run, name)
    except FileNotFoundError:
        return
    if not found.is_file or found.size:
        return
    _with_write_permission(run, lambda: os.unlink(name, dir_fd=run))
    os.fsync(run)
    with contextlib.suppress(PermissionError):  # a group may write in a folder, and only its owner may set its time
        os.utime(run, ns=(os.fstat(run).st_atime_ns, found.mtime_ns))


def discard_challenge_in(parent: int, run: bytes, name: bytes) -> None:
    """As `discard_challenge`, in the run of this name; harmless where there is none. Raises OSError."""
    with contextlib.ExitStack() as stack:
        if (descriptor := _enter_run(stack, parent, run)) is not None:
            discard_challenge(descriptor, name)


def give_time_back(parent: int, run: bytes, ino: int, names: Collection[bytes], modified_ns: int) -> None:
    """Give the run of this name, known by its inode, the time that it had when its plan was made. Raises OSError.

    A crash just before or after a challenge leaves it with another. Only if `names` are all that it holds at its top,
    as they were: then nothing but the challenge has come or gone. Harmless where there is no such run.
    """
    with contextlib.ExitStack() as stack:
        if (descriptor := _enter_run(stack, parent, run)) is None:
            return
        found = os.fstat(descriptor)
        if found.st_ino == ino and found.st_mtime_ns != modified_ns and set(_names(descriptor)) == set(names):
            with contextlib.suppress(PermissionError):
                os.utime(descriptor, ns=(found.st_atime_ns, modified_ns))


def _enter_run(stack: contextlib.ExitStack, parent: int, run: bytes) -> int | None:
    """The run of this name, open until the stack ends; None where none of ours lies there. Raises OSError."""
    try:
        return stack.enter_context(run_paths.opened(run_paths.open_beneath(parent, run)))
    except OSError as error:
        if error.errno in _NO_RUN_OF_OURS:
            return None
        raise


def publish(parent: int, name: bytes, fenced: int, file: bytes = run_paths.INGEST) -> None:
    """Move the prepared record into the fenced run, durably; harmless when that has happened already.

    Raises OSError; EXDEV where the run is storage of its own, into which nothing can be renamed from beside it.
    """
    with contextlib.suppress(FileNotFoundError), run_paths.opened(run_paths.open_beneath(fenced, METADATA)) as folder:
        with contextlib.suppress(FileNotFoundError):  # moved already, but whoever did it may have died before this
            _with_write_permission(folder, lambda: os.rename(name, file, src_dir_fd=parent, dst_dir_fd=folder))
        os.fsync(folder)
    os.fsync(parent)


def draft_name(attempt: str, file: bytes) -> bytes:
    """The name of a record that is written inside the fenced run until it takes its place: as the wizard's drafts."""
    return file + b"." + attempt[:16].encode("ascii") + b".tmp"


def copy_prepared(parent: int, name: bytes, fenced: int, draft: bytes, file: bytes) -> dict[str, int | str] | None:
    """Copy the prepared record into the fenced run's metadata folder, durably, where it cannot be renamed there.

    Returns what identifies the copy, as `prepare_record` does; None where no prepared record lies beside the fence, as
    after it was published. A copy that a crash has left is made anew. Raises OSError.
    """
    try:
        with run_paths.opened(run_paths.open_beneath(parent, name, os.O_RDONLY | os.O_NOFOLLOW)) as descriptor:
            like = os.fstat(descriptor)
        data = run_paths.read_file(parent, name, like.st_size)
    except FileNotFoundError:
        return None
    with run_paths.opened(run_paths.open_beneath(fenced, METADATA)) as folder:
        discard_prepared(folder, draft)
        made: list[dict[str, int | str]] = []
        _with_write_permission(folder, lambda: made.append(prepare_record(folder, draft, data, like, file)))
        return made[0]


def publish_copy(parent: int, name: bytes, fenced: int, draft: bytes, file: bytes) -> None:
    """Move the copy of a prepared record into its place, durably, and only then take away what it is a copy of."""
    with run_paths.opened(run_paths.open_beneath(fenced, METADATA)) as folder:
        os.rename(draft, file, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    discard_prepared(parent, name)


def may_be_emptied(fenced: int, record: Mapping[str, Any]) -> bool:
    """Whether the published record, identified as by `prepare_record`, lies in a fenced run, or nothing else does."""
    try:
        with run_paths.opened(run_paths.open_beneath(fenced, METADATA)) as folder:
            if _is_record(linux.status(folder, record_file(record)), record):
                return True
    except FileNotFoundError:
        pass  # an earlier removal came as far as that
    path = record_path(record_file(record))
    return not any(entry.is_file and entry.path != path for entry in scan(fenced).compared)


def _is_record(found: linux.Status, record: Mapping[str, Any]) -> bool:
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
    """Remove the planned entries of the fenced run, and the fence itself when it is empty.

    Each entry is compared with the plan just before it goes; what differs, what is not in the plan and what the
    filesystem will not give up stays and is reported. The wizard's locks go as they are found, planned or not. Where
    only the ctime differs, as after the chmod or chattr that a person needed to make a file removable, the bytes are
    read and must have the digest that `proven` gives.
    `record` identifies the published record, which goes last, and only if nothing else is left; just before
    that `before_the_record` is called. Entries that are gone already count as removed, so that an interrupted removal
    can be taken up again. `progress` is called after each batch with the files and bytes handled so far.
    """
    left: dict[bytes, str] = {}
    directories = {entry.path: entry for entry in planned if not entry.is_file}
    done_files = done_bytes = 0
    last = record_path(record_file(record))
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
    return Removal(freed(planned, left), tuple(sorted(left.items())))


def batches(files: Iterable[Entry]) -> Iterator[tuple[bytes, list[Entry]]]:
    """Files by directory, at most `BATCH_FILES` at a time: pieces of work that share nothing but the run's descriptor.

    A hard link's names may come in different batches; what was freed is settled by inode afterwards (`freed`).
    """
    by_directory: dict[bytes, list[Entry]] = defaultdict(list)
    for entry in files:
        by_directory[entry.path.rpartition(b"/")[0]].append(entry)
    for path, entries in by_directory.items():
        for start in range(0, len(entries), BATCH_FILES):
            yield path, entries[start : start + BATCH_FILES]


def _unlink_batch(
    fenced: int, path: bytes, directory: Entry | None, files: list[Entry], proven: Proven
) -> dict[bytes, str]:
    """Unlink planned files of one directory; returns those that are left, and why."""
    try:
        descriptor = run_paths.open_beneath(fenced, path or b".")
    except FileNotFoundError:
        return {}
    except OSError as error:
        return {entry.path: errno.errorcode.get(error.errno or 0, "error") for entry in files}
    left: dict[bytes, str] = {}
    with run_paths.opened(descriptor):
        ino = linux.status(descriptor).ino
        if directory is not None and ino != directory.ino:
            return {entry.path: "another directory lies there" for entry in files}
        for entry in files:
            # Through an open directory files are reached wherever it lies by now: a person may have put it elsewhere.
            why = _unlink_planned(descriptor, entry, proven) if _lies_at(fenced, path, ino) else "its folder was moved"
            if why:
                left[entry.path] = why
    return left


def _lies_at(fenced: int, path: bytes, ino: int) -> bool:
    """Whether the directory with this inode lies at a path of the fenced run now; the run itself always does."""
    if not path:
        return True
    try:
        with run_paths.opened(run_paths.open_beneath(fenced, path, os.O_PATH)) as found:
            return linux.status(found).ino == ino
    except OSError:
        return False


def _unlink_planned(directory: int, entry: Entry, proven: Proven) -> str:
    """Unlink one file if it is still the planned one; returns why not, or nothing."""
    name = entry.path.rpartition(b"/")[2]
    try:
        found = _entry(entry.path, linux.status(directory, name))
        no_bytes = all(is_lock(one) or _is_linked_lock(one) for one in (entry, found))
        if not (no_bytes or entry.is_unchanged(found) or _holds_proven_bytes(directory, name, entry, found, proven)):
            return "changed"
        _with_write_permission(directory, lambda: os.unlink(name, dir_fd=directory))
    except FileNotFoundError:
        return ""
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "error")
    return ""


def _holds_proven_bytes(directory: int, name: bytes, entry: Entry, found: Entry, proven: Proven) -> bool:
    """Whether a file whose ctime alone has changed still holds, read now, the bytes that the NAS was proven to hold."""
    if not entry.same_as(replace(found, ctime_ns=entry.ctime_ns)):
        return False
    expected = proven(entry.path)
    if expected is None:
        return entry.nlink > 1  # its ctime changes with every name of it that goes, and the policy asked for no more
    digest, status = hashing.hash_file(directory, name)
    return digest == expected and found.same_as(_entry(entry.path, status))


def _with_write_permission(directory: int, act: Callable[[], None]) -> None:
    """Do something in a directory; if it is read-only and ours, make it writable first."""
    try:
        act()
    except PermissionError as error:
        mode = os.fstat(directory).st_mode
        if error.errno != errno.EACCES or mode & 0o300 == 0o300:
            raise
        os.fchmod(directory, mode & 0o7777 | 0o300)
        act()


def _remove_directory(fenced: int, directory: Entry) -> dict[bytes, str]:
    """Remove one planned directory if it is empty and still the planned one."""
    above, _, name = directory.path.rpartition(b"/")
    try:
        with run_paths.opened(run_paths.open_beneath(fenced, above or b".")) as parent:
            if linux.status(parent, name).ino != directory.ino:
                return {directory.path: "another directory lies there"}
            _with_write_permission(parent, lambda: os.rmdir(name, dir_fd=parent))
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
    """Unlink the published record and its folder; while anything else is left it stays and tells the story."""
    file = record_file(record)
    path = record_path(file)
    unplanned = [name for name in _names(fenced) if name != METADATA and name not in left]
    if left or unplanned:
        return {**_kept_record(fenced, file), **dict.fromkeys(unplanned, "not in the plan")}
    try:
        with run_paths.opened(run_paths.open_beneath(fenced, METADATA)) as directory:
            _unlink_locks(directory)
            unplanned = [name for name in _names(directory) if name != file]
            if unplanned:
                return {
                    path: KEPT_LAST,
                    METADATA: f"{show(unplanned[0])} is not in the plan",
                }
            if not _is_record(linux.status(directory, file), record):
                return {path: "changed"}
            before_the_record()
            _with_write_permission(directory, lambda: os.unlink(file, dir_fd=directory))
    except FileNotFoundError:
        pass
    except OSError as error:
        return {path: errno.errorcode.get(error.errno or 0, "error")}
    return _remove_directory(fenced, top)


def _unlink_locks(directory: int) -> None:
    """Remove the wizard's locks that came after the plan was made; they are empty, and hold nothing."""
    for name in _names(directory):
        if metadata.may_be_lock(name) and metadata.is_lock(name, linux.status(directory, name)):
            _with_write_permission(directory, functools.partial(os.unlink, name, dir_fd=directory))


def _kept_record(fenced: int, file: bytes) -> dict[bytes, str]:
    """The record, if it is still there: what an earlier removal took is not left."""
    try:
        with run_paths.opened(run_paths.open_beneath(fenced, METADATA)) as directory:
            linux.status(directory, file)
    except FileNotFoundError:
        return {}
    except OSError:
        pass  # what lies there cannot be looked into, so it is left
    return {record_path(file): KEPT_LAST}


def _moved(fenced: int, planned: Collection[Entry], left: Collection[bytes]) -> dict[bytes, str]:
    """Planned files that have left their places, yet lie elsewhere in the fence: not removed, so not freed."""
    places = {entry.path: entry.ino for entry in planned}
    elsewhere = {
        (entry.ino, entry.size, entry.mtime_ns): entry.path
        for entry in scan(fenced).entries
        if entry.is_file and places.get(entry.path) != entry.ino
    }
    moved = {}
    for entry in planned:
        place = elsewhere.get((entry.ino, entry.size, entry.mtime_ns))
        if entry.is_file and entry.path not in left and place is not None:
            moved[entry.path] = f"moved to {show(place)}"
    return moved


def _remove_fence(parent: int, name: bytes, fenced: int) -> dict[bytes, str]:
    """Remove the emptied fence itself; something that is not in the plan keeps it."""
    try:
        if linux.status(parent, name).ino != linux.status(fenced).ino:
            return {b".": "another directory lies at the fence"}
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        unplanned = ", ".join(show(entry) for entry in _names(fenced)[:3])
        return {b".": f"{errno.errorcode.get(error.errno or 0, 'error')}: {unplanned}" if unplanned else "error"}
    os.fsync(parent)
    return {}


def fences(parent: int) -> Iterator[bytes]:
    """The names in a directory that look like a fence or a prepared record, ours or not."""
    for name in _names(parent):
        if name.startswith(run_paths.FENCE_PREFIX):
            yield name


def lay_token(root: int) -> str:
    """Give a root a token, or adopt the one that it carries. Returns the UUID.

    Raises OSError where it cannot be written, and leaves nothing half written; ValueError for a token file that holds
    no UUID.
    """
    existing = run_paths.read_token(root)
    if existing is not None:
        return existing
    token = str(uuid.uuid4())
    descriptor = os.open(run_paths.TOKEN, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=root)
    try:
        with run_paths.opened(descriptor):
            run_paths.write_all(descriptor, f"{token}\n".encode())
            os.fsync(descriptor)
    except OSError:
        os.unlink(run_paths.TOKEN, dir_fd=root)
        raise
    os.fsync(root)
    return token


def lay_marker(directory: int, name: bytes) -> bool:
    """Make an empty file of this name in an open directory, durably; False when the name was there.

    Raises OSError where it cannot be made.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        os.close(os.open(name, flags, 0o644, dir_fd=directory))
    except FileExistsError:
        return False
    os.fsync(directory)
    return True


def take_back(directory: int, name: bytes) -> None:
    """Take away a file that was laid at the top of a root a moment ago, durably; harmless when it is gone.

    Raises OSError.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
    os.fsync(directory)


def lay_reserve(directory: int) -> bool:
    """Keep 1 MiB at the top of a root, for the day when its disk is full; False when it is there.

    One that a crash left unfinished is made anew. Raises OSError where it cannot be written.
    """
    with contextlib.suppress(FileNotFoundError):
        found = linux.status(directory, RESERVE)
        if not found.is_file or found.size >= RESERVE_BYTES:
            return False
        os.unlink(RESERVE, dir_fd=directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(RESERVE, flags, 0o600, dir_fd=directory)
    except FileExistsError:
        return False  # another process was faster
    try:
        with run_paths.opened(descriptor):
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            os.fsync(descriptor)
    except OSError:
        os.unlink(RESERVE, dir_fd=directory)
        raise
    return True


def release_reserve(directory: int) -> bool:
    """Give the reserved space back to a full disk. False if there was none."""
    try:
        os.unlink(RESERVE, dir_fd=directory)
    except FileNotFoundError:
        return False
    os.fsync(directory)
    return True


def with_reserve(directory: int, act: Callable[[], T], *, spare: int = 0) -> T:
    """Do something that writes; when the disk is full, give it the reserve of its root and do it once more.

    Raises OSError if it fails all the same. The reserve is laid again when there is room for it and `spare` bytes.
    """
    try:
        result = act()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not release_reserve(directory):
            raise
        result = act()
    renew_reserve(directory, spare=spare)
    return result


def renew_reserve(directory: int, *, spare: int = 0) -> None:
    """Lay the reserve again if there is room for it and `spare` bytes; if not, the next clear does."""
    with contextlib.suppress(OSError):
        if free_bytes(directory) >= spare + RESERVE_BYTES:
            lay_reserve(directory)


def free_bytes(directory: int) -> int:
    """What this process may still write on the filesystem of an open directory."""
    found = os.fstatvfs(directory)
    return found.f_bavail * found.f_frsize


def probe(directory: int) -> None:
    """Try the rename that a clear needs on this very filesystem. Raises OSError where it is missing.

    Writes: for the registration of a root only, never for a check or a dry run.
    """
    first = run_paths.FENCE_PREFIX + b"probe-" + uuid.uuid4().hex.encode()
    second = first + b"-renamed"
    os.mkdir(first, 0o700, dir_fd=directory)
    try:
        linux.rename_noreplace(directory, first, directory, second)
        os.rmdir(second, dir_fd=directory)
    except OSError:
        os.rmdir(first, dir_fd=directory)
        raise
