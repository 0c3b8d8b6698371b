"""Runs that may be one: a hold of one keeps both."""

from typing import ClassVar, Self

from django.db import models

from cleanup.models.runs import Run


class LikenessQuerySet(models.QuerySet["Likeness"]):
    def standing(self) -> Self:
        return self.filter(denied_at=None)


class Likeness(models.Model):
    """One run that may be another, and why; each pair has two rows."""

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="likenesses")
    other = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="+")
    evidence = models.CharField("by what it may be that run", max_length=200)
    found_at = models.DateTimeField()
    # A person said that they are two: no look says otherwise then.
    denied_at = models.DateTimeField(null=True, blank=True)
    denied_by = models.CharField(max_length=150, blank=True)
    note = models.CharField("reason given", max_length=500, blank=True)

    objects = LikenessQuerySet.as_manager()

    class Meta:
        ordering = ("pk",)
        verbose_name_plural = "likenesses"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "other"], name="one_likeness_per_pair"),
            models.CheckConstraint(condition=~models.Q(run=models.F("other")), name="no_run_is_like_itself"),
        ]

    def __str__(self) -> str:
        return f"{self.run} may be {self.other}"
