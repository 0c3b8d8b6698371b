"""Processes that read a NAS, as the kernel lists them."""

import contextlib
import os
from dataclasses import dataclass

# Only `/proc/<pid>/stat` and names of open files are read: they wait for no process and no mount.
# Fields of state and start in `/proc/<pid>/stat`, counted after the program's name.
_STATE, _STARTED = 0, 19
_DEAD = (b"Z", b"X")


@dataclass(frozen=True)
class Process:
    """A process of this host; `started` (clock ticks since boot) tells it from a later one."""

    pid: int
    started: int

    def is_living(self) -> bool:
        """Whether it lives: a killed process that hangs in the kernel does."""
        found = _stat(self.pid)
        return found is not None and int(found[_STARTED]) == self.started and found[_STATE] not in _DEAD


def process_of(pid: int) -> Process | None:
    """Returns the process with this number, or None."""
    found = _stat(pid)
    return Process(pid, int(found[_STARTED])) if found else None


def open_beneath(pid: int, top: str) -> str:
    """Returns the deepest path beneath `top` that a process has open, relative; else empty."""
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
