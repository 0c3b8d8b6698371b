"""What is on disk, brought into the database: runs, their ingest history, and what a quick look shows."""

import contextlib
import logging
import os
import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Case, F, Q, QuerySet, Value, When
from django.db.models.functions import Concat

from cleanup.lab import clocks, opening, twins
from cleanup.lab.nas import Readers, record_places, twin_of
from cleanup.models import (
    ClearAttempt,
    Hold,
    HoldSource,
    IngestEvent,
    Instrument,
    Phase,
    Project,
    RecordSight,
    Run,
    StagingRoot,
    Tone,
)
from cleanup.rules.gates import Facts, Finding
from cleanup.rules.policy import verified_at
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State, first_illegal_step
from cleanup.runs import differences, holds, inspection, likenesses, returned, run_status, shells, slow_twins
from cleanup.runs.shells import Left
from cleanup.storage import linux, named_places, run_paths
from cleanup.storage.nas.client import NasError
from cleanup.storage.run_paths import RunPath, show
from cleanup.storage.staging import ingest, records, run_tree
from cleanup.storage.staging.records import Record, Records
from cleanup.storage.staging.walk import Shape, Sight, walk

logger = logging.getLogger(__name__)

# What a run that another program has cleared says of it.
WIZARD = "wizard"
# What is first seen of a run that is known comes after our first sight of the run, whatever the clock says by then.
_LATER = timedelta(microseconds=1)
_HEX = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Told:
    """What a run's records say of it: its state, for some of them by a look at its files, and who cleared it when."""

    record: Records
    state: str
    cleared_at: datetime | None

    @classmethod
    def of(cls, record: Records | None, scanned: run_tree.Scan | None) -> "Told | None":
        if record is None:
            return None
        if scanned is None:
            return cls(record, record.main.current_state, None)
        staged = scanned.data_files
        state = record.state(staged, record.compare(staged, scanned.desktop), whole=not scanned.problems)
        return cls(record, state, record.cleared_at or (record.pruned_at if state == State.CLEARED else None))


@dataclass
class Discovered:
    """What one pass over one staging root found. Problems are (run path or other path, reason, detail).

    `sighted_at` is the instant that first sights get: later than that of the pass where this host's clock went back.
    `proposal` is that of `twins.propose_layout`: another layout under which more copies would be found.
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
    known: likenesses.Known = field(default_factory=likenesses.Known, repr=False)


def discover(root: StagingRoot, *, now: datetime, wait: bool = True) -> Discovered | None:
    """Bring one staging root of this host up to date. Reads the disk and the NAS, changes neither.

    Runs with an active attempt are left to their attempt. A root without its token is only marked so. Returns None
    where another pass is at it and `wait` is off.
    """
    with opening.data_dir().lock(f"discovery-{root.pk}", wait=wait) as free:
        if not free:
            return None
        result = Discovered(root, clocks.reached(now))
        try:
            with opening.open_root(root) as descriptor, opening.reader_for(root) as readers:
                twins.note_places(root)
                _discover(descriptor, readers, result, now)
        except opening.Unreachable as error:
            result.problems.append(("", error.finding.reason, error.finding.detail))
            StagingRoot.objects.filter(pk=root.pk).update(problem=error.finding.reason)
        else:
            StagingRoot.objects.filter(pk=root.pk).update(problem="", discovered_at=now)
            twins.tell_overwritten(root, now)
        run_status.judge_stale(now, runs=Run.objects.filter(root=root))
        return result


def look_at_path(root: StagingRoot, path: RunPath, *, now: datetime) -> Discovered | None:
    """Bring one run path of a staging root up to date, whether a run is known there or not.

    Returns None where another pass is at the root. Raises Unreachable where the root is not there.
    """
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
        elif sight.shape is Shape.FENCE and _beside_runs(sight):
            if (shell := left_aside(result.root, descriptor, sight)) is not None:
                result.problems.append((sight.path, Reason.SHELL_LEFT, shell.detail))
            elif is_stray_fence(result.root, descriptor, sight):
                result.problems.append((sight.path, Reason.STRAY_FENCE, ""))
    for path in paths:
        result.found += 1
        _look_safely(descriptor, path, readers, result, now)
    _look_for_layouts(result, readers)
    present = {str(path) for path in paths}
    busy = [*ClearAttempt.ACTIVE, Phase.CONFLICT]
    idle = Run.objects.staged().filter(root=result.root).exclude(attempts__phase__in=busy)
    missing = [key for key, path in idle.values_list("pk", "run_path") if path not in present]
    for key in missing:  # few of them: the rows of all runs of a root would be read for nothing
        if (run := idle.with_root().filter(pk=key).first()) is not None:
            _look_at_missing(run, descriptor, readers, result, now)
    # What somebody else called cleared and left here: once it is gone, the row has nothing to complain of.
    left = Run.objects.filter(root=result.root, state=State.CLEARED, problem=Reason.ALREADY_CLEARED)
    for run in left:
        try:
            with opening.open_run(descriptor, run.run_path) as opened:
                if inspection.same_identity(run.identity, inspection.identity(linux.status(opened.run), None)):
                    continue
        except opening.Unreachable as error:
            if error.finding.reason is not Reason.MISSING_DIRECTORY:
                continue
        Run.objects.filter(pk=run.pk).update(problem="", looked_at=now, doubts=F("doubts") + 1)


def _look_for_layouts(result: Discovered, readers: Readers) -> None:
    """Keep what another layout would find on the NAS. Where that does not answer, what was found before stays."""
    with contextlib.suppress(NasError):
        result.proposal = twins.propose_layout(result.root, readers)
        StagingRoot.objects.filter(pk=result.root.pk).update(layout_proposal=result.proposal)


def known_in_unusual_places(root: StagingRoot) -> list[str]:
    """The paths of the runs of a staging root that are runs only because their records have said so once."""
    known = Run.objects.filter(root=root, gone_at=None).exclude(state=State.CLEARED, problem="").order_by()
    return [path for path in known.values_list("run_path", flat=True) if not run_paths.is_usual(path)]


def _beside_runs(sight: Sight) -> bool:
    """Whether something lies in a kind's folder, or in a project, where a run may lie as well."""
    return sight.raw.count(b"/") in (2, 3)


