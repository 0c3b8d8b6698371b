"""The staging disk against the database. It changes neither, and takes no lock."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Q

from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import ClearAttempt, Orphan, OrphanKind, Phase, Run, StagingRoot
from cleanup.monitoring.reconciliation.findings import Mismatch, Mismatches, MismatchKind
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs import discovery
from cleanup.runs.facts import identity
from cleanup.runs.orphans import found_shells, orphans, stray_fences
from cleanup.storage import handles, linux, run_paths
from cleanup.storage.staging.walk import DiskEntry, Shape, walk

# Discovery has had no chance to take what is younger.
GRACE = timedelta(hours=1)
_AT_ONCE = 500
_OF_ATTEMPT = re.compile(re.escape(run_paths.FENCE_PREFIX) + rb"([0-9a-f]{32})")
# Told of here from the disk itself, so not once more from the table of orphans.
_TOLD_HERE = (OrphanKind.MISSING, OrphanKind.UNKNOWN, OrphanKind.SHELL, OrphanKind.LEFTOVER)


@dataclass(frozen=True)
class _Look:
    """One look at an open root. A run on which an attempt has moved since `now` is left out."""

    root: StagingRoot
    descriptor: int
    now: datetime
    into: Mismatches

    def tell(self, kind: MismatchKind, path: str, run: int | None = None, detail: str = "") -> None:
        self.into.add(Mismatch(kind, self.root.name, path, run, detail))


def look(root: StagingRoot, descriptor: int, into: Mismatches, *, now: datetime) -> int:
    """Compare an open root with its rows; returns the number of runs seen. `now` is when it began."""
    at = _Look(root, descriptor, now, into)
    sights = list(walk(descriptor, strays=False, known=discovery.known_in_unusual_places(root)))
    there = {sight.path: sight for sight in sights if sight.shape is Shape.RUN}
    staged = dict(Run.objects.staged().filter(root=root).order_by().values_list("run_path", "pk"))
    _without_row(at, [sight for path, sight in there.items() if path not in staged])
    for sight in sights:
        if sight.shape is Shape.FENCE:
            _fence(at, sight)
    blocked = {sight.path for sight in sights if sight.shape is Shape.BLOCKED}
    for path, key in staged.items():
        if path not in there and key not in into.explained and not _is_below(blocked, path):
            _missing(at, key)
    _listed_orphans(at)
    return len(there)


def _without_row(at: _Look, sights: Iterable[DiskEntry]) -> None:
    by_path = {sight.path: sight for sight in sights}
    paths = list(by_path)
    for start in range(0, len(paths), _AT_ONCE):
        some = paths[start : start + _AT_ONCE]
        rows = Run.objects.filter(root=at.root, run_path__in=some, state=State.CLEARED, gone_at=None)
        known: dict[str, list[Run]] = {}
        for run in rows.defer("facts").order_by("-cleared_at"):
            known.setdefault(run.run_path, []).append(run)
        for path in some:
            _stranger(at, by_path[path], known.get(path, []))


def _stranger(at: _Look, sight: DiskEntry, cleared: list[Run]) -> None:
    # A path of a run that may be staged by now: the walk took a while.
    if _is_moving(at, Q(run__root=at.root, run__run_path=sight.path)):
        return
    if Run.objects.staged().filter(root=at.root, run_path=sight.path).exists():
        return
    try:
        path = run_paths.parse_run_path(sight.path)
        with opening.open_run(at.descriptor, sight.path) as opened:
            shell = found_shells.left_at(at.root, path, opened)
            found = identity.of(linux.status(opened.run), None)
    except (OSError, Unreachable):
        return  # it went meanwhile, or discovery tells why it cannot be opened
    own = next((run for run in cleared if identity.same(run.identity, found)), None)
    if shell is not None:
        at.tell(MismatchKind.SHELL, sight.path, shell.run.pk if shell.run else None, shell.detail)
    elif own is not None:
        # Where another program cleared a run, its own folder may stay.
        if not own.cleared_by or own.problem == Reason.ALREADY_CLEARED:
            at.tell(MismatchKind.CLEARED_BUT_THERE, sight.path, own.pk, "it is the very folder that was cleared")
    elif _is_old(sight, at.now):
        at.tell(MismatchKind.UNKNOWN_RUN, sight.path)


def _is_old(sight: DiskEntry, now: datetime) -> bool:
    if sight.modified_ns is None:
        return True
    modified = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=sight.modified_ns // 1000)
    return abs(now - modified) >= GRACE


def _fence(at: _Look, sight: DiskEntry) -> None:
    name = sight.raw.rpartition(b"/")[2]
    found = _OF_ATTEMPT.match(name)
    attempt = ClearAttempt.objects.filter(pk=found[1].decode()).select_related("run").first() if found else None
    if attempt is not None and (_is_settled_later(attempt) or _is_moving(at, Q(pk=attempt.pk))):
        return
    if not _is_there(at, sight.raw):
        return
    if (left := stray_fences.left_aside(at.root, at.descriptor, sight)) is not None:
        at.tell(MismatchKind.SHELL, sight.path, left.run.pk if left.run else None, left.detail)
    elif attempt is None:
        at.tell(MismatchKind.STRAY_FENCE, sight.path, None, "the database knows no such clear")
    elif not _lies_beside(attempt, at.root, sight):
        at.tell(MismatchKind.STRAY_FENCE, sight.path, attempt.run_id, "it lies in another folder than its run")
    elif attempt.phase == Phase.DONE:
        at.tell(MismatchKind.FENCE_STAYED, sight.path, attempt.run_id, attempt.run.run_path)
    else:
        said = f"the attempt on {attempt.run.run_path} ended as {attempt.phase}"
        at.tell(MismatchKind.STRAY_FENCE, sight.path, attempt.run_id, said)


def _is_settled_later(attempt: ClearAttempt) -> bool:
    return attempt.is_active or attempt.phase == Phase.CONFLICT or attempt.incomplete


def _lies_beside(attempt: ClearAttempt, root: StagingRoot, sight: DiskEntry) -> bool:
    folder = sight.raw.rpartition(b"/")[0]
    return attempt.run.root_id == root.pk and run_paths.parse_run_path(attempt.run.run_path).parent == folder


def _is_there(at: _Look, raw: bytes) -> bool:
    folder, _, name = raw.rpartition(b"/")
    try:
        with handles.opened(handles.open_beneath(at.descriptor, folder or b".")) as parent:
            linux.status(parent, name)
    except FileNotFoundError:
        return False
    return True


def _missing(at: _Look, key: int) -> None:
    run = Run.objects.staged().filter(pk=key).defer("facts").first()
    if run is None or _is_moving(at, Q(run=run)):
        return
    try:
        with opening.open_run(at.descriptor, run.run_path):
            return  # it came meanwhile
    except Unreachable as error:
        if error.finding.reason is not Reason.MISSING_DIRECTORY:
            return  # only the disk itself may say so
    if stray_fences.fence_of(run, at.descriptor) is None:
        at.tell(MismatchKind.MISSING, run.run_path, run.pk, f"its state is {run.state or 'not known'}")


def _is_moving(at: _Look, of: Q) -> bool:
    """Whether an attempt is under way, in conflict, or has moved on since the look began."""
    busy = Q(phase__in=[*ClearAttempt.ACTIVE, Phase.CONFLICT]) | Q(phase_at__gte=at.now)
    return ClearAttempt.objects.filter(of).filter(busy).exists()


def _is_below(folders: set[str], path: str) -> bool:
    if "" in folders:
        return True
    parts = path.split("/")
    return any("/".join(parts[:number]) in folders for number in range(1, len(parts) + 1))


def _listed_orphans(at: _Look) -> None:
    rows: Iterable[Orphan] = orphans.listed().filter(root=at.root).exclude(kind__in=_TOLD_HERE).order_by("path")
    for orphan in rows:
        at.tell(MismatchKind.ORPHAN, orphan.path, orphan.run_id, f"{Reason(orphan.reason).sentence} {orphan.detail}")
