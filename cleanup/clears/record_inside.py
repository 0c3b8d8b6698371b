"""Writes a clear's record inside the fence where it cannot be renamed into it.

The gates refuse such storage, but older versions did not, and it may change after the gates.
"""

import errno

from django.utils import timezone

from cleanup.lab.roots.opening import OpenRun
from cleanup.models import ClearAttempt
from cleanup.storage.root_files import reserve
from cleanup.storage.staging import fences


def publish(attempt: ClearAttempt, opened: OpenRun) -> None:
    """Put a committed attempt's record into its fence. Twice is harmless. Raises OSError."""
    name, file = attempt.pk.hex, fences.record_file(attempt.prepared)
    try:
        fences.publish(opened.parent, fences.prepared_name(name), opened.run, file)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _write_inside(attempt, opened, name, file)


def _write_inside(attempt: ClearAttempt, opened: OpenRun, name: str, file: bytes) -> None:
    prepared, draft = fences.prepared_name(name), fences.draft_name(name, file)
    marks = reserve.with_reserve(
        opened.root, lambda: fences.copy_prepared(opened.parent, prepared, opened.run, draft, file)
    )
    if marks is None:
        return
    # Written before the record takes its place: a later recovery knows the record by these marks.
    ClearAttempt.objects.filter(pk=attempt.pk).update(prepared=marks, progress_at=timezone.now())
    attempt.prepared = marks
    fences.publish_copy(opened.parent, prepared, opened.run, draft, file)
