"""The Linux calls that Python does not offer, with types."""

import ctypes
import enum
import errno
import fcntl
import functools
import os
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)

# glibc 2.36 has no symbol for openat2; its number is the same on every architecture.
_SYS_OPENAT2 = ctypes.c_long(437)
_RENAME_NOREPLACE = 1
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_EMPTY_PATH = 0x1000
_AT_STATX_FORCE_SYNC = 0x2000
_STATX_BASIC_AND_BTIME = 0x7FF | 0x800
_STATX_BTIME = 0x800
_STATX_MNT_ID_UNIQUE = 0x4000  # Linux 6.8
_STATX_ATTR_FIXED = 0x10 | 0x20  # immutable, append-only
STATX_ATTR_MOUNT_ROOT = 0x2000
_STATX_ATTR_UNUSUAL = _STATX_ATTR_FIXED | STATX_ATTR_MOUNT_ROOT
_IN_ONLYDIR = 0x01000000
_FORMAT = 0o170000  # S_IFMT: the kind of an entry
_FS_IOC_FSGETXATTR = 0x801C581F
# Flags, extent size, number of extents, project, extent size of shared ones; eight bytes are spare.
_FSXATTR = struct.Struct("=IIIII8x")
_XFLAG_PROJINHERIT = 0x200


class Resolve(enum.IntFlag):
    """Steps that openat2 must not take on its way."""

    NO_XDEV = 0x01
    NO_MAGICLINKS = 0x02
    NO_SYMLINKS = 0x04
    BENEATH = 0x08


SECOND = 1_000_000_000  # in nanoseconds
STRICT = Resolve.NO_XDEV | Resolve.NO_MAGICLINKS | Resolve.NO_SYMLINKS | Resolve.BENEATH


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_HOW_SIZE = ctypes.c_size_t(ctypes.sizeof(_OpenHow))


# struct statx: a structure's fields would be slow to read one by one.
_Statx = ctypes.c_char * 256
_STATX = struct.Struct(
    "=I4xQ"  # mask, attributes
    "II4xH2x"  # links, user, mode
    "QQQ8x"  # inode, size, blocks
    "16x"  # access time
    "qI4xqI4xqI4x"  # birth, change and modification
    "8xII"  # device
    "Q"  # mount
)
# Attributes, links, mode, inode, size, blocks.
SIZE_FIELDS = struct.Struct("=8xQI8xH2xQQQ88x")


class _StatxFields(NamedTuple):
    mask: int
    attributes: int
    nlink: int
    uid: int
    mode: int
    ino: int
    size: int
    blocks: int
    birth_seconds: int
    birth_rest: int
    ctime_seconds: int
    ctime_rest: int
    mtime_seconds: int
    mtime_rest: int
    device_major: int
    device_minor: int
    mount: int


class FileStatus(_StatxFields):
    """One entry, as statx says it: sizes in bytes, `rest` in nanoseconds."""

    __slots__ = ()

    @property
    def allocated(self) -> int:
        return self.blocks * 512

    @property
    def mtime_ns(self) -> int:
        return self.mtime_seconds * SECOND + self.mtime_rest

    @property
    def ctime_ns(self) -> int:
        return self.ctime_seconds * SECOND + self.ctime_rest

    @property
    def birth_ns(self) -> int | None:
        """The time of birth; None: unknown."""
        return self.birth_seconds * SECOND + self.birth_rest if self.mask & _STATX_BTIME else None

    @property
    def device(self) -> int:
        return os.makedev(self.device_major, self.device_minor)

    @property
    def is_mount_root(self) -> bool:
        return self.attributes & STATX_ATTR_MOUNT_ROOT != 0

    @property
    def is_fixed(self) -> bool:
        """Whether it is immutable or append-only, even for root."""
        return self.attributes & _STATX_ATTR_FIXED != 0

    @property
    def is_file(self) -> bool:
        return self.mode & _FORMAT == stat.S_IFREG

    @property
    def is_plain_file(self) -> bool:
        """Whether it is a regular file, no mount and not fixed: in a run nearly every entry."""
        return self.mode & _FORMAT == stat.S_IFREG and not self.attributes & _STATX_ATTR_UNUSUAL

    @property
    def is_directory(self) -> bool:
        return self.mode & _FORMAT == stat.S_IFDIR

    @property
    def is_symlink(self) -> bool:
        return self.mode & _FORMAT == stat.S_IFLNK


def _raise_errno(name: bytes) -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), os.fsdecode(name))


def _refuse_zero_bytes(*names: bytes) -> None:
    # ctypes passes a name as a C string: a zero byte in it would name another file.
    for name in names:
        if b"\0" in name:
            raise OSError(errno.EINVAL, "zero byte in a name", os.fsdecode(name))


