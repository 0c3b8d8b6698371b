"""The result of a clear of some runs or of a sweep, by run and in sums."""

from dataclasses import dataclass, field
from datetime import datetime

from cleanup.clears.run_action import FREEING, Action, RunAction
from cleanup.rules.freed import Freed
from cleanup.rules.reasons import Reason


@dataclass(frozen=True)
class RootProblem:
    """A problem of a staging root as a whole."""

    root: str
    reason: Reason
    detail: str = ""


@dataclass
class ClearReport:
    """The result for `scanned` staged runs, of which `candidates` were due.

    Runs not verified yet are only counted; `runs` lists all others.
    """

    dry_run: bool
    now: datetime
    scanned: int = 0
    candidates: int = 0
    not_verified: int = 0
    runs: list[RunAction] = field(default_factory=list)
    problems: list[RootProblem] = field(default_factory=list)

    def count(self, *actions: Action) -> int:
        return sum(run.action in actions for run in self.runs)

    @property
    def freeing(self) -> list[RunAction]:
        """The runs cleared, or in a dry run would be; a rehearsed run frees nothing."""
        return [run for run in self.runs if run.action in FREEING and run.reason != Reason.REHEARSAL]

    @property
    def only_rehearsed(self) -> list[RunAction]:
        """Runs that only a policy in rehearsal keeps from the schedule."""
        return [run for run in self.runs if run.reason == Reason.REHEARSAL or run.rehearsed]

    def rehearsed_as_json(self) -> dict[str, int]:
        """Their count and logical bytes in a dry run."""
        runs = self.only_rehearsed if self.dry_run else []
        return {"runs": len(runs), "bytes": sum(run.bytes for run in runs)} if runs else {}

    @property
    def files(self) -> int:
        return sum(run.files for run in self.freeing)

    @property
    def bytes_freed(self) -> int:
        return sum(run.bytes for run in self.freeing)

    @property
    def allocated_bytes(self) -> int:
        return sum(run.allocated for run in self.freeing)

    @property
    def measured(self) -> Freed | None:
        """What disks gave back; None if no run was measured."""
        known = [(run.allocated, run.measured) for run in self.freeing if run.measured is not None]
        return Freed(sum(one for one, _ in known), sum(one for _, one in known)) if known else None

    def freed_as_json(self) -> dict[str, int]:
        return vars(self.measured) if self.measured else {}

    @property
    def failed(self) -> int:
        broken = sum(problem.reason is Reason.SWEEP_FAILED for problem in self.problems)
        return self.count(Action.FAILED, Action.PARTIAL) + broken
