"""Conflicts: runs that could not be put back, as something else lies at their path. A person sees to them."""

from datetime import datetime

from django.conf import settings

from cleanup.lab import alerts
from cleanup.lab.alerts import AlertState
from cleanup.models import AlertKind, ClearAttempt, Phase
from cleanup.rules.reasons import Reason
from cleanup.runs import identity


def settle(*, now: datetime) -> None:
    """Make the open alerts of conflicts exactly those of this host's attempts whose conflict stands."""
    host = settings.EXLAB_HOST
    standing = ClearAttempt.objects.filter(host=host, phase=Phase.CONFLICT)
    # Nearly always there is none, and the rows are wide.
    rows = standing.select_related("run__root").defer("run__facts", "decision") if standing.exists() else ()
    troubles = [
        AlertState(
            subject=f"{host}:{attempt.pk.hex}",
            reason=Reason.PATH_OCCUPIED,
            detail=identity.conflict_of(attempt.pk).detail,
            root=attempt.run.root,
            run=attempt.run,
        )
        for attempt in rows
    ]
    alerts.settle(AlertKind.CONFLICT, troubles, now=now, prefix=f"{host}:")
