"""Which policy applies, and from when the schedule may take a run."""

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cleanup
from cleanup.policy.lifecycle import State
from cleanup.policy.retention import (
    DEFAULT_RETAIN_HOURS,
    MAX_RETAIN_HOURS,
    Mode,
    Policy,
    ProofLevel,
    Scope,
    ScopedPolicy,
    cleanup_eligible,
    due_at,
    effective_policy,
    verified_at,
)

VERIFIED_AT = datetime(2026, 4, 17, 16, 15, 43, tzinfo=UTC)
SECOND = timedelta(seconds=1)
RUN = Scope(root="lab", equipment="CONFOCAL_01", project="PROJ-0042", run_kind="test")
DAILY = Policy(mode=Mode.SCHEDULED, retain_hours=24)


@dataclass(frozen=True)
class Entry:
    state: str
    at: datetime | None = None


@dataclass(frozen=True)
class Record:
    current_state: str
    history: tuple[Entry, ...]


def record(state: State = State.SYNC_VERIFIED, *verifications: datetime | None) -> Record:
    """A record in `state` with these `sync_verified` entries, one at VERIFIED_AT by default."""
    entries = [Entry("staging", VERIFIED_AT - timedelta(days=30))]
    entries += [Entry("sync_verified", at) for at in verifications or (VERIFIED_AT,)]
    if state is not State.SYNC_VERIFIED:
        entries.append(Entry(state, VERIFIED_AT - timedelta(days=20)))
    return Record(state, tuple(entries))


def scoped(version: int = 1, *, scope: Scope | None = None, **fields: object) -> ScopedPolicy:
    return ScopedPolicy(scope=scope or Scope(), version=version, **fields)  # type: ignore[arg-type]


class TestEffectivePolicy:
    def test_without_any_policy_the_defaults_hold(self) -> None:
        policy = effective_policy([], RUN)
        assert policy == Policy(
            mode=Mode.MANUAL, retain_hours=DEFAULT_RETAIN_HOURS, proof=ProofLevel.CHECKSUM, version=0
        )

    def test_the_most_specific_wins_field_by_field(self) -> None:
        policies = [
            scoped(1, mode=Mode.SCHEDULED, retain_hours=48, proof=ProofLevel.SIZE),
            scoped(2, scope=Scope(equipment="CONFOCAL_01"), retain_hours=12),
            scoped(3, scope=Scope(equipment="CONFOCAL_01", project="PROJ-0042"), mode=Mode.MANUAL),
        ]
        for order in itertools.permutations(policies):
            policy = effective_policy(order, RUN)
            assert (policy.mode, policy.retain_hours, policy.proof) == (Mode.MANUAL, 12, ProofLevel.SIZE)

    def test_each_scope_outranks_all_before_it(self) -> None:
        fields = ["root", "equipment", "project", "run_kind"]
        scopes = [Scope(), *(Scope(**{name: getattr(RUN, name)}) for name in fields)]
        policies = [scoped(hours, scope=scope, retain_hours=hours) for hours, scope in enumerate(scopes)]
        for reached in range(len(policies)):
            assert effective_policy(reversed(policies[: reached + 1]), RUN).retain_hours == reached

    def test_all_lesser_fields_together_do_not_outrank_a_greater_one(self) -> None:
        together = scoped(1, scope=Scope(root="lab", equipment="CONFOCAL_01", project="PROJ-0042"), mode=Mode.SCHEDULED)
        kind = scoped(2, scope=Scope(run_kind="test"), mode=Mode.MANUAL)
        assert effective_policy([kind, together], RUN).mode is Mode.MANUAL

    @pytest.mark.parametrize("field", ["root", "equipment", "project", "run_kind"])
    def test_a_policy_for_another_scope_does_not_apply(self, field: str) -> None:
        other = scoped(1, scope=Scope(**{field: "another"}), mode=Mode.SCHEDULED, retain_hours=0)
        policy = effective_policy([other], RUN)
        assert (policy.mode, policy.retain_hours) == (Mode.MANUAL, DEFAULT_RETAIN_HOURS)

    def test_no_hours_is_a_value_and_not_unset(self) -> None:
        policies = [scoped(1, retain_hours=24), scoped(2, scope=Scope(equipment="CONFOCAL_01"), retain_hours=0)]
        assert effective_policy(policies, RUN).retain_hours == 0

    def test_an_unset_field_is_left_to_the_lesser_scopes(self) -> None:
        policies = [scoped(1, proof=ProofLevel.RECORD), scoped(2, scope=Scope(run_kind="test"), retain_hours=1)]
        assert effective_policy(policies, RUN).proof is ProofLevel.RECORD

    def test_the_newest_version_looked_at_is_named_even_if_it_changes_nothing(self) -> None:
        policies = [scoped(7, scope=Scope(equipment="another"), retain_hours=1), scoped(3, retain_hours=2)]
        assert effective_policy(policies, RUN).version == 7

    def test_policies_may_come_from_a_generator(self) -> None:
        policies = [scoped(1, mode=Mode.SCHEDULED), scoped(2, retain_hours=5)]
        assert effective_policy((policy for policy in policies), RUN) == effective_policy(policies, RUN)


def test_the_proof_levels_grow_in_strength() -> None:
    assert ProofLevel.RECORD.strength < ProofLevel.SIZE.strength < ProofLevel.CHECKSUM.strength


