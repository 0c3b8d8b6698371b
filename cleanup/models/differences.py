"""Differences that comparisons of every byte found, and that still stand."""

from typing import ClassVar

from django.db import models

from cleanup.models.runs import Run


class Difference(models.Model):
    """Why a run must stay by its latest comparison of every byte; one per run.

    `evidence`: SHA-256 of all that shows a change (`runs.differences`), empty if unsure. The row goes once all bytes
    are equal; until then no earlier proof counts.
    """

    run = models.OneToOneField(Run, on_delete=models.PROTECT, related_name="difference")
    at = models.DateTimeField()
    host = models.CharField(max_length=255)
    reason = models.CharField(max_length=40)
    detail = models.TextField(blank=True)
    evidence = models.CharField(max_length=64)

    class Meta:
        ordering: ClassVar = ["-at"]

    def __str__(self) -> str:
        return f"{self.run}: {self.reason}"
