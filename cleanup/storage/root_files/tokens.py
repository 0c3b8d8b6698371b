"""Tokens: the UUID in a file at the top of a root, which identifies it."""

import os
import uuid

from cleanup.storage import handles
from cleanup.storage.errors import WrongToken

TOKEN = b".exlab-root"
_MAX_TOKEN = 256


def read_token(root: int) -> str | None:
    """Returns a root's UUID, or None. Raises ValueError for no UUID, OSError."""
    try:
        descriptor = handles.open_beneath(root, TOKEN, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with handles.opened(descriptor):
        text = os.read(descriptor, _MAX_TOKEN).decode("ascii", "replace").strip()
    return str(uuid.UUID(text))


def check_token(root: int, expected: str) -> None:
    """Raises WrongToken unless the root carries the expected token; OSError."""
    try:
        found = read_token(root)
    except ValueError:
        raise WrongToken("unreadable") from None
    if not expected or found != expected:
        raise WrongToken(found)


def lay_token(root: int) -> str:
    """Gives a root a token, or adopts its own; returns the UUID.

    Raises OSError; ValueError for a token file without UUID.
    """
    existing = read_token(root)
    if existing is not None:
        return existing
    token = str(uuid.uuid4())
    descriptor = os.open(TOKEN, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=root)
    try:
        with handles.opened(descriptor):
            handles.write_all(descriptor, f"{token}\n".encode())
            os.fsync(descriptor)
    except OSError:
        os.unlink(TOKEN, dir_fd=root)  # it may not be whole
        raise
    os.fsync(root)
    return token
