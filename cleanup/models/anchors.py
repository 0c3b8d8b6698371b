"""Where the head of the ledger's chain was written down outside of the database."""

from typing import ClassVar

from django.db import models

from cleanup.models.base import AppendOnly


class LedgerAnchor(AppendOnly):
    """A head that was written down: a later change of the chain cannot change that too."""

    position = models.BigIntegerField()
    sha256 = models.CharField("SHA-256 of the link", max_length=64)
    at = models.DateTimeField()
    # `data directory`, or the NAS root's token.
    place = models.CharField(max_length=40)
    host = models.CharField(max_length=255)

    class Meta:
        ordering = ("at", "id")
        indexes: ClassVar = [models.Index(fields=["position"], name="anchors_by_position")]

    def __str__(self) -> str:
        return f"{self.position}: {self.sha256[:12]} in {self.place}"


class AnchorPlace(models.Model):
    """How a host's anchors in one place stand: the newest, and what keeps it from the next one."""

    host = models.CharField(max_length=255)
    place = models.CharField(max_length=40)
    path = models.CharField("where it lies", max_length=4096, blank=True)
    position = models.BigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True)
    at = models.DateTimeField("when it was written there last", null=True, blank=True)
    problem = models.TextField("why the newest head is not there", blank=True)
    since = models.DateTimeField("since when", null=True, blank=True)

    class Meta:
        ordering = ("host", "place")
        constraints: ClassVar = [models.UniqueConstraint(fields=["host", "place"], name="one_anchor_place_per_host")]

    def __str__(self) -> str:
        return f"{self.place} on {self.host}: {self.position}"
