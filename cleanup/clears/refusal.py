"""Why a clear does not happen."""

from cleanup.models import (
    Phase,
)
from cleanup.rules.facts import Finding


class Refused(Exception):
    """The clear does not happen; `finding` says why. Nothing was changed on disk, or it was put back.

    Phase `conflict`: something else lies at the run's path, and the run stays in its fence. Phase `intent`: it could
    not be put back yet, and recovery does that.
    """

    def __init__(self, finding: Finding, phase: Phase = Phase.REFUSED) -> None:
        super().__init__(f"{finding.reason}: {finding.detail}")
        self.finding = finding
        self.phase = phase


class Doubted(Refused):
    """Files on the NAS may hold other bytes, though size and time are as before: all are to be compared once more."""
