"""The file with the one-time token of the first admin."""

import contextlib
import os

from cleanup.storage.data_directory.datadir import DataDir

NAME = "first-admin-token"


def path_in(data_dir: str) -> str:
    """Returns the path of the file."""
    return os.path.join(data_dir, NAME)


def write(data_dir: str, token: str) -> str:
    """Writes the token for this user alone, in place of an earlier one; returns the path. Raises OSError."""
    DataDir(data_dir).keep("", NAME, lambda file: file.write(f"{token}\n".encode()), urgent=False)
    return path_in(data_dir)


def take_away(data_dir: str) -> None:
    """Removes the file if it is there. Raises OSError."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path_in(data_dir))
