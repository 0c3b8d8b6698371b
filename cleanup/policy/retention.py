"""Which policy applies to a run, and from when the schedule may take it."""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from cleanup.policy.lifecycle import State

DEFAULT_RETAIN_HOURS = 168.0
# Ten years: more is a slip of the finger, and keeps every date within what datetime can hold.
MAX_RETAIN_HOURS = 87_660.0
# So many runs one sweep takes where no budget is set; of bytes and minutes it takes what it needs.
DEFAULT_BUDGET_RUNS = 500
MAX_BUDGET_MINUTES = 7 * 24 * 60.0
# A sweep that would take more than this share of a root's staged bytes stops and asks first.
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


class Stage(enum.StrEnum):
    """How far a policy version has come: tried without clearing, let loose, or never to be rehearsed at all."""

    REHEARSING = "rehearsing"
    PROMOTED = "promoted"
    OFF = "off"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What applies to one run. `version` names the newest policy version that was looked at.

    `min_retain_hours` is the floor under pressure, never above `retain_hours`. `rehearsing` are the versions behind
    this policy that are still rehearsed: the timed pass only records what it would do. `promoted` are those that were,
    `unrehearsed` those that never were.
    """

    mode: Mode = Mode.MANUAL
    retain_hours: float = DEFAULT_RETAIN_HOURS
    proof: ProofLevel = ProofLevel.CHECKSUM
    version: int = 0
    min_retain_hours: float = DEFAULT_RETAIN_HOURS
    stalled_after_hours: float = DEFAULT_STALLED_AFTER_HOURS
    rehearsing: tuple[int, ...] = ()
    promoted: tuple[int, ...] = ()
    unrehearsed: tuple[int, ...] = ()

    def under_pressure(self) -> "Policy":
        """The same policy where the disk is too full: kept for `min_retain_hours` only."""
        return replace(self, retain_hours=self.min_retain_hours)

    def in_earnest(self) -> "Policy":
        """The same policy as if nothing were rehearsed: what a person's own sweep acts by."""
        return replace(self, rehearsing=())


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What applies to a staging root as a whole; None: no limit. Bytes are logical but those of the free space.

    Pressure begins where the staged runs exceed `max_bytes` or `max_runs`, or less than `free_start_bytes` are free,
    and then lasts until `free_stop_bytes` are free. The budgets bound one sweep. `rehearsing`, `promoted` and
    `unrehearsed` as in `Policy`, of the versions that set a limit from which pressure comes.
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
class ScopedPolicy:
    """The newest version of one scope; None leaves a field to the less specific scopes.

    `unset` are the fields that it leaves to them while it is rehearsed, and did not before: see `unset_since`.
    """

    scope: Scope
    version: int
    mode: Mode | None = None
    retain_hours: float | None = None
    proof: ProofLevel | None = None
    min_retain_hours: float | None = None
    stalled_after_hours: float | None = None
    max_bytes: int | None = None
    max_runs: int | None = None
    free_start_bytes: int | None = None
    free_stop_bytes: int | None = None
    budget_runs: int | None = None
    budget_bytes: int | None = None
    budget_minutes: float | None = None
    max_share: float | None = None
    stage: Stage = Stage.OFF
    unset: tuple[str, ...] = ()


# What may change what the schedule takes; a change of anything else needs no rehearsal.
TAKING_FIELDS = (
    "mode",
    "retain_hours",
    "proof",
    "min_retain_hours",
    "max_bytes",
    "max_runs",
    "free_start_bytes",
    "free_stop_bytes",
)
# What is decided run by run.
RUN_FIELDS = ("mode", "retain_hours", "proof", "min_retain_hours", "stalled_after_hours")
# What makes sense for one staging root alone, and what for the whole lab besides.
ROOT_FIELDS = ("max_bytes", "max_runs", "free_start_bytes", "free_stop_bytes")
SWEEP_FIELDS = ("budget_runs", "budget_bytes", "budget_minutes", "max_share")


def effective_policy(policies: Iterable[ScopedPolicy], run: Scope) -> Policy:
    """The policy of one run: among the scopes that cover it the most specific wins, field by field."""
    policies = list(policies)
    by = decided_by(policies, run)
    found: dict[str, Any] = {name: getattr(policy, name) for name, policy in by.items()}
    behind = [policy for name, policy in by.items() if name in TAKING_FIELDS]
    behind += [policy for policy in policies if policy.scope.covers(run) and _lets_through(policy, by)]
    retain_hours = found.setdefault("retain_hours", DEFAULT_RETAIN_HOURS)
    found["min_retain_hours"] = min(found.get("min_retain_hours", retain_hours), retain_hours)
    at = _by_stage(behind)
    return Policy(
        **found,
        version=max((policy.version for policy in policies), default=0),
        rehearsing=at[Stage.REHEARSING],
        promoted=at[Stage.PROMOTED],
        unrehearsed=at[Stage.OFF],
    )


