"""Finds what may be an orphan on a staging disk. It changes neither disk nor rows."""

import functools
import hashlib
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import ClearAttempt, OrphanKind, Run, SetAside, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.rules.short_texts import shorten
from cleanup.rules.states import State
from cleanup.runs import discovery
from cleanup.runs.orphans import found_shells, stray_fences
from cleanup.runs.proofs import proofs
from cleanup.storage import errors, handles, run_paths
from cleanup.storage.staging import run_tree, set_aside
from cleanup.storage.staging.walk import DiskEntry, Measure, Shape, walk

# More stray files of one folder are listed as one thing.
MAX_STRAY_FILES = 1000

_MAX_PATH = 4096


@dataclass(frozen=True)
class Thing:
    """One possible orphan; `sight` is None for a missing run and for a sum."""

    path: str
    kind: OrphanKind
    reason: Reason
    detail: str = ""
    sight: DiskEntry | None = None
    run: Run | None = None
    summed: Measure | None = None


@dataclass(frozen=True)
class OrphanInspection:
    """Possible orphans by path. Rows of `undecided` paths, with a clear or unreadable, stay unchanged."""

    things: Mapping[str, Thing]
    undecided: frozenset[str]

    def is_undecided(self, path: str) -> bool:
        """Return whether a path or a folder above it is undecided."""
        return _is_below(self.undecided, path)


@dataclass(frozen=True)
class _Known:
    """An open staging root, and its runs by path."""

    root: StagingRoot
    descriptor: int
    runs: Mapping[str, Run] = field(repr=False)

    @functools.cached_property
    def asides(self) -> frozenset[bytes]:
        rows = (SetAside.objects.there() | SetAside.objects.under_way()).filter(run__root=self.root)
        known = rows.select_related("run").defer("run__facts")
        places = ((row.parents, set_aside.place_of(os.fsencode(row.leaf), row.name)) for row in known)
        return frozenset(b"/".join((parent, place)) for parents, place in places for parent in parents)


def inspect(root: StagingRoot, descriptor: int) -> OrphanInspection:
    """Return unknown things on an open staging root, and known runs that are missing."""
    # Runs come and go during the walk; a known run that was not seen is checked afterwards.
    paths = discovery.known_in_unusual_places(root)
    sights, crowds = _without_crowds(list(walk(descriptor, known=paths)))
    known = _Known(root, descriptor, _runs_on(root))
    active = ClearAttempt.objects.filter(run__root=root, phase__in=ClearAttempt.ACTIVE)
    cleared_now = set(active.values_list("run__run_path", flat=True))
    undecided = {fit(path) for path in cleared_now}
    things = {thing.path: thing for thing in crowds}
    for sight in _outside_of_misplaced(sights):
        if sight.shape is Shape.BLOCKED:
            undecided.add(fit(sight.path))
        if sight.path not in cleared_now:
            for thing in _judge(known, sight):
                _add(things, thing)
    expected = [run for run in known.runs.values() if run.run_path not in cleared_now]
    missing, unreachable = _missing(known, {sight.path for sight in sights}, expected, undecided)
    for thing in missing:
        _add(things, thing)
    return OrphanInspection(things, frozenset(undecided | unreachable))


def _runs_on(root: StagingRoot) -> dict[str, Run]:
    # Where the wizard cleared a run, its record stays and is no orphan.
    rows = Run.objects.filter(root=root, gone_at=None).defer("facts")
    there = rows.exclude(state=State.CLEARED, problem="", cleared_by="")
    # Staged ones last: a run called cleared that still lies there may have a new row beside it.
    return {run.run_path: run for run in sorted(there, key=lambda run: run.state != State.CLEARED)}


def _outside_of_misplaced(sights: Collection[DiskEntry]) -> Iterator[DiskEntry]:
    # A misplaced folder is listed as a whole.
    misplaced: list[bytes] = []
    for sight in sights:
        if any(sight.raw.startswith(above + b"/") for above in misplaced):
            continue
        if sight.shape is Shape.MISPLACED:
            misplaced.append(sight.raw)
        yield sight


def _add(things: dict[str, Thing], thing: Thing) -> None:
    # Two names that look the same differ by their digest.
    if thing.path in things and thing.sight is not None:
        thing = replace(thing, path=fit(f"{thing.path} ({hashlib.sha256(thing.sight.raw).hexdigest()[:12]})"))
    things.setdefault(thing.path, thing)


def _judge(known: _Known, sight: DiskEntry) -> list[Thing]:
    path, said = fit(sight.path), sight.problem.detail if sight.problem else ""
    if sight.shape is Shape.RUN or (sight.shape is Shape.BLOCKED and _is_run_path(sight.path)):
        thing = _judge_run(known, path, sight, said)
    elif sight.shape is Shape.FENCE:
        thing = _judge_fence(known, path, sight)
    elif sight.shape is Shape.LEFTOVER:
        thing = Thing(path, OrphanKind.LEFTOVER, Reason.STRAY_FILE, "a reserve is laid at a root's top only", sight)
    elif sight.shape is Shape.PASSED_OVER:
        thing = Thing(path, OrphanKind.MISPLACED, Reason.PASSED_OVER, said, sight)
    elif sight.shape is Shape.MISPLACED:
        thing = Thing(path, OrphanKind.MISPLACED, Reason.MISPLACED_RUN, "", sight)
    elif sight.shape is Shape.ASIDE and (names := _unknown_aside(known, sight)):
        said = f"files that were set aside, of which the database knows nothing: {proofs.name_some(names)}"
        thing = Thing(path, OrphanKind.STRAY, Reason.STRAY_FILE, said, sight)
    elif sight.shape is Shape.STRAY and sight.path not in known.runs:
        inside = [DiskEntry(Shape.MISPLACED, raw, is_directory=True) for raw in sight.within]
        return [
            Thing(path, OrphanKind.STRAY, Reason.STRAY_FILE, said, sight),
            *(Thing(fit(at.path), OrphanKind.MISPLACED, Reason.MISPLACED_RUN, "", at) for at in inside),
        ]
    else:
        thing = None
    return [thing] if thing else []


