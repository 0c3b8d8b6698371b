"""Which policy applies, and from when a run is due."""

import itertools
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleanup import cleanup_eligible
from cleanup.rules.due_date import due_at, verified_at
from cleanup.rules.policies.approval import approve
from cleanup.rules.policies.effective import effective_policy, limits_of
from cleanup.rules.policies.fields import TAKING_FIELDS
from cleanup.rules.policies.policy import (
    DEFAULT_BUDGET_RUNS,
    DEFAULT_MAX_SHARE,
    DEFAULT_RETAIN_HOURS,
    MAX_RETAIN_HOURS,
    Beyond,
    Limits,
    Mode,
    Policy,
    ProofLevel,
    Scope,
    ScopedPolicy,
    Stage,
)
from cleanup.rules.policies.versions import loosens, stage_of_next
from cleanup.rules.states import State

pytestmark = pytest.mark.one_engine(by="function")


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


class TestStages:
    def test_a_policy_names_the_versions_behind_it_by_stage(self) -> None:
        policies = [
            scoped(1, mode=Mode.SCHEDULED, stage=Stage.PROMOTED),
            scoped(2, scope=Scope(root="lab"), proof=ProofLevel.SIZE, stage=Stage.OFF),
            scoped(3, scope=Scope(run_kind="test"), retain_hours=1, stage=Stage.REHEARSING),
        ]
        policy = effective_policy(policies, RUN)
        assert (policy.promoted, policy.unrehearsed, policy.rehearsing) == ((1,), (2,), (3,))
        assert policy.in_earnest().rehearsing == ()

    def test_a_version_that_decides_nothing_rehearses_nothing(self) -> None:
        policies = [
            scoped(1, mode=Mode.SCHEDULED, retain_hours=24, stage=Stage.REHEARSING),
            scoped(2, scope=Scope(run_kind="test"), mode=Mode.MANUAL, retain_hours=1, stage=Stage.PROMOTED),
            scoped(3, scope=Scope(equipment="another"), retain_hours=1, stage=Stage.REHEARSING),
        ]
        assert effective_policy(policies, RUN).rehearsing == ()

    def test_when_a_run_is_stalled_needs_no_rehearsal(self) -> None:
        policy = effective_policy([scoped(1, stalled_after_hours=6, stage=Stage.REHEARSING)], RUN)
        assert (policy.stalled_after_hours, policy.rehearsing) == (6, ())

    def test_the_first_version_is_rehearsed(self) -> None:
        assert stage_of_next(None, scoped(mode=Mode.SCHEDULED), rehearse=None) is Stage.REHEARSING
        assert stage_of_next(None, scoped(mode=Mode.SCHEDULED), rehearse=True) is Stage.REHEARSING

    def test_unless_that_is_not_wanted(self) -> None:
        off = scoped(mode=Mode.SCHEDULED, stage=Stage.OFF)
        assert stage_of_next(None, off, rehearse=False) is Stage.OFF
        assert stage_of_next(off, scoped(2, mode=Mode.SCHEDULED, retain_hours=0), rehearse=None) is Stage.OFF
        assert stage_of_next(off, scoped(2, mode=Mode.SCHEDULED), rehearse=True) is Stage.REHEARSING

    def test_a_first_version_that_says_nothing_of_what_is_taken_needs_none(self) -> None:
        bounds = scoped(budget_runs=10, stalled_after_hours=6)
        assert stage_of_next(None, bounds, rehearse=None) is Stage.PROMOTED
        assert stage_of_next(None, scoped(mode=Mode.MANUAL), rehearse=None) is Stage.PROMOTED
        assert stage_of_next(None, scoped(mode=Mode.MANUAL, retain_hours=0), rehearse=None) is Stage.REHEARSING
        before = scoped(budget_runs=10, stage=Stage.PROMOTED)
        assert stage_of_next(before, scoped(2, mode=Mode.SCHEDULED, budget_runs=10), rehearse=None) is Stage.REHEARSING

    def test_only_what_takes_more_is_rehearsed_again(self) -> None:
        before = scoped(1, mode=Mode.SCHEDULED, retain_hours=24, stage=Stage.PROMOTED)
        longer = scoped(2, mode=Mode.SCHEDULED, retain_hours=25)
        shorter = scoped(2, mode=Mode.SCHEDULED, retain_hours=23)
        assert stage_of_next(before, longer, rehearse=None) is Stage.PROMOTED
        assert stage_of_next(before, shorter, rehearse=None) is Stage.REHEARSING

    def test_what_is_rehearsed_stays_so(self) -> None:
        before = scoped(1, mode=Mode.SCHEDULED, retain_hours=24, stage=Stage.REHEARSING)
        assert stage_of_next(before, scoped(2, mode=Mode.MANUAL, retain_hours=24), rehearse=None) is Stage.REHEARSING

    def test_a_manual_policy_with_shorter_hours_loosens_a_narrower_one(self) -> None:
        before = scoped(1, mode=Mode.MANUAL, retain_hours=168, stage=Stage.PROMOTED)
        after = scoped(3, mode=Mode.MANUAL, retain_hours=0)
        narrower = scoped(2, scope=Scope(equipment="CONFOCAL_01"), mode=Mode.SCHEDULED, stage=Stage.PROMOTED)
        assert effective_policy([after, narrower], RUN).retain_hours == 0
        assert loosens(before, after)

    @pytest.mark.parametrize(
        ("name", "before", "after"),
        [
            ("mode", Mode.SCHEDULED, Mode.MANUAL),
            ("mode", None, Mode.MANUAL),
            ("retain_hours", 24, 48),
            ("min_retain_hours", 2, 3),
            ("proof", ProofLevel.SIZE, ProofLevel.CHECKSUM),
            ("max_bytes", 10, 20),
            ("max_bytes", 10, None),
            ("max_runs", 10, None),
            ("free_start_bytes", 20, 10),
            ("free_start_bytes", 20, None),
            ("free_stop_bytes", 20, 10),
        ],
    )
    def test_what_keeps_more_does_not_loosen_and_its_contrary_does(self, name: str, before: Any, after: Any) -> None:
        assert not loosens(scoped(1, **{name: before}), scoped(2, **{name: after}))
        assert loosens(scoped(1, **{name: after}), scoped(2, **{name: before}))

    @pytest.mark.parametrize("name", ["mode", "retain_hours", "proof", "min_retain_hours"])
    def test_what_is_left_to_other_scopes_may_be_anything(self, name: str) -> None:
        value = {"mode": Mode.SCHEDULED, "proof": ProofLevel.CHECKSUM}.get(name, 24)
        assert loosens(scoped(1, **{name: value}), scoped(2))


