"""Every gate, and the decision that they make."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleanup.rules.decisions import Decision, Gate, GateResult, Verdict
from cleanup.rules.facts import Facts, Finding, FutureFiles, ProofFacts
from cleanup.rules.gates import CLOCK_TOLERANCE, QUIET_PERIOD, evaluate
from cleanup.rules.policies.policy import Mode, Policy, ProofLevel
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State

pytestmark = pytest.mark.one_engine(by="function")


NOW = datetime(2026, 6, 15, 8, 0, tzinfo=UTC)
VERIFIED_AT = NOW - timedelta(days=2)
SECOND = timedelta(seconds=1)
DAILY = Policy(mode=Mode.SCHEDULED, retain_hours=24)
MANUAL = Policy(mode=Mode.MANUAL)
PASS, WAIT, BLOCK = Verdict.PASS, Verdict.WAIT, Verdict.BLOCK

SIZES = ProofFacts(level=ProofLevel.SIZE, files=7, bytes=4096)
EVERY_BYTE = ProofFacts(level=ProofLevel.CHECKSUM, files=7, bytes=4096)
# A file of a wrong clock, first seen just now.
FUTURE = FutureFiles(
    count=1,
    names=("a.tif",),
    newest_at=NOW + 9 * QUIET_PERIOD,
    others_at=VERIFIED_AT - timedelta(minutes=1),
    digest="d1",
    since=NOW,
)

# A run that may go: fresh facts, verified two days ago, every byte compared.
GOOD = Facts(
    gathered_at=NOW,
    fresh=True,
    recorded_state=State.SYNC_VERIFIED,
    ingest_state=State.SYNC_VERIFIED,
    verified_at=VERIFIED_AT,
    verified_first_seen_at=VERIFIED_AT + timedelta(minutes=1),
    files=11,
    bytes=5000,
    allocated_bytes=8192,
    newest_data_at=VERIFIED_AT - timedelta(minutes=1),
    proof=EVERY_BYTE,
)


def facts(**changes: Any) -> Facts:
    return replace(GOOD, **changes)


def answer(gate: Gate, some_facts: Facts, policy: Policy = DAILY, now: datetime = NOW) -> tuple[Any, ...]:
    result = evaluate(some_facts, policy, now).gate(gate)
    return result.verdict, result.reason, result.opens_at


def test_a_good_run_passes_every_gate() -> None:
    decision = evaluate(GOOD, DAILY, NOW)
    assert {result.gate: result.verdict for result in decision.gates} == dict.fromkeys(Gate, PASS)
    assert decision.due
    assert decision.clearable
    assert decision.main_refusal(operator=False) is None


def test_every_gate_answers_even_if_all_refuse_in_the_order_they_are_shown() -> None:
    sweeps = {"budget_finding": Finding(Reason.BUDGET_EXHAUSTED), "breaker_finding": Finding(Reason.BREAKER_OPEN)}
    nothing = Facts(gathered_at=NOW, other_attempt=True, failures=3, hold_file="", **sweeps)  # type: ignore[arg-type]
    decision = evaluate(nothing, MANUAL, NOW)
    assert [result.gate for result in decision.gates] == list(Gate)
    assert all(result.verdict is not PASS and result.reason for result in decision.gates)


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        ({"recorded_state": State.CLEARED}, BLOCK, Reason.ALREADY_CLEARED),
        (
            {"recorded_state": State.CLEARED, "ingest_findings": (Finding(Reason.INGEST_UNREADABLE),)},
            BLOCK,
            Reason.ALREADY_CLEARED,
        ),
        ({"ingest_state": State.CLEARED}, BLOCK, Reason.ALREADY_CLEARED),
        ({"ingest_findings": (Finding(Reason.INGEST_UNREADABLE),)}, BLOCK, Reason.INGEST_UNREADABLE),
        ({"ingest_findings": (Finding(Reason.INGEST_SCHEMA_UNSUPPORTED),)}, BLOCK, Reason.INGEST_SCHEMA_UNSUPPORTED),
        ({"ingest_findings": (Finding(Reason.INGEST_DISAGREES),)}, BLOCK, Reason.INGEST_DISAGREES),
        ({"ingest_state": None}, BLOCK, Reason.INGEST_UNREADABLE),
        ({"recorded_state": None}, BLOCK, Reason.INGEST_UNREADABLE),
        ({"ingest_state": State.SYNC_QUEUED}, BLOCK, Reason.INGEST_DISAGREES),
        ({"recorded_state": State.SYNC_QUEUED}, BLOCK, Reason.INGEST_DISAGREES),
        *(
            ({"recorded_state": state, "ingest_state": state}, WAIT, Reason.NOT_SYNC_VERIFIED)
            for state in (State.STAGING, State.COMPLETE, State.SYNC_QUEUED)
        ),
    ],
)
def test_state(changes: dict[str, Any], verdict: Verdict, reason: Reason) -> None:
    assert answer(Gate.STATE, facts(**changes)) == (verdict, reason, None)


class TestClock:
    FIRST_SEEN = NOW - timedelta(hours=1)

    def at(self, verified_at: datetime | None, now: datetime = NOW, first_seen: datetime | None = FIRST_SEEN) -> Any:
        return answer(Gate.CLOCK, facts(verified_at=verified_at, verified_first_seen_at=first_seen), now=now)

    def test_no_instant_blocks(self) -> None:
        assert self.at(None) == (BLOCK, Reason.NO_VERIFIED_TIMESTAMP, None)

    def test_another_state_waits(self) -> None:
        assert answer(Gate.CLOCK, facts(recorded_state=State.COMPLETE)) == (WAIT, Reason.NOT_SYNC_VERIFIED, None)

    def test_a_clock_may_run_ahead_by_the_tolerance_and_no_second_more(self) -> None:
        first_seen = NOW
        now = NOW + SECOND
        assert self.at(first_seen + CLOCK_TOLERANCE, now, first_seen)[0] is PASS
        late = first_seen + CLOCK_TOLERANCE + SECOND
        assert self.at(late, now, first_seen) == (WAIT, Reason.CLOCK_UNTRUSTED, late)

    def test_a_verification_from_the_future_is_believed_once_it_is_past(self) -> None:
        future = NOW + timedelta(days=3)
        assert self.at(future, future - SECOND) == (WAIT, Reason.CLOCK_UNTRUSTED, future)
        assert self.at(future, future)[0] is PASS

    def test_a_future_entry_whose_first_sight_is_unknown_waits(self) -> None:
        assert self.at(NOW + SECOND, first_seen=None) == (WAIT, Reason.CLOCK_UNTRUSTED, NOW + SECOND)
        assert self.at(NOW, first_seen=None)[0] is PASS


class TestRetention:
    def test_the_boundary_counts_to_the_second(self) -> None:
        due = VERIFIED_AT + timedelta(hours=24)
        waits = (WAIT, Reason.RETENTION_NOT_ELAPSED, due)
        assert answer(Gate.RETENTION, GOOD, now=due - SECOND) == waits
        assert answer(Gate.RETENTION, GOOD, now=due - timedelta(microseconds=1)) == waits
        assert answer(Gate.RETENTION, GOOD, now=due) == (PASS, None, None)

    def test_no_hours_passes_at_once(self) -> None:
        assert answer(Gate.RETENTION, GOOD, replace(DAILY, retain_hours=0), now=VERIFIED_AT)[0] is PASS

    @pytest.mark.parametrize("hours", [0, 24])
    def test_manual_blocks_with_any_hours(self, hours: float) -> None:
        assert answer(Gate.RETENTION, GOOD, replace(MANUAL, retain_hours=hours)) == (
            BLOCK,
            Reason.POLICY_MANUAL,
            None,
        )

    def test_another_state_waits_and_no_instant_blocks(self) -> None:
        assert answer(Gate.RETENTION, facts(recorded_state=State.COMPLETE))[:2] == (WAIT, Reason.NOT_SYNC_VERIFIED)
        assert answer(Gate.RETENTION, facts(verified_at=None))[:2] == (BLOCK, Reason.NO_VERIFIED_TIMESTAMP)

    def test_beyond_the_calendar_it_waits_for_ever(self) -> None:
        for_ever = replace(DAILY, retain_hours=1e12)
        assert answer(Gate.RETENTION, GOOD, for_ever) == (WAIT, Reason.RETENTION_NOT_ELAPSED, None)

    def test_the_hours_are_said(self) -> None:
        policy = replace(DAILY, retain_hours=0.5)
        result = evaluate(GOOD, policy, VERIFIED_AT).gate(Gate.RETENTION)
        assert result.detail == "kept 0.5 h after the verification"


class TestPath:
    @pytest.mark.parametrize(
        "reason",
        [
            Reason.ROOT_NOT_MOUNTED,
            Reason.UNSAFE_PATH,
            Reason.MISSING_DIRECTORY,
            Reason.IDENTITY_MISMATCH,
            Reason.MOUNT_INSIDE,
            Reason.SPECIAL_FILE,
            Reason.PERMISSION_DENIED,
            Reason.TREE_TOO_DEEP,
            Reason.STAGING_IO_ERROR,
        ],
    )
    def test_any_finding_blocks(self, reason: Reason) -> None:
        assert answer(Gate.PATH, facts(path_findings=(Finding(reason),))) == (BLOCK, reason, None)

    def test_a_run_without_a_look_is_blocked(self) -> None:
        assert answer(Gate.PATH, facts(files=None)) == (BLOCK, Reason.NOT_LOOKED_AT, None)

    def test_a_run_without_files_is_no_unseen_run(self) -> None:
        assert answer(Gate.PATH, facts(files=0))[0] is PASS

    def test_the_first_finding_is_the_reason_and_all_are_told(self) -> None:
        findings = (Finding(Reason.UNSAFE_PATH, "a is a symbolic link"), Finding(Reason.SPECIAL_FILE, "pipe"))
        result = evaluate(facts(path_findings=findings), DAILY, NOW).gate(Gate.PATH)
        assert result.reason is Reason.UNSAFE_PATH
        assert result.detail == "a is a symbolic link; special_file: pipe"


class TestUnchanged:
    @pytest.mark.parametrize(
        "reason",
        [
            Reason.NOT_IN_MANIFEST,
            Reason.MISSING_FILE,
            Reason.WRITER_ACTIVE,
            Reason.UNEXPECTED_METADATA,
            Reason.MANIFEST_MISSING,
            Reason.MANIFEST_EMPTY,
            Reason.MANIFEST_UNREADABLE,
        ],
    )
    def test_any_finding_blocks(self, reason: Reason) -> None:
        assert answer(Gate.UNCHANGED, facts(tree_findings=(Finding(reason),))) == (BLOCK, reason, None)

    def test_unseen_blocks_and_another_state_waits(self) -> None:
        assert answer(Gate.UNCHANGED, facts(files=None))[:2] == (BLOCK, Reason.NOT_LOOKED_AT)
        assert answer(Gate.UNCHANGED, facts(recorded_state=State.COMPLETE))[:2] == (WAIT, Reason.NOT_SYNC_VERIFIED)

    def test_the_quiet_period_ends_to_the_second(self) -> None:
        written = facts(newest_data_at=NOW)
        quiet = NOW + QUIET_PERIOD
        assert answer(Gate.UNCHANGED, written, now=quiet - SECOND) == (WAIT, Reason.NOT_QUIET, quiet)
        assert answer(Gate.UNCHANGED, written, now=quiet)[0] is PASS

    def test_a_file_from_the_end_of_the_calendar_is_never_quiet(self) -> None:
        verdict, reason, _opens_at = answer(Gate.UNCHANGED, facts(newest_data_at=datetime.max.replace(tzinfo=UTC)))
        assert (verdict, reason) == (WAIT, Reason.NOT_QUIET)

    def test_what_a_wrong_clock_has_dated_must_stay_as_it_is_for_ten_minutes(self) -> None:
        dated = facts(newest_data_at=NOW + 9 * QUIET_PERIOD, newer_count=1, newer_files=("a.tif",), future=FUTURE)
        opens = NOW + QUIET_PERIOD
        assert answer(Gate.UNCHANGED, dated, now=opens - SECOND) == (WAIT, Reason.FUTURE_DATED, opens)
        waiting = evaluate(dated, DAILY, NOW).gate(Gate.UNCHANGED)
        assert f"dated {FUTURE.newest_at:%Y-%m-%d %H:%M} UTC" in waiting.detail
        assert f"clock said {NOW:%Y-%m-%d %H:%M} UTC" in waiting.detail

    @pytest.mark.parametrize("newer", [0, 1])
    def test_after_that_only_the_bytes_count(self, newer: int) -> None:
        seen = facts(newest_data_at=NOW + 9 * QUIET_PERIOD, newer_count=newer, newer_files=("a.tif",), future=FUTURE)
        dated = replace(seen, proof=SIZES)
        later = NOW + QUIET_PERIOD
        assert answer(Gate.UNCHANGED, dated, now=later)[:2] == (BLOCK, Reason.CHANGED_SINCE_VERIFICATION)
        compared = replace(dated, fresh=True, proof=EVERY_BYTE)
        assert answer(Gate.UNCHANGED, compared, now=later)[0] is PASS
        assert answer(Gate.UNCHANGED, replace(compared, proof=SIZES), now=later)[0] is BLOCK
        assert answer(Gate.UNCHANGED, replace(compared, fresh=False), now=later)[0] is BLOCK
        assert answer(Gate.UNCHANGED, compared, now=later - SECOND)[0] is WAIT

    def test_beside_files_of_a_wrong_clock_another_one_was_just_written(self) -> None:
        dated = replace(FUTURE, others_at=NOW)
        written = facts(newest_data_at=NOW + 9 * QUIET_PERIOD, future=dated, fresh=True, proof=EVERY_BYTE)
        just_before = NOW + QUIET_PERIOD - SECOND
        assert answer(Gate.UNCHANGED, written, now=just_before)[:2] == (WAIT, Reason.NOT_QUIET)

    def test_a_date_that_has_come_is_a_date_like_others(self) -> None:
        dated = facts(newest_data_at=NOW + SECOND, future=replace(FUTURE, newest_at=NOW + SECOND))
        assert answer(Gate.UNCHANGED, dated, now=NOW + 2 * SECOND) == (
            WAIT,
            Reason.NOT_QUIET,
            NOW + SECOND + QUIET_PERIOD,
        )

    def test_a_run_without_data_has_no_quiet_period(self) -> None:
        assert answer(Gate.UNCHANGED, facts(newest_data_at=None))[0] is PASS

    def test_newer_files_block_and_are_named(self) -> None:
        one = evaluate(facts(newer_count=1, newer_files=("a.tif",), proof=SIZES), DAILY, NOW).gate(Gate.UNCHANGED)
        assert (one.verdict, one.reason) == (BLOCK, Reason.CHANGED_SINCE_VERIFICATION)
        assert one.detail == "1 file is newer than the verification: a.tif"
        many = evaluate(facts(newer_count=9, newer_files=("a", "b"), proof=SIZES), DAILY, NOW).gate(Gate.UNCHANGED)
        assert many.detail == "9 files are newer than the verification: a, b, …"

    def test_touched_files_with_the_same_bytes_pass_and_are_noted(self) -> None:
        result = evaluate(facts(newer_count=2, newer_files=("a", "b")), DAILY, NOW).gate(Gate.UNCHANGED)
        assert (result.verdict, result.detail) == (PASS, "touched, same bytes: a, b")

    @pytest.mark.parametrize(
        "changes",
        [
            {"fresh": False},
            {"proof": SIZES},
            {"proof": None},
            {"proof": replace(EVERY_BYTE, level=ProofLevel.RECORD)},
            {"proof": replace(EVERY_BYTE, findings=(Finding(Reason.NAS_CHECKSUM_MISMATCH),))},
        ],
    )
    def test_touched_files_block_unless_every_byte_was_read_just_now(self, changes: dict[str, Any]) -> None:
        touched = facts(newer_count=1, newer_files=("a",), **changes)
        assert answer(Gate.UNCHANGED, touched)[:2] == (BLOCK, Reason.CHANGED_SINCE_VERIFICATION)


class TestProof:
    @pytest.mark.parametrize(
        "reason",
        [
            Reason.NAS_NOT_CONFIGURED,
            Reason.NAS_NOT_MOUNTED,
            Reason.NAS_IDENTITY_MISMATCH,
            Reason.NAS_SAME_FILESYSTEM,
            Reason.NAS_TIMEOUT,
            Reason.NAS_IO_ERROR,
            Reason.NAS_MISSING_FILE,
            Reason.NAS_SIZE_MISMATCH,
            Reason.NAS_CHECKSUM_MISMATCH,
        ],
    )
    @pytest.mark.parametrize("level", [ProofLevel.SIZE, ProofLevel.CHECKSUM])
    @pytest.mark.parametrize("fresh", [True, False])
    def test_any_finding_blocks(self, reason: Reason, level: ProofLevel, fresh: bool) -> None:
        proof = replace(EVERY_BYTE, findings=(Finding(reason),))
        some_facts = facts(proof=proof, fresh=fresh)
        assert answer(Gate.PROOF, some_facts, replace(DAILY, proof=level)) == (BLOCK, reason, None)

    def test_without_a_comparison_it_blocks(self) -> None:
        assert answer(Gate.PROOF, facts(proof=None))[:2] == (BLOCK, Reason.NOT_COMPARED)

    def test_another_state_waits(self) -> None:
        assert answer(Gate.PROOF, facts(recorded_state=State.COMPLETE))[:2] == (WAIT, Reason.NOT_SYNC_VERIFIED)

    def test_record_trusts_the_wizard_and_says_so(self) -> None:
        result = evaluate(facts(proof=None), replace(DAILY, proof=ProofLevel.RECORD), NOW).gate(Gate.PROOF)
        assert result.verdict is PASS
        assert result.detail.startswith("record: ")

    @pytest.mark.parametrize(
        ("seen", "asked", "passes"),
        [
            (ProofLevel.SIZE, ProofLevel.SIZE, True),
            (ProofLevel.CHECKSUM, ProofLevel.SIZE, True),
            (ProofLevel.CHECKSUM, ProofLevel.CHECKSUM, True),
            (ProofLevel.SIZE, ProofLevel.CHECKSUM, False),
            (ProofLevel.RECORD, ProofLevel.SIZE, False),
            (ProofLevel.RECORD, ProofLevel.CHECKSUM, False),
        ],
    )
    def test_fresh_facts_need_the_level_that_the_policy_asks(
        self, seen: ProofLevel, asked: ProofLevel, passes: bool
    ) -> None:
        proof = replace(EVERY_BYTE, level=seen)
        verdict, reason, _ = answer(Gate.PROOF, facts(proof=proof), replace(DAILY, proof=asked))
        assert (verdict, reason) == ((PASS, None) if passes else (BLOCK, Reason.NOT_COMPARED))

    def test_stored_names_and_sizes_pass_on_a_page_with_a_note(self) -> None:
        result = evaluate(facts(proof=SIZES, fresh=False), DAILY, NOW).gate(Gate.PROOF)
        assert result.verdict is PASS
        assert result.detail == "proof_at_clear (size: 7 files, 4,096 bytes)"

    def test_a_stored_word_of_the_wizard_is_not_enough_even_on_a_page(self) -> None:
        proof = replace(SIZES, level=ProofLevel.RECORD)
        assert answer(Gate.PROOF, facts(proof=proof, fresh=False))[:2] == (BLOCK, Reason.NOT_COMPARED)


def test_free_waits_for_another_attempt() -> None:
    assert answer(Gate.FREE, facts(other_attempt=True)) == (WAIT, Reason.ALREADY_CLEARING, None)


def test_three_failed_attempts_park_a_run_for_the_schedule() -> None:
    assert answer(Gate.ATTEMPTS, facts(failures=2)) == (PASS, None, None)
    parked = facts(failures=3, last_failure="The last: no space.")
    assert answer(Gate.ATTEMPTS, parked) == (BLOCK, Reason.PARKED, None)
    decision = evaluate(parked, DAILY, NOW)
    assert (decision.due, decision.clearable) == (False, True)
    refusal = decision.main_refusal(operator=False)
    assert refusal is not None and refusal.detail == "The last: no space."


def test_a_host_that_may_not_clear_at_all_blocks_every_run() -> None:
    finding = Finding(Reason.DATABASE_NOT_DURABLE, "synchronous is 1")
    assert answer(Gate.PATH, facts(host_findings=(finding,))) == (BLOCK, Reason.DATABASE_NOT_DURABLE, None)
    assert not evaluate(facts(host_findings=(finding,)), DAILY, NOW).clearable


def test_a_proof_that_is_used_again_says_from_when_it_is() -> None:
    again = facts(fresh=True, proof=replace(EVERY_BYTE, reused_from=NOW - timedelta(hours=3)))
    result = evaluate(again, DAILY, NOW).gate(Gate.PROOF)
    assert result.verdict is PASS
    assert "unchanged since" in result.detail


class TestDecision:
    def test_an_operator_passes_retention_and_the_schedule_does_not(self) -> None:
        soon = VERIFIED_AT + timedelta(hours=1)
        for policy, reason in ((MANUAL, Reason.POLICY_MANUAL), (DAILY, Reason.RETENTION_NOT_ELAPSED)):
            decision = evaluate(GOOD, policy, soon)
            assert decision.clearable
            assert not decision.due
            assert decision.refusals(operator=True) == ()
            assert [refusal.reason for refusal in decision.refusals(operator=False)] == [reason]

    @pytest.mark.parametrize(
        "changes",
        [
            {"ingest_findings": (Finding(Reason.INGEST_UNREADABLE),)},
            {"verified_at": None},
            {"path_findings": (Finding(Reason.UNSAFE_PATH),)},
            {"tree_findings": (Finding(Reason.NOT_IN_MANIFEST),)},
            {"proof": None},
            {"other_attempt": True},
        ],
    )
    def test_an_operator_passes_no_other_gate(self, changes: dict[str, Any]) -> None:
        assert not evaluate(facts(**changes), MANUAL, NOW).clearable

    def test_stored_facts_are_clearable_on_a_page_but_are_not_the_proof_that_was_asked_for(self) -> None:
        stored = evaluate(facts(proof=SIZES, fresh=False), DAILY, NOW)
        assert stored.clearable
        assert not evaluate(facts(proof=SIZES, fresh=True), DAILY, NOW).clearable

    def test_a_block_is_named_before_a_wait(self) -> None:
        young = facts(proof=replace(SIZES, findings=(Finding(Reason.NAS_MISSING_FILE),)))
        decision = evaluate(young, DAILY, VERIFIED_AT + SECOND)
        assert named(decision, operator=False) is Reason.NAS_MISSING_FILE

    def test_among_blocks_the_order_of_the_gates_decides(self) -> None:
        bad = facts(
            tree_findings=(Finding(Reason.NOT_IN_MANIFEST),),
            path_findings=(Finding(Reason.UNSAFE_PATH),),
            proof=None,
        )
        assert named(evaluate(bad, DAILY, NOW), operator=False) is Reason.UNSAFE_PATH
        assert named(evaluate(bad, MANUAL, NOW), operator=False) is Reason.POLICY_MANUAL
        assert named(evaluate(bad, MANUAL, NOW), operator=True) is Reason.UNSAFE_PATH

    def test_among_waits_the_order_of_the_gates_decides(self) -> None:
        waiting = facts(newest_data_at=VERIFIED_AT, other_attempt=True)
        decision = evaluate(waiting, DAILY, VERIFIED_AT + SECOND)
        assert named(decision, operator=False) is Reason.RETENTION_NOT_ELAPSED
        assert named(decision, operator=True) is Reason.NOT_QUIET

    def test_a_full_comparison_is_worth_while_only_if_touched_files_alone_stand_in_the_way(self) -> None:
        touched = facts(newer_count=1, newer_files=("a",), proof=SIZES, fresh=False)
        assert evaluate(touched, MANUAL, NOW).needs_full_comparison
        assert not evaluate(replace(touched, other_attempt=True), MANUAL, NOW).needs_full_comparison
        assert not evaluate(GOOD, MANUAL, NOW).needs_full_comparison
        assert not evaluate(touched, replace(MANUAL, proof=ProofLevel.SIZE), NOW).needs_full_comparison

    def test_what_tells_more_than_newer_files_is_named_before_them(self) -> None:
        differs = replace(SIZES, level=ProofLevel.CHECKSUM, findings=(Finding(Reason.NAS_CHECKSUM_MISMATCH),))
        touched = facts(newer_count=1, newer_files=("a",), proof=differs)
        assert named(evaluate(touched, MANUAL, NOW), operator=True) is Reason.NAS_CHECKSUM_MISMATCH


def named(decision: Decision, *, operator: bool) -> Reason | None:
    refusal = decision.main_refusal(operator=operator)
    return refusal.reason if refusal else None


# Any facts give a decision, and never a clear without its grounds.

instants = st.datetimes(timezones=st.just(UTC))
findings = st.lists(st.builds(Finding, st.sampled_from(Reason), st.text(max_size=5)), max_size=2).map(tuple)
proofs = st.builds(ProofFacts, level=st.sampled_from(ProofLevel), findings=findings)
any_facts = st.builds(
    Facts,
    gathered_at=instants,
    fresh=st.booleans(),
    recorded_state=st.none() | st.sampled_from(State),
    ingest_state=st.none() | st.sampled_from(State),
    ingest_findings=findings,
    verified_at=st.none() | instants,
    verified_first_seen_at=st.none() | instants,
    path_findings=findings,
    files=st.none() | st.integers(0, 9),
    newest_data_at=st.none() | instants,
    newer_count=st.integers(0, 2),
    tree_findings=findings,
    proof=st.none() | proofs,
    other_attempt=st.booleans(),
)
# Mostly good, so that runs that may go are among them.
nearly_good = st.builds(
    lambda verified, newer, proof, fresh: facts(verified_at=verified, newer_count=newer, proof=proof, fresh=fresh),
    st.just(VERIFIED_AT) | st.none(),
    st.integers(0, 1),
    proofs | st.just(EVERY_BYTE),
    st.booleans(),
)
policies = st.builds(
    Policy, mode=st.sampled_from(Mode), retain_hours=st.floats(0, 1e9), proof=st.sampled_from(ProofLevel)
)


_grounds: dict[str, Any] = {"some_facts": any_facts | nearly_good, "policy": policies, "now": instants | st.just(NOW)}


@given(**_grounds)
@settings(max_examples=20)
def test_no_run_is_clearable_without_its_grounds(some_facts: Facts, policy: Policy, now: datetime) -> None:
    expect_grounds(some_facts, policy, now)


@pytest.mark.exhaustive
@given(**_grounds)
def test_no_run_is_ever_clearable_without_its_grounds(some_facts: Facts, policy: Policy, now: datetime) -> None:
    expect_grounds(some_facts, policy, now)


def expect_grounds(some_facts: Facts, policy: Policy, now: datetime) -> None:
    decision = evaluate(some_facts, policy, now)
    assert decision == evaluate(some_facts, policy, now)
    for result in decision.gates:
        assert_well_formed(result, now)
    if decision.due:
        assert decision.clearable
        assert policy.mode is Mode.SCHEDULED
    if decision.clearable:
        assert some_facts.recorded_state is some_facts.ingest_state is State.SYNC_VERIFIED
        assert not (some_facts.ingest_findings or some_facts.path_findings or some_facts.tree_findings)
        assert some_facts.verified_at is not None
        assert not some_facts.other_attempt
        if policy.proof is not ProofLevel.RECORD:
            assert some_facts.proof is not None
            assert not some_facts.proof.findings
            if some_facts.fresh:
                assert some_facts.proof.level.strength >= policy.proof.strength


def assert_well_formed(result: GateResult, now: datetime) -> None:
    assert (result.verdict is PASS) == (result.reason is None)
    if result.opens_at is not None:
        assert result.verdict is WAIT
        assert now < result.opens_at
