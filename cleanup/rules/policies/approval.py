"""Approval: what a policy version's promotion covers, and what goes until the next.

A promotion covers the roots that were there. Until its own, a later version takes only what every version since the
last approved one takes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cleanup.rules.policies.fields import TAKING_FIELDS
from cleanup.rules.policies.policy import Layers, Scope, ScopedPolicy, Stage


@dataclass(frozen=True, kw_only=True)
class FirstNights:
    """A root as promotions see it, in version numbers, which no clock can change."""

    since: int | None = None  # the newest when the root came; None: not recorded
    unseen: frozenset[int] = frozenset()  # promoted by nights in which the root held no run
    over: int = 0  # the newest when the root's own nights ended

    def was_there(self, promoted: int) -> bool:
        in_sight = (self.since is None or promoted > self.since) and promoted not in self.unseen
        return in_sight or promoted <= self.over


def approve_all(chains: Mapping[Scope, Sequence[ScopedPolicy]], roots: Mapping[str, FirstNights]) -> list[ScopedPolicy]:
    """The newest version of every scope, with what its approval covers."""
    return [approve(chain, roots) for chain in chains.values()]


def approve(chain: Sequence[ScopedPolicy], roots: Mapping[str, FirstNights]) -> ScopedPolicy:
    """The newest version of a scope, with its approval by root.

    `chain`: all versions in order.
    """
    usual = layers_of(chain, FirstNights())
    known = {name: layers_of(chain, root) for name, root in roots.items()}
    return replace(
        chain[-1], layers=usual, layers_on={name: layers for name, layers in known.items() if layers != usual}
    )


def layers_of(chain: Iterable[ScopedPolicy], root: FirstNights) -> Layers:
    """The versions that must all take a root's run so that the schedule takes it."""
    layers, before, covered = Layers(absent=True), None, False
    for version in chain:
        if version.stage is Stage.OFF:
            layers, covered = Layers(versions=(version,)), True
        elif version.stage is Stage.PROMOTED:
            inherits = before is not None and not _is_promotion(before, version)
            covered = (covered if inherits else root.was_there(version.version)) or version.version <= root.over
            if covered and not version.surprised:
                layers = Layers(versions=(version,))
            else:
                layers = _with(layers, version, stopped=version.surprised)
        else:
            taken_back = before is not None and before.stage is not Stage.REHEARSING and _as_before(before, version)
            taken_back = taken_back or (before is not None and before.stage is Stage.OFF)
            layers = _with(layers, version, stopped=taken_back)
            covered = covered and not taken_back
        before = version
    return layers


def approved_of(chain: Sequence[ScopedPolicy]) -> tuple[ScopedPolicy, ...]:
    """The versions that a new one may not loosen without a rehearsal.

    An empty version stands for wider scopes. `()` if the approval was taken back: then only a promotion helps.
    """
    layers = layers_of(chain, FirstNights())
    if layers.stopped or not chain:
        return ()
    nothing = (ScopedPolicy(scope=chain[-1].scope, version=0, stage=Stage.PROMOTED),)
    return (*(nothing if layers.absent else ()), *layers.versions)


def _with(layers: Layers, version: ScopedPolicy, *, stopped: bool) -> Layers:
    """Of equal versions the newest and the approved one are kept."""
    first = layers.versions if layers.absent else layers.versions[1:]
    kept = tuple(each for each in first if not _as_before(each, version))
    anchor = () if layers.absent else layers.versions[:1]
    return Layers(versions=(*anchor, *kept, version), absent=layers.absent, stopped=layers.stopped or stopped)


def _is_promotion(before: ScopedPolicy, version: ScopedPolicy) -> bool:
    """False for a promoted version that only takes less than the one before."""
    return before.stage is Stage.OFF or (before.stage is Stage.REHEARSING and _as_before(before, version))


def _as_before(one: ScopedPolicy, other: ScopedPolicy) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in TAKING_FIELDS)
