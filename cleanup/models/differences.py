"""Differences found by comparisons of every byte that still stand."""

from typing import ClassVar

from django.db import models

from cleanup.models.runs import Run


class Difference(models.Model):
    """Why a run must stay by its latest comparison of every byte.

    The row goes once all bytes are equal; until then no earlier proof counts.
    """

    run = models.OneToOneField(Run, on_delete=models.PROTECT, related_name="difference")
    at = models.DateTimeField()
    host = models.CharField(max_length=255)
    reason = models.CharField(max_length=40)
    detail = models.TextField(blank=True)
    # SHA-256 of all by which a change would show (`runs.proofs.differences`); empty if unsure.
    evidence = models.CharField(max_length=64)

    class Meta:
        ordering: ClassVar = ["-at"]

    def __str__(self) -> str:
        return f"{self.run}: {self.reason}"
