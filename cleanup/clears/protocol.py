"""The clear of one run: claim, gates, plan, fence, re-scan, record, commit, publish, remove, finish.

`roll_back` undoes all before the commit, `roll_forward` completes it after. No step is optional; their order keeps:

1. the run's lock is held from claim to end and dies with the process;
2. nothing is removed before the commit has recorded it, durably, in one transaction;
3. only what the plan holds is removed, compared once more just before.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db import Error as DjangoDatabaseError
from django.db.models import Exists, F
from django.utils import timezone

from cleanup.clears import decisions, last_checks, preparation, queue, retries, settlement
from cleanup.clears.preparation import Prepared
from cleanup.clears.queue import ClearRequest
from cleanup.clears.refusal import Doubted, Refused
from cleanup.lab import lock_waits
from cleanup.lab.nas.nas_roots import nas_flags, twin_of
from cleanup.lab.nas.nas_transport import Reader
from cleanup.lab.roots import laid_markers, opening
from cleanup.lab.roots.opening import OpenRun, Unreachable
from cleanup.ledger import book, entries
from cleanup.models import (
    ClearAttempt,
    Difference,
    Hold,
    IngestEvent,
    LedgerKind,
    Phase,
    Requester,
    Run,
    count_of_events,
)
from cleanup.rules.facts import Finding
from cleanup.rules.policies.effective import sources_as_json
from cleanup.rules.policies.policy import Policy, ProofLevel
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs import work_progress
from cleanup.runs.facts import identity, inspection
from cleanup.runs.facts.inspection import Look
from cleanup.runs.holds import keeping_holds, likenesses
from cleanup.runs.moved_or_gone import returned
from cleanup.runs.proofs import accepted_bytes, differences, proofs
from cleanup.runs.proving import resuming
from cleanup.storage import errors, handles, linux
from cleanup.storage.staging import fences
from cleanup.storage.staging.plan import Plan
from cleanup.storage.staging.records import ingest_json as ingest

logger = logging.getLogger(__name__)

_DECIDED = ("decision", "policy_version", "decided_by", "proof", "nas_flags", "twin_path")


def clear_run(
    run: Run, *, now: datetime, actor: str = "", note: str = "", requester: Requester = Requester.OPERATOR
) -> tuple[int, int]:
    """Clear one run and return (file_count, bytes_freed), as ExLab-Wizard's function does.

    A cleared run, or one whose directory is missing, gives (0, 0). Raises Refused if a gate does not pass.
    """
    if run.root.host != settings.EXLAB_HOST:
        raise Refused(Finding(Reason.ROOT_NOT_MOUNTED, f"it belongs to host {run.root.host}"))
    try:
        attempt = attempt_now(run, ClearRequest(requester=requester, actor=actor, note=note), now=now)
    except queue.AlreadyCleared:
        return 0, 0
    except queue.AlreadyClearing:
        raise Refused(Finding(Reason.ALREADY_CLEARING)) from None
    if attempt.phase == Phase.REFUSED and attempt.reason == Reason.MISSING_DIRECTORY:
        return 0, 0
    if attempt.phase != Phase.DONE:
        raise Refused(Finding(Reason(attempt.reason or Reason.ALREADY_CLEARING), attempt.detail))
    return attempt.freed_files, attempt.freed_bytes


def attempt_now(run: Run, request: ClearRequest, *, now: datetime, policy: Policy | None = None) -> ClearAttempt:
    """Make an attempt and perform it here, without the queue; `policy`: the one a sweep began with.

    Raises AlreadyClearing, AlreadyCleared.
    """
    # A sweep decides by the instant of its start, which may be hours ago; its attempts are made now.
    made, policy = queue.unsaved(run, request, now=timezone.now(), policy=policy)
    attempt = perform(made, now=now, policy=policy.in_earnest())
    if attempt.phase == Phase.QUEUED:  # another worker holds the run's lock, and no task will repeat this attempt
        settlement.finish_without_clear(attempt, Phase.REFUSED, Finding(Reason.ALREADY_CLEARING), now=now)
    return attempt


def perform(attempt: ClearAttempt, *, now: datetime, policy: Policy | None = None) -> ClearAttempt:
    """Perform a `queued` attempt of this host by `policy`, else by the one in force; returns it as it ended.

    An attempt that another worker has is returned as it stands: a task may come twice. One that is not saved yet is
    written down first. Raises AlreadyClearing, AlreadyCleared.
    """
    if attempt.host != settings.EXLAB_HOST or not attempt.is_clear:
        return attempt
    with contextlib.ExitStack() as stack:
        try:
            opening.data_dir().relieve()
            free = stack.enter_context(opening.data_dir().lock(str(attempt.run_id)))
        except OSError as error:  # the data directory cannot be written
            finding = preparation.not_written(error)
            queue.save(attempt, begun=False)
            settlement.finish_without_clear(attempt, Phase.REFUSED, finding, now=timezone.now(), failed=False)
            return attempt
        if not free:
            queue.save(attempt, begun=False)
        elif _claim(attempt):
            try:
                _clear(attempt, now, policy)
            except Refused as refused:
                if refused.phase == Phase.INTENT:
                    settlement.tell_of_wait(attempt, refused.finding)
                else:
                    settlement.finish_without_clear(
                        attempt, refused.phase, refused.finding, now=timezone.now(), fields=_decided(attempt)
                    )
        if attempt.phase != Phase.DONE:  # what has ended here is known
            attempt.refresh_from_db()
        return attempt


def _claim(attempt: ClearAttempt) -> bool:
    if queue.is_unsaved(attempt):
        queue.save(attempt, begun=True)  # in one transaction: no other process has seen it
        return True
    # Fails inside a transaction of the caller, which would void every later promise. The run stands as before: an
    # attempt in the queue is under way for the pages.
    with transaction.atomic(durable=True):
        return queue.may_begin(attempt) and attempt.advance_alone([Phase.QUEUED], Phase.INTENT, now=timezone.now())


def _clear(attempt: ClearAttempt, now: datetime, policy: Policy | None) -> None:
    (run,) = Run.objects.filter(pk=attempt.run_id).read_by_clear()
    attempt.run = run
    if withdrawn := retries.withdrawn(attempt):
        raise Refused(withdrawn, Phase.ABORTED)
    policy = policy or decisions.policy_for(attempt, run)
    attempt.decided_by = sources_as_json(policy)
    if run.gone_at is not None:
        raise Refused(Finding(Reason.IDENTITY_MISMATCH, "it was declared gone"))
    if conflict := identity.standing_conflict(run):
        raise Refused(conflict)
    if missing := linux.missing_calls():  # without these calls not even the root can be opened
        raise Refused(Finding(Reason.CLEARING_UNSUPPORTED, f"missing: {', '.join(missing)}"))
    try:
        with (
            opening.open_root(run.root) as root,
            opening.open_run(root, run.run_path) as opened,
            opening.reader_for(run.root) as readers,
            _guarded(opened),
        ):
            last_checks.expect_no_writer(opened)
            _lay_marker(opened, run)
            prepared = _compare_and_prepare(attempt, run, opened, readers.of(run), policy, now)
            _commit(attempt, run, opened, prepared)
            settlement.roll_forward(attempt, opened, prepared.plan, now=timezone.now())
    except Unreachable as error:
        raise Refused(error.finding) from None


def _compare_and_prepare(
    attempt: ClearAttempt, run: Run, opened: OpenRun, reader: Reader, policy: Policy, now: datetime
) -> Prepared:
    # A doubt about the first proof repeats all of it, with every byte read again.
    with contextlib.suppress(Doubted):
        return _fence_and_prepare(attempt, run, opened, reader, _pass_gates(attempt, run, opened, reader, policy, now))
    policy = replace(policy, proof=ProofLevel.CHECKSUM)  # names and sizes settle no doubt about bytes
    return _fence_and_prepare(
        attempt, run, opened, reader, _pass_gates(attempt, run, opened, reader, policy, now, anew=True)
    )


def _lay_marker(opened: OpenRun, run: Run) -> None:
    # The staging root must carry its marker before the NAS is searched for it.
    if finding := laid_markers.lay(opened.root, run.root.token):
        raise Refused(finding)


@contextlib.contextmanager
def _guarded(opened: OpenRun) -> Iterator[None]:
    """Hold the run's flock against other clears; no lab program takes it."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(handles.flocked(opened.run))
        except BlockingIOError:
            raise Refused(Finding(Reason.WRITER_ACTIVE, "the run's directory is locked")) from None
        except OSError as error:
            raise Refused(errors.way_blocked(error)) from None
        yield


