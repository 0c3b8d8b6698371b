"""Orphans: what lies on a staging disk and is no known run, and known runs that lie there no more.

They are listed with size, age and a safe next step, and never removed by themselves: past a ceiling the admin is told.
The disk is only read.
"""

import enum
import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import QuerySet

from cleanup.lab import alerts, opening
from cleanup.lab.opening import Unreachable
from cleanup.models import AlertKind, Orphan, OrphanKind, Run, StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery, orphan_inspection, orphan_rows
from cleanup.runs.orphan_rows import OpenRoot, TimeLimit
from cleanup.storage import errors, run_paths

# So long one timed pass begins to measure things; what is left is measured by the next.
SECONDS = 20.0
MAX_AGE = timedelta(days=30)
MAX_SHARE_PERCENT = 10
MAX_BYTES = 100_000_000_000


@dataclass(frozen=True)
class Inspected:
    """What one pass over one staging root found. `waiting` may yet turn out to be no orphans.

    `problem`: why the root could not be looked at; then no row changed. `postponed` were not measured for lack of time;
    `kept` could not be asked about.
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
    """What a person can safely do about an orphan here; the reason's advice says what to do on the disk."""

    ADOPT = "adopt"
    LOOK_AGAIN = "look_again"
    MARK_GONE = "mark_gone"
    REMOVE_SHELL = "remove_shell"


def next_step(orphan: Orphan) -> NextStep:
    """The next step for one orphan. None of them removes any data."""
    if orphan.kind == OrphanKind.MISSING:
        return NextStep.MARK_GONE
    if orphan.kind == OrphanKind.SHELL and orphan.run_id is not None:
        return NextStep.REMOVE_SHELL
    if orphan.kind in (OrphanKind.NO_RECORD, OrphanKind.UNKNOWN):
        return NextStep.ADOPT
    return NextStep.LOOK_AGAIN


def listed() -> QuerySet[Orphan]:
    """The orphans that are there now: known for longer than the grace, and not gone."""
    return Orphan.objects.filter(gone_at=None, measured_at__isnull=False)


def inspect(
    root: StagingRoot,
    *,
    now: datetime,
    wait: bool = True,
    seconds: float | None = SECONDS,
    again: Collection[str] = (),
) -> Inspected | None:
    """Bring the orphans of one staging root of this host up to date. Reads the disk and changes nothing there.

    After `seconds` nothing more is measured (None: all is), but the paths in `again` always. A root without its token
    changes no row. Returns None where another pass is at it and `wait` is off.
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
    """Look at one orphan now: discovery takes it if it is a run with a record, and it is measured again.

    Returns it as it is then, orphan or not; None where another pass is at its root. Raises Unreachable where the root
    is not there.
    """
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
    """Let discovery take an unknown directory with a readable record; its run, or None. Raises as `look_again`."""
    looked_at = look_again(orphan, now=now)
    if looked_at is None or looked_at.gone_at is None:
        return None
    return Run.objects.staged().with_root().filter(root=orphan.root, run_path=orphan.path).first()


def _inspect(at: OpenRoot, until: TimeLimit) -> Inspected:
    """Plan, then take: what lies there becomes rows, and the admin is told of what is too much."""
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
    """Tell the admin what has grown too old or too large, for as long as it is so; how many orphans that are."""
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
    """Open or end the alert of a root: so many are `old`; where `size` is given, all together are too large."""
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
    """How many bytes orphans may fill together on the disk of an open root, before the admin is told."""
    found = os.fstatvfs(root)
    return min(MAX_BYTES, found.f_blocks * found.f_frsize * MAX_SHARE_PERCENT // 100)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
