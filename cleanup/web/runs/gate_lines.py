"""The gates of one run on its page."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from cleanup.models import ClearAttempt
from cleanup.rules.decisions import SCHEDULE_ONLY, Decision, Gate, GateResult, Verdict
from cleanup.rules.facts import Facts
from cleanup.rules.gates import AT_THE_CLEAR, BY_ACCEPTANCE
from cleanup.rules.policies.policy import ProofLevel

# What a gate that passes means.
PASSED = {
    Gate.STATE: "The wizard has verified the copy, and record and database agree.",
    Gate.CLOCK: "The instant of the verification can be believed.",
    Gate.RETENTION: "It has been kept for as long as the policy asks.",
    Gate.HOLD: "It is not held.",
    Gate.PATH: "It lies where it should, and nothing strange is in it.",
    Gate.UNCHANGED: "Nothing has changed since the verification.",
    Gate.PROOF: "The NAS has every file.",
    Gate.FREE: "No clear of it is under way.",
    Gate.ATTEMPTS: "The last attempts did not all fail.",
    Gate.BUDGET: "Only for automatic clearing.",
    Gate.BREAKER: "Nothing abnormal has stopped automatic clearing.",
}
# Gates by discovery's look at the disk or the NAS; the others are current at any moment.
_SEEN_ON_DISK = frozenset({Gate.STATE, Gate.PATH, Gate.UNCHANGED, Gate.PROOF})


@dataclass(frozen=True, kw_only=True)
class GateLine:
    """`by_disk`: by discovery's look; `passed`: what a pass means; `schedule_only`: binds only the schedule."""

    gate: str
    verdict: str
    reason: str = ""
    detail: str = ""
    opens_at: datetime | None = None
    by_disk: bool = False
    passed: str = ""

    @property
    def schedule_only(self) -> bool:
        return self.gate in SCHEDULE_ONLY and self.verdict != Verdict.PASS


def lines(decision: Decision, facts: Facts) -> Iterator[GateLine]:
    for result in decision.gates:
        yield GateLine(
            gate=result.gate,
            verdict=result.verdict,
            reason=result.reason or "",
            detail=result.detail,
            opens_at=result.opens_at,
            by_disk=result.gate in _SEEN_ON_DISK or _held_on_disk(result, facts),
            passed=_passed(result.gate, result.verdict, result.detail),
        )


def _held_on_disk(result: GateResult, facts: Facts) -> bool:
    return result.gate is Gate.HOLD and (facts.hold_file is not None or bool(facts.kept_local))


def recorded_lines(attempt: ClearAttempt | None) -> Iterator[GateLine]:
    for kept in attempt.decision if attempt is not None else ():
        yield GateLine(
            gate=kept["gate"],
            verdict=kept["verdict"],
            reason=kept["reason"] or "",
            detail=kept["detail"],
            opens_at=datetime.fromisoformat(kept["opens_at"]) if kept["opens_at"] else None,
            passed=_passed(kept["gate"], kept["verdict"], kept["detail"]),
        )


def _passed(gate: str, verdict: str, detail: str) -> str:
    if verdict != Verdict.PASS or gate not in PASSED:
        return ""
    if gate == Gate.PROOF and detail.startswith(AT_THE_CLEAR):
        return (
            "The NAS has every file with its name and size. A clear compares every byte, unless that was done within a "
            "day and nothing has changed since."
        )
    if gate == Gate.PROOF and detail.startswith(ProofLevel.RECORD):
        return "Nothing is asked of the NAS."
    if gate == Gate.UNCHANGED and detail == BY_ACCEPTANCE:
        return "An admin has accepted the bytes that lie here and on the NAS in place of the manifest."
    if gate == Gate.UNCHANGED and detail:
        return "Files were touched since the verification; their bytes are the same."
    return PASSED[Gate(gate)]
