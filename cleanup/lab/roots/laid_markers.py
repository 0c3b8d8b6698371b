"""Markers of staging roots on this host, and NAS markers that must not show there."""

import contextlib
import errno
import os
from collections.abc import Iterator

from django.conf import settings

from cleanup.lab.nas.nas_roots import nas_root_of
from cleanup.models import Run, StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import errors, handles, run_paths
from cleanup.storage.root_files import markers, reserve, tokens

# Only an admin may write at some tops; the other signs must do there.
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)


def lay(directory: int, token: str) -> Finding | None:
    """Lay the marker of the open staging root; returns what blocks a clear.

    A marker that is not seen blocks. A root whose top is not writable goes without. It writes: never for a look.
    """
    name = markers.staging_marker(token)
    try:
        if not markers.exists(directory, name):
            reserve.with_reserve(directory, lambda: markers.lay_marker(directory, name))
        if not markers.is_seen(directory, name):
            return Finding(Reason.MARKER_NOT_SEEN, run_paths.show(name))
    except OSError as error:
        if error.errno in _NOT_OURS:
            return None
        return Finding(Reason.STORAGE_ERROR, f"{run_paths.show(name)}: {os.strerror(error.errno or 0)}")
    return None


def lay_on_this_host() -> Iterator[tuple[StagingRoot, Finding]]:
    """Lay the markers of this host's roots; yields the failures."""
    for root in StagingRoot.objects.active().filter(host=settings.EXLAB_HOST).exclude(token=""):
        with (
            contextlib.suppress(OSError, errors.WrongToken),
            handles.opened(handles.open_root(root.path)) as directory,
        ):
            tokens.check_token(directory, root.token)
            if finding := lay(directory, root.token):
                yield root, finding


def nas_on_staging(run: Run, directory: int) -> Finding | None:
    """`nas_is_staging` if a NAS marker or token shows on the way to the run.

    `directory`: the open staging root. Raises OSError.
    """
    token = nas_root_of(run.root, run.equipment).token
    if not token:
        return None
    with contextlib.ExitStack() as stack:
        folders = [("", directory)]
        steps = run.run_path.split("/")[:-1]
        for count in range(1, len(steps) + 1):
            path = "/".join(steps[:count])
            folders.append(
                (path, stack.enter_context(handles.opened(handles.open_beneath(directory, os.fsencode(path)))))
            )
        seen = markers.nas_seen_at(folders, token)
    return Finding(Reason.NAS_IS_STAGING, seen) if seen else None