def left_aside(root: StagingRoot, descriptor: int, sight: Sight) -> Left | None:
    """The shell that was moved aside under what looks like a fence, if it is one still."""
    try:
        return shells.left_aside(root, descriptor, sight.raw)
    except OSError:
        return None


def is_stray_fence(root: StagingRoot, descriptor: int, sight: Sight) -> bool:
    """Whether no attempt of ours will put back or finish what looks like a fence, as after a restore of the database.

    Writers of this tree do not see such a name, so a whole run may lie there without anybody knowing. One whose attempt
    had come to its end is handed back to recovery. `descriptor` is the open root.
    """
    folder, _, name = sight.raw.rpartition(b"/")
    attempt = (
        name.removeprefix(run_paths.FENCE_PREFIX).removesuffix(run_paths.PREPARED_SUFFIX).decode("ascii", "replace")
    )
    if not _beside_runs(sight) or not _HEX.fullmatch(attempt):
        return True
    beside = Concat(Value(f"{show(folder)}/"), F("run__leaf"))
    ours = ClearAttempt.objects.filter(pk=attempt, run__root=root, run__run_path=beside)
    return not (_is_awaited(ours) or _hand_over(ours, descriptor, sight.raw))


def _is_awaited(ours: QuerySet[ClearAttempt]) -> bool:
    """Whether recovery will see to the fence of an attempt, given as a queryset.

    It looks for a fence only where the run was: `ours` is empty for one that lies anywhere else.
    """
    return ours.filter(
        Q(phase__in=[*ClearAttempt.ACTIVE, Phase.CONFLICT]) | Q(phase=Phase.DONE, reason=Reason.REMOVAL_INCOMPLETE)
    ).exists()


def _hand_over(ours: QuerySet[ClearAttempt], root: int, path: bytes) -> bool:
    """Give a completed attempt whose fence is on the disk again back to recovery; whether there was such a one."""
    done = ours.filter(phase=Phase.DONE, reason="")
    if not done.exists():
        return False
    try:
        folder, _, name = path.rpartition(b"/")
        with run_paths.opened(run_paths.open_beneath(root, folder)) as parent:
            linux.status(parent, name)
    except FileNotFoundError:
        return True  # it was finished while we looked
    with transaction.atomic():
        Run.objects.filter(attempts__in=done).doubt()
        return bool(done.update(reason=Reason.REMOVAL_INCOMPLETE, detail="its fence is on the disk again"))


