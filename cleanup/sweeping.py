"""The sweep: the pass that clears what the policy says is due, or shows what it would clear."""

import enum
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from cleanup import clearing, gathering, queueing, readiness, recovery
from cleanup.gathering import Unreachable
from cleanup.models import ClearAttempt, Phase, Requester, RetentionPolicy, Run, StagingRoot
from cleanup.policy.gates import Decision, Finding, Gate, Verdict, evaluate
from cleanup.policy.lifecycle import State
from cleanup.policy.reasons import Reason
from cleanup.policy.retention import Policy, effective_policy

logger = logging.getLogger(__name__)


class Action(enum.StrEnum):
    """What became of one run."""

    CLEARED = "cleared"
    WOULD_CLEAR = "would_clear"
    SKIPPED = "skipped"
    REFUSED = "refused"
    PARTIAL = "partial"
    FAILED = "failed"


@dataclass(frozen=True)
class RunAction:
    """What one pass did with one run, or would do; files and bytes (logical) are what was or would be freed."""

    root: str
    run_path: str
    action: Action
    reason: str = ""
    detail: str = ""
    files: int = 0
    bytes: int = 0


@dataclass
class Swept:
    """One pass: `scanned` staged runs, of which `candidates` were due by state, policy and time."""

    dry_run: bool
    now: datetime
    scanned: int = 0
    candidates: int = 0
    runs: list[RunAction] = field(default_factory=list)

    def count(self, *actions: Action) -> int:
        return sum(run.action in actions for run in self.runs)

    @property
    def freeing(self) -> list[RunAction]:
        """The runs that were cleared, or in a dry run would be."""
        return [run for run in self.runs if run.action in (Action.CLEARED, Action.WOULD_CLEAR, Action.PARTIAL)]

    @property
    def files(self) -> int:
        return sum(run.files for run in self.freeing)

    @property
    def bytes_freed(self) -> int:
        return sum(run.bytes for run in self.freeing)

    @property
    def failed(self) -> int:
        return self.count(Action.FAILED, Action.PARTIAL)


def sweep(
    *,
    now: datetime,
    dry_run: bool = False,
    limit: int | None = None,
    roots: Iterable[StagingRoot] | None = None,
    requester: Requester = Requester.SCHEDULE,
    actor: str = "",
) -> Swept:
    """Clear, oldest verification first, every run whose policy is scheduled and due; `limit` runs at the most.

    A run that a gate refuses is skipped with its reason; one that fails is counted and does not stop the others.
    A dry run decides exactly so and stops before the first change.
    """
    if not dry_run:
        recovery.recover(now=now)
    result = Swept(dry_run, now)
    policies = RetentionPolicy.objects.scoped()
    hindrances = readiness.hindrances()
    runs = Run.objects.staged().with_root()
    if roots is not None:
        runs = runs.filter(root__in=list(roots))
    for run in runs.order_by("verified_at", "pk"):
        result.scanned += 1
        policy = effective_policy(policies, run.scope).in_earnest()
        busy = run.active_attempt is not None
        facts = gathering.stored_facts(run, other_attempt=busy, hindrances=hindrances)
        quick = evaluate(facts, policy, now)
        if quick.gate(Gate.STATE).verdict is Verdict.WAIT:
            continue
        if refusal := next(iter(hindrances), None) or _not_a_candidate(run, quick):
            result.runs.append(_skip(run, refusal))
            continue
        result.candidates += 1
        if limit is not None and len(result.freeing) >= limit:
            continue
        result.runs.append(_take(run, policy, now, dry_run=dry_run, requester=requester, actor=actor))
    return result


def clear(runs: Iterable[Run], *, now: datetime, dry_run: bool = False, actor: str = "", note: str = "") -> Swept:
    """An operator's clear of some runs, at once and in this process; a run that is cleared already is skipped."""
    runs = list(runs)
    if not dry_run:
        recovery.recover(now=now, runs=runs)
    result = Swept(dry_run, now, scanned=len(runs), candidates=len(runs))
    policies = RetentionPolicy.objects.scoped()
    for run in runs:
        policy = effective_policy(policies, run.scope)
        options = {"requester": Requester.OPERATOR, "actor": actor, "note": note}
        taken = _take(run, policy, now, dry_run=dry_run, **options)  # type: ignore[arg-type]
        if taken.action is Action.SKIPPED and taken.reason != Reason.ALREADY_CLEARED:
            taken = RunAction(taken.root, taken.run_path, Action.REFUSED, taken.reason, taken.detail)
        result.runs.append(taken)
    return result


