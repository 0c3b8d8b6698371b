"""The clear of one run: claim, gates, plan, fence, re-scan, record, commit, publish, remove, finish.

Everything before the commit is undone by `roll_back`, everything after it completed by `roll_forward`; recovery calls
the same two after a crash. The order of the steps is what keeps the promises, so none of them is optional:

1. the run's lock is held from the claim to the end and dies with the process;
2. nothing is removed before the commit has recorded it, durably, in one transaction;
3. what is removed is what the plan holds, compared with it once more just before.
"""

import contextlib
import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db import Error as DjangoDatabaseError
from django.db.models import F
from django.utils import timezone

from cleanup.clears import again, conflicts, freed, queue, record_inside, second_look
from cleanup.lab import disk_usage, lock_waits, markers, opening
from cleanup.lab.nas import Reader, nas_flags, twin_of
from cleanup.lab.opening import OpenRun, Unreachable
from cleanup.models import (
    ClearAttempt,
    Hold,
    IngestEvent,
    LedgerEntry,
    LedgerKind,
    Phase,
    Requester,
    RetentionPolicy,
    Run,
    Sweep,
    SweepBreaker,
)
from cleanup.rules.decisions import Decision, GateResult
from cleanup.rules.effective import effective_policy, sources_as_json
from cleanup.rules.facts import Finding
from cleanup.rules.gates import BY_HOLD_FILE
from cleanup.rules.policy import Policy, ProofLevel
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs import (
    accepted,
    differences,
    findings,
    held,
    identity,
    inspection,
    likenesses,
    proofs,
    returned,
    slow_twins,
)
from cleanup.runs.inspection import Look
from cleanup.runs.shells import move_shell_aside
from cleanup.storage import errors, handles, linux, record_locks, reserve, run_paths, shells
from cleanup.storage.datadir import TombstoneError
from cleanup.storage.freed_space import Gain
from cleanup.storage.run_paths import show
from cleanup.storage.staging import fences, ingest, own_storage, removal, run_tree
from cleanup.storage.staging.plan import Plan, PlanError, encode

logger = logging.getLogger(__name__)

# A refused gate is no failure. These are: the clear was allowed and could not be carried out.
FAILURES = frozenset({Reason.STORAGE_ERROR, Reason.DATABASE_ERROR})
# A row is written for progress at most this often, outside every transaction of the protocol.
_PROGRESS_SECONDS = 1.0
# A wizard that makes one shell after the other is told as a conflict.
_SHELLS_PASSED = 3
# What an attempt has freed so far, which another process may have changed.
FREED = (
    "freed_files",
    "freed_bytes",
    "freed_allocated_bytes",
    "measured_bytes",
    "unmeasured",
    "disk_free_before",
)


class Refused(Exception):
    """The clear does not happen; `finding` says why. Nothing has been changed on disk, or it has been put back.

    With the phase `conflict` it could not be put back: something else lies at the run's path, and the run in its fence.
    With `intent` it could not be put back yet, and recovery does that.
    """

    def __init__(self, finding: Finding, phase: Phase = Phase.REFUSED) -> None:
        super().__init__(f"{finding.reason}: {finding.detail}")
        self.finding = finding
        self.phase = phase


class Doubted(Refused):
    """Files on the NAS may hold other bytes, though size and time are as before: all are to be compared once more."""


@dataclass(frozen=True)
class Prepared:
    """What was made ready before the commit: the plan, the record to publish and the entry that it got."""

    plan: Plan
    entry: dict[str, Any]


def clear_run(
    run: Run, *, now: datetime, actor: str = "", note: str = "", requester: Requester = Requester.OPERATOR
) -> tuple[int, int]:
    """Clear one run and return (file_count, bytes_freed), as ExLab-Wizard's function of this name does.

    Every file counts, the metadata folder included. A run that is cleared already, or whose directory is gone, returns
    (0, 0) and gets no history entry; the record precedes the removal. Unlike the wizard's it asks every gate first and
    raises Refused if one does not pass, and it counts what was really removed.
    """
    run.refresh_from_db(fields=["state"])
    if run.state == State.CLEARED:
        return 0, 0
    if run.root.host != settings.EXLAB_HOST:
        raise Refused(Finding(Reason.ROOT_NOT_MOUNTED, f"it belongs to host {run.root.host}"))
    try:
        attempt = attempt_now(run, requester=requester, actor=actor, note=note, now=now)
    except queue.AlreadyClearing:
        raise Refused(Finding(Reason.ALREADY_CLEARING)) from None
    if attempt.phase == Phase.REFUSED and attempt.reason == Reason.MISSING_DIRECTORY:
        return 0, 0
    if attempt.phase != Phase.DONE:
        raise Refused(Finding(Reason(attempt.reason or Reason.ALREADY_CLEARING), attempt.detail))
    return attempt.freed_files, attempt.freed_bytes