def fence_of(run: Run, root: int) -> str | None:
    """The name under which a clear has put a run aside, if that lies beside its path; `root` is the open root."""
    for attempt in run.attempts.values_list("pk", flat=True):
        name = run_tree.fence_name(attempt.hex)
        try:
            with opening.open_run(root, run.run_path, name=name):
                return run_paths.show(name)
        except opening.Unreachable as error:
            if error.finding.reason is not Reason.MISSING_DIRECTORY:
                return run_paths.show(name)  # what cannot be opened is there
    return None


def _look_safely(descriptor: int, path: RunPath, readers: Readers, result: Discovered, now: datetime) -> None:
    try:
        _look_at(descriptor, path, readers, result, now)
    except Exception as error:  # one bad run must not hide the others
        logger.exception("looking at %s failed", path)
        result.problems.append((str(path), Reason.LOOK_FAILED, type(error).__name__))


def _look_at(descriptor: int, path: RunPath, readers: Readers, result: Discovered, now: datetime) -> None:
    """Bring one run up to date."""
    try:
        with opening.open_run(descriptor, str(path)) as opened:
            record = _read_record(result.root, path, opened)
            if not path.is_usual and not _is_run(result.root, path, opened):
                result.unchanged += 1
                return
            seen = (record, run_tree.scan(opened.run)) if record is not None and record.asks_the_tree else None
            seen_identity = inspection.identity(linux.status(opened.run), record)
            if _is_none(result, path, opened, seen_identity, now):
                return
            told = Told.of(record, seen[1] if seen else None)
            run, change = _run_for(result.root, path, seen_identity, told, result.sighted_at)
            if run is None:
                result.unchanged += 1
                return
            twin, known = slow_twins.Listing(run, readers, now, at_once=result.at_once), differences.ALWAYS
            look = inspection.quick_look(run, opened, twin.reader, now, recent=True, seen=seen, for_granted=known)
            twin.learn(look.facts)
            _note_markers(look, result)
            facts = look.facts
            if not _lies_there(opened, path):
                result.unchanged += 1  # a clear took it away while we looked, so what was seen says nothing
                return
            holds.note_file(run, look.hold, now=now)
            if likenesses.note(run, facts, result.known, now=now):
                run = Run.objects.with_root().get(pk=run.pk)
                facts = inspection.counted_anew(run, facts)
    except opening.Unreachable as error:
        found = Run.objects.staged().with_root().filter(root=result.root, run_path=str(path)).first()
        if found is None or found.active_attempt:
            if _lies_at(descriptor, path):
                result.problems.append((str(path), error.finding.reason, error.finding.detail))
            else:
                result.unchanged += 1  # a clear took it away while we looked
            return
        run, change = found, "unchanged"
        facts = inspection.unreachable_facts(run, error.finding, now)
    changed = _store(run, facts, now)
    _tally(result, run, facts, change if change != "unchanged" or not changed else "updated")


def _read_record(root: StagingRoot, path: RunPath, opened: opening.OpenRun) -> Records | None:
    """The record of what lies at a run path; None where it cannot be accepted, and the quick look says why.

    Of a run that an admin said was moved here it may name the path from where it was moved.
    """
    with contextlib.suppress(ingest.IngestError):
        return inspection.read_records(opened, path)
    known = Run.objects.filter(root=root, run_path=str(path), gone_at=None).exclude(record_path="")
    moved = known.staged().first() or known.order_by("-cleared_at").first()  # cleared: it may have come back
    if moved is not None:
        with contextlib.suppress(ingest.IngestError):
            return inspection.read_records(opened, *record_places(moved))
    return None


def _is_run(root: StagingRoot, path: RunPath, opened: opening.OpenRun) -> bool:
    """Whether a directory in an unusual place is a run: one that is known, or one whose record names the place."""
    known = Run.objects.filter(root=root, run_path=str(path), gone_at=None).exclude(state=State.CLEARED, problem="")
    return named_places.names_place(opened.run, path) or known.exists()


