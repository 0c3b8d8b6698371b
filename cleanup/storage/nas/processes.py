"""Processes that read a NAS, as the kernel lists them: one that was killed may live on for as long as its mount hangs.

Only `/proc/<pid>/stat` and the names of open files are asked for: neither waits for the process, nor for its mount.
"""

import contextlib
import os
from dataclasses import dataclass

# Where a state and the start stand in `/proc/<pid>/stat`, counted from behind the program's name.
_STATE, _STARTED = 0, 19
_DEAD = (b"Z", b"X")


@dataclass(frozen=True)
class Process:
    """A process of this host; `started`, in clock ticks since boot, tells it from a later one of its number."""

    pid: int
    started: int

    def is_living(self) -> bool:
        """Whether it still is: one that hangs in the kernel is, though it was killed."""
        found = _stat(self.pid)
        return found is not None and int(found[_STARTED]) == self.started and found[_STATE] not in _DEAD


def process_of(pid: int) -> Process | None:
    """The process with a number; None if there is none."""
    found = _stat(pid)
    return Process(pid, int(found[_STARTED])) if found else None


def open_beneath(pid: int, top: str) -> str:
    """The deepest path that a process has open beneath `top`, relative to it; empty if unknown."""
    found = [path.removeprefix(f"{top}/") for path in _open_paths(pid) if path.startswith(f"{top}/")]
    return max(found, key=lambda path: path.count("/"), default="")


def _open_paths(pid: int) -> list[str]:
    paths = []
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                paths.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return paths


def _stat(pid: int) -> list[bytes] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The program's name may hold anything, brackets too.
            return file.read().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
