"""Conflicts: runs that could not be put back, as something else lies at their path. A person sees to them."""

from datetime import datetime

from django.conf import settings

from cleanup import alerting, gathering
from cleanup.alerting import Trouble
from cleanup.models import AlertKind, ClearAttempt, Phase
from cleanup.policy.reasons import Reason


def settle(*, now: datetime) -> None:
    """Make the open alerts of conflicts exactly those of this host's attempts whose conflict stands."""
    host = settings.EXLAB_HOST
    standing = ClearAttempt.objects.filter(host=host, phase=Phase.CONFLICT).select_related("run__root")
    troubles = [
        Trouble(
            subject=f"{host}:{attempt.pk.hex}",
            reason=Reason.PATH_OCCUPIED,
            detail=gathering.conflict_of(attempt.pk).detail,
            root=attempt.run.root,
            run=attempt.run,
        )
        for attempt in standing.defer("run__facts", "decision")
    ]
    alerting.settle(AlertKind.CONFLICT, troubles, now=now, prefix=f"{host}:")
