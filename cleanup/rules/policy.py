"""Which policy applies to a run, and from when the schedule may take it."""

import enum
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from cleanup.rules.states import State

DEFAULT_RETAIN_HOURS = 168.0
# Ten years: more is a slip of the finger, and keeps every date within what datetime can hold.
MAX_RETAIN_HOURS = 87_660.0
# So many runs one sweep takes where no budget is set; of bytes and minutes it takes what it needs.
DEFAULT_BUDGET_RUNS = 500
MAX_BUDGET_MINUTES = 7 * 24 * 60.0
# Sweeps that would take more than this share of a root's staged bytes within a day stop and ask first.
DEFAULT_MAX_SHARE = 0.5
# A run that has stood for so long in one state before its verification is called stalled.
DEFAULT_STALLED_AFTER_HOURS = 24.0
# After so many nights of rehearsal without a surprise a policy is promoted; 0: only by a person.
DEFAULT_REHEARSAL_NIGHTS = 3


class Mode(enum.StrEnum):
    """Who decides when a run goes: an operator's click, or time as well."""

    MANUAL = "manual"
    SCHEDULED = "scheduled"


class ProofLevel(enum.StrEnum):
    """What must be shown of the NAS copy before a clear: the wizard's word, names and sizes, or every byte."""

    RECORD = "record"
    SIZE = "size"
    CHECKSUM = "checksum"

    @property
    def strength(self) -> int:
        """The order of the levels, weakest first."""
        return list(ProofLevel).index(self)


class Beyond(enum.StrEnum):
    """What becomes of a run with attributes, access lists or empty folders that the NAS lacks: told, or blocked."""

    TELL = "tell"
    BLOCK = "block"


class Stage(enum.StrEnum):
    """How far a policy version has come: tried without clearing, let loose, or never to be rehearsed at all."""

    REHEARSING = "rehearsing"
    PROMOTED = "promoted"
    OFF = "off"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What applies to one run. `version` names the newest policy version that was looked at.

    `min_retain_hours` is the floor under pressure, never above `retain_hours`. `promoted` are the versions behind it
    that were rehearsed, `unrehearsed` those that never were. `decided_by` tells which version decided a field; one that
    no version set is left out.

    `rehearsing` are the versions behind this policy that are rehearsed, if the schedule may not do yet all that it
    says; `meanwhile` is then the policy by which it takes runs until that is over.
    """

    mode: Mode = Mode.MANUAL
    retain_hours: float = DEFAULT_RETAIN_HOURS
    proof: ProofLevel = ProofLevel.CHECKSUM
    version: int = 0
    min_retain_hours: float = DEFAULT_RETAIN_HOURS
    stalled_after_hours: float = DEFAULT_STALLED_AFTER_HOURS
    only_here: Beyond = Beyond.TELL
    rehearsing: tuple[int, ...] = ()
    promoted: tuple[int, ...] = ()
    unrehearsed: tuple[int, ...] = ()
    meanwhile: "Policy | None" = None
    decided_by: "Mapping[str, ScopedPolicy]" = field(default_factory=dict, compare=False, repr=False)

    @property
    def unasked(self) -> "Policy":
        """What the schedule takes runs by: nothing of it is rehearsed."""
        if self.rehearsing and self.meanwhile is None:
            return replace(self.in_earnest(), mode=Mode.MANUAL)
        return self.meanwhile or self

    def under_pressure(self) -> "Policy":
        """The same policy where the disk is too full: kept for `min_retain_hours` only."""
        by = dict(self.decided_by)
        if self.min_retain_hours < self.retain_hours and "min_retain_hours" in by:
            by["retain_hours"] = by["min_retain_hours"]
        meanwhile = self.meanwhile and self.meanwhile.under_pressure()
        return replace(self, retain_hours=self.min_retain_hours, decided_by=by, meanwhile=meanwhile)

    def with_proof_of(self, other: "Policy") -> "Policy":
        """The same policy with the proof that another asks for, and who decided that."""
        others = {"proof": other.decided_by["proof"]} if "proof" in other.decided_by else {}
        by = {name: version for name, version in self.decided_by.items() if name != "proof"}
        return replace(self, proof=other.proof, decided_by={**by, **others})

    def in_earnest(self) -> "Policy":
        """The same policy as if nothing were rehearsed: what a person's own sweep acts by."""
        return replace(self, rehearsing=(), meanwhile=None)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What applies to a staging root as a whole; None: no limit. Bytes are logical but those of the free space.

    Pressure begins where the staged runs exceed `max_bytes` or `max_runs`, or less than `free_start_bytes` are free,
    and then lasts until `free_stop_bytes` are free. The budgets bound one sweep. `rehearsing`, `promoted`,
    `unrehearsed` and `meanwhile` as in `Policy`, of the versions that set a limit from which pressure comes.
    """

    max_bytes: int | None = None
    max_runs: int | None = None
    free_start_bytes: int | None = None
    free_stop_bytes: int | None = None
    budget_runs: int | None = DEFAULT_BUDGET_RUNS
    budget_bytes: int | None = None
    budget_minutes: float | None = None
    max_share: float = DEFAULT_MAX_SHARE
    rehearsing: tuple[int, ...] = ()
    promoted: tuple[int, ...] = ()
    unrehearsed: tuple[int, ...] = ()
    meanwhile: "Limits | None" = None

    @property
    def unasked(self) -> "Limits":
        """The limits by which the schedule takes runs: nothing of them is rehearsed."""
        return self.meanwhile or self


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Where a policy applies; None means everywhere. `root` is the name of a staging root."""

    root: str | None = None
    equipment: str | None = None
    project: str | None = None
    run_kind: str | None = None

    def covers(self, run: "Scope") -> bool:
        """Whether a policy of this scope applies to a run, given as a scope with every field set."""
        return (
            self.root in (None, run.root)
            and self.equipment in (None, run.equipment)
            and self.project in (None, run.project)
            and self.run_kind in (None, run.run_kind)
        )

    def meets(self, other: "Scope") -> bool:
        """Whether a run may lie in both scopes."""
        return all(None in (one, another) or one == another for one, another in self._beside(other))

    def contains(self, other: "Scope") -> bool:
        """Whether every run of the other scope lies in this one."""
        return all(one in (None, another) for one, another in self._beside(other))

    def _beside(self, other: "Scope") -> list[tuple[str | None, str | None]]:
        return [(getattr(self, name), getattr(other, name)) for name in ("root", "equipment", "project", "run_kind")]

    @property
    def rank(self) -> int:
        """How specific the scope is: lab < root < equipment < project < run kind, and any sum of these."""
        return (
            (self.root is not None)
            + 2 * (self.equipment is not None)
            + 4 * (self.project is not None)
            + 8 * (self.run_kind is not None)
        )


