"""Proofs that are made ahead of a click, and which process makes them on which NAS."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from cleanup.models.runs import Run


class ProvingRun(models.Model):
    """How far a run is with the proof that is made ahead; at most one row for each run."""

    class Phase(models.TextChoices):
        """Asked for, its turn comes, its bytes are read, put off until `again_after`, proven, found different."""

        ASKED = "asked"
        WAITING = "waiting"
        READING = "reading"
        PUT_OFF = "put_off"
        PROVEN = "proven"
        DIFFERS = "differs"

    run = models.OneToOneField(Run, on_delete=models.PROTECT, primary_key=True, related_name="proving")
    host = models.CharField(max_length=255, blank=True)
    nas = models.CharField("token of the NAS root", max_length=36, blank=True)
    phase = models.CharField(max_length=7, choices=Phase, default=Phase.ASKED)
    phase_at = models.DateTimeField()
    asked_at = models.DateTimeField("last asked for", null=True, blank=True)
    expected_at = models.DateTimeField("proven at about", null=True, blank=True)
    # Of the reading under way, also of one that goes on where an earlier one stopped.
    first_byte_at = models.DateTimeField("first byte read at", null=True, blank=True)
    # Of both sides together.
    planned_bytes = models.BigIntegerField("bytes to read", default=0)
    read_bytes = models.BigIntegerField("bytes read so far", default=0)
    progress_at = models.DateTimeField("last progress", null=True, blank=True)
    proven_at = models.DateTimeField("last proven at", null=True, blank=True)
    seen = models.CharField("what was proven, or was put off", max_length=64, blank=True)
    # Why it waits: a `Wait`, or a reason of the gates.
    reason = models.CharField(max_length=40, blank=True)
    detail = models.CharField(max_length=500, blank=True)
    tries = models.PositiveSmallIntegerField("vain tries in a row", default=0)
    again_after = models.DateTimeField("tried again after", null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(phase__in=["asked", "waiting", "reading", "put_off", "proven", "differs"]),
                name="proving_phase_is_known",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["host", "phase"], name="proving_by_phase")]

    def __str__(self) -> str:
        return f"{self.phase} proof of run {self.run_id}"


class ProvingLease(models.Model):
    """The one process that makes proofs on a NAS root; over all hosts, by the database's clock."""

    nas = models.CharField("token of the NAS root", max_length=36, primary_key=True)
    host = models.CharField(max_length=255, blank=True)
    holder = models.CharField(max_length=32, blank=True)  # empty: free
    until = models.DateTimeField("held until")  # its holder puts it off while it lives
    # Of the last host: how often in a row the NAS has failed it, and when it is asked again.
    failures = models.PositiveSmallIntegerField("failures in a row", default=0)
    again_after = models.DateTimeField("asked again after", null=True, blank=True)
    reason = models.CharField(max_length=40, blank=True)
    detail = models.CharField(max_length=500, blank=True)
    bytes_per_second = models.BigIntegerField("read in a second, of both sides", default=0)

    def __str__(self) -> str:
        return f"proofs on {self.nas} by {self.holder or 'no process'}"