def _is_none(result: Discovered, path: RunPath, opened: opening.OpenRun, seen: str, now: datetime) -> bool:
    """Whether what lies at a run path is no run: in the place of one that could not be put back, or a shell.

    It is told, and no row is made of it nor taken for it. A row that an earlier version made of a shell is marked.
    """
    rows = Run.objects.staged().filter(root=result.root, run_path=str(path))
    standing = ClearAttempt.objects.filter(phase=Phase.CONFLICT, run__in=rows).select_related("run").first()
    reason, detail = None, ""
    if standing is not None:
        if not inspection.same_identity(standing.run.identity, seen):
            conflict = inspection.conflict_of(standing.pk)
            reason, detail = conflict.reason, conflict.detail
    elif (shell := shells.left_at(result.root, path, opened)) is not None:
        reason, detail = Reason.SHELL_LEFT, shell.detail
    if reason is None:
        return False
    result.problems.append((str(path), reason, detail))
    result.unchanged += 1
    doubts = F("doubts") + Case(When(problem=reason, then=0), default=1)
    rows.update(problem=reason, looked_at=now, doubts=doubts)
    return True


def _note_markers(look: inspection.Look, result: Discovered) -> None:
    """Tell once of the whole root what concerns its NAS: that it shows a staging disk, or a marker without a UUID."""
    findings = look.facts.proof.findings if look.facts.proof else ()
    found = [finding for finding in findings if finding.reason is Reason.NAS_IS_STAGING]
    found += [Finding(Reason.MARKER_MALFORMED, name) for name in (look.listing.malformed if look.listing else ())]
    told: list[tuple[str, Reason, str]] = [("", finding.reason, finding.detail) for finding in found]
    result.problems += [each for each in told if each not in result.problems]


def _lies_there(opened: opening.OpenRun, path: RunPath) -> bool:
    """Whether the directory that was opened as a run still has the run's name."""
    try:
        return linux.status(opened.parent, os.fsencode(path.leaf)).ino == linux.status(opened.run).ino
    except FileNotFoundError:
        return False


def _lies_at(descriptor: int, path: RunPath) -> bool:
    """Whether anything lies at a run path; `descriptor` is the open root."""
    try:
        with opening.open_run(descriptor, str(path)):
            return True
    except opening.Unreachable as error:
        return error.finding.reason is not Reason.MISSING_DIRECTORY


def _look_at_missing(run: Run, descriptor: int, readers: Readers, result: Discovered, now: datetime) -> None:
    """A row whose directory was not among those found: cleared by another program, gone, or unreachable."""
    try:
        with opening.open_run(descriptor, run.run_path):
            return  # it came back a moment ago; the next pass looks at it
    except opening.Unreachable as error:
        finding = error.finding
    if finding.reason is Reason.MISSING_DIRECTORY and fence_of(run, descriptor) is None:
        record = _cleared_record(run, readers)
        if record is not None and _take_as_cleared(run, record, now):
            result.updated += 1
            return
    facts = inspection.unreachable_facts(run, finding, now)
    changed = _store(run, facts, now)
    _tally(result, run, facts, "updated" if changed else "unchanged")


def _cleared_record(run: Run, readers: Readers) -> Record | None:
    """The twin's record of a run that is not on the staging disk, if it says that the run was cleared.

    The wizard writes that before it removes the staging copy. Anything else that is found on the NAS, or
    keeps it from being asked, says nothing.
    """
    twin = twin_of(run)
    if not twin.root.path:
        return None
    try:
        form = records.by_name(run.record_format)
        record = form.parse(readers.of(run).read_record(twin.path, os.fsdecode(form.file)), *record_places(run))
    except (NasError, ingest.IngestError):
        return None
    if returned.says_no_more(run, record):
        return None
    return record if record.current_state == State.CLEARED or record.cleared_at is not None else None


