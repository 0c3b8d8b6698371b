"""Files that a person takes out of a run without removing them: renamed into a hidden folder beside the run.

Beside it, since a rename stays on its filesystem; hidden, since the wizard takes any `Run_…` for a run. Nothing is
replaced or read, and only empty folders are removed.
"""

import contextlib
import errno
import os

from cleanup.storage import handles, linux
from cleanup.storage.run_paths import show

FOLDER = b".exlab-set-aside"


def place_of(leaf: bytes, path: bytes) -> bytes:
    """Where a file of the run `leaf` lies when it is set aside, relative to the folder that holds the run."""
    return b"/".join((FOLDER, leaf, path))


def find(directory: int, path: bytes) -> linux.FileStatus | None:
    """What lies at a path below an open directory; None for nothing. Raises OSError."""
    above, _, name = path.rpartition(b"/")
    try:
        with handles.opened(handles.open_beneath(directory, above or b".")) as folder:
            return linux.status(folder, name)
    except FileNotFoundError:
        return None


def move(source: int, path: bytes, target: int, place: bytes, *, ino: int) -> None:
    """Rename a file below one open directory to a place below another, durably; makes the folders on the way.

    Raises OSError: FileExistsError where something lies there, ESTALE for another file than this inode, which then
    stays.
    """
    _make_folders(target, place)
    with contextlib.ExitStack() as stack:
        before = stack.enter_context(handles.opened(handles.open_beneath(source, _above(path))))
        after = stack.enter_context(handles.opened(handles.open_beneath(target, _above(place))))
        old, new = _name(path), _name(place)
        linux.rename_noreplace(before, old, after, new)
        if linux.status(after, new).ino != ino:
            linux.rename_noreplace(after, new, before, old)
            raise OSError(errno.ESTALE, "another file lies there by now", show(path))
        os.fsync(after)
        os.fsync(before)


def sync(directory: int, path: bytes) -> None:
    """Make durable what a folder on this way holds; harmless where there is none."""
    with (
        contextlib.suppress(FileNotFoundError),
        handles.opened(handles.open_beneath(directory, _above(path))) as folder,
    ):
        os.fsync(folder)


def tidy(directory: int, place: bytes) -> None:
    """Remove the empty folders on the way to a place. Raises OSError for any other failure."""
    way = _above(place)
    while way != b".":
        try:
            with handles.opened(handles.open_beneath(directory, _above(way))) as above:
                os.rmdir(_name(way), dir_fd=above)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return
            raise
        way = _above(way)


def _make_folders(directory: int, path: bytes) -> None:
    """Make the folders on the way that are not there, durably, as open to people as the one they stand in."""
    with contextlib.ExitStack() as stack:
        above = directory
        for name in path.split(b"/")[:-1]:
            like = os.fstat(above)
            try:
                os.mkdir(name, like.st_mode & 0o777 | 0o700, dir_fd=above)
            except FileExistsError:
                above = stack.enter_context(handles.opened(handles.open_beneath(above, name)))
                continue
            made = stack.enter_context(handles.opened(handles.open_beneath(above, name)))
            if os.geteuid() == 0:
                with contextlib.suppress(PermissionError):  # some filesystems know one owner only
                    os.fchown(made, like.st_uid, like.st_gid)
            os.fsync(above)
            above = made


def _above(path: bytes) -> bytes:
    return path.rpartition(b"/")[0] or b"."


def _name(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]
