"""What discovery remembers of its last look at a run."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:
    from cleanup.models.roots import StagingRoot


class LookedAt(models.Model):
    """When a run was looked at, and what its tree was then.

    `seen` and `seen_doubts`: the tree's digest, if nothing spoke against the run, and the doubts that the look knew.
    While both stay, discovery need not look again. `people`: whom its record names, None before that was read.
    """

    if TYPE_CHECKING:
        root: models.ForeignKey[Any, StagingRoot]
        doubts: models.PositiveIntegerField[Any, int]

    looked_at = models.DateTimeField(null=True, blank=True)
    seen = models.CharField("digest of its tree", max_length=64, blank=True)
    seen_doubts = models.PositiveIntegerField("doubts when its tree was seen", default=0)
    changed_at = models.DateTimeField("its tree was last seen to change", null=True, blank=True)
    people = models.JSONField("people in its record", null=True, blank=True)  # a list of names

    class Meta:
        abstract = True

    @property
    def unchanged_at(self) -> datetime | None:
        """When discovery last saw the same tree as at `looked_at`; None if it has looked at nothing since."""
        seen = self.root.discovered_at if self.seen and self.seen_doubts == self.doubts else None
        return seen if seen and self.looked_at and seen > self.looked_at else None