def _not_a_candidate(run: Run, quick: Decision) -> Finding | None:
    """Why a run is not worth a fresh look: what no look at the disk can change."""
    verified = run.state == State.SYNC_VERIFIED
    for gate in [Gate.CLOCK, Gate.RETENTION, Gate.FREE, Gate.ATTEMPTS] if verified else [Gate.STATE]:
        result = quick.gate(gate)
        if result.verdict is not Verdict.PASS and result.reason is not None:
            return Finding(result.reason, result.detail)
    return None


def _skip(run: Run, finding: Finding) -> RunAction:
    return RunAction(run.root.name, run.run_path, Action.SKIPPED, finding.reason, finding.detail)


def _take(
    run: Run, policy: Policy, now: datetime, *, dry_run: bool, requester: Requester, actor: str, note: str = ""
) -> RunAction:
    """One candidate: cleared, or in a dry run decided upon; a fault is told, logged and contained."""
    operator = requester is Requester.OPERATOR
    try:
        run.refresh_from_db(fields=["state"])  # a pass takes hours, and others clear as well
        if run.state == State.CLEARED:
            return _skip(run, Finding(Reason.ALREADY_CLEARED))
        if dry_run:
            return _rehearse(run, policy, now, operator=operator)
        if not operator and (finding := _cheap_refusal(run, policy, now)):
            return _skip(run, finding)
        return _outcome(run, clearing.attempt_now(run, requester=requester, actor=actor, note=note, now=now))
    except queueing.AlreadyClearing:
        return _skip(run, Finding(Reason.ALREADY_CLEARING))
    except Exception as error:  # one bad run must not keep the others from being cleared
        logger.exception("the clear of %s failed", run.run_path)
        return RunAction(run.root.name, run.run_path, Action.FAILED, "", f"{type(error).__name__}: {error}")


def _rehearse(run: Run, policy: Policy, now: datetime, *, operator: bool) -> RunAction:
    if run.active_attempt:
        return _skip(run, Finding(Reason.ALREADY_CLEARING))
    try:
        with gathering.reached(run) as (opened, reader):
            look, decision = gathering.look(run, opened, reader, policy, now, operator=operator)
    except Unreachable as error:
        return _skip(run, error.finding)
    refusal = decision.main_refusal(operator=operator)
    if refusal is not None and refusal.reason is not None:
        return _skip(run, Finding(refusal.reason, refusal.detail))
    files, size = look.facts.files or 0, look.facts.bytes or 0
    return RunAction(run.root.name, run.run_path, Action.WOULD_CLEAR, files=files, bytes=size)


def _cheap_refusal(run: Run, policy: Policy, now: datetime) -> Finding | None:
    """What a fresh look without reading bytes says against a clear, so that no attempt is made every hour in vain."""
    decision = gathering.quick_decision(run, policy, now)
    if decision.needs_full_comparison:
        return None
    refusal = decision.main_refusal(operator=False)
    return Finding(refusal.reason, refusal.detail) if refusal is not None and refusal.reason is not None else None


def _outcome(run: Run, attempt: ClearAttempt) -> RunAction:
    if attempt.phase == Phase.DONE:
        action = Action.PARTIAL if attempt.incomplete else Action.CLEARED
    elif attempt.phase == Phase.REFUSED and attempt.requester == Requester.OPERATOR:
        action = Action.REFUSED
    elif attempt.phase == Phase.REFUSED and attempt.reason in clearing.FAILURES:
        action = Action.FAILED  # its gates were open
    elif attempt.phase == Phase.REFUSED:
        action = Action.SKIPPED
    else:
        action = Action.FAILED
    return RunAction(
        run.root.name,
        run.run_path,
        action,
        attempt.reason,
        attempt.detail,
        files=attempt.freed_files,
        bytes=attempt.freed_bytes,
    )