def _judge_run(known: _Known, path: str, sight: DiskEntry, said: str) -> Thing | None:
    run = known.runs.get(sight.path)
    if (run is None or run.problem == Reason.SHELL_LEFT) and (shell := _shell_at(known, path, sight)):
        return shell
    if run is None:
        return Thing(path, OrphanKind.UNKNOWN, Reason.UNKNOWN_DIRECTORY, said, sight)
    if run.problem == Reason.INGEST_UNREADABLE and sight.shape is Shape.RUN:
        return Thing(path, OrphanKind.NO_RECORD, Reason.INGEST_UNREADABLE, _why_unreadable(run), sight, run)
    return None


def _judge_fence(known: _Known, path: str, sight: DiskEntry) -> Thing | None:
    if (left := stray_fences.left_aside(known.root, known.descriptor, sight)) is not None:
        return Thing(path, OrphanKind.SHELL, Reason.SHELL_LEFT, left.detail, sight, left.run)
    if not stray_fences.is_stray_fence(known.root, known.descriptor, sight):
        return None
    return Thing(path, OrphanKind.LEFTOVER, Reason.STRAY_FENCE, "", sight)


def _unknown_aside(known: _Known, sight: DiskEntry) -> list[str]:
    try:
        with handles.opened(handles.open_beneath(known.descriptor, sight.raw)) as folder:
            found = run_tree.scan(folder)
    except OSError as error:
        return [os.strerror(error.errno or 0)]
    files = (entry.path for entry in found.entries if entry.is_file)
    unknown = [run_paths.show(path) for path in files if sight.raw + b"/" + path not in known.asides]
    return sorted(unknown) + [problem.detail for problem in found.problems]


def _shell_at(known: _Known, path: str, sight: DiskEntry) -> Thing | None:
    try:
        run_path = run_paths.parse_run_path(sight.path)
        with opening.open_run(known.descriptor, sight.path) as opened:
            left = found_shells.left_at(known.root, run_path, opened)
    except (OSError, Unreachable):
        return None
    return Thing(path, OrphanKind.SHELL, Reason.SHELL_LEFT, left.detail, sight, left.run) if left else None


def _missing(
    known: _Known, seen: set[str], runs: Collection[Run], undecided: Collection[str]
) -> tuple[list[Thing], set[str]]:
    # A run is missing only if the disk says so.
    missing, unreachable = [], set[str]()
    for run in runs:
        if run.state == State.CLEARED or run.run_path in seen or _is_below({*undecided, *unreachable}, run.run_path):
            continue
        try:
            with opening.open_run(known.descriptor, run.run_path):
                continue  # it came back a moment ago
        except Unreachable as error:
            if error.finding.reason is not Reason.MISSING_DIRECTORY:
                unreachable.add(fit(run.run_path))
                continue
        if stray_fences.fence_of(run, known.descriptor) is None:
            missing.append(Thing(fit(run.run_path), OrphanKind.MISSING, Reason.MISSING_DIRECTORY, "", None, run))
    return missing, unreachable


def _is_below(folders: Collection[str], path: str) -> bool:
    # An empty folder is the whole root.
    if "" in folders:
        return True
    parts = path.split("/")
    return any("/".join(parts[:number]) in folders for number in range(1, len(parts) + 1))


def _without_crowds(sights: list[DiskEntry]) -> tuple[list[DiskEntry], list[Thing]]:
    kept, crowds = [], defaultdict(list)
    for sight in sights:
        if sight.shape is Shape.STRAY and not sight.is_directory and sight.problem is None:
            crowds[sight.raw.rpartition(b"/")[0]].append(sight)
        else:
            kept.append(sight)
    things = []
    for folder, files in crowds.items():
        kept += files[:MAX_STRAY_FILES]
        if more := files[MAX_STRAY_FILES:]:
            newest = max(file.modified_ns or 0 for file in more)
            summed = Measure(len(more), sum(file.size for file in more), newest)
            path = fit(f"{run_paths.show(folder)}/…" if folder else "…")
            said = f"{len(more):,} more files of this folder"
            things.append(Thing(path, OrphanKind.STRAY, Reason.STRAY_FILE, said, summed=summed))
    return kept, things


def _why_unreadable(run: Run) -> str:
    found = run.facts.get("ingest_findings") or [{}]
    return str(found[0].get("detail", ""))


def _is_run_path(path: str) -> bool:
    try:
        run_paths.parse_run_path(path)
    except errors.UnsafePath:
        return False
    return True


def fit(path: str) -> str:
    """Return the path, shortened to the length of its column."""
    return shorten(path, _MAX_PATH, mark="…")