def attempt_now(
    run: Run,
    *,
    requester: Requester,
    actor: str,
    note: str = "",
    cause: str = "",
    now: datetime,
    policy: Policy | None = None,
    sweep: Sweep | None = None,
    let_go: SweepBreaker | None = None,
) -> ClearAttempt:
    """Make an attempt and carry it out in this process, without the queue. Raises AlreadyClearing.

    `policy` is the one that a `sweep` began with, `cause` why its schedule takes the run, `let_go` the breaker after
    which a person let it go.
    """
    # A sweep decides by the instant at which it began, and that may be hours ago; its attempts are made now.
    made = queue.new_attempt(
        run,
        requester=requester,
        actor=actor,
        note=note,
        cause=cause,
        now=timezone.now(),
        policy=policy,
        sweep=sweep,
        let_go=let_go,
    )
    attempt = perform(made, now=now, policy=policy)
    if attempt.phase == Phase.QUEUED:  # somebody else holds the run's lock, and no task will come back to it
        finish_without_clear(attempt, Phase.REFUSED, Finding(Reason.ALREADY_CLEARING), now=now)
    return attempt


def perform(attempt: ClearAttempt, *, now: datetime, policy: Policy | None = None) -> ClearAttempt:
    """Carry out a `queued` attempt of this host by the policy given, else by the one in force; returns it as it ended.

    An attempt that somebody else holds or has finished is returned as it stands: a task may be delivered twice.
    """
    if attempt.host != settings.EXLAB_HOST or not attempt.is_clear:
        return attempt
    with contextlib.ExitStack() as stack:
        try:
            opening.data_dir().relieve()
            free = stack.enter_context(opening.data_dir().lock(str(attempt.run_id)))
        except OSError as error:  # the data directory cannot be written
            finding = _not_written(error)
            finish_without_clear(attempt, Phase.REFUSED, finding, now=timezone.now(), failed=False)
            return attempt
        if free and _claim(attempt):
            try:
                _clear(attempt, now, policy)
            except Refused as refused:
                if refused.phase == Phase.INTENT:
                    tell_of_wait(attempt, refused.finding)
                else:
                    finish_without_clear(attempt, refused.phase, refused.finding, now=timezone.now())
        attempt.refresh_from_db()
        return attempt


def _claim(attempt: ClearAttempt) -> bool:
    # Durable: a caller inside a transaction of its own would make every later promise void, and fails here.
    with transaction.atomic(durable=True):
        return queue.may_begin(attempt) and attempt.advance([Phase.QUEUED], Phase.INTENT, now=timezone.now())


def _clear(attempt: ClearAttempt, now: datetime, policy: Policy | None) -> None:
    run = Run.objects.with_root().get(pk=attempt.run_id)
    attempt.run = run
    if withdrawn := again.withdrawn(attempt):
        raise Refused(withdrawn, Phase.ABORTED)
    policy = policy or _policy_for(attempt, run)
    attempt.decided_by = sources_as_json(policy)
    if run.gone_at is not None:
        raise Refused(Finding(Reason.IDENTITY_MISMATCH, "it was declared gone"))
    if conflict := identity.standing_conflict(run):
        raise Refused(conflict)
    if missing := linux.missing_calls():  # without them not even the root can be opened
        raise Refused(Finding(Reason.CLEARING_UNSUPPORTED, f"missing: {', '.join(missing)}"))
    try:
        with (
            opening.open_root(run.root) as root,
            opening.open_run(root, run.run_path) as opened,
            opening.reader_for(run.root) as readers,
            _guarded(opened),
        ):
            _expect_no_writer(opened)
            _lay_marker(opened, run)
            prepared = _compare_and_prepare(attempt, run, opened, readers.of(run), policy, now)
            _commit(attempt, run, opened, prepared)
            roll_forward(attempt, opened, prepared.plan, now=timezone.now())
    except Unreachable as error:
        raise Refused(error.finding) from None


def _compare_and_prepare(
    attempt: ClearAttempt, run: Run, opened: OpenRun, reader: Reader, policy: Policy, now: datetime
) -> Prepared:
    """Gates, fence and record; all of it once more, with every byte read anew, where the first try ends in a doubt."""
    with contextlib.suppress(Doubted):
        return _fence_and_prepare(attempt, run, opened, reader, _pass_gates(attempt, run, opened, reader, policy, now))
    policy = replace(policy, proof=ProofLevel.CHECKSUM)  # by names and sizes no doubt of bytes is settled
    return _fence_and_prepare(
        attempt, run, opened, reader, _pass_gates(attempt, run, opened, reader, policy, now, anew=True)
    )


def _lay_marker(opened: OpenRun, run: Run) -> None:
    """The staging root must carry its marker before the NAS is asked for it. Raises Refused."""
    if finding := markers.lay(opened.root, run.root.token):
        raise Refused(finding)


def _policy_for(attempt: ClearAttempt, run: Run) -> Policy:
    """The policy in force, with no weaker a proof than that of the policy under which the clear was asked for.

    An attempt may have waited for days, in a batch that was paused; what a person was told of the proof still holds.
    """
    policy = RetentionPolicy.objects.effective_for(run).in_earnest()
    asked = effective_policy(RetentionPolicy.objects.scoped(as_of=attempt.promised_version), run.scope)
    return policy.with_proof_of(asked) if asked.proof.strength > policy.proof.strength else policy


