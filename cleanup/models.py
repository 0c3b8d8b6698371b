"""What exists: staging roots, runs with their ingest history, policies, attempts, the ledger."""

import math
import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar, Self

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import Q

from cleanup.policy.lifecycle import State
from cleanup.policy.reasons import Reason
from cleanup.policy.retention import MAX_RETAIN_HOURS, Mode, Policy, ProofLevel, Scope, ScopedPolicy, effective_policy

STATES = [(state.value, state.value.replace("_", " ")) for state in State]


class RunKind(models.TextChoices):
    EXPERIMENTAL = "experimental"
    TEST = "test"


class AppendOnly(models.Model):
    """A row that is written once. Triggers hold it in the database too; see `append_only.py`."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        if not self._state.adding:
            raise ValidationError(f"{self._meta.verbose_name} rows are never changed")
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:  # noqa: ANN401
        raise ValidationError(f"{self._meta.verbose_name} rows are never removed")


class StagingRoot(models.Model):
    """A directory on one host that holds runs, and the NAS root that mirrors it.

    `token` is the UUID in the token file at the root's top; without that file nothing is done there. A token that is
    empty has not been laid yet, because the directory was empty: perhaps its disk was not mounted.
    """

    name = models.CharField(max_length=64, unique=True)
    host = models.CharField(max_length=255)
    path = models.CharField(max_length=4096)
    token = models.CharField(max_length=36, blank=True)
    nas_path = models.CharField("NAS root", max_length=4096, blank=True)
    nas_token = models.CharField("NAS token", max_length=36, blank=True)
    allow_same_filesystem = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    discovered_at = models.DateTimeField(null=True, blank=True)
    problem = models.CharField(max_length=40, blank=True)

    class Meta:
        ordering = ("name",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["host", "path"], name="one_staging_root_per_host_and_path"),
            models.CheckConstraint(condition=~Q(path="") & ~Q(path="/"), name="staging_root_is_no_filesystem_root"),
        ]

    def __str__(self) -> str:
        return self.name


class RunQuerySet(models.QuerySet["Run"]):
    def staged(self) -> Self:
        """Runs whose staging copy has not been cleared, as far as anybody knows."""
        return self.exclude(state=State.CLEARED).filter(gone_at=None)

    def verified(self) -> Self:
        return self.filter(state=State.SYNC_VERIFIED)

    def with_root(self) -> Self:
        return self.select_related("root")


class Run(models.Model):
    """One leaf directory beneath a staging root, named by its `run_path` and known by its `identity`.

    `state` is empty as long as no readable `ingest.json` was seen. `facts` is what discovery saw last, at `looked_at`;
    the columns beside it repeat what lists filter, sort and add up. Bytes are logical unless the name says otherwise.
    `failures` counts the attempts that failed in a row since the facts last changed. A run with `gone_at` was declared
    gone by a person: another directory lies at its path, so its row only tells what was known of it.
    """

    root = models.ForeignKey(StagingRoot, on_delete=models.PROTECT, related_name="runs")
    run_path = models.CharField(max_length=1024)
    identity = models.CharField(max_length=128)
    equipment = models.CharField(max_length=255)
    project = models.CharField(max_length=255)
    run_kind = models.CharField(max_length=12, choices=RunKind)
    leaf = models.CharField(max_length=64)
    project_name = models.CharField(max_length=255, blank=True)
    state = models.CharField(max_length=16, choices=STATES, blank=True)
    verified_at = models.DateTimeField(null=True, blank=True)
    cleared_at = models.DateTimeField(null=True, blank=True)
    files = models.BigIntegerField(null=True, blank=True)
    bytes = models.BigIntegerField("logical bytes", null=True, blank=True)
    facts = models.JSONField(default=dict, blank=True)
    problem = models.CharField(max_length=40, blank=True)
    first_seen_at = models.DateTimeField()
    looked_at = models.DateTimeField(null=True, blank=True)
    failures = models.PositiveSmallIntegerField("failed attempts in a row", default=0)
    gone_at = models.DateTimeField("declared gone at", null=True, blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ("root", "run_path")
        permissions: ClassVar = [("clear_run", "Can clear a run's staging copy")]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(state__in=["", *(state.value for state in State)]), name="run_state_is_known"
            ),
            models.CheckConstraint(condition=Q(run_kind__in=RunKind.values), name="run_kind_is_known"),
            models.UniqueConstraint(
                fields=["root", "run_path"],
                condition=~Q(state=State.CLEARED) & Q(gone_at=None),
                name="one_staged_run_per_path",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["verified_at", "id"], condition=Q(state=State.SYNC_VERIFIED), name="run_verified_at"),
            models.Index(fields=["root", "run_path"], name="run_by_path"),
        ]

    def __str__(self) -> str:
        return self.run_path

    @property
    def scope(self) -> Scope:
        return Scope(root=self.root.name, equipment=self.equipment, project=self.project, run_kind=self.run_kind)

    @property
    def active_attempt(self) -> "ClearAttempt | None":
        return self.attempts.filter(phase__in=ClearAttempt.ACTIVE).first()


class IngestEvent(AppendOnly):
    """One entry of a run's ingest history, as the file or our own clear wrote it.

    `digest` is the SHA-256 of the entry's canonical JSON; `at` is empty where `at_text` is no usable instant.
    """

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="events")
    position = models.PositiveIntegerField()
    state = models.CharField(max_length=16, choices=STATES)
    at = models.DateTimeField(null=True, blank=True)
    at_text = models.CharField(max_length=64, blank=True)
    host = models.CharField(max_length=255, blank=True)
    extra = models.JSONField(default=dict, blank=True)
    digest = models.CharField(max_length=64)
    first_seen_at = models.DateTimeField()

    class Meta:
        ordering = ("run", "position")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "position"], name="one_ingest_event_per_position"),
            models.UniqueConstraint(fields=["run", "digest"], name="one_ingest_event_per_content"),
            models.UniqueConstraint(fields=["run"], condition=Q(state=State.CLEARED), name="one_cleared_event_per_run"),
            models.CheckConstraint(
                condition=Q(state__in=[state.value for state in State]), name="ingest_event_state_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.position}: {self.state}"


class RetentionPolicyQuerySet(models.QuerySet["RetentionPolicy"]):
    def in_force(self) -> "list[RetentionPolicy]":
        """The newest version of every scope."""
        newest: dict[Scope, RetentionPolicy] = {}
        for policy in self.select_related("root").order_by("version"):
            newest[policy.scope] = policy
        return list(newest.values())

    def scoped(self) -> list[ScopedPolicy]:
        """The policies in force, as values for `effective_policy`."""
        return [policy.as_value() for policy in self.in_force()]

    def effective_for(self, run: Run) -> Policy:
        return effective_policy(self.scoped(), run.scope)

    def add_version(
        self,
        *,
        root: StagingRoot | None = None,
        author: str,
        now: datetime,
        **fields: Any,  # noqa: ANN401
    ) -> "RetentionPolicy":
        """Write a new version for one scope; fields that are not named are carried over from the version before."""
        scope = {name: fields.pop(name, "") or "" for name in ("equipment", "project", "run_kind")}
        with transaction.atomic():
            before = self.filter(root=root, **scope).order_by("-version").first()
            carried = {name: getattr(before, name) for name in ("mode", "retain_hours", "proof")} if before else {}
            newest = self.aggregate(version=models.Max("version"))["version"] or 0
            policy = RetentionPolicy(
                root=root, author=author, created_at=now, version=newest + 1, **scope, **{**carried, **fields}
            )
            policy.full_clean()
            policy.save()
        return policy


class RetentionPolicy(AppendOnly):
    """One version of the policy of one scope. Empty scope fields mean everywhere; the newest version is in force."""

    version = models.PositiveIntegerField(unique=True)
    root = models.ForeignKey(StagingRoot, on_delete=models.PROTECT, null=True, blank=True, related_name="policies")
    equipment = models.CharField(max_length=255, blank=True)
    project = models.CharField(max_length=255, blank=True)
    run_kind = models.CharField(max_length=12, blank=True, choices=RunKind)
    mode = models.CharField(max_length=9, blank=True, choices=[(mode.value, mode.value) for mode in Mode])
    retain_hours = models.FloatField(
        null=True, blank=True, validators=[MinValueValidator(0), MaxValueValidator(MAX_RETAIN_HOURS)]
    )
    proof = models.CharField(max_length=8, blank=True, choices=[(level.value, level.value) for level in ProofLevel])
    author = models.CharField(max_length=150)
    created_at = models.DateTimeField()

    objects = RetentionPolicyQuerySet.as_manager()

    class Meta:
        ordering = ("-version",)
        verbose_name_plural = "retention policies"
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(mode__in=["", *Mode]), name="policy_mode_is_known"),
            models.CheckConstraint(condition=Q(proof__in=["", *ProofLevel]), name="policy_proof_is_known"),
            models.CheckConstraint(condition=Q(run_kind__in=["", *RunKind.values]), name="policy_run_kind_is_known"),
            models.CheckConstraint(
                condition=Q(retain_hours__isnull=True)
                | (Q(retain_hours__gte=0) & Q(retain_hours__lte=MAX_RETAIN_HOURS)),
                name="policy_retain_hours_is_sane",
            ),
        ]

    def __str__(self) -> str:
        return f"policy version {self.version}"

    def clean(self) -> None:
        # "Not a number" is neither below nor above any limit, and SQLite would keep it as "unset".
        if self.retain_hours is not None and not math.isfinite(self.retain_hours):
            raise ValidationError({"retain_hours": "Enter a number of hours."})

    @property
    def scope(self) -> Scope:
        return Scope(
            root=self.root.name if self.root else None,
            equipment=self.equipment or None,
            project=self.project or None,
            run_kind=self.run_kind or None,
        )

    def as_value(self) -> ScopedPolicy:
        return ScopedPolicy(
            scope=self.scope,
            version=self.version,
            mode=Mode(self.mode) if self.mode else None,
            retain_hours=self.retain_hours,
            proof=ProofLevel(self.proof) if self.proof else None,
        )


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


class ClearAttempt(models.Model):
    """One try at one clear. Its id names the fence, the plan and the tombstone.

    `planned_*` is what the plan holds, `freed_*` what was really removed so far; `compared_bytes` and
    `done_*` are the progress of what is under way. `plan_sha256` and `prepared` tell recovery what is ours, `emptied`
    that nothing but the record was left of the run.

    `told_at` is when the history on the NAS got its `cleared` entry; until then `tell_reason` says why not, and
    `tell_after` when it is tried next (never, if empty).
    """

    ACTIVE: ClassVar = (Phase.QUEUED, Phase.INTENT, Phase.COMMITTED)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="attempts")
    phase = models.CharField(max_length=9, choices=Phase, default=Phase.QUEUED)
    host = models.CharField(max_length=255)
    requester = models.CharField(max_length=8, choices=Requester)
    actor = models.CharField(max_length=150)
    note = models.CharField("reason given", max_length=500, blank=True)
    policy_version = models.PositiveIntegerField(default=0)
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
        if not ClearAttempt.objects.filter(pk=self.pk, phase__in=list(before)).update(**changes):
            return False
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


class LedgerQuerySet(models.QuerySet["LedgerEntry"]):
    def freeing(self) -> Self:
        """The rows that say what was removed."""
        return self.filter(kind__in=[LedgerKind.COMPLETED, LedgerKind.PARTIAL])

    def totals(self) -> dict[str, int]:
        """Runs cleared, and the files and bytes (logical and allocated) that were really freed."""
        sums = self.freeing().aggregate(
            runs=models.Count("run", distinct=True),
            files=models.Sum("files", default=0),
            bytes=models.Sum("bytes", default=0),
            allocated_bytes=models.Sum("allocated_bytes", default=0),
        )
        return {name: int(value) for name, value in sums.items()}


class LedgerEntry(AppendOnly):
    """What was authorised, removed or refused, when, where and by whom.

    Names are copied, not referenced: a row must still tell its story when users and roots are long gone. In
    `authorised` the counts are the plan's; in `partial` and `completed` they are what this step removed. Only a run
    that was registered again has a row without an attempt.
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
                condition=Q(attempt__isnull=False) | Q(kind="reregistered"), name="ledger_entry_has_its_attempt"
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


class NasBreaker(models.Model):
    """What a NAS root was like of late, seen from one host: after trouble nobody asks it again before `open_until`.

    A mount that hangs costs everybody a minute who asks; one breaker for all processes lets only one of them pay.
    """

    host = models.CharField(max_length=255)
    token = models.CharField(max_length=36)
    failures = models.PositiveIntegerField("failures in a row", default=0)
    open_until = models.DateTimeField("not asked until", null=True, blank=True)
    reason = models.CharField(max_length=40, blank=True)
    detail = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["host", "token"], name="one_breaker_per_host_and_nas_root"),
        ]

    def __str__(self) -> str:
        return f"{self.token} on {self.host}: {self.failures} failures"


class Heartbeat(models.Model):
    """When a task cluster last ran a task: a cluster can hang while its own status still says it works."""

    cluster = models.CharField(max_length=64)
    host = models.CharField(max_length=255)
    at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["cluster", "host"], name="one_heartbeat_per_cluster_and_host"),
        ]

    def __str__(self) -> str:
        return f"{self.cluster} on {self.host}"