def _continued(run: Run, record: Record) -> Record | None:
    """A twin's record that ends with `cleared`, with the whole history of its run; None where that is another one.

    The copy is often made before the run is verified, so the last entries before the clear may be ours alone.
    """
    ours = [
        ingest.HistoryEntry(event.state, event.at, event.at_text, event.host, event.digest, event.extra)
        for event in run.events.order_by("position")
    ]
    known, written = [entry.digest for entry in ours], [entry.digest for entry in record.history]
    if not known or known[0] != written[0]:
        return None
    if written[: len(known)] == known:
        whole = record.history
    elif written[:-1] == known[: len(written) - 1]:
        whole = (*ours, record.history[-1])
    else:
        return None
    if first_illegal_step([State(entry.state) for entry in whole]) is not None:
        return None
    return replace(record, history=whole)


def _take_as_cleared(run: Run, record: Record, now: datetime) -> bool:
    """Let a run that is gone be cleared as its twin's record says; whether that continues the history that is known."""
    with transaction.atomic():
        locked = Run.objects.select_for_update(of=("self",)).staged().filter(pk=run.pk, identity=run.identity).first()
        if locked is None or locked.active_attempt or not _take_record(locked, record, now):
            return False
        Run.objects.filter(pk=run.pk).update(problem="", looked_at=now)
        Run.objects.filter(pk=run.pk).doubt()
    logger.info("%s was cleared by the wizard, as its record on the NAS says", run.run_path)
    return True


def _take_record(run: Run, record: Record, now: datetime) -> bool:
    """Take over a twin's record that ends with `cleared`: it must continue the history, or list files as they were."""
    if record.history:
        whole = _continued(run, record)
        return whole is not None and _append(run, whole, now)
    if record.cleared_at is None or not run.record_sights.filter(digest=record.digest).exists():
        return False
    run.state, run.cleared_at, run.cleared_by = State.CLEARED, record.cleared_at, WIZARD
    run.save(update_fields=["state", "cleared_at", "cleared_by"])
    return True


def _run_for(root: StagingRoot, path: RunPath, seen: str, told: Told | None, now: datetime) -> tuple[Run | None, str]:
    """The row of a run directory with its history brought up to date, and `new`, `updated` or `unchanged`.

    No row is returned for a run with an active attempt. A directory at a cleared run's path is a new run, unless it
    is the cleared run's own directory still. A run that was declared gone is no concern any more.
    """
    with transaction.atomic():
        rows = (
            Run.objects.select_for_update(of=("self",)).with_root().filter(root=root, run_path=str(path), gone_at=None)
        )
        run = rows.staged().first()
        if run is None:
            former = returned.former_of(root, str(path), told.record if told else None)
            cleared = rows.filter(state=State.CLEARED).order_by("-cleared_at").first()
            if former is None and cleared is not None and inspection.same_identity(cleared.identity, seen):
                if cleared.active_attempt:
                    return None, "unchanged"
                return cleared, "updated" if _bring_back(cleared, told, now) else "unchanged"
            run = _new_run(root, path, seen, now, former)
            _record(run, told, now)
            return run, "new"
        if run.active_attempt:
            return None, "unchanged"
        if not inspection.same_identity(run.identity, seen):
            return run, "unchanged"
        before = run.record_format
        now = max(now, run.first_seen_at + _LATER)
        _note_former(run, told, now)
        changed = _record(run, told, now)
        if (run.identity.endswith(":-") or run.record_format != before) and run.identity != seen:
            run.identity = seen
            run.save(update_fields=["identity"])
            changed = True
        return run, "updated" if changed else "unchanged"


def _note_former(run: Run, told: Told | None, now: datetime) -> None:
    """Take a run for one that came back where only its place was known: its record was copied after its other files."""
    if run.state or run.returned_at is not None or told is None:
        return
    if (former := returned.former_of(run.root, run.run_path, told.record)) is not None:
        run.returned_from, run.returned_at, run.record_path = former, now, former.record_path
        run.save(update_fields=["returned_from", "returned_at", "record_path"])
        logger.info("%s has come back: it was cleared at %s", run.run_path, former.cleared_at)


