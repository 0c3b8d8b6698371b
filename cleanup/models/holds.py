"""Holds on runs, with owner, reason and end."""

from datetime import datetime
from typing import ClassVar, Self

from django.db import models
from django.db.models import Q

from cleanup.models.hosts import sure_at
from cleanup.models.roots import StagingRoot
from cleanup.models.runs import Run


class HoldSource(models.TextChoices):
    """A person with an account, or a file `.exlab-hold` in the run."""

    PERSON = "person"
    FILE = "file"


class HoldQuerySet(models.QuerySet["Hold"]):
    def in_force(self, now: datetime) -> Self:
        """A doubted clock alone ends no hold."""
        lasting = Q(until=None) | Q(until__gt=now) | Q(until__gt=sure_at(StagingRoot, "run_id"))
        return self.filter(released_at=None).filter(lasting)

    def with_clock(self) -> Self:
        """With the instant by which they end under a doubted clock."""
        return self.annotate(sure_at=sure_at(StagingRoot, "run_id"))


class Hold(models.Model):
    """One hold on one run; a file's hold lasts while the file is there."""

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="holds")
    source = models.CharField(max_length=6, choices=HoldSource, default=HoldSource.PERSON)
    owner = models.CharField(max_length=150)
    reason = models.CharField(max_length=500)
    typed_by = models.CharField("typed by the account", max_length=255, blank=True)
    created_at = models.DateTimeField()
    until = models.DateTimeField(null=True, blank=True)
    # Or the file was seen to be gone; a hold that is simply over has none.
    released_at = models.DateTimeField(null=True, blank=True)
    released_by = models.CharField(max_length=150, blank=True)
    released_typed_by = models.CharField("release typed by the account", max_length=255, blank=True)
    reminded_at = models.DateTimeField(null=True, blank=True)

    objects = HoldQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)
        permissions: ClassVar = [("hold_run", "Can hold a run and release it")]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(source__in=HoldSource.values), name="hold_source_is_known"),
            models.CheckConstraint(condition=Q(source="file") | Q(until__isnull=False), name="hold_has_an_end"),
            models.UniqueConstraint(
                fields=["run"], condition=Q(source="file", released_at=None), name="one_file_hold_per_run"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["run"], condition=Q(released_at=None), name="hold_unreleased"),
        ]

    def __str__(self) -> str:
        return f"hold of {self.run} by {self.owner}"
