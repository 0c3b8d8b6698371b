"""Opens staging roots and runs by descriptors, never through links, with the right token only."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings

from cleanup.lab.nas.nas_breaker import readers_for
from cleanup.lab.nas.nas_transport import Reader, Readers
from cleanup.models import Run, StagingRoot
from cleanup.rules.facts import Finding, Objected
from cleanup.rules.reasons import Reason
from cleanup.storage import errors, handles, run_paths
from cleanup.storage.data_directory.datadir import DataDir
from cleanup.storage.errors import UnsafePath, way_blocked
from cleanup.storage.root_files import tokens


class Unreachable(Objected):
    """A run, or its root, cannot be opened; `finding` says why."""


@dataclass(frozen=True)
class OpenRun:
    """Descriptors of a root, a run's parent and the run."""

    root: int
    parent: int
    run: int


def data_dir() -> DataDir:
    """The data directory of this host."""
    return DataDir(str(settings.EXLAB_DATA_DIR))


def reader_for(root: StagingRoot) -> contextlib.AbstractContextManager[Readers]:
    """As `nas.readers_for`."""
    return readers_for(root)


@contextlib.contextmanager
def open_root(root: StagingRoot) -> Iterator[int]:
    """This host's staging root, if it carries its token. Raises Unreachable."""
    if root.host != settings.EXLAB_HOST:
        raise Unreachable(Finding(Reason.ROOT_NOT_MOUNTED, f"it belongs to host {root.host}"))
    if root.retired_at is not None:
        raise Unreachable(Finding(Reason.ROOT_NOT_MOUNTED, f"it was retired on {root.retired_at:%Y-%m-%d}"))
    try:
        descriptor = handles.open_root(root.path)
    except OSError as error:
        raise Unreachable(Finding(Reason.ROOT_NOT_MOUNTED, os.strerror(error.errno or 0))) from None
    with handles.opened(descriptor):
        try:
            tokens.check_token(descriptor, root.token)
        except errors.WrongToken as error:
            detail = f"it carries {error.found}" if error.found else "no token file at its top"
            raise Unreachable(Finding(Reason.ROOT_NOT_MOUNTED, detail)) from None
        except OSError as error:
            raise Unreachable(Finding(Reason.STAGING_IO_ERROR, os.strerror(error.errno or 0))) from None
        yield descriptor


@contextlib.contextmanager
def open_run(root: int, run_path: str, *, name: bytes | None = None) -> Iterator[OpenRun]:
    """A run beneath an open root; `name` is its leaf while fenced. Raises Unreachable."""
    try:
        path = run_paths.parse_run_path(run_path)
    except UnsafePath as error:
        raise Unreachable(Finding(Reason.UNSAFE_PATH, str(error))) from None
    with contextlib.ExitStack() as stack:
        try:
            parent = stack.enter_context(handles.opened(handles.open_beneath(root, path.parent)))
            run = stack.enter_context(handles.opened(handles.open_beneath(parent, name or os.fsencode(path.leaf))))
        except OSError as error:
            raise Unreachable(way_blocked(error)) from None
        yield OpenRun(root, parent, run)


@contextlib.contextmanager
def reached(run: Run, *, counts: bool = True) -> Iterator[tuple[OpenRun, Reader]]:
    """An open run and its NAS reader, for one look; `counts`: as for GuardedReader. Raises Unreachable."""
    with (
        open_root(run.root) as root,
        open_run(root, run.run_path) as opened,
        reader_for(run.root) if counts else readers_for(run.root, counts=False) as readers,
    ):
        yield opened, readers.of(run)
