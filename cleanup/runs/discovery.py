"""Discovery: brings the runs on a disk, their history and a quick look at each into the database."""

import contextlib
import functools
import logging
import os
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Case, F, When

from cleanup.lab import clocks
from cleanup.lab.nas import shared_twins
from cleanup.lab.nas.nas_roots import record_places
from cleanup.lab.nas.nas_transport import Readers
from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, Phase, Run, StagingRoot
from cleanup.rules.facts import Facts, Finding
from cleanup.rules.gates import STILL_HERE
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs import at_path, rows, run_status
from cleanup.runs.facts import findings, identity, inspection, stored_facts
from cleanup.runs.holds import holds, likenesses
from cleanup.runs.moved_or_gone import cleared_elsewhere
from cleanup.runs.orphans import found_shells, stray_fences
from cleanup.runs.proofs import differences, slow_twins
from cleanup.runs.rows import Told
from cleanup.storage import linux, run_paths
from cleanup.storage.nas.client import NasError
from cleanup.storage.run_paths import RunPath
from cleanup.storage.staging import named_places, run_tree
from cleanup.storage.staging.records import Records
from cleanup.storage.staging.records import ingest_json as ingest
from cleanup.storage.staging.walk import Shape, walk

logger = logging.getLogger(__name__)


@dataclass
class Discovered:
    """The result of one pass over one staging root. Problems are (path, reason, detail).

    `sighted_at` is the instant of first sights, later than the pass's where the clock went back.
    """

    root: StagingRoot
    sighted_at: datetime
    found: int = 0
    new: int = 0
    updated: int = 0
    unchanged: int = 0
    problems: list[tuple[str, Reason, str]] = field(default_factory=list)
    proposal: dict[str, Any] = field(default_factory=dict)
    at_once: bool = False
    known: likenesses.KnownRuns = field(default_factory=likenesses.KnownRuns, repr=False)
    names: rows.Names = field(default_factory=rows.Names, repr=False)


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
            _look_safely(descriptor, path, readers, result, now)
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
    for path in paths:
        result.found += 1
        _look_safely(descriptor, path, readers, result, now)
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


def _look_safely(descriptor: int, path: RunPath, readers: Readers, result: Discovered, now: datetime) -> None:
    try:
        _look_at(descriptor, path, readers, result, now)
    except Exception as error:  # one bad run must not hide the others
        logger.exception("looking at %s failed", path)
        result.problems.append((str(path), Reason.LOOK_FAILED, type(error).__name__))


def _look_at(descriptor: int, path: RunPath, readers: Readers, result: Discovered, now: datetime) -> None:
    try:
        with opening.open_run(descriptor, str(path)) as opened:
            record = _read_record(result.root, path, opened)
            if not path.is_usual and not _is_run(result.root, path, opened):
                result.unchanged += 1
                return
            seen = (record, run_tree.scan(opened.run)) if record is not None and record.asks_the_tree else None
            seen_identity = identity.of(linux.status(opened.run), record)
            found = at_path.read(result.root, str(path))
            if _is_none(result, path, opened, found.staged, seen_identity, now):
                return
            told, at = Told.of(record, seen[1] if seen else None), result.sighted_at
            there = functools.partial(_lies_there, opened, path)
            run, change = rows.row_for(result.root, path, found, seen_identity, told, result.names, at, there)
            if run is None:
                result.unchanged += 1
                return
            twin, granted = slow_twins.TwinListing(run, readers, now, at_once=result.at_once), differences.ALWAYS
            look = inspection.quick_look(run, opened, twin.reader, now, recent=True, seen=seen, for_granted=granted)
            twin.learn(look.facts)
            _note_markers(look, result)
            facts = look.facts
            if not there():
                result.unchanged += 1  # a clear took it away, so the look tells nothing
                return
            holds.note_file(run, look.hold, now=now)
            if likenesses.note(run, facts, result.known, now=now):
                run = Run.objects.with_root().get(pk=run.pk)
                facts = inspection.counted_anew(run, facts)
    except opening.Unreachable as error:
        known = _known_at_unreachable(descriptor, path, result, error.finding)
        if known is None:
            return
        run, change = known, "unchanged"
        facts = stored_facts.unreachable_facts(run, error.finding, now)
    changed = rows.store(run, facts, now)
    _tally(result, run, facts, change if change != "unchanged" or not changed else "updated")


