"""What admins ask of the host of a staging root: to look at a path, to register, to move, to retire."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar

from django.db import models
from django.db.models import Q

from cleanup.models.roots import StagingRoot


class RootRequestKind(models.TextChoices):
    """The first three only look."""

    LOOK_STAGING = "look_staging", "look at a staging root"
    LOOK_NAS = "look_nas", "look at a NAS root"
    LOOK_CONFIG = "look_config", "look for the wizard's configuration"
    ADD_STAGING = "add_staging", "register a staging root"
    ADD_NAS = "add_nas", "register a NAS root"
    MOVE = "move", "register again"
    RETIRE = "retire", "retire"
    IMPORT_CONFIG = "import_config", "import the wizard's configuration"


class RootRequestPhase(models.TextChoices):
    """`dropped`: a newer look of the same admin took its place."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    DROPPED = "dropped"


class RootRequest(models.Model):
    """One request; a task on the host answers it. `asked` and `answer` as in `runs.root_requests`."""

    OPEN: ClassVar = (RootRequestPhase.QUEUED, RootRequestPhase.RUNNING)
    LOOKS: ClassVar = (RootRequestKind.LOOK_STAGING, RootRequestKind.LOOK_NAS, RootRequestKind.LOOK_CONFIG)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=16, choices=RootRequestKind)
    host = models.CharField(max_length=255)
    root = models.ForeignKey(StagingRoot, on_delete=models.PROTECT, null=True, blank=True, related_name="requests")
    actor = models.CharField(max_length=150)
    asked = models.JSONField(default=dict)
    phase = models.CharField(max_length=8, choices=RootRequestPhase, default=RootRequestPhase.QUEUED)
    asked_at = models.DateTimeField()
    answered_at = models.DateTimeField(null=True, blank=True)
    answer = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ("-asked_at",)
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(phase__in=list(RootRequestPhase.values)), name="root_request_phase_is_known"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["actor", "phase"], name="root_request_of_actor")]

    def __str__(self) -> str:
        return f"{self.kind} on {self.host} by {self.actor}"

    @property
    def is_open(self) -> bool:
        return self.phase in self.OPEN

    @property
    def only_looks(self) -> bool:
        return self.kind in self.LOOKS

    def advance(self, before: str, after: str, *, now: datetime, answer: Mapping[str, object] | None = None) -> bool:
        """Compare-and-set: False changes nothing, as it was dropped or taken meanwhile."""
        changes: dict[str, object] = {"phase": after}
        if answer is not None:
            changes |= {"answer": answer, "answered_at": now}
        if not RootRequest.objects.filter(pk=self.pk, phase=before).update(**changes):
            return False
        for name, value in changes.items():
            setattr(self, name, value)
        return True
