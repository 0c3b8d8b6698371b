"""Files that a person has set aside beside their run."""

import os
from datetime import datetime
from typing import Any, ClassVar, Self

from django.db import models
from django.db.models import Q

from cleanup.models.runs import Run


class AsideState(models.TextChoices):
    """Recovery settles `intent` and `undoing` by what the disk shows."""

    INTENT = "intent"
    DONE = "done"
    UNDOING = "undoing"
    UNDONE = "undone"
    ABORTED = "aborted"
    TAKEN = "taken"


class SetAsideQuerySet(models.QuerySet["SetAside"]):
    def under_way(self) -> Self:
        """A crash may have left these."""
        return self.filter(state__in=[AsideState.INTENT, AsideState.UNDOING])

    def there(self) -> Self:
        return self.filter(state=AsideState.DONE)


class SetAside(models.Model):
    """One file that a person has set aside, or put back."""

    # Not stored: where it lies, as pages show it.
    where: str = ""

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="set_aside")
    # The run's place then: the file lies beside it, or beside where a renamed folder is now.
    run_path = models.CharField(max_length=1024)
    path = models.TextField()  # in the run, for display
    raw = models.BinaryField()  # the bytes of the path
    key = models.CharField(max_length=64)  # SHA-256 of `raw`
    size = models.BigIntegerField("logical bytes")
    marks = models.CharField(max_length=80)  # inode, size and mtime
    state = models.CharField(max_length=8, choices=AsideState, default=AsideState.INTENT)
    host = models.CharField(max_length=255)
    actor = models.CharField(max_length=150)
    note = models.CharField("reason given", max_length=500)
    at = models.DateTimeField("set aside at")
    state_at = models.DateTimeField()
    undone_by = models.CharField(max_length=150, blank=True)
    undone_note = models.CharField("reason given for the undo", max_length=500, blank=True)
    detail = models.TextField(blank=True)
    told_at = models.DateTimeField("people of the run were told", null=True, blank=True)

    objects = SetAsideQuerySet.as_manager()

    class Meta:
        ordering = ("-at", "-id")
        verbose_name_plural = "files set aside"
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(state__in=AsideState.values), name="set_aside_state_is_known"),
            models.UniqueConstraint(
                fields=["run", "key"],
                condition=Q(state__in=["intent", "done", "undoing"]),
                name="one_set_aside_per_file",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["state", "host"], name="set_aside_by_state"),
            models.Index(fields=["id"], condition=Q(told_at=None, state="done"), name="set_aside_untold"),
        ]

    def __str__(self) -> str:
        return f"{self.path} of {self.run_path}, {self.state}"

    @property
    def name(self) -> bytes:
        return bytes(self.raw)

    @property
    def leaf(self) -> str:
        return self.run_path.rpartition("/")[2]

    @property
    def parent(self) -> bytes:
        return _folder_of(self.run_path)

    @property
    def parents(self) -> tuple[bytes, ...]:
        """The run's former place, and its present one."""
        return tuple(dict.fromkeys((self.parent, _folder_of(self.run.run_path))))

    def advance(self, before: AsideState, after: AsideState, *, now: datetime, **fields: Any) -> bool:  # noqa: ANN401
        """Compare-and-set: False changes nothing, as another worker was faster."""
        changes = {"state": after, "state_at": now, **fields}
        if not SetAside.objects.filter(pk=self.pk, state=before).update(**changes):
            return False
        for name, value in changes.items():
            setattr(self, name, value)
        return True


def _folder_of(run_path: str) -> bytes:
    return os.fsencode(run_path.rpartition("/")[0])
