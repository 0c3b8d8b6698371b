"""What a sweep decides of every staged run from stored facts, before it takes any."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from cleanup.clears.run_action import RunAction, skip
from cleanup.models import Run
from cleanup.rules.decisions import Decision, Gate, Verdict
from cleanup.rules.facts import Facts, Finding
from cleanup.rules.gates import evaluate
from cleanup.rules.policies.effective import effective_policy
from cleanup.rules.policies.policy import Limits, Policy, ScopedPolicy
from cleanup.rules.pressure import Candidate, Taken, candidates_of
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs.facts import stored_facts
from cleanup.sweeps import outlook

# The gates that no look at the disk can change, in the order in which they are told.
_KNOWN = (Gate.CLOCK, Gate.RETENTION, Gate.HOLD, Gate.FREE, Gate.ATTEMPTS)


@dataclass(frozen=True, kw_only=True)
class Grounds:
    """What a sweep decides by. `hindrances` bind every run of this host; `stopped` is the breaker of the root."""

    policies: list[ScopedPolicy]
    limits: Limits
    hindrances: tuple[Finding, ...]
    stopped: Finding | None
    now: datetime
    timed: bool

    def policy_for(self, run: Run) -> tuple[Policy, bool]:
        """The policy that decides of a run; in an operator's sweep also whether the schedule only rehearses it."""
        policy = effective_policy(self.policies, run.scope)
        return (policy, False) if self.timed else (policy.in_earnest(), bool(policy.rehearsing))


@dataclass(frozen=True, kw_only=True)
class DueRun:
    """A candidate with its facts. `noted`: the schedule would only rehearse it."""

    run: Run
    facts: Facts
    policy: Policy
    candidate: Candidate
    noted: bool

    @property
    def takes_by(self) -> Policy:
        policy = self.policy if self.candidate.rehearsed else self.policy.unasked
        return policy if self.candidate.due else policy.under_pressure()

    def decide(self, now: datetime, **findings: Finding) -> Decision:
        policy = self.policy if self.candidate.rehearsed else self.policy.unasked
        return evaluate(replace(self.facts, **findings), policy, now)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Decided:
    """The candidates of a run (`due`), or why it stays (`left`); if not `listed`, it only counts."""

    left: RunAction | None = None
    listed: bool = True
    due: tuple[DueRun, ...] = ()


@dataclass
class Survey:
    """All staged runs of a root: number, logical bytes, and the candidates by (run key, rehearsed)."""

    scanned: int = 0
    staged_bytes: int = 0
    due: dict[tuple[int, bool], DueRun] = field(default_factory=dict)

    def of(self, candidate: Candidate) -> DueRun:
        return self.due[candidate.key, candidate.rehearsed]


def decide(run: Run, policy: Policy, grounds: Grounds, *, busy: bool, noted: bool) -> Decided:
    """Returns what a policy decides of a run. `busy`: an attempt on it is under way."""
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
    due, eligible = (
        known_refusal(run, evaluate(facts, each, now)) is None for each in (policy, policy.under_pressure())
    )
    return Taken(due=due, eligible=eligible)


def known_refusal(run: Run, decision: Decision) -> Finding | None:
    """Returns a refusal that no look at the disk can change, or None."""
    verified = run.state == State.SYNC_VERIFIED
    for gate in _KNOWN if verified else [Gate.STATE]:
        result = decision.gate(gate)
        if gate is Gate.HOLD and result.verdict is Verdict.BLOCK:
            continue  # a file holds it, and the operator may have removed the file since
        if result.verdict is not Verdict.PASS and result.reason is not None:
            return Finding(result.reason, result.detail)
    return None
