"""What came of a clear of some runs, or of a sweep: run by run, and in sums."""

from dataclasses import dataclass, field
from datetime import datetime

from cleanup.clears.run_action import FREEING, Action, RunAction
from cleanup.rules.freed import Freed
from cleanup.rules.reasons import Reason


@dataclass(frozen=True)
class RootProblem:
    """What is to be said of a staging root as a whole."""

    root: str
    reason: Reason
    detail: str = ""


@dataclass
class ClearReport:
    """What came of `scanned` staged runs, of which `candidates` were due by state, policy and time, or by pressure.

    The runs that are not verified yet are only counted: `runs` lists all others.
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
        """The runs that were cleared, or in a dry run would be. What is rehearsed frees nothing."""
        return [run for run in self.runs if run.action in FREEING and run.reason != Reason.REHEARSAL]

    @property
    def only_rehearsed(self) -> list[RunAction]:
        """The runs that would have gone by the schedule, if their policy were not rehearsed."""
        return [run for run in self.runs if run.reason == Reason.REHEARSAL or run.rehearsed]

    def rehearsed_as_json(self) -> dict[str, int]:
        """How many those are of a dry run, and their logical bytes; empty for none."""
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
        """What disks gave back, of the runs of which that could be measured; None if of none."""
        known = [(run.allocated, run.measured) for run in self.freeing if run.measured is not None]
        return Freed(sum(one for one, _ in known), sum(one for _, one in known)) if known else None

    def freed_as_json(self) -> dict[str, int]:
        """The same for the record; empty where nothing could be measured."""
        return vars(self.measured) if self.measured else {}

    @property
    def failed(self) -> int:
        broken = sum(problem.reason is Reason.SWEEP_FAILED for problem in self.problems)
        return self.count(Action.FAILED, Action.PARTIAL) + broken