@dataclass(frozen=True, kw_only=True)
class Layers:
    """What must take a run besides, so that the schedule takes it by a scope whose newest version is not approved.

    `versions`: all since the last approved one, that one and the newest among them. `absent`: none of them is approved,
    so the wider scopes, as if this one were not there, must take it too. `stopped`: the approval was taken back, and
    nothing goes for which this scope matters.
    """

    versions: "tuple[ScopedPolicy, ...]" = ()
    absent: bool = False
    stopped: bool = False

    @property
    def approved(self) -> bool:
        """Whether one version alone decides."""
        return len(self.versions) == 1 and not self.absent and not self.stopped


@dataclass(frozen=True, kw_only=True)
class ScopedPolicy:
    """The newest version of one scope; None leaves a field to the less specific scopes.

    `layers` tells what its approval covers so far, `layers_on` the same of the staging roots, by name, of which
    something else holds. Without them a version that is rehearsed lets nothing go, and any other is approved.
    `surprised`: a run that it was about to take turned out to be needed or unsafe.
    """

    scope: Scope
    version: int
    mode: Mode | None = None
    retain_hours: float | None = None
    proof: ProofLevel | None = None
    min_retain_hours: float | None = None
    stalled_after_hours: float | None = None
    only_here: Beyond | None = None
    max_bytes: int | None = None
    max_runs: int | None = None
    free_start_bytes: int | None = None
    free_stop_bytes: int | None = None
    budget_runs: int | None = None
    budget_bytes: int | None = None
    budget_minutes: float | None = None
    max_share: float | None = None
    stage: Stage = Stage.OFF
    surprised: bool = field(default=False, compare=False, repr=False)
    layers: Layers | None = field(default=None, compare=False, repr=False)
    layers_on: Mapping[str, Layers] = field(default_factory=dict, compare=False, repr=False)

    def approval_on(self, root: str | None) -> Layers:
        """What its approval covers on a staging root, given by name."""
        default = Layers(versions=(self,), stopped=self.stage is Stage.REHEARSING)
        return self.layers_on.get(root or "", self.layers or default)

    @property
    def approvals(self) -> tuple[Layers, ...]:
        """What its approval covers, on whichever root."""
        return (self.approval_on(None), *self.layers_on.values())


