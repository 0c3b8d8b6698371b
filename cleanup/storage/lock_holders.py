"""The living processes that hold a lock file: the lock itself names only the process that took it.

Children inherit an flock, so it outlives its first holder. Only the kernel's lists are read, never the open files: one
may lie on a disk that hangs.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from cleanup.storage.nas.processes import Process, process_of

_QUEUE = b"Q_CLUSTER_NAME="


@dataclass(frozen=True)
class Holder:
    """A process that holds the lock: parent, session, user, command line and task queue."""

    process: Process
    parent: int
    session: int
    user: int
    command: tuple[str, ...]
    queue: str = ""

    @property
    def pid(self) -> int:
        return self.process.pid


def holders_of(lock: int) -> list[Holder]:
    """The living processes that hold an flock on the file open as `lock`, as far as this user may see.

    By the file, not by its path. A process that waits for the lock is none.
    """
    wanted, name = os.fstat(lock), os.path.basename(os.readlink(f"/proc/self/fd/{lock}"))
    found = []
    for entry in sorted(int(entry) for entry in os.listdir("/proc") if entry.isdecimal()):
        if _holds(entry, wanted, name) and (holder := _holder(entry)):
            found.append(holder)
    return found


def is_holder(holder: Holder, lock: int) -> bool:
    """Whether this very process still holds it, and not a later one with its number."""
    name = os.path.basename(os.readlink(f"/proc/self/fd/{lock}"))
    return _holds(holder.pid, os.fstat(lock), name) and holder.process.is_living()


def _holds(pid: int, wanted: os.stat_result, name: str) -> bool:
    return any(os.path.samestat(found, wanted) for found in _locked_files(pid, name))


def _locked_files(pid: int, name: str) -> Iterator[os.stat_result]:
    """The files of this name that a process has locked. Of a file with another name nothing is asked."""
    folder = f"/proc/{pid}"
    try:
        descriptors = os.listdir(f"{folder}/fd")
    except OSError:
        return  # it ended, or belongs to another user
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            if os.path.basename(os.readlink(f"{folder}/fd/{descriptor}")) != name:
                continue
            with open(f"{folder}/fdinfo/{descriptor}", "rb") as told:
                if not any(line.startswith(b"lock:") and b"FLOCK" in line for line in told):
                    continue
            yield os.stat(f"{folder}/fd/{descriptor}")


def _holder(pid: int) -> Holder | None:
    process = process_of(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = tuple(os.fsdecode(word) for word in file.read().split(b"\0") if word)
        user = _user(pid)
    except (OSError, ValueError):
        return None
    return Holder(process, int(fields[1]), int(fields[3]), user, command, _queue(pid)) if process else None


def _user(pid: int) -> int:
    """The effective user of a process. Raises OSError, ValueError."""
    with open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(b"Uid:"):
                return int(line.split()[2])
    raise ValueError("no user")


def _queue(pid: int) -> str:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        for entry in file.read().split(b"\0"):
            if entry.startswith(_QUEUE):
                return os.fsdecode(entry[len(_QUEUE) :])
    return ""