@contextlib.contextmanager
def _guarded(opened: OpenRun) -> Iterator[None]:
    """Hold the run's own flock, by which other clears tell that one is at it; no program of the lab takes it."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(handles.flocked(opened.run))
        except BlockingIOError:
            raise Refused(Finding(Reason.WRITER_ACTIVE, "the run's directory is locked")) from None
        except OSError as error:
            raise Refused(errors.way_blocked(error)) from None
        yield


def _expect_no_writer(opened: OpenRun) -> None:
    """No program may be in the middle of the run's records. Raises Refused.

    The wizard's locks are asked for, never kept: a wizard that waits for one while every byte is read stands still for
    hours, and one that waits across the rename makes the run's folder anew.
    """
    try:
        held = record_locks.held_lock(opened.run, patience_seconds=record_locks.PATIENCE_SECONDS)
    except OSError as error:
        raise Refused(errors.way_blocked(error)) from None
    if held is not None:
        raise Refused(Finding(Reason.WRITER_ACTIVE, f"a program holds {show(held)}"))


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
    """All gates on fresh facts; the decision and the proof are kept with the attempt. Raises Refused.

    `anew`: no earlier proof will do.
    """
    operator = attempt.requester == Requester.OPERATOR
    try:
        look, decision = inspection.look(
            run, opened, reader, policy, now, operator=operator, anew=anew, progress=_progress_of_proof(attempt)
        )
    except OSError as error:
        raise Refused(Finding(Reason.STAGING_IO_ERROR, os.strerror(error.errno or 0))) from None
    # What has come to this path since discovery may be a run that a person holds: the commit asks for that.
    likenesses.note(run, look.facts, likenesses.KnownRuns(), now=now)
    attempt.decision = decision_as_json(decision)
    attempt.policy_version = policy.version
    proof = look.facts.proof
    if look.read is not None and look.scan is not None:
        differences.keep(run, look.read, look.scan, look.listed, now=now, until=timezone.now())
    refusal = decision.main_refusal(operator=operator)
    if look.facts.accepts and not (operator and attempt.actor):
        raise Refused(Finding(Reason.ACCEPTED_BYTES, "no person has asked for this clear by name"))
    attempt.proof = None  # of an earlier try, whose doubt this look is to settle: it counts no more
    if refusal is None and look.facts.fresh and look.scan is not None and proof is not None:
        level = proof.level if proof.level is ProofLevel.CHECKSUM else policy.proof
        attempt.proof = look.reused or proofs.keep(run, proof, level, look.evidence, now)
    attempt.nas_flags, attempt.twin_path = nas_flags(run.root), twin_of(run).full_path
    attempt.save(update_fields=["decision", "policy_version", "decided_by", "proof", "nas_flags", "twin_path"])
    if attempt.proof is None or look.scan is None:
        raise Refused(_as_finding(refusal))
    return look


def _as_finding(refusal: GateResult | None) -> Finding:
    if refusal is None or refusal.reason is None:
        return Finding(Reason.NOT_COMPARED)
    return Finding(refusal.reason, refusal.detail)


def _fence_and_prepare(attempt: ClearAttempt, run: Run, opened: OpenRun, reader: Reader, look: Look) -> Prepared:
    """Steps 3 to 6: plan, fence, record and tombstone, one more look. Raises Refused with everything put back."""
    assert look.scan is not None  # noqa: S101
    name = attempt.pk.hex
    scan = look.scan
    plan = Plan(name, run.run_path, scan.ino, scan.entries, scan.modified_ns)
    del scan
    data = encode(plan)
    try:
        _keep_plan(attempt, plan, data)
    except (OSError, Refused) as error:
        with contextlib.suppress(OSError):
            opening.data_dir().discard(name)
        if isinstance(error, Refused):
            raise
        raise Refused(Finding(Reason.STORAGE_ERROR, os.strerror(error.errno or 0))) from None
    del data  # of a hundred thousand files it takes room
    try:
        _expect_no_writer(opened)  # comparing took hours
        _expect_no_own_storage(opened)
        fences.fence(opened.parent, _leaf(run), fences.fence_name(name))
        _expect_own_fence(opened, plan)  # comparing took hours, and the run was fenced by its name
        plan = _with_locks_as_found(attempt, opened, plan)
        record, entry = returned.with_cleared(run, look.form, look.record, at=timezone.now(), host=settings.EXLAB_HOST)
        _prepare(attempt, run, opened, look, record)
        look = replace(look, listed=None)  # the manifest of a large run takes room beside two listings of the NAS
        _expect_another_place(attempt, opened, look, reader)
        # The last thing before the commit, so that whatever changed until now still stops the clear. The NAS first:
        # it may take its time, and the staged run can be written to meanwhile.
        _expect_twin(attempt, opened, look, reader)
        del look  # what the NAS listed of a hundred thousand files takes room that the next scan needs
        _expect_planned(run, opened, plan)
    except OSError as error:
        _undo(attempt, run, opened.parent)
        raise Refused(_not_written(error)) from None
    except Refused:
        _undo(attempt, run, opened.parent)
        raise
    return Prepared(plan, entry)


def _keep_plan(attempt: ClearAttempt, plan: Plan, data: bytes) -> None:
    """Write a plan, encoded as `data`, and name it durably in the attempt with its counts. Raises OSError, Refused."""
    counted = run_tree.count(plan.entries)
    opening.data_dir().write_plan(plan.attempt, data)
    fields = {
        "plan_sha256": hashlib.sha256(data).hexdigest(),
        "planned_files": counted.files,
        "planned_bytes": counted.bytes,
    }
    if not attempt.advance([Phase.INTENT], Phase.INTENT, now=timezone.now(), **fields):
        raise Refused(Finding(Reason.INTERRUPTED))


def _with_locks_as_found(attempt: ClearAttempt, opened: OpenRun, plan: Plan) -> Plan:
    """The plan with the wizard's locks as they lie in the fence: they may have come or gone while bytes were read.

    A crash before the attempt names the new plan is no harm: before the commit nothing is removed by either.
    """
    found = run_tree.locks(opened.run)
    if {entry.path for entry in found} == {entry.path for entry in plan.entries if run_tree.is_lock(entry)}:
        return plan
    others = [entry for entry in plan.entries if not run_tree.is_lock(entry)]
    settled = replace(plan, entries=(*others, *found))
    _keep_plan(attempt, settled, encode(settled))
    return settled


def _expect_no_own_storage(opened: OpenRun) -> None:
    """After the commit the record must be renamed into the run. Raises Refused, OSError."""
    if problem := own_storage.objection(opened.parent, opened.run):
        raise Refused(Finding(Reason(problem.reason), problem.detail))


def _not_written(error: OSError) -> Finding:
    """Why fence, record or tombstone could not be made."""
    if error.errno == errno.EXDEV:
        return Finding(Reason.OWN_STORAGE, "the filesystem does not rename it within its folder")
    if error.errno in (errno.EINVAL, errno.ENOSYS):
        return Finding(Reason.CLEARING_UNSUPPORTED, "this filesystem cannot rename without replacing")
    return Finding(Reason.STORAGE_ERROR, os.strerror(error.errno or 0))


def _expect_own_fence(opened: OpenRun, plan: Plan) -> None:
    """Under the fence's name must lie the directory that was compared, not another one. Raises Refused."""
    if linux.status(opened.parent, fences.fence_name(plan.attempt)).ino != plan.ino:
        raise Refused(Finding(Reason.IDENTITY_MISMATCH, "it was replaced while it was compared"))


