"""Where users may use their permissions."""

from typing import ClassVar

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import BigIntegerField, Q, Value
from django.db.models.functions import Coalesce

from cleanup.models.roots import StagingRoot


def _or_none(name: str) -> Coalesce:
    """A key in which two missing ones are equal to the database."""
    return Coalesce(name, Value(0), output_field=BigIntegerField())


class Access(models.Model):
    """A place where a user, or each group member, may use their permissions.

    A user without a row may do nothing; superusers need none.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="staging_access"
    )
    group = models.ForeignKey(Group, on_delete=models.CASCADE, null=True, blank=True, related_name="staging_access")
    root = models.ForeignKey(
        StagingRoot,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="access",
        help_text="Empty: every staging root.",
    )
    equipment = models.CharField("instrument", max_length=255, blank=True, help_text="Empty: every instrument.")

    class Meta:
        ordering = ("group", "user", "root", "equipment")
        verbose_name_plural = "access"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(user__isnull=False, group=None) | Q(user=None, group__isnull=False),
                name="access_of_a_user_or_a_group",
                violation_error_message="Name either a user or a group.",
            ),
            models.UniqueConstraint(
                _or_none("user"),
                _or_none("group"),
                _or_none("root"),
                "equipment",
                name="one_access_per_place",
                violation_error_message="There is such a row already.",
            ),
        ]

    def __str__(self) -> str:
        whom = self.group or self.user
        return f"{whom}: {self.equipment or 'every instrument'} on {self.root or 'every staging root'}"
