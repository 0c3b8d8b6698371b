"""The status of each run in its row, for lists. It is judged again after a change or when time may open a gate."""

import enum
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import OuterRef, Subquery, Value

from cleanup.models import ClearAttempt, Phase, RetentionPolicy, Run, RunQuerySet, Status, SweepBreaker
from cleanup.rules.decisions import Decision, Gate, Verdict
from cleanup.rules.facts import Finding
from cleanup.rules.gates import BY_HOLD_FILE, BY_RECORD
from cleanup.rules.policies.policy import ScopedPolicy
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs.facts import stored_facts

logger = logging.getLogger(__name__)

# Only a clear reads every byte, so a later look by names cannot contradict it.
ONLY_BYTES_TELL = (Reason.NAS_CHECKSUM_MISMATCH,)
# Runs read and written at a time.
BATCH = 500


class Source(enum.StrEnum):
    """The origin of a judgement."""

    GONE = "gone"
    CLEARED = "cleared"
    CLEARING = "clearing"
    FAILURE = "failure"
    PARKED = "parked"
    REFUSAL = "refusal"
    NOBODY = "nobody"


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """A run's status for an operator. `reason` is empty if nothing refuses a clear.

    `opens_at`: when time alone allows it; `judge_after`: when the first gate opens.
    """

    tone: Status
    source: Source
    reason: str = ""
    opens_at: datetime | None = None
    judge_after: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class JudgedRun:
    """What was decided of a run, and its status by that; no decision for a run that is cleared or gone."""

    decision: Decision | None
    status: RunStatus


def judge_now(
    run: Run,
    attempt: ClearAttempt | None,
    policies: Sequence[ScopedPolicy],
    now: datetime,
    *,
    hindrances: tuple[Finding, ...] = (),
    breaker: Finding | None = None,
) -> JudgedRun:
    """Decide on a run after its latest attempt, for a page. On a staging root with a problem nothing may go.

    `hindrances` are this host's, `breaker` the root's; only what is said of the schedule needs the latter.
    """
    if run.root.problem:
        hindrances += (Finding(_known(run.root.problem), f"staging root {run.root.name}"),)
    return _decide_and_judge(run, attempt, policies, now, hindrances=hindrances, breaker=breaker)


def open_breakers() -> dict[int, Finding]:
    """Return the open breaker of each staging root, by the root's key, as a finding of every run there."""
    return {breaker.root_id: breaker.finding for breaker in SweepBreaker.objects.filter(closed_at=None)}


def judge(run: Run, attempt: ClearAttempt | None, decision: Decision | None) -> RunStatus:
    """Return a run's status after its latest attempt; `decision` is None for a run that is cleared or gone."""
    if run.gone_at:
        return RunStatus(tone=Status.DONE, source=Source.GONE)
    if run.state == State.CLEARED or decision is None:
        return _judge_cleared(run, attempt)
    if attempt is not None and attempt.is_active:
        return RunStatus(tone=Status.WORK, source=Source.CLEARING, reason=Reason.ALREADY_CLEARING)
    staged = _judge_staged(decision)
    if attempt is not None and decision.accepts and attempt.reason in ONLY_BYTES_TELL and accepted_since(attempt, run):
        return staged
    if attempt is not None and attempt.phase in ClearAttempt.FAILED and _knows_better(attempt, run, staged):
        return RunStatus(
            tone=Status.BLOCK, source=Source.FAILURE, reason=attempt.reason, judge_after=staged.judge_after
        )
    return staged


def latest_attempts(runs: RunQuerySet) -> dict[int, ClearAttempt]:
    """Return the latest attempt of each run, by the run's key."""
    newest = ClearAttempt.objects.clears().filter(run=OuterRef("pk")).order_by("-created_at").values("pk")[:1]
    wanted = runs.annotate(latest=Subquery(newest)).values_list("latest", flat=True)
    return {attempt.run_id: attempt for attempt in ClearAttempt.objects.in_bulk(filter(None, wanted)).values()}


def judge_runs(runs: Iterable[int], now: datetime) -> int:
    """Judge the runs with these keys; returns how many were written.

    A row that another transaction holds stays in doubt.
    """
    return _judge_batch(Run.objects.filter(pk__in=list(runs)), now)


