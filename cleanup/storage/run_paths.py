"""Where things lie: the path grammar beneath a staging root, tokens at its top, and a safe way down."""

import contextlib
import errno
import fcntl
import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from cleanup.storage import linux

METADATA = b".exlab-wizard"
INGEST = b"ingest.json"
INGEST_LOCK = b"ingest.json.lock"
SYNC_STATE = b"sync_state.json"
CREATION = b"creation.json"
MANIFEST = b"checksums.sha256"

TOKEN = b".exlab-root"
FENCE_PREFIX = b".exlab-clearing-"
PREPARED_SUFFIX = b".ingest.json"
CHALLENGE_PREFIX = b".exlab-challenge-"

_LEAF = re.compile(r"(?P<kind>Run|TestRun)_\d{4}-\d{2}-\d{2}T\d{2}-\d{2}(-\d{2})?", re.ASCII)
KIND_FOLDERS = {"Runs": "Run", "TestRuns": "TestRun"}
_KINDS = {"Run": "experimental", "TestRun": "test"}
# The wizard takes any name with one of these beginnings for a run's, below its kind's folder or in the project itself.
_POSSIBLE_LEAF = re.compile(r"(?P<kind>Run|TestRun)_.+")
# Characters of a leaf that the database keeps.
_MAX_LEAF = 64
_MAX_TOKEN = 256

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class UnsafePath(ValueError):
    """A path that no run can have."""


class WrongToken(Exception):
    """A root does not carry the expected token; `found` is what it carries, None for no token at all."""

    def __init__(self, found: str | None) -> None:
        super().__init__(found)
        self.found = found


class Problem(NamedTuple):
    """Something on disk that speaks against a clear: the code of a reason (see `policy.reasons`) and what was seen."""

    reason: str
    detail: str = ""


@dataclass(frozen=True)
class RunPath:
    """The steps from a staging root to a run; `folder` is empty where the run lies in its project's folder itself."""

    equipment: str
    project: str
    folder: str
    leaf: str

    @property
    def run_kind(self) -> str:
        """`experimental` or `test`, as the leaf says."""
        return _KINDS[self.leaf.partition("_")[0]]

    @property
    def parent(self) -> bytes:
        return os.fsencode(str(self).rpartition("/")[0])

    @property
    def is_usual(self) -> bool:
        """Whether what lies here is a run by its path alone; anywhere else its record must name the path."""
        return self.folder in KIND_FOLDERS and is_leaf_name(self.leaf, self.folder)

    def __str__(self) -> str:
        return "/".join(step for step in (self.equipment, self.project, self.folder, self.leaf) if step)


def is_folder_name(name: str) -> bool:
    """Whether an equipment or a project may be called so: printable, not hidden, no separator."""
    return (
        name.isprintable()
        and 0 < len(name.encode()) <= 255
        and name == name.strip()
        and not name.startswith(".")
        and "/" not in name
    )


def is_leaf_name(name: str, folder: str) -> bool:
    """Whether a directory below `Runs` or `TestRuns` is named as a run is: by its kind and its date."""
    match = _LEAF.fullmatch(name)
    return match is not None and match["kind"] == KIND_FOLDERS[folder]


def is_possible_leaf(name: str, folder: str) -> bool:
    """Whether a directory below `Runs` or `TestRuns`, or in a project (an empty `folder`), may be a run's.

    Any text may follow `Run_` or `TestRun_`. By such a name alone it is no run: see `RunPath.is_usual`.
    """
    match = _POSSIBLE_LEAF.fullmatch(name)
    if match is None or len(name) > _MAX_LEAF or not is_folder_name(name):
        return False
    return not folder or match["kind"] == KIND_FOLDERS[folder]


def parse_run_path(text: str) -> RunPath:
    """Read `<EQUIPMENT>/<PROJECT>/{Runs,TestRuns}/<leaf>`, or `<EQUIPMENT>/<PROJECT>/<leaf>`.

    A leaf is `Run_` or `TestRun_` with any text. Raises UnsafePath for everything else.
    """
    equipment, project, folder, leaf = _steps(text)
    if not (is_folder_name(equipment) and is_folder_name(project)):
        raise UnsafePath(f"{_show_text(text)} is not EQUIPMENT/PROJECT/Runs/Run_DATE")
    if not is_possible_leaf(leaf, folder):
        raise UnsafePath(f"{_show_text(leaf)} is not the name of a run below {folder or 'a project'}")
    return RunPath(equipment, project, folder, leaf)