def _expect_planned(run: Run, opened: OpenRun, plan: Plan) -> None:
    """The fenced tree must equal the plan, and nobody may write in it. Raises Refused."""
    found = run_tree.scan(opened.run)
    if found.is_held:
        raise Refused(Finding(Reason.HELD, f"{BY_HOLD_FILE}, laid while it was cleared"))
    changes = [problem.detail for problem in found.problems] + run_tree.differences(
        plan.entries, found.entries, strict=True
    )
    if changes or found.ino != plan.ino:
        raise Refused(Finding(Reason.CHANGED_SINCE_VERIFICATION, "while it was cleared: " + proofs.name_some(changes)))
    _expect_no_writer(opened)
    busy = findings.find_writers(found, [_leaf(run), fences.fence_name(plan.attempt)])
    if busy:
        raise Refused(busy[0])
    _expect_own_fence(opened, plan)
    _expect_in_place(run, opened, plan)


def _expect_in_place(run: Run, opened: OpenRun, plan: Plan) -> None:
    """The folders above the run must still be those of its path: somebody may have put all of them elsewhere."""
    try:
        with (
            opening.open_root(run.root) as root,
            opening.open_run(root, run.run_path, name=fences.fence_name(plan.attempt)) as found,
        ):
            if os.path.samestat(os.fstat(found.run), os.fstat(opened.run)):
                return
    except Unreachable as error:
        raise Refused(error.finding) from None
    raise Refused(Finding(Reason.IDENTITY_MISMATCH, "another directory lies at its path"))


def _expect_twin(attempt: ClearAttempt, opened: OpenRun, look: Look, reader: Reader) -> None:
    """The NAS must still hold what the proof saw there, as far as a listing tells. Raises Refused."""
    assert attempt.proof is not None and look.scan is not None  # noqa: S101
    if attempt.proof.level == ProofLevel.RECORD:
        return
    if look.listing is None:
        raise Refused(Finding(Reason.NOT_COMPARED))
    files = look.scan.data_files
    changed = proofs.changed_on_nas(attempt.run, look.listing, files, reader, staging=opened.root)
    if isinstance(changed, proofs.Renumbered):
        _expect_same_bytes(attempt, opened, changed, files, reader)
    elif changed is not None:
        raise Refused(changed)


