"""The runs that users picked, kept for their next sign-in."""

from django.conf import settings
from django.db import models


class KeptSelection(models.Model):
    """What a user picked last; only `views.selection` reads `picks`."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    picks = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"what {self.user} has picked"
