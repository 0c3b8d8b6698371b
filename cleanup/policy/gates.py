"""One evaluation for page, sweep, dry run and command line: facts, policy and instant in, decision out."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cleanup.policy.lifecycle import State
from cleanup.policy.reasons import Reason
from cleanup.policy.retention import Mode, Policy, ProofLevel, due_at

# How far the lab PC's clock may run ahead of ours before its verification instant is not believed.
CLOCK_TOLERANCE = timedelta(minutes=5)
# After so many failed attempts in a row the schedule leaves a run alone until something changes.
MAX_FAILURES = 3
# A run that was written to this recently may still be in somebody's hands.
QUIET_PERIOD = timedelta(minutes=10)
# What a detail says first, where something hangs on it later. Attempts keep their details: never say it otherwise.
BY_HOLD_FILE = "by the file .exlab-hold"
AT_THE_CLEAR = "proof_at_clear"


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
    """What a gate says: open, opened by time alone, or closed until somebody acts."""

    PASS = "pass"  # noqa: S105
    WAIT = "wait"
    BLOCK = "block"


@dataclass(frozen=True)
class Finding:
    """Something seen on disk that speaks against a clear: its reason and what exactly was seen."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Held:
    """A hold that somebody with an account laid on a run, until an instant."""

    owner: str
    until: datetime
    reason: str


@dataclass(frozen=True, kw_only=True)
class ProofFacts:
    """What a comparison with the NAS showed.

    `level` is how far it went; `files` and `bytes` count the data files that were compared. At `checksum`
    every staged byte and every NAS byte was read, so `findings` is empty only if both equal the manifest; `reused_from`
    is when that was, if not for this decision: nothing on either side has changed since.
    """

    level: ProofLevel
    findings: tuple[Finding, ...] = ()
    files: int = 0
    bytes: int = 0
    manifest_sha256: str = ""
    reused_from: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class LargeFile:
    """One of a run's largest data files: its path as a person can read it, cut to a bounded length.

    `nas_bytes` is the size of its twin, None where the NAS has none or was not asked.
    """

    path: str
    bytes: int
    modified_at: datetime | None = None
    nas_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class TwinFacts:
    """What the NAS held of a run when names and sizes were compared; bytes are added up name by name.

    Of the staged data files `missing` were not there and `other_size` had another size; `more` files lay there alone.
    """

    files: int
    bytes: int
    newest_at: datetime | None = None
    missing: int = 0
    other_size: int = 0
    more: int = 0


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was seen of one run, and when. Instants are aware; bytes are logical; None means unknown.

    `fresh` tells a look made for this decision from one that was stored by discovery. `host_findings` speak against
    any clear on this host; `failures` are the attempts that failed in a row, and `last_failure` says how. `hold_file`
    is what the file `.exlab-hold` at the run's top says, None without one. `budget_finding` and `breaker_finding` are a
    sweep's own: its limits, and what was abnormal. What people alone are shown, and no gate asks for: `data_files` and
    `data_bytes`, added up name by name, the `largest` of them, and the `twin`, None where the NAS was not compared.
    """

    gathered_at: datetime
    fresh: bool = False
    recorded_state: State | None = None
    ingest_state: State | None = None
    ingest_findings: tuple[Finding, ...] = ()
    verified_at: datetime | None = None
    verified_first_seen_at: datetime | None = None
    path_findings: tuple[Finding, ...] = ()
    files: int | None = None
    bytes: int | None = None
    allocated_bytes: int | None = None
    newest_data_at: datetime | None = None
    newer_files: tuple[str, ...] = ()
    newer_count: int = 0
    tree_findings: tuple[Finding, ...] = ()
    proof: ProofFacts | None = None
    other_attempt: bool = False
    host_findings: tuple[Finding, ...] = ()
    failures: int = 0
    last_failure: str = ""
    hold_file: str | None = None
    holds: tuple[Held, ...] = ()
    budget_finding: Finding | None = None
    breaker_finding: Finding | None = None
    data_files: int | None = None
    data_bytes: int | None = None
    largest: tuple[LargeFile, ...] = ()
    twin: TwinFacts | None = None


@dataclass(frozen=True)
class GateResult:
    """One gate's answer; `opens_at` is the instant at which a wait ends, where that is known."""

    gate: Gate
    verdict: Verdict
    reason: Reason | None = None
    detail: str = ""
    opens_at: datetime | None = None