def test_due_at_lies_retain_hours_after_the_verification() -> None:
    assert due_at(VERIFIED_AT, DAILY) == VERIFIED_AT + timedelta(hours=24)
    assert due_at(VERIFIED_AT, Policy(retain_hours=0.5)) == VERIFIED_AT + timedelta(minutes=30)


@pytest.mark.parametrize("hours", [MAX_RETAIN_HOURS * 1000, 1e300, float("inf")])
def test_beyond_the_calendar_nothing_is_ever_due(hours: float) -> None:
    policy = Policy(mode=Mode.SCHEDULED, retain_hours=hours)
    assert due_at(VERIFIED_AT, policy) is None
    assert not cleanup_eligible(ingest=record(), policy=policy, now_utc=datetime.max.replace(tzinfo=UTC))


class TestVerifiedAt:
    def test_the_latest_verification_counts(self) -> None:
        later = VERIFIED_AT + timedelta(days=1)
        assert verified_at(record(State.SYNC_VERIFIED, VERIFIED_AT, later).history) == later

    def test_the_latest_is_the_last_written_and_not_the_last_dated(self) -> None:
        earlier = VERIFIED_AT - timedelta(days=1)
        assert verified_at(record(State.SYNC_VERIFIED, VERIFIED_AT, earlier).history) == earlier

    def test_an_unusable_latest_instant_is_not_replaced_by_an_older_one(self) -> None:
        assert verified_at(record(State.SYNC_VERIFIED, VERIFIED_AT, None).history) is None

    def test_without_a_verification_there_is_none(self) -> None:
        assert verified_at([Entry("staging", VERIFIED_AT)]) is None
        assert verified_at([]) is None


class TestCleanupEligible:
    def test_stands_under_its_own_name_at_the_top(self) -> None:
        assert cleanup.cleanup_eligible is cleanup_eligible

    def test_the_boundary_counts_to_the_second(self) -> None:
        due = VERIFIED_AT + timedelta(hours=24)
        assert not cleanup_eligible(ingest=record(), policy=DAILY, now_utc=due - SECOND)
        assert cleanup_eligible(ingest=record(), policy=DAILY, now_utc=due)
        assert cleanup_eligible(ingest=record(), policy=DAILY, now_utc=due + SECOND)

    @pytest.mark.parametrize("hours", [0, 24, MAX_RETAIN_HOURS])
    def test_manual_never(self, hours: float) -> None:
        policy = Policy(mode=Mode.MANUAL, retain_hours=hours)
        assert not cleanup_eligible(ingest=record(), policy=policy, now_utc=datetime(2099, 1, 1, tzinfo=UTC))

    @pytest.mark.parametrize("state", [state for state in State if state is not State.SYNC_VERIFIED])
    def test_no_other_state_ever(self, state: State) -> None:
        assert not cleanup_eligible(ingest=record(state), policy=DAILY, now_utc=datetime(2099, 1, 1, tzinfo=UTC))

    def test_the_latest_verification_counts(self) -> None:
        again = VERIFIED_AT + timedelta(days=3)
        twice = record(State.SYNC_VERIFIED, VERIFIED_AT, again)
        assert not cleanup_eligible(ingest=twice, policy=DAILY, now_utc=again + timedelta(hours=24) - SECOND)
        assert cleanup_eligible(ingest=twice, policy=DAILY, now_utc=again + timedelta(hours=24))

    def test_no_usable_instant_is_not_eligible(self) -> None:
        far = datetime(2099, 1, 1, tzinfo=UTC)
        assert not cleanup_eligible(ingest=record(State.SYNC_VERIFIED, None), policy=DAILY, now_utc=far)
        assert not cleanup_eligible(ingest=Record("sync_verified", ()), policy=DAILY, now_utc=far)

    def test_no_hours_means_at_once_but_not_before(self) -> None:
        at_once = Policy(mode=Mode.SCHEDULED, retain_hours=0)
        assert cleanup_eligible(ingest=record(), policy=at_once, now_utc=VERIFIED_AT)
        assert not cleanup_eligible(ingest=record(), policy=at_once, now_utc=VERIFIED_AT - SECOND)

    def test_the_zone_of_now_does_not_matter(self) -> None:
        due = (VERIFIED_AT + timedelta(hours=24)).astimezone()
        assert cleanup_eligible(ingest=record(), policy=DAILY, now_utc=due)


instants = st.datetimes(
    min_value=datetime(1970, 1, 1),
    max_value=datetime(9000, 1, 1),
    timezones=st.just(UTC),
)


@given(
    state=st.sampled_from(State),
    verifications=st.lists(st.none() | instants, max_size=3),
    mode=st.sampled_from(Mode),
    retain_hours=st.floats(0, MAX_RETAIN_HOURS) | st.sampled_from([0, 24, 168]),
    now=instants,
)
def test_eligible_only_when_everything_says_so(
    state: State, verifications: list[datetime | None], mode: Mode, retain_hours: float, now: datetime
) -> None:
    ingest = Record(state, tuple(Entry("sync_verified", at) for at in verifications))
    eligible = cleanup_eligible(ingest=ingest, policy=Policy(mode=mode, retain_hours=retain_hours), now_utc=now)
    latest = verifications[-1] if verifications else None
    if eligible:
        assert mode is Mode.SCHEDULED
        assert state is State.SYNC_VERIFIED
        assert latest is not None
        assert latest + timedelta(hours=retain_hours) <= now
    elif mode is Mode.SCHEDULED and state is State.SYNC_VERIFIED and latest is not None:
        assert latest + timedelta(hours=retain_hours) > now
