"""Who has a file of a run open for writing, as far as `/proc` lets us see."""

import os
from collections.abc import Collection

from cleanup.staging.layout import show

_ACCESS = 0o3  # O_ACCMODE: 1 and 2 write


def find_writers(device: int, inodes: Collection[int], names: Collection[bytes]) -> list[str]:
    """The processes that have one of these inodes open for writing, in words; this process is left out.

    `names` are the names under which the run's directory is known now. A link in `/proc` is only followed when one of
    them stands in it and the inode is one of ours, because following a link into a dead network mount would hang, and
    the run's twin on the NAS has the same names. What cannot be read there, as other people's processes for an ordinary
    user, says nothing.
    """
    found = []
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for number in descriptors:
            path = _written_path(pid, number, inodes, names)
            if path is None:
                continue
            try:
                status = os.stat(f"/proc/{pid}/fd/{number}")
            except OSError:
                continue
            if status.st_dev == device and status.st_ino in inodes:
                found.append(f"{_command(pid)} (process {pid}) writes {show(path.rpartition(b'/')[2])}")
    return found


def _written_path(pid: str, number: str, inodes: Collection[int], names: Collection[bytes]) -> bytes | None:
    """Where an open descriptor points, if it is open for writing and may be one of the inodes below these names."""
    try:
        path = os.readlink(f"/proc/{pid}/fd/{number}".encode())
        if not any(name in path.split(b"/") for name in names):
            return None
        with open(f"/proc/{pid}/fdinfo/{number}") as info:
            fields = dict(line.split(":", 1) for line in info if ":" in line)
        writes = int(fields["flags"], 8) & _ACCESS
        ours = "ino" not in fields or int(fields["ino"]) in inodes  # older kernels do not say
    except (OSError, KeyError, ValueError):
        return None
    return path if writes and ours else None


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return show(file.read().strip())
    except OSError:
        return "a program"
