"""Which policy applies to a run, and from when the schedule may take it."""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from cleanup.policy.lifecycle import State

DEFAULT_RETAIN_HOURS = 168.0
# Ten years: more is a slip of the finger, and keeps every date within what datetime can hold.
MAX_RETAIN_HOURS = 87_660.0


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


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What applies to one run. `version` names the newest policy version that was looked at."""

    mode: Mode = Mode.MANUAL
    retain_hours: float = DEFAULT_RETAIN_HOURS
    proof: ProofLevel = ProofLevel.CHECKSUM
    version: int = 0


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
    """The newest version of one scope; None leaves a field to the less specific scopes."""

    scope: Scope
    version: int
    mode: Mode | None = None
    retain_hours: float | None = None
    proof: ProofLevel | None = None


def effective_policy(policies: Iterable[ScopedPolicy], run: Scope) -> Policy:
    """The policy of one run: among the scopes that cover it the most specific wins, field by field."""
    policies = list(policies)
    mode, retain_hours, proof = Mode.MANUAL, DEFAULT_RETAIN_HOURS, ProofLevel.CHECKSUM
    for policy in sorted(policies, key=lambda policy: policy.scope.rank):
        if policy.scope.covers(run):
            mode = mode if policy.mode is None else policy.mode
            retain_hours = retain_hours if policy.retain_hours is None else policy.retain_hours
            proof = proof if policy.proof is None else policy.proof
    version = max((policy.version for policy in policies), default=0)
    return Policy(mode=mode, retain_hours=retain_hours, proof=proof, version=version)


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
