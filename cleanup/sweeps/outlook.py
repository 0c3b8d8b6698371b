"""Foretells from rows what the next timed sweep of a root would take, for the question of a breaker."""

from datetime import datetime

from django.db.models import Count

from cleanup.clears.freed import Lately
from cleanup.models import ClearAttempt, DiskUsage, RetentionPolicy, Run, StagingRoot, Sweep
from cleanup.models.aggregates import bytes_sum
from cleanup.rules.breaker_question import Shown, ShownRun, shown_run
from cleanup.rules.facts import Facts
from cleanup.rules.gates import evaluate
from cleanup.rules.policies.effective import effective_policy, limits_of
from cleanup.rules.policies.policy import Limits, Mode, Policy, ProofLevel
from cleanup.rules.pressure import (
    Candidate,
    Picker,
    Pressure,
    RootFill,
    Taken,
    candidates_of,
    in_order,
    pressure_of,
)
from cleanup.rules.reasons import Reason
from cleanup.rules.silent_twins import comes_last
from cleanup.rules.sweep_budget import budget_of, plan_of
from cleanup.runs.facts import stored_facts
from cleanup.sweeps import record


def would_take(root: StagingRoot, now: datetime) -> Shown:
    """Returns the runs that a timed sweep would take now if nothing stopped it."""
    policies = RetentionPolicy.objects.scoped()
    limits = limits_of(policies, root.name)
    active = ClearAttempt.objects.filter(run__root=root, phase__in=ClearAttempt.ACTIVE).values("run")
    found: dict[int, tuple[Run, Policy]] = {}
    candidates: list[Candidate] = []
    runs = list(Run.objects.staged().verified().with_root().filter(root=root).exclude(pk__in=active))
    stored_facts.look_up_histories(runs)
    for run in runs:
        policy = effective_policy(policies, run.scope)
        found[run.pk] = run, policy
        candidates += candidates_for(run, stored_facts.facts_of(run), policy, now, limited=bool(limits.rehearsing))
    before = record.latest(root)
    plan = _plan(in_order(candidates, after=cursor_of(before)), root, limits, before, now)
    return Shown({one.key: shown(*found[one.key], one, limits) for one in plan})


def shown(run: Run, policy: Policy, candidate: Candidate, limits: Limits) -> ShownRun:
    """Returns a candidate as a breaker's question shows it."""
    return shown_run(
        identity=run.identity,
        verified_at=run.verified_at,
        size=run.bytes or 0,
        due=candidate.due,
        policy=policy.unasked,
        limits=limits.unasked,
    )


def cursor_of(before: Sweep | None) -> tuple[datetime, int] | None:
    """Returns (verified_at, run key) of the last candidate of a sweep that did not end, or None."""
    if before is None or before.cursor_verified_at is None or before.cursor_run is None:
        return None
    return before.cursor_verified_at, before.cursor_run


def undecided(run: Run, verified_at: datetime, facts: Facts, now: datetime) -> Candidate:
    """Returns a verified run as a candidate that is neither due nor eligible yet; sizes in bytes."""
    return Candidate(
        key=run.pk,
        verified_at=verified_at,
        due=False,
        eligible=False,
        size=run.bytes or 0,
        allocated=facts.allocated_bytes or 0,
        kept_from=facts.kept_from,
        last=comes_last(run.nas_retry_at, now),
    )


def candidates_for(run: Run, facts: Facts, policy: Policy, now: datetime, *, limited: bool) -> list[Candidate]:
    """Returns the run as candidates: taken by time or under pressure, or only noted.

    `limited`: a limit is in rehearsal.
    """
    if policy.mode is not Mode.SCHEDULED or run.verified_at is None:
        return []
    return candidates_of(
        undecided(run, run.verified_at, facts, now),
        _lets_go(facts, policy.unasked, now),
        _lets_go(facts, policy.in_earnest(), now) if policy.rehearsing or limited else None,
    )


def _plan(
    candidates: list[Candidate], root: StagingRoot, limits: Limits, before: Sweep | None, now: datetime
) -> list[Candidate]:
    usage = DiskUsage.objects.filter(root=root).order_by("-at").first()
    free_bytes = usage.free_bytes if usage else None
    staged = Run.objects.staged().filter(root=root).aggregate(runs=Count("pk"), bytes=bytes_sum("bytes"))
    fill = RootFill(staged_bytes=staged["bytes"] or 0, staged_runs=staged["runs"], free_bytes=free_bytes)
    pressure, unasked = pressures(limits, fill, going_on=going_on(before))
    helps = Lately.of(root, now, free_bytes=free_bytes).helps
    picker = Picker(candidates, pressure, unasked=unasked, helps=helps)
    return plan_of(picker, budget_of(limits.unasked, limit=None))


def going_on(before: Sweep | None) -> tuple[bool, bool]:
    """Returns whether the sweep before left space to be won: by all limits, and by the approved ones."""
    return record.is_going_on(before), record.is_going_on(before, unasked=True)


def pressures(limits: Limits, fill: RootFill, *, going_on: tuple[bool, bool]) -> tuple[Pressure, Pressure]:
    """Returns what has to be freed by all limits, and by the approved ones."""
    all_of_it, unasked = going_on
    return pressure_of(limits, fill, going_on=all_of_it), pressure_of(limits.unasked, fill, going_on=unasked)


def _lets_go(facts: Facts, policy: Policy, now: datetime) -> Taken:
    due = _may_go(facts, policy, now)
    sooner = not due and policy.min_retain_hours < policy.retain_hours
    return Taken(due=due, eligible=due or (sooner and _may_go(facts, policy.under_pressure(), now)))


def _may_go(facts: Facts, policy: Policy, now: datetime) -> bool:
    """Whether every gate is open to the schedule; touched files do not count, since a full look settles them."""
    refusals = evaluate(facts, policy, now).refusals(operator=False)
    touched = [refusal.reason for refusal in refusals] == [Reason.CHANGED_SINCE_VERIFICATION]
    return not refusals or (touched and facts.wanted_proof(policy) is ProofLevel.CHECKSUM)