def _pass_gates(
    attempt: ClearAttempt,
    run: Run,
    opened: OpenRun,
    reader: Reader,
    policy: Policy,
    now: datetime,
    *,
    anew: bool = False,
) -> Look:
    """Pass all gates on fresh facts; `anew`: no earlier proof counts. Raises Refused."""
    operator = attempt.requester == Requester.OPERATOR
    try:
        progress = work_progress.of_proof(attempt)
        with resuming.RunDigests(run) as so_far:
            look, decision = inspection.look(
                run, opened, reader, policy, now, operator=operator, anew=anew, progress=progress, so_far=so_far
            )
    except OSError as error:
        raise Refused(Finding(Reason.STAGING_IO_ERROR, os.strerror(error.errno or 0))) from None
    # The folder now at this path may be like a run under a hold; the commit asks for that.
    likenesses.note(run, look.facts, likenesses.KnownRuns(), now=now)
    attempt.decision = decisions.decision_as_json(decision)
    attempt.policy_version = policy.version
    proof = look.facts.proof
    if look.read is not None and look.scan is not None and (look.differs or look.read.proof.findings):
        differences.keep(run, look.read, look.scan, look.listed, now=look.since or now, until=timezone.now())
    refusal = decision.main_refusal(operator=operator)
    if look.facts.accepts and not (operator and attempt.actor):
        raise Refused(Finding(Reason.ACCEPTED_BYTES, "no person has asked for this clear by name"))
    attempt.proof = None  # this look replaces the doubted proof of an earlier try
    attempt.nas_flags, attempt.twin_path = nas_flags(run.root), twin_of(run).full_path
    if refusal is not None or not look.facts.fresh or look.scan is None or proof is None:
        raise Refused(decisions.as_finding(refusal))
    level = proof.level if proof.level is ProofLevel.CHECKSUM else policy.proof
    attempt.proof = look.reused or proofs.made(run, proof, level, look.evidence, look.since or now)
    return look


