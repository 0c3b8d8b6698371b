"""Clears: the proof, the attempt, and the ledger that remembers them."""

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar, Self

from django.db import models, transaction
from django.db.models import Q

from cleanup.models.base import AppendOnly
from cleanup.models.runs import Run
from cleanup.models.sums import bytes_sum
from cleanup.policy.reasons import Reason
from cleanup.policy.retention import ProofLevel


class Proof(AppendOnly):
    """The dated evidence that the NAS held a run: how far the comparison went and what it covered.

    `evidence` is the SHA-256 of everything by which a change on either side would show (see `proving.py`); the proof
    is reused only while that stays the same. Empty: never.
    """

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="proofs")
    level = models.CharField(max_length=8, choices=[(level.value, level.value) for level in ProofLevel])
    at = models.DateTimeField()
    host = models.CharField(max_length=255)
    files = models.BigIntegerField()
    bytes = models.BigIntegerField("logical bytes")
    manifest_sha256 = models.CharField(max_length=64, blank=True)
    evidence = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ("-at",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(level__in=list(ProofLevel)), name="proof_level_is_known"),
        ]

    def __str__(self) -> str:
        return f"{self.level} of {self.files} files at {self.at:%Y-%m-%d %H:%M}"


class Phase(models.TextChoices):
    """Where an attempt stands. Everything before `committed` is rolled back, everything after rolled forward."""

    QUEUED = "queued"
    INTENT = "intent"
    COMMITTED = "committed"
    DONE = "done"
    REFUSED = "refused"
    ABORTED = "aborted"
    CONFLICT = "conflict"


class Requester(models.TextChoices):
    OPERATOR = "operator"
    SCHEDULE = "schedule"


