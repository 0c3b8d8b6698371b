"""What lies on a staging disk without being a known run."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from cleanup.models.roots import StagingRoot
from cleanup.models.runs import Run


class OrphanKind(models.TextChoices):
    """Why something on a staging disk is no known run, or a known run has nothing on the disk."""

    NO_RECORD = "no_record"
    UNKNOWN = "unknown"
    MISSING = "missing"
    LEFTOVER = "leftover"
    MISPLACED = "misplaced"
    STRAY = "stray"
    SHELL = "shell"


class Orphan(models.Model):
    """One thing that discovery found and cannot place, by its path below the staging root. Never removed by us.

    `modified_at` is the newest modification in it; `files` and `bytes` (logical) may be unknown. `gone_at` is when it
    was no orphan any more, `escalated_at` when it had passed the ceiling.
    """

    root = models.ForeignKey(StagingRoot, on_delete=models.PROTECT, related_name="orphans")
    path = models.CharField(max_length=4096)
    kind = models.CharField(max_length=9, choices=OrphanKind)
    run = models.ForeignKey(Run, on_delete=models.PROTECT, null=True, blank=True, related_name="orphans")
    reason = models.CharField(max_length=40)
    detail = models.TextField(blank=True)
    files = models.BigIntegerField(null=True, blank=True)
    bytes = models.BigIntegerField("logical bytes", null=True, blank=True)
    modified_at = models.DateTimeField(null=True, blank=True)
    first_seen_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    measured_at = models.DateTimeField(null=True, blank=True)
    escalated_at = models.DateTimeField(null=True, blank=True)
    gone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("root", "path")
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(kind__in=OrphanKind.values), name="orphan_kind_is_known"),
            models.UniqueConstraint(
                fields=["root", "path"], condition=Q(gone_at__isnull=True), name="one_orphan_per_path"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.path}"
