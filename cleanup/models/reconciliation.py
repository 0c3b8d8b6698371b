"""The last comparison of database, disks, NAS and data directory on each host."""

from django.db import models


class Reconciliation(models.Model):
    """What one host found, and how far it came. `monitoring.reconciliation.findings` has the words."""

    host = models.CharField(max_length=255, unique=True)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    progress_at = models.DateTimeField("last progress")
    step = models.CharField("step under way", max_length=80, blank=True)
    runs = models.BigIntegerField("runs seen on the disks", default=0)
    asked = models.BigIntegerField("copies asked for", default=0)
    not_asked = models.BigIntegerField("copies that the NAS did not tell of", default=0)
    waiting = models.BigIntegerField("copies not asked for yet", default=0)
    # The key of the last run asked for, by the root's key: the next pass goes on after it.
    after = models.JSONField(default=dict, blank=True)
    counts = models.JSONField(default=dict, blank=True)  # by kind
    found = models.JSONField(default=list, blank=True)  # the first ones of each kind
    problems = models.JSONField("what could not be looked at", default=list, blank=True)

    class Meta:
        ordering = ("host",)

    def __str__(self) -> str:
        return f"{self.host} at {self.started_at:%Y-%m-%d %H:%M}"
