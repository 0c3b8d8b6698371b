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

from cleanup import gathering, proving, queueing
from cleanup.gathering import Look, OpenRun, Unreachable
from cleanup.models import (
    ClearAttempt,
    Hold,
    HoldSource,
    IngestEvent,
    LedgerEntry,
    LedgerKind,
    Phase,
    Requester,
    RetentionPolicy,
    Run,
)
from cleanup.policy.gates import BY_HOLD_FILE, Decision, Finding, GateResult
from cleanup.policy.lifecycle import State
from cleanup.policy.reasons import Reason
from cleanup.policy.retention import Policy, ProofLevel, effective_policy
from cleanup.proving import Reader
from cleanup.staging import ingest, kernel, layout, tree
from cleanup.staging.datadir import TombstoneError
from cleanup.staging.layout import show
from cleanup.staging.plan import Plan, encode

logger = logging.getLogger(__name__)

# A refused gate is no failure. These are: the clear was allowed and could not be carried out.
FAILURES = frozenset({Reason.STORAGE_ERROR, Reason.DATABASE_ERROR})
# A row is written for progress at most this often, outside every transaction of the protocol.
_PROGRESS_SECONDS = 1.0


class Refused(Exception):
    """The clear does not happen; `finding` says why. Nothing has been changed on disk, or it has been put back.

    With the phase `conflict` it could not be put back: something else lies at the run's path, and the run in its fence.
    """

    def __init__(self, finding: Finding, phase: Phase = Phase.REFUSED) -> None:
        super().__init__(f"{finding.reason}: {finding.detail}")
        self.finding = finding
        self.phase = phase


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
    except queueing.AlreadyClearing:
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
) -> ClearAttempt:
    """Make an attempt and carry it out in this process, without the queue. Raises AlreadyClearing.

    `policy` is the one that a sweep began with, `cause` why its schedule takes the run.
    """
    # A sweep decides by the instant at which it began, and that may be hours ago; its attempts are made now.
    made = queueing.new_attempt(run, requester=requester, actor=actor, note=note, cause=cause, now=timezone.now())
    attempt = perform(made, now=now, policy=policy)
    if attempt.phase == Phase.QUEUED:  # somebody else holds the run's lock, and no task will come back to it
        finish_without_clear(attempt, Phase.REFUSED, Finding(Reason.ALREADY_CLEARING), now=now)
    return attempt


def perform(attempt: ClearAttempt, *, now: datetime, policy: Policy | None = None) -> ClearAttempt:
    """Carry out a `queued` attempt of this host by the policy given, else by the one in force; returns it as it ended.

    An attempt that somebody else holds or has finished is returned as it stands: a task may be delivered twice.
    """
    if attempt.host != settings.EXLAB_HOST:
        return attempt
    with contextlib.ExitStack() as stack:
        try:
            gathering.data_dir().relieve()
            free = stack.enter_context(gathering.data_dir().lock(str(attempt.run_id)))
        except OSError as error:  # the data directory cannot be written
            finding = _not_written(error)
            finish_without_clear(attempt, Phase.REFUSED, finding, now=timezone.now(), failed=False)
            return attempt
        if free and _claim(attempt):
            try:
                _clear(attempt, now, policy)
            except Refused as refused:
                finish_without_clear(attempt, refused.phase, refused.finding, now=timezone.now())
        attempt.refresh_from_db()
        return attempt


def _claim(attempt: ClearAttempt) -> bool:
    # Durable: a caller inside a transaction of its own would make every later promise void, and fails here.
    with transaction.atomic(durable=True):
        return queueing.may_begin(attempt) and attempt.advance([Phase.QUEUED], Phase.INTENT, now=timezone.now())


