"""Folders beside a run's path that may be the run's own, renamed or in the fence of a later attempt.

A disk gives a free inode number to a new folder, so the number alone says "perhaps".
"""

import contextlib
import os

from cleanup.storage import handles, linux
from cleanup.storage.errors import UnsafePath
from cleanup.storage.run_paths import RunPath, parse_run_path, show
from cleanup.storage.staging import records
from cleanup.storage.staging.records.ingest_json import IngestError


def own_folder(parent: int, path: RunPath, identity: str, left_ns: int) -> str:
    """Say which folder in the open `parent` may be the run's own, in one sentence; empty for none. Raises OSError.

    `identity` is the run's as of its clear; `left_ns`: when it had left its path; 0 if unknown.
    """
    ino, _birth, origin = identity.split(":")
    # The numbers in a listing are no help: an overlay and some FUSE filesystems list others than they have.
    read = linux.status_reader()
    for name in handles.names_in(parent) if ino != "-" else ():
        with contextlib.suppress(FileNotFoundError):
            if str(read(parent, name).ino) == ino and (said := _said(parent, name, path, origin, left_ns)):
                return said.format(name=show(name))
    return ""


def _said(parent: int, name: bytes, path: RunPath, origin: str, left_ns: int) -> str:
    status = linux.status(parent, name)
    born = status.birth_ns if left_ns else None
    if not status.is_directory or (born is not None and born >= left_ns):
        return ""
    theirs = _origin(parent, name, path)
    # Numbers of two filesystems mean nothing to one another.
    is_here = not status.is_mount_root and status.device == linux.status(parent).device
    if is_here and (born is not None or (theirs and theirs == origin)):
        return "the run's own folder lies beside its path as {name}"
    if born is None and theirs and origin != "-" and theirs != origin:
        return ""  # another run's record lies in it
    return "a folder with the number of the run's own lies beside its path as {name}: perhaps it is the run"


def _origin(parent: int, name: bytes, path: RunPath) -> str:
    """Of the record in a folder; empty where it tells none."""
    places = [path]
    with contextlib.suppress(UnsafePath):
        places.append(parse_run_path(os.fsdecode(path.parent + b"/" + name)))
    try:
        with handles.opened(handles.open_beneath(parent, name)) as run:
            origin = records.read(run, *places).origin
    except (OSError, IngestError):
        return ""
    return "" if origin == "-" else origin