def _steps(text: str) -> tuple[str, str, str, str]:
    """The four steps of a run path, the third of them empty where the run lies in its project. Raises UnsafePath."""
    parts = text.split("/")
    if len(parts) == 4 and parts[2] in KIND_FOLDERS:
        return parts[0], parts[1], parts[2], parts[3]
    # `Runs` in a project's place is a folder of runs whose project is missing.
    if len(parts) == 3 and parts[1] not in KIND_FOLDERS:
        return parts[0], parts[1], "", parts[2]
    raise UnsafePath(f"{_show_text(text)} is not EQUIPMENT/PROJECT/Runs/Run_DATE")


def is_usual(text: str) -> bool:
    """Whether a text is the path of a run that is one by its path alone."""
    try:
        return parse_run_path(text).is_usual
    except UnsafePath:
        return False


def show(name: bytes) -> str:
    r"""A name as a person can read it: undecodable bytes as \xNN, control characters escaped."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def _show_text(text: str) -> str:
    """As `show`, for text that came from anywhere and may hold what no name can."""
    return show(text.encode("utf-8", "backslashreplace"))


@contextlib.contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """Close a descriptor at the end of a block."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_root(path: str) -> int:
    """Open a registered root. Raises OSError; a symbolic link in its last step is refused with ELOOP or ENOTDIR."""
    return os.open(path, DIRECTORY)


def open_beneath(directory: int, path: bytes, flags: int = DIRECTORY) -> int:
    """Open beneath a descriptor without following links or crossing mounts. Raises OSError as `kernel.openat2`."""
    return linux.openat2(directory, path, flags)


def read_token(root: int) -> str | None:
    """The UUID in a root's token file; None if there is no such file.

    Raises ValueError for a token file that holds no UUID, OSError for one that cannot be read.
    """
    try:
        descriptor = open_beneath(root, TOKEN, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with opened(descriptor):
        text = os.read(descriptor, _MAX_TOKEN).decode("ascii", "replace").strip()
    return str(uuid.UUID(text))


def check_token(root: int, expected: str) -> None:
    """Raises WrongToken unless the root carries the expected token, OSError where that cannot be read."""
    try:
        found = read_token(root)
    except ValueError:
        raise WrongToken("unreadable") from None
    if not expected or found != expected:
        raise WrongToken(found)


def holds_anything(root: int) -> bool:
    """Whether a directory has any entry but a filesystem's own `lost+found`."""
    with os.scandir(root) as entries:
        return any(entry.name != "lost+found" for entry in entries)


def read_file(directory: int, name: bytes, limit: int) -> bytes:
    """The bytes of a regular file beneath a descriptor, one more than `limit` at the most.

    Raises OSError; EINVAL for anything but a regular file, which is never read.
    """
    with opened_file(directory, name) as descriptor:
        parts = []
        while limit >= 0 and (part := os.read(descriptor, min(limit + 1, 1 << 20))):
            parts.append(part)
            limit -= len(part)
    return b"".join(parts)


@contextlib.contextmanager
def opened_file(directory: int, name: bytes) -> Iterator[int]:
    """A regular file beneath a descriptor, open for reading. Raises OSError; EINVAL for anything else."""
    descriptor = open_beneath(directory, name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with opened(descriptor):
        if not linux.status(descriptor).is_file:
            raise OSError(errno.EINVAL, "not a regular file", show(name))
        yield descriptor


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it, however many calls that takes. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def open_to_lock(directory: int, path: bytes) -> int:
    """Open an existing file without changing it; for writing where that is allowed, since NFS locks nothing else.

    Raises OSError; what is no regular file is opened all the same and never waited for.
    """
    flags = os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return open_beneath(directory, path, os.O_RDWR | flags)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    return open_beneath(directory, path, os.O_RDONLY | flags)


@contextlib.contextmanager
def flocked(descriptor: int) -> Iterator[None]:
    """Hold an exclusive flock on an open file or directory for a block. Raises BlockingIOError if it is held."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
