"""Discovery: brings the runs on a disk, their history and a quick look at each into the database."""

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
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
from cleanup.runs.looks import looking, unchanged
from cleanup.runs.looks.discovered import Discovered, Pass
from cleanup.runs.looks.progress import LookProgress, Say, say_nothing
from cleanup.runs.looks.unchanged import RememberedRuns
from cleanup.runs.moved_or_gone import cleared_elsewhere
from cleanup.runs.orphans import stray_fences
from cleanup.storage import linux, run_paths
from cleanup.storage.nas.client import NasError
from cleanup.storage.run_paths import RunPath
from cleanup.storage.staging import tree_digest
from cleanup.storage.staging.walk import Shape, walk

__all__ = ["Discovered", "discover", "known_in_unusual_places", "look_at_path"]


def discover(
    root: StagingRoot, *, now: datetime, wait: bool = True, quick: bool = False, say: Say = say_nothing
) -> Discovered | None:
    """Bring one staging root up to date; only reads disk and NAS.

    Runs with an active attempt are left alone. `quick`: so are those whose tree is as it was at a look that found
    nothing against them; each has its turn within `unchanged.LOOKED_AT_WITHIN`. `say` gets a line of progress now and
    then. None where another pass has the root and `wait` is off.
    """
    with opening.data_dir().lock(f"discovery-{root.pk}", wait=wait) as free:
        if not free:
            return None
        result = Discovered(root, clocks.reached(now))
        root.refresh_from_db(fields=["retired_at"])  # while this pass waited for its turn it may have been retired
        try:
            with opening.open_root(root) as descriptor, opening.reader_for(root) as readers:
                if not quick or shared_twins.have_moved(root):
                    shared_twins.note_places(root)
                quick = quick and not root.problem and not tree_digest.has_mounts_below(descriptor)
                _discover(Pass(descriptor, readers, result, now), quick=quick, say=say)
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


def _discover(at: Pass, *, quick: bool, say: Say) -> None:
    result = at.result
    remembered = RememberedRuns.of(at.root) if quick else RememberedRuns(at.root, {})
    paths = _walk(at, remembered if quick else None)
    with LookProgress(at.root, len(paths), say) as progress:
        _look_at_all(at, paths, progress)
        if result.nas_was_better and remembered.left_out:  # it may be so of every copy
            again = [run_paths.parse_run_path(os.fsdecode(path)) for _key, path in remembered.left_out]
            remembered.left_out.clear()
            progress.expect(len(again))
            _look_at_all(at, again, progress)
            paths += again
    result.found = len(paths) + len(remembered.left_out)
    result.unchanged += len(remembered.left_out)
    if not quick or result.new or result.updated:
        _look_for_layouts(result, at.readers)
    for run in _missing(at.root, {str(path) for path in paths}, remembered if quick else None):
        _look_at_missing(run, at.descriptor, at.readers, result, at.now)
    _look_at_left(at)


def _look_at_all(at: Pass, paths: Sequence[RunPath], progress: LookProgress) -> None:
    for first in range(0, len(paths), looking.AT_ONCE):
        some = paths[first : first + looking.AT_ONCE]
        looking.look_at_all(at, some)
        progress.advance(len(some))


def _walk(at: Pass, remembered: RememberedRuns | None) -> list[RunPath]:
    paths, result = [], at.result
    known = known_in_unusual_places(at.root, only_changed=remembered is not None)
    wanted = None if remembered is None else remembered.leave_out
    for sight in walk(at.descriptor, strays=False, known=known, wanted=wanted):
        if sight.shape is Shape.RUN:
            paths.append(run_paths.parse_run_path(sight.path))
        elif sight.problem is not None:
            result.problems.append((sight.path, Reason(sight.problem.reason), sight.problem.detail))
        elif sight.shape is Shape.FENCE and stray_fences.lies_beside_runs(sight):
            if (shell := stray_fences.left_aside(at.root, at.descriptor, sight)) is not None:
                result.problems.append((sight.path, Reason.SHELL_LEFT, shell.detail))
            elif stray_fences.is_stray_fence(at.root, at.descriptor, sight):
                result.problems.append((sight.path, Reason.STRAY_FENCE, ""))
    return paths


def _missing(root: StagingRoot, present: Collection[str], remembered: RememberedRuns | None) -> Iterator[Run]:
    """Yield the idle runs that the walk has not met; few, so the rows of all are not read."""
    busy = [*ClearAttempt.ACTIVE, Phase.CONFLICT]
    idle = Run.objects.staged().filter(root=root).exclude(attempts__phase__in=busy)
    asked = idle if remembered is None else idle.exclude(pk__in=Run.objects.remembered().filter(root=root))
    missing = [key for key, path in asked.values_list("pk", "run_path") if path not in present]
    if remembered is not None:
        missing += remembered.not_met(present)
    for key in missing:
        if (run := idle.with_root().filter(pk=key).first()) is not None:
            yield run


def _look_at_left(at: Pass) -> None:
    # A run cleared by another program and left here has no problem any more once it is gone.
    left = Run.objects.filter(root=at.root, state=State.CLEARED, problem=Reason.ALREADY_CLEARED)
    for run in left:
        try:
            with opening.open_run(at.descriptor, run.run_path) as opened:
                if identity.same(run.identity, identity.of(linux.status(opened.run), None)):
                    continue
        except opening.Unreachable as error:
            if error.finding.reason is not Reason.MISSING_DIRECTORY:
                continue
        Run.objects.filter(pk=run.pk).update(problem="", looked_at=at.now, doubts=F("doubts") + 1)


def _look_for_layouts(result: Discovered, readers: Readers) -> None:
    # Without an answer the last finding stays.
    with contextlib.suppress(NasError):
        result.proposal = shared_twins.propose_layout(result.root, readers)
        StagingRoot.objects.filter(pk=result.root.pk).update(layout_proposal=result.proposal)


def known_in_unusual_places(root: StagingRoot, *, only_changed: bool = False) -> list[str]:
    """Return the paths of known runs that are runs only by their records. `only_changed`: none that is remembered."""
    known = Run.objects.filter(root=root, gone_at=None).exclude(state=State.CLEARED, problem="").order_by()
    if only_changed:  # of a run in an unusual place nothing is remembered
        known = known.filter(seen="")
    return [path for path in known.values_list("run_path", flat=True) if not run_paths.is_usual(path)]


def _look_at_missing(run: Run, descriptor: int, readers: Readers, result: Discovered, now: datetime) -> None:
    try:
        with opening.open_run(descriptor, run.run_path):
            unchanged.forget([run.pk])
            return  # it came back; the next pass looks at it
    except opening.Unreachable as error:
        finding = error.finding
    if finding.reason is Reason.MISSING_DIRECTORY and stray_fences.fence_of(run, descriptor) is None:
        record = cleared_elsewhere.cleared_record(run, readers)
        if record is not None and cleared_elsewhere.take_as_cleared(run, record, now):
            result.updated += 1
            return
    facts, run.seen = stored_facts.unreachable_facts(run, finding, now), ""
    changed = rows.store(run, facts, now)
    result.count(run, facts, "updated" if changed else "unchanged")
