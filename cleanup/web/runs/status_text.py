"""How a run stands, in words."""

import enum
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cleanup.clears.nas_questions import REOPENING
from cleanup.lab import days
from cleanup.models import ClearAttempt, Phase, Run, Status
from cleanup.rules.decisions import Decision, Gate, GateResult, Verdict
from cleanup.rules.facts import Finding
from cleanup.rules.gates import BY_RECORD, BY_THE_RECORD
from cleanup.rules.policies.policy import Mode
from cleanup.rules.reasons import Reason
from cleanup.runs import run_status
from cleanup.runs.facts import identity
from cleanup.runs.run_status import JudgedRun, RunStatus, Source
from cleanup.text import check_names
from cleanup.text.values import advice, ago, count, duration, files, in_units, instant, sentence

PARKED = "Parked"
BY_A_CLICK = "It waits for a click."


class StatusAction(enum.StrEnum):
    CLEAR = "Clear now"
    RETRY = "Try again"
    COMPARE = "Compare every byte and clear"


@dataclass(frozen=True, kw_only=True)
class StatusText:
    tone: Status
    headline: str
    because: str = ""
    detail: str = ""
    advice: str = ""
    schedule: str = ""
    action: StatusAction | None = None
    progress: tuple[int, int] | None = None
    conflict: bool = False

    @property
    def clears_now(self) -> bool:
        return self.action is StatusAction.CLEAR

    @property
    def in_full(self) -> str:
        """All that a row says, in one line."""
        said = (f"{self.headline}.", self.because, self.detail, self.schedule)
        return " ".join(part for part in said if part)


def stand(run: Run, attempt: ClearAttempt | None, judged: JudgedRun, now: datetime) -> StatusText:
    """How a run stands after its latest attempt, as it was judged with that."""
    decision, judgement = judged.decision, judged.status
    if run.gone_at:
        because = f"{_capital(ago(run.gone_at, now))}."
        return StatusText(tone=judgement.tone, headline="Declared gone", because=because)
    if decision is None:
        return _cleared(run, attempt, judgement, now)
    if conflict := identity.standing_conflict(run):
        return _in_conflict(conflict)
    if attempt is not None and judgement.source is Source.CLEARING:
        return _clearing(attempt)
    return _by_the_gates(run, attempt, decision, judgement, now)


def _by_the_gates(
    run: Run, attempt: ClearAttempt | None, decision: Decision, judgement: RunStatus, now: datetime
) -> StatusText:
    standing = _staged(decision, judgement)
    if attempt is not None and judgement.source is Source.FAILURE:
        standing = _failed(attempt, standing, now)
    if judgement.reason == Reason.NAS_SLOW:
        standing = replace(standing, detail=f"{standing.detail}. {_asked_again(run, decision)}")
    if judgement.source is Source.FAILURE:
        return standing
    if attempt is not None and judgement.tone is Status.GO and _tells_of_a_failure(attempt):
        said = f"Last try, {ago(attempt.phase_at, now)}: {sentence(attempt.reason)}"
        return replace(standing, detail=f"{standing.detail} {said}".strip())
    return standing


def why_not(result: GateResult) -> tuple[str, str]:
    """A refusal as (sentence, detail)."""
    if result.reason is Reason.CHANGED_SINCE_VERIFICATION and result.detail:
        return _capital(result.detail), ""
    if result.reason is Reason.NOT_SYNC_VERIFIED:
        return sentence(result.reason), _capital(result.detail.partition("; ")[2])
    return sentence(result.reason or ""), result.detail


def _staged(decision: Decision, judgement: RunStatus) -> StatusText:
    refusal = decision.main_refusal(operator=True)
    parked = decision.gate(Gate.ATTEMPTS)
    if refusal is None and parked.verdict is Verdict.BLOCK:
        because, detail = why_not(parked)
        return StatusText(
            tone=Status.BLOCK,
            headline=PARKED,
            because=because,
            detail=detail,
            advice=advice(Reason.PARKED),
            action=StatusAction.RETRY,
        )
    if refusal is None:
        trusted = decision.gate(Gate.PROOF).detail.startswith(BY_THE_RECORD)
        return StatusText(
            tone=Status.GO,
            headline="Safe to clear",
            because="The wizard's record is trusted." if trusted else "Names and sizes agree with the NAS.",
            schedule=_schedule(decision),
            action=StatusAction.CLEAR,
        )
    return _refused(refusal, decision, judgement)


def _refused(refusal: GateResult, decision: Decision, judgement: RunStatus) -> StatusText:
    because, detail = why_not(refusal)
    if refusal.reason is Reason.NOT_SYNC_VERIFIED:
        return StatusText(tone=judgement.tone, headline="Not verified yet", because=because, detail=detail)
    if refusal.reason is Reason.HELD and refusal.opens_at:
        headline = f"On hold until {days.say_end(refusal.opens_at, decision.now)}"
        return StatusText(tone=judgement.tone, headline=headline, because=_capital(detail), advice=advice(Reason.HELD))
    if refusal.verdict is Verdict.WAIT:
        left = f" {duration(refusal.opens_at - decision.now)}" if refusal.opens_at else ""
        return StatusText(tone=judgement.tone, headline=f"Waits{left}", because=because, detail=detail)
    if refusal.reason is Reason.HELD:
        ends = "It ends when the file .exlab-hold is taken out of the run."
        if detail.startswith(BY_RECORD):
            ends = "It ends when these files are pinned no more in the data wizard."
        return StatusText(tone=judgement.tone, headline="On hold", because=_capital(detail), advice=ends)
    action = StatusAction.COMPARE if decision.needs_full_comparison else None
    return StatusText(
        tone=judgement.tone,
        headline="Blocked",
        because=because,
        detail=detail,
        advice=advice(refusal.reason or ""),
        action=action,
    )


