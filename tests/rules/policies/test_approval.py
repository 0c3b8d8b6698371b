"""What an approval covers, in any order of actions."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cleanup.rules.policies.approval import FirstNights, approve, approve_all, approved_of
from cleanup.rules.policies.effective import effective_policy
from cleanup.rules.policies.policy import Mode, Policy, ProofLevel, Scope, ScopedPolicy, Stage
from cleanup.rules.policies.versions import stage_of_next, values_besides

pytestmark = pytest.mark.one_engine(by="function")


LAB, FLOW = Scope(), Scope(equipment="FLOW_01")
PROVEN = (ProofLevel.RECORD, ProofLevel.SIZE, ProofLevel.CHECKSUM)


@dataclass(frozen=True)
class Run:
    hours: float
    proof: ProofLevel

    def taken_by(self, policy: Policy | ScopedPolicy) -> bool:
        assert policy.retain_hours is not None
        assert policy.proof is not None
        strong = self.proof.strength >= policy.proof.strength
        return policy.mode is Mode.SCHEDULED and self.hours >= policy.retain_hours and strong


RUNS = [Run(hours, proof) for hours in (0, 100, 144, 168, 200, 240, 1000) for proof in PROVEN]


@dataclass
class Book:
    roots: dict[str, FirstNights] = field(default_factory=lambda: {"first": FirstNights(since=0)})
    chain: list[ScopedPolicy] = field(default_factory=list)
    since: dict[str, list[ScopedPolicy] | None] = field(default_factory=lambda: {"first": None, "": None})

    def edit(self, **fields: Any) -> None:
        value = ScopedPolicy(scope=LAB, version=len(self.chain) + 1, **fields)
        before = self.chain[-1] if self.chain else None
        approved = approved_of(self.chain)
        value = replace(value, stage=stage_of_next(before, value, rehearse=None, approved=approved))
        self.chain.append(value)
        first = before is None
        for root, versions in self.since.items():
            if value.stage is Stage.PROMOTED and (versions or first or root == ""):
                self.since[root] = [value]
            elif versions:
                self.since[root] = [*versions, value]

    def promote(self) -> None:
        if self.chain and self.chain[-1].stage is Stage.REHEARSING:
            self._restage(Stage.PROMOTED)
            self.since = {root: [self.chain[-1]] for root in self.since}

    def send_back(self) -> None:
        if self.chain and self.chain[-1].stage is Stage.PROMOTED:
            self._restage(Stage.REHEARSING)
            self.since = dict.fromkeys(self.since)

    def _restage(self, stage: Stage) -> None:
        self.chain.append(replace(self.chain[-1], version=len(self.chain) + 1, stage=stage))

    def root(self) -> None:
        name = f"root {len(self.roots)}"
        self.roots[name], self.since[name] = FirstNights(since=len(self.chain)), None

    def over(self, number: int) -> None:
        name = list(self.roots)[number % len(self.roots)]
        self.roots[name] = replace(self.roots[name], over=len(self.chain))
        self.since[name] = self.since[""]

    def goes(self, run: Run, root: str) -> bool:
        policies = [approve(self.chain, self.roots)] if self.chain else []
        scope = Scope(root=root, equipment="FLOW_01", project="P", run_kind="test")
        return run.taken_by(effective_policy(policies, scope).unasked)


fields = st.fixed_dictionaries(
    {
        "mode": st.sampled_from([Mode.SCHEDULED, Mode.SCHEDULED, Mode.MANUAL]),
        "retain_hours": st.sampled_from([100.0, 144.0, 168.0, 240.0]),
        "proof": st.sampled_from(PROVEN),
    }
)
edits = st.tuples(st.just("edit"), fields)
steps = st.one_of(
    edits,
    edits,
    st.just(("promote", {})),
    st.just(("send_back", {})),
    st.just(("root", {})),
    st.tuples(st.just("over"), st.fixed_dictionaries({"number": st.integers(0, 3)})),
)
WEEK = {"mode": Mode.SCHEDULED, "retain_hours": 168.0, "proof": ProofLevel.SIZE}
PROMOTED: list[tuple[str, dict[str, Any]]] = [("edit", WEEK), ("promote", {})]


def follow(done: list[tuple[str, dict[str, Any]]]) -> None:
    book = Book()
    for name, arguments in done:
        getattr(book, name)(**arguments)
        for root in book.roots:
            since = book.since[root]
            for run in RUNS:
                assert book.goes(run, root) is bool(since and all(map(run.taken_by, since))), (name, root, run)


@settings(max_examples=20)
@given(st.lists(steps, max_size=10))
@example([*PROMOTED, ("root", {}), ("edit", WEEK | {"retain_hours": 144.0}), ("over", {"number": 1})])
@example([*PROMOTED, ("root", {}), ("edit", WEEK | {"retain_hours": 240.0}), ("promote", {})])
def test_a_run_goes_only_by_what_is_approved_for_its_root(done: list[tuple[str, dict[str, Any]]]) -> None:
    follow(done)


@pytest.mark.exhaustive
@settings(max_examples=400)
@given(st.lists(steps, max_size=16))
def test_a_run_goes_only_by_what_is_approved_for_its_root_at_length(done: list[tuple[str, dict[str, Any]]]) -> None:
    """Takes 10 s."""
    follow(done)


some_fields = st.fixed_dictionaries(
    {
        "mode": st.none() | st.sampled_from(Mode),
        "retain_hours": st.none() | st.sampled_from([100.0, 144.0, 168.0, 240.0]),
        "proof": st.none() | st.sampled_from(PROVEN),
    }
)


scoped_steps = st.lists(st.tuples(st.sampled_from([LAB, FLOW]), some_fields | st.just("promote")), max_size=8)


@settings(max_examples=20)
@given(scoped_steps)
def test_with_several_scopes_nothing_more_goes_before_a_promotion(done: list[tuple[Scope, Any]]) -> None:
    follow_scopes(done)


@pytest.mark.exhaustive
@settings(max_examples=1000)
@given(scoped_steps)
def test_with_several_scopes_nothing_more_goes_before_a_promotion_at_length(done: list[tuple[Scope, Any]]) -> None:
    """Takes 10 s."""
    follow_scopes(done)


def follow_scopes(done: list[tuple[Scope, Any]]) -> None:
    """No change lets a run go that did not go before, or that the newest versions keep."""
    chains: dict[Scope, list[ScopedPolicy]] = {}
    where = Scope(root="lab", equipment="FLOW_01", project="P", run_kind="test")
    for number, (scope, said) in enumerate(done, 1):
        chain = chains.get(scope, [])
        before = _goes(chains, where)
        if said == "promote":
            if not chain or chain[-1].stage is not Stage.REHEARSING:
                continue
            value = replace(chain[-1], version=number, stage=Stage.PROMOTED)
        else:
            value = ScopedPolicy(scope=scope, version=number, **said)
            stage = stage_of_next(
                chain[-1] if chain else None,
                value,
                rehearse=None,
                approved=approved_of(chain),
                wider=values_besides(approve_all(chains, {}), scope),
            )
            value = replace(value, stage=stage)
        chains[scope] = [*chain, value]
        goes = _goes(chains, where)
        assert said == "promote" or goes <= before
        newest = [replace(versions[-1], stage=Stage.OFF) for versions in chains.values()]
        assert all(run.taken_by(effective_policy(newest, where)) for run in goes)


def _goes(chains: dict[Scope, list[ScopedPolicy]], where: Scope) -> set[Run]:
    policy = effective_policy(approve_all(chains, {}), where).unasked
    return {run for run in RUNS if run.taken_by(policy)}
