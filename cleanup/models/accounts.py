"""How accounts came: the token that makes the first admin, and what was done to each account."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from cleanup.models.base import AppendOnly


class FirstAdminToken(models.Model):
    """The one-time token that is valid now; there is one row at most, and a newer token takes its place."""

    digest = models.CharField("SHA-256 of the token", max_length=64)
    host = models.CharField("printed on", max_length=255)
    issued_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"one-time token of {self.host}, printed at {self.issued_at:%Y-%m-%d %H:%M}"


class AccountEvent(models.TextChoices):
    """What was done to an account."""

    FIRST_ADMIN = "first_admin", "made as the first admin"
    MADE = "made", "made"
    ROLE = "role", "role or places changed"
    PASSWORD = "password", "new password"
    DEACTIVATED = "deactivated", "deactivated"
    ACTIVATED = "activated", "activated again"


class AccountNote(AppendOnly):
    """One thing that was done to an account; names are text, so the row stays when an account goes."""

    account = models.CharField(max_length=150)
    event = models.CharField(max_length=12, choices=AccountEvent)
    detail = models.CharField(max_length=1000, blank=True)
    actor = models.CharField(max_length=150)
    at = models.DateTimeField()

    class Meta:
        ordering = ("-pk",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(event__in=list(AccountEvent.values)), name="account_event_is_known"),
        ]

    def __str__(self) -> str:
        return f"{self.account}: {self.event}"
