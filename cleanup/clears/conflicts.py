"""Conflicts: runs that could not be put back because something else lies at their path."""

from datetime import datetime

from django.conf import settings

from cleanup.lab import alerts
from cleanup.lab.alerts import AlertState
from cleanup.models import AlertKind, ClearAttempt, Phase
from cleanup.rules.reasons import Reason
from cleanup.runs.facts import identity


def settle(*, now: datetime) -> None:
    """Keep exactly one open alert for each standing conflict of this host."""
    host = settings.EXLAB_HOST
    standing = ClearAttempt.objects.filter(host=host, phase=Phase.CONFLICT)
    # Read the wide rows only where there is a conflict, which is rare.
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
