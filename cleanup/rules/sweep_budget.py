"""How much one sweep may take, and what is left to the next one."""

from dataclasses import dataclass, replace

from cleanup.rules.policies.policy import Limits
from cleanup.rules.pressure import Candidate, Picker
from cleanup.rules.quantities import say_count


@dataclass(frozen=True, kw_only=True)
class SweepBudget:
    """What one sweep may still take; None: no bound."""

    runs: int | None = None
    bytes: int | None = None
    minutes: float | None = None
    taken_runs: int = 0
    taken_bytes: int = 0

    def exhausted_by(self, size: int, *, minutes: float) -> str:
        """Why one more run does not fit, or empty.

        A run above the whole budget goes alone, or it would never go.
        """
        if self.runs is not None and self.taken_runs >= self.runs:
            return say_count(self.runs, "run")
        if self.bytes is not None and self.taken_runs and self.taken_bytes + size > self.bytes:
            return say_count(self.bytes, "byte")
        if self.minutes is not None and minutes >= self.minutes:
            return f"{self.minutes:g} minutes"
        return ""

    def less(self, size: int) -> "SweepBudget":
        return replace(self, taken_runs=self.taken_runs + 1, taken_bytes=self.taken_bytes + size)


def budget_of(limits: Limits, *, limit: int | None) -> SweepBudget:
    """The budget of one sweep; `limit`, a person's number, replaces the runs."""
    runs = limits.budget_runs if limit is None else limit
    return SweepBudget(runs=runs, bytes=limits.budget_bytes, minutes=limits.budget_minutes)


def plan_of(picker: Picker, budget: SweepBudget) -> list[Candidate]:
    """The candidates that go within a budget, without rehearsed ones."""
    plan = []
    for candidate, _causes in picker:
        if not candidate.rehearsed:
            if budget.exhausted_by(candidate.size, minutes=0):
                break
            budget = budget.less(candidate.size)
            plan.append(candidate)
        picker.gone(candidate, size=candidate.size, allocated=candidate.allocated)
    return plan
