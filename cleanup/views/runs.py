"""Looking: the list of runs, one row of it, one run."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import permission_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from cleanup import gathering, readiness, watching
from cleanup.forms import FilterForm
from cleanup.models import ClearAttempt, Heartbeat, LedgerEntry, Phase, RetentionPolicy, Run, StagingRoot
from cleanup.policy.gates import SCHEDULE_ONLY
from cleanup.policy.lifecycle import State
from cleanup.policy.watching import AHEAD, SILENT_AFTER
from cleanup.views import holds, listing
from cleanup.views.requests import SignedIn
from cleanup.views.standing import stand

may_look = permission_required("cleanup.view_run", raise_exception=True)

# What the run page shows of a long life; the admin has it all.
SHOWN_ATTEMPTS = 20
SHOWN_ENTRIES = 50
CLEARED_IN = (Phase.COMMITTED, Phase.DONE)


@require_safe
@may_look
def run_list(request: SignedIn) -> HttpResponse:
    now = timezone.now()
    form = FilterForm(request.GET, equipment=listing.equipment_choices(), projects=listing.project_choices())
    chosen = form.chosen()
    number = request.GET.get("page", "1")
    hindrances = readiness.hindrances()
    context = {
        "form": form,
        "chosen": chosen,
        "roots": StagingRoot.objects.all(),
        "queue_is_silent": queue_is_silent(now),
        "unwatched": watching.silent_watches(now),
        "hindrances": hindrances,
        "parked": listing.parked(),
        "now": now,
    }
    if chosen.get("state") == State.CLEARED:
        return render(request, "cleanup/run_list.html", {**context, "page": listing.cleared_page(chosen, number, now)})
    rows = listing.staged_rows(chosen, hindrances, now)
    page = listing.staged_page(rows, chosen.get("verdict", ""), number)
    return render(request, "cleanup/run_list.html", {**context, "page": page, "totals": listing.totals(rows)})


@require_safe
@may_look
def run_row(request: SignedIn, pk: int) -> HttpResponse:
    """One row, for a list that watches a clear."""
    now = timezone.now()
    run = get_object_or_404(Run.objects.with_root(), pk=pk)
    return render(request, "cleanup/_row.html", {"row": listing.row_of(run, now), "now": now})


@require_safe
@may_look
def run_detail(request: SignedIn, pk: int) -> HttpResponse:
    now = timezone.now()
    run = get_object_or_404(Run.objects.with_root(), pk=pk)
    attempts = list(run.attempts.select_related("proof").order_by("-created_at")[:SHOWN_ATTEMPTS])
    attempt = attempts[0] if attempts else None
    cleared_by = next((attempt for attempt in attempts if attempt.phase in CLEARED_IN), None)
    hindrances = readiness.hindrances()
    breaker = listing.open_breakers().get(run.root_id)
    standing, decision = stand(run, attempt, RetentionPolicy.objects.scoped(), hindrances, now, breaker=breaker)
    context = {
        "run": run,
        "standing": standing,
        "live": attempt is not None and attempt.is_active,
        "schedule_only": SCHEDULE_ONLY,
        "gates": decision.gates if decision else recorded_gates(cleared_by),
        "hindrances": hindrances,
        "facts": gathering.stored_facts(run),
        "events": run.events.order_by("position"),
        "attempts": attempts,
        "cleared_by": cleared_by,
        "entries": LedgerEntry.objects.filter(run=run)[:SHOWN_ENTRIES],
        "holds": holds.panel(run, now),
        "queue_is_silent": queue_is_silent(now, host=run.root.host),
        "unwatched": watching.silent_watches(now),
        "now": now,
    }
    return render(request, "cleanup/run_detail.html", context)


def recorded_gates(attempt: ClearAttempt | None) -> list[dict[str, Any]]:
    """The gates as an attempt found them, with their instants."""
    if attempt is None:
        return []
    return [
        {**gate, "opens_at": datetime.fromisoformat(gate["opens_at"]) if gate["opens_at"] else None}
        for gate in attempt.decision
    ]


def queue_is_silent(now: datetime, *, host: str | None = None) -> bool:
    """Whether the cluster that clears, on one host or on any, has run no task lately: a clear would only wait."""
    lately = {"at__gt": now - SILENT_AFTER, "at__lte": now + AHEAD}
    beats = Heartbeat.objects.filter(cluster=settings.EXLAB_CLEAR_CLUSTER, **lately)
    return not (beats if host is None else beats.filter(host=host)).exists()
