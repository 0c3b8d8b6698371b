"""Whether a policy clears runs as soon as verified: no typing slip should."""

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace

from cleanup.rules.policies.effective import effective_policy
from cleanup.rules.policies.policy import Mode, Policy, Scope, ScopedPolicy


def goes_at_once(policy: Policy) -> bool:
    """Whether the schedule may take runs at once, if only under pressure."""
    return policy.mode is Mode.SCHEDULED and policy.min_retain_hours == 0


def becomes_so(today: list[ScopedPolicy], then: list[ScopedPolicy], changed: Scope) -> bool:
    """Whether runs may go at once by `then` and not by `today`.

    `changed`: the scope that differs.
    """
    return any(
        goes_at_once(effective_policy(then, scope)) and not goes_at_once(effective_policy(today, scope))
        for scope in {changed, *_within(changed, then)}
    )


def _within(scope: Scope, policies: Iterable[ScopedPolicy]) -> Iterator[Scope]:
    for policy in policies:
        if scope.meets(policy.scope):
            said = {field.name: getattr(scope, field.name) for field in fields(Scope)}
            yield replace(policy.scope, **{name: mine for name, mine in said.items() if mine is not None})
