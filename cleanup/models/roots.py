"""Where runs lie: staging roots, their disks, instruments and projects."""

import uuid
from typing import ClassVar, Self

from django.db import models
from django.db.models import Q


class StagingRootQuerySet(models.QuerySet["StagingRoot"]):
    def active(self) -> Self:
        """Those that are looked at, swept and cleared: not retired."""
        return self.filter(retired_at=None)


class StagingRoot(models.Model):
    """A directory on one host that holds runs, and its NAS root."""

    name = models.CharField(max_length=64, unique=True)
    host = models.CharField(max_length=255)
    path = models.CharField(max_length=4096)
    # UUID in the token file at its top, without which nothing is done there; empty: not laid yet.
    token = models.CharField(max_length=36, blank=True)
    nas_path = models.CharField("NAS root", max_length=4096, blank=True)
    nas_token = models.CharField("NAS token", max_length=36, blank=True)
    # Where twins lie, see `storage.twin_paths`.
    nas_layout = models.CharField("layout of the NAS", max_length=255, default="run-path")
    # `{equipment: {"path": …, "token": …}}`.
    instrument_nas = models.JSONField("NAS roots of instruments", default=dict, blank=True)
    layout_proposal = models.JSONField(default=dict, blank=True)  # what discovery found last
    allow_same_filesystem = models.BooleanField(default=False)
    # This and the next accept mounts that are otherwise refused (`storage.mounts.nas_mount_kinds`).
    allow_union_nas = models.BooleanField("accept a union mount as the NAS", default=False)
    nas_writes_through = models.BooleanField("the NAS mount writes through", default=False)
    # Limits for proofs that are made ahead of a click; the hours are the lab's, equal or empty ones bind nothing.
    prove_bytes_per_second = models.PositiveBigIntegerField("bytes a second read on the NAS", default=0)  # 0: no limit
    prove_from = models.TimeField("proofs are made from", null=True, blank=True)
    prove_until = models.TimeField("proofs are made until", null=True, blank=True)
    # When people are told that its disk fills up, see `rules.disk_alarm`; empty: not by that.
    alarm_percent = models.PositiveSmallIntegerField("alarm from so many percent", default=85, null=True, blank=True)
    alarm_hours = models.PositiveSmallIntegerField("alarm hours before it is full", default=24, null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    discovered_at = models.DateTimeField(null=True, blank=True)
    problem = models.CharField(max_length=40, blank=True)
    # The first look takes minutes: how far the pass at work is, of about how many runs.
    looking_done = models.PositiveIntegerField("runs looked at", default=0)
    looking_total = models.PositiveIntegerField("runs to look at", default=0)
    looking_at = models.DateTimeField("looks since; empty between passes", null=True, blank=True)
    looking_seen_at = models.DateTimeField("looked at a run last", null=True, blank=True)
    # A retired root keeps its runs and their history. Nothing opens it (`lab.roots.opening`).
    retired_at = models.DateTimeField("retired at", null=True, blank=True)
    filesystem = models.CharField(max_length=64, blank=True)  # as mounted when it was last measured

    objects = StagingRootQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["host", "path"], name="one_staging_root_per_host_and_path"),
            models.CheckConstraint(condition=~Q(path="") & ~Q(path="/"), name="staging_root_is_no_filesystem_root"),
        ]

    def __str__(self) -> str:
        return self.name


class DiskUsage(models.Model):
    """How full a root's disk was for an ordinary user (`statvfs`)."""

    root = models.ForeignKey(StagingRoot, on_delete=models.CASCADE, related_name="usage")
    at = models.DateTimeField()
    total_bytes = models.BigIntegerField()
    free_bytes = models.BigIntegerField()

    class Meta:
        ordering = ("root", "at")
        constraints: ClassVar = [models.UniqueConstraint(fields=["root", "at"], name="one_disk_usage_per_instant")]

    def __str__(self) -> str:
        return f"{self.free_bytes} of {self.total_bytes} bytes free at {self.at}"


class DiskForecast(models.Model):
    """When a root's disk will be full at the pace of its last hours, and its alarm, as a task found last."""

    root = models.OneToOneField(StagingRoot, on_delete=models.PROTECT, related_name="disk_forecast")
    at = models.DateTimeField("measured at")
    total_bytes = models.BigIntegerField()
    free_bytes = models.BigIntegerField()
    bytes_an_hour = models.BigIntegerField("bytes that arrive an hour", null=True, blank=True)  # empty: not known
    full_at = models.DateTimeField("full at about", null=True, blank=True)
    foreseen = models.BooleanField("will be full too soon, as was last known", default=False)
    # An episode; its mail is sent once.
    alarm_since = models.DateTimeField("people are told since", null=True, blank=True)
    mailed_at = models.DateTimeField(null=True, blank=True)
    mails = models.PositiveIntegerField("number of recipients", default=0)
    mail_problem = models.CharField("why a mail was not sent", max_length=500, blank=True)

    class Meta:
        ordering = ("root",)

    def __str__(self) -> str:
        return f"how {self.root} fills up, measured at {self.at:%Y-%m-%d %H:%M}"


class Instrument(models.Model):
    """An instrument with runs on a staging root, and its bench page."""

    root = models.ForeignKey(StagingRoot, on_delete=models.CASCADE, related_name="instruments")
    equipment = models.CharField(max_length=255)
    # The page's address, which the QR code holds.
    token = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    public = models.BooleanField("bench page opens without signing in", default=False)
    notice = models.BooleanField("notice of how long data stays opens without signing in", default=False)

    class Meta:
        ordering = ("equipment", "root")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["root", "equipment"], name="one_instrument_per_root_and_name"),
        ]

    def __str__(self) -> str:
        return f"{self.equipment} on {self.root}"


class Project(models.Model):
    """A project, with the title that a run's record gave last."""

    code = models.CharField(max_length=255, unique=True)
    title = models.CharField(max_length=255, blank=True)

    class Meta:
        ordering = ("code",)

    def __str__(self) -> str:
        return self.code
