"""The request for a clear and its task, written in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.tasks import async_task

from cleanup.lab import task_queues
from cleanup.lab.people import os_account
from cleanup.models import (
    AttemptKind,
    ClearAttempt,
    ClearBatch,
    Phase,
    Requester,
    RetentionPolicy,
    Run,
    Sweep,
    SweepBreaker,
)
from cleanup.rules.policies.effective import sources_as_json
from cleanup.rules.policies.policy import Policy
from cleanup.rules.states import State
from cleanup.storage.data_directory.datadir import DataDir

_CLEAR = "cleanup.tasks.clear"
# How long a worker's lock on a task's row lasts.
_RETRY = timedelta(seconds=Conf.RETRY)
# Rows per statement.
_AT_ONCE = 100


class AlreadyClearing(Exception):
    """The run has another active attempt."""


class AlreadyCleared(Exception):
    """The run was cleared meanwhile."""


@dataclass(frozen=True, kw_only=True)
class ClearRequest:
    """Who asks for a clear, and why: `cause` is the schedule's, `note` the operator's.

    `let_go` is the breaker after which the run was let go.
    """

    requester: Requester
    actor: str = ""
    note: str = ""
    cause: str = ""
    sweep: Sweep | None = None
    let_go: SweepBreaker | None = None

    @property
    def operator(self) -> bool:
        return self.requester is Requester.OPERATOR


def new_attempt(run: Run, request: ClearRequest, *, now: datetime, policy: Policy | None = None) -> ClearAttempt:
    """Write a `queued` attempt by `policy`, else by the one in force. Raises AlreadyClearing."""
    DataDir(str(settings.EXLAB_DATA_DIR)).relieve()
    attempt, _policy = unsaved(run, request, now=now, policy=policy)
    save(attempt, begun=False, even_cleared=True)
    return attempt


def unsaved(
    run: Run, request: ClearRequest, *, now: datetime, policy: Policy | None = None
) -> tuple[ClearAttempt, Policy]:
    """Return an attempt by `policy`, else by the one in force, not saved yet; and that policy."""
    version = RetentionPolicy.objects.newest_version() if policy else 0
    policy = policy or RetentionPolicy.objects.in_earnest_for(run)
    version = version or policy.version
    attempt = ClearAttempt(
        run=run,
        host=run.root.host,
        requester=request.requester,
        actor=request.actor,
        note=request.note,
        cause=request.cause,
        typed_by=os_account.current(),
        sweep=request.sweep,
        let_go=request.let_go,
        policy_version=version,
        asked_version=version,
        decided_by=sources_as_json(policy),
        created_at=now,
        phase_at=now,
    )
    return attempt, policy


def is_unsaved(attempt: ClearAttempt) -> bool:
    """Return whether an attempt is not written down yet."""
    return attempt._state.adding


def save(attempt: ClearAttempt, *, begun: bool, even_cleared: bool = False) -> None:
    """Write down an attempt that is not saved yet, as `queued`, or as `intent` if its process begins it at once.

    Raises AlreadyClearing, and AlreadyCleared unless `even_cleared`. One that is `begun` must be in no other
    transaction, which would void every later promise.
    """
    if not is_unsaved(attempt):
        return
    attempt.phase = Phase.INTENT if begun else Phase.QUEUED
    try:
        with transaction.atomic(durable=begun):
            runs = Run.objects.filter(pk=attempt.run_id)
            if not (runs if even_cleared else runs.exclude(state=State.CLEARED)).doubt():
                raise AlreadyCleared
            attempt.save(force_insert=True)
    except IntegrityError:
        if ClearAttempt.objects.filter(run=attempt.run_id, phase__in=ClearAttempt.ACTIVE).exists():
            raise AlreadyClearing from None
        raise


def new_removal(run: Run, *, path: str, actor: str, now: datetime) -> ClearAttempt:
    """Write a `queued` removal of the shell at `path`, below the staging root. Raises AlreadyClearing."""
    if run.active_attempt:
        raise AlreadyClearing
    try:
        with transaction.atomic():
            return ClearAttempt.objects.create(
                run=run,
                kind=AttemptKind.SHELL,
                host=run.root.host,
                requester=Requester.OPERATOR,
                actor=actor,
                typed_by=os_account.current(),
                prepared={"path": path},
                created_at=now,
                phase_at=now,
            )
    except IntegrityError:
        raise AlreadyClearing from None


def request_clear(run: Run, *, actor: str, note: str = "", now: datetime) -> ClearAttempt:
    """Queue an operator's "Clear now": attempt and task, or neither. Raises AlreadyClearing."""
    request = ClearRequest(requester=Requester.OPERATOR, actor=actor, note=note)
    with transaction.atomic():
        attempt = new_attempt(run, request, now=now)
        enqueue([attempt])
    return attempt


def request_many(wanted: Sequence[tuple[Run, Policy]], *, batch: ClearBatch, now: datetime) -> list[ClearAttempt]:
    """Queue a batch's clears in order, or none; call it with the runs' rows locked. Raises AlreadyClearing."""
    attempts = [
        ClearAttempt(
            run=run,
            batch=batch,
            host=run.root.host,
            requester=Requester.OPERATOR,
            actor=batch.actor,
            note=batch.note,
            policy_version=policy.version,
            asked_version=policy.version,
            decided_by=sources_as_json(policy),
            created_at=now,
            phase_at=now,
        )
        for run, policy in wanted
    ]
    runs = [run.pk for run, _policy in wanted]
    Run.objects.filter(pk__in=runs).doubt()
    try:
        with transaction.atomic():
            ClearAttempt.objects.bulk_create(attempts)
    except IntegrityError:
        if ClearAttempt.objects.filter(run__in=runs, phase__in=ClearAttempt.ACTIVE).exists():
            raise AlreadyClearing from None
        raise
    enqueue(attempts)
    return attempts