class ClearBatch(models.Model):
    """Several clears that an operator asked for together, as one preview had shown them.

    `digest` is that of the preview. While `paused_at` is set no run of it is begun; `paused_seconds` adds up earlier
    pauses. After `stopped_at` none is begun any more.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    actor = models.CharField(max_length=150)
    note = models.CharField("reason given", max_length=500, blank=True)
    digest = models.CharField(max_length=64)
    created_at = models.DateTimeField()
    paused_at = models.DateTimeField(null=True, blank=True)
    paused_by = models.CharField(max_length=150, blank=True)
    paused_seconds = models.FloatField(default=0)
    stopped_at = models.DateTimeField(null=True, blank=True)
    stopped_by = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ("-created_at",)
        verbose_name_plural = "clear batches"

    def __str__(self) -> str:
        return f"clears asked for by {self.actor} at {self.created_at:%Y-%m-%d %H:%M}"


class ClearAttempt(models.Model):
    """One try at one clear. Its id names the fence, the plan and the tombstone.

    `planned_*` is what the plan holds, `freed_*` what was really removed so far; `compared_bytes` and
    `done_*` are the progress of what is under way, `progress_at` when that last moved. `cause` says why the schedule
    took the run, as in `retention+max_bytes`. `plan_sha256` and `prepared` tell recovery what is ours, `emptied`
    that nothing but the record was left of the run.

    `told_at` is when the history on the NAS got its `cleared` entry; until then `tell_reason` says why not, and
    `tell_after` when it is tried next (never, if empty).
    """

    ACTIVE: ClassVar = (Phase.QUEUED, Phase.INTENT, Phase.COMMITTED)
    # Ended, and the run stayed.
    FAILED: ClassVar = (Phase.REFUSED, Phase.ABORTED, Phase.CONFLICT)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="attempts")
    batch = models.ForeignKey(ClearBatch, on_delete=models.PROTECT, null=True, blank=True, related_name="attempts")
    phase = models.CharField(max_length=9, choices=Phase, default=Phase.QUEUED)
    host = models.CharField(max_length=255)
    requester = models.CharField(max_length=8, choices=Requester)
    actor = models.CharField(max_length=150)
    note = models.CharField("reason given", max_length=500, blank=True)
    policy_version = models.PositiveIntegerField(default=0)
    cause = models.CharField("why the schedule took it", max_length=60, blank=True)
    proof = models.ForeignKey(Proof, on_delete=models.PROTECT, null=True, blank=True, related_name="attempts")
    created_at = models.DateTimeField()
    phase_at = models.DateTimeField()
    task_id = models.CharField(max_length=32, blank=True)
    decision = models.JSONField(default=list, blank=True)
    reason = models.CharField(max_length=40, blank=True)
    detail = models.TextField(blank=True)
    plan_sha256 = models.CharField(max_length=64, blank=True)
    prepared = models.JSONField(default=dict, blank=True)
    planned_files = models.BigIntegerField(default=0)
    planned_bytes = models.BigIntegerField("planned logical bytes", default=0)
    compared_bytes = models.BigIntegerField("bytes compared so far", default=0)
    progress_at = models.DateTimeField("last progress", null=True, blank=True)
    done_files = models.BigIntegerField(default=0)
    done_bytes = models.BigIntegerField("logical bytes removed so far", default=0)
    freed_files = models.BigIntegerField(default=0)
    freed_bytes = models.BigIntegerField("freed logical bytes", default=0)
    freed_allocated_bytes = models.BigIntegerField(default=0)
    emptied = models.BooleanField(default=False)
    told_at = models.DateTimeField("the NAS was told at", null=True, blank=True)
    tell_after = models.DateTimeField("the NAS is told after", null=True, blank=True)
    tell_tries = models.PositiveIntegerField("vain tries to tell the NAS", default=0)
    tell_reason = models.CharField("why the NAS was not told", max_length=40, blank=True)
    tell_detail = models.TextField(blank=True)

    class Meta:
        ordering = ("-created_at",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(phase__in=Phase.values), name="attempt_phase_is_known"),
            models.CheckConstraint(condition=Q(requester__in=Requester.values), name="attempt_requester_is_known"),
            models.UniqueConstraint(
                fields=["run"],
                condition=Q(phase__in=["queued", "intent", "committed"]),
                name="one_active_attempt_per_run",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["phase", "host"], name="attempt_by_phase"),
            models.Index(fields=["tell_after"], condition=Q(tell_after__isnull=False), name="attempt_to_tell"),
        ]

    def __str__(self) -> str:
        return f"{self.phase} clear of {self.run}"

    @property
    def is_active(self) -> bool:
        return self.phase in self.ACTIVE

    @property
    def incomplete(self) -> bool:
        """Cleared, with files left behind."""
        return self.phase == Phase.DONE and self.reason == Reason.REMOVAL_INCOMPLETE

    def advance(self, before: Iterable[str], after: str, *, now: datetime, **fields: Any) -> bool:  # noqa: ANN401
        """Change the phase by compare-and-set. False: somebody else was faster, and nothing was changed."""
        changes = {"phase": after, "phase_at": now, **fields}
        with transaction.atomic():
            if not ClearAttempt.objects.filter(pk=self.pk, phase__in=list(before)).update(**changes):
                return False
            Run.objects.filter(pk=self.run_id).doubt()
        for name, value in changes.items():
            setattr(self, name, value)
        return True


class LedgerKind(models.TextChoices):
    """What a ledger row records. Only `partial` and `completed` free bytes, and each names what it freed itself."""

    AUTHORISED = "authorised"
    COMPLETED = "completed"
    PARTIAL = "partial"
    REFUSED = "refused"
    ABORTED = "aborted"
    CONFLICT = "conflict"
    REREGISTERED = "reregistered"
    MARKED_GONE = "marked_gone"


class LedgerQuerySet(models.QuerySet["LedgerEntry"]):
    def freeing(self) -> Self:
        """The rows that say what was removed."""
        return self.filter(kind__in=[LedgerKind.COMPLETED, LedgerKind.PARTIAL])

    def totals(self) -> dict[str, int]:
        """Runs cleared, and the files and bytes (logical and allocated) that were really freed."""
        sums = self.freeing().aggregate(
            runs=models.Count("run", distinct=True),
            files=bytes_sum("files", default=0),
            bytes=bytes_sum("bytes", default=0),
            allocated_bytes=bytes_sum("allocated_bytes", default=0),
        )
        return {name: int(value) for name, value in sums.items()}


class LedgerEntry(AppendOnly):
    """What was authorised, removed or refused, when, where and by whom.

    Names are copied, not referenced: a row must still tell its story when users and roots are long gone. In
    `authorised` the counts are the plan's; in `partial` and `completed` they are what this step removed. Only a run
    that was registered again, or marked as gone, has a row without an attempt.
    """

    at = models.DateTimeField()
    kind = models.CharField(max_length=12, choices=LedgerKind)
    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="ledger")
    attempt = models.ForeignKey(ClearAttempt, on_delete=models.PROTECT, null=True, blank=True, related_name="ledger")
    root_name = models.CharField(max_length=64)
    run_path = models.CharField(max_length=1024)
    equipment = models.CharField(max_length=255)
    project = models.CharField(max_length=255)
    run_kind = models.CharField(max_length=12)
    requester = models.CharField(max_length=8, choices=Requester)
    actor = models.CharField(max_length=150)
    host = models.CharField(max_length=255)
    policy_version = models.PositiveIntegerField()
    cause = models.CharField("why the schedule took it", max_length=60, blank=True)
    proof_level = models.CharField(max_length=8, blank=True)
    files = models.BigIntegerField(default=0)
    bytes = models.BigIntegerField("logical bytes", default=0)
    allocated_bytes = models.BigIntegerField(default=0)
    reason = models.CharField(max_length=40, blank=True)
    detail = models.TextField(blank=True)
    plan_sha256 = models.CharField(max_length=64, blank=True)

    objects = LedgerQuerySet.as_manager()

    class Meta:
        ordering = ("-at", "-id")
        verbose_name_plural = "ledger entries"
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(kind__in=LedgerKind.values), name="ledger_kind_is_known"),
            models.CheckConstraint(
                condition=Q(attempt__isnull=False) | Q(kind__in=["reregistered", "marked_gone"]),
                name="ledger_entry_has_its_attempt",
            ),
            models.UniqueConstraint(
                fields=["attempt"], condition=Q(kind="completed"), name="one_completed_entry_per_attempt"
            ),
            models.UniqueConstraint(
                fields=["attempt"], condition=Q(kind="authorised"), name="one_authorised_entry_per_attempt"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["at"], name="ledger_by_time")]

    def __str__(self) -> str:
        return f"{self.kind} {self.run_path}"