def _expect_same_bytes(
    attempt: ClearAttempt, opened: OpenRun, found: proofs.Renumbered, files: list[run_tree.Entry], reader: Reader
) -> None:
    """Files with another ctime, or another number where none is kept, must hold what they held. Raises Doubted."""
    if found.rewritten:
        names = proofs.name_some(list(found.rewritten))
        raise Doubted(Finding(Reason.NOT_COMPARED, f"perhaps written anew on the NAS since it was compared: {names}"))
    renumbered = [entry for entry in files if entry.path in found.paths]
    if finding := second_look.compare_blocks(attempt, opened, reader, renumbered):
        raise Doubted(finding)


def _expect_another_place(attempt: ClearAttempt, opened: OpenRun, look: Look, reader: Reader) -> None:
    """What lies on the NAS must not be the fenced run under another name. Raises Refused, OSError."""
    assert attempt.proof is not None and look.scan is not None  # noqa: S101
    if attempt.proof.level == ProofLevel.RECORD:
        return  # nothing is asked of the NAS, as page and receipt say
    found = second_look.ask(attempt, opened, reader, look.scan.data_files)
    if found is not None:
        raise Refused(found)


def _prepare(attempt: ClearAttempt, run: Run, opened: OpenRun, look: Look, record: bytes) -> None:
    """The new record beside the fence and the tombstone in the data directory, both durable."""
    name, file = attempt.pk.hex, look.form.file
    like = os.stat(fences.record_path(file), dir_fd=opened.run, follow_symlinks=False)
    prepared = reserve.with_reserve(
        opened.root, lambda: fences.prepare_record(opened.parent, fences.prepared_name(name), record, like, file)
    )
    story = {
        "attempt": name,
        "run_path": run.run_path,
        "staging_root": run.root.name,
        "host": settings.EXLAB_HOST,
        "actor": attempt.actor,
        "plan_sha256": attempt.plan_sha256,
        "files": attempt.planned_files,
        "bytes": attempt.planned_bytes,
        "proof": attempt.proof.kind if attempt.proof else "",
        "manifest_sha256": attempt.proof.manifest_sha256 if attempt.proof else "",
        "twin": attempt.twin_path,
        "nas_flags": attempt.nas_flags,
        "only_here": attempt.only_here,
        # The rename has set it by the filesystem's own clock: what lies at the run's path now was not born before.
        "fenced_ns": linux.status(opened.run).ctime_ns,
    }
    opening.data_dir().write_tombstone(
        name,
        opened.run,
        story,
        record,
        file=file.decode(),
        digests=_digests_of(look) if look.by_signature or look.facts.accepts else None,
        desktop=look.scan.desktop if look.scan is not None else (),
    )
    attempt.prepared = prepared
    attempt.save(update_fields=["prepared"])


def _digests_of(look: Look) -> dict[bytes, bytes]:
    """What the bytes of the run's files were read to be, where no manifest says that; nothing without such a proof."""
    if look.scan is None or look.listing is None:
        return {}
    twins = {entry.path: look.listing.files.get(entry.path) for entry in look.scan.data_files}
    return {path: twin.digest for path, twin in twins.items() if twin and twin.digest}


def _commit(attempt: ClearAttempt, run: Run, opened: OpenRun, prepared: Prepared) -> None:
    """The single point of no return, in one durable transaction. Raises Refused with everything put back.

    An error here may come before or after the database has made the transaction durable, so the attempt is read again
    on a new connection; if even that fails, the error rises and recovery decides later.
    """
    try:
        with transaction.atomic(durable=True):
            _write_commit(attempt, run, prepared, timezone.now())
    except Refused:
        _undo(attempt, run, opened.parent)
        raise
    except DjangoDatabaseError as error:
        connection.close()
        settle_phase(attempt)
        if attempt.phase != Phase.COMMITTED:
            _undo(attempt, run, opened.parent)
            raise Refused(Finding(Reason.DATABASE_ERROR, lock_waits.say(error) or type(error).__name__)) from error


def settle_phase(attempt: ClearAttempt, *more: str) -> None:
    """Read an attempt's phase, and `more` fields, when no transaction can change it any more.

    A PostgreSQL server goes on with a commit whose client is gone: until that has ended, the row stays locked, and
    without waiting for the lock it would be read as if nothing had been committed.
    """
    with transaction.atomic():
        attempt.refresh_from_db(fields=["phase", *more], from_queryset=ClearAttempt.objects.select_for_update())