class TestLimits:
    def test_without_any_policy_only_a_sweep_is_bounded(self) -> None:
        assert limits_of([], "lab") == Limits(budget_runs=DEFAULT_BUDGET_RUNS, max_share=DEFAULT_MAX_SHARE)

    def test_budgets_are_the_roots_own_else_the_labs(self) -> None:
        policies = [
            scoped(1, budget_runs=10, budget_minutes=60.0, max_share=0.1),
            scoped(2, scope=Scope(root="lab"), budget_runs=5),
        ]
        assert limits_of(policies, "lab") == Limits(budget_runs=5, budget_minutes=60.0, max_share=0.1)
        assert limits_of(policies, "second") == Limits(budget_runs=10, budget_minutes=60.0, max_share=0.1)

    def test_what_is_said_for_an_instrument_or_another_root_is_no_limit_of_this_one(self) -> None:
        policies = [
            scoped(1, scope=Scope(root="second"), max_bytes=1, budget_runs=1),
            scoped(2, scope=Scope(root="lab", equipment="CONFOCAL_01"), max_bytes=1),
        ]
        assert limits_of(policies, "lab") == Limits()

    def test_a_limit_is_rehearsed_and_a_budget_is_not(self) -> None:
        limits = scoped(1, scope=Scope(root="lab"), max_runs=100, stage=Stage.REHEARSING)
        assert limits_of([limits], "lab").rehearsing == (1,)
        budget = scoped(1, scope=Scope(root="lab"), budget_runs=100, stage=Stage.REHEARSING)
        assert limits_of([budget], "lab").rehearsing == ()

    @pytest.mark.parametrize("stage", Stage)
    def test_limits_name_the_version_behind_them_by_its_stage(self, stage: Stage) -> None:
        policies = [
            scoped(1, budget_runs=5, stage=Stage.PROMOTED),
            scoped(2, scope=Scope(root="lab"), max_runs=100, free_start_bytes=1, free_stop_bytes=2, stage=stage),
            scoped(3, scope=Scope(root="second"), max_runs=100, stage=Stage.PROMOTED),
        ]
        limits = limits_of(policies, "lab")
        told = {"rehearsing": limits.rehearsing, "promoted": limits.promoted, "off": limits.unrehearsed}
        assert told == {**dict.fromkeys(Stage, ()), stage: (2,)}


modes = st.none() | st.sampled_from(Mode)
some_hours = st.none() | st.sampled_from([0.0, 1.0, 24.0, 168.0])
levels = st.none() | st.sampled_from(ProofLevel)
sizes = st.none() | st.integers(0, 4)
scopes = st.sampled_from([Scope(), Scope(root="lab"), Scope(equipment="CONFOCAL_01"), Scope(run_kind="test")])
TAKING: dict[str, st.SearchStrategy[Any]] = {
    "mode": modes,
    "retain_hours": some_hours,
    "proof": levels,
    "only_here": st.sampled_from(Beyond),
    "min_retain_hours": some_hours,
    "max_bytes": sizes,
    "max_runs": sizes,
    "free_start_bytes": sizes,
    "free_stop_bytes": sizes,
}
taking = st.fixed_dictionaries(TAKING)


