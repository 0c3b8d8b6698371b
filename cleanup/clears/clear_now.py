"""An operator's clear of some runs in this process, without the queue."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from cleanup.clears import recovery
from cleanup.clears.queue import ClearRequest
from cleanup.clears.report import ClearReport
from cleanup.clears.run_action import Action, RunAction, take
from cleanup.lab.nas import kept_readers
from cleanup.models import Requester, RetentionPolicy, Run
from cleanup.rules.policies.effective import effective_policy, sources_as_json
from cleanup.rules.policies.policy import Beyond, Policy
from cleanup.rules.reasons import Reason


def clear(
    runs: Iterable[Run],
    *,
    now: datetime,
    dry_run: bool = False,
    actor: str = "",
    note: str = "",
    accept_loss: bool = True,
) -> ClearReport:
    """Clear the runs; skip those cleared already.

    Without `accept_loss` a run stays if the NAS lacks anything it has besides its bytes: a command shows no page about
    it.
    """
    runs = list(runs)
    if not dry_run:
        recovery.recover(now=now, runs=runs)
    report = ClearReport(dry_run, now, scanned=len(runs), candidates=len(runs))
    policies = RetentionPolicy.objects.scoped()
    request = ClearRequest(requester=Requester.OPERATOR, actor=actor, note=note)
    with kept_readers.keeping():
        for run in runs:
            policy = effective_policy(policies, run.scope)
            if not accept_loss:
                policy = replace(policy, only_here=Beyond.BLOCK)
            report.runs.append(_take(run, policy, now, request, dry_run=dry_run))
    return report


def _take(run: Run, policy: Policy, now: datetime, request: ClearRequest, *, dry_run: bool) -> RunAction:
    taken = take(run, policy, now, request=request, dry_run=dry_run)
    if taken.action is Action.SKIPPED and taken.reason != Reason.ALREADY_CLEARED:
        taken = replace(taken, action=Action.REFUSED)
    return replace(taken, decided_by=sources_as_json(policy))