def decided_by(policies: Iterable[ScopedPolicy], run: Scope) -> dict[str, ScopedPolicy]:
    """Which policy decides each field of one run's; a field that no scope sets is left out."""
    by: dict[str, ScopedPolicy] = {}
    for policy in sorted(policies, key=lambda policy: policy.scope.rank):
        if policy.scope.covers(run):
            by |= {name: policy for name in RUN_FIELDS if getattr(policy, name) is not None}
    return by


def unset_since(settled: ScopedPolicy | None, newest: ScopedPolicy) -> tuple[str, ...]:
    """The fields that a version in rehearsal leaves to wider scopes, and the last one that was not rehearsed set.

    Such a field is decided by another version, so nothing else would tell that this one is behind what it says now.
    """
    if settled is None or newest.stage is not Stage.REHEARSING:
        return ()
    fields = [name for name in RUN_FIELDS if name in TAKING_FIELDS]
    return tuple(name for name in fields if getattr(settled, name) is not None and getattr(newest, name) is None)


def _lets_through(policy: ScopedPolicy, by: dict[str, ScopedPolicy]) -> bool:
    """Whether a field of a run is decided by a wider scope only because this policy leaves it unset of late."""
    return any(name not in by or by[name].scope.rank < policy.scope.rank for name in policy.unset)


def limits_of(policies: Iterable[ScopedPolicy], root: str) -> Limits:
    """The limits of one staging root, by its name: its own, and for a sweep's budgets else the lab's."""
    found: dict[str, Any] = {}
    behind: dict[str, ScopedPolicy] = {}
    for policy in sorted(policies, key=lambda policy: policy.scope.rank):
        if policy.scope not in (Scope(), Scope(root=root)):
            continue
        for name in (*ROOT_FIELDS, *SWEEP_FIELDS):
            if (value := getattr(policy, name)) is not None:
                found[name] = value
                if name in ROOT_FIELDS:
                    behind[name] = policy
    at = _by_stage(behind.values())
    return Limits(**found, rehearsing=at[Stage.REHEARSING], promoted=at[Stage.PROMOTED], unrehearsed=at[Stage.OFF])


def _by_stage(policies: Iterable[ScopedPolicy]) -> dict[Stage, tuple[int, ...]]:
    """The versions by how far they have come, each once, the lowest first."""
    policies = list(policies)
    return {stage: tuple(sorted({each.version for each in policies if each.stage is stage})) for stage in Stage}


def stage_of_next(before: ScopedPolicy | None, after: ScopedPolicy, *, rehearse: bool | None) -> Stage:
    """The stage at which a new version of a scope begins, given the one before it.

    `rehearse` is what its author asked for, None: as before, and of old: yes. What can only take less than a version
    that was promoted needs no new rehearsal, and neither does a first one that says nothing of what is taken, or
    that it is manual.
    """
    if rehearse is None:
        rehearse = before is None or before.stage is not Stage.OFF
    if not rehearse:
        return Stage.OFF
    before = before or ScopedPolicy(scope=after.scope, version=0, stage=Stage.PROMOTED)
    if before.stage is not Stage.PROMOTED or loosens(before, after):
        return Stage.REHEARSING
    return Stage.PROMOTED


def loosens(before: ScopedPolicy, after: ScopedPolicy) -> bool:
    """Whether the later version may take a run that the earlier one would not: in doubt, yes."""
    # That it is manual settles nothing: a narrower scope that is scheduled may take its hours from here.
    changed = {name for name in TAKING_FIELDS if getattr(before, name) != getattr(after, name)}
    return any(not _is_stricter(name, getattr(before, name), getattr(after, name)) for name in changed)


def _is_stricter(name: str, before: Any, after: Any) -> bool:  # noqa: ANN401
    """Whether a field's later value can only keep more. Unset is unknown, but for a limit: there it is none at all."""
    if name == "mode":
        return bool(after is Mode.MANUAL)
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
    def state(self) -> str: ...
    @property
    def at(self) -> datetime | None: ...


class _Ingest(Protocol):
    @property
    def current_state(self) -> str: ...
    @property
    def history(self) -> Sequence[_HistoryEntry]: ...


def verified_at(history: Sequence[_HistoryEntry]) -> datetime | None:
    """The instant of the latest `sync_verified` entry; None if there is none or it carries no usable time."""
    for entry in reversed(history):
        if entry.state == State.SYNC_VERIFIED:
            return entry.at
    return None


def cleanup_eligible(*, ingest: _Ingest, policy: Policy, now_utc: datetime) -> bool:
    """Whether the schedule would clear this run now, as ExLab-Wizard's function of this name decides it.

    Manual mode never; scheduled when the current state is `sync_verified` and the latest `sync_verified` entry is
    `retain_hours` old or older (the boundary counts). A missing or malformed instant: not eligible. This is the
    wizard's condition alone: a clear asks all gates of `gates.evaluate` besides.
    """
    if policy.mode is not Mode.SCHEDULED or ingest.current_state != State.SYNC_VERIFIED:
        return False
    verified = verified_at(ingest.history)
    if verified is None:
        return False
    due = due_at(verified, policy)
    return due is not None and due <= now_utc
