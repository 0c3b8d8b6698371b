"""Whether the schedule would take a run, asked with ExLab-Wizard's own objects or with ours. Reads no disk."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cleanup.rules.eligibility import is_eligible
from cleanup.rules.policy import Mode, Policy
from cleanup.storage.staging.ingest import parse_instant


@dataclass(frozen=True)
class _Entry:
    state: object
    at: datetime | None


@dataclass(frozen=True)
class _GivenRecord:
    current_state: object
    history: tuple[_Entry, ...]


class _NoRecord(Exception):
    """What was given as a record holds no current state, or no list of entries."""


def cleanup_eligible(
    *,
    ingest: object,
    config: object = None,
    policy: Policy | None = None,
    now_utc: datetime | None = None,
) -> bool:
    """Whether the schedule would clear this run now, decided as by ExLab-Wizard's function of this name.

    Scheduled mode, current state `sync_verified`, and its latest entry `retain_hours` old or older. This is the
    wizard's condition alone: a clear asks all gates of `rules.gates.evaluate` besides.

    `ingest`: the wizard's `IngestJson`, a record of `storage.staging.ingest`, or the dict of an `ingest.json`. Either
    `config` (the wizard's, with `orchestrator.staging_cleanup`, object or dicts) or `policy` (of `rules.policy`)
    applies. `now_utc` is the present if left out.

    Stricter than the wizard's: unusual instants, unreadable records and hours beyond the calendar are not eligible,
    where the wizard takes any ISO date or crashes.

    Raises TypeError for neither or both of `config` and `policy`, for a `config` without mode and hours, and for a
    `now_utc` without zone; ValueError for hours below 0.
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
        raise TypeError("policy must be a Policy of cleanup.rules.policy; the wizard's goes into config.")
    return policy


def _policy_of_wizard(config: object) -> Policy:
    """The mode and hours of a wizard's configuration; an unknown mode keeps the run."""
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
    """What a record says of its states; raises _Unreadable."""
    history = _get(ingest, "history")
    if not isinstance(history, Sequence) or isinstance(history, str | bytes):
        raise _NoRecord("history")
    entries = tuple(_Entry(_plain(_get(entry, "state")), _instant(entry)) for entry in history)
    return _GivenRecord(_plain(_get(ingest, "current_state")), entries)


def _instant(entry: object) -> datetime | None:
    """When an entry was written, in UTC if it has no zone; None if it cannot be understood."""
    try:
        at = _get(entry, "at")
    except _NoRecord:
        return None
    if isinstance(at, datetime):
        return at.replace(tzinfo=UTC) if at.utcoffset() is None else at
    return parse_instant(at)


def _get(holder: object, name: str) -> object:
    """A field of an object or a dict; raises `_NoRecord` with its name if it is missing."""
    try:
        return holder[name] if isinstance(holder, Mapping) else getattr(holder, name)
    except (KeyError, AttributeError):
        raise _NoRecord(name) from None


def _plain(value: object) -> object:
    """The value that a member of an enum stands for; everything else as it is."""
    return value.value if isinstance(value, enum.Enum) else value
