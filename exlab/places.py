"""The data directory, and its secret key."""

import errno
import itertools
import os
import pwd
import secrets
import shlex
import stat
from pathlib import Path

from exlab.reading import WrongSettings

NAME = "EXLAB_DATA_DIR"
RESERVE = ".exlab-reserve"

# The program's own names in it; others are not judged.
_FOLDERS = ("locks", "plans", "receipts", "removals", "static", "tombstones")
_FILES = (
    "secret-key",
    "receipt-key",
    "up.lock",
    RESERVE,
    "db.sqlite3",
    "db.sqlite3-wal",
    "db.sqlite3-shm",
    "db.sqlite3-journal",
)

# With less space nothing can be recorded; the reserve counts, since it is given up when the disk is full.
_LEAST_BYTES = 256 * 1024
_PROBE_BYTES = 64 * 1024
# At most this many names in a folder are looked at.
_MOST_NAMES = 20_000


def trouble(path: Path, *, deep: bool = False) -> str:
    """Why this data directory cannot be used and what to do; empty if it can be. Changes nothing.

    `deep`: also the files in its folders.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return _trouble_above(path)
    except OSError as error:  # a parent folder without access, or a mount without its server
        return _cannot(path, "be reached", error, above=path.parent)
    return _trouble_of_directory(path) or _trouble_inside(path, deep=deep)


def make(path: Path) -> None:
    """Make the data directory for this user alone. Raises WrongSettings."""
    if found := trouble(path):
        raise WrongSettings(found)
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise WrongSettings(_cannot(path, "be made", error)) from None


def kept_secret_key(directory: Path) -> str:
    """The secret key, made once in the data directory. Raises WrongSettings.

    Without a directory the key is for this process alone: a command other than `up`, `worker` and `migrate` must not
    make one where the real one is not mounted.
    """
    if not os.path.lexists(directory / "secret-key"):
        if found := trouble(directory):
            raise WrongSettings(found)
        if not directory.is_dir():
            return secrets.token_urlsafe(50)
    return keep_secret_key(directory, secrets.token_urlsafe(50))


def keep_secret_key(directory: Path, key: str) -> str:
    """Returns the kept key. Raises WrongSettings."""
    path = directory / "secret-key"
    try:
        if not path.exists():
            _make_key(path, key)
        key = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise WrongSettings(trouble(directory) or _cannot(path, "be read or written", error)) from None
    if not key:
        raise WrongSettings(f"{NAME}: {path} is empty; take it away and another one is made (all sign in again then).")
    return key


def account() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _make_key(path: Path, key: str) -> None:
    # Two processes may start at once: each writes its own file; the first link wins.
    mine = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        os.link(mine, path)
    except FileExistsError:
        pass
    finally:
        mine.unlink()


def _trouble_above(path: Path) -> str:
    above = next((place for place in path.parents if os.path.lexists(place)), path)
    if not os.path.isdir(above):
        return f"{NAME}: {above} is no directory, so {path} cannot be made; name another place."
    try:
        _write_nameless(above)
    except OSError as error:
        return _cannot(path, "be made", error, above=above)
    return ""


def _trouble_of_directory(path: Path) -> str:
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        return (
            f"{NAME}: {path} links to {os.readlink(path)}, which is not there; mount or make it, or name another place."
        )
    except OSError as error:
        return _cannot(path, "be reached", error)
    if not stat.S_ISDIR(kind):
        return f"{NAME}: {path} is a file and no directory; move it away or name another place."
    try:
        _write_nameless(path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or _reserved(path) < _LEAST_BYTES:
            return _cannot(path, "be written", error)
    return ""


def _write_nameless(directory: Path) -> None:
    """Such a file ends with its descriptor. Raises OSError."""
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        # Some filesystems have no files without a name.
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
            raise
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
        return
    try:
        os.write(descriptor, b"\0" * _PROBE_BYTES)
        if free_bytes(directory) < _LEAST_BYTES - _PROBE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)


def free_bytes(directory: Path) -> int:
    """The bytes that this user may still write."""
    room = os.statvfs(directory)
    return room.f_frsize * (room.f_bavail if os.geteuid() else room.f_bfree)


def _reserved(path: Path) -> int:
    try:
        return (path / RESERVE).stat().st_blocks * 512
    except OSError:
        return 0


def _trouble_inside(path: Path, *, deep: bool) -> str:
    """Why a file inside cannot be used: it is another user's, as after a command with sudo."""
    if os.geteuid() == 0:
        return ""
    folders = [path / name for name in _FOLDERS]
    within = [Path(entry) for folder in folders if deep for entry in _entries(folder)]
    for inside in (*folders, *(path / name for name in _FILES), *within):
        if not _is_ours(inside):
            return _another_users(path, inside)
    return ""


def _entries(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in itertools.islice(entries, _MOST_NAMES)]
    except OSError:
        return []  # the folder itself is already judged


def _is_ours(path: Path) -> bool:
    needed = os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)
    return os.access(path, needed) or not os.path.lexists(path)


def _another_users(path: Path, inside: Path) -> str:
    why = f"{inside} belongs to {owner(inside)}, perhaps since a command with sudo, so {account()} may not write it"
    return f"{NAME}: {why}; give all of it back by {_give(path)}."


def _give(path: Path) -> str:
    return f"`sudo chown -R {account()}: {shlex.quote(str(path))}`"


def owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, OSError):
        return "another user"


def _cannot(path: Path, what: str, error: Exception, *, above: Path | None = None) -> str:
    number = error.errno if isinstance(error, OSError) else None
    why = os.strerror(number) if number else "it holds no text"
    return f"{NAME}: {path} cannot {what} ({why}{f' in {above}' if above else ''}); {_mend(path, number, above)}."


def _mend(path: Path, number: int | None, above: Path | None) -> str:
    if number in (errno.EACCES, errno.EPERM) and os.geteuid() == 0:  # as on a share that maps root to another user
        return f"start it as the user who may, perhaps {owner(above or path)}, or name another place"
    closed = (one for one in reversed(path.parents) if os.path.isdir(one) and not os.access(one, os.X_OK))
    if number == errno.EACCES and (first := next(closed, None)):
        return f"let {account()} enter {first} or name another place"
    if number in (errno.EACCES, errno.EPERM):
        make = f"make it by `sudo install -d -m 700 -o {account()} {shlex.quote(str(path))}`"
        return f"{make if above else f'give it to {account()} by {_give(path)}'} or name another place"
    if number == errno.EROFS:
        return "mount it for writing or name another place"
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "make room on its disk or name another place"
    return "mend that or name another place"
