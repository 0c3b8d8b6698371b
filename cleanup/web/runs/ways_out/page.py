"""The page of a way out."""

from dataclasses import replace
from datetime import datetime

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from cleanup.lab import readiness
from cleanup.lab.people import permissions
from cleanup.models import RetentionPolicy, Run
from cleanup.rules.decisions import Decision
from cleanup.runs import run_status
from cleanup.runs.facts import stored_facts
from cleanup.text.values import visible
from cleanup.web.decorators import may_look
from cleanup.web.requests import SignedIn
from cleanup.web.runs import run_rows
from cleanup.web.runs.ways_out.all_ways import WAYS
from cleanup.web.runs.ways_out.way_base import NotDone, Scene, Way

_BY_NAME = {way.name: way for way in WAYS}


@require_http_methods(["GET", "HEAD", "POST"])
@may_look
def way_out(request: SignedIn, pk: int, name: str) -> HttpResponse:
    """A POST acts only if the run still stands as the question showed."""
    way = _BY_NAME[name]
    if not request.user.has_perm(way.permission):  # before the look-up: such a user must not learn which runs exist
        raise PermissionDenied(way.denied)
    run = get_object_or_404(permissions.runs(request.user).with_root(), pk=pk)
    if not permissions.may(request.user, way.permission, run):
        raise PermissionDenied(way.denied)
    scene = _scene(request, run, timezone.now())
    if not way.offered(scene):
        messages.info(request, f"“{way.label.rstrip('…')}” is not needed any more: see how the run stands now.")
        return redirect("run-detail", pk=run.pk)
    if request.method != "POST":
        return _question(request, way, scene)
    form = way.form(request.POST)
    if request.POST.get("seen", "") != way.seen(scene):
        messages.info(request, "The run has changed since this page was shown. Nothing was done; look once more.")
        return redirect(way.url_name, pk=run.pk)
    if not form.is_valid():
        return _question(request, way, scene, form=form)
    try:
        said = way.act(replace(scene, seen=request.POST.get("seen", "")), form.cleaned_data)
    except NotDone as refused:
        messages.error(request, visible(refused.said))
    else:
        messages.success(request, visible(said))
    return redirect("run-detail", pk=_now_there(run).pk)


def offered(request: SignedIn, run: Run, decision: Decision | None, now: datetime) -> list[Way]:
    scene = Scene(run, stored_facts.facts_of(run), decision, request.user, now)
    return [way for way in WAYS if permissions.may(request.user, way.permission, run) and way.offered(scene)]


def _now_there(run: Run) -> Run:
    """The run that has the path after an act: it may be another row."""
    after = Run.objects.filter(pk=run.pk, gone_at=None).first()
    return after or Run.objects.staged().filter(root=run.root, run_path=run.run_path).first() or run


def _scene(request: SignedIn, run: Run, now: datetime) -> Scene:
    breaker = run_status.open_breakers().get(run.root_id)
    judged = run_status.judge_now(
        run,
        run_rows.latest_attempt(run),
        RetentionPolicy.objects.scoped(),
        now,
        hindrances=readiness.hindrances(),
        breaker=breaker,
    )
    return Scene(run, stored_facts.facts_of(run), judged.decision, request.user, now)


def _question(request: SignedIn, way: Way, scene: Scene, *, form: object = None) -> HttpResponse:
    context = {
        "way": way,
        "run": scene.run,
        "scene": scene,
        "seen": way.seen(scene),
        "form": form or way.form(),
        "now": scene.now,
        **way.asks(scene),
    }
    return render(request, way.template, context, status=200 if form is None else 422)