def _clear(attempt: ClearAttempt, now: datetime, policy: Policy | None) -> None:
    run = Run.objects.with_root().get(pk=attempt.run_id)
    attempt.run = run
    policy = policy or _policy_for(attempt, run)
    if run.gone_at is not None:
        raise Refused(Finding(Reason.IDENTITY_MISMATCH, "it was declared gone"))
    if missing := kernel.missing_calls():  # without them not even the root can be opened
        raise Refused(Finding(Reason.CLEARING_UNSUPPORTED, f"missing: {', '.join(missing)}"))
    try:
        with (
            gathering.open_root(run.root) as root,
            gathering.open_run(root, run.run_path) as opened,
            gathering.reader_for(run.root) as reader,
            _guarded(opened),
        ):
            prepared = _fence_and_prepare(
                attempt, run, opened, reader, _pass_gates(attempt, run, opened, reader, policy, now)
            )
            _commit(attempt, run, opened, prepared)
            roll_forward(attempt, opened, prepared.plan, now=timezone.now())
    except Unreachable as error:
        raise Refused(error.finding) from None


def _policy_for(attempt: ClearAttempt, run: Run) -> Policy:
    """The policy in force, with no weaker a proof than that of the policy under which the clear was asked for.

    An attempt may have waited for days, in a batch that was paused; what a person was told of the proof still holds.
    """
    policy = RetentionPolicy.objects.effective_for(run).in_earnest()
    asked = effective_policy(RetentionPolicy.objects.scoped(as_of=attempt.policy_version), run.scope)
    return replace(policy, proof=max(policy.proof, asked.proof, key=lambda level: level.strength))


@contextlib.contextmanager
def _guarded(opened: OpenRun) -> Iterator[None]:
    """Hold the run's own flock and the wizard's lock on its record, so that no other program is in the middle of it."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(layout.flocked(opened.run))
            lock = layout.METADATA + b"/" + layout.INGEST_LOCK
            with contextlib.suppress(FileNotFoundError):
                descriptor = stack.enter_context(layout.opened(layout.open_to_lock(opened.run, lock)))
                stack.enter_context(layout.flocked(descriptor))
        except BlockingIOError:
            raise Refused(Finding(Reason.WRITER_ACTIVE, "the run's record is locked")) from None
        except OSError as error:
            raise Refused(gathering.way_blocked(error)) from None
        yield


def _pass_gates(
    attempt: ClearAttempt, run: Run, opened: OpenRun, reader: Reader, policy: Policy, now: datetime
) -> Look:
    """All gates on fresh facts; the decision and the proof are kept with the attempt. Raises Refused."""
    operator = attempt.requester == Requester.OPERATOR
    try:
        look, decision = gathering.look(
            run, opened, reader, policy, now, operator=operator, progress=_progress_of_proof(attempt)
        )
    except OSError as error:
        raise Refused(Finding(Reason.STAGING_IO_ERROR, os.strerror(error.errno or 0))) from None
    attempt.decision = decision_as_json(decision)
    attempt.policy_version = policy.version
    proof = look.facts.proof
    refusal = decision.main_refusal(operator=operator)
    if refusal is None and look.facts.fresh and look.scan is not None and proof is not None:
        attempt.proof = look.reused or proving.keep(run, proof, policy.proof, look.evidence, now)
    attempt.save(update_fields=["decision", "policy_version", "proof"])
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
    plan = Plan(attempt=name, run_path=run.run_path, ino=look.scan.ino, entries=look.scan.entries)
    data = encode(plan)
    counted = tree.count(plan.entries)
    fields = {
        "plan_sha256": hashlib.sha256(data).hexdigest(),
        "planned_files": counted.files,
        "planned_bytes": counted.bytes,
    }
    try:
        gathering.data_dir().write_plan(name, data)
    except OSError as error:
        with contextlib.suppress(OSError):
            gathering.data_dir().discard(name)
        raise Refused(Finding(Reason.STORAGE_ERROR, os.strerror(error.errno or 0))) from None
    del data
    if not attempt.advance([Phase.INTENT], Phase.INTENT, now=timezone.now(), **fields):
        gathering.data_dir().discard(name)
        raise Refused(Finding(Reason.INTERRUPTED))
    try:
        tree.fence(opened.parent, _leaf(run), tree.fence_name(name))
        _expect_own_fence(opened, plan)  # comparing took hours, and the run was fenced by its name
        record, entry = ingest.with_cleared(look.record, at=timezone.now(), host=settings.EXLAB_HOST)
        _prepare(attempt, run, opened, record)
        # The last thing before the commit, so that whatever changed until now still stops the clear. The NAS first:
        # it may take its time, and the staged run can be written to meanwhile.
        _expect_twin(attempt, look, reader)
        del look  # what the NAS listed of a hundred thousand files takes room that the next scan needs
        _expect_planned(run, opened, plan)
    except OSError as error:
        _undo(attempt, run, opened.parent)
        raise Refused(_not_written(error)) from None
    except Refused:
        _undo(attempt, run, opened.parent)
        raise
    return Prepared(plan, entry)


def _not_written(error: OSError) -> Finding:
    """Why fence, record or tombstone could not be made."""
    if error.errno in (errno.EINVAL, errno.ENOSYS):
        return Finding(Reason.CLEARING_UNSUPPORTED, "this filesystem cannot rename without replacing")
    return Finding(Reason.STORAGE_ERROR, os.strerror(error.errno or 0))


def _expect_own_fence(opened: OpenRun, plan: Plan) -> None:
    """Under the fence's name must lie the directory that was compared, not another one. Raises Refused."""
    if kernel.status(opened.parent, tree.fence_name(plan.attempt)).ino != plan.ino:
        raise Refused(Finding(Reason.IDENTITY_MISMATCH, "it was replaced while it was compared"))