def _new_run(root: StagingRoot, path: RunPath, seen: str, now: datetime, former: Run | None) -> Run:
    """A row for a directory that is not known; `former` is the cleared run whose files have come back in it."""
    before = Run.objects.filter(root=root, run_path=str(path)).order_by("-pk").first()
    run = Run.objects.create(
        root=root,
        run_path=str(path),
        identity=seen,
        equipment=path.equipment,
        project=path.project,
        run_kind=path.run_kind,
        leaf=path.leaf,
        first_seen_at=now,
        returned_at=now if former else None,
        returned_from=former,
        record_path=former.record_path if former else "",
    )
    if former is not None:
        # An earlier version took what came back for the cleared run's own files, and said so.
        complaining = Run.objects.filter(root=root, run_path=str(path), problem=Reason.ALREADY_CLEARED)
        complaining.filter(state=State.CLEARED).update(problem="", doubts=F("doubts") + 1)
        logger.info("%s has come back: it was cleared at %s", path, former.cleared_at)
    twins.note_place(run)
    if before is not None and before.gone_at is not None:
        _hold_again(run, before, now)
    Instrument.objects.get_or_create(root=root, equipment=run.equipment)
    Project.objects.get_or_create(code=run.project)
    return run


def _hold_again(run: Run, gone: Run, now: datetime) -> None:
    """Hold a run as people hold the one that was last declared gone at its path: it may be the same one, come back.

    Each such row has taken over what was in force on the one before it, so a hold that was released stays released.
    """
    for hold in Hold.objects.in_force(now).filter(run=gone, source=HoldSource.PERSON).order_by("pk"):
        Hold.objects.create(
            run=run,
            source=hold.source,
            owner=hold.owner,
            reason=hold.reason,
            created_at=now,
            until=hold.until,
            reminded_at=hold.reminded_at,
        )
        logger.info("held %s until %s by %s as before: %s", run.run_path, hold.until, hold.owner, hold.reason)


def _bring_back(cleared: Run, told: Told | None, now: datetime) -> bool:
    """Take a run for staged again that the wizard cleared and calls cleared no more; never one that we have cleared."""
    if not cleared.cleared_by or told is None or told.cleared_at is not None or told.state == State.CLEARED:
        return False
    if cleared.events.filter(state=State.CLEARED).exists():
        return False  # an entry of a history is never taken back
    cleared.state, cleared.cleared_at, cleared.cleared_by = told.state, None, ""
    cleared.save(update_fields=["state", "cleared_at", "cleared_by"])
    _record(cleared, told, now)
    return True


def _record(run: Run, told: Told | None, now: datetime) -> bool:
    """Bring a run's state, and its history where there is one, up to date with its record; whether anything was new."""
    if told is None:
        return False
    told = _without_own_clear(run, told)
    followed = _append(run, told.record.main, now) if told.record.main.history else _follow(run, told, now)
    return _note_cleared(run, told) or followed


def _without_own_clear(run: Run, told: Told) -> Told:
    """What the records of a run say, but for the `cleared` of our own clear where its files have come back since."""
    record = returned.as_staged(run, told.record)
    if record == told.record:
        return told
    state = record.main.current_state or told.state
    return Told(record, state, record.cleared_at)


def _note_cleared(run: Run, told: Told) -> bool:
    """What the wizard has cleared by itself: its record says so, and no data is left."""
    if told.state != State.CLEARED or told.cleared_at is None or run.cleared_by:
        return False
    run.state, run.cleared_at, run.cleared_by, run.problem = State.CLEARED, told.cleared_at, WIZARD, ""
    run.record_format = told.record.main.format.name
    run.verified_at = run.verified_at or told.record.verified_at
    run.save(update_fields=["state", "cleared_at", "cleared_by", "problem", "record_format", "verified_at"])
    Run.objects.filter(pk=run.pk).doubt()
    return True


def _follow(run: Run, told: Told, now: datetime) -> bool:
    """Take over the state of a record without a history, which may fall back; each of its contents is kept once.

    A run of which a history is known has lost its `ingest.json`: then nothing is believed.
    """
    if run.events.exists():
        return False
    main = told.record.main
    verified = told.record.verified_at
    _sight, first = RecordSight.objects.get_or_create(
        run=run, digest=main.digest, defaults={"verified_at": verified, "first_seen_at": now}
    )
    if told.state == State.CLEARED:
        return first  # what the run was until then stays written
    before = run.state, run.verified_at, run.record_format
    run.state = told.state
    run.verified_at = verified if told.state == State.SYNC_VERIFIED else None
    run.record_format = main.format.name
    run.save(update_fields=["state", "verified_at", "record_format"])
    return first or before != (run.state, run.verified_at, run.record_format)


