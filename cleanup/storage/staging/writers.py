"""The processes that have a run's files open for writing, as far as `/proc` shows."""

import os
from collections.abc import Collection

from cleanup.storage.run_paths import show

_ACCESS = 0o3  # O_ACCMODE: 1 and 2 write
# No run lies here; sockets and pipes have no path.
_ELSEWHERE = (b"/dev/", b"/proc/", b"/sys/")


def find_writers(device: int, inodes: Collection[int], names: Collection[bytes]) -> list[str]:
    """Says which other processes have one of these inodes open for writing.

    `names`: the run directory's names now.
    """
    # A process that `/proc` hides, and a mapping whose descriptor is closed, stay unseen.
    found = []
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for number in descriptors:
            # A link in `/proc` is followed only to confirm: on a dead network mount it hangs, and the twin has the same
            # names.
            path = _written_path(pid, number, device, inodes, names)
            if path is None:
                continue
            try:
                status = os.stat(f"/proc/{pid}/fd/{number}")
            except OSError:
                continue
            if status.st_dev == device and status.st_ino in inodes:
                found.append(f"{_command(pid)} (process {pid}) writes {show(path.rpartition(b'/')[2])}")
    return found


def _written_path(
    pid: str, number: str, device: int, inodes: Collection[int], names: Collection[bytes]
) -> bytes | None:
    try:
        path = os.readlink(f"/proc/{pid}/fd/{number}".encode())
        if not path.startswith(b"/") or path.startswith(_ELSEWHERE):
            return None
        with open(f"/proc/{pid}/fdinfo/{number}") as info:
            fields = dict(line.split(":", 1) for line in info if ":" in line)
        if not int(fields["flags"], 8) & _ACCESS:
            return None
        if "ino" in fields and int(fields["ino"]) not in inodes:  # kernels before 5.14 do not say
            return None
        # A container may see the run by other names: then inode and device decide.
        if any(name in path.split(b"/") for name in names):
            return path
        return path if "ino" in fields and _device_of(pid, fields["mnt_id"].strip()) == device else None
    except (OSError, KeyError, ValueError):
        return None


def _device_of(pid: str, mount: str) -> int | None:
    # The kernel's table tells it without touching the mount.
    with open(f"/proc/{pid}/mountinfo") as mounts:
        for line in mounts:
            number, _parent, device, *_rest = line.split(" ", 3)
            if number == mount:
                major, minor = device.split(":")
                return os.makedev(int(major), int(minor))
    return None


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return show(file.read().strip())
    except OSError:
        return "a program"