def _decided(attempt: ClearAttempt) -> dict[str, Any]:
    """What a look has decided of an attempt; with the plan, or with the refusal, it is written down."""
    if attempt.proof is not None and attempt.proof.pk is None:
        attempt.proof.save()
        attempt.proof = attempt.proof  # takes over its key
    return {name: getattr(attempt, name) for name in _DECIDED}


def _fence_and_prepare(attempt: ClearAttempt, run: Run, opened: OpenRun, reader: Reader, look: Look) -> Prepared:
    """Raises Refused with everything put back."""
    assert look.scan is not None  # noqa: S101
    name = attempt.pk.hex
    scan = look.scan
    plan = Plan(name, run.run_path, scan.ino, scan.entries, scan.modified_ns)
    del scan
    try:
        preparation.keep_plan(attempt, plan, decided=lambda: _decided(attempt))
    except (OSError, Refused) as error:
        with contextlib.suppress(OSError):
            opening.data_dir().discard(name)
        if isinstance(error, Refused):
            attempt.proof = None  # rolled back with the plan's name
            raise
        raise Refused(Finding(Reason.STORAGE_ERROR, os.strerror(error.errno or 0))) from None
    try:
        last_checks.expect_no_writer(opened)  # the comparison took hours
        last_checks.expect_no_own_storage(opened)
        fences.fence(opened.parent, os.fsencode(run.leaf), fences.fence_name(name))
        last_checks.expect_own_fence(opened, plan)  # the comparison took hours, and the fence went by name
        plan = preparation.with_locks_as_found(attempt, opened, plan)
        record, entry = returned.with_cleared(run, look.form, look.record, at=timezone.now(), host=settings.EXLAB_HOST)
        preparation.prepare(attempt, run, opened, look, record)
        look = replace(look, listed=None)  # the manifest of a large run takes room beside two listings of the NAS
        last_checks.expect_another_place(attempt, opened, look, reader)
        # Last before the commit, so that a change until now still stops the clear. The NAS first: it may be slow, and
        # the staged run can be written to meanwhile.
        last_checks.expect_twin(attempt, opened, look, reader)
        del look  # the next scan needs the room of the NAS listing
        last_checks.expect_planned(run, opened, plan)
    except OSError as error:
        _undo(attempt, run, opened.parent)
        raise Refused(preparation.not_written(error)) from None
    except Refused:
        _undo(attempt, run, opened.parent)
        raise
    return Prepared(plan, entry)


