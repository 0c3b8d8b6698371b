"""Rows of runs: what discovery saw is written down, and the history continues."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Case, F, When

from cleanup.lab.nas import shared_twins
from cleanup.models import Hold, HoldSource, IngestEvent, Instrument, Project, RecordSight, Run, StagingRoot, Status
from cleanup.rules.due_date import verified_at
from cleanup.rules.facts import Facts
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs import at_path
from cleanup.runs.at_path import AtPath
from cleanup.runs.facts import identity, stored_facts
from cleanup.runs.moved_or_gone import returned
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


@dataclass
class Names:
    """Instruments and projects of which one pass over a root has seen that they have rows."""

    _met: set[tuple[str, str]] = field(default_factory=set)

    def write(self, run: Run) -> None:
        """Write the rows of a run's instrument and project, unless they were met."""
        if ("instrument", run.equipment) not in self._met:
            Instrument.objects.get_or_create(root=run.root, equipment=run.equipment)
        if ("project", run.project) not in self._met:
            Project.objects.get_or_create(code=run.project)

    def remember(self, run: Run) -> None:
        """Write these two no more. Call it after the commit."""
        self._met |= {("instrument", run.equipment), ("project", run.project)}


def row_for(
    root: StagingRoot,
    path: RunPath,
    found: AtPath,
    seen: str,
    told: Told | None,
    names: Names,
    now: datetime,
    lies_there: Callable[[], bool],
) -> tuple[Run | None, str]:
    """The row of a run directory with its history brought up to date, and `new`, `updated` or `unchanged`.

    None for a run with an active attempt, or that a clear took away meanwhile: a look that overlaps a whole clear would
    call it a run that came back, so `lies_there` is asked again. A directory at a cleared run's path is a new run,
    unless it is that run's own. Runs that were declared gone do not count. `found`: the rows as read before.
    """
    run = found.staged
    if run is not None and not at_path.is_busy(run) and _says_all(run, seen, told):
        return run, "unchanged"
    with transaction.atomic():
        found = at_path.lock(root, str(path), found)
        if found.staged is None and not lies_there():
            return None, "unchanged"
        run, change = _take_over(found, root, path, seen, told, names, now)
    if run is not None and change == "new":
        names.remember(run)
    return run, change


def _take_over(
    found: AtPath, root: StagingRoot, path: RunPath, seen: str, told: Told | None, names: Names, now: datetime
) -> tuple[Run | None, str]:
    run = found.staged
    if run is not None:
        return (None, "unchanged") if at_path.is_busy(run) else _bring_up_to_date(run, found, seen, told, now)
    former = returned.former_of(found.cleared, told.record if told else None)
    cleared = found.written
    if former is None and cleared is not None and identity.same(cleared.identity, seen):
        if at_path.is_busy(cleared):
            return None, "unchanged"
        return cleared, "updated" if _bring_back(cleared, told, now) else "unchanged"
    run = _new_run(root, path, seen, now, former, found.last)
    names.write(run)
    _record(run, told, now)
    return run, "new"


def _says_all(run: Run, seen: str, told: Told | None) -> bool:
    # Then nothing is to be written, and no row is locked.
    if not identity.same(run.identity, seen):
        return True
    if run.identity.endswith(":-") and run.identity != seen:
        return False
    if told is None:
        return True
    if not run.state or run.returned_from_id is not None or told.state == State.CLEARED:
        return False
    main, known = told.record.main, [event.digest for event in run.history]
    if known or main.history:
        return known == [entry.digest for entry in main.history]
    verified = told.record.verified_at if told.state == State.SYNC_VERIFIED else None
    told_so = (told.state, verified, main.format.name)
    if (run.state, run.verified_at, run.record_format) != told_so:
        return False
    return run.record_sights.filter(digest=main.digest).exists()


def _bring_up_to_date(run: Run, found: AtPath, seen: str, told: Told | None, now: datetime) -> tuple[Run, str]:
    if not identity.same(run.identity, seen):
        return run, "unchanged"
    before = run.record_format
    now = max(now, run.first_seen_at + _LATER)
    _note_former(run, found.cleared, told, now)
    changed = _record(run, told, now)
    if (run.identity.endswith(":-") or run.record_format != before) and run.identity != seen:
        run.identity = seen
        run.save(update_fields=["identity"])
        changed = True
    return run, "updated" if changed else "unchanged"


