"""Whether a new policy version loosens anything, and where it begins."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cleanup.rules.policies.fields import FIELD, RUN_FIELDS, TAKING_FIELDS
from cleanup.rules.policies.policy import Scope, ScopedPolicy, Stage


def stage_of_next(
    before: ScopedPolicy | None,
    after: ScopedPolicy,
    *,
    rehearse: bool | None,
    approved: Sequence[ScopedPolicy] = (),
    wider: Mapping[str, Sequence[Any]] | None = None,
) -> Stage:
    """The stage at which a new version of a scope begins.

    `rehearse`: its author's choice (None: as before, at first yes). What only keeps more than the one before, or, if
    that is rehearsed, than all of `approved`, needs no rehearsal. `wider`: see `values_besides`.
    """
    if rehearse is None:
        rehearse = before is None or before.stage is not Stage.OFF
    if not rehearse:
        return Stage.OFF
    known: Sequence[ScopedPolicy] = [before or ScopedPolicy(scope=after.scope, version=0, stage=Stage.PROMOTED)]
    if known[0].stage is Stage.REHEARSING and approved:
        known = approved
    elif known[0].stage is not Stage.PROMOTED:
        return Stage.REHEARSING
    return Stage.REHEARSING if any(loosens(each, after, wider) for each in known) else Stage.PROMOTED


def loosens(before: ScopedPolicy, after: ScopedPolicy, wider: Mapping[str, Sequence[Any]] | None = None) -> bool:
    """Whether `after` may take a run that `before` would not; in doubt, yes.

    Without `wider` an unset field may be anything.
    """
    # Manual mode settles nothing: a narrower, scheduled scope may take its hours from here.
    changed = [name for name in TAKING_FIELDS if getattr(before, name) != getattr(after, name)]
    return any(
        not FIELD[name].is_stricter(one, other)
        for name in changed
        for one in _possible(name, before, wider)
        for other in _possible(name, after, wider)
        if one != other
    )


def _possible(name: str, policy: ScopedPolicy, wider: Mapping[str, Sequence[Any]] | None) -> Sequence[Any]:
    value = getattr(policy, name)
    return (value,) if value is not None or wider is None else wider.get(name, (None,))


def values_besides(policies: Iterable[ScopedPolicy], scope: Scope) -> dict[str, tuple[Any, ...]]:
    """Values that wider scopes may give each field, approved or not."""
    besides = [policy for policy in policies if policy.scope.rank < scope.rank and policy.scope.meets(scope)]
    found: dict[str, tuple[Any, ...]] = {}
    for name in (name for name in RUN_FIELDS if name in TAKING_FIELDS):
        values, certain = set(), False
        for policy in besides:
            versions = {version for layers in policy.approvals for version in layers.versions}
            values |= {getattr(version, name) for version in versions} - {None}
            certain = certain or (
                policy.scope.contains(scope)
                and not any(layers.absent for layers in policy.approvals)
                and all(getattr(version, name) is not None for version in versions)
            )
        found[name] = tuple(values if certain else values | {FIELD[name].default})
    return found
