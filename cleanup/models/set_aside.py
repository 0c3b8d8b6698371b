"""Files that a person has taken out of a run, and that lie beside it until a person takes them away."""

import os
from datetime import datetime
from typing import Any, ClassVar, Self

from django.db import models
from django.db.models import Q

from cleanup.models.runs import Run


class AsideState(models.TextChoices):
    """How far a file is. `intent` and `undoing` are under way, and recovery settles them by what the disk shows."""

    INTENT = "intent"
    DONE = "done"
    UNDOING = "undoing"
    UNDONE = "undone"
    ABORTED = "aborted"
    TAKEN = "taken"


class SetAsideQuerySet(models.QuerySet["SetAside"]):
    def under_way(self) -> Self:
        """Those that a crash may have left in the middle."""
        return self.filter(state__in=[AsideState.INTENT, AsideState.UNDOING])

    def there(self) -> Self:
        """Those that lie beside their runs, as far as is known."""
        return self.filter(state=AsideState.DONE)


class SetAside(models.Model):
    """One file that a person has set aside, or put back.

    `path` is its path in the run for people, `raw` its bytes, `key` their SHA-256. `run_path` is where the run lay
    then: the file lies beside that, or beside where a renamed folder is now. `marks` are inode, size and mtime.
    """

    # Not stored: where it lies, as pages show it.
    where: str = ""

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="set_aside")
    run_path = models.CharField(max_length=1024)
    path = models.TextField()
    raw = models.BinaryField()
    key = models.CharField(max_length=64)
    size = models.BigIntegerField("logical bytes")
    marks = models.CharField(max_length=80)
    state = models.CharField(max_length=8, choices=AsideState, default=AsideState.INTENT)
    host = models.CharField(max_length=255)
    actor = models.CharField(max_length=150)
    note = models.CharField("reason given", max_length=500)
    at = models.DateTimeField("set aside at")
    state_at = models.DateTimeField()
    undone_by = models.CharField(max_length=150, blank=True)
    undone_note = models.CharField("reason given for the undo", max_length=500, blank=True)
    detail = models.TextField(blank=True)

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
        indexes: ClassVar = [models.Index(fields=["state", "host"], name="set_aside_by_state")]

    def __str__(self) -> str:
        return f"{self.path} of {self.run_path}, {self.state}"

    @property
    def name(self) -> bytes:
        """The path in the run, as on the disk."""
        return bytes(self.raw)

    @property
    def leaf(self) -> str:
        return self.run_path.rpartition("/")[2]

    @property
    def parent(self) -> bytes:
        """The folder that held the run, relative to the staging root."""
        return _folder_of(self.run_path)

    @property
    def parents(self) -> tuple[bytes, ...]:
        """The folders beside whose runs it may lie: the one that held the run, and the one that holds it now."""
        return tuple(dict.fromkeys((self.parent, _folder_of(self.run.run_path))))

    def advance(self, before: AsideState, after: AsideState, *, now: datetime, **fields: Any) -> bool:  # noqa: ANN401
        """Change the state by compare-and-set. False: another worker was faster, and nothing was changed."""
        changes = {"state": after, "state_at": now, **fields}
        if not SetAside.objects.filter(pk=self.pk, state=before).update(**changes):
            return False
        for name, value in changes.items():
            setattr(self, name, value)
        return True


def _folder_of(run_path: str) -> bytes:
    return os.fsencode(run_path.rpartition("/")[0])
