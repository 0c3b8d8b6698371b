"""The request for a clear and the task that does it, written in one transaction."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.tasks import async_task

from cleanup.lab import task_queues, typist
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
from cleanup.rules.effective import sources_as_json
from cleanup.rules.policy import Policy
from cleanup.storage.datadir import DataDir

# What performs an attempt.
_CLEAR = "cleanup.tasks.clear"
# For so long a worker that takes a task locks its row.
_RETRY = timedelta(seconds=Conf.RETRY)
# So many rows are written by one statement.
_AT_ONCE = 100


class AlreadyClearing(Exception):
    """Another attempt on this run is under way."""


def new_attempt(
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
    """Write a `queued` attempt; `policy` is that of a `sweep`, by default the one in force. Raises AlreadyClearing."""
    DataDir(str(settings.EXLAB_DATA_DIR)).relieve()
    in_force = RetentionPolicy.objects.effective_for(run)
    try:
        with transaction.atomic():
            Run.objects.filter(pk=run.pk).doubt()
            return ClearAttempt.objects.create(
                run=run,
                host=run.root.host,
                requester=requester,
                actor=actor,
                note=note,
                cause=cause,
                typed_by=typist.current(),
                sweep=sweep,
                let_go=let_go,
                policy_version=in_force.version,
                asked_version=in_force.version,
                decided_by=sources_as_json(policy or in_force),
                created_at=now,
                phase_at=now,
            )
    except IntegrityError:
        if ClearAttempt.objects.filter(run=run, phase__in=ClearAttempt.ACTIVE).exists():
            raise AlreadyClearing from None
        raise


def new_removal(run: Run, *, path: str, actor: str, now: datetime) -> ClearAttempt:
    """Write a `queued` removal of a shell at or beside a run's path; `path` is the shell's below the staging root.

    Raises AlreadyClearing if the run has an active attempt.
    """
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
                typed_by=typist.current(),
                prepared={"path": path},
                created_at=now,
                phase_at=now,
            )
    except IntegrityError:
        raise AlreadyClearing from None


def request_clear(run: Run, *, actor: str, note: str = "", now: datetime) -> ClearAttempt:
    """An operator's "Clear now": a queued attempt together with its task, or neither.

    Raises AlreadyClearing if the run has an active attempt. The outcome is read from the attempt later.
    """
    with transaction.atomic():
        attempt = new_attempt(run, requester=Requester.OPERATOR, actor=actor, note=note, now=now)
        enqueue([attempt])
    return attempt


def request_many(wanted: Sequence[tuple[Run, Policy]], *, batch: ClearBatch, now: datetime) -> list[ClearAttempt]:
    """Queue the clears of a batch with their tasks, in the order given, or none of them.

    Each run comes with its policy and has its root at hand. Call it in a transaction that locks the runs' rows. Raises
    AlreadyClearing.
    """
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
    """Queue the tasks that perform some attempts; they vanish with the transaction that they stand in."""
    queues = {host: task_queues.queue_for(host) for host in {attempt.host for attempt in attempts}}
    for attempt in attempts:
        name, queue = f"clear {attempt.pk}", queues[attempt.host]
        attempt.task_id = async_task(_CLEAR, str(attempt.pk), cluster=queue, task_name=name)
    ClearAttempt.objects.bulk_update(attempts, ["task_id"], batch_size=_AT_ONCE)


def keeps_waiting(attempt: ClearAttempt) -> bool:
    """Whether an attempt stays in the queue because its batch is paused, or was stopped just now."""
    batch = attempt.batch
    return batch is not None and (batch.paused_at is not None or batch.stopped_at is not None)


def may_begin(attempt: ClearAttempt) -> bool:
    """Whether the batch of an attempt, if any, lets it begin; call it in the transaction that begins it.

    The batch's row stays locked until then: once a batch is paused or stopped, no attempt of it begins.
    """
    if attempt.batch_id is None:
        return True
    going_on = ClearBatch.objects.select_for_update(no_key=True).filter(paused_at=None, stopped_at=None)
    return going_on.filter(pk=attempt.batch_id).first() is not None


def enqueue_lost(*, host: str, now: datetime) -> int:
    """Queue the attempts of this host that no worker would ever begin; returns how many.

    A row that is missing is queued anew, one in a queue that this host no longer reads is moved, and one that a worker
    took more than two minutes ago without beginning is given back (a live worker then gets it twice, which is
    harmless). A row that waits is left alone, so that no attempt has two. Attempts of a paused batch wait.
    """
    waiting = ClearAttempt.objects.filter(phase=Phase.QUEUED, host=host, phase_at__lt=now - task_queues.LOST_AFTER)
    waiting = waiting.filter(batch__paused_at=None, batch__stopped_at=None).exclude(task_id="")
    # The attempts before the rows: one that is queued anew in between has another task by then, and is left to that.
    tasks = dict(waiting.order_by("created_at", "pk").values_list("pk", "task_id"))
    if not tasks:
        return 0
    rows = _rows_by_attempt()
    queue = task_queues.queue_for(host)
    seen = sum(_put_right(rows[key], queue, now) for key in tasks if key in rows)
    return seen + _enqueue_missing({key: task for key, task in tasks.items() if key not in rows})


def enqueue_again(attempts: Sequence[ClearAttempt], *, now: datetime) -> None:
    """Queue the waiting attempts of a batch that goes on, in order; what waits in the queue stays there.

    A task that a worker has taken is replaced: the worker may acknowledge the old row without the attempt. Call it in
    the transaction that lets the batch go on.
    """
    rows = _rows_by_attempt()
    taken = [row for row in rows.values() if _is_taken(row, now)]
    waits = rows.keys() - {_attempt_of(row) for row in taken}
    lost = [attempt for attempt in attempts if attempt.pk not in waits]
    wanted = {attempt.pk for attempt in lost}
    OrmQ.objects.filter(pk__in=[row.pk for row in taken if _attempt_of(row) in wanted]).delete()
    enqueue(lost)


def _rows_by_attempt() -> dict[UUID | None, OrmQ]:
    """The rows of the queue's table that stand for an attempt, whichever queue they are in."""
    found = {_attempt_of(row): row for row in OrmQ.objects.order_by("pk")}
    found.pop(None, None)
    return found


