"""Reminders of runs, which users set for themselves."""

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from cleanup.models.runs import Run


class RunReminder(models.Model):
    """One user is to be reminded of one run at an instant."""

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="reminders")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="run_reminders")
    at = models.DateTimeField()
    note = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField()
    told_at = models.DateTimeField(null=True, blank=True)  # claimed before the mail, so that none is sent twice
    done_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("at", "id")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "user", "at"], name="one_reminder_per_run_user_and_instant")
        ]
        indexes: ClassVar = [models.Index(fields=["at"], condition=Q(done_at=None), name="run_reminder_open")]

    def __str__(self) -> str:
        return f"reminder of {self.run} for {self.user}"
