"""The gates of one run on its page."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from cleanup.models import ClearAttempt
from cleanup.rules.decisions import Decision, Gate, GateResult, Verdict
from cleanup.rules.facts import Facts
from cleanup.rules.gates import AT_THE_CLEAR, BY_ACCEPTANCE
from cleanup.rules.policies.policy import ProofLevel
from cleanup.text import check_names

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
        return check_names.binds_schedule_only(self.gate, self.verdict)

    @property
    def name(self) -> str:
        return check_names.check_name(self.gate)

    @property
    def result(self) -> str:
        return check_names.result_of(self.gate, self.verdict, self.reason)


@dataclass(frozen=True)
class Checks:
    """The checks of a run as its page shows them: those that have not passed first, the others folded.

    `by_schedule` bind automatic clearing alone; they do not count among the checks of a click.
    """

    stopping: tuple[GateLine, ...]
    by_schedule: tuple[GateLine, ...]
    passed: tuple[GateLine, ...]

    @classmethod
    def of(cls, lines: Iterable[GateLine]) -> "Checks":
        every = tuple(lines)
        return cls(
            stopping=tuple(line for line in every if line.verdict != Verdict.PASS and not line.schedule_only),
            by_schedule=tuple(line for line in every if line.schedule_only),
            passed=tuple(line for line in every if line.verdict == Verdict.PASS),
        )

    @property
    def open(self) -> tuple[GateLine, ...]:
        return self.stopping + self.by_schedule

    @property
    def asked(self) -> int:
        return len(self.stopping) + len(self.passed)


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
