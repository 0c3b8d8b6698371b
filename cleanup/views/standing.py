"""How a run stands, in words: one headline, the reason, and what a person may do about it."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cleanup import gathering
from cleanup.models import ClearAttempt, Phase, Run
from cleanup.policy.gates import Decision, Gate, GateResult, Verdict
from cleanup.policy.lifecycle import State
from cleanup.policy.reasons import Reason
from cleanup.policy.retention import Mode, ScopedPolicy, effective_policy
from cleanup.templatetags.words import ago, count, duration, files, in_units, sentence

FAILED = (Phase.REFUSED, Phase.ABORTED, Phase.CONFLICT)


class Tone(enum.StrEnum):
    """What a verdict comes to, in the order in which a person wants to see them."""

    WORK = "work"
    GO = "go"
    BLOCK = "block"
    WAIT = "wait"
    DONE = "done"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A verdict in words. `action` is what the button says; without it there is none."""

    tone: Tone
    headline: str
    because: str = ""
    detail: str = ""
    schedule: str = ""
    action: str = ""
    progress: tuple[int, int] | None = None


def stand(
    run: Run, attempt: ClearAttempt | None, policies: Sequence[ScopedPolicy], now: datetime
) -> tuple[Standing, Decision | None]:
    """How a run stands after its latest attempt, and the decision behind it where one was made."""
    if run.state == State.CLEARED:
        return _cleared(run, attempt, now), None
    active = attempt is not None and attempt.is_active
    decision = gathering.stored_decision(run, policies, now, other_attempt=active)
    if attempt is not None and active:
        return _clearing(attempt), decision
    standing = _staged(run, decision, _schedule(run, decision, policies, now))
    if attempt is not None and attempt.phase in FAILED and _is_newer(attempt, run):
        return _refused(attempt, standing, now), decision
    return standing, decision


def may_ask(decision: Decision) -> bool:
    """Whether "Clear now" makes sense: the clear itself looks again and may still refuse."""
    return decision.clearable or decision.needs_full_comparison


def why_not(result: GateResult) -> tuple[str, str]:
    """A refusal as a sentence and what exactly was seen; the detail alone where it says it better."""
    if result.reason is Reason.CHANGED_SINCE_VERIFICATION and result.detail:
        return _capital(result.detail), ""
    if result.reason is Reason.NOT_SYNC_VERIFIED:
        return sentence(result.reason), ""
    return sentence(result.reason or ""), result.detail


def _is_newer(attempt: ClearAttempt, run: Run) -> bool:
    """An attempt looked at the run itself: it knows better than an older look."""
    return run.looked_at is None or attempt.phase_at >= run.looked_at


def _staged(run: Run, decision: Decision, schedule: str) -> Standing:
    refusal = decision.main_refusal(operator=True)
    if refusal is None:
        because = decision.gate(Gate.PROOF).detail
        if because.startswith("proof_at_clear"):
            because = "Names and sizes agree with the NAS; every byte is compared before anything goes."
        return Standing(
            tone=Tone.GO, headline="Safe to clear", because=_capital(because), schedule=schedule, action="Clear now"
        )
    because, detail = why_not(refusal)
    if refusal.reason is Reason.NOT_SYNC_VERIFIED:
        return Standing(tone=Tone.WAIT, headline="Not verified yet", because=because)
    if refusal.verdict is Verdict.WAIT:
        left = f" {duration(refusal.opens_at - decision.now)}" if refusal.opens_at else ""
        return Standing(tone=Tone.WAIT, headline=f"Waits{left}", because=because, detail=detail, schedule=schedule)
    action = "Compare every byte and clear" if decision.needs_full_comparison else ""
    return Standing(tone=Tone.BLOCK, headline="Blocked", because=because, detail=detail, action=action)


def _schedule(run: Run, decision: Decision, policies: Sequence[ScopedPolicy], now: datetime) -> str:
    """What the schedule will do with a run that is otherwise clearable."""
    policy = effective_policy(policies, run.scope)
    if policy.mode is not Mode.SCHEDULED or not decision.clearable:
        return ""
    result = decision.gate(Gate.RETENTION)
    if result.verdict is Verdict.PASS:
        return "Scheduled: goes with the next sweep."
    if result.opens_at is None:
        return ""
    kept = duration(timedelta(hours=policy.retain_hours))
    return f"Scheduled: waits {duration(result.opens_at - now)} (kept {kept} after the verification)."


def _clearing(attempt: ClearAttempt) -> Standing:
    asked = f"Asked for by {attempt.actor}."
    if attempt.phase == Phase.QUEUED:
        return Standing(tone=Tone.WORK, headline="Waiting in the queue", because=asked)
    if attempt.phase == Phase.INTENT:
        return Standing(
            tone=Tone.WORK, headline="Checking…", because="Comparing with the NAS; nothing has been removed."
        )
    return Standing(
        tone=Tone.WORK,
        headline=f"Clearing… {count(attempt.done_files)} of {files(attempt.planned_files)}",
        because=asked,
        progress=(attempt.done_files, max(attempt.planned_files, 1)),
    )


def _cleared(run: Run, attempt: ClearAttempt | None, now: datetime) -> Standing:
    when = ago(run.cleared_at, now) if run.cleared_at else ""
    if attempt is None or attempt.phase not in (Phase.DONE, Phase.COMMITTED):
        return Standing(tone=Tone.DONE, headline=f"Cleared {when}".rstrip())
    if attempt.phase == Phase.COMMITTED:
        return _clearing(attempt)
    freed = f"{files(attempt.freed_files)}, {in_units(attempt.freed_bytes)} freed"
    by = f"{_capital(when)}, by {attempt.actor}."
    if not attempt.incomplete:
        return Standing(tone=Tone.DONE, headline=f"Cleared, {freed}", because=by)
    return Standing(
        tone=Tone.BLOCK,
        headline="Cleared, removal incomplete",
        because=f"{_capital(attempt.detail) or sentence(attempt.reason)}",
        detail=f"{freed}. {by}",
    )


def _refused(attempt: ClearAttempt, before: Standing, now: datetime) -> Standing:
    headline = {Phase.REFUSED: "Refused", Phase.ABORTED: "Not cleared", Phase.CONFLICT: "Needs a look"}
    return Standing(
        tone=Tone.BLOCK,
        headline=f"{headline[Phase(attempt.phase)]} {ago(attempt.phase_at, now)}",
        because=sentence(attempt.reason) if attempt.reason else "",
        detail=attempt.detail,
        action=before.action,
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