def _known_at_unreachable(descriptor: int, path: RunPath, result: Discovered, finding: Finding) -> Run | None:
    known = Run.objects.staged().with_root().filter(root=result.root, run_path=str(path)).first()
    if known is not None and not known.active_attempt:
        return known
    if _lies_at(descriptor, path):
        result.problems.append((str(path), finding.reason, finding.detail))
    else:
        result.unchanged += 1  # a clear took it away
    return None


def _read_record(root: StagingRoot, path: RunPath, opened: opening.OpenRun) -> Records | None:
    # None for a bad record, which the quick look explains. The record of a moved run may name the former path.
    with contextlib.suppress(ingest.IngestError):
        return findings.read_records(opened, path)
    known = Run.objects.filter(root=root, run_path=str(path), gone_at=None).exclude(record_path="")
    moved = known.staged().first() or known.order_by("-cleared_at").first()  # cleared: it may have come back
    if moved is not None:
        with contextlib.suppress(ingest.IngestError):
            return findings.read_records(opened, *record_places(moved))
    return None


def _is_run(root: StagingRoot, path: RunPath, opened: opening.OpenRun) -> bool:
    known = Run.objects.filter(root=root, run_path=str(path), gone_at=None).exclude(state=State.CLEARED, problem="")
    return named_places.names_place(opened.run, path) or known.exists()


def _is_none(
    result: Discovered, path: RunPath, opened: opening.OpenRun, staged: Run | None, seen: str, now: datetime
) -> bool:
    # A shell, or a folder in the place of a run that could not be put back, gets no row. A row that an earlier version
    # made of a shell is marked.
    reason, detail = None, ""
    if staged is not None and (conflict := identity.standing_conflict(staged)) is not None:
        if not identity.same(staged.identity, seen):
            reason, detail = conflict.reason, conflict.detail
    elif (shell := found_shells.left_at(result.root, path, opened)) is not None:
        reason, detail = Reason.SHELL_LEFT, shell.detail
    if reason is None:
        return False
    result.problems.append((str(path), reason, detail))
    result.unchanged += 1
    doubts = F("doubts") + Case(When(problem=reason, then=0), default=1)
    marked = Run.objects.staged().filter(root=result.root, run_path=str(path))
    marked.update(problem=reason, looked_at=now, doubts=doubts)
    return True


def _note_markers(look: inspection.Look, result: Discovered) -> None:
    of_proof = look.facts.proof.findings if look.facts.proof else ()
    found = [finding for finding in of_proof if finding.reason is Reason.NAS_IS_STAGING]
    found += [Finding(Reason.MARKER_MALFORMED, name) for name in (look.listing.malformed if look.listing else ())]
    told: list[tuple[str, Reason, str]] = [("", finding.reason, finding.detail) for finding in found]
    result.problems += [each for each in told if each not in result.problems]


def _lies_there(opened: opening.OpenRun, path: RunPath) -> bool:
    """Whether the opened directory still has the run's name."""
    try:
        return linux.status(opened.parent, os.fsencode(path.leaf)).ino == linux.status(opened.run).ino
    except FileNotFoundError:
        return False


def _lies_at(descriptor: int, path: RunPath) -> bool:
    try:
        with opening.open_run(descriptor, str(path)):
            return True
    except opening.Unreachable as error:
        return error.finding.reason is not Reason.MISSING_DIRECTORY


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
    _tally(result, run, facts, "updated" if changed else "unchanged")


def _tally(result: Discovered, run: Run, facts: Facts, change: str) -> None:
    setattr(result, change, getattr(result, change) + 1)
    told: tuple[Finding, ...] = facts.ingest_findings + facts.path_findings
    if rows.is_cleared_out(run, facts):
        told = ()
    elif run.state == State.CLEARED:
        told = (Finding(Reason.ALREADY_CLEARED, STILL_HERE), *told)
    result.problems += [(run.run_path, finding.reason, finding.detail) for finding in told]
