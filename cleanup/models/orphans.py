"""What lies on a staging disk and is no known run."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from cleanup.models.roots import StagingRoot
from cleanup.models.runs import Run


class OrphanKind(models.TextChoices):
    NO_RECORD = "no_record"
    UNKNOWN = "unknown"
    MISSING = "missing"
    LEFTOVER = "leftover"
    MISPLACED = "misplaced"
    STRAY = "stray"
    SHELL = "shell"


class Orphan(models.Model):
    """One thing that discovery cannot place; this program never removes it."""

    root = models.ForeignKey(StagingRoot, on_delete=models.PROTECT, related_name="orphans")
    path = models.CharField(max_length=4096)
    kind = models.CharField(max_length=9, choices=OrphanKind)
    run = models.ForeignKey(Run, on_delete=models.PROTECT, null=True, blank=True, related_name="orphans")
    reason = models.CharField(max_length=40)
    detail = models.TextField(blank=True)
    files = models.BigIntegerField(null=True, blank=True)
    bytes = models.BigIntegerField("logical bytes", null=True, blank=True)
    modified_at = models.DateTimeField(null=True, blank=True)  # the newest modification in it
    first_seen_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    measured_at = models.DateTimeField(null=True, blank=True)
    escalated_at = models.DateTimeField(null=True, blank=True)  # it passed the ceiling
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
