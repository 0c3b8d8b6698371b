"""Dry runs that operators ask for in the browser, never two of a root at a time."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from django.conf import settings
from django.db import transaction
from django_q.models import OrmQ
from django_q.tasks import async_task

from cleanup.lab import task_queues
from cleanup.models import StagingRoot

_TASK = "cleanup.tasks.dry_run"
# At most this many tasks of a queue are read, the latest first.
_LOOKED_THROUGH = 2_000


@dataclass(frozen=True)
class Expected:
    """A dry run that the operator waits for: who asked, and whether a worker has taken it."""

    root_id: int
    actor: str
    running: bool


def ask_for(root: StagingRoot, *, actor: str, now: datetime) -> bool:
    """Queues a dry run of one staging root; returns False if one is queued or running."""
    with transaction.atomic():
        StagingRoot.objects.select_for_update(of=("self",)).get(pk=root.pk)  # of two requests at once one waits here
        if expected([root], now=now):
            return False
        queue = task_queues.queue_of(settings.EXLAB_CLEAR_CLUSTER, root.host)
        async_task(_TASK, root.pk, actor, cluster=queue, task_name=f"dry run of {root.name}"[:100])
    return True


def expected(roots: Iterable[StagingRoot], *, now: datetime) -> dict[int, Expected]:
    """Returns the queued or running dry runs of these staging roots, by the root's key.

    A task stays in the queue's table until it is done, and is locked while a worker has it.
    """
    wanted = {root.pk: root for root in roots}
    queues = {task_queues.queue_of(settings.EXLAB_CLEAR_CLUSTER, host) for host in {r.host for r in wanted.values()}}
    queued = OrmQ.objects.filter(key__in=queues).order_by("-pk").values_list("payload", "lock")
    found = {}
    for payload, lock in queued[:_LOOKED_THROUGH]:
        dry_run = _read(payload)
        if dry_run is not None and dry_run[0] in wanted:
            root_id, actor = dry_run
            found[root_id] = Expected(root_id, actor, running=lock is not None and lock > now)
    return found


@lru_cache(maxsize=2 * _LOOKED_THROUGH)
def _read(payload: str) -> tuple[int, str] | None:
    """(root key, actor) of a queued dry run, else None. Cached: pages poll, and the queue may be long."""
    task = OrmQ(payload=payload).task
    if task.get("func") != _TASK:
        return None
    root_id, actor = task["args"]
    return root_id, actor