def judge_stale(now: datetime, *, limit: int | None = None, runs: RunQuerySet | None = None) -> int:
    """Judge at most `limit` runs that changed or whose gate may have opened; returns how many. Twice is harmless."""
    return _judge_stale(now, limit, runs)[0]


def judge_for_page(now: datetime, *, limit: int) -> bool:
    """As `judge_stale`; returns whether runs may be left that wait for their judgement."""
    return _judge_stale(now, limit, None)[1]


def _judge_stale(now: datetime, limit: int | None, runs: RunQuerySet | None) -> tuple[int, bool]:
    done, among, met = 0, Run.objects.all() if runs is None else runs, limit == 0
    while limit is None or done < limit:
        size = BATCH if limit is None else min(BATCH, limit - done)
        keys = _stale(among, now, size)
        if not keys:
            break
        met = True
        judged = judge_runs(keys, now)
        done += judged
        if len(keys) < size or not judged:
            break
    return done, met


def _stale(among: RunQuerySet, now: datetime, number: int) -> list[int]:
    """Return at most `number` keys: runs in doubt first, then those whose gate may have opened; one query."""
    doubted = among.doubted().order_by("pk").values("pk")[:number]
    due = among.filter(judge_after__lte=now).order_by("judge_after").values("pk")[:number]
    first, second = (Run.objects.filter(pk__in=keys).order_by() for keys in (doubted, due))
    found = first.values_list("pk", Value(0)).union(second.values_list("pk", Value(1)), all=True)
    in_turn = sorted(found, key=lambda row: row[1])
    return list(dict.fromkeys(key for key, _turn in in_turn))[:number]


def unjudged(runs: RunQuerySet | None = None, *, limit: int = 100_000) -> int:
    """Return how many runs wait for their judgement, counted up to `limit`."""
    among = Run.objects.all() if runs is None else runs
    return among.doubted().order_by()[:limit].count()


def _judge_batch(runs: RunQuerySet, now: datetime) -> int:
    # The rows first: a later change raises their doubts, and what is read later is newer.
    rows = list(runs.with_root())
    stored_facts.look_up_failures(rows)
    policies = RetentionPolicy.objects.scoped()
    attempts = latest_attempts(runs)
    alike: defaultdict[tuple[tuple[str, Any], ...], list[int]] = defaultdict(list)
    for run in rows:
        attempt = attempts.get(run.pk)
        try:
            # Without what holds for a whole host or root: pages add that, for it changes no row.
            judgement = _decide_and_judge(run, attempt, policies, now).status
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            # Facts of an unknown shape: one damaged row must not stop the others.
            logger.exception("judging %s failed", run)
            judgement = RunStatus(tone=Status.BLOCK, source=Source.REFUSAL, reason=Reason.LOOK_FAILED)
        columns = _columns(run, attempt, judgement, now)
        alike[tuple(columns.items())].append(run.pk)
    # Rows locked by another transaction are in doubt anyway; to wait for them could deadlock.
    with transaction.atomic():
        locked = Run.objects.select_for_update(no_key=True, skip_locked=True, of=("self",)).filter(
            pk__in=[run.pk for run in rows]
        )
        free = set(locked.order_by().values_list("pk", flat=True))
        return sum(_write(dict(columns), free.intersection(keys)) for columns, keys in alike.items())


def _decide_and_judge(
    run: Run,
    attempt: ClearAttempt | None,
    policies: Sequence[ScopedPolicy],
    now: datetime,
    *,
    hindrances: tuple[Finding, ...] = (),
    breaker: Finding | None = None,
) -> JudgedRun:
    decision = None
    if run.state != State.CLEARED and run.gone_at is None:
        active = attempt is not None and attempt.is_active
        decision = stored_facts.decision(
            run, policies, now, other_attempt=active, hindrances=hindrances, breaker=breaker
        )
    return JudgedRun(decision=decision, status=judge(run, attempt, decision))


def _known(code: str) -> Reason:
    try:
        return Reason(code)
    except ValueError:  # of another version
        return Reason.LOOK_FAILED


