"""What is on disk, brought into the database: runs, their ingest history, and what a quick look shows."""

import logging
import os
import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Case, F, Q, QuerySet, When

from cleanup import gathering, holding, judging
from cleanup.models import (
    ClearAttempt,
    Hold,
    HoldSource,
    IngestEvent,
    Instrument,
    Phase,
    Project,
    Run,
    StagingRoot,
    Tone,
)
from cleanup.policy.gates import Facts, Finding
from cleanup.policy.lifecycle import State
from cleanup.policy.reasons import Reason
from cleanup.policy.retention import verified_at
from cleanup.proving import Reader
from cleanup.staging import ingest, kernel, layout
from cleanup.staging.layout import RunPath, show
from cleanup.walking import Shape, Sight, walk

logger = logging.getLogger(__name__)

_HEX = re.compile(r"[0-9a-f]{32}")


@dataclass
class Discovered:
    """What one pass over one staging root found. Problems are (run path or other path, reason, detail)."""

    root: StagingRoot
    found: int = 0
    new: int = 0
    updated: int = 0
    unchanged: int = 0
    problems: list[tuple[str, Reason, str]] = field(default_factory=list)


def discover(root: StagingRoot, *, now: datetime, wait: bool = True) -> Discovered | None:
    """Bring one staging root of this host up to date. Reads the disk and the NAS, changes neither.

    Runs with an active attempt are left to their attempt. A root without its token is only marked so. Returns None
    where another pass is at it and `wait` is off.
    """
    with gathering.data_dir().lock(f"discovery-{root.pk}", wait=wait) as free:
        if not free:
            return None
        result = Discovered(root)
        try:
            with gathering.open_root(root) as descriptor, gathering.reader_for(root) as reader:
                _discover(descriptor, reader, result, now)
        except gathering.Unreachable as error:
            result.problems.append(("", error.finding.reason, error.finding.detail))
            StagingRoot.objects.filter(pk=root.pk).update(problem=error.finding.reason)
        else:
            StagingRoot.objects.filter(pk=root.pk).update(problem="", discovered_at=now)
        judging.judge_stale(now, runs=Run.objects.filter(root=root))
        return result


def look_at_path(root: StagingRoot, path: RunPath, *, now: datetime) -> Discovered | None:
    """Bring one run path of a staging root up to date, whether a run is known there or not.

    Returns None where another pass is at the root. Raises Unreachable where the root is not there.
    """
    with gathering.data_dir().lock(f"discovery-{root.pk}") as free:
        if not free:
            return None
        result = Discovered(root)
        with gathering.open_root(root) as descriptor, gathering.reader_for(root) as reader:
            _look_safely(descriptor, path, reader, result, now)
        judging.judge_stale(now, runs=Run.objects.filter(root=root, run_path=str(path)))
        return result


def _discover(descriptor: int, reader: Reader, result: Discovered, now: datetime) -> None:
    paths = []
    for sight in walk(descriptor, strays=False):
        if sight.shape is Shape.RUN:
            paths.append(layout.parse_run_path(sight.path))
        elif sight.problem is not None:
            result.problems.append((sight.path, Reason(sight.problem.reason), sight.problem.detail))
        elif sight.shape is Shape.FENCE and _in_kind_folder(sight) and is_stray_fence(result.root, descriptor, sight):
            result.problems.append((sight.path, Reason.STRAY_FENCE, ""))
    for path in paths:
        result.found += 1
        _look_safely(descriptor, path, reader, result, now)
    present = {str(path) for path in paths}
    for run in (
        Run.objects.staged().with_root().filter(root=result.root).exclude(attempts__phase__in=ClearAttempt.ACTIVE)
    ):
        if run.run_path not in present:
            _look_at_missing(run, descriptor, result, now)
    # What somebody else called cleared and left here: once it is gone, the row has nothing to complain of.
    left = Run.objects.filter(root=result.root, state=State.CLEARED, problem=Reason.ALREADY_CLEARED)
    for run in left:
        try:
            with gathering.open_run(descriptor, run.run_path) as opened:
                if gathering.same_identity(run.identity, gathering.identity(kernel.status(opened.run), None)):
                    continue
        except gathering.Unreachable as error:
            if error.finding.reason is not Reason.MISSING_DIRECTORY:
                continue
        Run.objects.filter(pk=run.pk).update(problem="", looked_at=now, doubts=F("doubts") + 1)


def _in_kind_folder(sight: Sight) -> bool:
    return sight.raw.count(b"/") == 3


def is_stray_fence(root: StagingRoot, descriptor: int, sight: Sight) -> bool:
    """Whether no attempt of ours will put back or finish what looks like a fence, as after a restore of the database.

    Writers of this tree do not see such a name, so a whole run may lie there without anybody knowing. One whose attempt
    had come to its end is handed back to recovery. `descriptor` is the open root.
    """
    folder, _, name = sight.raw.rpartition(b"/")
    attempt = name.removeprefix(layout.FENCE_PREFIX).removesuffix(layout.PREPARED_SUFFIX).decode("ascii", "replace")
    if not _in_kind_folder(sight) or not _HEX.fullmatch(attempt):
        return True
    ours = ClearAttempt.objects.filter(pk=attempt, run__root=root, run__run_path__startswith=f"{show(folder)}/")
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
        with layout.opened(layout.open_beneath(root, folder)) as parent:
            kernel.status(parent, name)
    except FileNotFoundError:
        return True  # it was finished while we looked
    with transaction.atomic():
        Run.objects.filter(attempts__in=done).doubt()
        return bool(done.update(reason=Reason.REMOVAL_INCOMPLETE, detail="its fence is on the disk again"))


