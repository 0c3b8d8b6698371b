"""The mount of an open descriptor, from the kernel's table."""

import errno
import os
import re
from dataclasses import dataclass

_TABLE = "/proc/self/mountinfo"
_ESCAPED = re.compile(rb"\\([0-7]{3})")
# The kernel gives the table in pieces: a mount can be missing from it while others come and go.
_READS = 3


class UnknownMount(OSError):
    """A descriptor's mount is unknown, and so is the storage beneath."""

    def __init__(self, detail: str) -> None:
        super().__init__(errno.ENODEV, detail)


# Names that are no UTF-8 stand as `os.fsdecode` gives them.
@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the table of mounts.

    `root`: the filesystem's directory at `mount_point`; not `/` for a bind mount or a subvolume.
    """

    id: int
    device: int
    root: str
    mount_point: str
    fstype: str
    source: str
    options: tuple[str, ...]

    def values(self, name: str) -> list[str]:
        return [option[len(name) + 1 :] for option in self.options if option.startswith(f"{name}=")]

    @property
    def is_fuse(self) -> bool:
        return self.fstype == "fuse" or self.fstype.startswith("fuse.")


def parse(line: bytes) -> Mount:
    """Reads one line of the table. Raises ValueError for others."""
    fields = line.split(b" ")
    end = fields.index(b"-", 6)
    if len(fields) != end + 4:
        raise ValueError(f"{len(fields) - end - 1} fields after the separator")
    major, minor = fields[2].split(b":")
    # Commas and blanks within a value are escaped, so options are split before they are unescaped.
    options = fields[5].split(b",") + fields[end + 3].split(b",")
    return Mount(
        id=int(fields[0]),
        device=os.makedev(int(major), int(minor)),
        root=_text(fields[3]),
        mount_point=_text(fields[4]),
        fstype=_text(fields[end + 1]),
        source=_text(fields[end + 2]),
        options=tuple(_text(option) for option in options if option),
    )


def find(table: bytes, identity: int) -> Mount | None:
    """Returns the mount with this identity in a table. Raises ValueError."""
    start = b"%d " % identity
    for line in table.split(b"\n"):
        if line.startswith(start):
            return parse(line)
    return None


def mount_points() -> set[str]:
    """Returns all mount points. Raises UnknownMount."""
    return {_text(fields[4]) for line in _read(_TABLE).splitlines() if len(fields := line.split(b" ")) > 4}


def mount_of(descriptor: int) -> Mount:
    """Returns the mount of an open file or directory. Raises UnknownMount."""
    # Not by the longest prefix of a path: a path may be mounted over after it was opened.
    identity = _identity(descriptor)
    for _ in range(_READS):
        try:
            found = find(_read(_TABLE), identity)
        except (ValueError, IndexError):
            raise UnknownMount(f"the line of mount {identity} in {_TABLE} cannot be read") from None
        if found is not None:
            return found
    raise UnknownMount(f"mount {identity} does not stand in {_TABLE}")


def _identity(descriptor: int) -> int:
    for line in _read(f"/proc/self/fdinfo/{descriptor}").split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"mnt_id":
            return int(value)
    raise UnknownMount("the kernel does not tell the mount of an open file")


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except OSError as error:
        raise UnknownMount(f"{path}: {os.strerror(error.errno or 0)}") from None


def _text(field: bytes) -> str:
    return os.fsdecode(_ESCAPED.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field))
