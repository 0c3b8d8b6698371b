"""What the gates answer about one run, and what follows from it."""

import enum
from dataclasses import dataclass
from datetime import datetime

from cleanup.rules.policies.policy import Policy
from cleanup.rules.reasons import Reason


class Gate(enum.StrEnum):
    """The named conditions of a clear, in display order."""

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


# These bind the schedule, not an operator's click.
SCHEDULE_ONLY = frozenset({Gate.RETENTION, Gate.ATTEMPTS, Gate.BUDGET, Gate.BREAKER})


class Verdict(enum.StrEnum):
    """What a gate says: open, opened by time alone, or closed until a person acts."""

    PASS = "pass"  # noqa: S105
    WAIT = "wait"
    BLOCK = "block"


@dataclass(frozen=True)
class GateResult:
    """One gate's answer; `opens_at`: when a wait ends, if known."""

    gate: Gate
    verdict: Verdict
    reason: Reason | None = None
    detail: str = ""
    opens_at: datetime | None = None
    reading_settles: bool = False  # reading every byte at the clear may open it


@dataclass(frozen=True)
class Decision:
    """All gates of one run at one instant."""

    now: datetime
    policy: Policy
    gates: tuple[GateResult, ...]
    accepts: bool = False  # accepted bytes stand in for the manifest

    @property
    def due(self) -> bool:
        return all(result.verdict is Verdict.PASS for result in self.gates)

    @property
    def clearable(self) -> bool:
        return not self.refusals(operator=True)

    @property
    def needs_full_comparison(self) -> bool:
        """Whether only touched files or known differences block: reading every byte may settle these."""
        refusals = self.refusals(operator=True)
        return bool(refusals) and all(result.reading_settles for result in refusals)

    @property
    def is_known_to_differ(self) -> bool:
        """Whether bytes were found to differ, and nothing has changed since."""
        proof = self.gate(Gate.PROOF)
        return proof.verdict is Verdict.BLOCK and proof.reading_settles

    @property
    def worth_trying(self) -> bool:
        """The clear itself looks again, and may still refuse."""
        return self.clearable or self.needs_full_comparison

    def refusals(self, *, operator: bool) -> tuple[GateResult, ...]:
        """An operator's click passes the gates in SCHEDULE_ONLY."""
        return tuple(
            result
            for result in self.gates
            if result.verdict is not Verdict.PASS and not (operator and result.gate in SCHEDULE_ONLY)
        )

    def main_refusal(self, *, operator: bool) -> GateResult | None:
        """A block before a wait; newer files last, as they tell least."""
        refusals = self.refusals(operator=operator)
        blocks = [result for result in refusals if result.verdict is Verdict.BLOCK]
        telling = [result for result in blocks if result.reason is not Reason.CHANGED_SINCE_VERIFICATION]
        return next(iter(telling or blocks or refusals), None)

    def gate(self, gate: Gate) -> GateResult:
        return next(result for result in self.gates if result.gate is gate)