def _look_safely(descriptor: int, path: RunPath, reader: Reader, result: Discovered, now: datetime) -> None:
    try:
        _look_at(descriptor, path, reader, result, now)
    except Exception as error:  # one bad run must not hide the others
        logger.exception("looking at %s failed", path)
        result.problems.append((str(path), Reason.LOOK_FAILED, type(error).__name__))


def _look_at(descriptor: int, path: RunPath, reader: Reader, result: Discovered, now: datetime) -> None:
    """Bring one run up to date."""
    try:
        with gathering.open_run(descriptor, str(path)) as opened:
            try:
                record, _data = gathering.read_ingest(opened, path)
            except ingest.IngestError:
                record = None  # the quick look says why
            seen_identity = gathering.identity(kernel.status(opened.run), record)
            run, change = _run_for(result.root, path, seen_identity, record, now)
            if run is None:
                result.unchanged += 1
                return
            look = gathering.quick_look(run, opened, reader, now)
            facts = look.facts
            if run.state == State.CLEARED and not _lies_there(opened, path):
                result.unchanged += 1  # it was cleared while we looked
                return
            holding.note_file(run, look.hold, now=now)
    except gathering.Unreachable as error:
        found = Run.objects.staged().with_root().filter(root=result.root, run_path=str(path)).first()
        if found is None or found.active_attempt:
            result.problems.append((str(path), error.finding.reason, error.finding.detail))
            return
        run, change = found, "unchanged"
        facts = gathering.unreachable_facts(run, error.finding, now)
    changed = _store(run, facts, now)
    _tally(result, run, facts, change if change != "unchanged" or not changed else "updated")


def _lies_there(opened: gathering.OpenRun, path: RunPath) -> bool:
    """Whether the directory that was opened as a run still has the run's name."""
    try:
        return kernel.status(opened.parent, os.fsencode(path.leaf)).ino == kernel.status(opened.run).ino
    except FileNotFoundError:
        return False


def _look_at_missing(run: Run, descriptor: int, result: Discovered, now: datetime) -> None:
    """A row whose directory was not among those found: gone, or unreachable."""
    try:
        with gathering.open_run(descriptor, run.run_path):
            return  # it came back a moment ago; the next pass looks at it
    except gathering.Unreachable as error:
        facts = gathering.unreachable_facts(run, error.finding, now)
    changed = _store(run, facts, now)
    _tally(result, run, facts, "updated" if changed else "unchanged")


def _run_for(
    root: StagingRoot, path: RunPath, seen: str, record: ingest.Ingest | None, now: datetime
) -> tuple[Run | None, str]:
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
            cleared = rows.filter(state=State.CLEARED).order_by("-cleared_at").first()
            if cleared is not None and gathering.same_identity(cleared.identity, seen):
                return (None if cleared.active_attempt else cleared), "unchanged"
            run = _new_run(root, path, seen, now)
            _record(run, record, now)
            return run, "new"
        if run.active_attempt:
            return None, "unchanged"
        if not gathering.same_identity(run.identity, seen):
            return run, "unchanged"
        changed = _record(run, record, now)
        if run.identity.endswith(":-") and run.identity != seen:
            run.identity = seen
            run.save(update_fields=["identity"])
            changed = True
        return run, "updated" if changed else "unchanged"


def _new_run(root: StagingRoot, path: RunPath, seen: str, now: datetime) -> Run:
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
    )
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


def _record(run: Run, record: ingest.Ingest | None, now: datetime) -> bool:
    """Append the history entries that are new; whether any was. A history that contradicts ours changes nothing."""
    if record is None:
        return False
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
    fields = ["state", "verified_at", "project_name"]
    if run.state == State.CLEARED:
        run.cleared_at = record.history[-1].at or now
        fields.append("cleared_at")
    run.save(update_fields=fields)
    if run.project_name:
        Project.objects.filter(code=run.project).exclude(title=run.project_name).update(title=run.project_name)
    return True


def _store(run: Run, facts: Facts, now: datetime) -> bool:
    """Keep what was seen; whether it differs from what was seen before, its age apart."""
    if run.state == State.CLEARED:
        # Somebody else wrote `cleared` and left the files: they still fill the disk, so the row says so.
        changed = run.problem != Reason.ALREADY_CLEARED
        counts = {"files": facts.files, "bytes": facts.bytes}
        doubts = F("doubts") + int(changed)
        Run.objects.filter(pk=run.pk).update(problem=Reason.ALREADY_CLEARED, looked_at=now, doubts=doubts, **counts)
        return changed
    finding = next(iter(facts.ingest_findings + facts.path_findings), None)
    frozen = gathering.freeze(replace(facts, gathered_at=now))
    news = _tells(run.facts) != _tells(frozen)
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


def _tells(frozen: dict[str, Any]) -> dict[str, Any]:
    """What of stored facts is news when it changes: neither their age, nor what pages alone show."""
    return {name: value for name, value in frozen.items() if name not in ("gathered_at", *gathering.ONLY_SHOWN)}


def _tally(result: Discovered, run: Run, facts: Facts, change: str) -> None:
    setattr(result, change, getattr(result, change) + 1)
    findings: tuple[Finding, ...] = facts.ingest_findings + facts.path_findings
    if run.state == State.CLEARED:
        findings = (Finding(Reason.ALREADY_CLEARED, "the record says so, yet the files are still here"), *findings)
    result.problems += [(run.run_path, finding.reason, finding.detail) for finding in findings]