def _commit(attempt: ClearAttempt, run: Run, opened: OpenRun, prepared: Prepared) -> None:
    """The point of no return. Raises Refused with everything put back."""
    try:
        with book.writing():
            _write_commit(attempt, run, prepared, timezone.now())
    except Refused:
        _undo(attempt, run, opened.parent)
        raise
    except DjangoDatabaseError as error:
        # The commit may be durable or not: a new connection tells. If that fails too, the error rises and recovery
        # decides.
        connection.close()
        settlement.settle_phase(attempt)
        if attempt.phase != Phase.COMMITTED:
            _undo(attempt, run, opened.parent)
            raise Refused(Finding(Reason.DATABASE_ERROR, lock_waits.say(error) or type(error).__name__)) from error


def _write_commit(attempt: ClearAttempt, run: Run, prepared: Prepared, now: datetime) -> None:
    entry = prepared.entry
    verified = Run.objects.filter(pk=run.pk, state=State.SYNC_VERIFIED, gone_at=None)
    # A run that came back may have the entry of its former clear.
    cleared_at = now if run.returned_at else ingest.parse_instant(entry["at"])
    cleared = verified.update(
        state=State.CLEARED, cleared_at=cleared_at, cleared_for=attempt.actor, doubts=F("doubts") + 1
    )
    if not cleared or not attempt.advance_alone([Phase.INTENT], Phase.COMMITTED, now=now, prepared=attempt.prepared):
        raise DatabaseError("the run or its attempt was changed by another worker or person")
    # The update above locks the run's row, as laying a hold does, so none comes between. A hold file's row is only what
    # discovery saw; the fenced run has just been checked.
    holds = keeping_holds.holding(run, Hold.objects.in_force(now))
    differs = Difference.objects.filter(run=run)
    is_held, is_different, known = (
        Run.objects.filter(pk=run.pk).values_list(Exists(holds), Exists(differs), count_of_events()).get()
    )
    if is_held and (hold := holds.first()):
        raise Refused(Finding(Reason.HELD, keeping_holds.said(hold, run)))
    # One that was known before was read again, and forgotten.
    if is_different and not (attempt.proof and attempt.proof.accepted_id):
        raise Refused(Finding(Reason.NOT_COMPARED, "a difference was found while it was cleared"))
    if attempt.proof and attempt.proof.accepted_id and not accepted_bytes.may_go(attempt.proof.accepted_id):
        raise Refused(Finding(Reason.ACCEPTANCE_VOID, "it was withdrawn while the run was cleared"))
    IngestEvent.objects.create(
        run=run,
        position=known,
        state=State.CLEARED,
        at=ingest.parse_instant(entry["at"]),
        at_text=entry["at"],
        host=entry["host"],
        digest=ingest.digest(entry),
        first_seen_at=now,
    )
    entries.write_ledger(attempt, LedgerKind.AUTHORISED, now, files=attempt.planned_files, bytes=attempt.planned_bytes)


def _undo(attempt: ClearAttempt, run: Run, parent: int) -> None:
    """Raises Refused as `conflict` where the path is occupied, as `intent` where a shell there is locked."""
    try:
        settlement.roll_back(attempt, run, parent=parent)
    except FileExistsError:
        raise Refused(settlement.occupied(attempt), Phase.CONFLICT) from None
    except BlockingIOError as error:
        raise Refused(Finding(Reason.WRITER_ACTIVE, error.strerror or ""), Phase.INTENT) from None
