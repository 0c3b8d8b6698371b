"""What speaks against a clear. The process that reads a NAS imports this, and nothing of policies."""

from dataclasses import dataclass

from cleanup.rules.reasons import Reason


@dataclass(frozen=True)
class Finding:
    """What speaks against a clear: its reason, and what was seen."""

    reason: Reason
    detail: str = ""

    @property
    def said(self) -> str:
        return f"{self.reason.sentence} {self.detail}".strip()


class Objected(Exception):
    """What was asked for does not happen; `finding` says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(f"{finding.reason}: {finding.detail}")
        self.finding = finding