@dataclass(frozen=True)
class Decision:
    """All gates of one run at one instant."""

    now: datetime
    policy: Policy
    gates: tuple[GateResult, ...]

    @property
    def due(self) -> bool:
        """Whether the schedule would take the run: every gate passes."""
        return all(result.verdict is Verdict.PASS for result in self.gates)

    @property
    def clearable(self) -> bool:
        """Whether an operator may clear the run now: every gate passes but those that bind the schedule alone."""
        return not self.refusals(operator=True)

    @property
    def needs_full_comparison(self) -> bool:
        """Whether only touched files stand in the way, which re-reading every byte at the clear could settle."""
        return self.policy.proof is ProofLevel.CHECKSUM and [
            result.reason for result in self.refusals(operator=True)
        ] == [Reason.CHANGED_SINCE_VERIFICATION]

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

        Newer files come last among the blocks: where something else stands in the way, that is what tells more.
        """
        refusals = self.refusals(operator=operator)
        blocks = [result for result in refusals if result.verdict is Verdict.BLOCK]
        telling = [result for result in blocks if result.reason is not Reason.CHANGED_SINCE_VERIFICATION]
        return next(iter(telling or blocks or refusals), None)

    def gate(self, gate: Gate) -> GateResult:
        """The answer of one gate."""
        return next(result for result in self.gates if result.gate is gate)


def evaluate(facts: Facts, policy: Policy, now: datetime) -> Decision:
    """Every gate of one run, from facts of any age. Pure: the same three arguments give the same decision."""
    return Decision(now, policy, tuple(GATES[gate](facts, policy, now) for gate in Gate))


def _pass(gate: Gate, detail: str = "") -> GateResult:
    return GateResult(gate, Verdict.PASS, detail=detail)


def _block(gate: Gate, reason: Reason, detail: str = "") -> GateResult:
    return GateResult(gate, Verdict.BLOCK, reason, detail)


def _wait(gate: Gate, reason: Reason, detail: str = "", opens_at: datetime | None = None) -> GateResult:
    return GateResult(gate, Verdict.WAIT, reason, detail, opens_at)


def _later(instant: datetime, span: timedelta) -> datetime | None:
    """The instant that lies a span later; None if that is beyond the calendar, as a forged file time may be."""
    try:
        return instant + span
    except OverflowError:
        return None


def _block_on(gate: Gate, findings: tuple[Finding, ...]) -> GateResult:
    """Block on the first finding; the others are told in the detail."""
    first, *others = findings
    details = [first.detail, *(f"{other.reason}: {other.detail}" for other in others)]
    return _block(gate, first.reason, "; ".join(part for part in details if part))


def _state(facts: Facts, policy: Policy, now: datetime) -> GateResult:
    gate = Gate.STATE
    if facts.recorded_state is State.CLEARED:
        return _block(gate, Reason.ALREADY_CLEARED)
    if facts.ingest_findings:
        return _block_on(gate, facts.ingest_findings)
    if facts.recorded_state is not None and facts.files is None and facts.path_findings:
        return _block(gate, facts.path_findings[0].reason, "so its record could not be read")
    if facts.recorded_state is None or facts.ingest_state is None:
        return _block(gate, Reason.INGEST_UNREADABLE, "no readable record so far")
    if facts.ingest_state is State.CLEARED:
        return _block(gate, Reason.ALREADY_CLEARED, "the record says so, yet the files are still here")
    if facts.ingest_state is not facts.recorded_state:
        detail = f"the file says {facts.ingest_state}, the database {facts.recorded_state}"
        return _block(gate, Reason.INGEST_DISAGREES, detail)
    if facts.recorded_state is not State.SYNC_VERIFIED:
        return _wait(gate, Reason.NOT_SYNC_VERIFIED, f"now {facts.recorded_state}")
    return _pass(gate)


def _clock(facts: Facts, policy: Policy, now: datetime) -> GateResult:
    gate = Gate.CLOCK
    if facts.recorded_state is not State.SYNC_VERIFIED:
        return _wait(gate, Reason.NOT_SYNC_VERIFIED)
    if facts.verified_at is None:
        return _block(gate, Reason.NO_VERIFIED_TIMESTAMP)
    seen = facts.verified_first_seen_at
    if now < facts.verified_at and (seen is None or facts.verified_at - seen > CLOCK_TOLERANCE):
        return _wait(gate, Reason.CLOCK_UNTRUSTED, opens_at=facts.verified_at)
    return _pass(gate)


def _retention(facts: Facts, policy: Policy, now: datetime) -> GateResult:
    gate = Gate.RETENTION
    if policy.mode is not Mode.SCHEDULED:
        return _block(gate, Reason.POLICY_MANUAL)
    if facts.recorded_state is not State.SYNC_VERIFIED:
        return _wait(gate, Reason.NOT_SYNC_VERIFIED)
    if facts.verified_at is None:
        return _block(gate, Reason.NO_VERIFIED_TIMESTAMP)
    opens_at = due_at(facts.verified_at, policy)
    if opens_at is None or now < opens_at:
        return _wait(
            gate,
            Reason.RETENTION_NOT_ELAPSED,
            f"kept {policy.retain_hours:g} h after the verification",
            opens_at,
        )
    if policy.rehearsing:
        versions = ", ".join(str(version) for version in policy.rehearsing)
        return _block(gate, Reason.REHEARSAL, f"policy version {versions}")
    return _pass(gate)


def _hold(facts: Facts, policy: Policy, now: datetime) -> GateResult:
    if facts.hold_file is not None:
        said = f': "{facts.hold_file}"' if facts.hold_file else ""
        return _block(Gate.HOLD, Reason.HELD, f"{BY_HOLD_FILE} in the run{said}")
    holds = sorted((hold for hold in facts.holds if hold.until > now), key=lambda hold: hold.until)
    if holds:
        said = "; ".join(f"by {hold.owner}: {hold.reason}" for hold in holds)
        return _wait(Gate.HOLD, Reason.HELD, said, holds[-1].until)
    return _pass(Gate.HOLD)


def _path(facts: Facts, policy: Policy, now: datetime) -> GateResult:
    if facts.host_findings or facts.path_findings:
        return _block_on(Gate.PATH, facts.host_findings + facts.path_findings)
    if facts.files is None:
        return _block(Gate.PATH, Reason.NOT_LOOKED_AT)
    return _pass(Gate.PATH)


def _unchanged(facts: Facts, policy: Policy, now: datetime) -> GateResult:
    gate = Gate.UNCHANGED
    if facts.files is None:
        return _block(gate, Reason.NOT_LOOKED_AT)
    if facts.recorded_state is not State.SYNC_VERIFIED:
        return _wait(gate, Reason.NOT_SYNC_VERIFIED)
    if facts.tree_findings:
        return _block_on(gate, facts.tree_findings)
    if facts.newest_data_at is not None and now - facts.newest_data_at < QUIET_PERIOD:
        return _wait(gate, Reason.NOT_QUIET, opens_at=_later(facts.newest_data_at, QUIET_PERIOD))
    if facts.newer_count:
        plural = "file is" if facts.newer_count == 1 else "files are"
        names = ", ".join(facts.newer_files) + (", …" if facts.newer_count > len(facts.newer_files) else "")
        proof = facts.proof
        if proof is not None and facts.fresh and proof.level is ProofLevel.CHECKSUM and not proof.findings:
            return _pass(gate, f"touched, same bytes: {names}")
        return _block(
            gate,
            Reason.CHANGED_SINCE_VERIFICATION,
            f"{facts.newer_count} {plural} newer than the verification: {names}",
        )
    return _pass(gate)


def _proof(facts: Facts, policy: Policy, now: datetime) -> GateResult:
    gate = Gate.PROOF
    if facts.recorded_state is not State.SYNC_VERIFIED:
        return _wait(gate, Reason.NOT_SYNC_VERIFIED)
    if policy.proof is ProofLevel.RECORD:
        return _pass(gate, "record: the wizard's own verification is trusted, as the policy says")
    proof = facts.proof
    if proof is None:
        return _block(gate, Reason.NOT_COMPARED)
    if proof.findings:
        return _block_on(gate, proof.findings)
    compared = f"{proof.level}: {proof.files:,} files, {proof.bytes:,} bytes"
    if proof.reused_from is not None:
        compared += f", read at {proof.reused_from.astimezone(UTC):%Y-%m-%d %H:%M} UTC and unchanged since"
    if proof.level.strength < policy.proof.strength:
        # A page decides from names and sizes; the clear itself re-reads every byte before it goes on.
        if facts.fresh or proof.level is ProofLevel.RECORD:
            return _block(gate, Reason.NOT_COMPARED, compared)
        return _pass(gate, f"{AT_THE_CLEAR} ({compared})")
    return _pass(gate, compared)


def _free(facts: Facts, policy: Policy, now: datetime) -> GateResult:
    if facts.other_attempt:
        return _wait(Gate.FREE, Reason.ALREADY_CLEARING)
    return _pass(Gate.FREE)


def _attempts(facts: Facts, policy: Policy, now: datetime) -> GateResult:
    if facts.failures >= MAX_FAILURES:
        return _block(Gate.ATTEMPTS, Reason.PARKED, facts.last_failure)
    return _pass(Gate.ATTEMPTS)


def _budget(facts: Facts, policy: Policy, now: datetime) -> GateResult:
    finding = facts.budget_finding
    return _wait(Gate.BUDGET, finding.reason, finding.detail) if finding else _pass(Gate.BUDGET)


def _breaker(facts: Facts, policy: Policy, now: datetime) -> GateResult:
    finding = facts.breaker_finding
    return _block(Gate.BREAKER, finding.reason, finding.detail) if finding else _pass(Gate.BREAKER)


GATES: dict[Gate, Callable[[Facts, Policy, datetime], GateResult]] = {
    Gate.STATE: _state,
    Gate.CLOCK: _clock,
    Gate.RETENTION: _retention,
    Gate.HOLD: _hold,
    Gate.PATH: _path,
    Gate.UNCHANGED: _unchanged,
    Gate.PROOF: _proof,
    Gate.FREE: _free,
    Gate.ATTEMPTS: _attempts,
    Gate.BUDGET: _budget,
    Gate.BREAKER: _breaker,
}
