"""Block devices: the same names for one storage behind loops, encryption or several device numbers."""

import contextlib
import os
from collections.abc import Iterator

_SYS = "/sys/dev/block"
_UDEV = "/run/udev/data"
_SECTOR = 512
# A mapping that covers this share of its only device is that device, encrypted or reached by another way.
_WHOLE = 0.9


def signs(device: int) -> Iterator[str]:
    """Yields the names of a block device's storage; none for other device numbers."""
    number = f"{os.major(device)}:{os.minor(device)}"
    if device:
        yield f"device number {number}"
    if not os.path.isdir(f"{_SYS}/{number}"):
        return
    yield _beneath(number)
    with contextlib.suppress(OSError), open(f"{_UDEV}/b{number}") as file:
        for line in file:
            if line.startswith("E:ID_FS_UUID=") and len(line) > len("E:ID_FS_UUID=\n"):
                yield f"the filesystem {line.strip().partition('=')[2].lower()}"


def _beneath(number: str, depth: int = 8) -> str:
    folder = os.path.realpath(f"{_SYS}/{number}")
    image = _read(f"{folder}/loop/backing_file")
    if image:
        return _image(image, int(_read(f"{folder}/loop/offset") or 0))
    start = _read(f"{folder}/start") if os.path.exists(f"{folder}/partition") else ""
    parent = os.path.dirname(folder)
    image = _read(f"{parent}/loop/backing_file") if start else ""
    if image:
        return _image(image, int(_read(f"{parent}/loop/offset") or 0) + int(start) * _SECTOR)
    slaves = _entries(f"{folder}/slaves")
    if depth and len(slaves) == 1:
        below = f"{folder}/slaves/{slaves[0]}"
        if int(_read(f"{folder}/size") or 0) >= _WHOLE * int(_read(f"{below}/size") or 0):
            return _beneath(_read(f"{below}/dev"), depth - 1)
    return f"the block device {number}"


def _image(path: str, offset: int) -> str:
    # By its inode: two loops may know the image by two names.
    try:
        status = os.stat(path)
    except OSError:
        return f"the image {path} at {offset}"
    return f"the image {os.major(status.st_dev)}:{os.minor(status.st_dev)}/{status.st_ino} at {offset}"


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return os.fsdecode(file.read()).strip()
    except OSError:
        return ""


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
