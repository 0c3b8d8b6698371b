"""The scan of a run as it was first written: plain and slow, with one call and one look for each question."""

import contextlib
import ctypes
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import errors
from cleanup.storage.errors import MetAt
from cleanup.storage.run_paths import METADATA, show
from cleanup.storage.staging import desktop_files, hold_file, metadata, run_tree
from cleanup.storage.staging.run_tree import Count, Entry, Scan

_libc = ctypes.CDLL(None, use_errno=True)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class _Time(ctypes.Structure):
    _fields_ = (("sec", ctypes.c_int64), ("nsec", ctypes.c_uint32), ("reserved", ctypes.c_int32))


class _Statx(ctypes.Structure):
    _fields_ = (
        ("mask", ctypes.c_uint32),
        ("blksize", ctypes.c_uint32),
        ("attributes", ctypes.c_uint64),
        ("nlink", ctypes.c_uint32),
        ("uid", ctypes.c_uint32),
        ("gid", ctypes.c_uint32),
        ("mode", ctypes.c_uint16),
        ("spare0", ctypes.c_uint16),
        ("ino", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("blocks", ctypes.c_uint64),
        ("attributes_mask", ctypes.c_uint64),
        ("atime", _Time),
        ("btime", _Time),
        ("ctime", _Time),
        ("mtime", _Time),
        ("rest", ctypes.c_uint64 * 16),
    )


@dataclass(frozen=True)
class PlainStatus:
    """What `lstat` says of an entry, and what only statx says."""

    stat: os.stat_result
    birth_ns: int | None
    is_mount_root: bool
    is_fixed: bool


def status(directory: int, name: bytes) -> PlainStatus:
    buffer = _Statx()
    if _libc.statx(directory, name, 0x100 if name else 0x1000, ctypes.c_uint(0xFFF), ctypes.byref(buffer)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fsdecode(name))
    found = os.stat(name, dir_fd=directory, follow_symlinks=False) if name else os.fstat(directory)
    born = buffer.btime.sec * 10**9 + buffer.btime.nsec if buffer.mask & 0x800 else None
    return PlainStatus(found, born, bool(buffer.attributes & 0x2000), bool(buffer.attributes & 0x30))


def scan(run: int) -> Scan:
    top = status(run, b"")
    entries: list[Entry] = []
    problems: list[Finding] = []
    closed: list[Finding] = []
    of_the_hold: list[Finding] = []
    unseen: list[Finding] = []
    pending = [(b"", top.stat.st_ino)]
    while pending:
        directory, ino = pending.pop()
        is_hold = hold_file.is_hold(directory)
        try:
            pending += _scan_directory(run, top, directory, ino, entries, of_the_hold if is_hold else problems)
        except OSError as error:
            (unseen if is_hold else closed).append(_problem_of(error, directory))
    is_held = False
    try:
        is_held = bool(status(run, hold_file.NAME))
    except FileNotFoundError:
        pass
    except OSError as error:
        closed.append(_problem_of(error, hold_file.NAME))
    too_deep = [problem for problem in (*problems, *of_the_hold) if problem.reason == "tree_too_deep"]
    return Scan(
        top.stat.st_ino,
        top.birth_ns,
        top.stat.st_dev,
        tuple(entries),
        (*problems, *closed),
        (*closed, *unseen, *too_deep),
        is_held,
        top.stat.st_mtime_ns,
        desktop_files.bounded(entry for entry in entries if _is_of_a_desktop(run, entry)),
    )


def count(entries: tuple[Entry, ...]) -> Count:
    inodes: dict[int, list[Entry]] = {}
    for entry in entries:
        if entry.is_file:
            inodes.setdefault(entry.ino, []).append(entry)
    last = [names[-1] for names in inodes.values()]
    allocated = sum(names[-1].allocated for names in inodes.values() if names[-1].nlink <= len(names))
    return Count(len(last), sum(entry.size for entry in last), allocated)


@contextlib.contextmanager
def _opened(run: int, directory: bytes) -> Iterator[int]:
    descriptor = run_tree.handles.open_beneath(run, directory or b".", _DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _scan_directory(
    run: int, top: PlainStatus, directory: bytes, ino: int, entries: list[Entry], problems: list[Finding]
) -> list[tuple[bytes, int]]:
    def forbid(path: bytes, what: str) -> None:
        problems.append(Finding(Reason.PERMISSION_DENIED, f"{show(path)} may not be {what}"))

    below: list[tuple[bytes, int]] = []
    with _opened(run, directory) as descriptor:
        own = status(descriptor, b"")
        if own.stat.st_ino != ino:
            problems.append(Finding(Reason.UNSAFE_PATH, f"{show(directory)} was replaced while it was looked at"))
            return []
        may_write = os.access(".", os.W_OK | os.X_OK, dir_fd=descriptor, effective_ids=True)
        if own.is_fixed or not (may_write or own.stat.st_uid == os.geteuid()):
            forbid(directory or b".", "emptied")
        for name in sorted(os.fsencode(entry.name) for entry in os.scandir(descriptor)):
            path = directory + b"/" + name if directory else name
            try:
                found = status(descriptor, name)
            except FileNotFoundError:
                if not path.startswith(METADATA + b"/") or not metadata.may_be_lock(path[len(METADATA) + 1 :]):
                    raise
                continue
            problem = _objection(path, found, top.stat.st_dev)
            is_file, is_directory = stat.S_ISREG(found.stat.st_mode), stat.S_ISDIR(found.stat.st_mode)
            if path != hold_file.NAME and problem is not None:
                problems.append(problem)
            elif path != hold_file.NAME:
                sticky = own.stat.st_mode & stat.S_ISVTX
                mine = os.geteuid() in (0, own.stat.st_uid, found.stat.st_uid)
                readable = {"dir_fd": descriptor, "effective_ids": True, "follow_symlinks": False}
                if found.is_fixed or (sticky and not mine):
                    forbid(path, "removed")
                elif is_file and not os.access(name, os.R_OK, **readable):
                    forbid(path, "read")
            if problem is None:
                entries.append(entry_of(path, found.stat))
                below += [(path, found.stat.st_ino)] if is_directory else []
    return below


def _objection(path: bytes, found: PlainStatus, device: int) -> Finding | None:
    mode, is_directory = found.stat.st_mode, stat.S_ISDIR(found.stat.st_mode)
    if stat.S_ISLNK(mode):
        return Finding(Reason.UNSAFE_PATH, f"{show(path)} is a symbolic link")
    if found.is_mount_root or (is_directory and found.stat.st_dev != device):
        return Finding(Reason.MOUNT_INSIDE, show(path))
    if not (stat.S_ISREG(mode) or is_directory):
        return Finding(Reason.SPECIAL_FILE, show(path))
    if is_directory and (path.count(b"/") + 1 >= run_tree.MAX_DEPTH or len(path) > run_tree.MAX_PATH):
        return Finding(Reason.TREE_TOO_DEEP, f"{show(path[:60])}… is {path.count(b'/') + 1} levels deep")
    if len(path) > run_tree.MAX_PATH:
        return Finding(Reason.TREE_TOO_DEEP, f"{show(path[:60])}… is {len(path)} bytes long")
    return None


def entry_of(path: bytes, found: os.stat_result) -> Entry:
    is_file = stat.S_ISREG(found.st_mode)
    return Entry(
        path=path,
        is_file=is_file,
        ino=found.st_ino,
        nlink=found.st_nlink if is_file else 1,
        size=found.st_size if is_file else 0,
        allocated=found.st_blocks * 512 if is_file else 0,
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
    )


def _is_of_a_desktop(run: int, entry: Entry) -> bool:
    if not entry.is_file or hold_file.is_hold(entry.path):
        return False
    if desktop_files.is_named(entry.path):
        return True
    magic = desktop_files.APPLE_DOUBLE
    if not desktop_files.is_beside(entry.path) or not len(magic) <= entry.size <= desktop_files.MAX_FILE_BYTES:
        return False
    try:
        descriptor = os.open(entry.path, os.O_RDONLY | os.O_NONBLOCK, dir_fd=run)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as file:
        return file.read(len(magic)) == magic


def _problem_of(error: OSError, path: bytes) -> Finding:
    return Finding(errors.reason_of(error, MetAt.IN_THE_RUN), f"{show(path or b'.')}: {errors.words_of(error)}")
