"""What a sweep decides of every staged run before it takes any: by what is known, without a look at the disk."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from cleanup.clears.run_action import RunAction, skip
from cleanup.models import Run
from cleanup.rules.decisions import Decision, Gate, Verdict
from cleanup.rules.effective import effective_policy
from cleanup.rules.facts import Facts, Finding
from cleanup.rules.gates import evaluate
from cleanup.rules.policy import Limits, Policy, ScopedPolicy
from cleanup.rules.pressure import Candidate, Taken, candidates_of
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs import stored_facts
from cleanup.sweeps import outlook

# What no look at the disk can change, in the order in which it is told.
_KNOWN = (Gate.CLOCK, Gate.RETENTION, Gate.HOLD, Gate.FREE, Gate.ATTEMPTS)


@dataclass(frozen=True, kw_only=True)
class Grounds:
    """By what a sweep decides. `hindrances` bind every run of this host, `stopped` is the breaker of the root."""

    policies: list[ScopedPolicy]
    limits: Limits
    hindrances: tuple[Finding, ...]
    stopped: Finding | None
    now: datetime
    timed: bool

    def policy_for(self, run: Run) -> tuple[Policy, bool]:
        """The policy that decides of a run, and whether only an operator's sweep would take it by that one."""
        policy = effective_policy(self.policies, run.scope)
        return (policy, False) if self.timed else (policy.in_earnest(), bool(policy.rehearsing))


@dataclass(frozen=True, kw_only=True)
class DueRun:
    """A candidate with what was known of it when the sweep began; `noted`: the schedule would only rehearse it."""

    run: Run
    facts: Facts
    policy: Policy
    candidate: Candidate
    noted: bool

    @property
    def takes_by(self) -> Policy:
        """The policy by which the sweep would take it, or note it if that is only rehearsed."""
        policy = self.policy if self.candidate.rehearsed else self.policy.unasked
        return policy if self.candidate.due else policy.under_pressure()

    def decide(self, now: datetime, **findings: Finding) -> Decision:
        """Its gates as far as they are known, with what the sweep itself has against it."""
        policy = self.policy if self.candidate.rehearsed else self.policy.unasked
        return evaluate(replace(self.facts, **findings), policy, now)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What a run comes to: left alone (`left`, which only counts where it is not `listed`), or a candidate or two."""

    left: RunAction | None = None
    listed: bool = True
    due: tuple[DueRun, ...] = ()


@dataclass
class Survey:
    """All staged runs of a root: how many, their logical bytes, and the candidates by run and by being rehearsed."""

    scanned: int = 0
    staged_bytes: int = 0
    due: dict[tuple[int, bool], DueRun] = field(default_factory=dict)

    def of(self, candidate: Candidate) -> DueRun:
        return self.due[candidate.key, candidate.rehearsed]


def decide(run: Run, policy: Policy, grounds: Grounds, *, busy: bool, noted: bool) -> Decided:
    """What a run comes to by a policy. `busy`: an attempt on it is under way."""
    now, hindrances = grounds.now, grounds.hindrances
    facts = stored_facts.facts_of(run, other_attempt=busy, hindrances=hindrances, breaker=grounds.stopped)
    decision = evaluate(facts, policy, now)
    if decision.gate(Gate.STATE).verdict is Verdict.WAIT:
        return Decided(left=skip(run, Finding(Reason.NOT_SYNC_VERIFIED), decision), listed=False)
    candidates = _candidates(run, facts, policy, grounds)
    refusal = next(iter(hindrances), None)
    if refusal is None and not candidates:
        known = known_refusal(run, evaluate(facts, policy.in_earnest(), now))
        refusal = known or Finding(Reason.NO_VERIFIED_TIMESTAMP)
    if refusal is not None:
        return Decided(left=skip(run, refusal, decision))
    return Decided(
        due=tuple(DueRun(run=run, facts=facts, policy=policy, candidate=one, noted=noted) for one in candidates)
    )


def _candidates(run: Run, facts: Facts, policy: Policy, grounds: Grounds) -> list[Candidate]:
    if run.verified_at is None:
        return []
    rehearses = bool(policy.rehearsing or (grounds.timed and grounds.limits.rehearsing))
    return candidates_of(
        outlook.undecided(run, run.verified_at, facts, grounds.now),
        _lets_go(run, facts, policy.unasked, grounds.now),
        _lets_go(run, facts, policy.in_earnest(), grounds.now) if rehearses else None,
    )


def _lets_go(run: Run, facts: Facts, policy: Policy, now: datetime) -> Taken:
    """Whether a policy lets a run go, as far as no fresh look is needed for that."""
    due, eligible = (
        known_refusal(run, evaluate(facts, each, now)) is None for each in (policy, policy.under_pressure())
    )
    return Taken(due=due, eligible=eligible)


def known_refusal(run: Run, decision: Decision) -> Finding | None:
    """Why a run is not worth a fresh look: what no look at the disk can change."""
    verified = run.state == State.SYNC_VERIFIED
    for gate in _KNOWN if verified else [Gate.STATE]:
        result = decision.gate(gate)
        if gate is Gate.HOLD and result.verdict is Verdict.BLOCK:
            continue  # a file holds it, and may have been taken away since
        if result.verdict is not Verdict.PASS and result.reason is not None:
            return Finding(result.reason, result.detail)
    return None
