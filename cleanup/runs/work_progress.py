"""Writes the progress of a comparison or a clear into its row while it works."""

import time
from collections.abc import Callable

from django.utils import timezone

from cleanup.models import ByteCheck, ClearAttempt

# At most this often, outside every transaction of the protocol.
_PROGRESS_SECONDS = 1.0


def of_proof(row: ClearAttempt | ByteCheck) -> Callable[[int], None]:
    """Return a callback that writes the bytes compared so far."""
    compared, last = 0, time.monotonic()

    def progress(size: int) -> None:
        nonlocal compared, last
        if not size:
            return  # nothing has come: to wait for a disk that hangs is no progress
        compared += size
        if time.monotonic() - last >= _PROGRESS_SECONDS:
            rows = type(row)._default_manager.filter(pk=row.pk)
            rows.update(compared_bytes=compared, progress_at=timezone.now())
            last = time.monotonic()

    return progress


def of_removal(attempt: ClearAttempt) -> Callable[[int, int], None]:
    """Return a callback that writes the files and bytes removed so far."""
    last = time.monotonic()

    def progress(files: int, size: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _PROGRESS_SECONDS:
            done = {"done_files": files, "done_bytes": size, "progress_at": timezone.now()}
            ClearAttempt.objects.filter(pk=attempt.pk).update(**done, detail="")
            last = time.monotonic()

    return progress
