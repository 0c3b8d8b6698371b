"""What the database keeps of a look at a run, and what it knows without one."""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from django.db.models import Prefetch, prefetch_related_objects

from cleanup.models import ClearAttempt, IngestEvent, Run
from cleanup.models.runs import KnownEntry, note_history
from cleanup.rules.decisions import Decision
from cleanup.rules.facts import AcceptedFacts, Facts, Finding, FutureFiles, LargeFile, OnlyHere, ProofFacts, TwinFacts
from cleanup.rules.gates import MAX_FAILURES, evaluate
from cleanup.rules.policies.effective import effective_policy
from cleanup.rules.policies.policy import ProofLevel, ScopedPolicy
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs import first_sights
from cleanup.runs.facts import identity
from cleanup.runs.holds import keeping_holds
from cleanup.runs.moved_or_gone import returned

_LOOKED_UP = "last_failed"
_NOT_STORED = (
    "fresh",
    "other_attempt",
    "host_findings",
    "failures",
    "last_failure",
    "nas_retry_at",
    "holds",
    "budget_finding",
    "breaker_finding",
)
# Left out while unset, so that an upgrade makes nothing new.
_STORED_IF_SET = ("returned", "accepted")
# Only for pages: no gate asks for these, so they make nothing new.
ONLY_SHOWN = ("data_files", "data_bytes", "desktop_files", "desktop_bytes", "largest", "twin", "locks")


def unreachable_facts(run: Run, finding: Finding, now: datetime) -> Facts:
    """Return the facts of a run that cannot be opened."""
    return replace(recorded(run), gathered_at=now, path_findings=(finding,))


def facts_of(
    run: Run, *, other_attempt: bool = False, hindrances: tuple[Finding, ...] = (), breaker: Finding | None = None
) -> Facts:
    """Return what discovery saw last, with what the database knows now.

    `hindrances` are those of `readiness`, `breaker` the root's. Facts of another version count as none.
    """
    try:
        facts = thaw(run.facts)
    except (AttributeError, KeyError, TypeError, ValueError):
        facts = recorded(run)
    if conflict := identity.standing_conflict(run):  # what lies at its path is not the run
        facts = replace(facts, path_findings=(conflict,))
    return replace(
        facts,
        recorded_state=_state(run.state),
        other_attempt=other_attempt,
        host_findings=hindrances,
        failures=run.failures,
        last_failure=_last_failure(run),
        nas_retry_at=run.nas_retry_at,
        holds=keeping_holds.holds_of(run),
        breaker_finding=breaker,
    )


def look_up_failures(runs: Iterable[Run]) -> None:
    """Load the last failures of the parked runs in one query."""
    parked = [run for run in runs if run.failures >= MAX_FAILURES]
    latest = ClearAttempt.objects.clears().exclude(phase__in=ClearAttempt.ACTIVE).exclude(reason="")[:1]
    prefetch_related_objects(parked, Prefetch("attempts", queryset=latest, to_attr=_LOOKED_UP))


def look_up_histories(runs: Iterable[Run]) -> None:
    """Load the known history of the runs without facts in one query: it is all that `facts_of` has of them."""
    bare = {run.pk: run for run in runs if not run.facts}
    found: dict[int, list[KnownEntry]] = {key: [] for key in bare}
    events = IngestEvent.objects.filter(run__in=found).order_by("run", "position") if bare else ()
    for event in events:
        entry = KnownEntry(event.position, event.state, event.digest, event.first_seen_at)
        found[event.run_id].append(entry)
    for key, entries in found.items():
        note_history(bare[key], entries)


def allocated_bytes(run: Run) -> int | None:
    """Return the allocated bytes that discovery saw last; None if unknown."""
    size = run.facts.get("allocated_bytes") if isinstance(run.facts, dict) else None
    return size if isinstance(size, int) else None


def decision(
    run: Run,
    policies: Iterable[ScopedPolicy],
    now: datetime,
    *,
    other_attempt: bool = False,
    hindrances: tuple[Finding, ...] = (),
    breaker: Finding | None = None,
) -> Decision:
    """Return the decision for pages and lists: the gates on stored facts."""
    facts = facts_of(run, other_attempt=other_attempt, hindrances=hindrances, breaker=breaker)
    return evaluate(facts, effective_policy(policies, run.scope), now)


def freeze(facts: Facts) -> dict[str, Any]:
    """Return facts as JSON, without what is momentary or in the database anyway."""
    frozen = asdict(facts)
    for name in _NOT_STORED:
        del frozen[name]
    for name in _STORED_IF_SET:
        if not frozen[name]:
            del frozen[name]
    if frozen["proof"]:
        for name in ("reused_from", "accepted"):
            del frozen["proof"][name]  # discovery never compares bytes
        if frozen["proof"]["found_at"] is None:  # older versions stored none: otherwise all runs would seem changed
            del frozen["proof"]["found_at"]
    # With lists for tuples, as the database returns them.
    as_stored: dict[str, Any] = json.loads(json.dumps(frozen, default=datetime.isoformat))
    return as_stored


