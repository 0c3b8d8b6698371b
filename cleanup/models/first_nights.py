"""When each staging root came, and when its first nights were over."""

from collections.abc import Iterable
from typing import Any, ClassVar

from django.db import models
from django.db.models import Q, Subquery, Value
from django.db.models.functions import JSONObject

from cleanup.models.aggregates import JsonList
from cleanup.models.base import AppendOnly
from cleanup.models.roots import StagingRoot
from cleanup.models.runs import Run
from cleanup.rules.policies.approval import FirstNights


class RootEvent(models.TextChoices):
    """It came or moved, held no run in a rehearsal, had a surprise, or is over; it was changed, or retired."""

    CAME = "came"
    UNSEEN = "unseen"
    SURPRISE = "surprise"
    OVER = "over"
    CHANGED = "changed"
    RETIRED = "retired"


class RootNoteQuerySet(models.QuerySet["RootNote"]):
    def first_nights(self, *, as_of: int | None = None) -> dict[str, FirstNights]:
        """By root name; `as_of`: when that was the newest version.

        Every promotion covers roots without notes: they were there before.
        """
        notes = self if as_of is None else self.filter(policy_version__lte=as_of)
        return _add_up(notes.order_by("pk").values_list("root__name", "event", "policy_version"))

    def listed(self, *, as_of: int | None = None) -> Subquery:
        """The same notes as a column of another query, for `read_listed`."""
        notes = self if as_of is None else self.filter(policy_version__lte=as_of)
        columns = JSONObject(key="pk", root_name="root__name", said="event", of_version="policy_version")
        return Subquery(
            notes.order_by().annotate(all=Value(1)).values("all").annotate(listed=JsonList(columns)).values("listed")
        )


def read_listed(rows: list[dict[str, Any]] | None) -> dict[str, FirstNights]:
    """As `first_nights`, from the column that `listed` makes."""
    in_order = sorted(rows or (), key=lambda row: row["key"])
    return _add_up((row["root_name"], row["said"], row["of_version"]) for row in in_order)


def _add_up(notes: Iterable[tuple[str, str, int]]) -> dict[str, FirstNights]:
    # (root name, event, policy version), oldest first
    told: dict[str, FirstNights] = {}
    for root, event, version in notes:
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
    """One event of a root's first nights."""

    root = models.ForeignKey(StagingRoot, on_delete=models.PROTECT, related_name="notes")
    event = models.CharField(max_length=8, choices=RootEvent)
    # The newest at the time, or the one promoted without a run of this root.
    policy_version = models.PositiveIntegerField()
    # The one that surprised.
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