def _attempt_of(row: OrmQ) -> UUID | None:
    """The key of the attempt that a row of the queue's table performs; None for another task, or a damaged row."""
    if row.task.get("func") != _CLEAR:
        return None
    (key,) = row.task["args"]
    return UUID(key)


def _is_taken(row: OrmQ, now: datetime) -> bool:
    return row.lock is None or row.lock > now


def _put_right(row: OrmQ, queue: str, now: datetime) -> bool:
    """Let a row be taken by the cluster that reads this queue; False if it will be, or is in a worker's hands."""
    if not _strayed(row, queue, now):
        return False
    # In the past of every worker's clock: what is not yet past is left alone.
    free = {"lock": min(now, timezone.now()) - timedelta(seconds=1), "key": queue}
    return bool(OrmQ.objects.filter(pk=row.pk, lock=row.lock, key=row.key).update(**free))


def _strayed(row: OrmQ, queue: str, now: datetime) -> bool:
    if row.key != queue or row.lock is None:
        return True
    taken_at = row.lock - _RETRY
    # Later than any worker could have taken it: a clock was ahead.
    impossible = taken_at > max(now, timezone.now()) + task_queues.LOST_AFTER
    return impossible or (_is_taken(row, now) and taken_at < now - task_queues.LOST_AFTER)


def _enqueue_missing(tasks: dict[UUID, str]) -> int:
    """Queue attempts whose task is gone, unless another process has just done so; returns how many."""
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
    """Give back the tasks that the workers of a queue's cluster took with them when they ended; returns how many.

    The queue itself would do so only after a day. Call it while the cluster is down; a task that another cluster is at
    comes twice, which is harmless.
    """
    released: int = OrmQ.objects.filter(key=queue, lock__gt=now).update(lock=now)
    return released