def _note_former(run: Run, cleared: Iterable[Run], told: Told | None, now: datetime) -> None:
    # The record may have been copied last, after the place was known.
    if run.state or run.returned_at is not None or told is None:
        return
    if (former := returned.former_of(cleared, told.record)) is not None:
        run.returned_from, run.returned_at, run.record_path = former, now, former.record_path
        run.save(update_fields=["returned_from", "returned_at", "record_path"])
        logger.info("%s has come back: it was cleared at %s", run.run_path, former.cleared_at)


def run_of(root: StagingRoot, path: RunPath, seen: str, now: datetime) -> Run:
    """A run at a path, not written yet; `seen` is its identity."""
    run = Run(
        root=root,
        run_path=str(path),
        identity=seen,
        equipment=path.equipment,
        project=path.project,
        run_kind=path.run_kind,
        leaf=path.leaf,
        first_seen_at=now,
    )
    shared_twins.set_place(run)
    return run


def _new_run(root: StagingRoot, path: RunPath, seen: str, now: datetime, former: Run | None, before: Run | None) -> Run:
    # `former`: the cleared run whose files came back; `before`: the run that was last met there.
    run = run_of(root, path, seen, now)
    if former is not None:
        run.returned_at, run.returned_from, run.record_path = now, former, former.record_path
    run.save(force_insert=True)
    if former is not None:
        # An earlier version took returned files for the cleared run's own.
        complaining = Run.objects.filter(root=root, run_path=str(path), problem=Reason.ALREADY_CLEARED)
        complaining.filter(state=State.CLEARED).update(problem="", doubts=F("doubts") + 1)
        logger.info("%s has come back: it was cleared at %s", path, former.cleared_at)
    if before is not None and before.gone_at is not None:
        _hold_again(run, before, now)
    else:
        run.note_is_new()
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
    if run.history:
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
    known = [event.digest for event in run.history]
    written = [entry.digest for entry in record.history]
    if written[: len(known)] != known or len(written) == len(known):
        return False
    run.add_history(events_of(run, record, now, after=len(known)))
    fields = take_state(run, record)
    if run.state == State.CLEARED:
        # Our own clear records its entry itself, so this one is another program's.
        run.cleared_at, run.cleared_by = record.history[-1].at or now, WIZARD
        fields += ["cleared_at", "cleared_by"]
    run.save(update_fields=fields)
    if run.project_name:
        entitle(run.project, run.project_name)
    return True


def events_of(run: Run, record: Record, now: datetime, *, after: int = 0) -> list[IngestEvent]:
    """The rows of a history behind its first entries, not written yet."""
    return [
        IngestEvent(
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
        for position, entry in enumerate(record.history[after:], start=after)
    ]


def take_state(run: Run, record: Record) -> list[str]:
    """Set what a history says last, without writing it; returns the names of the columns."""
    run.state = record.current_state
    run.verified_at = verified_at(record.history)
    run.project_name = record.project_name
    run.record_format = record.format.name
    return ["state", "verified_at", "project_name", "record_format"]


def entitle(code: str, title: str) -> None:
    """Give a project the title that a record names."""
    Project.objects.filter(code=code).exclude(title=title).update(title=title)


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
    seen = Seen.of(run, facts, now)
    changes = {"facts": seen.facts, "problem": seen.problem, "looked_at": now, "seen": run.seen}
    changes |= {"seen_doubts": seen.doubts, "changed_at": run.changed_at}
    if facts.files is not None:
        changes |= {"files": facts.files, "bytes": facts.bytes}
    if seen.is_news:
        changes["failures"] = 0  # the cause of failed attempts may be gone
        changes["doubts"] = F("doubts") + 1
    else:
        # A failed attempt counts until a newer look.
        changes["doubts"] = F("doubts") + Case(When(tone=Status.BLOCK, then=1), default=0)
    Run.objects.staged().filter(pk=run.pk).update(**changes)
    return seen.is_news


@dataclass(frozen=True)
class Seen:
    """What a look at a run tells its row: facts as they are stored, its problem, and whether anything is new.

    `doubts`: those that the look knew of, with its own.
    """

    facts: dict[str, Any]
    problem: str
    is_news: bool
    doubts: int

    @classmethod
    def of(cls, run: Run, facts: Facts, now: datetime) -> "Seen":
        finding = next(iter(facts.ingest_findings + facts.path_findings), None)
        frozen = stored_facts.freeze(replace(facts, gathered_at=now))
        is_news = _is_news(run.facts, frozen)
        doubts = run.doubts + int(is_news or run.tone == Status.BLOCK)
        return cls(frozen, finding.reason.value if finding else "", is_news, doubts)


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
