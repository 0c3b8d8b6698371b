"""The sweep: the pass that clears what the policy says is due, or shows what it would clear."""

import contextlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime

from django.conf import settings
from django.db import connection

from cleanup.clears import recovery
from cleanup.clears.run_action import Action, Asked, RunAction, take
from cleanup.lab import alerts, readiness, root_lock
from cleanup.models import (
    AlertKind,
    Outcome,
    Requester,
    RetentionPolicy,
    Run,
    StagingRoot,
    Sweep,
    SweepKind,
)
from cleanup.rules.anomalies import Clock
from cleanup.rules.effective import effective_policy, sources_as_json
from cleanup.rules.policy import Beyond
from cleanup.rules.reasons import Reason
from cleanup.sweeps import record
from cleanup.sweeps.one_root import Pass, Problem, Swept, Wish

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
            with contextlib.nullcontext(True) if dry_run else root_lock.claim(root) as claimed:
                if claimed:
                    _go(Pass(root, wish, policies, hindrances, result))
                else:
                    result.problems.append(Problem(root.name, Reason.SWEEP_RUNNING))
        except Exception as error:  # one bad root must not keep the others from being swept
            logger.exception("the sweep of %s failed", root)
            result.problems.append(Problem(root.name, Reason.SWEEP_FAILED, _said(error)))
            _refresh_connection()
            if not dry_run:
                with _only_logged("the sweep of %s failed, and that cannot be told", root):
                    _tell(root, _said(error), now)
        else:
            if claimed and not dry_run:
                alerts.end_alert(AlertKind.SCHEDULE, _subject(root), now=now)
    return result


def _go(one: Pass) -> None:
    """One pass over a claimed root; that it failed as a whole is written down as long as the root is claimed."""
    try:
        one.go()
    except Exception as error:
        _refresh_connection()
        if not one.wish.dry_run:
            with _only_logged("the sweep of %s failed, and that cannot be written down", one.root):
                _interrupt(one.root, _said(error))
        raise


def _interrupt(root: StagingRoot, detail: str) -> None:
    """End the record of the pass: whoever has claimed the root has the only one that runs."""
    running = Sweep.objects.filter(root=root, host=settings.EXLAB_HOST, outcome=Outcome.RUNNING)
    for killed in running.exclude(kind=SweepKind.DRY_RUN):
        record.interrupt(killed, reason=Reason.SWEEP_FAILED, detail=detail)


def _tell(root: StagingRoot, detail: str, now: datetime) -> None:
    """An alert until a pass over this root comes to its end."""
    words = f"{root.name}: {detail}"
    alerts.open_alert(AlertKind.SCHEDULE, _subject(root), reason=Reason.SWEEP_FAILED, now=now, detail=words, root=root)


def _subject(root: StagingRoot) -> str:
    return f"sweep:{root.pk}"


@contextlib.contextmanager
def _only_logged(words: str, root: StagingRoot) -> Iterator[None]:
    try:
        yield
    except Exception:  # a database that is away, most likely: the failure itself is told by the caller
        logger.exception(words, root)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _refresh_connection() -> None:
    """What a server has closed is of no use to whoever asks next."""
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()


def clear(
    runs: Iterable[Run],
    *,
    now: datetime,
    dry_run: bool = False,
    actor: str = "",
    note: str = "",
    accept_loss: bool = True,
) -> Swept:
    """An operator's clear of some runs, at once and in this process; a run that is cleared already is skipped.

    Without `accept_loss` a run stays that has anything besides its bytes which the NAS lacks, whatever the policy says:
    a command has no page that tells of it before.
    """
    runs = list(runs)
    if not dry_run:
        recovery.recover(now=now, runs=runs)
    result = Swept(dry_run, now, scanned=len(runs), candidates=len(runs))
    policies = RetentionPolicy.objects.scoped()
    asked = Asked(requester=Requester.OPERATOR, actor=actor, note=note)
    for run in runs:
        policy = effective_policy(policies, run.scope)
        if not accept_loss:
            policy = replace(policy, only_here=Beyond.BLOCK)
        taken = take(run, policy, now, asked=asked, dry_run=dry_run)
        if taken.action is Action.SKIPPED and taken.reason != Reason.ALREADY_CLEARED:
            taken = replace(taken, action=Action.REFUSED)
        result.runs.append(replace(taken, decided_by=sources_as_json(policy)))
    return result
