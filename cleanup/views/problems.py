"""What somebody should look at: alerts, breakers, orphans, and the next step for each."""

from dataclasses import dataclass
from datetime import datetime

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.core.paginator import Paginator
from django.db.models import F
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from cleanup import holding, marking, orphans, watching
from cleanup.gathering import Unreachable
from cleanup.marking import NotGone
from cleanup.models import Alert, Orphan, OrphanKind, Run, StagingRoot, SweepBreaker
from cleanup.orphans import NextStep
from cleanup.templatetags.words import visible
from cleanup.views.requests import SignedIn
from cleanup.views.runs import may_look

PAGE_SIZE = 50
# The oldest alerts that are shown; the admin has them all.
SHOWN_ALERTS = 100

may_look_again = permission_required("cleanup.clear_run", raise_exception=True)
may_mark = permission_required("cleanup.change_run", raise_exception=True)


class MarkGoneForm(forms.Form):
    """Why a person says that a run is gone."""

    note = forms.CharField(
        max_length=marking.MAX_REASON,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


@dataclass(frozen=True)
class Row:
    """One orphan of the list with its next step."""

    orphan: Orphan
    step: NextStep


@require_safe
@may_look
def problem_list(request: SignedIn) -> HttpResponse:
    found = orphans.listed().select_related("root", "run")
    ordered = found.order_by(F("escalated_at").asc(nulls_last=True), F("bytes").desc(nulls_last=True), "pk")
    page = Paginator(ordered, PAGE_SIZE).get_page(request.GET.get("page", "1"))
    shown_apart = watching.about_roots()
    if request.user.has_perm("cleanup.view_sweep"):
        shown_apart |= watching.about_breakers()
    alerts = Alert.objects.filter(ended_at=None).exclude(shown_apart).select_related("root", "run")
    roots = list(StagingRoot.objects.all())
    context = {
        "alerts": alerts.order_by("since", "pk")[:SHOWN_ALERTS],
        "alert_count": alerts.count(),
        "breakers": SweepBreaker.objects.filter(closed_at=None).select_related("root", "sweep"),
        "page": page,
        "rows": [Row(orphan, orphans.next_step(orphan)) for orphan in page.object_list],
        "roots": roots,
        "in_trouble": [root for root in roots if root.problem],
        "now": timezone.now(),
    }
    return render(request, "cleanup/problems.html", context)


@require_POST
@may_look
@may_look_again
def look_again(request: SignedIn, pk: int) -> HttpResponse:
    """Look at one orphan now: whatever can be adopted is."""
    now = timezone.now()
    orphan = get_object_or_404(Orphan.objects.select_related("root", "run"), pk=pk)
    messages.add_message(request, *_look(orphan, now))
    return redirect("problem-list")


def _look(orphan: Orphan, now: datetime) -> tuple[int, str]:
    path = visible(orphan.path)
    try:
        seen = orphans.look_again(orphan, now=now)
    except Unreachable as error:
        return messages.ERROR, f"{path}: {error.finding.reason.sentence} {visible(error.finding.detail)}"
    if seen is None:
        return messages.INFO, f"{path}: somebody is looking at this staging root just now; see what comes of it."
    if seen.gone_at is None:
        return messages.INFO, f"{path}: looked at just now, and it is as it was."
    if seen.kind != OrphanKind.MISSING and Run.objects.staged().filter(root=seen.root, run_path=seen.path).exists():
        return messages.SUCCESS, f"{path}: it is a known run now."
    return messages.SUCCESS, f"{path}: it is no problem any more."


@require_http_methods(["GET", "HEAD", "POST"])
@may_look
@may_mark
def mark_gone(request: SignedIn, pk: int) -> HttpResponse:
    """Ask where a missing run went; a POST marks it as gone, if the disk says the same at that moment."""
    now = timezone.now()
    missing = Orphan.objects.filter(kind=OrphanKind.MISSING).select_related("root", "run")
    orphan = get_object_or_404(missing, pk=pk)
    form = MarkGoneForm(request.POST if request.method == "POST" else None)
    run = get_object_or_404(Run.objects.with_root(), orphans=orphan)
    if request.method != "POST" or not form.is_valid():
        holds = holding.in_force(now).filter(run=run).order_by("created_at", "pk")
        context = {"orphan": orphan, "run": run, "form": form, "holds": holds, "now": now}
        return render(request, "cleanup/problems_mark_gone.html", context, status=422 if form.errors else 200)
    path = visible(run.run_path)
    try:
        marking.mark_gone(run, actor=request.user.get_username(), reason=form.cleaned_data["note"], now=now)
    except NotGone as error:
        messages.error(request, f"{path} is not marked as gone. {visible(error)}")
    else:
        messages.success(request, f"{path} is marked as gone. It is not called cleared, and nothing counts as freed.")
    return redirect("problem-list")
