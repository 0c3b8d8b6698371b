"""What is known of hosts: clocks, task clusters, and the NAS as they see it."""

from typing import ClassVar

from django.db import models
from django.db.models import Model, OuterRef, Subquery


class HostClock(models.Model):
    """The looks at one host's clock; `known`: a `rules.clocks.KnownClock` as JSON.

    In doubt, holds end by `sure_at`. `compared`: the last answers of other clocks. `mended`: what was restarted at
    `mended_at` after it waited for a wrong future.
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
    """When holds of a run (key `run`) end while its host's clock is in doubt, else NULL."""
    host = roots._default_manager.filter(runs=OuterRef(OuterRef(run))).values("host")
    return Subquery(HostClock.objects.filter(host__in=host).values("sure_at")[:1])


class NasBreaker(models.Model):
    """Recent trouble of a NAS root, seen from one host; no process asks before `open_until`.

    One breaker for all, because each question to a hung mount costs a minute. `abandoned`: pid and start (clock ticks)
    of readers that did not die.
    """

    host = models.CharField(max_length=255)
    token = models.CharField(max_length=36)
    failures = models.PositiveIntegerField("failures in a row", default=0)
    since = models.DateTimeField("first of these failures", null=True, blank=True)
    open_until = models.DateTimeField("not asked until", null=True, blank=True)
    reason = models.CharField(max_length=40, blank=True)
    detail = models.CharField(max_length=500, blank=True)
    abandoned = models.JSONField("reading processes given up", default=list, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["host", "token"], name="one_breaker_per_host_and_nas_root"),
        ]

    def __str__(self) -> str:
        return f"{self.token} on {self.host}: {self.failures} failures"


class Heartbeat(models.Model):
    """When a cluster last ran a task: a hung cluster may still report that it works."""

    cluster = models.CharField(max_length=64)
    host = models.CharField(max_length=255)
    at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["cluster", "host"], name="one_heartbeat_per_cluster_and_host"),
        ]

    def __str__(self) -> str:
        return f"{self.cluster} on {self.host}"
