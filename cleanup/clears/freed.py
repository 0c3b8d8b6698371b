"""The space that clears gave back to a staging disk, as measured."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import OpenRun
from cleanup.models import ClearAttempt, LedgerEntry, StagingRoot
from cleanup.rules.freed import Freed, Unmeasured, frees_nothing
from cleanup.storage import freed_space, removal_counts
from cleanup.storage.freed_space import Gain, Space
from cleanup.storage.mounts.places import filesystem_of
from cleanup.storage.staging import removal, run_tree
from cleanup.storage.staging.plan import Plan
from cleanup.storage.staging.tree_entries import ChosenEntries, files_of

logger = logging.getLogger(__name__)

# Wait less where the clear before this one waited in vain.
_SHORT_PATIENCE_SECONDS = 5.0
# Older clears do not tell how the disk is now.
_LATELY = timedelta(days=7)
# These are enough to reach the 100 MB of runs that a measurement needs.
_LOOKED_AT = 500

INTERRUPTED = Gain(why=Unmeasured.INTERRUPTED)


class Watch:
    """The free space of a staging disk while one attempt removes."""

    def __init__(self, attempt: ClearAttempt, space: Space | None, *, whole: bool) -> None:
        self._attempt, self._space, self._whole = attempt, space, whole

    def beside(self, progress: Callable[[int, int], None]) -> Callable[[int, int], None]:
        """Return `progress` with a look at the free space at each call."""

        def looked(files: int, size: int) -> None:
            if self._space is not None:
                with contextlib.suppress(OSError):
                    self._space.look()
            progress(files, size)

        return looked

    def gain(self, removed: removal.Removal) -> Gain:
        """Return what this step gave back; waits for a slow disk."""
        if self._space is None:
            return Gain(why=Unmeasured.UNKNOWN)
        allocated = removed.freed.allocated - self._attempt.freed_allocated_bytes
        try:
            found = self._space.gain(allocated, patience=self._patience)
        except OSError as error:
            logger.warning("what %s gave back cannot be measured: %s", self._attempt, error)
            return Gain(why=Unmeasured.UNKNOWN)
        return found if self._whole else Gain(None, Unmeasured.INTERRUPTED, found.before, found.after)

    def _patience(self) -> float:
        attempt = self._attempt
        waiting = {"step": "measuring", "progress_at": timezone.now()}
        ClearAttempt.objects.filter(pk=attempt.pk).update(**waiting)
        latest = next(iter(_measured(attempt.run.root, timezone.now())), None)
        in_vain = latest is not None and latest.is_next_to_nothing
        return _SHORT_PATIENCE_SECONDS if in_vain else freed_space.PATIENCE_SECONDS


@contextlib.contextmanager
def watching(attempt: ClearAttempt, opened: OpenRun, plan: Plan, *, interrupted: bool) -> Iterator[Watch]:
    """Watch the free space while an attempt removes. A disk that cannot be measured stops no removal.

    After a crash (`interrupted`) a removal with unrecorded losses is not measured.
    """
    with contextlib.ExitStack() as stack:
        space = None
        try:
            counter = opening.data_dir().removals(removal_counts.counter_of(filesystem_of(opened.root)))
            space = stack.enter_context(freed_space.watched(opened.root, counter, planned=plan.counted.allocated))
        except OSError as error:
            logger.warning("the disk of %s cannot be measured: %s", attempt.run.root, error)
        yield Watch(attempt, space, whole=not interrupted or _is_whole(attempt, opened, plan))


def _is_whole(attempt: ClearAttempt, opened: OpenRun, plan: Plan) -> bool:
    there = ChosenEntries(run_tree.scan(opened.run).entries, files_of)
    gone = run_tree.freed(plan.entries, left=there.paths)
    return (gone.bytes, gone.allocated) == (attempt.freed_bytes, attempt.freed_allocated_bytes)


def of_step(step: run_tree.Count, gain: Gain) -> dict[str, Any]:
    """Return a ledger row's columns for what its step gave back."""
    if not step.files:
        return {}
    return {"measured_bytes": gain.bytes, "unmeasured": gain.why}


def of_attempt(attempt: ClearAttempt, step: run_tree.Count, gain: Gain) -> dict[str, Any]:
    """Return an attempt's columns for what all its steps gave back, and for the disk's fill."""
    if not step.files:
        return {}
    fields: dict[str, Any] = of_step(step, gain)
    if attempt.freed_files:
        before = attempt.measured_bytes
        known = before is not None and gain.bytes is not None
        fields["measured_bytes"] = before + gain.bytes if before is not None and gain.bytes is not None else None
        fields["unmeasured"] = "" if known else attempt.unmeasured or gain.why
    if gain.after is not None and gain.before is not None:
        first = attempt.disk_free_before is None
        fields |= {"disk_bytes": gain.after.total, "disk_free_after": gain.after.free}
        fields |= {"disk_free_before": gain.before.free} if first else {}
    return fields


@dataclass
class Lately:
    """What the latest clears of a staging root removed and gave back, latest first.

    Where clearing frees nothing, no run is cleared for space.
    """

    gains: list[Freed] = field(default_factory=list)

    @classmethod
    def of(cls, root: StagingRoot, now: datetime, *, free_bytes: int | None) -> "Lately":
        """Read the last week; empty where the disk has got its space back since."""
        found = cls(_measured(root, now))
        held = found.nothing
        if held is not None and free_bytes is not None and _came_free(root, now, held, free_bytes):
            return cls()
        return found

    def add(self, attempt: ClearAttempt | None) -> None:
        if attempt is not None and attempt.measured_bytes is not None and attempt.freed_allocated_bytes > 0:
            self.gains.insert(0, Freed(attempt.freed_allocated_bytes, attempt.measured_bytes))

    @property
    def nothing(self) -> Freed | None:
        """What gave back almost nothing; None where clearing helps."""
        return frees_nothing(self.gains)

    def helps(self) -> bool:
        return self.nothing is None


def _measured(root: StagingRoot, now: datetime) -> list[Freed]:
    rows = _rows(root, now).values_list("allocated_bytes", "measured_bytes")[:_LOOKED_AT]
    return [Freed(allocated, measured) for allocated, measured in rows]


def _rows(root: StagingRoot, now: datetime) -> Any:  # noqa: ANN401
    lately = LedgerEntry.objects.freeing().filter(root_name=root.name, at__gt=now - _LATELY)
    return lately.filter(measured_bytes__isnull=False, allocated_bytes__gt=0).order_by("-at", "-pk")


def _came_free(root: StagingRoot, now: datetime, held: Freed, free_bytes: int) -> bool:
    # The space of a clear may come free later, as when a snapshot is removed.
    after = _rows(root, now).values_list("attempt__disk_free_after", flat=True).first()
    return after is not None and free_bytes - after >= held.allocated * 0.1
