"""The wish for a clear and the task that fulfils it, written in one transaction."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django_q.models import OrmQ
from django_q.tasks import async_task

from cleanup import schedules
from cleanup.models import ClearAttempt, Phase, Requester, RetentionPolicy, Run
from cleanup.staging.datadir import DataDir

# A task that is on its way from one queue to the next is not lost yet.
LOST_AFTER = timedelta(minutes=2)


class AlreadyClearing(Exception):
    """Another attempt on this run is under way."""


def new_attempt(
    run: Run, *, requester: Requester, actor: str, note: str = "", cause: str = "", now: datetime
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
        enqueue(attempt)
    return attempt


def enqueue(attempt: ClearAttempt) -> None:
    """Queue the task that performs an attempt; it vanishes with the transaction that it stands in."""
    queue = schedules.queue_of(settings.EXLAB_CLEAR_CLUSTER, attempt.host)
    attempt.task_id = async_task("cleanup.tasks.clear", str(attempt.pk), cluster=queue, task_name=f"clear {attempt.pk}")
    attempt.save(update_fields=["task_id"])


def enqueue_lost(*, host: str, now: datetime) -> int:
    """Queue again the attempts of this host whose task was lost; returns how many.

    A task stays in the queue's table until it has been acknowledged, so one that is missing there will never run; nor
    will one in a queue that nobody on this host reads any more.
    """
    queue = schedules.queue_of(settings.EXLAB_CLEAR_CLUSTER, host)
    known = {queued.task_id() for queued in OrmQ.objects.filter(key=queue)}
    waiting = ClearAttempt.objects.filter(phase=Phase.QUEUED, host=host, phase_at__lt=now - LOST_AFTER).exclude(
        task_id=""
    )
    lost = [attempt for attempt in waiting if attempt.task_id not in known]
    for attempt in lost:
        enqueue(attempt)
    return len(lost)


def release(queue: str, *, now: datetime) -> int:
    """Give back the tasks that the workers of a queue's cluster took with them when they ended; returns how many.

    The queue itself hands such a task out again after its `retry`, and that is a day. Call it while the cluster is
    down. Where another cluster reads the same queue and is at one of them, it comes twice, which is harmless.
    """
    released: int = OrmQ.objects.filter(key=queue, lock__gt=now).update(lock=now)
    return released
