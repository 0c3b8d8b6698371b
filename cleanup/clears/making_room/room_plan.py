"""Which safe runs of a staging root are cleared so that enough space is free."""

import enum
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from cleanup.clears.preview import MAX_RUNS, RequestedRuns
from cleanup.models import DiskUsage, Run, RunQuerySet, StagingRoot, Status
from cleanup.rules.room_choice import RoomCandidate, RoomChoice, choose_runs

# A choice looks at this many safe runs, in the order asked for.
LOOKED_AT = 5_000


class RoomOrder(enum.StrEnum):
    """Which runs go first; by verification or by size."""

    OLDEST = "oldest"
    LARGEST = "largest"


@dataclass(frozen=True, kw_only=True)
class DiskRoom:
    """Free space of a staging root's disk, and its size, as measured at `at`; all None if never measured."""

    free_bytes: int | None = None
    total_bytes: int | None = None
    at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class RoomPlan:
    """The runs that go so that `wanted` bytes are free; in allocated bytes.

    `looked_at` safe runs were looked at, `more`: there are others. `unknown` of them have no known size on the disk.
    """

    root: StagingRoot
    order: RoomOrder
    wanted: int
    disk: DiskRoom
    choice: RoomChoice
    runs: tuple[Run, ...]
    looked_at: int
    available: int
    unknown: int
    more: bool

    @property
    def enough(self) -> bool:
        return not self.choice.short

    @property
    def free_after(self) -> int | None:
        return None if self.disk.free_bytes is None else self.disk.free_bytes + self.choice.gives

    @property
    def is_full_batch(self) -> bool:
        """Whether no more runs fit into one batch."""
        return len(self.choice.chosen) >= MAX_RUNS

    @property
    def requested(self) -> RequestedRuns:
        return RequestedRuns.of(candidate.key for candidate in self.choice.chosen)


def room_of(root: StagingRoot) -> DiskRoom:
    """The disk as it was measured last."""
    usage = DiskUsage.objects.filter(root=root).order_by("-at").first()
    if usage is None:
        return DiskRoom()
    return DiskRoom(free_bytes=usage.free_bytes, total_bytes=usage.total_bytes, at=usage.at)


def safe_here(root: StagingRoot) -> RunQuerySet:
    """The runs of a root that were judged safe to clear."""
    return Run.objects.here().filter(root=root, tone=Status.GO)


def make_plan(
    safe: RunQuerySet,
    root: StagingRoot,
    wanted: int,
    *,
    order: RoomOrder,
    disk: DiskRoom,
    without: Collection[int] = (),
) -> RoomPlan:
    """Choose among the `safe` runs of a root, but not those `without`. Reads LOOKED_AT runs, by an index."""
    found = list(_in_order(safe, order).only(*_COLUMNS)[: LOOKED_AT + 1 + len(without)])
    runs = [run for run in found if run.pk not in without]
    more = len(runs) > LOOKED_AT
    runs = runs[:LOOKED_AT]
    for run in runs:
        run.root = root
    if order is RoomOrder.LARGEST:
        runs.sort(key=lambda run: (-(run.allocated_bytes or 0), run.pk))
    candidates = [RoomCandidate(key=run.pk, gives=run.allocated_bytes or 0, safe=run.tone == Status.GO) for run in runs]
    choice = choose_runs(candidates, max(wanted - (disk.free_bytes or 0), 0), most=MAX_RUNS)
    by_key = {run.pk: run for run in runs}
    return RoomPlan(
        root=root,
        order=order,
        wanted=wanted,
        disk=disk,
        choice=choice,
        runs=tuple(by_key[candidate.key] for candidate in choice.chosen),
        looked_at=len(runs),
        available=sum(candidate.gives for candidate in candidates),
        unknown=sum(run.allocated_bytes is None for run in runs),
        more=more,
    )


_COLUMNS = (
    *("root", "run_path", "leaf", "equipment", "project", "run_kind"),
    *("bytes", "allocated_bytes", "files", "tone", "verified_at", "returned_at"),
)


def _in_order(safe: RunQuerySet, order: RoomOrder) -> RunQuerySet:
    if order is RoomOrder.OLDEST:
        return safe.order_by("verified_at", "pk")
    # A safe run has no reason: with it the index of sums is in the order of sizes.
    return safe.filter(reason="", bytes__isnull=False).order_by("-bytes")
