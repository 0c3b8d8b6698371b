"""Looking: the list of runs, and one row of it."""

from datetime import datetime

from django.conf import settings
from django.contrib.auth.decorators import permission_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from cleanup import readiness, watching
from cleanup.forms import FilterForm
from cleanup.models import Heartbeat, Run, StagingRoot
from cleanup.policy.lifecycle import State
from cleanup.policy.watching import AHEAD, SILENT_AFTER
from cleanup.views import listing
from cleanup.views.requests import SignedIn

may_look = permission_required("cleanup.view_run", raise_exception=True)


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


def queue_is_silent(now: datetime, *, host: str | None = None) -> bool:
    """Whether the cluster that clears, on one host or on any, has run no task lately: a clear would only wait."""
    lately = {"at__gt": now - SILENT_AFTER, "at__lte": now + AHEAD}
    beats = Heartbeat.objects.filter(cluster=settings.EXLAB_CLEAR_CLUSTER, **lately)
    return not (beats if host is None else beats.filter(host=host)).exists()
