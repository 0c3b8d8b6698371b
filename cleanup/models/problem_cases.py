"""Groups of alike problems over time: from when to when, who has one, what was noted of it."""

from datetime import datetime, timedelta
from typing import ClassVar

from django.db import models
from django.db.models import Q

from cleanup.models.roots import StagingRoot


class ProblemCase(models.Model):
    """A group of alike problems from `since` to `ended_at`; its identity is `monitoring.problems.ProblemKey`."""

    slug = models.CharField(max_length=20)  # digest of the next four
    kind = models.CharField(max_length=16)
    reason = models.CharField(max_length=40, blank=True)
    root = models.ForeignKey(StagingRoot, on_delete=models.PROTECT, null=True, blank=True, related_name="cases")
    place = models.CharField(max_length=300, blank=True)
    since = models.DateTimeField()
    seen_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    # As last noted: how many alike ones there are, the instant of the newest, and whether an admin must decide.
    number = models.PositiveIntegerField(default=1)
    newest_at = models.DateTimeField(null=True, blank=True)
    escalated = models.BooleanField(default=False)
    # Names of accounts, which may go while what was noted stays.
    acknowledged_by = models.CharField(max_length=150, blank=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    assigned_to = models.CharField(max_length=150, blank=True)
    assigned_at = models.DateTimeField(null=True, blank=True)
    snoozed_by = models.CharField(max_length=150, blank=True)
    snoozed_until = models.DateTimeField(null=True, blank=True)
    # How the group was when it was put off: it comes back when it has grown.
    snoozed_number = models.PositiveIntegerField(default=0)
    snoozed_newest_at = models.DateTimeField(null=True, blank=True)
    snoozed_escalated = models.BooleanField(default=False)

    class Meta:
        ordering = ("-since", "-id")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["slug"], condition=Q(ended_at__isnull=True), name="one_open_case_per_group"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["ended_at", "id"], condition=Q(ended_at__isnull=False), name="case_ended"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.reason} since {self.since:%Y-%m-%d %H:%M}"

    def is_put_off(self, now: datetime) -> bool:
        return self.snoozed_until is not None and self.snoozed_until > now

    def is_nobodys(self, now: datetime) -> bool:
        """Nobody has taken, seen or put off the group."""
        return not (self.acknowledged_by or self.assigned_to or self.is_put_off(now))

    @property
    def lasted(self) -> timedelta | None:
        return None if self.ended_at is None else self.ended_at - self.since

    @property
    def has_grown(self) -> bool:
        """Whether the group is larger, newer or more urgent than when it was put off."""
        newest = self.newest_at is not None and (
            self.snoozed_newest_at is None or self.newest_at > self.snoozed_newest_at
        )
        return self.number > self.snoozed_number or newest or (self.escalated and not self.snoozed_escalated)


class CaseDeed(models.TextChoices):
    ACKNOWLEDGED = "acknowledged", "has seen it"
    ASSIGNED = "assigned", "gave it to"
    GIVEN_BACK = "given_back", "gave it back"
    PUT_OFF = "put_off", "put it off"
    CAME_BACK = "came_back", "came back"
    NOTED = "noted", "noted"


class CaseNote(models.Model):
    """What was done with a case, or said of it, when and by whom; empty: by this program."""

    case = models.ForeignKey(ProblemCase, on_delete=models.PROTECT, related_name="notes")
    at = models.DateTimeField()
    author = models.CharField(max_length=150, blank=True)
    deed = models.CharField(max_length=16, choices=CaseDeed)
    text = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ("at", "id")

    def __str__(self) -> str:
        return f"{self.author} {self.deed} {self.text}".strip()
