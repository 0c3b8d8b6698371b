"""Requests to a host: written by a page, answered by a task there."""

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django_q.tasks import async_task

from cleanup.lab import task_queues
from cleanup.models import Heartbeat, RootRequest, RootRequestKind, RootRequestPhase, StagingRoot

_TASK = "cleanup.tasks.answer_root_request"
# A request that no worker has taken by then is not carried out any more.
ENDS_AFTER = timedelta(minutes=10)
KEPT_FOR = timedelta(days=90)
# A host whose clusters have been silent for longer is not offered.
_HEARD_WITHIN = timedelta(days=1)
# A host that is silent for longer than this may be taken out of use.
_GONE_AFTER = timedelta(hours=1)
UNTAKEN = "No worker of this host took it within ten minutes, so nothing was done. Is its worker running?"


def ask(
    kind: RootRequestKind,
    host: str,
    *,
    actor: str,
    asked: dict[str, Any],
    now: datetime,
    root: StagingRoot | None = None,
) -> RootRequest:
    """Write a request and its task, or neither. Of one admin's looks only the newest is answered."""
    with transaction.atomic():
        if kind in RootRequest.LOOKS:
            older = RootRequest.objects.filter(actor=actor, kind__in=RootRequest.LOOKS, phase__in=RootRequest.OPEN)
            older.update(phase=RootRequestPhase.DROPPED)
        RootRequest.objects.filter(asked_at__lt=now - KEPT_FOR).delete()
        request = RootRequest.objects.create(kind=kind, host=host, root=root, actor=actor, asked=asked, asked_at=now)
        queue = task_queues.common_queue_for(_served_by(kind, host, now))
        async_task(_TASK, str(request.pk), cluster=queue, task_name=f"{request.get_kind_display()} on {host}"[:100])
    return request


def any_host_may(kind: str, host: str, now: datetime) -> bool:
    """Whether another host's worker may answer: retiring needs no disk, and this one's host has gone silent."""
    return kind == RootRequestKind.RETIRE and not _beats(now - _GONE_AFTER).filter(host=host).exists()


def _served_by(kind: RootRequestKind, host: str, now: datetime) -> str:
    if not any_host_may(kind, host, now):
        return host
    other = _beats(now - _GONE_AFTER).order_by("-at").values_list("host", flat=True).first()
    return other or host


def _beats(since: datetime) -> QuerySet[Heartbeat]:
    return Heartbeat.objects.filter(at__gt=since, cluster__in=task_queues.clusters_that_answer())


def is_untaken(request: RootRequest, now: datetime) -> bool:
    """Whether no worker will carry a request out any more."""
    return request.phase == RootRequestPhase.QUEUED and now - request.asked_at > ENDS_AFTER


def is_lost(request: RootRequest, now: datetime) -> bool:
    """Whether the worker that has taken a request should have answered long ago."""
    return request.phase == RootRequestPhase.RUNNING and now - request.asked_at > 3 * ENDS_AFTER


def known_hosts(now: datetime) -> list[str]:
    """The hosts that have staging roots, or whose workers were heard within a day; by name."""
    heard = Heartbeat.objects.filter(at__gt=now - _HEARD_WITHIN).values_list("host", flat=True)
    return sorted({*heard, *StagingRoot.objects.values_list("host", flat=True)})