# What may change what the schedule takes; a change of anything else needs no rehearsal.
TAKING_FIELDS = (
    "mode",
    "retain_hours",
    "proof",
    "only_here",
    "min_retain_hours",
    "max_bytes",
    "max_runs",
    "free_start_bytes",
    "free_stop_bytes",
)
# What is decided run by run.
RUN_FIELDS = ("mode", "retain_hours", "proof", "only_here", "min_retain_hours", "stalled_after_hours")
# Of which attempts, ledger and sweeps keep who decided.
TOLD_FIELDS = ("mode", "retain_hours", "proof")
# What holds where no version says anything.
_DEFAULTS: dict[str, Any] = {
    "mode": Mode.MANUAL,
    "retain_hours": DEFAULT_RETAIN_HOURS,
    "proof": ProofLevel.CHECKSUM,
    "only_here": Beyond.TELL,
}
# What makes sense for one staging root alone, and what for the whole lab besides.
ROOT_FIELDS = ("max_bytes", "max_runs", "free_start_bytes", "free_stop_bytes")
SWEEP_FIELDS = ("budget_runs", "budget_bytes", "budget_minutes", "max_share")


def effective_policy(policies: Iterable[ScopedPolicy], run: Scope) -> Policy:
    """The policy of one run: among the scopes that cover it the most specific wins, field by field."""
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
    """The policy that these versions come to, each by the field that it decides."""
    found: dict[str, Any] = {name: getattr(policy, name) for name, policy in by.items()}
    behind = [policy for name, policy in by.items() if name in TAKING_FIELDS]
    retain_hours = found.setdefault("retain_hours", DEFAULT_RETAIN_HOURS)
    found["min_retain_hours"] = min(found.get("min_retain_hours", retain_hours), retain_hours)
    at = _by_stage(behind)
    return Policy(**found, version=version, promoted=at[Stage.PROMOTED], unrehearsed=at[Stage.OFF], decided_by=by)


def _strictest(
    covering: Iterable[ScopedPolicy], names: Sequence[str], root: str | None
) -> tuple[dict[str, ScopedPolicy | None], set[str]]:
    """Which version decides each field if all that an approval needs must take a run; and the fields that stop it.

    What is taken is a matter of each field for itself, so the strictest value of each takes just what all of them take.
    `covering` are the scopes that matter, the widest first.
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
            # The newest first: of two that say the same it is the one to name.
            options = values[::-1] + ([found[name]] if layers.absent else [])
            found[name] = max(options, key=lambda version: _strictness(name, version and getattr(version, name)))
    return found, stopped


def _strictness(name: str, value: Any) -> float:  # noqa: ANN401
    """The more, the more a field's value keeps; None is the default."""
    if name == "mode":
        return float(value is not Mode.SCHEDULED)
    if name == "only_here":
        return float(value is Beyond.BLOCK)
    if name == "proof":
        return float((value or ProofLevel.CHECKSUM).strength)
    if name in ("free_start_bytes", "free_stop_bytes"):
        return -value if value is not None else math.inf
    if name in SWEEP_FIELDS:
        default = {"budget_runs": DEFAULT_BUDGET_RUNS, "max_share": DEFAULT_MAX_SHARE}.get(name, math.inf)
        return -(default if value is None else value)
    # Kept under pressure as long as otherwise, and no limit from which pressure comes.
    unset = {"retain_hours": DEFAULT_RETAIN_HOURS, "stalled_after_hours": 0.0}.get(name, math.inf)
    return float(unset if value is None else value)


def _unapproved(covering: Sequence[ScopedPolicy], by: Mapping[str, ScopedPolicy], root: str | None) -> tuple[int, ...]:
    """The versions that decide a field, or leave one to wider scopes of late, and are not approved there yet."""
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
    """What decided of a run: mode, hours and proof, each with the version and the scope that say so.

    `version` and `scope` are None for a default; of the scope None means everywhere.
    """
    return {name: _source(getattr(policy, name), policy.decided_by.get(name)) for name in TOLD_FIELDS}


def _source(value: Any, by: ScopedPolicy | None) -> dict[str, Any]:  # noqa: ANN401
    scope = by and {name: getattr(by.scope, name) for name in ("root", "equipment", "project", "run_kind")}
    return {"value": value, "version": by and by.version, "scope": scope}


