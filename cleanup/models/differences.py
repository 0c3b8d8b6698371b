"""What comparisons of every byte have found different, and still stands."""

from typing import ClassVar

from django.db import models

from cleanup.models.runs import Run


class Difference(models.Model):
    """What the latest comparison of every byte found of a run that must stay for it; at most one a run.

    `evidence` is the SHA-256 of everything by which a change would show (see `runs.differences`); empty where not sure.
    The row goes once all bytes are found equal; until then no earlier proof counts.
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
