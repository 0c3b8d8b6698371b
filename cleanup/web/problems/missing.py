"""Missing runs: marked as gone, or moved with a renamed folder."""

from datetime import datetime

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from cleanup.lab.people import permissions
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import Orphan, OrphanKind, Run, RunQuerySet
from cleanup.monitoring import problems
from cleanup.rules import short_texts
from cleanup.runs import discovery
from cleanup.runs.moved_or_gone import gone as gone_runs
from cleanup.runs.moved_or_gone import moved_runs
from cleanup.runs.moved_or_gone.gone import Marked
from cleanup.runs.moved_or_gone.moved_runs import Move, NotMoved
from cleanup.runs.moved_or_gone.reregistration import RegisterAction, RegisterOrder, Reregistration
from cleanup.runs.orphans import orphans
from cleanup.storage import run_paths
from cleanup.text.values import runs as counted
from cleanup.text.values import visible
from cleanup.web.decorators import may_look
from cleanup.web.problems.problem_list import MarkGoneForm, may_mark
from cleanup.web.requests import SignedIn

# One page lists at most 500 runs to mark; the others come after them.
AT_ONCE = 500
# One answer tells at most this many refusals.
_TOLD = 5
# After a move this many runs are looked at once; discovery looks at the others.
_LOOKED_AT = 10


class MoveForm(forms.Form):
    old = forms.CharField(max_length=1024, widget=forms.TextInput(attrs={"autocomplete": "off"}))
    new = forms.CharField(max_length=1024, widget=forms.TextInput(attrs={"autocomplete": "off"}))
    note = forms.CharField(
        max_length=short_texts.MAX_REASON, required=False, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )


