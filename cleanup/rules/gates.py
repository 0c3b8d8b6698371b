"""One evaluation for page, sweep, dry run and command line: facts, policy and instant in, decision out."""

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cleanup.rules.policy import TOLD_FIELDS, Beyond, Mode, Policy, ProofLevel, due_at
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State

# How far the lab PC's clock may run ahead of ours before its verification instant is not believed.
CLOCK_TOLERANCE = timedelta(minutes=5)
# After so many failed attempts in a row the schedule leaves a run alone until something changes.
MAX_FAILURES = 3
# A run that was written to this recently may still be in somebody's hands.
QUIET_PERIOD = timedelta(minutes=10)
# What accepted bytes settle: what the manifest says, or that it says nothing.
_ACCEPTABLE = frozenset(
    {
        Reason.MANIFEST_MISSING,
        Reason.MANIFEST_EMPTY,
        Reason.MANIFEST_UNREADABLE,
        Reason.NOT_IN_MANIFEST,
        Reason.MISSING_FILE,
    }
)
# What a detail says first, where something hangs on it later. Attempts keep their details: never say it otherwise.
BY_HOLD_FILE = "by the file .exlab-hold"
AT_THE_CLEAR = "proof_at_clear"
BY_RECORD = "by keep_local:"
ONLY_HERE = "not on the NAS:"
# A hold that only such a clock would end.
BY_DOUBTED_CLOCK = "it would be over by this host's clock, which is in doubt or has yet to be compared: see Problems"
BY_THE_RECORD = "record:"
BY_ACCEPTANCE = "accepted bytes stand in for the manifest"


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

    @property
    def said(self) -> str:
        """The reason as a sentence, and what was seen."""
        return f"{self.reason.sentence} {self.detail}".strip()


@dataclass(frozen=True, kw_only=True)
class Held:
    """A hold that a person with an account laid on a run, until an instant.

    `sure_at`, where the host's clock is in doubt, is what it has reached for certain: no hold ends by more than that.
    `laid_on` is the path of another run on which it was laid and that may be this one, `because` by what; empty where
    it was laid on the run itself.
    """

    owner: str
    until: datetime
    reason: str
    laid_on: str = ""
    because: str = ""
    sure_at: datetime | None = None

    def lasts(self, now: datetime) -> bool:
        """Whether it is in force."""
        return self.until > (now if self.sure_at is None else min(now, self.sure_at))

    @property
    def said(self) -> str:
        """Who holds the run and why; of a hold of another run also why it counts here, and how to lift it."""
        own = f"by {self.owner}: {self.reason}"
        if not self.laid_on:
            return own
        return (
            f"{own} (laid on {self.laid_on}, which may be this run: {self.because}; release that hold, or say on this "
            "run's page that it is not the same run)"
        )


@dataclass(frozen=True, kw_only=True)
class ProofFacts:
    """What a comparison with the NAS showed.

    `level` is how far it went; `files` and `bytes` count the data files that were compared. At `checksum`
    every staged byte and every NAS byte was read, so `findings` is empty only if both equal the manifest; `reused_from`
    is when that was, if not for this decision: nothing on either side has changed since. So with `found_at`, when
    bytes were found to differ. `accepted`: both equal the bytes that an admin has accepted under this key, and not the
    manifest.
    """

    level: ProofLevel
    findings: tuple[Finding, ...] = ()
    files: int = 0
    bytes: int = 0
    manifest_sha256: str = ""
    reused_from: datetime | None = None
    found_at: datetime | None = None
    accepted: int | None = None


@dataclass(frozen=True, kw_only=True)
class AcceptedFacts:
    """What an admin has said of a run's bytes, by its key; `holds`: both sides are as they were compared for it."""

    key: int
    actor: str
    at: datetime
    note: str
    holds: bool


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
class OnlyHere:
    """What a run has besides its bytes and the NAS lacks: attributes, entries with access lists, empty folders.

    `names` are the first few, as a person can read them.
    """

    attributes: int
    access_lists: int
    folders: int
    names: tuple[str, ...]

    @property
    def words(self) -> str:
        """How many there are of each kind, and the first few by name."""
        kinds = (
            (self.attributes, "attribute", "attributes"),
            (self.access_lists, "access list", "access lists"),
            (self.folders, "empty folder", "empty folders"),
        )
        said = ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in kinds if count)
        more = ", …" if len(self.names) < self.attributes + self.access_lists + self.folders else ""
        return f"{said}: {', '.join(self.names)}{more}"


