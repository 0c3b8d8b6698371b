"""People whom the records of runs name, and the accounts that are theirs."""

from typing import Any, ClassVar

from django.conf import settings
from django.db import models

from cleanup.models.runs import Run
from cleanup.rules.folded_text import fold

# A name in a record has at most 128 letters; folded, one may become several.
_LONGEST = 128
_LONGEST_FOLDED = 255


def fold_name(name: str) -> str:
    """By which two names in records are the same, as the columns keep it."""
    return fold(" ".join(name.split()))[:_LONGEST_FOLDED]


class Person(models.Model):
    """A name in records. `folded`: by which two are the same (`rules.folded_text`); `searched`: for a search."""

    name = models.CharField(max_length=_LONGEST)  # as a record wrote it first
    folded = models.CharField(max_length=_LONGEST_FOLDED, unique=True)
    searched = models.CharField(max_length=_LONGEST_FOLDED)

    class Meta:
        ordering = ("folded",)
        verbose_name_plural = "people in records"

    def __str__(self) -> str:
        return self.name


class RunPerson(models.Model):
    """One person of one run; the run's row repeats the names in `people`."""

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="named_people", db_index=False)
    person = models.ForeignKey(Person, on_delete=models.PROTECT, related_name="+", db_index=False)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["run", "person"], name="one_row_per_person_of_a_run")]
        indexes: ClassVar = [models.Index(fields=["person", "run"], name="run_person_by_person")]

    def __str__(self) -> str:
        return f"{self.person} of {self.run}"


class AccountName(models.Model):
    """A name in records that means an account; the account's own user name means it without a row."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="record_names")
    name = models.CharField("name in records", max_length=_LONGEST)
    folded = models.CharField(max_length=_LONGEST_FOLDED, db_index=True, editable=False)

    class Meta:
        ordering = ("user", "folded")
        verbose_name = "name in records"
        verbose_name_plural = "names in records"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["user", "folded"],
                name="one_row_per_name_of_an_account",
                violation_error_message="This name is there already.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} is {self.user}"

    def save(self, **kwargs: Any) -> None:  # noqa: ANN401
        self.name = " ".join(self.name.split())
        self.folded = fold_name(self.name)
        super().save(**kwargs)