@given(
    scope=scopes, before=taking, after=taking, others=st.lists(st.tuples(scopes, taking), max_size=3), data=st.data()
)
def test_what_does_not_loosen_takes_no_run_that_was_kept_before(
    scope: Scope, before: dict[str, Any], after: dict[str, Any], others: list[tuple[Scope, Any]], data: st.DataObject
) -> None:
    """At any instant, under pressure or not, with any other scopes."""
    kept_as_before = data.draw(st.sets(st.sampled_from(sorted(after))))
    after = {**after, **{name: before[name] for name in kept_as_before}}
    earlier, later = scoped(1, scope=scope, **before), scoped(2, scope=scope, **after)
    if loosens(earlier, later):
        return
    rest = list({other: scoped(3, scope=other, **fields) for other, fields in others if other != scope}.values())
    was, becomes = (effective_policy([version, *rest], RUN) for version in (earlier, later))
    assert becomes.proof.strength >= was.proof.strength
    if becomes.mode is Mode.SCHEDULED:
        assert was.mode is Mode.SCHEDULED
        assert becomes.retain_hours >= was.retain_hours
        assert becomes.min_retain_hours >= was.min_retain_hours
    for now in (VERIFIED_AT + timedelta(hours=hours) for hours in (0, 1, 24, 168)):
        for policy, old in ((becomes, was), (becomes.under_pressure(), was.under_pressure())):
            if cleanup_eligible(ingest=record(), policy=policy, now_utc=now):
                assert cleanup_eligible(ingest=record(), policy=old, now_utc=now)
    for name in ("max_bytes", "max_runs"):
        if scope == Scope(root="lab") and after[name] is not None:
            assert before[name] is not None
            assert after[name] >= before[name]
    for name in ("free_start_bytes", "free_stop_bytes"):
        if scope == Scope(root="lab") and after[name] is not None:
            assert before[name] is not None
            assert after[name] <= before[name]


def test_what_is_left_to_a_wider_scope_is_rehearsed_too() -> None:
    """Only the wider scope decides, and it was promoted long ago."""
    lab = scoped(1, mode=Mode.SCHEDULED, retain_hours=1, stage=Stage.PROMOTED)
    narrow = Scope(equipment="CONFOCAL_01")
    kept = scoped(2, scope=narrow, mode=Mode.MANUAL, stage=Stage.PROMOTED)
    assert stage_of_next(kept, scoped(3, scope=narrow), rehearse=None) is Stage.REHEARSING
    let_go = approve([kept, scoped(3, scope=narrow, stage=Stage.REHEARSING)], {})
    assert effective_policy([lab, let_go], RUN).rehearsing == (3,)
    assert effective_policy([lab, let_go], replace(RUN, equipment="FLOW_01")).rehearsing == ()
    test_runs = scoped(4, scope=Scope(run_kind="test"), mode=Mode.SCHEDULED, stage=Stage.PROMOTED)
    assert effective_policy([lab, let_go, test_runs], RUN).rehearsing == ()
    promoted = approve([kept, let_go, scoped(4, scope=narrow, stage=Stage.PROMOTED)], {})
    assert effective_policy([lab, promoted], RUN).rehearsing == ()


@given(
    scope=scopes, before=taking, after=taking, others=st.lists(st.tuples(scopes, taking), max_size=3), data=st.data()
)
def test_a_change_that_takes_more_is_rehearsed(
    scope: Scope, before: dict[str, Any], after: dict[str, Any], others: list[tuple[Scope, Any]], data: st.DataObject
) -> None:
    kept_as_before = data.draw(st.sets(st.sampled_from(sorted(after))))
    after = {**after, **{name: before[name] for name in kept_as_before}}
    earlier = scoped(1, scope=scope, **before, stage=Stage.PROMOTED)
    later = scoped(2, scope=scope, **after)
    later = replace(later, stage=stage_of_next(earlier, later, rehearse=None))
    later = approve([earlier, later], {})
    rest = [
        scoped(3, scope=other, **fields, stage=Stage.PROMOTED)
        for other, fields in {other: fields for other, fields in others if other != scope}.items()
    ]
    was, becomes = (effective_policy([version, *rest], RUN) for version in (earlier, later))
    if becomes.rehearsing:
        return
    assert becomes.proof.strength >= was.proof.strength
    if becomes.mode is Mode.SCHEDULED:
        assert was.mode is Mode.SCHEDULED
        assert becomes.retain_hours >= was.retain_hours
        assert becomes.min_retain_hours >= was.min_retain_hours


def test_every_field_that_may_take_more_is_explored() -> None:
    assert set(TAKING_FIELDS) == {*TAKING}
