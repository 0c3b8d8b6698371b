"""Discovery: brings the runs on a disk, their history and a quick look at each into the database."""

import contextlib
from datetime import datetime

from django.db.models import F

from cleanup.lab import clocks
from cleanup.lab.nas import shared_twins
from cleanup.lab.nas.nas_transport import Readers
from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, Phase, Run, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs import rows, run_status
from cleanup.runs.facts import identity, stored_facts
from cleanup.runs.looks import looking
from cleanup.runs.looks.discovered import Discovered, Pass
from cleanup.runs.moved_or_gone import cleared_elsewhere
from cleanup.runs.orphans import stray_fences
from cleanup.storage import linux, run_paths
from cleanup.storage.nas.client import NasError
from cleanup.storage.run_paths import RunPath
from cleanup.storage.staging.walk import Shape, walk

__all__ = ["Discovered", "discover", "known_in_unusual_places", "look_at_path"]


def discover(root: StagingRoot, *, now: datetime, wait: bool = True) -> Discovered | None:
    """Bring one staging root up to date; only reads disk and NAS.

    Runs with an active attempt are left alone. None where another pass has the root and `wait` is off.
    """
    with opening.data_dir().lock(f"discovery-{root.pk}", wait=wait) as free:
        if not free:
            return None
        result = Discovered(root, clocks.reached(now))
        try:
            with opening.open_root(root) as descriptor, opening.reader_for(root) as readers:
                shared_twins.note_places(root)
                _discover(descriptor, readers, result, now)
        except opening.Unreachable as error:
            result.problems.append(("", error.finding.reason, error.finding.detail))
            StagingRoot.objects.filter(pk=root.pk).update(problem=error.finding.reason)
        else:
            StagingRoot.objects.filter(pk=root.pk).update(problem="", discovered_at=now)
            shared_twins.tell_overwritten(root, now)
        run_status.judge_stale(now, runs=Run.objects.filter(root=root))
        return result


def look_at_path(root: StagingRoot, path: RunPath, *, now: datetime) -> Discovered | None:
    """Bring one run path up to date. None where another pass has the root. Raises Unreachable."""
    with opening.data_dir().lock(f"discovery-{root.pk}") as free:
        if not free:
            return None
        result = Discovered(root, clocks.reached(now), at_once=True)
        with opening.open_root(root) as descriptor, opening.reader_for(root) as readers:
            looking.look_at_one(Pass(descriptor, readers, result, now), path)
        run_status.judge_stale(now, runs=Run.objects.filter(root=root, run_path=str(path)))
        return result


def _discover(descriptor: int, readers: Readers, result: Discovered, now: datetime) -> None:
    paths = []
    for sight in walk(descriptor, strays=False, known=known_in_unusual_places(result.root)):
        if sight.shape is Shape.RUN:
            paths.append(run_paths.parse_run_path(sight.path))
        elif sight.problem is not None:
            result.problems.append((sight.path, Reason(sight.problem.reason), sight.problem.detail))
        elif sight.shape is Shape.FENCE and stray_fences.lies_beside_runs(sight):
            if (shell := stray_fences.left_aside(result.root, descriptor, sight)) is not None:
                result.problems.append((sight.path, Reason.SHELL_LEFT, shell.detail))
            elif stray_fences.is_stray_fence(result.root, descriptor, sight):
                result.problems.append((sight.path, Reason.STRAY_FENCE, ""))
    result.found = len(paths)
    at = Pass(descriptor, readers, result, now)
    for first in range(0, len(paths), looking.AT_ONCE):
        looking.look_at_all(at, paths[first : first + looking.AT_ONCE])
    _look_for_layouts(result, readers)
    present = {str(path) for path in paths}
    busy = [*ClearAttempt.ACTIVE, Phase.CONFLICT]
    idle = Run.objects.staged().filter(root=result.root).exclude(attempts__phase__in=busy)
    missing = [key for key, path in idle.values_list("pk", "run_path") if path not in present]
    for key in missing:  # few: do not read the rows of all runs
        if (run := idle.with_root().filter(pk=key).first()) is not None:
            _look_at_missing(run, descriptor, readers, result, now)
    # A run cleared by another program and left here has no problem any more once it is gone.
    left = Run.objects.filter(root=result.root, state=State.CLEARED, problem=Reason.ALREADY_CLEARED)
    for run in left:
        try:
            with opening.open_run(descriptor, run.run_path) as opened:
                if identity.same(run.identity, identity.of(linux.status(opened.run), None)):
                    continue
        except opening.Unreachable as error:
            if error.finding.reason is not Reason.MISSING_DIRECTORY:
                continue
        Run.objects.filter(pk=run.pk).update(problem="", looked_at=now, doubts=F("doubts") + 1)


def _look_for_layouts(result: Discovered, readers: Readers) -> None:
    # Without an answer the last finding stays.
    with contextlib.suppress(NasError):
        result.proposal = shared_twins.propose_layout(result.root, readers)
        StagingRoot.objects.filter(pk=result.root.pk).update(layout_proposal=result.proposal)


def known_in_unusual_places(root: StagingRoot) -> list[str]:
    """Return the paths of known runs that are runs only by their records."""
    known = Run.objects.filter(root=root, gone_at=None).exclude(state=State.CLEARED, problem="").order_by()
    return [path for path in known.values_list("run_path", flat=True) if not run_paths.is_usual(path)]


def _look_at_missing(run: Run, descriptor: int, readers: Readers, result: Discovered, now: datetime) -> None:
    try:
        with opening.open_run(descriptor, run.run_path):
            return  # it came back; the next pass looks at it
    except opening.Unreachable as error:
        finding = error.finding
    if finding.reason is Reason.MISSING_DIRECTORY and stray_fences.fence_of(run, descriptor) is None:
        record = cleared_elsewhere.cleared_record(run, readers)
        if record is not None and cleared_elsewhere.take_as_cleared(run, record, now):
            result.updated += 1
            return
    facts = stored_facts.unreachable_facts(run, finding, now)
    changed = rows.store(run, facts, now)
    result.count(run, facts, "updated" if changed else "unchanged")
