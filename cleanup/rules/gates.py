"""One evaluation for page, sweep, dry run and command line."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cleanup.rules.decisions import Decision, Gate, GateResult, Verdict
from cleanup.rules.due_date import due_at
from cleanup.rules.facts import AcceptedFacts, Facts, Finding, FutureFiles
from cleanup.rules.policies.fields import TOLD_FIELDS
from cleanup.rules.policies.policy import Beyond, Mode, Policy, ProofLevel
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State

# The lab PC's clock may run this far ahead of ours.
CLOCK_TOLERANCE = timedelta(minutes=5)
# Failures in a row; then the schedule leaves a run alone until something changes.
MAX_FAILURES = 3
# A run that was written to this recently may still be worked on.
QUIET_PERIOD = timedelta(minutes=10)
# Accepted bytes settle what the manifest says or lacks.
_ACCEPTABLE = frozenset(
    {
        Reason.MANIFEST_MISSING,
        Reason.MANIFEST_EMPTY,
        Reason.MANIFEST_UNREADABLE,
        Reason.NOT_IN_MANIFEST,
        Reason.MISSING_FILE,
    }
)
# Other code looks for these beginnings, also in stored details: never change them.
BY_HOLD_FILE = "by the file .exlab-hold"
AT_THE_CLEAR = "proof_at_clear"
BY_RECORD = "by keep_local:"
ONLY_HERE = "not on the NAS:"
# For a hold that only a doubted clock would end.
BY_DOUBTED_CLOCK = "it would be over by this host's clock, which is in doubt or has yet to be compared: see Problems"
BY_THE_RECORD = "record:"
BY_ACCEPTANCE = "accepted bytes stand in for the manifest"
# Of a record that ends with `cleared`.
STILL_HERE = "the record says so, yet the files are still here"


def evaluate(facts: Facts, policy: Policy, now: datetime) -> Decision:
    """Every gate of one run. Pure: equal arguments, equal decisions."""
    return Decision(now, policy, tuple(GATES[gate](facts, policy, now) for gate in Gate), facts.accepts)


def _pass(gate: Gate, detail: str = "") -> GateResult:
    return GateResult(gate, Verdict.PASS, detail=detail)


def _block(gate: Gate, reason: Reason, detail: str = "") -> GateResult:
    return GateResult(gate, Verdict.BLOCK, reason, detail)


def _wait(gate: Gate, reason: Reason, detail: str = "", opens_at: datetime | None = None) -> GateResult:
    return GateResult(gate, Verdict.WAIT, reason, detail, opens_at)


def _later(instant: datetime, span: timedelta) -> datetime | None:
    """None beyond the calendar, as with a forged file time."""
    try:
        return instant + span
    except OverflowError:
        return None


def _block_on(gate: Gate, findings: tuple[Finding, ...]) -> GateResult:
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
        return _block(gate, Reason.ALREADY_CLEARED, STILL_HERE)
    if facts.ingest_state is not facts.recorded_state:
        detail = f"the file says {facts.ingest_state}, the database {facts.recorded_state}"
        return _block(gate, Reason.INGEST_DISAGREES, detail)
    if facts.recorded_state is not State.SYNC_VERIFIED:
        said = f"; {facts.unverified}" if facts.unverified else ""
        return _wait(gate, Reason.NOT_SYNC_VERIFIED, f"now {facts.recorded_state}{said}")
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
    if facts.accepts and facts.accepted is not None:
        return _block(gate, Reason.ACCEPTED_BYTES, _accepted(facts.accepted))
    if policy.mode is not Mode.SCHEDULED:
        return _block(gate, Reason.POLICY_MANUAL)
    if facts.recorded_state is not State.SYNC_VERIFIED:
        return _wait(gate, Reason.NOT_SYNC_VERIFIED)
    if facts.verified_at is None:
        return _block(gate, Reason.NO_VERIFIED_TIMESTAMP)
    kept_from = facts.kept_from or facts.verified_at
    opens_at = due_at(kept_from, policy)
    meanwhile = _due_meanwhile(kept_from, policy)
    if opens_at is None or now < opens_at:
        return _wait(
            gate,
            Reason.RETENTION_NOT_ELAPSED,
            f"{_kept_in_words(policy)} after {_since(facts, kept_from)}",
            meanwhile or opens_at,
        )
    if not policy.rehearsing:
        return _pass(gate)
    versions = f"policy version {', '.join(str(version) for version in policy.rehearsing)}"
    if meanwhile is None:
        return _block(gate, Reason.REHEARSAL, versions)
    if now < meanwhile:
        return _wait(gate, Reason.REHEARSAL, f"{versions}; until it is promoted {_by(policy)}", meanwhile)
    return _pass(gate, f"{versions} is rehearsed; {_by(policy)}")


def _due_meanwhile(kept_from: datetime, policy: Policy) -> datetime | None:
    meanwhile = policy.meanwhile
    return due_at(kept_from, meanwhile) if meanwhile and meanwhile.mode is Mode.SCHEDULED else None


def _by(policy: Policy) -> str:
    meanwhile = policy.unasked
    other = [name for name in TOLD_FIELDS if getattr(meanwhile, name) != getattr(policy, name)]
    numbers = sorted({meanwhile.decided_by[name].version for name in other if name in meanwhile.decided_by})
    said = f"version {', '.join(map(str, numbers))} decides" if numbers else "the default decides"
    return f"{said}: {_kept_in_words(meanwhile)}"


def _kept_in_words(policy: Policy) -> str:
    return f"kept {policy.retain_hours:g} h" if policy.retain_hours else "cleared at once"


def _since(facts: Facts, kept_from: datetime) -> str:
    if kept_from == facts.verified_at or facts.verified_at is None:
        return "the verification"
    if facts.returned:
        return "its files were seen here again"
    seen = _minute(kept_from)
    return (
        f"our own first sight of it: verified on {_minute(facts.verified_at)} by the instrument's clock, first seen "
        f"verified here on {seen}: counted from {seen}"
    )


def _accepted(accepted: AcceptedFacts) -> str:
    return f"by {accepted.actor}, {accepted.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC: {accepted.note}"


def _hold(facts: Facts, policy: Policy, now: datetime) -> GateResult:
    if facts.hold_file is not None:
        said = f': "{facts.hold_file}"' if facts.hold_file else ""
        return _block(Gate.HOLD, Reason.HELD, f"{BY_HOLD_FILE} in the run{said}")
    if facts.kept_local:
        return _block(Gate.HOLD, Reason.HELD, f"{BY_RECORD} sync_state.json pins {facts.kept_local}")
    holds = sorted((hold for hold in facts.holds if hold.lasts(now)), key=lambda hold: hold.until)
    if holds:
        said = "; ".join(hold.said for hold in holds)
        if holds[-1].until > now:
            return _wait(Gate.HOLD, Reason.HELD, said, holds[-1].until)
        return _wait(Gate.HOLD, Reason.HELD, f"{said}; {BY_DOUBTED_CLOCK}")
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
    findings = tuple(each for each in facts.tree_findings if not (facts.accepts and each.reason in _ACCEPTABLE))
    if findings:
        return _block_on(gate, findings)
    dated = facts.future if facts.future is not None and facts.future.newest_at > now else None
    written_at = dated.others_at if dated else facts.newest_data_at
    if written_at is not None and now - written_at < QUIET_PERIOD:
        return _wait(gate, Reason.NOT_QUIET, opens_at=_later(written_at, QUIET_PERIOD))
    if dated:
        return _dated_in_the_future(facts, policy, dated, now)
    if facts.newer_count:
        plural = "file is" if facts.newer_count == 1 else "files are"
        names = ", ".join(facts.newer_files) + (", …" if facts.newer_count > len(facts.newer_files) else "")
        if _every_byte_is_proven(facts):
            return _pass(gate, f"touched, same bytes: {names}")
        blocked = _block(
            gate,
            Reason.CHANGED_SINCE_VERIFICATION,
            f"{facts.newer_count} {plural} newer than the verification: {names}",
        )
        return replace(blocked, reading_settles=_reading_settles(facts, policy))
    return _pass(gate, BY_ACCEPTANCE if facts.accepts else "")


def _reading_settles(facts: Facts, policy: Policy) -> bool:
    known_to_differ = facts.proof is not None and facts.proof.found_at is not None
    return facts.wanted_proof(policy) is ProofLevel.CHECKSUM or known_to_differ


def _every_byte_is_proven(facts: Facts) -> bool:
    """Both sides were read for this decision, or have not changed since."""
    proof = facts.proof
    return proof is not None and facts.fresh and proof.level is ProofLevel.CHECKSUM and not proof.findings


def _dated_in_the_future(facts: Facts, policy: Policy, dated: FutureFiles, now: datetime) -> GateResult:
    """Their times say nothing: the files must rest, and equal the NAS."""
    gate = Gate.UNCHANGED
    names = ", ".join(dated.names) + (", …" if dated.count > len(dated.names) else "")
    opens_at = min(filter(None, [_later(dated.since, QUIET_PERIOD), _later(dated.newest_at, QUIET_PERIOD)]))
    if now < opens_at:
        said = (
            f"{names}: dated {_minute(dated.newest_at)}, when this host's clock said {_minute(dated.since)}; "
            "unchanged for ten minutes from then on, it goes by its bytes"
        )
        return _wait(gate, Reason.FUTURE_DATED, said, opens_at)
    if _every_byte_is_proven(facts):
        return _pass(gate, f"dated in the future, same bytes: {names}")
    told = f"dated in the future by a wrong clock ({_minute(dated.newest_at)}): {names}"
    blocked = _block(gate, Reason.CHANGED_SINCE_VERIFICATION, told)
    return replace(blocked, reading_settles=_reading_settles(facts, policy))


def _minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _proof(facts: Facts, policy: Policy, now: datetime) -> GateResult:
    compared = _bytes_proven(facts, policy)
    if facts.only_here is None or compared.verdict is not Verdict.PASS:
        return compared
    if policy.only_here is Beyond.BLOCK:
        return _block(Gate.PROOF, Reason.ONLY_HERE, facts.only_here.words)
    return replace(compared, detail=f"{compared.detail}; {ONLY_HERE} {facts.only_here.words}")


def _bytes_proven(facts: Facts, policy: Policy) -> GateResult:
    gate = Gate.PROOF
    if facts.recorded_state is not State.SYNC_VERIFIED:
        return _wait(gate, Reason.NOT_SYNC_VERIFIED)
    if facts.twin_findings:
        return _block_on(gate, facts.twin_findings)
    wanted = facts.wanted_proof(policy)
    if facts.twin_unnamed is not None and wanted is not ProofLevel.CHECKSUM:
        return _block(gate, Reason.TWIN_UNNAMED, facts.twin_unnamed)
    if wanted is ProofLevel.RECORD:
        return _pass(gate, f"{BY_THE_RECORD} the wizard's own verification is trusted, as the policy says")
    proof = facts.proof
    if proof is None:
        return _block(gate, Reason.NOT_COMPARED)
    if proof.findings:
        return replace(_block_on(gate, proof.findings), reading_settles=proof.found_at is not None)
    if facts.accepts and facts.fresh and proof.accepted is None:  # only a comparison with the accepted bytes counts
        return _block(gate, Reason.NOT_COMPARED)
    compared = f"{'accepted' if proof.accepted else proof.level}: {proof.files:,} files, {proof.bytes:,} bytes"
    if proof.reused_from is not None:
        compared += f", read at {proof.reused_from.astimezone(UTC):%Y-%m-%d %H:%M} UTC and unchanged since"
    if proof.level.strength < wanted.strength:
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
    if facts.nas_retry_at is not None and now < facts.nas_retry_at:
        return _wait(Gate.ATTEMPTS, Reason.NAS_SLOW, opens_at=facts.nas_retry_at)
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
