"""What the models share."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from cleanup.rules.states import State

STATES = [(state.value, state.value.replace("_", " ")) for state in State]


class RunKind(models.TextChoices):
    EXPERIMENTAL = "experimental"
    TEST = "test"


class AppendOnly(models.Model):
    """A row that is written once; `triggers.py` holds it in the database too."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        if not self._state.adding:
            raise ValidationError(f"{self._meta.verbose_name} rows are never changed")
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:  # noqa: ANN401
        raise ValidationError(f"{self._meta.verbose_name} rows are never removed")
