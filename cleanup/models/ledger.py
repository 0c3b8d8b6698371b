"""The ledger: what was authorised, removed or refused. It only grows."""

from typing import Any, ClassVar, Self

from django.db import models
from django.db.models import Q

from cleanup.models.aggregates import exact_bytes_sum
from cleanup.models.base import AppendOnly
from cleanup.models.clears import ClearAttempt, Requester
from cleanup.models.runs import Run


class LedgerKind(models.TextChoices):
    """Only `partial` and `completed` free bytes, each its own."""

    AUTHORISED = "authorised"
    COMPLETED = "completed"
    PARTIAL = "partial"
    REFUSED = "refused"
    ABORTED = "aborted"
    CONFLICT = "conflict"
    REREGISTERED = "reregistered"
    MARKED_GONE = "marked_gone"
    SHELL = "shell"
    SET_ASIDE = "set_aside"
    PUT_BACK = "put_back"
    ACCEPTED = "accepted"
    # Of the ledger itself: what a restored database lacks, what was brought back into it, and the keys that sign.
    RESTORED = "restored"
    RECOVERED = "recovered"
    KEY = "key"

    @classmethod
    def without_attempt(cls) -> "list[LedgerKind]":
        """The kinds that need no attempt: what a person said of a run, and what is told of the ledger."""
        said = [cls.REREGISTERED, cls.MARKED_GONE, cls.SET_ASIDE, cls.PUT_BACK, cls.ACCEPTED]
        return [*said, cls.RECOVERED, *cls.without_run()]

    @classmethod
    def without_run(cls) -> "list[LedgerKind]":
        return [cls.RESTORED, cls.KEY]


_FREEING = Q(kind__in=[LedgerKind.COMPLETED, LedgerKind.PARTIAL])


def measured_sums() -> dict[str, Any]:
    """The measured bytes, and the allocated bytes of the same rows.

    Name these before a sum that is called as a column is: later ones would mean that sum.
    """
    known = Q(measured_bytes__isnull=False)
    return {
        "measured_of_bytes": exact_bytes_sum("allocated_bytes", filter=known, default=0),
        "measured_bytes": exact_bytes_sum("measured_bytes", default=0),
    }


class LedgerQuerySet(models.QuerySet["LedgerEntry"]):
    def freeing(self) -> Self:
        return self.filter(_FREEING)

    def of_itself(self, kind: LedgerKind) -> Self:
        """The rows of one of the kinds without a run, in their order."""
        return self.filter(kind=kind, run=None).order_by("pk")

    def totals(self) -> dict[str, int]:
        """What was really freed, by runs, files and bytes."""
        return self.freeing().aggregate(
            runs=models.Count("run", distinct=True),
            files=exact_bytes_sum("files", default=0),
            bytes=exact_bytes_sum("bytes", default=0),
            allocated_bytes=exact_bytes_sum("allocated_bytes", default=0),
        )

    def measured(self) -> dict[str, int]:
        return self.freeing().aggregate(**measured_sums())


class LedgerEntry(AppendOnly):
    """What was authorised, removed or refused, when, where and by whom.

    Names are copied: a row must tell its story without users and roots. `authorised` counts the plan, `partial` and
    `completed` what this step removed.
    """

    is_first_freed: bool = False  # not stored: its attempt is known to have freed nothing before

    at = models.DateTimeField()
    kind = models.CharField(max_length=12, choices=LedgerKind)
    # Only rows of the ledger itself have none.
    run = models.ForeignKey(Run, on_delete=models.PROTECT, null=True, blank=True, related_name="ledger")
    # Only these, and rows of what a person said, have none.
    attempt = models.ForeignKey(ClearAttempt, on_delete=models.PROTECT, null=True, blank=True, related_name="ledger")
    root_name = models.CharField(max_length=64)
    run_path = models.CharField(max_length=1024)
    equipment = models.CharField(max_length=255)
    project = models.CharField(max_length=255)
    run_kind = models.CharField(max_length=12)
    requester = models.CharField(max_length=8, choices=Requester)
    actor = models.CharField(max_length=150)
    # The account that typed the command; `--user` may name another person as `actor`.
    typed_by = models.CharField("typed by the account", max_length=255, blank=True)
    host = models.CharField(max_length=255)
    policy_version = models.PositiveIntegerField()
    decided_by = models.JSONField("policy that decided", default=dict, blank=True)
    cause = models.CharField("why the schedule took it", max_length=60, blank=True)
    proof_level = models.CharField(max_length=8, blank=True)
    files = models.BigIntegerField(default=0)
    bytes = models.BigIntegerField("logical bytes", default=0)
    allocated_bytes = models.BigIntegerField(default=0)
    measured_bytes = models.BigIntegerField("bytes that the disk gave back", null=True, blank=True)
    unmeasured = models.CharField("why that is not known", max_length=16, blank=True)
    reason = models.CharField(max_length=40, blank=True)
    detail = models.TextField(blank=True)
    plan_sha256 = models.CharField(max_length=64, blank=True)
    nas_flags = models.CharField("flags in force", max_length=200, blank=True)

    objects = LedgerQuerySet.as_manager()

    class Meta:
        ordering = ("-at", "-id")
        verbose_name_plural = "ledger entries"
        permissions: ClassVar = [("audit", "Can see everywhere what was freed")]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(kind__in=LedgerKind.values), name="ledger_kind_is_known"),
            models.CheckConstraint(
                condition=Q(attempt__isnull=False) | Q(kind__in=LedgerKind.without_attempt()),
                name="ledger_entry_has_its_attempt",
            ),
            models.CheckConstraint(
                condition=Q(run__isnull=False) | Q(kind__in=LedgerKind.without_run()),
                name="ledger_entry_has_its_run",
            ),
            models.UniqueConstraint(
                fields=["attempt"], condition=Q(kind="completed"), name="one_completed_entry_per_attempt"
            ),
            models.UniqueConstraint(
                fields=["attempt"], condition=Q(kind="authorised"), name="one_authorised_entry_per_attempt"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["at"], name="ledger_by_time"),
            models.Index(fields=["kind", "id"], condition=Q(run=None), name="ledger_of_itself"),
            # For the rows behind a number of the audit.
            models.Index(fields=["at", "id"], condition=_FREEING, name="ledger_freeing_by_time"),
            models.Index(fields=["equipment", "at", "id"], condition=_FREEING, name="ledger_freeing_by_instrument"),
            models.Index(fields=["project", "at", "id"], condition=_FREEING, name="ledger_freeing_by_project"),
            models.Index(fields=["actor", "at", "id"], condition=_FREEING, name="ledger_freeing_by_person"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.run_path}"
