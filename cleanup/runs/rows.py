"""Rows of runs: what discovery saw is written down, and the history continues."""

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Case, F, When

from cleanup.lab.nas import shared_twins
from cleanup.models import Hold, HoldSource, IngestEvent, Instrument, Project, RecordSight, Run, StagingRoot, Status
from cleanup.rules.eligibility import verified_at
from cleanup.rules.facts import Facts
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs.facts import identity, stored_facts
from cleanup.runs.moved import returned
from cleanup.storage.run_paths import RunPath
from cleanup.storage.staging import run_tree
from cleanup.storage.staging.records import Record, Records

logger = logging.getLogger(__name__)

# The `cleared_by` of a run that another program cleared.
WIZARD = "wizard"
# Later sights stay later than the first, even if the clock went back.
_LATER = timedelta(microseconds=1)


@dataclass(frozen=True)
class Told:
    """A run's state and clear, by its records and, if needed, its files."""

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


def row_for(root: StagingRoot, path: RunPath, seen: str, told: Told | None, now: datetime) -> tuple[Run | None, str]:
    """Return a directory's row with its history up to date, and `new`, `updated` or `unchanged`.

    None with an active attempt. At a cleared run's path only its own directory is no new run.
    """
    with transaction.atomic():
        rows = (
            Run.objects.select_for_update(of=("self",)).with_root().filter(root=root, run_path=str(path), gone_at=None)
        )
        run = rows.staged().first()
        if run is None:
            former = returned.former_of(root, str(path), told.record if told else None)
            cleared = rows.filter(state=State.CLEARED).order_by("-cleared_at").first()
            if former is None and cleared is not None and identity.same(cleared.identity, seen):
                if cleared.active_attempt:
                    return None, "unchanged"
                return cleared, "updated" if _bring_back(cleared, told, now) else "unchanged"
            run = _new_run(root, path, seen, now, former)
            _record(run, told, now)
            return run, "new"
        if run.active_attempt:
            return None, "unchanged"
        if not identity.same(run.identity, seen):
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
    # The record may have been copied last, after the place was known.
    if run.state or run.returned_at is not None or told is None:
        return
    if (former := returned.former_of(run.root, run.run_path, told.record)) is not None:
        run.returned_from, run.returned_at, run.record_path = former, now, former.record_path
        run.save(update_fields=["returned_from", "returned_at", "record_path"])
        logger.info("%s has come back: it was cleared at %s", run.run_path, former.cleared_at)


def _new_run(root: StagingRoot, path: RunPath, seen: str, now: datetime, former: Run | None) -> Run:
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
        # An earlier version took returned files for the cleared run's own.
        complaining = Run.objects.filter(root=root, run_path=str(path), problem=Reason.ALREADY_CLEARED)
        complaining.filter(state=State.CLEARED).update(problem="", doubts=F("doubts") + 1)
        logger.info("%s has come back: it was cleared at %s", path, former.cleared_at)
    shared_twins.note_place(run)
    if before is not None and before.gone_at is not None:
        _hold_again(run, before, now)
    Instrument.objects.get_or_create(root=root, equipment=run.equipment)
    Project.objects.get_or_create(code=run.project)
    return run


def _hold_again(run: Run, gone: Run, now: datetime) -> None:
    # The new run may be the one declared gone at its path. A released hold stays released.
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
    # Only a run that the wizard cleared may be staged again.
    if not cleared.cleared_by or told is None or told.cleared_at is not None or told.state == State.CLEARED:
        return False
    if cleared.events.filter(state=State.CLEARED).exists():
        return False  # a history entry is never taken back
    cleared.state, cleared.cleared_at, cleared.cleared_by = told.state, None, ""
    cleared.save(update_fields=["state", "cleared_at", "cleared_by"])
    _record(cleared, told, now)
    return True


def _record(run: Run, told: Told | None, now: datetime) -> bool:
    if told is None:
        return False
    told = _without_own_clear(run, told)
    followed = append(run, told.record.main, now) if told.record.main.history else _follow(run, told, now)
    return _note_cleared(run, told) or followed


