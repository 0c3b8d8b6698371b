"""The files of the ledger's anchors in the data directory; `data_dir` is its path. Functions raise OSError."""

import os
from collections.abc import Iterator

from cleanup.storage import anchor_file, handles
from cleanup.storage.data_directory import data_place

_NAME = b"ledger-anchors"


def path_in(data_dir: str) -> str:
    """Returns where the first file lies."""
    return os.path.join(data_dir, _NAME.decode())


def append(data_dir: str, line: bytes) -> None:
    """As `anchor_file.append`."""
    data_place.expect_same(data_dir)
    with handles.opened(_open(data_dir)) as directory:
        anchor_file.append(directory, _NAME, line)


def read(data_dir: str) -> Iterator[bytes]:
    """As `anchor_file.read`."""
    with handles.opened(_open(data_dir)) as directory:
        yield from anchor_file.read(directory, _NAME)


def _open(data_dir: str) -> int:
    # Links are followed: the admin chose this path.
    return os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