def _write_commit(attempt: ClearAttempt, run: Run, prepared: Prepared, now: datetime) -> None:
    entry = prepared.entry
    verified = Run.objects.filter(pk=run.pk, state=State.SYNC_VERIFIED, gone_at=None)
    # Of a run that came back the entry may be the one of its former clear.
    cleared_at = now if run.returned_at else ingest.parse_instant(entry["at"])
    cleared = verified.update(state=State.CLEARED, cleared_at=cleared_at)
    if not cleared or not attempt.advance([Phase.INTENT], Phase.COMMITTED, now=now):
        raise DatabaseError("the run or its attempt was changed by somebody else")
    # Whoever lays a hold locks the run's row first, as the update above does: so no hold can be laid in between.
    # Of a hold file the row only tells what discovery saw; the fenced run itself has just been asked.
    if hold := held.holding(run, Hold.objects.in_force(now)).first():
        raise Refused(Finding(Reason.HELD, held.said(hold, run)))
    if attempt.proof and attempt.proof.accepted_id and not accepted.may_go(attempt.proof.accepted_id):
        raise Refused(Finding(Reason.ACCEPTANCE_VOID, "it was withdrawn while the run was cleared"))
    IngestEvent.objects.create(
        run=run,
        position=run.events.count(),
        state=State.CLEARED,
        at=ingest.parse_instant(entry["at"]),
        at_text=entry["at"],
        host=entry["host"],
        digest=ingest.digest(entry),
        first_seen_at=now,
    )
    write_ledger(attempt, LedgerKind.AUTHORISED, now, files=attempt.planned_files, bytes=attempt.planned_bytes)


def _undo(attempt: ClearAttempt, run: Run, parent: int) -> None:
    """Roll back. Raises Refused where something else has taken the run's path.

    That is a conflict; only where a program holds its lock in a shell there the attempt stays `intent` for recovery.
    """
    try:
        roll_back(attempt, run, parent=parent)
    except FileExistsError:
        raise Refused(occupied(attempt), Phase.CONFLICT) from None
    except BlockingIOError as error:
        raise Refused(Finding(Reason.WRITER_ACTIVE, error.strerror or ""), Phase.INTENT) from None


def occupied(attempt: ClearAttempt) -> Finding:
    """Nothing is lost: the run is whole under the fence's name, and a person has to say which one is right."""
    return identity.conflict_of(attempt.pk)


def tell_of_wait(attempt: ClearAttempt, finding: Finding) -> None:
    """Let the pages say what an interrupted attempt waits for; one that is done has told its own story."""
    said = " ".join(part for part in (finding.reason.sentence, finding.detail) if part)
    unfinished = ClearAttempt.objects.filter(pk=attempt.pk, phase__in=[Phase.INTENT, Phase.COMMITTED])
    unfinished.exclude(detail=said).update(detail=said)


def roll_back(attempt: ClearAttempt, run: Run, *, parent: int | None = None) -> None:
    """Undo whatever an uncommitted attempt did on disk: the run stands at its path again. Twice is harmless.

    A shell that the wizard has made at the run's path is moved aside and kept; `attempt.shells` names it.

    `parent` is the folder that holds the run as it was opened for the clear, wherever it lies by now; without it the
    folder is looked up by its path. Raises Unreachable, FileNotFoundError when that folder is gone, perhaps moved with
    the fence in it, or FileExistsError when something else lies at the run's path; the fence is then left as it is. So
    it is while a program holds its lock in a shell there: BlockingIOError.
    """
    unsure = parent is None or attempt.challenging  # a crash, or an error, may have come amid a challenge
    with contextlib.ExitStack() as stack:
        if parent is None:
            root = stack.enter_context(opening.open_root(run.root))
            path = run_paths.parse_run_path(run.run_path)
            parent = stack.enter_context(handles.opened(handles.open_beneath(root, path.parent)))
        fences.discard_prepared(parent, fences.prepared_name(attempt.pk.hex))
        for name in (fences.fence_name(attempt.pk.hex), _leaf(run)):
            fences.discard_challenge_in(parent, name, fences.challenge_name(attempt.pk.hex))
            if unsure:
                _give_time_back(attempt, parent, name)
        try:
            _put_back(attempt, run, parent)
        except FileNotFoundError:
            os.fsync(parent)  # it is back already, but whoever did it may have died before this
        attempt.shells = tuple(show(name) for name in shells.kept_aside(parent, attempt.pk.hex))
    opening.data_dir().discard(attempt.pk.hex)


def _give_time_back(attempt: ClearAttempt, parent: int, name: bytes) -> None:
    """Give the run the time that it had, where a crash came between a challenge and that. Without a plan nothing is."""
    with contextlib.suppress(PlanError):
        plan = opening.data_dir().read_plan(attempt.pk.hex, attempt.plan_sha256)
        if plan.modified_ns is not None:
            fences.give_time_back(parent, name, plan.ino, plan.names, plan.modified_ns)


def _put_back(attempt: ClearAttempt, run: Run, parent: int) -> None:
    """Rename the fence back to the run, past a shell or two. Raises as `roll_back`."""
    fence = fences.fence_name(attempt.pk.hex)
    for _ in range(_SHELLS_PASSED):
        with contextlib.suppress(FileExistsError):
            return fences.put_back(parent, fence, _leaf(run))
        move_shell_aside(attempt, run, parent)
    return fences.put_back(parent, fence, _leaf(run))


