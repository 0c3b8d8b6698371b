"""The record of a clear that cannot be renamed into its run is written inside the fence, durably.

The gates refuse runs on storage of their own, but older versions committed such clears, and a quota project or a union
may part the two after the gates were asked.
"""

import errno

from django.utils import timezone

from cleanup.lab.opening import OpenRun
from cleanup.models import ClearAttempt
from cleanup.storage import reserve
from cleanup.storage.staging import fences


def publish(attempt: ClearAttempt, opened: OpenRun) -> None:
    """Put the prepared record of a committed attempt into its fenced run. Twice is harmless. Raises OSError."""
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
    # By these marks a later recovery knows the record: so they are written down before it takes its place.
    ClearAttempt.objects.filter(pk=attempt.pk).update(prepared=marks, progress_at=timezone.now())
    attempt.prepared = marks
    fences.publish_copy(opened.parent, prepared, opened.run, draft, file)
