"""The first nights of staging roots: since when each is there, and when its own rehearsal was over."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from cleanup.models.base import AppendOnly
from cleanup.models.roots import StagingRoot
from cleanup.models.runs import Run
from cleanup.rules.approval import FirstNights


class RootEvent(models.TextChoices):
    """What happened to a root's approval: it came or lies elsewhere, it held no run while a version was rehearsed, a
    run there was a surprise, its first nights are over."""

    CAME = "came"
    UNSEEN = "unseen"
    SURPRISE = "surprise"
    OVER = "over"


class RootNoteQuerySet(models.QuerySet["RootNote"]):
    def first_nights(self, *, as_of: int | None = None) -> dict[str, FirstNights]:
        """How promotions see each staging root, by its name, now or when `as_of` was the newest version of all.

        Roots of which nothing was written down were there before that began, and every promotion covers them.
        """
        notes = self if as_of is None else self.filter(policy_version__lte=as_of)
        told: dict[str, FirstNights] = {}
        for root, event, version in notes.order_by("pk").values_list("root__name", "event", "policy_version"):
            known = told.get(root, FirstNights())
            if event == RootEvent.CAME:
                known = FirstNights(since=version)
            elif event == RootEvent.UNSEEN:
                known = FirstNights(since=known.since, unseen=known.unseen | {version}, over=known.over)
            elif event == RootEvent.OVER:
                known = FirstNights(since=known.since, unseen=known.unseen, over=version)
            told[root] = known
        return told


class RootNote(AppendOnly):
    """One event of a staging root's first nights. `policy_version` was the newest of all then, or is the one promoted
    without a run of this root in sight; `run` is the one that surprised."""

    root = models.ForeignKey(StagingRoot, on_delete=models.PROTECT, related_name="notes")
    event = models.CharField(max_length=8, choices=RootEvent)
    policy_version = models.PositiveIntegerField()
    run = models.ForeignKey(Run, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    at = models.DateTimeField()
    author = models.CharField(max_length=150, blank=True)
    note = models.CharField(max_length=500, blank=True)

    objects = RootNoteQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(event__in=list(RootEvent.values)), name="root_event_is_known"),
        ]

    def __str__(self) -> str:
        return f"{self.root}: {self.event}"
