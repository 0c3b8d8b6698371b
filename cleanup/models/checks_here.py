"""Comparisons of all bytes by request, and bytes that an admin accepted."""

import uuid
from datetime import datetime
from typing import ClassVar, Self

from django.db import models
from django.db.models import Q

from cleanup.models.runs import Run


class ByteCheck(models.Model):
    """One requested comparison of every byte on staging and NAS; it changes nothing."""

    class Phase(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"

    class Outcome(models.TextChoices):
        """As the manifest; alike, but not as the manifest; different; not comparable."""

        AS_MANIFEST = "as_manifest"
        ALIKE = "alike"
        DIFFERENT = "different"
        NOT_COMPARED = "not_compared"

    ACTIVE: ClassVar = (Phase.QUEUED, Phase.RUNNING)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="byte_checks")
    host = models.CharField(max_length=255)
    actor = models.CharField(max_length=150)
    phase = models.CharField(max_length=7, choices=Phase, default=Phase.QUEUED)
    created_at = models.DateTimeField()
    phase_at = models.DateTimeField()
    task_id = models.CharField(max_length=32, blank=True)
    # Of both sides together, as `planned_bytes`.
    compared_bytes = models.BigIntegerField("bytes compared so far", default=0)
    planned_bytes = models.BigIntegerField("bytes to compare", default=0)
    progress_at = models.DateTimeField("last progress", null=True, blank=True)
    outcome = models.CharField(max_length=12, choices=Outcome, blank=True)
    reason = models.CharField(max_length=40, blank=True)
    detail = models.TextField(blank=True)
    files = models.BigIntegerField(default=0)
    bytes = models.BigIntegerField("logical bytes", default=0)
    differing = models.BigIntegerField("files that differ", default=0)  # between the two sides
    # Equal on both sides, but not as the manifest says.
    against = models.BigIntegerField("files that are not as the manifest says", default=0)
    missing = models.BigIntegerField("files of the manifest that are not staged", default=0)
    named = models.JSONField(default=list, blank=True)  # the first files that differ
    manifest = models.CharField("why there is no usable manifest", max_length=40, blank=True)
    manifest_sha256 = models.CharField(max_length=64, blank=True)
    digest = models.CharField(max_length=64, blank=True)  # of all names and bytes
    evidence = models.CharField(
        max_length=64, blank=True
    )  # of all by which a change would show (`runs.proofs.full_comparison`)

    class Meta:
        ordering = ("-created_at",)
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(phase__in=["queued", "running", "done"]), name="byte_check_phase_is_known"
            ),
            models.UniqueConstraint(
                fields=["run"], condition=Q(phase__in=["queued", "running"]), name="one_active_byte_check_per_run"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.phase} check of {self.run}"

    @property
    def is_active(self) -> bool:
        return self.phase in self.ACTIVE

    def advance(self, before: str, after: str, *, now: datetime, **fields: object) -> bool:
        """Compare-and-set: False changes nothing, as another process was faster."""
        changes = {"phase": after, "phase_at": now, **fields}
        if not ByteCheck.objects.filter(pk=self.pk, phase=before).update(**changes):
            return False
        for name, value in changes.items():
            setattr(self, name, value)
        return True


class AcceptedBytesQuerySet(models.QuerySet["AcceptedBytes"]):
    def standing(self) -> Self:
        """Only a look at both sides tells whether they still hold."""
        return self.filter(withdrawn_at=None)


class AcceptedBytes(models.Model):
    """Bytes that an admin accepted in place of a manifest, equal on both sides.

    They count for a person's clear while `evidence` is the same; then every byte is read again, and must give `digest`.
    """

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="accepted_bytes")
    check_here = models.OneToOneField(ByteCheck, on_delete=models.PROTECT, related_name="accepted")
    actor = models.CharField(max_length=150)
    note = models.CharField("reason given", max_length=500)
    at = models.DateTimeField()
    digest = models.CharField(max_length=64)
    evidence = models.CharField(max_length=64)
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    withdrawn_by = models.CharField(max_length=150, blank=True)

    objects = AcceptedBytesQuerySet.as_manager()

    class Meta:
        ordering = ("-at",)
        verbose_name_plural = "accepted bytes"
        permissions: ClassVar = [("accept_bytes", "Can accept a run's bytes in place of its manifest")]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["run"], condition=Q(withdrawn_at=None), name="one_standing_acceptance_per_run"
            ),
        ]

    def __str__(self) -> str:
        return f"bytes of {self.run} accepted by {self.actor}"
