"""Alerts of the watchdog."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from cleanup.models.roots import StagingRoot
from cleanup.models.runs import Run


class AlertKind(models.TextChoices):
    """What an alert is about."""

    STALLED_RUN = "stalled_run"
    STALLED_ATTEMPT = "stalled_attempt"
    SCHEDULE = "schedule"
    CLUSTER = "cluster"
    HOST = "host"
    PRESSURE = "pressure"
    DISK = "disk"
    HOLD = "hold"
    ORPHAN = "orphan"
    CONFLICT = "conflict"
    TWIN = "twin"


class Alert(models.Model):
    """Something wrong from `since` to `ended_at`."""

    kind = models.CharField(max_length=16, choices=AlertKind)
    subject = models.CharField(max_length=255)  # a lasting key, not a sentence
    root = models.ForeignKey(StagingRoot, on_delete=models.PROTECT, null=True, blank=True, related_name="alerts")
    run = models.ForeignKey(Run, on_delete=models.PROTECT, null=True, blank=True, related_name="alerts")
    reason = models.CharField(max_length=40)
    detail = models.TextField(blank=True)
    since = models.DateTimeField()
    seen_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-since",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(kind__in=AlertKind.values), name="alert_kind_is_known"),
            models.UniqueConstraint(
                fields=["kind", "subject"], condition=Q(ended_at__isnull=True), name="one_open_alert_per_subject"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject}"