def _expect_planned(run: Run, opened: OpenRun, plan: Plan) -> None:
    """The fenced tree must equal the plan, and nobody may write in it. Raises Refused."""
    found = tree.scan(opened.run)
    if found.is_held:
        raise Refused(Finding(Reason.HELD, f"{BY_HOLD_FILE}, laid while it was cleared"))
    changes = [problem.detail for problem in found.problems] + tree.differences(
        plan.entries, found.entries, strict=True
    )
    if changes or found.ino != plan.ino:
        raise Refused(Finding(Reason.CHANGED_SINCE_VERIFICATION, "while it was cleared: " + proving.name_some(changes)))
    busy = gathering.find_writers(found, [_leaf(run), tree.fence_name(plan.attempt)])
    if busy:
        raise Refused(busy[0])
    _expect_own_fence(opened, plan)
    _expect_in_place(run, opened, plan)


def _expect_in_place(run: Run, opened: OpenRun, plan: Plan) -> None:
    """The folders above the run must still be those of its path: somebody may have put all of them elsewhere."""
    try:
        with (
            gathering.open_root(run.root) as root,
            gathering.open_run(root, run.run_path, name=tree.fence_name(plan.attempt)) as found,
        ):
            if os.path.samestat(os.fstat(found.run), os.fstat(opened.run)):
                return
    except Unreachable as error:
        raise Refused(error.finding) from None
    raise Refused(Finding(Reason.IDENTITY_MISMATCH, "another directory lies at its path"))


def _expect_twin(attempt: ClearAttempt, look: Look, reader: Reader) -> None:
    """The NAS must still hold what the proof saw there, as far as a listing tells. Raises Refused."""
    assert attempt.proof is not None and look.scan is not None  # noqa: S101
    if attempt.proof.level == ProofLevel.RECORD:
        return
    if look.listing is None:
        raise Refused(Finding(Reason.NOT_COMPARED))
    changed = proving.changed_on_nas(attempt.run, look.listing, look.scan.data_files, reader)
    if changed is not None:
        raise Refused(changed)


