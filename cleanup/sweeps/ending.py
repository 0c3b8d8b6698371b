"""The end of a sweep of one root: what is told of it, and what it shows of the policies."""

import logging

from cleanup.clears.report import RootProblem
from cleanup.lab import alerts
from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import AlertKind, StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.pressure import Pressure
from cleanup.rules.quantities import say_count
from cleanup.rules.reasons import Reason
from cleanup.sweeps import breakers, rehearsal
from cleanup.sweeps.taking import Taking

logger = logging.getLogger(__name__)


def finish(root: StagingRoot, taking: Taking, *, hindrances: tuple[Finding, ...]) -> None:
    """Tells of pressure that stays and of a stop, and records how the sweep ended."""
    plan, picker, brakes, request = taking.plan, taking.picker, taking.brakes, taking.request
    warning = plan.need.in_vain(plan.need.pressure) or _unmet(taking)
    _warn(root, taking, warning)
    meanwhile = {} if plan.need.approved is None else {"meanwhile": vars(picker.unasked)}
    taking.journal.finish(
        brakes.stopped or _not_there(root) or warning,
        stopped=brakes.stopped is not None,
        scanned=plan.survey.scanned,
        pressure={"wanted": vars(plan.need.pressure), "left": vars(picker.pressure), **meanwhile},
        sound=brakes.was_sound(hindrances),
    )
    if brakes.guard is not None and not request.dry_run:
        breakers.use_up(taking.journal.sweep, now=request.now)


def learn(root: StagingRoot, taking: Taking) -> None:
    """Rehearses again the versions that surprised a timed sweep, promotes those that are ready."""
    now = taking.request.now
    try:
        for due in taking.plan.survey.due.values():
            if due.run.pk in taking.attempts:
                rehearsal.note_refusal(taking.attempts[due.run.pk], due.policy, now)
        rehearsal.settle(now, root)
    except Exception:  # the sweep itself is done; the next one tries this again
        logger.exception("the rehearsals on %s could not be settled", root)


def _unmet(taking: Taking) -> Finding | None:
    picker = taking.picker
    if not picker.pressure or picker.is_met or taking.left_over or taking.brakes.stopped is not None:
        return None
    return Finding(Reason.LIMIT_EXCEEDED, _describe(picker.pressure))


def _warn(root: StagingRoot, taking: Taking, warning: Finding | None) -> None:
    """An alert lasts as long as the root stays beyond its limits."""
    for finding in filter(None, (warning, taking.brakes.stopped)):
        taking.journal.report.problems.append(RootProblem(root.name, finding.reason, finding.detail))
    if taking.request.dry_run:
        return
    kind, subject, now = AlertKind.PRESSURE, f"root:{root.pk}", taking.request.now
    if warning:
        alerts.open_alert(kind, subject, reason=warning.reason, now=now, detail=warning.detail, root=root)
    elif not taking.picker.pressure:
        alerts.end_alert(kind, subject, now=now)


def _not_there(root: StagingRoot) -> Finding | None:
    try:
        with opening.open_root(root):
            return None
    except Unreachable as error:
        return error.finding


def _describe(pressure: Pressure) -> str:
    parts = (
        (pressure.bytes_over, f"{say_count(pressure.bytes_over, 'byte')} above max_bytes"),
        (pressure.runs_over, f"{say_count(pressure.runs_over, 'run')} above max_runs"),
        (pressure.free_wanted, f"{say_count(pressure.free_wanted, 'byte')} of free space short of free_stop"),
    )
    return ", ".join(words for wanted, words in parts if wanted)
