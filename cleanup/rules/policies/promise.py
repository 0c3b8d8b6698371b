"""What the policies in force promise for every run of one instrument: the least of all its runs."""

from collections.abc import Iterable
from dataclasses import dataclass

from cleanup.rules.policies.effective import effective_policy, limits_of
from cleanup.rules.policies.policy import Limits, Mode, Policy, ProofLevel, Scope, ScopedPolicy

# A project that no policy names.
_ANY_OTHER = ""


@dataclass(frozen=True, kw_only=True)
class Promise:
    """`retain_hours` and `crowded_hours` bind automatic clearing alone; a person may clear any verified run.

    `crowded_hours`: kept at least where the disk is too full; None if that takes nothing earlier. `differing`: some
    runs are kept longer, or only a person clears them. `proof`: the weakest of any run.
    """

    scheduled: bool
    retain_hours: float = 0.0
    crowded_hours: float | None = None
    differing: bool = False
    proof: ProofLevel


def promise_of(policies: Iterable[ScopedPolicy], root: str, equipment: str, kinds: Iterable[str]) -> Promise:
    """Return what holds for all runs of an instrument, by the approved policies and, for the proof, by all."""
    policies = list(policies)
    near = [each for each in policies if each.scope.meets(Scope(root=root, equipment=equipment))]
    projects = {_ANY_OTHER, *(each.scope.project for each in near if each.scope.project)}
    runs = [
        Scope(root=root, equipment=equipment, project=project, run_kind=kind) for project in projects for kind in kinds
    ]
    effective = [effective_policy(near, run) for run in runs]
    unasked = [policy.unasked for policy in effective]
    timed = [policy for policy in unasked if policy.mode is Mode.SCHEDULED]
    proof = min((policy.proof for policy in (*effective, *unasked)), key=lambda level: level.strength)
    if not timed:
        return Promise(scheduled=False, proof=proof)
    crowded = _crowded_hours(timed, limits_of(policies, root).unasked)
    return Promise(
        scheduled=True,
        retain_hours=min(policy.retain_hours for policy in timed),
        crowded_hours=crowded,
        differing=len(timed) < len(unasked) or len({policy.retain_hours for policy in timed}) > 1,
        proof=proof,
    )


def _crowded_hours(timed: Iterable[Policy], limits: Limits) -> float | None:
    if (limits.max_bytes, limits.max_runs, limits.free_start_bytes) == (None, None, None):
        return None
    shortened = [policy.min_retain_hours for policy in timed if policy.min_retain_hours < policy.retain_hours]
    return min(shortened, default=None)
