"""Sweeps: what each saw and did, and the breakers that stop them."""

from dataclasses import dataclass
from typing import ClassVar

from django.db import models
from django.db.models import Q

from cleanup.models.roots import StagingRoot
from cleanup.models.runs import Run
from cleanup.rules.breaker_question import Shown
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason


class SweepKind(models.TextChoices):
    """Rehearsal and breakers bind the timed sweep; a dry run touches nothing."""

    TIMED = "timed"
    TYPED = "typed"
    DRY_RUN = "dry_run"


class Outcome(models.TextChoices):
    """`running` may also be a process that was just killed."""

    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What a sweep did with its runs: each counts once."""

    cleared: int = 0
    partial: int = 0  # cleared with files left
    would_clear: int = 0
    skipped: int = 0
    failed: int = 0
    files: int = 0  # freed, or in a dry run to be freed
    bytes: int = 0  # logical
    rehearsed_runs: int = 0  # would go under a rehearsed policy
    rehearsed_bytes: int = 0

    @property
    def runs(self) -> int:
        return self.cleared + self.partial + self.would_clear + self.skipped + self.failed

    def columns(self) -> dict[str, int]:
        """A clear that left files counts as cleared and failed."""
        return {
            "cleared": self.cleared + self.partial,
            "partial": self.partial,
            "would_clear": self.would_clear,
            "skipped": self.skipped,
            "failed": self.failed + self.partial,
            "files": self.files,
            "bytes": self.bytes,
        }


class Sweep(models.Model):
    """One sweep of one staging root, with its counts (`sweeps.record.tally`)."""

    root = models.ForeignKey(StagingRoot, on_delete=models.PROTECT, related_name="sweeps")
    kind = models.CharField(max_length=7, choices=SweepKind)
    outcome = models.CharField(max_length=11, choices=Outcome, default=Outcome.RUNNING)
    # Of its kind.
    previous = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    host = models.CharField(max_length=255)
    actor = models.CharField(max_length=150, blank=True)
    typed_by = models.CharField("typed by the account", max_length=255, blank=True)
    now = models.DateTimeField()  # it decided by this; `started_at` and `ended_at` are the clock's
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    policy_version = models.PositiveIntegerField(default=0)
    scanned = models.PositiveIntegerField(default=0)
    # Of the `scanned` runs; older rows lack it.
    staged_bytes = models.BigIntegerField("logical bytes when it began", null=True, blank=True)
    candidates = models.PositiveIntegerField(default=0)
    cleared = models.PositiveIntegerField(default=0)
    partial = models.PositiveIntegerField("cleared with files left", default=0)
    would_clear = models.PositiveIntegerField(default=0)
    skipped = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    files = models.BigIntegerField(default=0)
    bytes = models.BigIntegerField("logical bytes", default=0)
    seconds = models.FloatField(default=0)
    reason = models.CharField(max_length=40, blank=True)  # what stopped it, or a warning
    detail = models.TextField(blank=True)
    pressure = models.JSONField(default=dict, blank=True)
    clock = models.JSONField(default=dict, blank=True)
    # The last candidate handled where a budget ended it.
    cursor_verified_at = models.DateTimeField(null=True, blank=True)
    cursor_run = models.BigIntegerField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(kind__in=SweepKind.values), name="sweep_kind_is_known"),
            models.CheckConstraint(condition=Q(outcome__in=Outcome.values), name="sweep_outcome_is_known"),
        ]
        indexes: ClassVar = [models.Index(fields=["root", "kind", "-id"], name="sweep_by_root_and_kind")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.root} at {self.now:%Y-%m-%d %H:%M}"

    @property
    def only_failed(self) -> int:
        return self.failed - self.partial


class SweptRun(models.Model):
    """What sweeps of one kind decided of one run, and did.

    It stands for every sweep of its kind and root from `first` to `last`: all said the same.
    """

    # The indexes below begin with run and root; the largest table needs no second ones.
    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="swept", db_index=False)
    root = models.ForeignKey(StagingRoot, on_delete=models.PROTECT, related_name="+", db_index=False)
    kind = models.CharField(max_length=7, choices=SweepKind)
    first = models.ForeignKey(Sweep, on_delete=models.PROTECT, related_name="+")
    last = models.ForeignKey(Sweep, on_delete=models.PROTECT, related_name="+")
    action = models.CharField(max_length=11)
    reason = models.CharField(max_length=60, blank=True)
    detail = models.TextField(blank=True)
    gates = models.JSONField(default=list, blank=True)  # the decision
    policy_version = models.PositiveIntegerField(default=0)
    decided_by = models.JSONField("policy that decided", default=dict, blank=True)
    files = models.BigIntegerField(default=0)
    bytes = models.BigIntegerField("logical bytes", default=0)

    class Meta:
        ordering = ("id",)
        indexes: ClassVar = [
            models.Index(fields=["run", "kind", "last"], name="swept_by_run"),
            models.Index(fields=["root", "kind", "last"], name="swept_by_sweep"),
        ]

    def __str__(self) -> str:
        return f"{self.run}: {self.action} {self.reason}".rstrip()


class SweepBreaker(models.Model):
    """What stopped a root's sweeps until a person says "go on"."""

    root = models.ForeignKey(StagingRoot, on_delete=models.PROTECT, related_name="breakers")
    sweep = models.ForeignKey(Sweep, on_delete=models.PROTECT, related_name="breakers")
    kind = models.CharField(max_length=12)
    detail = models.TextField()
    saw = models.JSONField(default=dict, blank=True)  # in numbers
    # The runs of its question (`rules.breaker_question`): a go-on is for these alone, in older rows for none.
    shown = models.JSONField(default=dict, blank=True)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.CharField(max_length=150, blank=True)
    typed_by = models.CharField("typed by the account", max_length=255, blank=True)
    note = models.CharField(max_length=500, blank=True)
    # The sweep that went on.
    used = models.ForeignKey(Sweep, on_delete=models.PROTECT, null=True, blank=True, related_name="+")

    class Meta:
        ordering = ("-opened_at",)
        permissions: ClassVar = [("go_on", "Can let sweeps go on after a breaker")]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["root"], condition=Q(closed_at__isnull=True), name="one_open_breaker_per_root"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} on {self.root}"

    @property
    def finding(self) -> Finding:
        """An open breaker, as the finding of every run on its root."""
        return Finding(Reason.BREAKER_OPEN, self.detail)

    @property
    def lets_go(self) -> Shown:
        return Shown.of_json(self.shown)

    @property
    def code(self) -> str:
        return self.code_of(self.lets_go)

    def code_of(self, shown: Shown) -> str:
        """With the kinds: an answer to failing clears is none to a clock jump."""
        kinds = "+".join(sorted({sight["kind"] for sight in self.saw.get("sights", [])}))
        return f"{self.pk}-{kinds}-{shown.code}"