@require_http_methods(["GET", "HEAD", "POST"])
@may_look
@may_mark
def mark_all_gone(request: SignedIn) -> HttpResponse:
    now = timezone.now()
    root = request.GET.get("root", "")
    found = _missing(request.user)
    runs = list((found.filter(root__name=root) if root else found).order_by("root__name", "run_path")[: AT_ONCE + 1])
    form = MarkGoneForm(request.POST if request.method == "POST" else None)
    ticked = {int(key) for key in request.POST.getlist("run") if key.isdecimal()}
    chosen = [run for run in runs[:AT_ONCE] if run.pk in ticked]
    if request.method == "POST" and form.is_valid() and chosen:
        actor = request.user.get_username()
        _tell(request, gone_runs.mark_all(chosen, actor=actor, reason=form.cleaned_data["note"], now=now))
        return redirect("problem-list")
    posted = request.method == "POST"
    context = {
        "runs": runs[:AT_ONCE],
        "more": len(runs) > AT_ONCE,
        "roots": sorted(set(found.values_list("root__name", flat=True))),
        "root": root,
        "form": form,
        "ticked": ticked if posted else {run.pk for run in runs},
        "nothing_ticked": posted and not chosen,
        "now": now,
    }
    return render(request, "cleanup/problems/mark_all_gone.html", context, status=422 if posted else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@may_look
@may_mark
def move_runs(request: SignedIn, pk: int) -> HttpResponse:
    """The first click shows the runs of a renamed folder; the second gives them the new paths."""
    now = timezone.now()
    orphan = _orphan(request.user, pk)
    run = get_object_or_404(Run.objects.with_root(), orphans=orphan)
    context = {"orphan": orphan, "run": run, "now": now}
    if request.method != "POST":
        form = MoveForm(initial=_guessed(request.user, run))
        return render(request, "cleanup/problems/moved.html", {**context, "form": form})
    form = MoveForm(request.POST)
    only_show = "confirm" not in request.POST
    outcomes, said = _move(request.user, run, form, now, dry_run=only_show) if form.is_valid() else ([], "")
    if outcomes and not only_show:
        return _moved(request, run, outcomes, now)
    movable = sum(outcome.action is RegisterAction.WOULD_REREGISTER for outcome in outcomes)
    context |= {"form": form, "outcomes": outcomes, "movable": movable, "said": said}
    return render(request, "cleanup/problems/moved.html", context, status=200 if outcomes else 422)


def _orphan(user: User, pk: int) -> Orphan:
    found = problems.visible_orphans(user, among=Orphan.objects.filter(kind=OrphanKind.MISSING))
    orphan = get_object_or_404(found.select_related("root"), pk=pk)
    if not problems.may(user, permissions.CHANGE, orphan):
        raise PermissionDenied
    return orphan


def _move(user: User, run: Run, form: MoveForm, now: datetime, *, dry_run: bool) -> tuple[list[Reregistration], str]:
    order = RegisterOrder(now=now, actor=user.get_username(), note=form.cleaned_data["note"], dry_run=dry_run)
    try:
        move = moved_runs.read_move(form.cleaned_data["old"], form.cleaned_data["new"])
        _expect_places(user, run, move)
        return moved_runs.move_runs(run.root, move, order), ""
    except NotMoved as error:
        return [], error.said
    except Unreachable as error:
        return [], error.finding.said


def _missing(user: User) -> RunQuerySet:
    listed = orphans.listed().filter(kind=OrphanKind.MISSING).values("run")
    return (
        permissions.runs(user, permissions.CHANGE)
        .filter(pk__in=permissions.runs(user).values("pk"))
        .filter(pk__in=listed)
        .with_root()
    )


def _tell(request: SignedIn, marked: list[Marked]) -> None:
    gone = [mark for mark in marked if mark.refused is None]
    refused = [mark for mark in marked if mark.refused is not None]
    if gone:
        verb = "is" if len(gone) == 1 else "are"
        said = f"{counted(len(gone))} {verb} marked as gone. Nothing is called cleared, and nothing counts as freed."
        messages.success(request, said)
    for mark in refused[:_TOLD]:
        messages.error(request, f"{visible(mark.run.run_path)} is not marked as gone. {visible(mark.refused)}")
    if len(refused) > _TOLD:
        messages.error(request, f"{len(refused) - _TOLD} more are not marked as gone either.")


def _guessed(user: User, run: Run) -> dict[str, str]:
    guess = moved_runs.guess(run)
    if guess is not None and permissions.places(user, permissions.CHANGE).include(
        run.root_id, guess.new.partition("/")[0]
    ):
        return {"old": guess.old, "new": guess.new}
    return {"old": "/".join(run.run_path.split("/")[:2]), "new": ""}


def _expect_places(user: User, run: Run, move: Move) -> None:
    """The user needs the permission at the old and at the new place."""
    places = permissions.places(user, permissions.CHANGE)
    there = {path.partition("/")[0] for path in (move.old, move.new)}
    if not all(places.include(run.root_id, equipment) for equipment in there):
        raise PermissionDenied


def _moved(request: SignedIn, run: Run, outcomes: list[Reregistration], now: datetime) -> HttpResponse:
    moved = [outcome for outcome in outcomes if outcome.action is RegisterAction.REREGISTERED]
    for outcome in moved[:_LOOKED_AT]:
        discovery.look_at_path(run.root, run_paths.parse_run_path(outcome.moved_to), now=now)
    if moved:
        verb = "has its new path" if len(moved) == 1 else "have their new paths"
        messages.success(request, f"{counted(len(moved))} {verb}. A clear compares every byte, as always.")
    refused = [outcome for outcome in outcomes if outcome.action is not RegisterAction.REREGISTERED]
    for outcome in refused[:_TOLD]:
        messages.error(request, f"{visible(outcome.run.run_path)} is not moved. {visible(_why_not(outcome))}")
    if len(refused) > _TOLD:
        messages.error(request, f"{len(refused) - _TOLD} more are not moved either.")
    return redirect("problem-list")


def _why_not(outcome: Reregistration) -> str:
    finding = outcome.finding
    return finding.said if finding else outcome.said
