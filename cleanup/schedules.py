"""The timed tasks, in one place: created after migrate, known by their names."""

from datetime import timedelta
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import connections, transaction
from django.utils import timezone

# name, what it calls, minutes between two runs, on which cluster
SCHEDULES = [
    ("cleanup heartbeat", "cleanup.tasks.heartbeat", 1, None),
    ("cleanup heartbeat of the clearing cluster", "cleanup.tasks.heartbeat", 1, settings.EXLAB_CLEAR_CLUSTER),
    ("cleanup recovery", "cleanup.tasks.recover", 1, None),
    ("cleanup discovery", "cleanup.tasks.discover", 5, None),
    ("cleanup reminders", "cleanup.tasks.remind", 60, None),
    ("cleanup sweep", "cleanup.tasks.sweep", 60, settings.EXLAB_CLEAR_CLUSTER),
]


def create(*, using: str = "default", **kwargs: Any) -> None:  # noqa: ANN401
    """Bring the schedules into the database; a handler of `post_migrate`, harmless when called again.

    Names are not unique in django-q2's table, so doubles are removed here, and here only.
    """
    Schedule = apps.get_model("django_q", "Schedule")
    if Schedule._meta.db_table not in connections[using].introspection.table_names():
        return  # only one app was migrated
    existing = Schedule.objects.using(using)
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
                "cluster": cluster,
            }
            start = {**fields, "next_run": timezone.now() + timedelta(seconds=5)}
            existing.update_or_create(name=name, defaults=fields, create_defaults=start)
