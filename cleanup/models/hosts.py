"""What is known of hosts: clocks, task clusters, and their NAS roots."""

from typing import ClassVar

from django.db import models
from django.db.models import Model, OuterRef, Subquery


class HostClock(models.Model):
    """The looks at one host's clock."""

    host = models.CharField(max_length=255, unique=True)
    known = models.JSONField(default=dict)  # a `rules.clocks.KnownClock` as JSON
    seen_at = models.DateTimeField("last looked at")
    sure_at = models.DateTimeField("reached for certain", null=True, blank=True)  # in doubt, holds end by it
    doubted_since = models.DateTimeField("in doubt since", null=True, blank=True)
    detail = models.TextField(blank=True)
    seconds = models.FloatField("seconds ahead", default=0)
    compared = models.JSONField("compared with", default=dict, blank=True)  # the last answers of other clocks
    # When tasks last waited for a wrong future.
    mended_at = models.DateTimeField("timed tasks mended at", null=True, blank=True)
    mended = models.TextField("what was mended", blank=True)

    class Meta:
        ordering = ("host",)

    def __str__(self) -> str:
        return self.host


def sure_at(roots: type[Model], run: str) -> Subquery:
    """When holds end under a doubted clock, else NULL; `run`: a key."""
    host = roots._default_manager.filter(runs=OuterRef(OuterRef(run))).values("host")
    return Subquery(HostClock.objects.filter(host__in=host).values("sure_at")[:1])


class NasBreaker(models.Model):
    """Recent trouble of a NAS root, seen from one host.

    One breaker for all processes: a question to a hung mount costs a minute.
    """

    host = models.CharField(max_length=255)
    token = models.CharField(max_length=36)
    failures = models.PositiveIntegerField("failures in a row", default=0)
    since = models.DateTimeField("first of these failures", null=True, blank=True)
    open_until = models.DateTimeField("not asked until", null=True, blank=True)
    reason = models.CharField(max_length=40, blank=True)
    detail = models.CharField(max_length=500, blank=True)
    # Pid and start (clock ticks) of readers that were killed and did not die.
    abandoned = models.JSONField("reading processes given up", default=list, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["host", "token"], name="one_breaker_per_host_and_nas_root"),
        ]

    def __str__(self) -> str:
        return f"{self.token} on {self.host}: {self.failures} failures"


class Heartbeat(models.Model):
    """When a cluster last ran a task; its own status may say it works while it hangs."""

    cluster = models.CharField(max_length=64)
    host = models.CharField(max_length=255)
    at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["cluster", "host"], name="one_heartbeat_per_cluster_and_host"),
        ]

    def __str__(self) -> str:
        return f"{self.cluster} on {self.host}"