def _schedule(decision: Decision) -> str:
    policy = decision.policy
    result = decision.gate(Gate.RETENTION)
    if policy.mode is not Mode.SCHEDULED or result.reason in check_names.BY_HAND:
        return BY_A_CLICK
    if result.reason is Reason.REHEARSAL:
        return "Scheduled, rehearsed: would go with the next pass, once the policy is promoted."
    if result.verdict is Verdict.PASS and decision.gate(Gate.BREAKER).verdict is not Verdict.PASS:
        return "Scheduled: would go with the next pass, but something abnormal has stopped automatic clearing."
    if result.verdict is Verdict.PASS:
        return "Scheduled: goes with the next pass."
    if result.opens_at is None:
        return ""
    kept = duration(timedelta(hours=policy.retain_hours))
    sooner = ", or sooner where the disk is too full" if policy.min_retain_hours < policy.retain_hours else ""
    return f"Scheduled: waits {duration(result.opens_at - decision.now)} (kept {kept} after the verification{sooner})."


def _clearing(attempt: ClearAttempt) -> StatusText:
    asked = f"Asked for by {attempt.actor}."
    if attempt.detail:  # recovery has tried and says what it waits for
        return StatusText(tone=Status.WORK, headline="Interrupted", because=attempt.detail, detail=asked)
    if attempt.phase == Phase.QUEUED:
        return StatusText(tone=Status.WORK, headline="Waiting in the queue", because=asked)
    if attempt.phase == Phase.INTENT:
        return StatusText(
            tone=Status.WORK,
            headline="Checking…",
            because=f"{_checked(attempt)}; nothing has been removed.",
        )
    return StatusText(
        tone=Status.WORK,
        headline=f"Clearing… {count(attempt.done_files)} of {files(attempt.planned_files)}",
        because=asked,
        progress=(attempt.done_files, max(attempt.planned_files, 1)),
    )


def _checked(attempt: ClearAttempt) -> str:
    if attempt.step == REOPENING:
        return f"{files(attempt.checked_files)} on the NAS opened once more"
    return f"{in_units(attempt.compared_bytes)} compared so far"


def _cleared(run: Run, attempt: ClearAttempt | None, judgement: RunStatus, now: datetime) -> StatusText:
    if run.problem == Reason.ALREADY_CLEARED:
        return StatusText(
            tone=judgement.tone,
            headline="Blocked",
            because="The run's own record says that it was cleared, yet its files are still here.",
            detail="Another program wrote that and did not finish. Compare it with the NAS and remove it by hand.",
        )
    when = ago(run.cleared_at, now) if run.cleared_at else ""
    if attempt is None or attempt.phase not in (Phase.DONE, Phase.COMMITTED):
        if not run.cleared_by:
            return StatusText(tone=judgement.tone, headline=f"Cleared {when}".rstrip())
        return StatusText(
            tone=judgement.tone,
            headline=f"Cleared by the {run.cleared_by} {when}".rstrip(),
            because="Its record says so. Nothing counts as freed here.",
        )
    if attempt.phase == Phase.COMMITTED:
        return _clearing(attempt)
    freed = f"{files(attempt.freed_files)}, {in_units(attempt.freed_bytes)} freed"
    by = f"{_capital(when)}, by {attempt.actor}."
    if not attempt.incomplete:
        return StatusText(tone=judgement.tone, headline=f"Cleared, {freed}", because=by)
    return StatusText(
        tone=judgement.tone,
        headline="Cleared, removal incomplete",
        because=attempt.detail or sentence(attempt.reason),
        advice=advice(attempt.reason),
        detail=f"{freed}. {by} Recovery tries again every minute.",
    )


def _in_conflict(conflict: Finding) -> StatusText:
    """Nothing else counts until the conflict is settled."""
    return StatusText(
        tone=Status.BLOCK,
        headline="Could not be put back",
        because=sentence(conflict.reason),
        detail=f"{_capital(conflict.detail)}.",
        advice=advice(conflict.reason),
        conflict=True,
    )


def _failed(attempt: ClearAttempt, before: StatusText, now: datetime) -> StatusText:
    """The last attempt knows better than the gates on stored facts."""
    headline = {Phase.REFUSED: "Refused", Phase.ABORTED: "Not cleared", Phase.CONFLICT: "Needs a look"}
    return StatusText(
        tone=Status.BLOCK,
        headline=f"{headline[Phase(attempt.phase)]} {ago(attempt.phase_at, now)}",
        because=sentence(attempt.reason) if attempt.reason else "",
        detail=attempt.detail,
        advice=advice(attempt.reason),
        action=before.action,
    )


def _asked_again(run: Run, decision: Decision) -> str:
    discovered = decision.gate(Gate.PROOF).reason is Reason.NAS_SLOW
    if not discovered and decision.policy.mode is not Mode.SCHEDULED:
        return "The policy is manual: its bytes are asked for again by a click."
    if run.nas_retry_at is not None and run.nas_retry_at > decision.now:
        return f"It is asked for again from {instant(run.nas_retry_at)}, after all other runs; by a click at once."
    return "The next pass asks for it again, after all other runs; a click asks at once."


def _tells_of_a_failure(attempt: ClearAttempt) -> bool:
    failed = attempt.phase in ClearAttempt.FAILED and attempt.reason != Reason.WITHDRAWN
    return failed and not run_status.is_of_a_person(attempt)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
