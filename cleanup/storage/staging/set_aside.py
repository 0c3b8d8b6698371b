"""Files that the operator takes out of a run: renamed into a hidden folder beside it, never removed."""

import contextlib
import errno
import os

from cleanup.storage import handles, linux
from cleanup.storage.run_paths import show

# Beside the run, because a rename stays on its filesystem; hidden, because the wizard takes any `Run_…` for a run.
FOLDER = b".exlab-set-aside"


def place_of(leaf: bytes, path: bytes) -> bytes:
    """Returns a set-aside file's path, relative to the folder that holds the run."""
    return b"/".join((FOLDER, leaf, path))


def find(directory: int, path: bytes) -> linux.FileStatus | None:
    """Returns the status at a path, or None for nothing. Raises OSError."""
    above, _, name = path.rpartition(b"/")
    try:
        with handles.opened(handles.open_beneath(directory, above or b".")) as folder:
            return linux.status(folder, name)
    except FileNotFoundError:
        return None


def move(source: int, path: bytes, target: int, place: bytes, *, ino: int) -> None:
    """Renames a file to a place below another directory, durably.

    Raises OSError; FileExistsError for a taken place, ESTALE for another inode, which stays.
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
    """Syncs the folder of a path; harmless without one."""
    with (
        contextlib.suppress(FileNotFoundError),
        handles.opened(handles.open_beneath(directory, _above(path))) as folder,
    ):
        os.fsync(folder)


def tidy(directory: int, place: bytes) -> None:
    """Removes the empty folders on the way to a place. Raises OSError."""
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
    # A new folder gets the mode of its parent, so that the same users can open it.
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
