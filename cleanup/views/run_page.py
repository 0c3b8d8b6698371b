"""Looking at one run: how it stands, and everything behind that."""

from datetime import datetime
from typing import Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from cleanup import access, gathering, readiness, watching
from cleanup.models import ClearAttempt, LedgerEntry, Phase, RetentionPolicy
from cleanup.policy.gates import SCHEDULE_ONLY
from cleanup.views import holds, listing
from cleanup.views.requests import SignedIn
from cleanup.views.runs import may_look, queue_is_silent
from cleanup.views.standing import stand

# What the run page shows of a long life; the admin has it all.
SHOWN_ATTEMPTS = 20
SHOWN_ENTRIES = 50
CLEARED_IN = (Phase.COMMITTED, Phase.DONE)


@require_safe
@may_look
def run_detail(request: SignedIn, pk: int) -> HttpResponse:
    now = timezone.now()
    run = get_object_or_404(access.runs(request.user).with_root(), pk=pk)
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
