"""Which policy applies to a run, and which limits to a staging root."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cleanup.rules.policies.fields import FIELD, ROOT_FIELDS, RUN_FIELDS, SWEEP_FIELDS, TAKING_FIELDS, TOLD_FIELDS
from cleanup.rules.policies.policy import DEFAULT_RETAIN_HOURS, Limits, Mode, Policy, Scope, ScopedPolicy, Stage


def effective_policy(policies: Iterable[ScopedPolicy], run: Scope) -> Policy:
    """The policy of one run: per field the most specific scope wins."""
    policies = list(policies)
    covering = sorted((policy for policy in policies if policy.scope.covers(run)), key=lambda policy: policy.scope.rank)
    version = max((policy.version for policy in policies), default=0)
    by = decided_by(covering, run)
    policy = _policy_of(by, version)
    if all(each.approval_on(run.root).approved for each in covering):
        return policy
    found, stopped = _strictest(covering, RUN_FIELDS, run.root)
    found["stalled_after_hours"] = by.get("stalled_after_hours")
    meanwhile = _policy_of({name: version for name, version in found.items() if version is not None}, version)
    if stopped.intersection(TAKING_FIELDS):
        meanwhile = replace(meanwhile, mode=Mode.MANUAL)
    if all(getattr(meanwhile, name) == getattr(policy, name) for name in RUN_FIELDS):
        return policy
    behind = _unapproved(covering, by, run.root)
    return replace(
        policy,
        rehearsing=behind,
        promoted=tuple(number for number in policy.promoted if number not in behind),
        meanwhile=meanwhile,
    )


def _policy_of(by: Mapping[str, ScopedPolicy], version: int) -> Policy:
    found: dict[str, Any] = {name: getattr(policy, name) for name, policy in by.items()}
    behind = [policy for name, policy in by.items() if name in TAKING_FIELDS]
    retain_hours = found.setdefault("retain_hours", DEFAULT_RETAIN_HOURS)
    found["min_retain_hours"] = min(found.get("min_retain_hours", retain_hours), retain_hours)
    at = _by_stage(behind)
    return Policy(**found, version=version, promoted=at[Stage.PROMOTED], unrehearsed=at[Stage.OFF], decided_by=by)


def _strictest(
    covering: Iterable[ScopedPolicy], names: Sequence[str], root: str | None
) -> tuple[dict[str, ScopedPolicy | None], set[str]]:
    """The version per field if all layers must take a run; and fields that stop it.

    The strictest value takes just what all take. `covering`: widest first.
    """
    found: dict[str, ScopedPolicy | None] = dict.fromkeys(names)
    stopped: set[str] = set()
    for policy in covering:
        layers = policy.approval_on(root)
        for name in names:
            values = [version if getattr(version, name) is not None else found[name] for version in layers.versions]
            said = [getattr(version, name) is not None for version in layers.versions]
            if all(said) and not layers.absent:
                stopped.discard(name)
            if any(said) and layers.stopped:
                stopped.add(name)
            # The newest first: of equal values it is named.
            options = values[::-1] + ([found[name]] if layers.absent else [])
            found[name] = max(options, key=lambda version: FIELD[name].keeps(version and getattr(version, name)))
    return found, stopped


def _unapproved(covering: Sequence[ScopedPolicy], by: Mapping[str, ScopedPolicy], root: str | None) -> tuple[int, ...]:
    """Unapproved versions that decide a field, or just left one to wider scopes."""
    behind = set()
    for policy in covering:
        layers = policy.approval_on(root)
        decides = {name for name, version in by.items() if version is policy and name in TAKING_FIELDS}
        left = [name for name in RUN_FIELDS if name in TAKING_FIELDS and getattr(policy, name) is None]
        passed = any(
            getattr(version, name) is not None and (name not in by or by[name].scope.rank < policy.scope.rank)
            for version in layers.versions
            for name in left
        )
        if not layers.approved and (decides or passed):
            behind.add(policy.version)
    return tuple(sorted(behind))


def sources_as_json(policy: Policy) -> dict[str, dict[str, Any]]:
    """What decided mode, hours and proof, with version and scope.

    Both None: a default. None in the scope: everywhere.
    """
    return {name: _source(getattr(policy, name), policy.decided_by.get(name)) for name in TOLD_FIELDS}


def _source(value: Any, by: ScopedPolicy | None) -> dict[str, Any]:  # noqa: ANN401
    scope = by and {name: getattr(by.scope, name) for name in ("root", "equipment", "project", "run_kind")}
    return {"value": value, "version": by and by.version, "scope": scope}


def decided_by(policies: Iterable[ScopedPolicy], run: Scope) -> dict[str, ScopedPolicy]:
    """The policy behind each field of a run; unset fields are left out."""
    by: dict[str, ScopedPolicy] = {}
    for policy in sorted(policies, key=lambda policy: policy.scope.rank):
        if policy.scope.covers(run):
            by |= {name: policy for name in RUN_FIELDS if getattr(policy, name) is not None}
    return by


def limits_of(policies: Iterable[ScopedPolicy], root: str) -> Limits:
    """The limits of one staging root; budgets may be the lab's."""
    scopes = (Scope(), Scope(root=root))
    covering = sorted((policy for policy in policies if policy.scope in scopes), key=lambda policy: policy.scope.rank)
    names = (*ROOT_FIELDS, *SWEEP_FIELDS)
    by = {name: policy for policy in covering for name in names if getattr(policy, name) is not None}
    limits = _limits_of(by)
    if all(policy.approval_on(root).approved for policy in covering):
        return limits
    found, stopped = _strictest(covering, names, root)
    stopped &= set(ROOT_FIELDS)
    meanwhile = _limits_of({name: by for name, by in found.items() if by is not None and name not in stopped})
    other = [name for name in names if getattr(meanwhile, name) != getattr(limits, name)]
    if not other:
        return limits
    if not set(other).intersection(ROOT_FIELDS):
        return replace(limits, meanwhile=meanwhile)
    setting = [policy for name, policy in by.items() if name in ROOT_FIELDS]
    behind = {policy.version for policy in setting if not policy.approval_on(root).approved}
    promoted = tuple(number for number in limits.promoted if number not in behind)
    return replace(limits, rehearsing=tuple(sorted(behind)), promoted=promoted, meanwhile=meanwhile)


def _limits_of(by: Mapping[str, ScopedPolicy]) -> Limits:
    found: dict[str, Any] = {name: getattr(policy, name) for name, policy in by.items()}
    at = _by_stage(policy for name, policy in by.items() if name in ROOT_FIELDS)
    return Limits(**found, promoted=at[Stage.PROMOTED], unrehearsed=at[Stage.OFF])


def _by_stage(policies: Iterable[ScopedPolicy]) -> dict[Stage, tuple[int, ...]]:
    policies = list(policies)
    return {stage: tuple(sorted({each.version for each in policies if each.stage is stage})) for stage in Stage}