def roll_forward(
    attempt: ClearAttempt, opened: OpenRun, plan: Plan, *, now: datetime, interrupted: bool = False
) -> None:
    """Complete a committed attempt whose fence is open as `opened.run`: publish, remove, finish. Twice is harmless.

    `interrupted`: an earlier process may have removed a part of it. Raises Unreachable where the record that was to be
    published cannot be found: nothing is removed then.
    """
    name = attempt.pk.hex
    fence = fences.fence_name(name)
    fences.discard_challenge(opened.run, fences.challenge_name(name))  # a power failure may have brought it back
    record_inside.publish(attempt, opened)
    if not removal.may_be_emptied(opened.run, attempt.prepared):
        raise Unreachable(Finding(Reason.INGEST_DISAGREES, "the record of the clear is not in its place"))
    with freed.watching(attempt, opened, plan, interrupted=interrupted) as watch:
        removed = removal.remove(
            opened.parent,
            fence,
            opened.run,
            plan.entries,
            record=attempt.prepared,
            proven=_proven(attempt),
            progress=watch.beside(_progress_of_removal(attempt)),
            before_the_record=lambda: _mark_emptied(attempt, plan),
        )
        os.fsync(opened.parent)
        gain = watch.gain(removed)
    reserve.renew_reserve(opened.root)
    finish(attempt, removed, now, gain)
    disk_usage.note(attempt.run.root, opened.root, timezone.now())


def _mark_emptied(attempt: ClearAttempt, plan: Plan) -> None:
    """Durably, before the record goes: all the rest of the plan is gone, and it was us.

    Without this mark recovery could not tell a fence that we removed from one that somebody took away whole.
    """
    counted = run_tree.count(plan.entries)
    done = {"done_files": counted.files, "done_bytes": counted.bytes, "progress_at": timezone.now()}
    ClearAttempt.objects.filter(pk=attempt.pk).update(**done, emptied=True)


def _proven(attempt: ClearAttempt) -> removal.Proven:
    """What the bytes of a file have been proven to be, from the tombstone; read only if somebody asks."""
    digests: dict[bytes, bytes] = {}

    def proven(path: bytes) -> bytes | None:
        if not digests:
            with contextlib.suppress(TombstoneError):
                digests.update(opening.data_dir().read_digests(attempt.pk.hex))
        return digests.get(path, b"")  # no proof that can be read is none: what has changed since stays

    return proven


def finish(attempt: ClearAttempt, removed: removal.Removal, now: datetime, gain: Gain = freed.INTERRUPTED) -> None:
    """Record what a removal freed, in one transaction: `completed`, or `partial` with what is left and why.

    `gain` is what the disk gave back for this step.

    Each ledger row names what its own step freed, so that the rows of an attempt add up to the truth. Where somebody
    else has finished the attempt meanwhile, or has counted more, nothing is written.
    """
    complete = not removed.left
    with transaction.atomic():
        settle_phase(attempt, "reason", *FREED)
        step = run_tree.Count(
            files=removed.freed.files - attempt.freed_files,
            bytes=removed.freed.bytes - attempt.freed_bytes,
            allocated=removed.freed.allocated - attempt.freed_allocated_bytes,
        )
        if _says_nothing_new(attempt, step, complete=complete):
            return
        remaining = attempt.planned_files - removed.freed.files
        detail = "" if complete else f"{remaining} of {attempt.planned_files} files left ({_name_left(removed)})"
        reason = "" if complete else Reason.REMOVAL_INCOMPLETE
        # A fence that a failing disk brought back is removed once more, and only what that changes is counted.
        first_end = complete and not attempt.ledger.filter(kind=LedgerKind.COMPLETED).exists()
        tell = {"tell_after": now} if attempt.phase == Phase.COMMITTED else {}
        attempt.advance(
            [Phase.COMMITTED, Phase.DONE],
            Phase.DONE,
            now=now,
            reason=reason,
            detail=detail,
            freed_files=removed.freed.files,
            freed_bytes=removed.freed.bytes,
            freed_allocated_bytes=removed.freed.allocated,
            done_files=removed.freed.files,
            done_bytes=removed.freed.bytes,
            **freed.of_attempt(attempt, step, gain),
            **tell,
        )
        if first_end or step.files or not complete:
            write_ledger(
                attempt,
                LedgerKind.COMPLETED if first_end else LedgerKind.PARTIAL,
                now,
                files=step.files,
                bytes=step.bytes,
                allocated_bytes=step.allocated,
                **freed.of_step(step, gain),
                reason=reason,
                detail=detail,
            )
    logger.info(
        "cleared %s: %d files, %d bytes freed by %s%s",
        attempt.run.run_path,
        removed.freed.files,
        removed.freed.bytes,
        attempt.actor or attempt.requester,
        f", {detail}" if detail else "",
    )