def _without_own_clear(run: Run, told: Told) -> Told:
    record = returned.as_staged(run, told.record)
    if record == told.record:
        return told
    state = record.main.current_state or told.state
    return Told(record, state, record.cleared_at)


def _note_cleared(run: Run, told: Told) -> bool:
    if told.state != State.CLEARED or told.cleared_at is None or run.cleared_by:
        return False
    run.state, run.cleared_at, run.cleared_by, run.problem = State.CLEARED, told.cleared_at, WIZARD, ""
    run.record_format = told.record.main.format.name
    run.verified_at = run.verified_at or told.record.verified_at
    run.save(update_fields=["state", "cleared_at", "cleared_by", "problem", "record_format", "verified_at"])
    Run.objects.filter(pk=run.pk).doubt()
    return True


def _follow(run: Run, told: Told, now: datetime) -> bool:
    # A state without a history may fall back. A run with a known history has lost its `ingest.json`: nothing is
    # believed.
    if run.events.exists():
        return False
    main = told.record.main
    verified = told.record.verified_at
    _sight, first = RecordSight.objects.get_or_create(
        run=run, digest=main.digest, defaults={"verified_at": verified, "first_seen_at": now}
    )
    if told.state == State.CLEARED:
        return first  # its earlier state stays
    before = run.state, run.verified_at, run.record_format
    run.state = told.state
    run.verified_at = verified if told.state == State.SYNC_VERIFIED else None
    run.record_format = main.format.name
    run.save(update_fields=["state", "verified_at", "record_format"])
    return first or before != (run.state, run.verified_at, run.record_format)


def append(run: Run, record: Record, now: datetime) -> bool:
    """Append the new history entries; returns whether there were any. A contradicting history changes nothing."""
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


def store(run: Run, facts: Facts, now: datetime) -> bool:
    """Keep what was seen; returns whether it is new."""
    if is_cleared_out(run, facts):
        return False
    if run.state == State.CLEARED:
        # Another program wrote `cleared` but left the files on the disk.
        changed = run.problem != Reason.ALREADY_CLEARED
        counts = {"files": facts.files, "bytes": facts.bytes}
        doubts = F("doubts") + int(changed)
        Run.objects.filter(pk=run.pk).update(problem=Reason.ALREADY_CLEARED, looked_at=now, doubts=doubts, **counts)
        return changed
    finding = next(iter(facts.ingest_findings + facts.path_findings), None)
    frozen = stored_facts.freeze(replace(facts, gathered_at=now))
    news = _is_news(run.facts, frozen)
    changes = {
        "facts": frozen,
        "problem": finding.reason.value if finding else "",
        "looked_at": now,
    }
    if facts.files is not None:
        changes |= {"files": facts.files, "bytes": facts.bytes}
    if news:
        changes["failures"] = 0  # the cause of failed attempts may be gone
        changes["doubts"] = F("doubts") + 1
    else:
        # A failed attempt counts until a newer look.
        changes["doubts"] = F("doubts") + Case(When(tone=Status.BLOCK, then=1), default=0)
    Run.objects.staged().filter(pk=run.pk).update(**changes)
    return news


def _is_news(before: dict[str, Any], after: dict[str, Any]) -> bool:
    # Age, page-only facts and locks are no news.
    locks_known = "locks" in before  # older versions stored none
    return _tells(before, without_locks=locks_known) != _tells(after, without_locks=locks_known)


def _tells(frozen: dict[str, Any], *, without_locks: bool) -> dict[str, Any]:
    told = {name: value for name, value in frozen.items() if name not in ("gathered_at", *stored_facts.ONLY_SHOWN)}
    if without_locks and isinstance(told.get("files"), int):
        told["files"] -= frozen["locks"]
    return told


def is_cleared_out(run: Run, facts: Facts) -> bool:
    """Return whether only the wizard's own folder is left of a run."""
    return bool(run.cleared_by) and not facts.data_files and not facts.path_findings
