"""The wish for a clear and the task that fulfils it, written in one transaction."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django_q.models import OrmQ
from django_q.tasks import async_task

from cleanup import schedules
from cleanup.models import ClearAttempt, ClearBatch, Phase, Requester, RetentionPolicy, Run
from cleanup.staging.datadir import DataDir

# A task that is on its way from one queue to the next is not lost yet.
LOST_AFTER = timedelta(minutes=2)
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
) -> ClearAttempt:
    """Write a `queued` attempt; nothing is touched on disk before somebody performs it.

    Raises AlreadyClearing if the run has an active attempt.
    """
    DataDir(str(settings.EXLAB_DATA_DIR)).relieve()
    version = RetentionPolicy.objects.effective_for(run).version
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
                policy_version=version,
                created_at=now,
                phase_at=now,
            )
    except IntegrityError:
        if ClearAttempt.objects.filter(run=run, phase__in=ClearAttempt.ACTIVE).exists():
            raise AlreadyClearing from None
        raise


def request_clear(run: Run, *, actor: str, note: str = "", now: datetime) -> ClearAttempt:
    """An operator's "Clear now": a queued attempt together with its task, or neither.

    Raises AlreadyClearing if the run has an active attempt. The outcome is read from the attempt later.
    """
    with transaction.atomic():
        attempt = new_attempt(run, requester=Requester.OPERATOR, actor=actor, note=note, now=now)
        enqueue([attempt])
    return attempt


def request_many(wanted: Sequence[tuple[Run, int]], *, batch: ClearBatch, now: datetime) -> list[ClearAttempt]:
    """The clears of a batch: queued attempts with their tasks, in the order given, or none of them.

    Each run comes with the version of the policy in force for it, and has its root at hand. Call it in a transaction
    that holds the runs' rows. Raises AlreadyClearing if one of them has an active attempt.
    """
    attempts = [
        ClearAttempt(
            run=run,
            batch=batch,
            host=run.root.host,
            requester=Requester.OPERATOR,
            actor=batch.actor,
            note=batch.note,
            policy_version=version,
            created_at=now,
            phase_at=now,
        )
        for run, version in wanted
    ]
    runs = [run.pk for run, _version in wanted]
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
    queues = {host: queue_for(host) for host in {attempt.host for attempt in attempts}}
    for attempt in attempts:
        name, queue = f"clear {attempt.pk}", queues[attempt.host]
        attempt.task_id = async_task("cleanup.tasks.clear", str(attempt.pk), cluster=queue, task_name=name)
    ClearAttempt.objects.bulk_update(attempts, ["task_id"], batch_size=_AT_ONCE)


def queue_for(host: str) -> str:
    """The queue in which the clears of a host wait."""
    return schedules.queue_of(settings.EXLAB_CLEAR_CLUSTER, host)


def keeps_waiting(attempt: ClearAttempt) -> bool:
    """Whether an attempt stays in the queue because its batch is paused, or was stopped just now."""
    batch = attempt.batch
    return batch is not None and (batch.paused_at is not None or batch.stopped_at is not None)


def may_begin(attempt: ClearAttempt) -> bool:
    """Whether the batch of an attempt, if it has one, lets it begin; call it in the transaction that begins it.

    The batch's row stays locked until that transaction has ended: whoever has paused or stopped a batch knows that no
    other attempt of it begins any more.
    """
    if attempt.batch_id is None:
        return True
    going_on = ClearBatch.objects.select_for_update(no_key=True).filter(paused_at=None, stopped_at=None)
    return going_on.filter(pk=attempt.batch_id).first() is not None


def enqueue_lost(*, host: str, now: datetime) -> int:
    """Queue again the attempts of this host whose task was lost; returns how many.

    A task stays in the queue's table until it has been acknowledged, so one that is missing there will never run; nor
    will one in a queue that nobody on this host reads any more. The task of an attempt whose batch is paused has ended
    without it: whoever lets the batch go on queues it again.
    """
    queue = queue_for(host)
    known = {queued.task_id() for queued in OrmQ.objects.filter(key=queue)}
    waiting = ClearAttempt.objects.filter(phase=Phase.QUEUED, host=host, phase_at__lt=now - LOST_AFTER)
    waiting = waiting.filter(batch__paused_at=None, batch__stopped_at=None).exclude(task_id="")
    lost = [attempt for attempt in waiting if attempt.task_id not in known]
    if lost:
        enqueue(lost)
    return len(lost)


def release(queue: str, *, now: datetime) -> int:
    """Give back the tasks that the workers of a queue's cluster took with them when they ended; returns how many.

    The queue itself hands such a task out again after its `retry`, and that is a day. Call it while the cluster is
    down. Where another cluster reads the same queue and is at one of them, it comes twice, which is harmless.
    """
    released: int = OrmQ.objects.filter(key=queue, lock__gt=now).update(lock=now)
    return released