def _says_nothing_new(attempt: ClearAttempt, step: run_tree.Count, *, complete: bool) -> bool:
    """Whether the end of an attempt has been told already: by somebody else, or by an earlier try that left as much."""
    if attempt.phase not in (Phase.COMMITTED, Phase.DONE) or step.files < 0:
        return True
    if attempt.phase == Phase.DONE and not attempt.incomplete:
        return True
    return not (complete or step.files) and attempt.ledger.freeing().exists()


def finish_without_clear(
    attempt: ClearAttempt, phase: Phase, finding: Finding, *, now: datetime, failed: bool | None = None
) -> None:
    """End an uncommitted attempt: `refused` by a gate, `aborted` by a crash, or a `conflict` at the run's path.

    `failed` says whether it counts towards parking the run, where phase and reason do not.
    """
    if failed is None:
        failed = finding.reason != Reason.WITHDRAWN and (phase != Phase.REFUSED or finding.reason in FAILURES)
    kinds = {
        Phase.REFUSED: LedgerKind.REFUSED,
        Phase.ABORTED: LedgerKind.ABORTED,
        Phase.CONFLICT: LedgerKind.CONFLICT,
    }
    aside = f"An empty folder that the data wizard had made at its path lies beside it as {', '.join(attempt.shells)}."
    detail = " ".join(part for part in (finding.detail, aside if attempt.shells else "") if part)
    of_conflict = Phase.CONFLICT in (attempt.phase, phase)
    with transaction.atomic():
        fields = {"reason": finding.reason, "detail": detail}
        once_more = {"again_after": again.due_after(attempt, finding, now)}
        if attempt.advance([Phase.QUEUED, Phase.INTENT, Phase.CONFLICT], phase, now=now, **fields, **once_more):
            write_ledger(attempt, kinds[phase], now, **fields)
            slow_twins.learn(attempt, finding.reason, finding.detail, now=now)
            if failed:
                Run.objects.filter(pk=attempt.run_id).update(failures=F("failures") + 1)
    if of_conflict:
        conflicts.settle(now=now)
    logger.info("not cleared %s: %s %s", attempt.run.run_path, finding.reason, detail)


def write_ledger(attempt: ClearAttempt, kind: LedgerKind, now: datetime, **counts: Any) -> None:  # noqa: ANN401
    """One row of the ledger, with everything copied that must still be told when its subjects are gone."""
    ledger_entry(attempt, kind, now, **counts).save()


def ledger_entry(attempt: ClearAttempt, kind: LedgerKind, now: datetime, **counts: Any) -> LedgerEntry:  # noqa: ANN401
    """The same row, for whoever writes many at once; the attempt's run and its root should be at hand."""
    run = attempt.run
    return LedgerEntry(
        at=now,
        kind=kind,
        run=run,
        attempt=attempt,
        root_name=run.root.name,
        run_path=run.run_path,
        equipment=run.equipment,
        project=run.project,
        run_kind=run.run_kind,
        requester=attempt.requester,
        actor=attempt.actor,
        typed_by=attempt.typed_by,
        host=settings.EXLAB_HOST,
        policy_version=attempt.policy_version,
        decided_by=attempt.decided_by,
        cause=attempt.cause,
        proof_level=attempt.proof.kind if attempt.proof else "",
        plan_sha256=attempt.plan_sha256,
        nas_flags=attempt.nas_flags,
        **counts,
    )


def decision_as_json(decision: Decision) -> list[dict[str, str | None]]:
    """A decision's gates as the command line shows them and attempts keep them."""
    return [
        {
            "gate": result.gate.value,
            "verdict": result.verdict.value,
            "reason": result.reason.value if result.reason else None,
            "detail": result.detail,
            "opens_at": result.opens_at.isoformat() if result.opens_at else None,
        }
        for result in decision.gates
    ]


def _leaf(run: Run) -> bytes:
    return os.fsencode(run.leaf)


def _name_left(removed: removal.Removal) -> str:
    """What is left and why; what only stays because something else does comes last."""
    left = sorted(removed.left, key=lambda entry: entry[1] in (removal.KEPT_LAST, "ENOTEMPTY"))
    return proofs.name_some([f"{show(path)}: {why}" for path, why in left])


def _progress_of_proof(attempt: ClearAttempt) -> Callable[[int], None]:
    """Write the bytes compared so far into the attempt, now and then."""
    compared = 0
    last = time.monotonic()

    def progress(size: int) -> None:
        nonlocal compared, last
        compared += size
        if time.monotonic() - last >= _PROGRESS_SECONDS:
            ClearAttempt.objects.filter(pk=attempt.pk).update(compared_bytes=compared, progress_at=timezone.now())
            last = time.monotonic()

    return progress


def _progress_of_removal(attempt: ClearAttempt) -> Callable[[int, int], None]:
    """Write the files and bytes removed so far into the attempt, now and then."""
    last = time.monotonic()

    def progress(files: int, size: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _PROGRESS_SECONDS:
            done = {"done_files": files, "done_bytes": size, "progress_at": timezone.now()}
            ClearAttempt.objects.filter(pk=attempt.pk).update(**done, detail="")
            last = time.monotonic()

    return progress
