"""The look under the fence: the NAS must not show new names from staging, and must give the bytes."""

import errno
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cleanup.rules.findings import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import handles, hashing
from cleanup.storage.mounts import nas_mount_kinds
from cleanup.storage.mounts.mountinfo import mount_of
from cleanup.storage.nas.record import ILL
from cleanup.storage.root_files import markers
from cleanup.storage.root_files.markers import IsStaging
from cleanup.storage.run_paths import show

# Files opened at a time: over a network each costs a round trip.
AT_A_TIME = 16
# The reader of the twin goes through no link and no mount either, so such a place shows it nothing.
_LEADS_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)


class TwinChanged(Exception):
    """A listed file of the twin is gone or differs; `problem` says which and why."""

    def __init__(self, reason: str, detail: str, *, ill: bool = False) -> None:
        # `ill`: the NAS as a whole fails, not only this file.
        super().__init__(f"{reason}: {detail}")
        self.problem = Finding(Reason(reason), detail)
        self.ill = ill


class Ends(NamedTuple):
    """A file as both sides must have it; `digest` is `hashing.ends` of it or `pieces`."""

    path: bytes
    size: int
    digest: bytes
    pieces: tuple[tuple[int, int], ...] = ()


def challenge(root: int, twin: bytes, *, folder: bytes, beside: Sequence[bytes], within: bytes) -> bool:
    """Looks for names just made on staging; returns whether the NAS is plain and local.

    No name of `beside` may be in the twin's folder or in `folder`, the run's on staging; `within`, unless empty, not in
    the twin. Raises IsStaging for a name that is found, TwinChanged for a missing twin, OSError.
    """
    for place in dict.fromkeys([os.path.dirname(twin), folder]):
        _expect_absent(root, place, beside, "the folder that holds the twin")
    if within:
        _expect_absent(root, twin, [within], "the twin")
    try:
        with handles.opened(handles.open_beneath(root, twin)) as descriptor:
            return is_plain_local(descriptor)
    except FileNotFoundError:
        raise TwinChanged("nas_missing_file", "the NAS holds no such run any more") from None


def _expect_absent(root: int, place: bytes, names: Sequence[bytes], what: str) -> None:
    # A NAS that shows such a name shows the staging disk. A lookup and a listing are asked: caches keep the two apart.
    try:
        descriptor = handles.open_beneath(root, place or b".")
    except PermissionError:
        # It may be entered but not listed: the names are looked up one by one.
        seen = [name for name in names if markers.exists(root, place + b"/" + name if place else name)]
    except OSError as error:
        if error.errno in _LEADS_NOWHERE:
            return
        raise
    else:
        with handles.opened(descriptor):
            listed = markers.names_in(descriptor)
            seen = [name for name in names if markers.is_found(descriptor, name, listed)]
    if seen:
        raise IsStaging(f"{show(seen[0])}, just made on staging, is seen in {what}")


def reopen(root: int, twin: bytes, files: Sequence[Ends], beat: Callable[[int], None]) -> None:
    """Opens each file of a twin anew and compares its ends or pieces.

    Raises TwinChanged with `nas_missing_file`, `nas_io_error` or `nas_checksum_mismatch`.
    """
    from concurrent.futures import ThreadPoolExecutor  # long to import, and needed by few NAS roots

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        try:
            for _ in pool.map(lambda file: _compare(root, twin, file), files):
                beat(0)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # the first difference ends the comparison


def _compare(root: int, twin: bytes, file: Ends) -> None:
    # A NAS that shows files of a renamed run may show a cache, so the bytes are read without it.
    try:
        found = hashing.ends(root, twin + b"/" + file.path, pieces=file.pieces, drop_cache=True)
    except FileNotFoundError:
        raise TwinChanged("nas_missing_file", f"{show(file.path)} is listed and cannot be opened") from None
    except OSError as error:
        detail = f"{show(file.path)}: {os.strerror(error.errno or 0)}"
        raise TwinChanged("nas_io_error", detail, ill=error.errno in ILL) from None
    if found != (file.size, file.digest):
        raise TwinChanged("nas_checksum_mismatch", f"{show(file.path)} on the NAS, opened again")


def is_plain_local(descriptor: int) -> bool:
    """Whether an open directory lies on a plain local filesystem. Raises OSError."""
    return nas_mount_kinds.is_plain_local(mount_of(descriptor))
