"""The timed tasks and their queues, known by their names.

A host with a `worker` has its own, `<cluster>@<host>`; `up` serves the common ones.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connections, transaction
from django.db.models import F, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce, Concat
from django.utils import timezone
from django_q.models import OrmQ, Schedule

_COMMON = str(settings.Q_CLUSTER["name"])

SWEEP = "cleanup sweep"

# name, what it calls, minutes between two runs, on which cluster
SCHEDULES = [
    ("cleanup heartbeat", "cleanup.tasks.heartbeat", 1, None),
    ("cleanup heartbeat of the clearing cluster", "cleanup.tasks.heartbeat", 1, settings.EXLAB_CLEAR_CLUSTER),
    ("cleanup heartbeat of the proving cluster", "cleanup.tasks.heartbeat", 1, settings.EXLAB_PROVE_CLUSTER),
    ("cleanup proofs", "cleanup.tasks.prove", 1, settings.EXLAB_PROVE_CLUSTER),
    ("cleanup recovery", "cleanup.tasks.recover", 1, None),
    ("cleanup waiting batches", "cleanup.tasks.begin_batches", 1, None),
    ("cleanup judgement", "cleanup.tasks.judge", 1, None),
    ("cleanup discovery", "cleanup.tasks.discover", 5, None),
    ("cleanup reminders", "cleanup.tasks.remind", 60, None),
    ("cleanup announcements", "cleanup.tasks.announce", 5, None),
    ("cleanup disk alarms", "cleanup.tasks.watch_disks", 5, None),
    ("cleanup problems", "cleanup.tasks.note_problems", 1, None),
    ("cleanup anchors", "cleanup.tasks.anchor", 1440, None),
    ("cleanup monthly summary", "cleanup.tasks.summarise", 60, None),
    (SWEEP, "cleanup.tasks.sweep", 60, settings.EXLAB_CLEAR_CLUSTER),
    ("cleanup reconciliation", "cleanup.tasks.reconcile", 7 * 24 * 60, settings.EXLAB_CLEAR_CLUSTER),
]


# A task may be on its way from one queue to the next.
LOST_AFTER = timedelta(minutes=2)
_MOST_FORGOTTEN = 500
# Width of the queue table's column.
_MAX_NAME = 100


def create(*, using: str = "default", **kwargs: Any) -> None:  # noqa: ANN401
    """Write the common schedules; handles `post_migrate`, repeatable."""
    if Schedule._meta.db_table not in connections[using].introspection.table_names():
        return  # only one app was migrated
    _lay(Schedule.objects.using(using).exclude(cluster__contains="@"), lambda cluster: cluster, using=using)


def serve_apart(host: str) -> None:
    """Give a host its own queues and timed tasks; repeatable.

    A clear needs its host's disk: no other host may take it.
    """
    own = Schedule.objects.filter(cluster__in=_own_queues(host))
    _lay(own, lambda cluster: _own_queue(cluster or _COMMON, host))


def serve_in_common(host: str) -> None:
    """Let the common queues serve a host again; what waits in its own is queued again."""
    Schedule.objects.filter(cluster__in=_own_queues(host)).delete()


def queue_for(host: str) -> str:
    """The queue in which a host's clears wait."""
    return queue_of(settings.EXLAB_CLEAR_CLUSTER, host)


def clusters_that_answer() -> tuple[str, ...]:
    """The clusters whose heartbeats say that a host's workers are alive."""
    return _COMMON, settings.EXLAB_CLEAR_CLUSTER


def common_queue_for(host: str) -> str:
    """The queue of short work on a host."""
    return queue_of(_COMMON, host)


def queue_of(cluster: str, host: str) -> str:
    """The queue that a host's cluster reads: its own or the common."""
    own = _own_queue(cluster, host)
    return own if Schedule.objects.filter(cluster=own).exists() else cluster


def rows_of(host: str) -> QuerySet[Schedule]:
    """The timed tasks that a host's clusters start."""
    own: QuerySet[Schedule] = Schedule.objects.filter(cluster__in=_own_queues(host))
    common: QuerySet[Schedule] = Schedule.objects.exclude(cluster__contains="@")
    return own if own.exists() else common


def next_sweeps() -> Callable[[str], datetime | None]:
    """A function from host to its next timed sweep, or None; one query."""
    rows = Schedule.objects.filter(name=SWEEP).values_list("cluster", "next_run")
    by_queue: dict[str, datetime | None] = dict(rows)

    def of(host: str) -> datetime | None:
        common = by_queue.get(settings.EXLAB_CLEAR_CLUSTER)
        return by_queue.get(_own_queue(settings.EXLAB_CLEAR_CLUSTER, host), common)

    return of


