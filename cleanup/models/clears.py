"""Clears: proof, batch and attempt."""

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar, Self

from django.db import models, transaction
from django.db.models import Q

from cleanup.models.base import AppendOnly
from cleanup.models.checks_here import AcceptedBytes
from cleanup.models.runs import Run
from cleanup.rules.decisions import Gate
from cleanup.rules.gates import ONLY_HERE
from cleanup.rules.policies.policy import ProofLevel
from cleanup.rules.reasons import Reason


class Proof(AppendOnly):
    """Dated evidence that the NAS held a run."""

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="proofs")
    level = models.CharField(max_length=8, choices=[(level.value, level.value) for level in ProofLevel])
    at = models.DateTimeField()
    host = models.CharField(max_length=255)
    files = models.BigIntegerField()
    bytes = models.BigIntegerField("logical bytes")
    manifest_sha256 = models.CharField(max_length=64, blank=True)
    # SHA-256 of all by which a change on either side would show (`runs.proofs.proofs`); the proof is reused only while
    # it is the same, never if empty.
    evidence = models.CharField(max_length=64, blank=True)
    accepted = models.ForeignKey(
        AcceptedBytes,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="proofs",
        verbose_name="accepted as",
    )

    class Meta:
        ordering = ("-at",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(level__in=list(ProofLevel)), name="proof_level_is_known"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.files} files at {self.at:%Y-%m-%d %H:%M}"

    @property
    def kind(self) -> str:
        """Accepted bytes take the manifest's place."""
        return "accepted" if self.accepted_id else self.level


class Phase(models.TextChoices):
    """Recovery rolls back before `committed`, forward after."""

    QUEUED = "queued"
    INTENT = "intent"
    COMMITTED = "committed"
    DONE = "done"
    REFUSED = "refused"
    ABORTED = "aborted"
    CONFLICT = "conflict"


class AttemptKind(models.TextChoices):
    """An attempt clears a run, or removes the wizard's empty shell at its path."""

    CLEAR = "clear"
    SHELL = "shell"


class Requester(models.TextChoices):
    OPERATOR = "operator"
    SCHEDULE = "schedule"


