"""Runs and their ingest history."""

import uuid
from typing import TYPE_CHECKING, Any, ClassVar, Self

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce

from cleanup.models import run_annotations
from cleanup.models.base import STATES, AppendOnly, RunKind
from cleanup.models.looks import LookedAt
from cleanup.models.roots import StagingRoot
from cleanup.models.run_annotations import CONFLICT, HAS_MORE, HISTORY, KnownEntry
from cleanup.rules.policies.policy import Scope
from cleanup.rules.states import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cleanup.models.clears import ClearAttempt


class Status(models.IntegerChoices):
    """How a run stands, in display order."""

    WORK = 0, "under way"
    GO = 1, "safe to clear"
    BLOCK = 2, "blocked"
    WAIT = 3, "waits"
    DONE = 4, "cleared"

    @property
    def code(self) -> str:
        """The name in addresses and style sheets: `go`."""
        return self.name.lower()


class RunQuerySet(models.QuerySet["Run"]):
    def staged(self) -> Self:
        """As far as is known."""
        return self.exclude(state=State.CLEARED).filter(gone_at=None)

    def verified(self) -> Self:
        return self.filter(state=State.SYNC_VERIFIED)

    def with_root(self) -> Self:
        """Runs with what every decision asks for: root, holds, runs that they may be, and a conflict that stands."""
        return self.with_conflict().prefetch_related(*run_annotations.what_few_have())

    def with_conflict(self) -> Self:
        """With root and conflict, for those who ask for the rest themselves."""
        return self.select_related("root").annotate(**{CONFLICT: run_annotations.key_of_conflict()})

    def read_with_root(self) -> "list[Run]":
        """As `with_root`, for few runs: one query where a run has no hold, no likeness and no attempt."""
        return self._read_with(run_annotations.asked_of_few())

    def read_by_clear(self) -> "list[Run]":
        """As `read_with_root`, for the process whose attempt is the run's active one."""
        return self._read_with(run_annotations.asked_by_a_clear())

    def _read_with(self, asked: dict[str, Any]) -> "list[Run]":
        runs = list(self.select_related("root").annotate(**asked))
        for run in runs:
            vars(run)[HISTORY] = run_annotations.in_order(vars(run)[HISTORY] or ())
            if not run.has_more:
                run.note_has_nothing()
        if some := [run for run in runs if run.has_more]:
            models.prefetch_related_objects(some, *run_annotations.what_few_have())
        return runs

    def here(self) -> Self:
        """When last judged; also those that are going just now."""
        return self.filter(here=True)

    def remembered(self) -> Self:
        """Those of which a look has found nothing against them, and nothing was written since."""
        return self.staged().exclude(seen="").filter(seen_doubts=F("doubts"))

    def doubted(self) -> Self:
        return self.filter(judged__lt=F("doubts"))

    def doubt(self) -> int:
        """Ask for another judgement; returns how many.

        Call it in the transaction of the change: a judgement that began before does not count then.
        """
        return self.update(doubts=F("doubts") + 1)


def _indexes_of_a_root() -> list[models.Index]:
    """By the last look; and from the oldest on, of one tone."""
    here = Q(here=True)
    return [
        models.Index(fields=["root", "looked_at"], condition=here, name="run_here_by_look"),
        models.Index(fields=["root", "tone", "verified_at", "id"], condition=here, name="run_here_oldest"),
    ]


def _past_indexes() -> list[models.Index]:
    """By these past runs are found; the path with the project, so that a search for words reads the index alone."""
    cleared = Q(state=State.CLEARED)
    by = (("equipment", "equipment"), ("project", "project"), ("cleared_for", "person"))
    return [
        models.Index(fields=["-cleared_at", "-id"], condition=cleared, name="run_cleared_at"),
        *(
            models.Index(fields=[column, "-cleared_at", "-id"], condition=cleared, name=f"run_cleared_by_{name}")
            for column, name in by
        ),
        models.Index(fields=["run_path", "project", "id"], condition=cleared, name="run_cleared_by_path"),
    ]