def _append(run: Run, record: Record, now: datetime) -> bool:
    """Append the history entries that are new; whether any was. A history that contradicts ours changes nothing."""
    known = list(run.events.order_by("position").values_list("digest", flat=True))
    written = [entry.digest for entry in record.history]
    if written[: len(known)] != known or len(written) == len(known):
        return False
    for position, entry in enumerate(record.history[len(known) :], start=len(known)):
        IngestEvent.objects.create(
            run=run,
            position=position,
            state=entry.state,
            at=entry.at,
            at_text=entry.at_text,
            host=entry.host,
            extra=entry.extra,
            digest=entry.digest,
            first_seen_at=now,
        )
    run.state = record.current_state
    run.verified_at = verified_at(record.history)
    run.project_name = record.project_name
    run.record_format = record.format.name
    fields = ["state", "verified_at", "project_name", "record_format"]
    if run.state == State.CLEARED:
        # Our own clear records its entry itself, so this one is another program's.
        run.cleared_at, run.cleared_by = record.history[-1].at or now, WIZARD
        fields += ["cleared_at", "cleared_by"]
    run.save(update_fields=fields)
    if run.project_name:
        Project.objects.filter(code=run.project).exclude(title=run.project_name).update(title=run.project_name)
    return True


def _store(run: Run, facts: Facts, now: datetime) -> bool:
    """Keep what was seen; whether it differs from what was seen before, its age apart."""
    if _is_cleared_out(run, facts):
        return False
    if run.state == State.CLEARED:
        # Somebody else wrote `cleared` and left the files: they still fill the disk, so the row says so.
        changed = run.problem != Reason.ALREADY_CLEARED
        counts = {"files": facts.files, "bytes": facts.bytes}
        doubts = F("doubts") + int(changed)
        Run.objects.filter(pk=run.pk).update(problem=Reason.ALREADY_CLEARED, looked_at=now, doubts=doubts, **counts)
        return changed
    finding = next(iter(facts.ingest_findings + facts.path_findings), None)
    frozen = inspection.freeze(replace(facts, gathered_at=now))
    news = _is_news(run.facts, frozen)
    changes = {
        "facts": frozen,
        "problem": finding.reason.value if finding else "",
        "looked_at": now,
    }
    if facts.files is not None:
        changes |= {"files": facts.files, "bytes": facts.bytes}
    if news:
        changes["failures"] = 0  # what made attempts fail may be gone with what was there before
        changes["doubts"] = F("doubts") + 1
    else:
        # A failed attempt speaks for a run until a newer look has been taken, and this is one.
        changes["doubts"] = F("doubts") + Case(When(tone=Tone.BLOCK, then=1), default=0)
    Run.objects.staged().filter(pk=run.pk).update(**changes)
    return news


def _is_news(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether facts say more than they said: neither their age is news, nor what pages alone show, nor a lock more."""
    locks_known = "locks" in before  # an older version stored facts without them
    return _tells(before, without_locks=locks_known) != _tells(after, without_locks=locks_known)


def _tells(frozen: dict[str, Any], *, without_locks: bool) -> dict[str, Any]:
    told = {name: value for name, value in frozen.items() if name not in ("gathered_at", *inspection.ONLY_SHOWN)}
    if without_locks and isinstance(told.get("files"), int):
        told["files"] -= frozen["locks"]
    return told


def _is_cleared_out(run: Run, facts: Facts) -> bool:
    """Whether nothing is left of a run but the folder that the wizard leaves where it clears."""
    return bool(run.cleared_by) and not facts.data_files and not facts.path_findings


def _tally(result: Discovered, run: Run, facts: Facts, change: str) -> None:
    setattr(result, change, getattr(result, change) + 1)
    findings: tuple[Finding, ...] = facts.ingest_findings + facts.path_findings
    if _is_cleared_out(run, facts):
        findings = ()
    elif run.state == State.CLEARED:
        findings = (Finding(Reason.ALREADY_CLEARED, "the record says so, yet the files are still here"), *findings)
    result.problems += [(run.run_path, finding.reason, finding.detail) for finding in findings]