def openat2(directory: int, path: bytes, flags: int, resolve: Resolve = STRICT) -> int:
    """Opens `path` beneath a descriptor.

    Raises OSError; ELOOP for a link, EXDEV for a mount point or an escape, EAGAIN after a race with a rename.
    """
    if b"\0" in path:
        _refuse_zero_bytes(path)
    how = _how(flags | os.O_CLOEXEC, resolve)
    for _ in range(10):
        descriptor: int = _libc.syscall(_SYS_OPENAT2, directory, path, how, _HOW_SIZE)
        if descriptor >= 0:
            return descriptor
        # EAGAIN: a rename elsewhere on the machine ran while the kernel ruled out "..".
        if ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
            break
    _raise_errno(path)
    raise AssertionError("unreachable")


@functools.cache
def _how(flags: int, resolve: Resolve) -> Any:  # noqa: ANN401
    return ctypes.byref(_OpenHow(flags, 0, resolve))  # the kernel only reads it


def rename_noreplace(source_directory: int, source: bytes, target_directory: int, target: bytes) -> None:
    """Renames between two open directories. Raises FileExistsError if `target` exists."""
    _refuse_zero_bytes(source, target)
    if _libc.renameat2(source_directory, source, target_directory, target, ctypes.c_uint(_RENAME_NOREPLACE)):
        _raise_errno(source)


def status(directory: int, name: bytes = b"", *, fresh: bool = False) -> FileStatus:
    """Returns statx of an entry, without following links. Raises OSError.

    Without a name: of the descriptor. `fresh`: a network filesystem asks its server, not its cache.
    """
    _refuse_zero_bytes(name)
    buffer = _Statx()
    flags = (_AT_SYMLINK_NOFOLLOW if name else _AT_EMPTY_PATH) | (_AT_STATX_FORCE_SYNC if fresh else 0)
    if _libc.statx(directory, name, flags, _STATX_BASIC_AND_BTIME, buffer):
        _raise_errno(name)
    return FileStatus._make(_STATX.unpack_from(buffer))


def status_reader() -> Callable[[int, bytes], FileStatus]:
    """Returns a `status` for the names in open directories, twice as fast; threads cannot share it."""
    read, made, kind = fields_reader(_STATX), tuple.__new__, FileStatus
    return lambda directory, name: made(kind, read(directory, name))


def fields_reader(layout: struct.Struct) -> Callable[[int, bytes], tuple[int, ...]]:
    """Returns a `status_reader` of bare fields, by a layout of struct statx such as SIZE_FIELDS."""
    # One buffer, few look-ups of names and no object make it cheap.
    statx, unpack, buffer = _libc.statx, layout.unpack_from, _Statx()
    reference = ctypes.byref(buffer)

    def read(directory: int, name: bytes) -> tuple[int, ...]:
        if not name or b"\0" in name:
            raise OSError(errno.EINVAL, "not the name of an entry", os.fsdecode(name))
        if statx(directory, name, _AT_SYMLINK_NOFOLLOW, _STATX_BASIC_AND_BTIME, reference):
            _raise_errno(name)
        return unpack(buffer)

    return read


def open_inotify() -> int:
    """Opens an instance of inotify, which never blocks a read. Raises OSError."""
    descriptor: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        _raise_errno(b"")
    return descriptor


def watch_directory(inotify: int, directory: int, mask: int) -> int:
    """Watches an open directory, which may be closed then; returns the watch. Raises OSError."""
    # By the descriptor: a path could lead elsewhere by now.
    path = f"/proc/self/fd/{directory}/.".encode()
    watch: int = _libc.inotify_add_watch(inotify, path, ctypes.c_uint32(mask | _IN_ONLYDIR))
    if watch < 0:
        _raise_errno(path)
    return watch


def sync_filesystem(descriptor: int) -> None:
    """Syncs the filesystem of an open file; other threads go on. Raises OSError."""
    if _libc.syncfs(descriptor):
        _raise_errno(b"")


@dataclass(frozen=True, slots=True)
class QuotaProject:
    """A directory's quota project, 0 for none; `inherits`: new entries get it, others cannot enter."""

    number: int
    inherits: bool


def project(descriptor: int) -> QuotaProject | None:
    """Returns an open file's quota project; None where the filesystem names none."""
    try:
        found = fcntl.ioctl(descriptor, _FS_IOC_FSGETXATTR, bytes(_FSXATTR.size))
    except OSError:  # FUSE programs answer an unknown request with errors of their own
        return None
    flags, _extent_size, _extents, number, _shared_extent_size = _FSXATTR.unpack(found)
    return QuotaProject(number, bool(flags & _XFLAG_PROJINHERIT))


def mounting(descriptor: int) -> int | None:
    """Returns the number of an open file's mount, unique since boot, or None."""
    buffer = _Statx()
    if _libc.statx(descriptor, b"", _AT_EMPTY_PATH, _STATX_MNT_ID_UNIQUE, buffer):
        _raise_errno(b"")
    mask, *_others, mount = _STATX.unpack_from(buffer)
    return int(mount) if mask & _STATX_MNT_ID_UNIQUE else None


def missing_calls() -> list[str]:
    """Returns the calls that this machine lacks; if any is missing, clears are refused."""
    missing = [name for name in ("renameat2", "statx") if not hasattr(_libc, name)]
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(openat2(root, b".", os.O_RDONLY | os.O_DIRECTORY))
    except OSError:
        missing.append("openat2")
    finally:
        os.close(root)
    return missing
