"""The queue: what runs when, what waits, what was done."""

from django.contrib import admin
from django_q import admin as queue_admin  # noqa: F401  # registers its pages, which are taken away below
from django_q.models import Failure, OrmQ, Schedule, Success

from cleanup.admin.base import ReadOnly

# The queue's own pages would let anyone who may add a schedule run any function of any module.
for _model in (Schedule, OrmQ, Success, Failure):
    admin.site.unregister(_model)


@admin.register(Schedule)
class ScheduleAdmin(ReadOnly):
    """What runs when; `migrate` brings it back to what the program needs."""

    list_display = ("name", "func", "minutes", "cluster", "next_run")


@admin.register(OrmQ)
class QueuedTaskAdmin(ReadOnly):
    list_display = ("key", "name", "lock")
    fields = ("key", "name", "func", "args", "lock")


@admin.register(Success)
@admin.register(Failure)
class TaskAdmin(ReadOnly):
    """What the queue did lately; it forgets, and the ledger does not."""

    list_display = ("name", "func", "cluster", "started", "stopped")
    fields = ("name", "func", "args", "cluster", "started", "stopped", "success", "result")