def is_long(host: str) -> bool:
    """Whether the name of a host's own queue is made of a digest."""
    return len(f"{settings.EXLAB_CLEAR_CLUSTER}@{host}") > _MAX_NAME


def next_sweep_on(host: str) -> Coalesce:
    """The same as a column of a query with the host in column `host`, but for hosts with a long name."""
    sweeps = Schedule.objects.filter(name=SWEEP).order_by("-next_run")
    common = sweeps.filter(cluster=settings.EXLAB_CLEAR_CLUSTER).values("next_run")[:1]
    named = Concat(Value(f"{settings.EXLAB_CLEAR_CLUSTER}@"), OuterRef(host))
    own = sweeps.annotate(named=named).filter(cluster=F("named")).values("next_run")[:1]
    return Coalesce(Subquery(own), Subquery(common))


def passes_between(host: str, now: datetime, until: datetime) -> list[datetime]:
    """When a host's timed sweeps are planned between two instants.

    From `now` on if the next is overdue, too far ahead or unplanned.
    """
    (every,) = (timedelta(minutes=minutes) for name, _func, minutes, _cluster in SCHEDULES if name == SWEEP)
    planned = next_sweeps()(host)
    first = planned if planned is not None and now <= planned <= now + every else now
    number = max(0, -((first - until) // every))
    return [first + each * every for each in range(number)]


def _lay(existing: QuerySet[Schedule], queue: Callable[[str | None], str | None], *, using: str = "default") -> None:
    """Names are not unique in the table: only here duplicates are removed."""
    with transaction.atomic(using=using):
        names = [name for name, *_rest in SCHEDULES]
        existing.filter(name__startswith="cleanup ").exclude(name__in=names).delete()
        for name, func, minutes, cluster in SCHEDULES:
            same = existing.filter(name=name).order_by("pk")
            if keep := same.first():
                same.exclude(pk=keep.pk).delete()
            fields = {
                "func": func,
                "schedule_type": Schedule.MINUTES,
                "minutes": minutes,
                "repeats": -1,
                "cluster": queue(cluster),
            }
            now = timezone.now()
            soon = now + timedelta(seconds=5)
            row, _new = existing.update_or_create(
                name=name, defaults=fields, create_defaults={**fields, "next_run": soon}
            )
            if _is_put_off(row, minutes, now):
                existing.filter(pk=row.pk).update(next_run=soon)


def forget_waiting(func: str, queue: str, now: datetime) -> int:
    """Take the tasks of one function that wait in a queue out of it, as the one that ends has done their work."""
    waiting = OrmQ.objects.filter(key=queue, lock__lte=now).order_by("pk")[:_MOST_FORGOTTEN]
    keys = [queued.pk for queued in waiting if queued.func() == func]
    return OrmQ.objects.filter(pk__in=keys, lock__lte=now).delete()[0] if keys else 0


def mend(host: str, now: datetime) -> list[str]:
    """Start soon a host's tasks that wait for a wrong future; returns names."""
    every = {name: minutes for name, _func, minutes, _cluster in SCHEDULES}
    mended = []
    for row in rows_of(host).filter(name__in=every).order_by("name", "pk"):
        if not _is_put_off(row, every[row.name], now):
            continue
        same = Schedule.objects.filter(pk=row.pk, next_run=row.next_run)  # its cluster may just have started it
        if same.update(next_run=now + timedelta(seconds=5)):
            mended.append(row.name)
    return mended


def _is_put_off(row: Schedule, minutes: int, now: datetime) -> bool:
    """A clock that was ahead has set it beyond its interval."""
    return row.next_run is None or row.next_run > now + timedelta(minutes=minutes + 1)


def _own_queues(host: str) -> list[str]:
    clusters = (_COMMON, settings.EXLAB_CLEAR_CLUSTER, settings.EXLAB_PROVE_CLUSTER)
    return [_own_queue(cluster, host) for cluster in clusters]


def _own_queue(cluster: str, host: str) -> str:
    name = f"{cluster}@{host}"
    if len(name) <= _MAX_NAME:
        return name
    digest = hashlib.sha256(host.encode()).hexdigest()[:32]
    return f"{cluster}@{digest}"