class ClearBatch(models.Model):
    """Clears that an operator asked for together, as one preview showed them.

    One with `starts_at` waits: until it begins it has no attempts, but `WaitingRun`s.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    actor = models.CharField(max_length=150)
    note = models.CharField("reason given", max_length=500, blank=True)
    digest = models.CharField(max_length=64)  # of the preview
    created_at = models.DateTimeField()
    paused_at = models.DateTimeField(null=True, blank=True)  # while it is set, no run is begun
    paused_by = models.CharField(max_length=150, blank=True)
    paused_seconds = models.FloatField(default=0)  # earlier pauses
    stopped_at = models.DateTimeField(null=True, blank=True)  # after it no run is begun
    stopped_by = models.CharField(max_length=150, blank=True)  # empty: called off by itself
    starts_at = models.DateTimeField("waits until", null=True, blank=True)
    started_at = models.DateTimeField("began after its wait", null=True, blank=True)

    class Meta:
        ordering = ("-created_at",)
        verbose_name_plural = "clear batches"
        indexes: ClassVar = [
            models.Index(
                fields=["starts_at"],
                condition=Q(starts_at__isnull=False, started_at=None, stopped_at=None),
                name="batch_that_waits",
            ),
        ]

    def __str__(self) -> str:
        return f"clears asked for by {self.actor} at {self.created_at:%Y-%m-%d %H:%M}"

    @property
    def has_begun(self) -> bool:
        return self.starts_at is None or self.started_at is not None

    @property
    def waits(self) -> bool:
        return not self.has_begun and self.stopped_at is None

    @property
    def is_called_off(self) -> bool:
        return not self.has_begun and self.stopped_at is not None

    @property
    def is_called_off_by_itself(self) -> bool:
        return self.is_called_off and not self.stopped_by

    @property
    def began_at(self) -> datetime:
        return self.started_at or self.created_at


class ClearAttemptQuerySet(models.QuerySet["ClearAttempt"]):
    def clears(self) -> Self:
        return self.filter(kind=AttemptKind.CLEAR)

    def last_tries(self) -> Self:
        return self.filter(repeated_by=None)

    def waiting_for_another_try(self) -> Self:
        return self.filter(again_after__isnull=False)


class ClearAttempt(models.Model):
    """One try at one clear, or at the removal of a shell.

    Its id names the fence, the plan and the tombstone. Older rows lack newer fields.
    """

    shells: tuple[str, ...] = ()  # not stored: shells moved aside when the run went back to its path
    challenging: bool = False  # not stored: a challenge may lie in the fence, so the run's mtime may not be its own
    ACTIVE: ClassVar = (Phase.QUEUED, Phase.INTENT, Phase.COMMITTED)
    FAILED: ClassVar = (Phase.REFUSED, Phase.ABORTED, Phase.CONFLICT)  # ended, and the run stayed

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="attempts")
    batch = models.ForeignKey(ClearBatch, on_delete=models.PROTECT, null=True, blank=True, related_name="attempts")
    kind = models.CharField(max_length=5, choices=AttemptKind, default=AttemptKind.CLEAR)
    phase = models.CharField(max_length=9, choices=Phase, default=Phase.QUEUED)
    host = models.CharField(max_length=255)
    requester = models.CharField(max_length=8, choices=Requester)
    actor = models.CharField(max_length=150)
    typed_by = models.CharField("typed by the account", max_length=255, blank=True)
    note = models.CharField("reason given", max_length=500, blank=True)
    policy_version = models.PositiveIntegerField(default=0)  # the newest of any policy
    decided_by = models.JSONField("policy that decided", default=dict, blank=True)
    cause = models.CharField("why the schedule took it", max_length=60, blank=True)
    sweep = models.ForeignKey(
        "cleanup.Sweep", on_delete=models.PROTECT, null=True, blank=True, related_name="attempts", verbose_name="pass"
    )
    # The breaker whose go-on covers it.
    let_go = models.ForeignKey(
        "cleanup.SweepBreaker",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="attempts",
        verbose_name="let go after",
    )
    proof = models.ForeignKey(Proof, on_delete=models.PROTECT, null=True, blank=True, related_name="attempts")
    created_at = models.DateTimeField()
    phase_at = models.DateTimeField()
    task_id = models.CharField(max_length=32, blank=True)
    # See `clears.retries`.
    repeats = models.OneToOneField(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="repeated_by", verbose_name="tries again"
    )
    tries = models.PositiveSmallIntegerField("tries before this one", default=0)
    interruptions = models.PositiveSmallIntegerField("tries before that were interrupted", default=0)
    again_after = models.DateTimeField("tried again after", null=True, blank=True)
    # No weaker proof is accepted than this version promised.
    asked_version = models.PositiveIntegerField("policy version when it was asked for", null=True, blank=True)
    decision = models.JSONField(default=list, blank=True)
    reason = models.CharField(max_length=40, blank=True)
    detail = models.TextField(blank=True)
    plan_sha256 = models.CharField(max_length=64, blank=True)  # with `prepared` it tells recovery what is ours
    prepared = models.JSONField(default=dict, blank=True)
    planned_files = models.BigIntegerField(default=0)
    planned_bytes = models.BigIntegerField("planned logical bytes", default=0)
    compared_bytes = models.BigIntegerField("bytes compared so far", default=0)
    step = models.CharField("step under way", max_length=20, blank=True)
    checked_files = models.BigIntegerField("twin files opened again so far", default=0)
    twin_path = models.CharField("where the twin lay", max_length=8192, blank=True)
    nas_flags = models.CharField("flags in force", max_length=200, blank=True)
    progress_at = models.DateTimeField("last progress", null=True, blank=True)
    done_files = models.BigIntegerField(default=0)
    done_bytes = models.BigIntegerField("logical bytes removed so far", default=0)
    freed_files = models.BigIntegerField(default=0)  # `freed_*`: what was really removed
    freed_bytes = models.BigIntegerField("freed logical bytes", default=0)
    freed_allocated_bytes = models.BigIntegerField(default=0)
    measured_bytes = models.BigIntegerField("bytes that the disk gave back", null=True, blank=True)
    unmeasured = models.CharField("why that is not known", max_length=16, blank=True)
    disk_bytes = models.BigIntegerField("size of the disk", null=True, blank=True)
    disk_free_before = models.BigIntegerField("free before the removal", null=True, blank=True)
    disk_free_after = models.BigIntegerField("free after the removal", null=True, blank=True)
    emptied = models.BooleanField(default=False)  # only the record was left
    told_at = models.DateTimeField("the NAS was told at", null=True, blank=True)
    tell_after = models.DateTimeField("the NAS is told after", null=True, blank=True)
    tell_tries = models.PositiveIntegerField("vain tries to tell the NAS", default=0)
    tell_reason = models.CharField("why the NAS was not told", max_length=40, blank=True)
    tell_detail = models.TextField(blank=True)
    receipt_after = models.DateTimeField("a receipt is written after", null=True, blank=True)  # its rows say more
    receipt_tries = models.PositiveIntegerField("vain tries to write a receipt", default=0)
    receipt_problem = models.CharField("why there is no receipt yet", max_length=400, blank=True)

    objects = ClearAttemptQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(phase__in=Phase.values), name="attempt_phase_is_known"),
            models.CheckConstraint(condition=Q(requester__in=Requester.values), name="attempt_requester_is_known"),
            models.CheckConstraint(condition=Q(kind__in=AttemptKind.values), name="attempt_kind_is_known"),
            models.UniqueConstraint(
                fields=["run"],
                condition=Q(phase__in=["queued", "intent", "committed"]),
                name="one_active_attempt_per_run",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["phase", "host"], name="attempt_by_phase"),
            models.Index(fields=["again_after"], condition=Q(again_after__isnull=False), name="attempt_to_try_again"),
            models.Index(fields=["tell_after"], condition=Q(tell_after__isnull=False), name="attempt_to_tell"),
            models.Index(fields=["receipt_after"], condition=Q(receipt_after__isnull=False), name="attempt_to_attest"),
        ]

    def __str__(self) -> str:
        return f"{self.phase} {'clear' if self.kind == AttemptKind.CLEAR else 'removal of a shell'} of {self.run}"

    @property
    def is_clear(self) -> bool:
        return self.kind == AttemptKind.CLEAR

    @property
    def is_active(self) -> bool:
        return self.phase in self.ACTIVE

    @property
    def promised_version(self) -> int:
        """`policy_version` becomes the version that decided."""
        return self.policy_version if self.asked_version is None else self.asked_version

    @property
    def waits_for_another_try(self) -> bool:
        return self.again_after is not None

    @property
    def only_here(self) -> str:
        """What the NAS lacked besides bytes, in words."""
        details = (gate["detail"] or "" for gate in self.decision or () if gate["gate"] == Gate.PROOF)
        return next((detail.partition(ONLY_HERE)[2].strip() for detail in details if ONLY_HERE in detail), "")

    @property
    def incomplete(self) -> bool:
        """Cleared, with files left behind."""
        return self.phase == Phase.DONE and self.reason == Reason.REMOVAL_INCOMPLETE

    def advance(self, before: Iterable[str], after: str, *, now: datetime, **fields: Any) -> bool:  # noqa: ANN401
        """Change the phase by compare-and-set, and doubt the run. False changes nothing: another worker was faster."""
        with transaction.atomic(savepoint=False):  # inside another one an error undoes that one anyway
            if not self.advance_alone(before, after, now=now, **fields):
                return False
            Run.objects.filter(pk=self.run_id).doubt()
        return True

    def advance_alone(self, before: Iterable[str], after: str, *, now: datetime, **fields: Any) -> bool:  # noqa: ANN401
        """As `advance`, where the run stands as before, or the caller lets it be judged anew."""
        changes = {"phase": after, "phase_at": now, **fields}
        if not ClearAttempt.objects.filter(pk=self.pk, phase__in=list(before)).update(**changes):
            return False
        for name, value in changes.items():
            setattr(self, name, value)
        return True
