"""One run."""

from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from cleanup.clears import waiting_batches
from cleanup.lab import readiness
from cleanup.lab.people import permissions
from cleanup.models import (
    ClearAttempt,
    LedgerEntry,
    Orphan,
    OrphanKind,
    Phase,
    RetentionPolicy,
    Run,
)
from cleanup.monitoring import surroundings
from cleanup.rules.decisions import SCHEDULE_ONLY
from cleanup.rules.facts import Facts, Finding
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs import run_status
from cleanup.runs.facts import stored_facts
from cleanup.runs.orphans import orphans
from cleanup.runs.proving import proving_counts, proving_rows
from cleanup.text import proofs_ahead
from cleanup.web import holds
from cleanup.web.caching import reload_page, wants_fragment
from cleanup.web.decorators import may_look
from cleanup.web.requests import SignedIn
from cleanup.web.runs import gate_lines, run_rows, set_asides, timeline
from cleanup.web.runs.status_text import stand
from cleanup.web.runs.verified import panel
from cleanup.web.runs.ways_out import page as ways_out

# The run page shows at most this many; the admin has all.
SHOWN_ATTEMPTS = 20
SHOWN_ENTRIES = 50
CLEARED_IN = (Phase.COMMITTED, Phase.DONE)


@require_safe
@may_look
def run_detail(request: SignedIn, pk: int) -> HttpResponse:
    run = run_rows.page_run_or_404(request.user, pk)
    if wants_fragment(request):
        return reload_page()
    context = _head(request, run, timezone.now())
    if request.method == "GET" and context["may_clear"] and not context["was"]:
        proving_rows.ask([run.pk], context["now"], known=context["proving"])
    return render(request, "cleanup/runs/detail.html", context | _body(context))


@require_safe
@may_look
def run_live(request: SignedIn, pk: int) -> HttpResponse:
    """The live part of the page, polled each second; if the phase differs from the request's, the whole run."""
    run = run_rows.page_run_or_404(request.user, pk)
    if not wants_fragment(request):
        return redirect("run-detail", pk=pk)
    context = _head(request, run, timezone.now())
    if context["live"] and request.GET.get("phase") == context["attempt"].phase:
        return render(request, "cleanup/runs/detail.html#live", context)
    response = render(request, "cleanup/runs/detail.html#body", context | _body(context))
    response["HX-Retarget"] = "#run"
    return response


def _head(request: SignedIn, run: Run, now: datetime) -> dict[str, Any]:
    """What changes during a clear."""
    stored_facts.look_up_histories([run])
    attempts = list(_attempts(run)[:SHOWN_ATTEMPTS])
    attempt = attempts[0] if attempts else None
    hindrances = readiness.hindrances()
    around = surroundings.look(request.user, now)
    breaker = around.findings.get(run.root_id)
    policies = RetentionPolicy.objects.scoped()
    judged = run_status.judge_now(run, attempt, policies, now, hindrances=hindrances, breaker=breaker)
    standing, proving = stand(run, attempt, judged, now), proving_counts.rows_of([run.pk])
    return {
        "run": run,
        "user": request.user,
        "standing": standing,
        "proving": proving,
        "ahead": proofs_ahead.of_run(proving.get(run.pk), now) if standing.clears_now else "",
        "decision": judged.decision,
        "attempts": attempts,
        "attempt": attempt,
        "more_attempts": len(attempts) == SHOWN_ATTEMPTS,
        "live": attempt is not None and attempt.is_active,
        "hindrances": hindrances,
        "queue_is_silent": around.queue_is_silent(run.root.host),
        "unwatched": around.unwatched,
        "was": run.gone_at is not None or (run.state == State.CLEARED and run.problem != Reason.ALREADY_CLEARED),
        "cleared_by": _cleared_by(run, attempts),
        "may_clear": permissions.may(request.user, permissions.CLEAR, run),
        "may_hold": permissions.may(request.user, permissions.HOLD, run),
        "may_mark": permissions.may(request.user, permissions.CHANGE, run),
        "ways": ways_out.offered(request, run, judged.decision, now),
        "whole": "all" in request.GET,
        "schedule_only": SCHEDULE_ONLY,
        "now": now,
    }


def _body(head: dict[str, Any]) -> dict[str, Any]:
    run, now, decision = head["run"], head["now"], head["decision"]
    facts = stored_facts.facts_of(run)
    cleared_by = head["cleared_by"]
    gates = gate_lines.lines(decision, facts) if decision else gate_lines.recorded_lines(cleared_by)
    entries = list(LedgerEntry.objects.filter(run=run).order_by("-at", "-pk")[: SHOWN_ENTRIES + 1])
    # All there are need not be asked for again.
    attempts = head["attempts"] if len(head["attempts"]) < SHOWN_ATTEMPTS else None
    told = entries if len(entries) <= SHOWN_ENTRIES else None
    return {
        "checks": gate_lines.Checks.of(gates),
        "facts": facts,
        "seen_at": facts.gathered_at if run.facts else None,
        "silence": _silence(facts),
        "newest_proof": run.proofs.first(),
        "life": timeline.life_of(run, now, whole=head["whole"], attempts=attempts, entries=told),
        "longest": timeline.LONGEST,
        "entries": entries[:SHOWN_ENTRIES],
        "more_entries": len(entries) > SHOWN_ENTRIES,
        "holds": holds.panel(run, now, head["user"]),
        "reminders": list(run.reminders.filter(done_at=None).select_related("user")) if run.reminders.all() else [],
        "asides": set_asides.of_run(run, now),
        "verified": panel(run, facts, now),
        "waits_in": waiting_batches.of_run(run),
        "missing": _missing(run) if head["may_mark"] else None,
    }


def _missing(run: Run) -> Orphan | None:
    if run.problem != Reason.MISSING_DIRECTORY:
        return None
    return orphans.listed().filter(run=run, kind=OrphanKind.MISSING).first()


def _cleared_by(run: Run, attempts: list[ClearAttempt]) -> ClearAttempt | None:
    if run.state != State.CLEARED:
        return None
    found = next((attempt for attempt in attempts if attempt.phase in CLEARED_IN), None)
    return found or _attempts(run).filter(phase__in=CLEARED_IN).first()


def _silence(facts: Facts) -> Finding | None:
    """Why the last look could not compare the run with the NAS."""
    if facts.twin is not None or facts.proof is None:
        return None
    return next(iter(facts.proof.findings), None)


def _attempts(run: Run) -> "QuerySet[ClearAttempt]":
    return run.attempts.clears().select_related("proof", "batch").order_by("-created_at")