def decided_by(policies: Iterable[ScopedPolicy], run: Scope) -> dict[str, ScopedPolicy]:
    """Which policy decides each field of one run's; a field that no scope sets is left out."""
    by: dict[str, ScopedPolicy] = {}
    for policy in sorted(policies, key=lambda policy: policy.scope.rank):
        if policy.scope.covers(run):
            by |= {name: policy for name in RUN_FIELDS if getattr(policy, name) is not None}
    return by


def limits_of(policies: Iterable[ScopedPolicy], root: str) -> Limits:
    """The limits of one staging root, by its name: its own, and for a sweep's budgets else the lab's."""
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
    """The versions by how far they have come, each once, the lowest first."""
    policies = list(policies)
    return {stage: tuple(sorted({each.version for each in policies if each.stage is stage})) for stage in Stage}


def stage_of_next(
    before: ScopedPolicy | None,
    after: ScopedPolicy,
    *,
    rehearse: bool | None,
    approved: Sequence[ScopedPolicy] = (),
    wider: Mapping[str, Sequence[Any]] | None = None,
) -> Stage:
    """The stage at which a new version of a scope begins, given the one before it.

    `rehearse` is what its author asked for, None: as before, and of old: yes. What can only take less than what goes
    already needs no new rehearsal. Where the one before is rehearsed itself, that is what the last approved version and
    all since would take: these are `approved`, none if nothing is. `wider` are the values that a field may have where
    the scope leaves it unset (`values_besides`).
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
    """Whether the later version may take a run that the earlier one would not: in doubt, yes.

    `wider` as in `stage_of_next`; without it a field that is left unset may be anything.
    """
    # That it is manual settles nothing: a narrower scope that is scheduled may take its hours from here.
    changed = [name for name in TAKING_FIELDS if getattr(before, name) != getattr(after, name)]
    return any(
        not _is_stricter(name, one, other)
        for name in changed
        for one in _possible(name, before, wider)
        for other in _possible(name, after, wider)
        if one != other
    )


def _possible(name: str, policy: ScopedPolicy, wider: Mapping[str, Sequence[Any]] | None) -> Sequence[Any]:
    value = getattr(policy, name)
    return (value,) if value is not None or wider is None else wider.get(name, (None,))


def values_besides(policies: Iterable[ScopedPolicy], scope: Scope) -> dict[str, tuple[Any, ...]]:
    """The values that each field of a run in a scope may have by the wider ones, those not yet approved among them."""
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
        found[name] = tuple(values if certain else values | {_DEFAULTS.get(name)})
    return found


def _is_stricter(name: str, before: Any, after: Any) -> bool:  # noqa: ANN401
    """Whether a field's later value can only keep more. Unset is unknown, but for a limit: there it is none at all."""
    if name == "mode":
        return bool(after is Mode.MANUAL)
    if name == "only_here":
        return bool(after is Beyond.BLOCK)
    if name in ROOT_FIELDS and after is None:
        return True
    if before is None or after is None:
        return False
    if name == "proof":
        return bool(after.strength >= before.strength)
    smaller_keeps_more = name in ("free_start_bytes", "free_stop_bytes")
    return bool(after <= before if smaller_keeps_more else after >= before)


def due_at(verified_at: datetime, policy: Policy) -> datetime | None:
    """The first instant at which the schedule may take a run; None if that lies beyond the calendar."""
    try:
        return verified_at + timedelta(hours=policy.retain_hours)
    except OverflowError:
        return None


class _HistoryEntry(Protocol):
    @property
    def state(self) -> object: ...
    @property
    def at(self) -> datetime | None: ...


class _Ingest(Protocol):
    @property
    def current_state(self) -> object: ...
    @property
    def history(self) -> Sequence[_HistoryEntry]: ...


def verified_at(history: Sequence[_HistoryEntry]) -> datetime | None:
    """The instant of the latest `sync_verified` entry; None if there is none or it carries no usable time."""
    for entry in reversed(history):
        if entry.state == State.SYNC_VERIFIED:
            return entry.at
    return None


def is_eligible(record: _Ingest, policy: Policy, now: datetime) -> bool:
    """Whether the schedule would take a run by what its record and its policy say: the wizard's condition alone.

    A missing or malformed instant: not eligible. A clear asks all gates of `gates.evaluate` besides.
    """
    if policy.mode is not Mode.SCHEDULED or record.current_state != State.SYNC_VERIFIED:
        return False
    verified = verified_at(record.history)
    if verified is None:
        return False
    due = due_at(verified, policy)
    return due is not None and due <= now
