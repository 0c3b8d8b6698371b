"""Whether the schedule would take a run, from ExLab-Wizard's objects or ours. Reads no disk."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cleanup.rules.due_date import is_eligible
from cleanup.rules.policies.policy import Mode, Policy
from cleanup.storage.staging.records.ingest_json import parse_instant


@dataclass(frozen=True)
class _Entry:
    state: object
    at: datetime | None


@dataclass(frozen=True)
class _GivenRecord:
    current_state: object
    history: tuple[_Entry, ...]


class _NoRecord(Exception):
    """The record lacks a current state or a list of entries."""


def cleanup_eligible(
    *,
    ingest: object,
    config: object = None,
    policy: Policy | None = None,
    now_utc: datetime | None = None,
) -> bool:
    """Return whether the schedule would clear this run now, as ExLab-Wizard's function of this name.

    True in scheduled mode, with current state `sync_verified` whose latest entry is at least `retain_hours` old. A
    clear asks all gates of `rules.gates.evaluate` besides.

    `ingest`: the wizard's `IngestJson`, a record of `storage.staging.records.ingest_json`, or a dict of that file.
    Give `config` (the wizard's, with `orchestrator.staging_cleanup`) or `policy` (of `rules.policies.policy`).

    Unusual instants and unreadable records are not eligible; the wizard takes any ISO date or crashes.

    Raises TypeError for neither or both of `config` and `policy`, a `config` without mode and hours, or `now_utc`
    without a zone; ValueError for hours below 0.
    """
    applies = _policy_of(config, policy)
    now = datetime.now(UTC) if now_utc is None else now_utc
    if now.utcoffset() is None:
        raise TypeError("now_utc needs a time zone, as in datetime.now(UTC).")
    try:
        record = _record_of(ingest)
    except _NoRecord:
        return False
    return is_eligible(record, applies, now)


def _policy_of(config: object, policy: Policy | None) -> Policy:
    if (config is None) == (policy is None):
        raise TypeError("cleanup_eligible needs either a policy, or a config with orchestrator.staging_cleanup.")
    if policy is None:
        return _policy_of_wizard(config)
    if not isinstance(policy, Policy):
        raise TypeError("policy must be a Policy of cleanup.rules.policies.policy; the wizard's goes into config.")
    return policy


def _policy_of_wizard(config: object) -> Policy:
    try:
        cleanup = _get(_get(config, "orchestrator"), "staging_cleanup")
        if _plain(_get(cleanup, "mode")) != Mode.SCHEDULED:
            return Policy(mode=Mode.MANUAL)
        hours = _get(cleanup, "retain_hours")
    except _NoRecord as error:
        raise TypeError(f"The config says nothing of orchestrator.staging_cleanup: it has no {error}.") from None
    if not isinstance(hours, int | float) or isinstance(hours, bool):
        raise TypeError(f"orchestrator.staging_cleanup.retain_hours is {hours!r} and not a number of hours.")
    if not hours >= 0:
        raise ValueError(f"orchestrator.staging_cleanup.retain_hours is {hours!r} and not 0 or more.")
    return Policy(mode=Mode.SCHEDULED, retain_hours=hours)


def _record_of(ingest: object) -> _GivenRecord:
    history = _get(ingest, "history")
    if not isinstance(history, Sequence) or isinstance(history, str | bytes):
        raise _NoRecord("history")
    entries = tuple(_Entry(_plain(_get(entry, "state")), _instant(entry)) for entry in history)
    return _GivenRecord(_plain(_get(ingest, "current_state")), entries)


def _instant(entry: object) -> datetime | None:
    try:
        at = _get(entry, "at")
    except _NoRecord:
        return None
    if isinstance(at, datetime):
        return at.replace(tzinfo=UTC) if at.utcoffset() is None else at
    return parse_instant(at)


def _get(holder: object, name: str) -> object:
    try:
        return holder[name] if isinstance(holder, Mapping) else getattr(holder, name)
    except (KeyError, AttributeError):
        raise _NoRecord(name) from None


def _plain(value: object) -> object:
    return value.value if isinstance(value, enum.Enum) else value
