"""What timed sweeps will take, and what people were told of it and of past months."""

from typing import ClassVar

from django.db import models

from cleanup.models.roots import StagingRoot


class Forecast(models.Model):
    """What a root's timed sweeps would take, as last foreseen."""

    root = models.OneToOneField(StagingRoot, on_delete=models.PROTECT, related_name="forecast")
    at = models.DateTimeField()
    policy_version = models.PositiveIntegerField(default=0)  # the newest at the time
    coming = models.JSONField(default=dict)  # see `monitoring.forecasts`

    def __str__(self) -> str:
        return f"what passes over {self.root} will take, foreseen at {self.at:%Y-%m-%d %H:%M}"


class Announcement(models.Model):
    """What people were told before a root's timed sweeps took it."""

    root = models.ForeignKey(StagingRoot, on_delete=models.PROTECT, related_name="announcements")
    number = models.PositiveIntegerField()  # by root, so that only one of two hosts tells
    at = models.DateTimeField("told at")
    runs = models.PositiveIntegerField()
    bytes = models.BigIntegerField("logical bytes")
    first_pass_at = models.DateTimeField("first of the passes")
    coming = models.JSONField(default=dict)
    run_keys = models.JSONField(default=list)  # the runs of `coming`
    versions = models.JSONField("first passes of these policy versions", default=list, blank=True)
    mails = models.PositiveIntegerField("number of recipients", default=0)
    mail_problem = models.CharField("why a mail was not sent", max_length=500, blank=True)

    class Meta:
        ordering = ("-at", "-id")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["root", "number"], name="one_announcement_of_each_number"),
        ]

    def __str__(self) -> str:
        return f"{self.runs} runs of {self.root} announced at {self.at:%Y-%m-%d %H:%M}"


class MonthlyMail(models.Model):
    """A month whose summary was sent; of two hosts only one writes it."""

    month = models.CharField(max_length=7, unique=True)  # 2026-05
    at = models.DateTimeField("sent at")
    mails = models.PositiveIntegerField("number of recipients", default=0)
    mail_problem = models.CharField("why a mail was not sent", max_length=500, blank=True)

    class Meta:
        ordering = ("-month",)

    def __str__(self) -> str:
        return f"summary of {self.month}"
