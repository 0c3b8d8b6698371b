"""The runs of a batch that waits for its time."""

from typing import ClassVar

from django.db import models

from cleanup.models.clears import ClearBatch
from cleanup.models.runs import Run


class WaitingRun(models.Model):
    """One run of a batch that waits, as its preview showed it; when the batch begins, why it was left out."""

    batch = models.ForeignKey(ClearBatch, on_delete=models.PROTECT, related_name="waiting_runs")
    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="waits_in")
    mark = models.CharField("digest of what was shown", max_length=12)
    bytes = models.BigIntegerField("logical bytes", default=0)
    allocated_bytes = models.BigIntegerField(default=0)
    left_out = models.CharField("why it stayed when the batch began", max_length=40, blank=True)
    detail = models.TextField(blank=True)

    class Meta:
        ordering = ("batch", "-bytes", "-run_id")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["batch", "run"], name="one_waiting_run_per_batch"),
        ]

    def __str__(self) -> str:
        return f"{self.run} of {self.batch}"
