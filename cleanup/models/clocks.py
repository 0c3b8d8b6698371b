"""The clocks of hosts: what was last known of each, and whether it is in doubt."""

from django.db import models
from django.db.models import Model, OuterRef, Subquery


class HostClock(models.Model):
    """What the looks at one host's clock came to; `known` is a `KnownClock` in plain values.

    While it is in doubt `sure_at` is the instant that has been reached for certain, by which holds end, `detail` says
    why, and `seconds` by how many it is ahead. `compared` is what became of the latest question to other clocks.
    `mended_at` is when timed tasks were last found to wait for a future that was a mistake, and `mended` what was done.
    """

    host = models.CharField(max_length=255, unique=True)
    known = models.JSONField(default=dict)
    seen_at = models.DateTimeField("last looked at")
    sure_at = models.DateTimeField("reached for certain", null=True, blank=True)
    doubted_since = models.DateTimeField("in doubt since", null=True, blank=True)
    detail = models.TextField(blank=True)
    seconds = models.FloatField("seconds ahead", default=0)
    compared = models.JSONField("compared with", default=dict, blank=True)
    mended_at = models.DateTimeField("timed tasks mended at", null=True, blank=True)
    mended = models.TextField("what was mended", blank=True)

    class Meta:
        ordering = ("host",)

    def __str__(self) -> str:
        return self.host


def sure_at(roots: type[Model], run: str) -> Subquery:
    """The instant by which holds end on the host of a run, of which `run` is the key; NULL where its clock is sound."""
    host = roots._default_manager.filter(runs=OuterRef(OuterRef(run))).values("host")
    return Subquery(HostClock.objects.filter(host__in=host).values("sure_at")[:1])
