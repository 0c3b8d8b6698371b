"""The Linux calls that Python does not offer, with types."""

import ctypes
import enum
import errno
import fcntl
import os
import stat
import struct
from dataclasses import dataclass

_libc = ctypes.CDLL(None, use_errno=True)

# glibc 2.36 has no symbol for openat2; its number is the same on every architecture.
_SYS_OPENAT2 = 437
_RENAME_NOREPLACE = 1
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_EMPTY_PATH = 0x1000
_AT_STATX_FORCE_SYNC = 0x2000
_STATX_BASIC_AND_BTIME = 0x7FF | 0x800
_STATX_BTIME = 0x800
_STATX_MNT_ID_UNIQUE = 0x4000  # Linux 6.8
_STATX_ATTR_FIXED = 0x10 | 0x20  # immutable, append-only
_STATX_ATTR_MOUNT_ROOT = 0x2000
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


STRICT = Resolve.NO_XDEV | Resolve.NO_MAGICLINKS | Resolve.NO_SYMLINKS | Resolve.BENEATH


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class _Timestamp(ctypes.Structure):
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
        ("atime", _Timestamp),
        ("btime", _Timestamp),
        ("ctime", _Timestamp),
        ("mtime", _Timestamp),
        ("rdev_major", ctypes.c_uint32),
        ("rdev_minor", ctypes.c_uint32),
        ("dev_major", ctypes.c_uint32),
        ("dev_minor", ctypes.c_uint32),
        ("mnt_id", ctypes.c_uint64),
        ("spare", ctypes.c_uint64 * 13),
    )


@dataclass(frozen=True, slots=True)
class FileStatus:
    """One entry: times in nanoseconds, sizes in bytes; `birth_ns` None: unknown.

    `is_fixed`: immutable or append-only, even for root.
    """

    mode: int
    uid: int
    ino: int
    nlink: int
    size: int
    allocated: int
    mtime_ns: int
    ctime_ns: int
    birth_ns: int | None
    device: int
    is_mount_root: bool
    is_fixed: bool

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.mode)


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
    _refuse_zero_bytes(path)
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    for _ in range(10):
        descriptor = _libc.syscall(
            ctypes.c_long(_SYS_OPENAT2), directory, path, ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how))
        )
        if descriptor >= 0:
            return int(descriptor)
        # EAGAIN: a rename elsewhere on the machine ran while the kernel ruled out "..".
        if ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
            break
    _raise_errno(path)
    raise AssertionError("unreachable")


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
    if _libc.statx(directory, name, flags, ctypes.c_uint(_STATX_BASIC_AND_BTIME), ctypes.byref(buffer)):
        _raise_errno(name)
    return FileStatus(
        mode=buffer.mode,
        uid=buffer.uid,
        ino=buffer.ino,
        nlink=buffer.nlink,
        size=buffer.size,
        allocated=buffer.blocks * 512,
        mtime_ns=_nanoseconds(buffer.mtime),
        ctime_ns=_nanoseconds(buffer.ctime),
        birth_ns=_nanoseconds(buffer.btime) if buffer.mask & _STATX_BTIME else None,
        device=os.makedev(buffer.dev_major, buffer.dev_minor),
        is_mount_root=bool(buffer.attributes & _STATX_ATTR_MOUNT_ROOT),
        is_fixed=bool(buffer.attributes & _STATX_ATTR_FIXED),
    )


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
    if _libc.statx(descriptor, b"", _AT_EMPTY_PATH, ctypes.c_uint(_STATX_MNT_ID_UNIQUE), ctypes.byref(buffer)):
        _raise_errno(b"")
    return int(buffer.mnt_id) if buffer.mask & _STATX_MNT_ID_UNIQUE else None


def _nanoseconds(time: _Timestamp) -> int:
    return int(time.sec) * 1_000_000_000 + int(time.nsec)


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
