"""What the gates answer about one run, and what follows from all answers together."""

import enum
from dataclasses import dataclass
from datetime import datetime

from cleanup.rules.policy import Policy
from cleanup.rules.reasons import Reason


class Gate(enum.StrEnum):
    """The named conditions of a clear, in the order in which they are shown."""

    STATE = "state"
    CLOCK = "clock"
    RETENTION = "retention"
    HOLD = "hold"
    PATH = "path"
    UNCHANGED = "unchanged"
    PROOF = "proof"
    FREE = "free"
    ATTEMPTS = "attempts"
    BUDGET = "budget"
    BREAKER = "breaker"


# What the schedule must wait for and an operator's click passes.
SCHEDULE_ONLY = frozenset({Gate.RETENTION, Gate.ATTEMPTS, Gate.BUDGET, Gate.BREAKER})


class Verdict(enum.StrEnum):
    """What a gate says: open, opened by time alone, or closed until a person acts."""

    PASS = "pass"  # noqa: S105
    WAIT = "wait"
    BLOCK = "block"


@dataclass(frozen=True)
class GateResult:
    """One gate's answer; `opens_at` is when a wait ends, where that is known.

    `reading_settles`: it is shut on what is known, and reading every byte at the clear may open it.
    """

    gate: Gate
    verdict: Verdict
    reason: Reason | None = None
    detail: str = ""
    opens_at: datetime | None = None
    reading_settles: bool = False


@dataclass(frozen=True)
class Decision:
    """All gates of one run at one instant. `accepts`: accepted bytes stand in for the manifest."""

    now: datetime
    policy: Policy
    gates: tuple[GateResult, ...]
    accepts: bool = False

    @property
    def due(self) -> bool:
        """Whether the schedule would take the run: every gate passes."""
        return all(result.verdict is Verdict.PASS for result in self.gates)

    @property
    def clearable(self) -> bool:
        """Whether an operator may clear the run now: only gates of the schedule may be shut."""
        return not self.refusals(operator=True)

    @property
    def needs_full_comparison(self) -> bool:
        """Whether only touched files, or a known difference, stand in the way: reading every byte may settle these."""
        refusals = self.refusals(operator=True)
        return bool(refusals) and all(result.reading_settles for result in refusals)

    @property
    def is_known_to_differ(self) -> bool:
        """Whether bytes were found to differ, and nothing has changed since."""
        proof = self.gate(Gate.PROOF)
        return proof.verdict is Verdict.BLOCK and proof.reading_settles

    @property
    def worth_trying(self) -> bool:
        """Whether "Clear now" makes sense on these facts: the clear itself looks again and may still refuse."""
        return self.clearable or self.needs_full_comparison

    def refusals(self, *, operator: bool) -> tuple[GateResult, ...]:
        """The gates that do not pass; an operator's click passes those that bind the schedule alone."""
        return tuple(
            result
            for result in self.gates
            if result.verdict is not Verdict.PASS and not (operator and result.gate in SCHEDULE_ONLY)
        )

    def main_refusal(self, *, operator: bool) -> GateResult | None:
        """The refusal to name first: a block before a wait, in the order of the gates.

        Newer files come last among the blocks: any other reason tells more.
        """
        refusals = self.refusals(operator=operator)
        blocks = [result for result in refusals if result.verdict is Verdict.BLOCK]
        telling = [result for result in blocks if result.reason is not Reason.CHANGED_SINCE_VERIFICATION]
        return next(iter(telling or blocks or refusals), None)

    def gate(self, gate: Gate) -> GateResult:
        """The answer of one gate."""
        return next(result for result in self.gates if result.gate is gate)