def _prepare(attempt: ClearAttempt, run: Run, opened: OpenRun, record: bytes) -> None:
    """The new record beside the fence and the tombstone in the data directory, both durable."""
    name = attempt.pk.hex
    like = os.stat(tree.INGEST_PATH, dir_fd=opened.run, follow_symlinks=False)
    prepared = tree.with_reserve(
        opened.root, lambda: tree.prepare_record(opened.parent, tree.prepared_name(name), record, like)
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
        "proof": attempt.proof.level if attempt.proof else "",
        "manifest_sha256": attempt.proof.manifest_sha256 if attempt.proof else "",
    }
    gathering.data_dir().write_tombstone(name, opened.run, story, record)
    attempt.prepared = prepared
    attempt.save(update_fields=["prepared"])


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
            raise Refused(Finding(Reason.DATABASE_ERROR, type(error).__name__)) from error


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
    cleared = verified.update(state=State.CLEARED, cleared_at=ingest.parse_instant(entry["at"]))
    if not cleared or not attempt.advance([Phase.INTENT], Phase.COMMITTED, now=now):
        raise DatabaseError("the run or its attempt was changed by somebody else")
    # Whoever lays a hold locks the run's row first, as the update above does: so no hold can be laid in between.
    # Of a hold file the row only tells what discovery saw; the fenced run itself has just been asked.
    if held := Hold.objects.in_force(now).filter(run=run, source=HoldSource.PERSON).first():
        raise Refused(Finding(Reason.HELD, f"by {held.owner}: {held.reason}"))
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
    """Roll back. Raises Refused, a conflict, where something else has taken the run's path."""
    try:
        roll_back(attempt, run, parent=parent)
    except FileExistsError:
        raise Refused(occupied(attempt), Phase.CONFLICT) from None


def occupied(attempt: ClearAttempt) -> Finding:
    """Nothing is lost: the run is whole under the fence's name, and somebody has to say which one is right."""
    return Finding(Reason.PATH_OCCUPIED, f"the run lies beside it as {tree.fence_name(attempt.pk.hex).decode()}")


def roll_back(attempt: ClearAttempt, run: Run, *, parent: int | None = None) -> None:
    """Undo whatever an uncommitted attempt did on disk: the run stands at its path again. Twice is harmless.

    `parent` is the folder that holds the run as it was opened for the clear, wherever it lies by now; without it the
    folder is looked up by its path. Raises Unreachable, FileNotFoundError when that folder is gone, perhaps moved with
    the fence in it, or FileExistsError when something else lies at the run's path; the fence is then left as it is.
    """
    with contextlib.ExitStack() as stack:
        if parent is None:
            root = stack.enter_context(gathering.open_root(run.root))
            path = layout.parse_run_path(run.run_path)
            parent = stack.enter_context(layout.opened(layout.open_beneath(root, path.parent)))
        tree.discard_prepared(parent, tree.prepared_name(attempt.pk.hex))
        try:
            tree.put_back(parent, tree.fence_name(attempt.pk.hex), _leaf(run))
        except FileNotFoundError:
            os.fsync(parent)  # it is back already, but whoever did it may have died before this
    gathering.data_dir().discard(attempt.pk.hex)


def roll_forward(attempt: ClearAttempt, opened: OpenRun, plan: Plan, *, now: datetime) -> None:
    """Complete a committed attempt whose fence is open as `opened.run`: publish, remove, finish. Twice is harmless.

    Raises Unreachable where the record that was to be published cannot be found: nothing is removed then.
    """
    name = attempt.pk.hex
    fence = tree.fence_name(name)
    tree.publish(opened.parent, tree.prepared_name(name), opened.run)
    if not tree.may_be_emptied(opened.run, attempt.prepared):
        raise Unreachable(Finding(Reason.INGEST_DISAGREES, "the record of the clear is not in its place"))
    removal = tree.remove(
        opened.parent,
        fence,
        opened.run,
        plan.entries,
        record=attempt.prepared,
        proven=_proven(attempt),
        progress=_progress_of_removal(attempt),
        before_the_record=lambda: _mark_emptied(attempt, plan),
    )
    os.fsync(opened.parent)
    tree.renew_reserve(opened.root)
    finish(attempt, removal, now)