def _columns(run: Run, attempt: ClearAttempt | None, judgement: RunStatus, now: datetime) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "here": _is_here(run, attempt),
        "tone": judgement.tone,
        "reason": str(judgement.reason),
        "opens_at": judgement.opens_at,
        "judge_after": judgement.judge_after,
        "judged": run.doubts,
    }
    if run.stood_since is None or (run.tone, run.reason) != (columns["tone"], columns["reason"]):
        columns["stood_since"] = now
    allocated = stored_facts.allocated_bytes(run)
    return columns if allocated == run.allocated_bytes else {**columns, "allocated_bytes": allocated}


def _write(columns: dict[str, Any], keys: Iterable[int]) -> int:
    # A doubt raised meanwhile stays: `judged` is from when the row was read.
    return Run.objects.filter(pk__in=keys, judged__lte=columns["judged"]).update(**columns)


def _is_here(run: Run, attempt: ClearAttempt | None) -> bool:
    # Also files under removal, and those wrongly called cleared.
    if run.root.retired_at is not None:
        return False
    if run.state != State.CLEARED:
        return run.gone_at is None
    leaving = attempt is not None and attempt.phase == Phase.COMMITTED
    return leaving or run.problem == Reason.ALREADY_CLEARED


def _judge_cleared(run: Run, attempt: ClearAttempt | None) -> RunStatus:
    if run.problem == Reason.ALREADY_CLEARED:
        return RunStatus(tone=Status.BLOCK, source=Source.CLEARED, reason=Reason.ALREADY_CLEARED)
    if attempt is not None and attempt.phase == Phase.COMMITTED:
        return RunStatus(tone=Status.WORK, source=Source.CLEARING)
    if attempt is not None and attempt.incomplete:
        return RunStatus(tone=Status.BLOCK, source=Source.CLEARED, reason=attempt.reason)
    return RunStatus(tone=Status.DONE, source=Source.CLEARED)


def _judge_staged(decision: Decision) -> RunStatus:
    refusals = decision.refusals(operator=True)
    instants = [refusal.opens_at for refusal in refusals if refusal.opens_at is not None]
    first = min((at for at in instants if at > decision.now), default=None)
    refusal = decision.main_refusal(operator=True)
    if refusal is None and decision.gate(Gate.ATTEMPTS).verdict is Verdict.BLOCK:
        return RunStatus(tone=Status.BLOCK, source=Source.PARKED, reason=Reason.PARKED)
    if refusal is None:
        return RunStatus(tone=Status.GO, source=Source.NOBODY)
    waits = refusal.verdict is Verdict.WAIT or refusal.reason is Reason.HELD
    return RunStatus(
        tone=Status.WAIT if waits else Status.BLOCK,
        source=Source.REFUSAL,
        reason=refusal.reason or "",
        opens_at=max(instants) if waits and len(instants) == len(refusals) else None,
        judge_after=first,
    )


def accepted_since(attempt: ClearAttempt, run: Run) -> bool:
    """Return whether an admin accepted the bytes since the attempt found them different."""
    accepted = stored_facts.facts_of(run).accepted
    return accepted is not None and accepted.holds and accepted.at >= attempt.phase_at


def is_of_a_person(attempt: ClearAttempt) -> bool:
    """Return whether an operator's hold stopped an attempt, not a hold file."""
    return attempt.reason == Reason.HELD and not attempt.detail.startswith((BY_HOLD_FILE, BY_RECORD))


def _knows_better(attempt: ClearAttempt, run: Run, staged: RunStatus) -> bool:
    # A failed attempt counts more than an older look and less than a newer one. The hold that stopped it may be
    # released.
    if attempt.reason == Reason.WITHDRAWN:
        return False
    if staged.source is Source.PARKED or is_of_a_person(attempt):
        return False
    if attempt.reason == Reason.NAS_SLOW and run.nas_retry_at is not None:
        return True  # no sign since that it answers in time
    if staged.reason == attempt.reason and attempt.reason in ONLY_BYTES_TELL:
        return False  # the gates say so already
    return not run.looked_at or attempt.phase_at >= run.looked_at or attempt.reason in ONLY_BYTES_TELL
