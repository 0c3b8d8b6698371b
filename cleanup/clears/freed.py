"""What a clear gave back to its disk, measured, and what the latest clears of a staging root come to."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from cleanup.lab import opening
from cleanup.lab.opening import OpenRun
from cleanup.models import ClearAttempt, LedgerEntry, StagingRoot
from cleanup.rules.freed import Freed, Unmeasured, frees_nothing
from cleanup.storage import freed_space, removals
from cleanup.storage.freed_space import Gain, Space
from cleanup.storage.places import filesystem_of
from cleanup.storage.staging import removal, run_tree
from cleanup.storage.staging.plan import Plan

logger = logging.getLogger(__name__)

# Where the clear before this one waited in vain, the next one does not wait as long.
_SHORT_PATIENCE_SECONDS = 5.0
# What came of clears before that says nothing of the disk as it is now.
_LATELY = timedelta(days=7)
# More than make up 100 MB of runs that are worth measuring.
_LOOKED_AT = 500

INTERRUPTED = Gain(why=Unmeasured.INTERRUPTED)


class Watch:
    """The free space of a staging disk while one attempt removes."""

    def __init__(self, attempt: ClearAttempt, space: Space | None, *, whole: bool) -> None:
        self._attempt, self._space, self._whole = attempt, space, whole

    def beside(self, progress: Callable[[int, int], None]) -> Callable[[int, int], None]:
        """The same progress, with a look at the free space each time."""

        def looked(files: int, size: int) -> None:
            if self._space is not None:
                with contextlib.suppress(OSError):
                    self._space.look()
            progress(files, size)

        return looked

    def gain(self, removed: removal.Removal) -> Gain:
        """What this step of the removal gave back; waits for it where the disk is late."""
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
    """Watch the free space while an attempt removes, for the length of a block.

    After a crash (`interrupted`) only a removal of which nothing had gone before is measured. A disk that cannot be
    measured stops no removal.
    """
    with contextlib.ExitStack() as stack:
        space = None
        try:
            counter = opening.data_dir().removals(removals.counter_of(filesystem_of(opened.root)))
            planned = run_tree.count(plan.entries).allocated
            space = stack.enter_context(freed_space.watched(opened.root, counter, planned=planned))
        except OSError as error:
            logger.warning("the disk of %s cannot be measured: %s", attempt.run.root, error)
        yield Watch(attempt, space, whole=not interrupted or _is_whole(attempt, opened, plan))


def _is_whole(attempt: ClearAttempt, opened: OpenRun, plan: Plan) -> bool:
    """Whether nothing is gone of the run but what an earlier step has recorded."""
    there = {entry.path for entry in run_tree.scan(opened.run).entries if entry.is_file}
    gone = run_tree.freed(plan.entries, left=there)
    return (gone.bytes, gone.allocated) == (attempt.freed_bytes, attempt.freed_allocated_bytes)


def of_step(step: run_tree.Count, gain: Gain) -> dict[str, Any]:
    """The columns of a ledger row that say what its step gave back."""
    if not step.files:
        return {}
    return {"measured_bytes": gain.bytes, "unmeasured": gain.why}


def of_attempt(attempt: ClearAttempt, step: run_tree.Count, gain: Gain) -> dict[str, Any]:
    """The columns of an attempt that say what all its steps together gave back, and how full the disk was."""
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
    """What the latest clears of a staging root removed and gave back, the latest first; a pass adds its own.

    Where it shows that clearing frees nothing, no run goes for the sake of space.
    """

    gains: list[Freed] = field(default_factory=list)

    @classmethod
    def of(cls, root: StagingRoot, now: datetime, *, free_bytes: int | None) -> "Lately":
        """Those of the last week; nothing where the disk, of which so much is free, has got space back since."""
        found = cls(_measured(root, now))
        held = found.nothing
        if held is not None and free_bytes is not None and _came_free(root, now, held, free_bytes):
            return cls()
        return found

    def add(self, attempt: ClearAttempt | None) -> None:
        """What a clear has just come to; what could not be measured says nothing."""
        if attempt is not None and attempt.measured_bytes is not None and attempt.freed_allocated_bytes > 0:
            self.gains.insert(0, Freed(attempt.freed_allocated_bytes, attempt.measured_bytes))

    @property
    def nothing(self) -> Freed | None:
        """What was removed and gave back next to nothing; None where clearing helps, as far as one can tell."""
        return frees_nothing(self.gains)

    def helps(self) -> bool:
        """Whether clearing frees space, as far as one can tell."""
        return self.nothing is None


def _measured(root: StagingRoot, now: datetime) -> list[Freed]:
    rows = _rows(root, now).values_list("allocated_bytes", "measured_bytes")[:_LOOKED_AT]
    return [Freed(allocated, measured) for allocated, measured in rows]


def _rows(root: StagingRoot, now: datetime) -> Any:  # noqa: ANN401
    lately = LedgerEntry.objects.freeing().filter(root_name=root.name, at__gt=now - _LATELY)
    return lately.filter(measured_bytes__isnull=False, allocated_bytes__gt=0).order_by("-at", "-pk")


def _came_free(root: StagingRoot, now: datetime, held: Freed, free_bytes: int) -> bool:
    """Whether what the latest clear did not free has come free since, as when a snapshot is removed."""
    after = _rows(root, now).values_list("attempt__disk_free_after", flat=True).first()
    return after is not None and free_bytes - after >= held.allocated * 0.1
