"""Things under the name of a fence, and the attempt that each belongs to."""

import re

from django.db import transaction
from django.db.models import F, Q, QuerySet, Value
from django.db.models.functions import Concat

from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, Phase, Run, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.runs.orphans import found_shells
from cleanup.runs.orphans.found_shells import Left
from cleanup.storage import handles, linux, run_paths
from cleanup.storage.run_paths import show
from cleanup.storage.staging import fences
from cleanup.storage.staging.walk import DiskEntry

_HEX = re.compile(r"[0-9a-f]{32}")


def lies_beside_runs(sight: DiskEntry) -> bool:
    """Return whether something lies where runs do, in a kind's folder or a project."""
    return sight.raw.count(b"/") in (2, 3)


def left_aside(root: StagingRoot, descriptor: int, sight: DiskEntry) -> Left | None:
    """Return the shell moved aside at this sight; else None."""
    try:
        return found_shells.left_aside(root, descriptor, sight.raw)
    except OSError:
        return None


def is_stray_fence(root: StagingRoot, descriptor: int, sight: DiskEntry) -> bool:
    """Return whether no attempt will put back or finish this fence, as after a database restore.

    A whole run may lie there unseen. The fence of a done attempt goes to recovery.
    """
    folder, _, name = sight.raw.rpartition(b"/")
    attempt = (
        name.removeprefix(run_paths.FENCE_PREFIX).removesuffix(run_paths.PREPARED_SUFFIX).decode("ascii", "replace")
    )
    if not lies_beside_runs(sight) or not _HEX.fullmatch(attempt):
        return True
    beside = Concat(Value(f"{show(folder)}/"), F("run__leaf"))
    ours = ClearAttempt.objects.filter(pk=attempt, run__root=root, run__run_path=beside)
    return not (_is_awaited(ours) or _hand_over(ours, descriptor, sight.raw))


def _is_awaited(ours: QuerySet[ClearAttempt]) -> bool:
    return ours.filter(
        Q(phase__in=[*ClearAttempt.ACTIVE, Phase.CONFLICT]) | Q(phase=Phase.DONE, reason=Reason.REMOVAL_INCOMPLETE)
    ).exists()


def _hand_over(ours: QuerySet[ClearAttempt], root: int, path: bytes) -> bool:
    # A completed attempt's fence came back: recovery removes it.
    done = ours.filter(phase=Phase.DONE, reason="")
    if not done.exists():
        return False
    try:
        folder, _, name = path.rpartition(b"/")
        with handles.opened(handles.open_beneath(root, folder)) as parent:
            linux.status(parent, name)
    except FileNotFoundError:
        return True  # finished during the look
    with transaction.atomic():
        Run.objects.filter(attempts__in=done).doubt()
        return bool(done.update(reason=Reason.REMOVAL_INCOMPLETE, detail="its fence is on the disk again"))


def fence_of(run: Run, root: int) -> str | None:
    """Return the name of the fence beside a run's path, if any; `root` is the open root."""
    for attempt in run.attempts.values_list("pk", flat=True):
        name = fences.fence_name(attempt.hex)
        try:
            with opening.open_run(root, run.run_path, name=name):
                return run_paths.show(name)
        except opening.Unreachable as error:
            if error.finding.reason is not Reason.MISSING_DIRECTORY:
                return run_paths.show(name)  # what cannot be opened is there
    return None
