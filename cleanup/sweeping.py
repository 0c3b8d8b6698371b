"""The sweep: the pass that clears what the policy says is due, or shows what it would clear."""

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from django.db import connection

from cleanup import claiming, readiness, recovery
from cleanup.models import Requester, RetentionPolicy, Run, StagingRoot
from cleanup.passing import Pass, Problem, Swept, Wish
from cleanup.policy.breakers import Clock
from cleanup.policy.reasons import Reason
from cleanup.policy.retention import effective_policy
from cleanup.taking import Action, Asked, RunAction, take

logger = logging.getLogger(__name__)

__all__ = ["Action", "Problem", "RunAction", "Swept", "clear", "sweep"]


def sweep(
    *,
    now: datetime,
    dry_run: bool = False,
    timed: bool = False,
    limit: int | None = None,
    roots: Iterable[StagingRoot] | None = None,
    actor: str = "",
    clock: Clock | None = None,
) -> Swept:
    """Clear, oldest verification first, every run whose policy is scheduled and due; `limit` runs at the most.

    A run that a gate refuses is skipped with its reason; one that fails is counted and does not stop the others.
    A dry run decides exactly so and stops before the first change. `timed` is the pass that nobody watches: it only
    records what a policy in rehearsal would do, and stops before anything abnormal; `clock` is the look at the clock
    by which it notices that it has jumped. Every pass ends under the policies with which it began.
    """
    if not dry_run:
        recovery.recover(now=now)
    wish = Wish(now=now, dry_run=dry_run, timed=timed, limit=limit, actor=actor, clock=clock)
    result = Swept(dry_run, now)
    policies = RetentionPolicy.objects.scoped()
    hindrances = readiness.hindrances()
    for root in StagingRoot.objects.all() if roots is None else roots:
        try:
            with contextlib.nullcontext(True) if dry_run else claiming.claim(root) as claimed:
                if claimed:
                    Pass(root, wish, policies, hindrances, result).go()
                else:
                    result.problems.append(Problem(root.name, Reason.SWEEP_RUNNING))
        except Exception as error:  # one bad root must not keep the others from being swept
            logger.exception("the sweep of %s failed", root)
            result.problems.append(Problem(root.name, Reason.SWEEP_FAILED, f"{type(error).__name__}: {error}"))
            if not connection.in_atomic_block:  # what a server has closed is of no use to the next root
                connection.close_if_unusable_or_obsolete()
    return result


def clear(runs: Iterable[Run], *, now: datetime, dry_run: bool = False, actor: str = "", note: str = "") -> Swept:
    """An operator's clear of some runs, at once and in this process; a run that is cleared already is skipped."""
    runs = list(runs)
    if not dry_run:
        recovery.recover(now=now, runs=runs)
    result = Swept(dry_run, now, scanned=len(runs), candidates=len(runs))
    policies = RetentionPolicy.objects.scoped()
    asked = Asked(requester=Requester.OPERATOR, actor=actor, note=note)
    for run in runs:
        policy = effective_policy(policies, run.scope)
        taken = take(run, policy, now, asked=asked, dry_run=dry_run)
        if taken.action is Action.SKIPPED and taken.reason != Reason.ALREADY_CLEARED:
            taken = replace(taken, action=Action.REFUSED)
        result.runs.append(taken)
    return result
