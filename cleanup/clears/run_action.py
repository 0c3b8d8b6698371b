"""One run of a sweep: cleared, rehearsed or left alone."""

import enum
import logging
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cleanup.clears import decisions, protocol, queue, settlement
from cleanup.clears.queue import ClearRequest
from cleanup.lab import lock_waits
from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import ClearAttempt, Phase, Run
from cleanup.rules.decisions import Decision
from cleanup.rules.facts import Finding
from cleanup.rules.freed import EVERYTHING
from cleanup.rules.policies.policy import Policy
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs.facts import identity, inspection
from cleanup.runs.proofs import differences

logger = logging.getLogger(__name__)


class Action(enum.StrEnum):
    """What became of one run."""

    CLEARED = "cleared"
    WOULD_CLEAR = "would_clear"
    SKIPPED = "skipped"
    REFUSED = "refused"
    PARTIAL = "partial"
    FAILED = "failed"


FREEING = (Action.CLEARED, Action.WOULD_CLEAR, Action.PARTIAL)


@dataclass(frozen=True)
class RunAction:
    """What was or would be done with one run; files and bytes are those freed.

    `reason` is a code, or the causes of a cleared run (`retention+max_bytes`). `measured` is what the disk gave back,
    else `unmeasured` says why. `rehearsed`: the schedule only notes it.
    """

    root: str
    run_path: str
    action: Action
    reason: str = ""
    detail: str = ""
    files: int = 0
    bytes: int = 0
    allocated: int = field(default=0, compare=False)
    measured: int | None = field(default=None, compare=False)
    unmeasured: str = field(default="", compare=False)
    gates: list[dict[str, Any]] | None = field(default=None, compare=False, repr=False)
    attempt: ClearAttempt | None = field(default=None, compare=False, repr=False)
    decided_by: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    rehearsed: bool = field(default=False, compare=False)

    @property
    def freed(self) -> int | None:
        """What the disk gave back if clearly less than removed; else None."""
        if self.measured is None or self.measured >= EVERYTHING * self.allocated:
            return None
        return self.measured


def skip(run: Run, finding: Finding, decision: Decision | None = None) -> RunAction:
    """Return the action for a run left alone."""
    gates = decisions.decision_as_json(decision) if decision else None
    return RunAction(run.root.name, run.run_path, Action.SKIPPED, finding.reason, finding.detail, gates=gates)


def fail(run: Run, error: Exception) -> RunAction:
    """Log a fault of ours with one run and return it; the other runs go on."""
    said = lock_waits.say(error)
    logger.error("%s failed %s", run.run_path, said, exc_info=None if said else error)
    return RunAction(run.root.name, run.run_path, Action.FAILED, "", said or f"{type(error).__name__}: {error}")


def take(run: Run, policy: Policy, now: datetime, *, request: ClearRequest, dry_run: bool) -> RunAction:
    """Clear one run by a policy, or in a dry run only decide. Never raises."""
    try:
        if gone := _cleared_meanwhile(run):
            return gone
        if dry_run:
            return _rehearse(run, policy, now, request)
        if not request.operator and (refused := _cheap_refusal(run, policy, now)):
            return refused
        return _outcome(run, protocol.attempt_now(run, request, now=now, policy=policy), request)
    except queue.AlreadyClearing:
        return skip(run, Finding(Reason.ALREADY_CLEARING))
    except queue.AlreadyCleared:
        return skip(run, Finding(Reason.ALREADY_CLEARED))
    except Exception as error:  # one bad run must not stop the others
        return fail(run, error)


def rehearse(run: Run, policy: Policy, now: datetime, *, cause: str) -> RunAction:
    """Return what the sweep would do under a policy in rehearsal, by names and sizes alone."""
    try:
        if gone := _cleared_meanwhile(run):
            return gone
        if refused := _cheap_refusal(run, policy.in_earnest(), now):
            return refused
        said = f"It would go once the policy is promoted ({cause})."
        files, size = run.files or 0, run.bytes or 0
        return RunAction(
            run.root.name, run.run_path, Action.WOULD_CLEAR, Reason.REHEARSAL, said, files=files, bytes=size
        )
    except Exception as error:  # as above
        return fail(run, error)


def _cleared_meanwhile(run: Run) -> RunAction | None:
    # A sweep takes hours, and others clear as well.
    run.refresh_from_db(fields=["state", "holds"])
    return skip(run, Finding(Reason.ALREADY_CLEARED)) if run.state == State.CLEARED else None


def _rehearse(run: Run, policy: Policy, now: datetime, request: ClearRequest) -> RunAction:
    if run.active_attempt:
        return skip(run, Finding(Reason.ALREADY_CLEARING))
    if conflict := identity.standing_conflict(run):
        return skip(run, conflict)
    try:
        with opening.reached(run) as (opened, reader):
            look, decision = inspection.look(run, opened, reader, policy, now, operator=request.operator)
    except Unreachable as error:
        return skip(run, error.finding)
    refusal = decision.main_refusal(operator=request.operator)
    if refusal is not None and refusal.reason is not None:
        return skip(run, Finding(refusal.reason, refusal.detail), decision)
    facts = look.facts
    return RunAction(
        run.root.name,
        run.run_path,
        Action.WOULD_CLEAR,
        request.cause,
        files=facts.files or 0,
        bytes=facts.bytes or 0,
        allocated=facts.allocated_bytes or 0,
        gates=decisions.decision_as_json(decision),
    )


def _cheap_refusal(run: Run, policy: Policy, now: datetime) -> RunAction | None:
    # A look without reading bytes, so that no attempt fails every hour.
    decision = inspection.quick_decision(run, policy, now, for_granted=differences.READ_AGAIN_AFTER)
    if decision.needs_full_comparison and not decision.is_known_to_differ:
        return None
    refusal = decision.main_refusal(operator=False)
    if refusal is None or refusal.reason is None:
        return None
    return skip(run, Finding(refusal.reason, refusal.detail), decision)


def became(attempt: ClearAttempt) -> Action | None:
    """Return what a scheduled attempt came to; None while nothing has."""
    match attempt.phase:
        case Phase.DONE:
            return Action.PARTIAL if attempt.incomplete else Action.CLEARED
        case Phase.COMMITTED:  # removed in part; recovery could not finish it
            return Action.PARTIAL
        case Phase.REFUSED if attempt.reason not in settlement.FAILURES:
            return Action.SKIPPED
        case Phase.REFUSED | Phase.ABORTED | Phase.CONFLICT:
            return Action.FAILED
    return None


def _outcome(run: Run, attempt: ClearAttempt, request: ClearRequest) -> RunAction:
    action, reason = became(attempt) or Action.FAILED, attempt.reason
    if attempt.phase == Phase.DONE:
        reason = reason or request.cause
    elif attempt.phase == Phase.REFUSED and request.operator:
        action = Action.REFUSED
    elif attempt.phase == Phase.COMMITTED:
        action = Action.FAILED  # no gate refused it
    return RunAction(
        run.root.name,
        run.run_path,
        action,
        reason,
        attempt.detail,
        files=attempt.freed_files,
        bytes=attempt.freed_bytes,
        allocated=attempt.freed_allocated_bytes,
        measured=attempt.measured_bytes,
        unmeasured=attempt.unmeasured,
        gates=attempt.decision,
        attempt=attempt,
    )
