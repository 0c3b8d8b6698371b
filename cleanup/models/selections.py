"""The runs that people have picked, kept for when they sign in again."""

from django.conf import settings
from django.db import models


class KeptSelection(models.Model):
    """What one user had picked last: the session has it while it lasts, and takes it from here at the next sign-in.

    `picks` is what `views.selection` keeps in the session, and is read by nothing else.
    """

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    picks = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"what {self.user} has picked"
