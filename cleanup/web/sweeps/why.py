"""What the sweeps said of one run by some instant."""

from dataclasses import dataclass
from datetime import datetime

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from cleanup.models import Run, Sweep, SweepKind, SweptRun
from cleanup.rules.decisions import SCHEDULE_ONLY
from cleanup.sweeps import history
from cleanup.sweeps.history import SweepAnswer
from cleanup.web.decorators import may_look
from cleanup.web.requests import SignedIn
from cleanup.web.runs import run_rows

# The page shows this many earlier answers.
SHOWN = 50
KINDS = {
    SweepKind.TIMED: "The timed pass",
    SweepKind.TYPED: "The pass that a person typed",
    SweepKind.DRY_RUN: "The dry run",
}


@dataclass(frozen=True, kw_only=True)
class ShownAnswer:
    """`silence`: why the pass said nothing."""

    title: str
    sweep: Sweep | None
    said: SweptRun | None
    silence: str
    same_day: bool


@require_safe
@may_look
def answers(request: SignedIn, pk: int) -> HttpResponse:
    now = timezone.now()
    run = run_rows.shown_or_404(request.user, pk)
    day, clock = request.GET.get("at", ""), request.GET.get("time", "")
    moment = history.moment_of(day, clock)
    at = min(moment, now) if moment else now
    told = [_told(run, found, at) for found in history.answer(run, at)]
    local = timezone.localtime(at)
    context = {
        "run": run,
        "at": at,
        "date": f"{local:%Y-%m-%d}" if moment else "",
        "time": clock if moment and clock else "",
        "no_instant": bool(day) and moment is None,
        "in_future": moment is not None and timezone.localtime(moment).date() > timezone.localtime(now).date(),
        "timed": told[0],
        "others": [other for other in told[1:] if other.sweep],
        "earlier": history.all_said(run, at)[:SHOWN],
        "schedule_only": SCHEDULE_ONLY,
        "zone": timezone.get_current_timezone_name(),
        "now": now,
    }
    return render(request, "cleanup/sweeps/why.html", context)


def _told(run: Run, found: SweepAnswer, at: datetime) -> ShownAnswer:
    sweep = found.sweep
    return ShownAnswer(
        title=KINDS[found.kind],
        sweep=sweep,
        said=found.said,
        silence=history.silence(run, sweep) if sweep and not found.said else "",
        same_day=sweep is not None and timezone.localtime(sweep.started_at).date() == timezone.localtime(at).date(),
    )
