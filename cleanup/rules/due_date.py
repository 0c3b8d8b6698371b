"""When the schedule may take a run by record and policy, as the wizard decides."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from cleanup.rules.policies.policy import Mode, Policy
from cleanup.rules.states import State


def due_at(verified_at: datetime, policy: Policy) -> datetime | None:
    """When the schedule may take a run; None beyond the calendar."""
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
    """The instant of the latest `sync_verified` entry; None if unusable."""
    for entry in reversed(history):
        if entry.state == State.SYNC_VERIFIED:
            return entry.at
    return None


def is_eligible(record: _Ingest, policy: Policy, now: datetime) -> bool:
    """Whether the schedule takes a run by record and policy alone.

    Without an instant: no. A clear asks all gates besides.
    """
    if policy.mode is not Mode.SCHEDULED or record.current_state != State.SYNC_VERIFIED:
        return False
    verified = verified_at(record.history)
    if verified is None:
        return False
    due = due_at(verified, policy)
    return due is not None and due <= now
