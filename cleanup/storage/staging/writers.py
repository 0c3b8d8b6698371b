"""The processes that have a run's files open for writing, as far as `/proc` shows."""

import contextlib
import os
from collections.abc import Callable, Collection, Iterator

from cleanup.storage.run_paths import show

_ACCESS = 0o3  # O_ACCMODE: 1 and 2 write
# No run lies here, but most open files do; sockets and pipes have no path. A run may lie in `/dev/shm`.
_ELSEWHERE = (b"/dev/null", b"/dev/pts/", b"/proc/", b"/sys/")


def _written_inodes() -> set[int]:
    # Of each file that another process has open for writing, on any filesystem.
    found = set()
    for process in _processes():
        with contextlib.suppress(OSError):
            for number in os.listdir(process + b"fd"):
                found |= _written_inode(process, number)
    return found


def _processes() -> Iterator[bytes]:
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) != os.getpid():
            yield f"/proc/{pid}/".encode()


def _written_inode(process: bytes, number: bytes) -> set[int]:
    try:
        if not _is_elsewhere(os.readlink(process + b"fd/" + number)):
            fields = _fields(process, number)
            if int(fields[b"flags"], 8) & _ACCESS:
                return {int(fields[b"ino"]) if b"ino" in fields else os.stat(process + b"fd/" + number).st_ino}
    except (OSError, KeyError, ValueError):
        pass
    return set()


def _is_elsewhere(path: bytes) -> bool:
    return not path.startswith(b"/") or path.startswith(_ELSEWHERE)


def _fields(process: bytes, number: bytes) -> dict[bytes, bytes]:
    with open(process + b"fdinfo/" + number, "rb", buffering=0) as info:
        return dict(line.split(b":", 1) for line in info.readall().split(b"\n") if b":" in line)


def find_writers(
    device: int, inodes: Collection[int] | Callable[[Collection[int]], Collection[int]], names: Collection[bytes]
) -> list[str]:
    """Says which other processes have one of these inodes open for writing.

    `inodes`: all of them, or a function that chooses them from those that are open anywhere, which are few. `names`:
    the run directory's names now.
    """
    if callable(inodes):
        inodes = inodes(_written_inodes())
        if not inodes:
            return []
    # A process that `/proc` hides, and a mapping whose descriptor is closed, stay unseen.
    found = []
    for process in _processes():
        try:
            descriptors = os.listdir(process + b"fd")
        except OSError:
            continue
        for number in descriptors:
            path = _written_path(process, number, device, inodes, names)
            if path is None:
                continue
            try:
                status = os.stat(process + b"fd/" + number)
            except OSError:
                continue
            if status.st_dev == device and status.st_ino in inodes:
                pid = os.path.basename(process[:-1]).decode()
                found.append(f"{_command(pid)} (process {pid}) writes {show(path.rpartition(b'/')[2])}")
    return found


def _written_path(
    process: bytes, number: bytes, device: int, inodes: Collection[int], names: Collection[bytes]
) -> bytes | None:
    try:
        path = os.readlink(process + b"fd/" + number)
        if _is_elsewhere(path):
            return None
        fields = _fields(process, number)
        if not int(fields[b"flags"], 8) & _ACCESS:
            return None
        if b"ino" in fields and int(fields[b"ino"]) not in inodes:  # kernels before 5.14 do not say
            return None
        if not set(names).isdisjoint(path.split(b"/")):
            return path
        return path if b"ino" in fields and _device_of(process, fields[b"mnt_id"].strip()) == device else None
    except (OSError, KeyError, ValueError):
        return None


def _device_of(process: bytes, mount: bytes) -> int | None:
    """The device of one of a process's mounts, read without touching the mount."""
    with open(process + b"mountinfo", "rb") as mounts:
        for line in mounts:
            number, _parent, device, *_rest = line.split(b" ", 3)
            if number == mount:
                major, minor = device.split(b":")
                return os.makedev(int(major), int(minor))
    return None


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return show(file.read().strip())
    except OSError:
        return "a program"
