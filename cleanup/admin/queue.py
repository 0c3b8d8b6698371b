"""The queue."""

from django.contrib import admin
from django_q import admin as queue_admin  # noqa: F401  # registers its pages, which are taken away below
from django_q.models import Failure, OrmQ, Schedule, Success

from cleanup.admin.base import ReadOnly

# The queue's own pages let a user who may add a schedule run any function.
for _model in (Schedule, OrmQ, Success, Failure):
    admin.site.unregister(_model)


@admin.register(Schedule)
class ScheduleAdmin(ReadOnly):
    """`migrate` brings the schedules back to what the program needs."""

    list_display = ("name", "func", "minutes", "cluster", "next_run")


@admin.register(OrmQ)
class QueuedTaskAdmin(ReadOnly):
    list_display = ("key", "name", "lock")
    fields = ("key", "name", "func", "args", "lock")


@admin.register(Success)
@admin.register(Failure)
class TaskAdmin(ReadOnly):
    list_display = ("name", "func", "cluster", "started", "stopped")
    fields = ("name", "func", "args", "cluster", "started", "stopped", "success", "result")
