"""What the kernel tells of a disk's work: bytes written, and how long processes have waited for disks."""

import os
from typing import NamedTuple

_DISKSTATS = "/proc/diskstats"
_PRESSURE = "/proc/pressure/io"
_SECTOR = 512  # the unit of these counts, on every disk
_WRITTEN = 9  # the field with the sectors written


class IoPressure(NamedTuple):
    """The share of time in which some process waited for a disk: of the last 10 s in percent, and in all (µs)."""

    avg10: float
    total: int


def written_bytes(device: int, *, diskstats: str = _DISKSTATS) -> int | None:
    """Returns the bytes ever written to a block device; None where the kernel does not count, as on a tmpfs."""
    wanted = [str(os.major(device)), str(os.minor(device))]
    try:
        with open(diskstats) as file:
            for line in file:
                fields = line.split()
                if fields[:2] == wanted and len(fields) > _WRITTEN:
                    return int(fields[_WRITTEN]) * _SECTOR
    except (OSError, ValueError):
        return None
    return None


def io_pressure(path: str = _PRESSURE) -> IoPressure | None:
    """Returns the line `some`; None where the kernel does not measure it."""
    try:
        with open(path) as file:
            for line in file:
                kind, *values = line.split()
                if kind == "some":
                    found = dict(value.partition("=")[::2] for value in values)
                    return IoPressure(float(found["avg10"]), int(found["total"]))
    except (OSError, ValueError, KeyError):
        return None
    return None
