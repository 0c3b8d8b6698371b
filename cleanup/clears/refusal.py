"""The exceptions of a clear that does not happen."""

from cleanup.models import (
    Phase,
)
from cleanup.rules.facts import Finding, Objected


class Refused(Objected):
    """The clear does not happen; `finding` says why. The disk is unchanged or restored.

    Except in phase `conflict`, where the path is occupied and the run stays in its fence, and in `intent`, where
    recovery restores it.
    """

    def __init__(self, finding: Finding, phase: Phase = Phase.REFUSED) -> None:
        super().__init__(finding)
        self.phase = phase


class Doubted(Refused):
    """Files on the NAS may hold other bytes though size and time are the same; compare all again."""
