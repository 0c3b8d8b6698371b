"""What one pass over a staging root has found."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cleanup.lab.nas.nas_transport import Readers
from cleanup.models import Run, StagingRoot
from cleanup.rules.facts import Facts, Finding
from cleanup.rules.gates import STILL_HERE
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs import rows
from cleanup.runs.facts import inspection
from cleanup.runs.holds import likenesses


@dataclass
class Discovered:
    """The result of one pass over one staging root. Problems are (path, reason, detail).

    `sighted_at` is the instant of first sights, later than the pass's where the clock went back.
    """

    root: StagingRoot
    sighted_at: datetime
    found: int = 0
    new: int = 0
    updated: int = 0
    unchanged: int = 0
    problems: list[tuple[str, Reason, str]] = field(default_factory=list)
    proposal: dict[str, Any] = field(default_factory=dict)
    at_once: bool = False
    nas_was_better: bool = False  # a copy that a look had found whole was not found so
    known: likenesses.KnownRuns = field(default_factory=likenesses.KnownRuns, repr=False)
    names: rows.Names = field(default_factory=rows.Names, repr=False)

    def add(self, path: str, findings: Sequence[Finding]) -> None:
        """Add what was found at a path to the problems."""
        self.problems += [(path, finding.reason, finding.detail) for finding in findings]

    def count(self, run: Run, facts: Facts, change: str) -> None:
        """Count one run as `new`, `updated` or `unchanged`, and add its problems."""
        setattr(self, change, getattr(self, change) + 1)
        told: tuple[Finding, ...] = facts.ingest_findings + facts.path_findings
        if rows.is_cleared_out(run, facts):
            told = ()
        elif run.state == State.CLEARED:
            told = (Finding(Reason.ALREADY_CLEARED, STILL_HERE), *told)
        self.add(run.run_path, told)

    def add_markers(self, look: inspection.Look) -> None:
        """Add markers that lie where none may, once each."""
        of_proof = look.facts.proof.findings if look.facts.proof else ()
        found = [finding for finding in of_proof if finding.reason is Reason.NAS_IS_STAGING]
        found += [Finding(Reason.MARKER_MALFORMED, name) for name in (look.listing.malformed if look.listing else ())]
        told: list[tuple[str, Reason, str]] = [("", finding.reason, finding.detail) for finding in found]
        self.problems += [each for each in told if each not in self.problems]


@dataclass(frozen=True)
class Pass:
    """One pass at work: the open root, the readers of its NAS roots, and what it finds."""

    descriptor: int
    readers: Readers
    result: Discovered
    now: datetime

    @property
    def root(self) -> StagingRoot:
        return self.result.root