class Run(LookedAt):
    """One leaf directory beneath a staging root, named by `run_path`, known by `identity`.

    Columns repeat of `facts` what lists need. Bytes are logical unless named otherwise.
    """

    root = models.ForeignKey(StagingRoot, on_delete=models.PROTECT, related_name="runs")
    run_path = models.CharField(max_length=1024)
    identity = models.CharField(max_length=128)
    equipment = models.CharField(max_length=255)
    project = models.CharField(max_length=255)
    run_kind = models.CharField(max_length=12, choices=RunKind)
    leaf = models.CharField(max_length=64)
    project_name = models.CharField(max_length=255, blank=True)
    state = models.CharField(max_length=16, choices=STATES, blank=True)  # empty before a readable record
    verified_at = models.DateTimeField(null=True, blank=True)
    cleared_at = models.DateTimeField(null=True, blank=True)
    files = models.BigIntegerField(null=True, blank=True)
    bytes = models.BigIntegerField("logical bytes", null=True, blank=True)
    allocated_bytes = models.BigIntegerField(null=True, blank=True)
    record_format = models.CharField(max_length=16, default="ingest")  # the module that reads the record
    # Set where an admin said that the run was moved.
    record_path = models.CharField("path that the record names", max_length=1024, blank=True)
    manifest_sha256 = models.CharField("SHA-256 of its manifest", max_length=64, blank=True)
    traits = models.CharField("digest of what it was last compared by", max_length=64, blank=True)
    twin_key = models.CharField(max_length=64, blank=True)  # runs that share it, or `twin_place`, share a twin
    twin_place = models.CharField(max_length=64, blank=True)
    cleared_by = models.CharField("cleared by another program", max_length=16, blank=True)
    cleared_for = models.CharField("who had it cleared", max_length=150, blank=True)
    facts = models.JSONField(default=dict, blank=True)  # what discovery saw at `looked_at`
    problem = models.CharField(max_length=40, blank=True)
    first_seen_at = models.DateTimeField()
    failures = models.PositiveSmallIntegerField("failed attempts in a row", default=0)  # since the facts changed
    # See `rules.silent_twins`.
    nas_slow_times = models.PositiveSmallIntegerField("times its twin was silent", default=0)
    nas_retry_at = models.DateTimeField("its twin is asked again from", null=True, blank=True)
    gone_at = models.DateTimeField("declared gone at", null=True, blank=True)  # by a person
    returned_at = models.DateTimeField("first seen again after it was cleared", null=True, blank=True)
    returned_from = models.ForeignKey(
        "self",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="returns",
        verbose_name="cleared before as",
    )
    # This and the next four: the last judgement (`runs.run_status`), for lists; a run's page decides anew.
    here = models.BooleanField("lies on the staging disk", default=True)
    tone = models.PositiveSmallIntegerField("how it stands", choices=Status, default=Status.WAIT)
    reason = models.CharField("why it stands so", max_length=40, blank=True)
    stood_since = models.DateTimeField("stands so since", null=True, blank=True)
    opens_at = models.DateTimeField("may go from", null=True, blank=True)
    judge_after = models.DateTimeField("judged again after", null=True, blank=True)
    doubts = models.PositiveIntegerField(default=1)  # counts changes; `judged` those that the judgement knew
    judged = models.PositiveIntegerField("doubts judged", default=0)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ("root", "run_path")
        permissions: ClassVar = [("clear_run", "Can clear a run's staging copy")]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(state__in=["", *map(str, State)]), name="run_state_is_known"),
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
            models.Index(fields=["id"], condition=Q(judged__lt=F("doubts")), name="run_doubted"),
            models.Index(fields=["judge_after"], condition=Q(judge_after__isnull=False), name="run_judge_after"),
            models.Index(
                F("tone"), Coalesce("bytes", 0).desc(), F("id").desc(), condition=Q(here=True), name="run_here_by_tone"
            ),
            models.Index(Coalesce("bytes", 0).desc(), F("id").desc(), condition=Q(here=True), name="run_here_by_size"),
            models.Index(Coalesce("files", 0).desc(), F("id").desc(), condition=Q(here=True), name="run_here_by_files"),
            models.Index(fields=["verified_at", "id"], condition=Q(here=True), name="run_here_by_verified_at"),
            models.Index(fields=["reason", "tone"], condition=Q(here=True), name="run_here_by_reason"),
            models.Index(fields=["state", "tone"], condition=Q(here=True), name="run_here_by_state"),
            models.Index(fields=["run_path", "id"], condition=Q(here=True), name="run_here_by_path"),
            models.Index(fields=["equipment", "tone"], condition=Q(here=True), name="run_here_by_equipment"),
            models.Index(fields=["project", "tone"], condition=Q(here=True), name="run_here_by_project"),
            # Wide, so that a database can add up from the index alone.
            models.Index(
                fields=["root", "tone", "reason", "bytes", "allocated_bytes", "opens_at"],
                condition=Q(here=True),
                name="run_here_sums",
            ),
            *_indexes_of_a_root(),
            *_past_indexes(),
            models.Index(fields=["twin_key"], name="run_by_twin_key"),
            models.Index(fields=["twin_place"], name="run_by_twin_place"),
        ]

    def __str__(self) -> str:
        return self.run_path

    @property
    def scope(self) -> Scope:
        return Scope(root=self.root.name, equipment=self.equipment, project=self.project, run_kind=self.run_kind)

    @property
    def conflict(self) -> "uuid.UUID | None":
        """The key of the attempt that could not put the run back; until it is settled nothing clears the run."""
        return run_annotations.conflict_of(self)

    def note_has_nothing(self) -> None:
        """Remember that the run has no hold, no likeness, and no attempt under way or in conflict."""
        vars(self).update(
            {HAS_MORE: False, CONFLICT: None, "_prefetched_objects_cache": dict(run_annotations.nothing())}
        )

    def note_is_new(self, events: "Sequence[IngestEvent]" = ()) -> None:
        """Remember that the row was just made and has nothing yet but these entries of its history."""
        self.note_has_nothing()
        vars(self)[HISTORY] = run_annotations.known_of(events)

    @property
    def history(self) -> "list[KnownEntry]":
        """The known history, in order; after `read_with_root` as it was then."""
        return run_annotations.history_of(self)

    def note_history(self, known: "list[KnownEntry]") -> None:
        """Remember the known history, in order, as it was read just now."""
        vars(self)[HISTORY] = known

    def add_history(self, events: "Sequence[IngestEvent]") -> None:
        """Add entries at the end of the known history."""
        IngestEvent.objects.bulk_create(events)
        if HISTORY in vars(self):
            vars(self)[HISTORY] += run_annotations.known_of(events)

    @property
    def has_more(self) -> bool:
        """Whether it may have a hold, a likeness or an attempt; only `read_with_root`, `note_is_new` rule it out."""
        return bool(vars(self).get(HAS_MORE, True))

    @property
    def origin(self) -> str:
        """The beginning of its record, in its identity; `-` if unknown."""
        return self.identity.rpartition(":")[2] or "-"

    @property
    def active_attempt(self) -> "ClearAttempt | None":
        return self.attempts.filter(phase__in=self.attempts.model.ACTIVE).first()


class IngestEvent(AppendOnly):
    """One entry of a run's ingest history."""

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="events")
    position = models.PositiveIntegerField()
    state = models.CharField(max_length=16, choices=STATES)
    at = models.DateTimeField(null=True, blank=True)  # empty if `at_text` is no usable instant
    at_text = models.CharField(max_length=64, blank=True)
    host = models.CharField(max_length=255, blank=True)
    extra = models.JSONField(default=dict, blank=True)
    digest = models.CharField(max_length=64)  # SHA-256 of the entry's canonical JSON
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


class RecordSight(AppendOnly):
    """One content of a record without a history (`sync_state.json`)."""

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="record_sights")
    digest = models.CharField(max_length=64)  # SHA-256 of what it says of the run's files
    verified_at = models.DateTimeField(null=True, blank=True)  # the latest verification in it
    first_seen_at = models.DateTimeField()

    class Meta:
        ordering = ("run", "first_seen_at", "id")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "digest"], name="one_record_sight_per_content"),
        ]

    def __str__(self) -> str:
        return f"{self.digest[:12]} of {self.run}"
