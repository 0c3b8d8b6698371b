"""Orphans: unknown things on a staging disk, and known runs that are missing. Listed only, never removed."""

import enum
import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import QuerySet

from cleanup.lab import alerts
from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import AlertKind, Orphan, OrphanKind, Run, StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.orphans import orphan_inspection, orphan_rows
from cleanup.runs.orphans.orphan_rows import OpenRoot, TimeLimit
from cleanup.storage import errors, run_paths

# A timed pass measures this long; the next pass does the rest.
SECONDS = 20.0
MAX_AGE = timedelta(days=30)
MAX_SHARE_PERCENT = 10
MAX_BYTES = 100_000_000_000


@dataclass(frozen=True)
class Inspected:
    """The result of one pass over a root. `waiting` ones may turn out to be no orphans.

    `postponed` lacked time; `kept` could not be checked.
    """

    root: StagingRoot
    listed: int = 0
    waiting: int = 0
    gone: int = 0
    kept: int = 0
    measured: int = 0
    postponed: int = 0
    escalated: int = 0
    problem: Finding | None = None


class NextStep(enum.StrEnum):
    """The operator's safe next step for an orphan."""

    ADOPT = "adopt"
    LOOK_AGAIN = "look_again"
    MARK_GONE = "mark_gone"
    REMOVE_SHELL = "remove_shell"


def next_step(orphan: Orphan) -> NextStep:
    """Return the next step for an orphan; none removes data."""
    if orphan.kind == OrphanKind.MISSING:
        return NextStep.MARK_GONE
    if orphan.kind == OrphanKind.SHELL and orphan.run_id is not None:
        return NextStep.REMOVE_SHELL
    if orphan.kind in (OrphanKind.NO_RECORD, OrphanKind.UNKNOWN):
        return NextStep.ADOPT
    return NextStep.LOOK_AGAIN


def listed() -> QuerySet[Orphan]:
    """Return the orphans that are there after the grace."""
    return Orphan.objects.filter(gone_at=None, measured_at__isnull=False)


def inspect(
    root: StagingRoot,
    *,
    now: datetime,
    wait: bool = True,
    seconds: float | None = SECONDS,
    again: Collection[str] = (),
) -> Inspected | None:
    """Bring the orphans of a root up to date; only reads the disk.

    After `seconds` only the paths in `again` are measured. None where another pass has the root and `wait` is off.
    """
    with opening.data_dir().lock(f"orphans-{root.pk}", wait=wait) as free:
        if not free:
            return None
        try:
            with opening.open_root(root) as descriptor:
                discovered_at = StagingRoot.objects.values_list("discovered_at", flat=True).get(pk=root.pk)
                until = TimeLimit(None if seconds is None else time.monotonic() + seconds, again)
                return _inspect(OpenRoot(root, descriptor, now, discovered_at), until)
        except Unreachable as error:
            return Inspected(root, problem=error.finding)


def look_again(orphan: Orphan, *, now: datetime) -> Orphan | None:
    """Discover and measure one orphan again. None where another pass has its root. Raises Unreachable."""
    try:
        path = run_paths.parse_run_path(orphan.path)
    except errors.UnsafePath:
        pass
    else:
        if discovery.look_at_path(orphan.root, path, now=now) is None:
            return None
    inspected = inspect(orphan.root, now=now, wait=False, seconds=0, again=[orphan.path])
    if inspected is None:
        return None
    if inspected.problem is not None:
        raise Unreachable(inspected.problem)
    orphan.refresh_from_db()
    return orphan


def adopt(orphan: Orphan, *, now: datetime) -> Run | None:
    """Let discovery take an unknown directory with a readable record; returns its run, or None."""
    looked_at = look_again(orphan, now=now)
    if looked_at is None or looked_at.gone_at is None:
        return None
    return Run.objects.staged().with_root().filter(root=orphan.root, run_path=orphan.path).first()


def _inspect(at: OpenRoot, until: TimeLimit) -> Inspected:
    found = orphan_inspection.inspect(at.root, at.descriptor)
    taken = orphan_rows.take(found, at, until)
    there = list(listed().filter(root=at.root))
    waiting = Orphan.objects.filter(root=at.root, gone_at=None, measured_at=None).count()
    return Inspected(
        at.root,
        listed=len(there),
        waiting=waiting,
        gone=taken.gone,
        kept=taken.kept,
        measured=taken.measured,
        postponed=taken.postponed,
        escalated=_escalate(there, at),
    )


def _escalate(there: list[Orphan], at: OpenRoot) -> int:
    on_disk = [orphan for orphan in there if orphan.kind != OrphanKind.MISSING]
    size = sum(orphan.bytes or 0 for orphan in on_disk)
    limit = ceiling(at.descriptor)
    old = {orphan.pk for orphan in there if at.now - orphan.first_seen_at > MAX_AGE}
    large = {orphan.pk for orphan in on_disk} if size > limit else set()
    for orphan in there:
        over = orphan.pk in old | large
        if over != (orphan.escalated_at is not None):
            Orphan.objects.filter(pk=orphan.pk).update(escalated_at=at.now if over else None)
    _tell(at, len(old), size if large else None, limit)
    return len(old | large)


def _tell(at: OpenRoot, old: int, size: int | None, limit: int) -> None:
    subject = f"orphans:{at.root.pk}"
    if not old and size is None:
        alerts.end_alert(AlertKind.ORPHAN, subject, now=at.now)
        return
    parts = [f"{old} known for more than {MAX_AGE.days} days"] if old else []
    if size is not None:
        parts.append(f"{_gigabytes(size)} together, more than {_gigabytes(limit)}")
    alerts.open_alert(
        AlertKind.ORPHAN,
        subject,
        reason=Reason.ORPHANS_ESCALATED,
        now=at.now,
        detail="; ".join(parts),
        root=at.root,
    )


def ceiling(root: int) -> int:
    """Return how many bytes orphans may fill on an open root's disk before the alert."""
    found = os.fstatvfs(root)
    return min(MAX_BYTES, found.f_blocks * found.f_frsize * MAX_SHARE_PERCENT // 100)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