def thaw(frozen: dict[str, Any]) -> Facts:
    """Return the inverse of `freeze`; what older versions lack is unknown. Raises KeyError, TypeError or ValueError."""
    values = dict(frozen)
    for name in ("gathered_at", "verified_at", "verified_first_seen_at", "newest_data_at"):
        values[name] = datetime.fromisoformat(values[name]) if values[name] else None
    for name in ("recorded_state", "ingest_state"):
        values[name] = _state(values[name])
    for name in ("ingest_findings", "path_findings", "tree_findings", "twin_findings"):
        values[name] = _thaw_findings(values.get(name, ()))
    values["newer_files"] = tuple(values["newer_files"])
    if values["proof"] is not None:
        proof = values["proof"]
        level, findings = ProofLevel(proof["level"]), _thaw_findings(proof["findings"])
        found_at = _thaw_at({"found_at": None, **proof}, "found_at")["found_at"]
        values["proof"] = ProofFacts(**{**proof, "level": level, "findings": findings, "found_at": found_at})
    values["largest"] = tuple(LargeFile(**_thaw_at(file, "modified_at")) for file in values.get("largest", ()))
    kept_from = values.get("kept_from")
    values["kept_from"] = datetime.fromisoformat(kept_from) if kept_from else None
    values["only_here"] = _thaw_only_here(values.get("only_here"))
    values["future"] = _thaw_future(values.get("future"))
    values["accepted"] = _thaw_accepted(values.get("accepted"))
    values["twin"] = TwinFacts(**_thaw_at(values["twin"], "newest_at")) if values.get("twin") else None
    return Facts(**values)


def future(run: Run) -> FutureFiles | None:
    """Return the stored files dated in the future."""
    try:
        return thaw(run.facts).future
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def only_here_of(run: Run) -> OnlyHere | None:
    """Return what the NAS lacked besides bytes at the last look."""
    found = run.facts.get("only_here") if isinstance(run.facts, dict) else None
    return _thaw_only_here(found)


def accepted(run: Run) -> AcceptedFacts | None:
    """Return the accepted bytes that hold, as discovery saw last; else None."""
    found = run.facts.get("accepted") if isinstance(run.facts, dict) else None
    accepted = _thaw_accepted(found)
    return accepted if accepted is not None and accepted.holds else None


def _thaw_accepted(frozen: dict[str, Any] | None) -> AcceptedFacts | None:
    return AcceptedFacts(**_thaw_at(frozen, "at")) if frozen else None


def _thaw_only_here(frozen: dict[str, Any] | None) -> OnlyHere | None:
    return OnlyHere(**{**frozen, "names": tuple(frozen["names"])}) if frozen else None


def _thaw_future(frozen: dict[str, Any] | None) -> FutureFiles | None:
    if not frozen:
        return None
    values = {**_thaw_at(frozen, "newest_at"), "names": tuple(frozen["names"])}
    return FutureFiles(**_thaw_at(_thaw_at(values, "others_at"), "since"))


def _thaw_at(frozen: dict[str, Any], name: str) -> dict[str, Any]:
    at = frozen[name]
    return {**frozen, name: datetime.fromisoformat(at) if at else None}


def _thaw_findings(frozen: Iterable[dict[str, str]]) -> tuple[Finding, ...]:
    return tuple(Finding(Reason(finding["reason"]), finding["detail"]) for finding in frozen)


def recorded(run: Run) -> Facts:
    """What the database alone knows of a run."""
    history = run.history if run.pk else []
    seen = next((event.first_seen_at for event in reversed(history) if event.state == State.SYNC_VERIFIED), None)
    return Facts(
        gathered_at=run.first_seen_at,
        recorded_state=_state(run.state),
        verified_at=run.verified_at,
        verified_first_seen_at=seen,
        kept_from=returned.kept_from(run, first_sights.counted_from(run, run.verified_at, seen)),
        returned=run.returned_at is not None,
        failures=run.failures,
        last_failure=_last_failure(run),
        nas_retry_at=run.nas_retry_at,
        holds=keeping_holds.holds_of(run),
    )


def _last_failure(run: Run) -> str:
    if run.failures < MAX_FAILURES:
        return ""
    looked_up: list[ClearAttempt] | None = getattr(run, _LOOKED_UP, None)
    if looked_up is None:
        looked_up = list(run.attempts.clears().exclude(phase__in=ClearAttempt.ACTIVE).exclude(reason="")[:1])
    if not looked_up:
        return ""
    (last,) = looked_up
    said = " ".join(part for part in (Reason(last.reason).sentence, last.detail) if part)
    return f"The last, {last.phase_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC: {said}"


def _state(text: str | None) -> State | None:
    return State(text) if text else None
