""" "Clear now": the question, and the wish."""

from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from cleanup import gathering, queueing, readiness
from cleanup.forms import ClearForm
from cleanup.models import RetentionPolicy, Run
from cleanup.policy.retention import effective_policy
from cleanup.views import listing
from cleanup.views.requests import SignedIn
from cleanup.views.runs import may_look, queue_is_silent
from cleanup.views.standing import stand

may_clear = permission_required("cleanup.clear_run", raise_exception=True)


@require_http_methods(["GET", "HEAD", "POST"])
@may_look
@may_clear
def clear_run(request: SignedIn, pk: int) -> HttpResponse:
    """Ask first; a POST writes the wish and its task. What becomes of it is read from the attempt."""
    run = get_object_or_404(Run.objects.with_root(), pk=pk)
    if request.method == "POST":
        return _ask_for(request, run)
    return _confirm(request, run, ClearForm())


def _confirm(request: SignedIn, run: Run, form: ClearForm) -> HttpResponse:
    now = timezone.now()
    policies = RetentionPolicy.objects.scoped()
    breaker = listing.open_breakers().get(run.root_id)
    standing, decision = stand(run, listing.latest_attempt(run), policies, readiness.hindrances(), now, breaker=breaker)
    context = {
        "run": run,
        "standing": standing,
        "allowed": decision is not None and decision.worth_trying,
        "proof": effective_policy(policies, run.scope).proof,
        "form": form,
        "queue_is_silent": queue_is_silent(now, host=run.root.host),
        "now": now,
    }
    template = "cleanup/_confirm.html" if request.htmx else "cleanup/clear_confirm.html"
    # htmx shows nothing of an answer with an error status
    return render(request, template, context, status=422 if form.errors and not request.htmx else 200)


def _ask_for(request: SignedIn, run: Run) -> HttpResponse:
    now = timezone.now()
    form = ClearForm(request.POST)
    if not form.is_valid():
        return _confirm(request, run, form)

    def tell(level: int, words: str) -> None:
        if not request.htmx:  # the row says it itself
            messages.add_message(request, level, words)

    policies = RetentionPolicy.objects.scoped()
    decision = gathering.stored_decision(run, policies, now, hindrances=readiness.hindrances())
    if decision.worth_trying:
        try:
            note = form.cleaned_data["note"]
            queueing.request_clear(run, actor=request.user.get_username(), note=note, now=now)
        except queueing.AlreadyClearing:
            tell(messages.INFO, "This run is being cleared already; here is how far it is.")
    else:
        tell(messages.ERROR, "Not cleared: this run may not go now, for the reason that stands here.")
    if request.htmx:
        return render(request, "cleanup/_row.html", {"row": listing.row_of(run, now), "now": now})
    return redirect("run-detail", pk=run.pk)