def _mark_emptied(attempt: ClearAttempt, plan: Plan) -> None:
    """Durably, before the record goes: all the rest of the plan is gone, and it was us.

    Without this mark recovery could not tell a fence that we removed from one that somebody took away whole.
    """
    counted = tree.count(plan.entries)
    done = {"done_files": counted.files, "done_bytes": counted.bytes, "progress_at": timezone.now()}
    ClearAttempt.objects.filter(pk=attempt.pk).update(**done, emptied=True)


def _proven(attempt: ClearAttempt) -> tree.Proven:
    """What the bytes of a file have been proven to be, from the tombstone; read only if somebody asks."""
    digests: dict[bytes, bytes] = {}

    def proven(path: bytes) -> bytes | None:
        if not digests:
            with contextlib.suppress(TombstoneError):
                digests.update(gathering.data_dir().read_digests(attempt.pk.hex))
        return digests.get(path, b"")  # no proof that can be read is none: what has changed since stays

    return proven


def finish(attempt: ClearAttempt, removal: tree.Removal, now: datetime) -> None:
    """Record what a removal freed, in one transaction: `completed`, or `partial` with what is left and why.

    Each ledger row names what its own step freed, so that the rows of an attempt add up to the truth. Where somebody
    else has finished the attempt meanwhile, or has counted more, nothing is written.
    """
    complete = not removal.left
    with transaction.atomic():
        settle_phase(attempt, "reason", "freed_files", "freed_bytes", "freed_allocated_bytes")
        step = tree.Count(
            files=removal.freed.files - attempt.freed_files,
            bytes=removal.freed.bytes - attempt.freed_bytes,
            allocated=removal.freed.allocated - attempt.freed_allocated_bytes,
        )
        if _says_nothing_new(attempt, step, complete=complete):
            return
        remaining = attempt.planned_files - removal.freed.files
        detail = "" if complete else f"{remaining} of {attempt.planned_files} files left ({_name_left(removal)})"
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
            freed_files=removal.freed.files,
            freed_bytes=removal.freed.bytes,
            freed_allocated_bytes=removal.freed.allocated,
            done_files=removal.freed.files,
            done_bytes=removal.freed.bytes,
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
                reason=reason,
                detail=detail,
            )
    logger.info(
        "cleared %s: %d files, %d bytes freed by %s%s",
        attempt.run.run_path,
        removal.freed.files,
        removal.freed.bytes,
        attempt.actor or attempt.requester,
        f", {detail}" if detail else "",
    )


def _says_nothing_new(attempt: ClearAttempt, step: tree.Count, *, complete: bool) -> bool:
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
        failed = phase != Phase.REFUSED or finding.reason in FAILURES
    kinds = {
        Phase.REFUSED: LedgerKind.REFUSED,
        Phase.ABORTED: LedgerKind.ABORTED,
        Phase.CONFLICT: LedgerKind.CONFLICT,
    }
    with transaction.atomic():
        fields = {"reason": finding.reason, "detail": finding.detail}
        if attempt.advance([Phase.QUEUED, Phase.INTENT, Phase.CONFLICT], phase, now=now, **fields):
            write_ledger(attempt, kinds[phase], now, **fields)
            if failed:
                Run.objects.filter(pk=attempt.run_id).update(failures=F("failures") + 1)
    logger.info("not cleared %s: %s %s", attempt.run.run_path, finding.reason, finding.detail)


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
        host=settings.EXLAB_HOST,
        policy_version=attempt.policy_version,
        cause=attempt.cause,
        proof_level=attempt.proof.level if attempt.proof else "",
        plan_sha256=attempt.plan_sha256,
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


def _name_left(removal: tree.Removal) -> str:
    """What is left and why; what only stays because something else does comes last."""
    left = sorted(removal.left, key=lambda entry: entry[1] in (tree.KEPT_LAST, "ENOTEMPTY"))
    return proving.name_some([f"{show(path)}: {why}" for path, why in left])


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
