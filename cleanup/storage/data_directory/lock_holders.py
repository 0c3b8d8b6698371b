"""The living processes that hold a lock file: children inherit an flock."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from cleanup.storage.nas.processes import Process, process_of

_QUEUE = b"Q_CLUSTER_NAME="


@dataclass(frozen=True)
class Holder:
    """A process that holds the lock; `queue` is its task queue."""

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
    """Returns the visible processes that hold an flock on an open file."""
    wanted, name = os.fstat(lock), os.path.basename(os.readlink(f"/proc/self/fd/{lock}"))
    found = []
    for entry in sorted(int(entry) for entry in os.listdir("/proc") if entry.isdecimal()):
        if _holds(entry, wanted, name) and (holder := _holder(entry)):
            found.append(holder)
    return found


def is_holder(holder: Holder, lock: int) -> bool:
    """Whether this same process still holds the lock."""
    name = os.path.basename(os.readlink(f"/proc/self/fd/{lock}"))
    return _holds(holder.pid, os.fstat(lock), name) and holder.process.is_living()


def _holds(pid: int, wanted: os.stat_result, name: str) -> bool:
    return any(os.path.samestat(found, wanted) for found in _locked_files(pid, name))


def _locked_files(pid: int, name: str) -> Iterator[os.stat_result]:
    # Only the kernel's lists are read, and only this name is asked further: another open file may lie on a disk that
    # hangs.
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