@dataclass(frozen=True, kw_only=True)
class FutureFiles:
    """Data files that are dated later than the look that found them; `newest_at` is the latest of their times.

    `digest` tells sizes, mtimes and ctimes, which have been as they are `since` an earlier look, or this one. The
    others of the run were written at `others_at` or before, None if there are none.
    """

    count: int
    names: tuple[str, ...]
    newest_at: datetime
    others_at: datetime | None
    digest: str
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was seen of one run, and when. Instants are aware; bytes are logical; None means unknown.

    `fresh` tells a look made for this decision from one that was stored by discovery. `host_findings` speak against
    any clear on this host; `failures` are the attempts that failed in a row, and `last_failure` says how; before
    `nas_retry_at` the schedule does not ask for a twin again that kept silent. `hold_file`
    is what the file `.exlab-hold` at the run's top says, None without one. `budget_finding` and `breaker_finding` are a
    sweep's own: its limits, and what was abnormal. What people alone are shown, and no gate asks for: `data_files` and
    `data_bytes`, added up name by name, the `largest` of them, and the `twin`, None where the NAS was not compared.
    `desktop_files` of the `files`, with `desktop_bytes`, are those of desktops and NAS systems, which are no data.
    `locks` of them are empty locks of the wizard's, which come and go. `twin_findings` speak against the place
    of the twin, at any level; `twin_unnamed` says why the twin's own record does not name this run (None: it does, or
    need not), which matters where no bytes are compared.
    `kept_from` is from when the policy keeps the run, where that is not `verified_at`: our own first sight of the
    verification, where an earlier state of the run was seen here. Of a record without a history `unverified` names the
    files for which the record does not vouch. `kept_local` names those that a record pins.
    A run that was `returned` is kept from when its files were first seen again. `accepted`: bytes that an admin has
    accepted in place of the manifest.
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
    nas_retry_at: datetime | None = None
    hold_file: str | None = None
    kept_from: datetime | None = None
    returned: bool = False
    unverified: str = ""
    kept_local: str = ""
    holds: tuple[Held, ...] = ()
    budget_finding: Finding | None = None
    breaker_finding: Finding | None = None
    data_files: int | None = None
    data_bytes: int | None = None
    desktop_files: int = 0
    desktop_bytes: int = 0
    largest: tuple[LargeFile, ...] = ()
    twin: TwinFacts | None = None
    locks: int = 0
    twin_findings: tuple[Finding, ...] = ()
    twin_unnamed: str | None = None
    future: FutureFiles | None = None
    only_here: OnlyHere | None = None
    accepted: AcceptedFacts | None = None

    @property
    def accepts(self) -> bool:
        """Whether accepted bytes stand in for the manifest now."""
        return self.accepted is not None and self.accepted.holds

    def wanted_proof(self, policy: Policy) -> ProofLevel:
        """How far a comparison must go: as the policy says, but every byte where no record vouches for them.

        What the wizard has verified of a run that came back are the files of its former clear.
        """
        return ProofLevel.CHECKSUM if self.accepts or self.returned else policy.proof


@dataclass(frozen=True)
class GateResult:
    """One gate's answer; `opens_at` is the instant at which a wait ends, where that is known.

    `reading_settles`: it stays shut on what is known, and to read every byte at the clear may open it.
    """

    gate: Gate
    verdict: Verdict
    reason: Reason | None = None
    detail: str = ""
    opens_at: datetime | None = None
    reading_settles: bool = False


@dataclass(frozen=True)
class Decision:
    """All gates of one run at one instant. `accepts`: they let accepted bytes stand in for the manifest."""

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
        """Whether an operator may clear the run now: every gate passes but those that bind the schedule alone."""
        return not self.refusals(operator=True)

    @property
    def needs_full_comparison(self) -> bool:
        """Whether only that stands in the way which re-reading every byte at the clear could settle.

        That are touched files, and a difference that was found before.
        """
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
    return Decision(now, policy, tuple(GATES[gate](facts, policy, now) for gate in Gate), facts.accepts)


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
    """When the schedule takes a run though a version is rehearsed, by what is approved; None if it does not."""
    meanwhile = policy.meanwhile
    return due_at(kept_from, meanwhile) if meanwhile and meanwhile.mode is Mode.SCHEDULED else None


def _by(policy: Policy) -> str:
    """What decides while a version is rehearsed, in words."""
    meanwhile = policy.unasked
    other = [name for name in TOLD_FIELDS if getattr(meanwhile, name) != getattr(policy, name)]
    numbers = sorted({meanwhile.decided_by[name].version for name in other if name in meanwhile.decided_by})
    said = f"version {', '.join(map(str, numbers))} decides" if numbers else "the default decides"
    return f"{said}: {_kept_in_words(meanwhile)}"


def _kept_in_words(policy: Policy) -> str:
    return f"kept {policy.retain_hours:g} h" if policy.retain_hours else "cleared at once"


def _since(facts: Facts, kept_from: datetime) -> str:
    """What retention counts from, in words: where that is not the recorded verification, also why."""
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
    """Whether both sides were read for this very decision, or nothing has changed since they were."""
    proof = facts.proof
    return proof is not None and facts.fresh and proof.level is ProofLevel.CHECKSUM and not proof.findings


def _dated_in_the_future(facts: Facts, policy: Policy, dated: FutureFiles, now: datetime) -> GateResult:
    """Files of a wrong clock: their times say nothing, so they must stay as they are for a while, and equal the NAS."""
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
    """The bytes, and what the NAS lacks besides them."""
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
