"""Whether a policy lets runs go as soon as they are verified, which no slip of the finger should say."""

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace

from cleanup.rules.effective import effective_policy
from cleanup.rules.policy import Mode, Policy, Scope, ScopedPolicy


def goes_at_once(policy: Policy) -> bool:
    """Whether the schedule keeps nothing back: for good, or at least where the disk is too full."""
    return policy.mode is Mode.SCHEDULED and policy.min_retain_hours == 0


def becomes_so(today: list[ScopedPolicy], then: list[ScopedPolicy], changed: Scope) -> bool:
    """Whether runs may go at once by the later policies and not by the earlier; `changed`: where they differ."""
    return any(
        goes_at_once(effective_policy(then, scope)) and not goes_at_once(effective_policy(today, scope))
        for scope in {changed, *_within(changed, then)}
    )


def _within(scope: Scope, policies: Iterable[ScopedPolicy]) -> Iterator[Scope]:
    """Where a scope and those of other policies meet."""
    for policy in policies:
        if scope.meets(policy.scope):
            said = {field.name: getattr(scope, field.name) for field in fields(Scope)}
            yield replace(policy.scope, **{name: mine for name, mine in said.items() if mine is not None})
