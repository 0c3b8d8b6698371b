"""Dry runs that people ask for in the browser: a task for the host of each staging root, and never two at a time."""

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
# So many tasks of a queue are looked through, the latest first.
_LOOKED_THROUGH = 2_000


@dataclass(frozen=True)
class Expected:
    """A dry run that a person waits for: who asked for it, and whether a worker has taken it by now."""

    root_id: int
    actor: str
    running: bool


def ask_for(root: StagingRoot, *, actor: str, now: datetime) -> bool:
    """Queue a dry run of one staging root. False if one is queued or running there: asked for twice it is one."""
    with transaction.atomic():
        StagingRoot.objects.select_for_update(of=("self",)).get(pk=root.pk)  # of two who ask at once one waits here
        if expected([root], now=now):
            return False
        queue = task_queues.queue_of(settings.EXLAB_CLEAR_CLUSTER, root.host)
        async_task(_TASK, root.pk, actor, cluster=queue, task_name=f"dry run of {root.name}"[:100])
    return True


def expected(roots: Iterable[StagingRoot], *, now: datetime) -> dict[int, Expected]:
    """The dry runs of these staging roots that are queued or running, by the root's key.

    A task stays in the queue's table until it is done, and is locked as long as a worker has it.
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
    """The root and the person of a queued dry run, None for any other task.

    A page asks every other second, and behind a batch a thousand tasks stand before its own: each is unpacked once.
    """
    task = OrmQ(payload=payload).task
    if task.get("func") != _TASK:
        return None
    root_id, actor = task["args"]
    return root_id, actor
