"""Markers: empty files whose names say to which root a directory belongs."""

import contextlib
import os
import uuid
from collections.abc import Iterable
from typing import NamedTuple

from cleanup.rules.findings import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import handles, linux
from cleanup.storage.root_files import tokens
from cleanup.storage.run_paths import show

# A union may hide a token file behind that of its first branch, but not a file with a name of its own.
STAGING_PREFIX = b".exlab-staging-"
NAS_PREFIX = b".exlab-nas-"


class IsStaging(Exception):
    """The NAS shows a staging disk, where a run would prove itself; `problem` says where."""

    ill = False  # the NAS itself works

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.problem = Finding(Reason.NAS_IS_STAGING, detail)


class Marks(NamedTuple):
    """The staging markers among names, and names that resemble one without a UUID."""

    staging: tuple[bytes, ...]
    malformed: tuple[bytes, ...]


def staging_marker(token: str) -> bytes:
    """Returns the marker of the staging root with this token."""
    return STAGING_PREFIX + token.encode("ascii")


def nas_marker(token: str) -> bytes:
    """Returns the marker of the NAS root with this token."""
    return NAS_PREFIX + token.encode("ascii")


def marks(names: Iterable[bytes]) -> Marks:
    """Returns the staging markers among some names."""
    alike = sorted(name for name in names if name.startswith(STAGING_PREFIX))
    genuine = tuple(name for name in alike if _holds_uuid(name.removeprefix(STAGING_PREFIX)))
    return Marks(genuine, tuple(name for name in alike if name not in genuine))


def _holds_uuid(text: bytes) -> bool:
    try:
        # `uuid.UUID` also takes braces and a `urn:`, which no marker has.
        return str(uuid.UUID(text.decode("ascii"))) == text.decode("ascii").lower()
    except ValueError:
        return False


def lay_marker(directory: int, name: bytes) -> bool:
    """Makes an empty file, durably; False if it was there. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        os.close(os.open(name, flags, 0o644, dir_fd=directory))
    except FileExistsError:
        return False
    os.fsync(directory)
    return True


def take_back(directory: int, name: bytes) -> None:
    """Removes a file just laid in a root, durably; harmless if gone. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
    os.fsync(directory)


def exists(directory: int, name: bytes) -> bool:
    """Whether a lookup finds a name in an open directory. Raises OSError."""
    try:
        linux.status(directory, name)
    except FileNotFoundError:
        return False
    return True


def names_in(directory: int) -> list[bytes]:
    """Returns the names that a listing of an open directory shows. Raises OSError."""
    return handles.names_in(directory)


def is_seen(directory: int, name: bytes) -> bool:
    """Whether both a lookup and a listing find a name. Raises OSError."""
    if not exists(directory, name):
        return False
    # Opened anew: on btrfs a descriptor lists only the entries from the time of its opening.
    with handles.opened(handles.open_beneath(directory, b".")) as anew:
        return name in names_in(anew)


def is_found(directory: int, name: bytes, names: Iterable[bytes]) -> bool:
    """Whether a lookup or the listing `names` finds a name. Raises OSError."""
    return name in names or exists(directory, name)


def nas_seen_at(folders: Iterable[tuple[str, int]], token: str) -> str:
    """Says where on staging a NAS root's marker or token is seen; empty if nowhere.

    `folders`: paths and open directories. Raises OSError.
    """
    marker = nas_marker(token)
    for path, directory in folders:
        if exists(directory, marker):
            return f"{show(marker)} of the NAS lies on staging, in {path or 'its top'}"
        if _token_in(directory) == token:
            return f"the token of the NAS lies on staging, in {path or 'its top'}"
    return ""


def _token_in(directory: int) -> str | None:
    try:
        return tokens.read_token(directory)
    except (ValueError, OSError):
        return None  # no sign: the root's own token has been checked before
