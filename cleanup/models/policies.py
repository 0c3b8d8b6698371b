"""Retention policies, every version of them."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar, cast

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Case, Exists, OuterRef, Q, Subquery, When

from cleanup.models.base import AppendOnly, RunKind
from cleanup.models.first_nights import RootNote, read_listed
from cleanup.models.roots import StagingRoot
from cleanup.models.runs import Run
from cleanup.rules.policies.approval import approve_all
from cleanup.rules.policies.effective import effective_policy, limits_of
from cleanup.rules.policies.fields import NOT_SO_NARROW, ROOT_FIELDS, SWEEP_FIELDS
from cleanup.rules.policies.policy import (
    MAX_BUDGET_MINUTES,
    MAX_RETAIN_HOURS,
    Beyond,
    Limits,
    Mode,
    Policy,
    ProofLevel,
    Scope,
    ScopedPolicy,
    Stage,
)


class RetentionPolicyQuerySet(models.QuerySet["RetentionPolicy"]):
    def in_force(self, *, as_of: int | None = None) -> "list[RetentionPolicy]":
        """The newest version of every scope; `as_of`: when that was the newest."""
        newest: dict[Scope, RetentionPolicy] = {}
        versions = self if as_of is None else self.filter(version__lte=as_of)
        for policy in versions.select_related("root").order_by("version"):
            newest[policy.scope] = policy
        return list(newest.values())

    def scoped(self, *, as_of: int | None = None, drafted: "Iterable[RetentionPolicy]" = ()) -> list[ScopedPolicy]:
        """The policies in force as values, as if those `drafted` had been written one after the other."""
        versions = self if as_of is None else self.filter(version__lte=as_of)
        # Once for all versions, beside the newest.
        newest = Subquery(versions.order_by("-version").values("version")[:1])
        rows = list(
            versions.annotate(notes=Case(When(version=newest, then=RootNote.objects.listed(as_of=as_of))))._read()
        )
        chains = _chains(rows)
        drafts = list(drafted)
        for draft in drafts:
            chains.setdefault(draft.scope, []).append(draft.as_value())
        nights = read_listed(rows[-1].notes) if rows else RootNote.objects.first_nights(as_of=as_of) if drafts else {}
        return approve_all(chains, nights)

    def chains(self, *, as_of: int | None = None) -> dict[Scope, list[ScopedPolicy]]:
        """Every version of each scope, oldest first."""
        return _chains((self if as_of is None else self.filter(version__lte=as_of))._read())

    def _read(self) -> "Iterable[Any]":
        surprises = Surprise.objects.filter(policy_version=OuterRef("version"))
        return cast(
            "Iterable[Any]", self.annotate(surprised=Exists(surprises)).select_related("root").order_by("version")
        )

    def newest_version(self) -> int:
        """The number of the newest version of any scope; 0 where there is none."""
        return int(self.aggregate(version=models.Max("version"))["version"] or 0)

    def effective_for(self, run: Run) -> Policy:
        return effective_policy(self.scoped(), run.scope)

    def in_earnest_for(self, run: Run) -> Policy:
        """As `effective_for` for what a person asks for, which needs no approval: one query."""
        return effective_policy([policy.as_value() for policy in self.in_force()], run.scope).in_earnest()

    def newest_of(self, **scope: Any) -> "RetentionPolicy | None":  # noqa: ANN401
        """The version in force of the scope with these columns."""
        return self.filter(**scope).order_by("-version").first()

    def limits_of(self, root: StagingRoot) -> Limits:
        return limits_of(self.scoped(), root.name)


def _chains(versions: Iterable[Any]) -> dict[Scope, list[ScopedPolicy]]:
    chains: dict[Scope, list[ScopedPolicy]] = {}
    for policy in versions:
        value: ScopedPolicy = replace(policy.as_value(), surprised=policy.surprised)
        chains.setdefault(value.scope, []).append(value)
    return chains


def _hours() -> "models.FloatField[float | None, float | None]":
    validators = [MinValueValidator(0), MaxValueValidator(MAX_RETAIN_HOURS)]
    return models.FloatField(null=True, blank=True, validators=validators)


class RetentionPolicy(AppendOnly):
    """One version of a scope's policy; the newest is in force.

    Empty scope fields mean everywhere. Bytes are logical.
    """

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
    only_here = models.CharField(max_length=5, blank=True, choices=[(each.value, each.value) for each in Beyond])
    min_retain_hours = _hours()
    stalled_after_hours = _hours()
    max_bytes = models.BigIntegerField(null=True, blank=True, validators=[MinValueValidator(0)])
    max_runs = models.PositiveIntegerField(null=True, blank=True)
    # Free space of the disk, as `free_stop_bytes`.
    free_start_bytes = models.BigIntegerField(null=True, blank=True, validators=[MinValueValidator(0)])
    free_stop_bytes = models.BigIntegerField(null=True, blank=True, validators=[MinValueValidator(0)])
    budget_runs = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    budget_bytes = models.BigIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    budget_minutes = models.FloatField(null=True, blank=True, validators=[MaxValueValidator(MAX_BUDGET_MINUTES)])
    max_share = models.FloatField(null=True, blank=True, validators=[MaxValueValidator(1)])
    # The stage of this version: promotion and return are versions of their own.
    rehearsal = models.CharField(
        max_length=10, default=Stage.OFF, choices=[(stage.value, stage.value) for stage in Stage]
    )
    rehearsal_nights = models.PositiveSmallIntegerField(null=True, blank=True, validators=[MaxValueValidator(365)])
    note = models.CharField(max_length=500, blank=True)
    author = models.CharField(max_length=150)
    typed_by = models.CharField("typed by the account", max_length=255, blank=True)
    created_at = models.DateTimeField()

    objects = RetentionPolicyQuerySet.as_manager()

    class Meta:
        ordering = ("-version",)
        verbose_name_plural = "retention policies"
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(mode__in=["", *Mode]), name="policy_mode_is_known"),
            models.CheckConstraint(condition=Q(proof__in=["", *ProofLevel]), name="policy_proof_is_known"),
            models.CheckConstraint(condition=Q(only_here__in=["", *Beyond]), name="policy_only_here_is_known"),
            models.CheckConstraint(condition=Q(run_kind__in=["", *RunKind.values]), name="policy_run_kind_is_known"),
            models.CheckConstraint(condition=Q(rehearsal__in=list(Stage)), name="policy_rehearsal_is_known"),
            models.CheckConstraint(
                condition=Q(free_start_bytes__isnull=True, free_stop_bytes__isnull=True)
                | Q(free_start_bytes__lt=models.F("free_stop_bytes")),
                name="policy_watermarks_are_sane",
            ),
            models.CheckConstraint(
                condition=Q(retain_hours__isnull=True)
                | (Q(retain_hours__gte=0) & Q(retain_hours__lte=MAX_RETAIN_HOURS)),
                name="policy_retain_hours_is_sane",
            ),
        ]

    def __str__(self) -> str:
        return f"policy version {self.version}"

    def clean(self) -> None:
        # NaN passes every limit, and SQLite stores it as unset.
        for name in ("retain_hours", "min_retain_hours", "stalled_after_hours", "budget_minutes", "max_share"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValidationError({name: "Enter a number."})
            if name in ("budget_minutes", "max_share") and value is not None and value <= 0:
                raise ValidationError({name: "Enter a number above 0."})
        self._expect_sane_limits()
        self._expect_fitting_scope()

    def _expect_sane_limits(self) -> None:
        start, stop = self.free_start_bytes, self.free_stop_bytes
        if (start is None) != (stop is None):
            raise ValidationError({"free_start_bytes": "Free space needs both: where to start and where to stop."})
        if start is not None and stop is not None and start >= stop:
            raise ValidationError({"free_stop_bytes": "Clearing must stop at more free space than it starts at."})
        floor, retain_hours = self.min_retain_hours, self.retain_hours
        if floor is not None and retain_hours is not None and floor > retain_hours:
            raise ValidationError({"min_retain_hours": "The floor under pressure cannot be longer than the retention."})

    def _expect_fitting_scope(self) -> None:
        narrow = bool(self.equipment or self.project or self.run_kind)
        for name in ROOT_FIELDS:
            if getattr(self, name) is not None and (narrow or self.root is None):
                raise ValidationError({name: "A limit of this kind is set for one staging root as a whole."})
        for name in SWEEP_FIELDS:
            if getattr(self, name) is not None and narrow:
                raise ValidationError({name: NOT_SO_NARROW})

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
            only_here=Beyond(self.only_here) if self.only_here else None,
            min_retain_hours=self.min_retain_hours,
            stalled_after_hours=self.stalled_after_hours,
            **{name: getattr(self, name) for name in (*ROOT_FIELDS, *SWEEP_FIELDS)},
            stage=Stage(self.rehearsal),
        )


class Surprise(AppendOnly):
    """A run that turned out needed or unsafe when it was to go."""

    policy_version = models.PositiveIntegerField()
    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="surprises")
    at = models.DateTimeField()
    reason = models.CharField(max_length=40)
    detail = models.TextField(blank=True)

    class Meta:
        ordering = ("-at",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["policy_version", "run"], name="one_surprise_per_version_and_run"),
        ]

    def __str__(self) -> str:
        return f"{self.run}: {self.reason}"
