"""Clears at once, until so much is free."""

from dataclasses import dataclass, field
from datetime import datetime

from cleanup.clears import clear_now
from cleanup.clears.making_room import room_plan
from cleanup.clears.making_room.room_plan import DiskRoom, RoomOrder, RoomPlan
from cleanup.clears.report import ClearReport
from cleanup.lab.roots import disk_usage, opening
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import Run, StagingRoot

# Each time other runs take the place of those that were refused.
_ROUNDS = 20


@dataclass
class MadeRoom:
    """The first plan, what became of its runs and of those that took their place, and the disk afterwards."""

    plan: RoomPlan
    report: ClearReport
    disk: DiskRoom
    tried: set[int] = field(default_factory=set)

    @property
    def left(self) -> int:
        """The bytes that no run was removed for yet."""
        return max(self.plan.choice.missing - self.report.allocated_bytes, 0)

    @property
    def short(self) -> int:
        """The bytes that are not free, in a dry run that would not be; without a measurement by what was removed."""
        if self.disk.free_bytes is None or self.report.dry_run:
            return self.left
        return max(self.plan.wanted - self.disk.free_bytes, 0)


def measure(root: StagingRoot, now: datetime) -> DiskRoom:
    """Measure a root's disk now, and keep nothing; if it cannot be opened, nothing is known."""
    try:
        with opening.open_root(root) as descriptor:
            usage = disk_usage.look(root, descriptor, now)
    except (Unreachable, OSError):
        usage = None
    if usage is None:
        return DiskRoom()
    return DiskRoom(free_bytes=usage.free_bytes, total_bytes=usage.total_bytes, at=now)


def plan_now(root: StagingRoot, wanted: int, order: RoomOrder, now: datetime) -> RoomPlan:
    """Plan for a root by its disk as it is now."""
    return room_plan.make_plan(room_plan.safe_here(root), root, wanted, order=order, disk=measure(root, now))


def clear_until_free(plan: RoomPlan, *, now: datetime, dry_run: bool, actor: str) -> MadeRoom:
    """Clear the runs of a plan, and others in place of those refused. A dry run decides and removes nothing."""
    made = MadeRoom(plan=plan, report=ClearReport(dry_run, now), disk=plan.disk)
    for _round in range(_ROUNDS):
        keys = [run.pk for run in plan.runs]
        if not keys:
            break
        made.tried |= set(keys)
        found = Run.objects.with_root().in_bulk(keys)
        done = clear_now.clear([found[key] for key in keys], now=now, dry_run=dry_run, actor=actor, accept_loss=False)
        made.report.runs += done.runs
        made.report.scanned += done.scanned
        made.report.candidates += done.candidates
        # By what was removed: a disk that keeps the space, as for a snapshot, is not emptied in vain.
        if not made.left:
            break
        plan = _next(made)
    if not dry_run:
        made.disk = measure(made.plan.root, now)
    return made


def _next(made: MadeRoom) -> RoomPlan:
    """The plan for what is left, without the runs that were tried."""
    first, safe = made.plan, room_plan.safe_here(made.plan.root)
    disk = DiskRoom(free_bytes=first.wanted - made.left)
    return room_plan.make_plan(safe, first.root, first.wanted, order=first.order, disk=disk, without=made.tried)