def enqueue(attempts: Sequence[ClearAttempt]) -> None:
    """Queue the tasks of some attempts, within the caller's transaction."""
    queues = {host: task_queues.queue_for(host) for host in {attempt.host for attempt in attempts}}
    for attempt in attempts:
        name, queue = f"clear {attempt.pk}", queues[attempt.host]
        attempt.task_id = async_task(_CLEAR, str(attempt.pk), cluster=queue, task_name=name)
    ClearAttempt.objects.bulk_update(attempts, ["task_id"], batch_size=_AT_ONCE)


def keeps_waiting(attempt: ClearAttempt) -> bool:
    """Return whether a paused or stopped batch keeps an attempt in the queue."""
    batch = attempt.batch
    return batch is not None and (batch.paused_at is not None or batch.stopped_at is not None)


def is_followed(attempt: ClearAttempt) -> bool:
    """Return whether its batch has other attempts to come, or under way."""
    to_come = ClearAttempt.objects.filter(batch=attempt.batch, phase__in=[Phase.QUEUED, Phase.INTENT, Phase.COMMITTED])
    return attempt.batch_id is not None and to_come.exclude(pk=attempt.pk).exists()


def may_begin(attempt: ClearAttempt) -> bool:
    """Return whether an attempt's batch lets it begin; call it in the transaction that begins it.

    The batch stays locked, so no attempt begins after a pause or stop.
    """
    if attempt.batch_id is None:
        return True
    going_on = ClearBatch.objects.select_for_update(no_key=True).filter(paused_at=None, stopped_at=None)
    return going_on.filter(pk=attempt.batch_id).first() is not None


def enqueue_lost(*, host: str, now: datetime) -> int:
    """Queue this host's attempts that no worker would begin; returns how many.

    A missing row is queued again, one in an old queue moved, one taken over two minutes ago given back: a second worker
    is harmless. A waiting row stays, so that no attempt has two.
    """
    waiting = ClearAttempt.objects.filter(phase=Phase.QUEUED, host=host, phase_at__lt=now - task_queues.LOST_AFTER)
    waiting = waiting.filter(batch__paused_at=None, batch__stopped_at=None).exclude(task_id="")
    # Attempts before rows: one queued again in between has another task, and is left to it.
    tasks = dict(waiting.order_by("created_at", "pk").values_list("pk", "task_id"))
    if not tasks:
        return 0
    rows = _rows_by_attempt()
    queue = task_queues.queue_for(host)
    seen = sum(_put_right(rows[key], queue, now) for key in tasks if key in rows)
    return seen + _enqueue_missing({key: task for key, task in tasks.items() if key not in rows})


def enqueue_again(attempts: Sequence[ClearAttempt], *, now: datetime) -> None:
    """Queue a batch's waiting attempts; call it in the transaction that lets the batch go on.

    A taken task is replaced: its worker may acknowledge the old row without the attempt.
    """
    rows = _rows_by_attempt()
    taken = [row for row in rows.values() if _is_taken(row, now)]
    waits = rows.keys() - {_attempt_of(row) for row in taken}
    lost = [attempt for attempt in attempts if attempt.pk not in waits]
    wanted = {attempt.pk for attempt in lost}
    OrmQ.objects.filter(pk__in=[row.pk for row in taken if _attempt_of(row) in wanted]).delete()
    enqueue(lost)


def _rows_by_attempt() -> dict[UUID | None, OrmQ]:
    found = {_attempt_of(row): row for row in OrmQ.objects.order_by("pk")}
    found.pop(None, None)
    return found


def _attempt_of(row: OrmQ) -> UUID | None:
    """None for another task, or a damaged row."""
    if row.task.get("func") != _CLEAR:
        return None
    (key,) = row.task["args"]
    return UUID(key)


def _is_taken(row: OrmQ, now: datetime) -> bool:
    return row.lock is None or row.lock > now


def _put_right(row: OrmQ, queue: str, now: datetime) -> bool:
    if not _strayed(row, queue, now):
        return False
    # Before every worker's clock, which takes only rows of the past.
    free = {"lock": min(now, timezone.now()) - timedelta(seconds=1), "key": queue}
    return bool(OrmQ.objects.filter(pk=row.pk, lock=row.lock, key=row.key).update(**free))


def _strayed(row: OrmQ, queue: str, now: datetime) -> bool:
    if row.key != queue or row.lock is None:
        return True
    taken_at = row.lock - _RETRY
    # No worker can have taken it that late: a clock was ahead.
    impossible = taken_at > max(now, timezone.now()) + task_queues.LOST_AFTER
    return impossible or (_is_taken(row, now) and taken_at < now - task_queues.LOST_AFTER)


def _enqueue_missing(tasks: dict[UUID, str]) -> int:
    # An attempt that another process has just queued has another task.
    done, keys = 0, list(tasks)
    for start in range(0, len(keys), _AT_ONCE):
        with transaction.atomic():
            waiting = ClearAttempt.objects.select_for_update(of=("self",)).filter(phase=Phase.QUEUED)
            found = waiting.in_bulk(keys[start : start + _AT_ONCE])
            lost = [found[key] for key in keys[start : start + _AT_ONCE] if key in found]
            lost = [attempt for attempt in lost if attempt.task_id == tasks[attempt.pk]]
            enqueue(lost)
        done += len(lost)
    return done


def release(queue: str, *, now: datetime) -> int:
    """Give back the tasks that a stopped cluster had taken; returns how many. A task that comes twice is harmless."""
    released: int = OrmQ.objects.filter(key=queue, lock__gt=now).update(lock=now)
    return released
