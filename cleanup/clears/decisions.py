"""The policy of a clear, and its decision as it is kept."""

from cleanup.models import (
    ClearAttempt,
    RetentionPolicy,
    Run,
)
from cleanup.rules.decisions import Decision, GateResult
from cleanup.rules.facts import Finding
from cleanup.rules.policies.effective import effective_policy
from cleanup.rules.policies.policy import Policy
from cleanup.rules.reasons import Reason


def policy_for(attempt: ClearAttempt, run: Run) -> Policy:
    """Return the policy in force, with no weaker proof than the operator was promised."""
    policy = RetentionPolicy.objects.in_earnest_for(run)
    if policy.version <= attempt.promised_version:  # no version was written since: it is the one that was promised
        return policy
    asked = effective_policy(RetentionPolicy.objects.scoped(as_of=attempt.promised_version), run.scope)
    return policy.with_proof_of(asked) if asked.proof.strength > policy.proof.strength else policy


def as_finding(refusal: GateResult | None) -> Finding:
    if refusal is None or refusal.reason is None:
        return Finding(Reason.NOT_COMPARED)
    return Finding(refusal.reason, refusal.detail)


def decision_as_json(decision: Decision) -> list[dict[str, str | None]]:
    """Return a decision's gates as JSON, for the command line and the attempt."""
    return [
        {
            "gate": result.gate.value,
            "verdict": result.verdict.value,
            "reason": result.reason.value if result.reason else None,
            "detail": result.detail,
            "opens_at": result.opens_at.isoformat() if result.opens_at else None,
        }
        for result in decision.gates
    ]
