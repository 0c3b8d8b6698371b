"""The page of problems, each with its next step."""

from datetime import datetime

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from cleanup.clears import queue, shell_removal
from cleanup.lab import readiness
from cleanup.lab.people import permissions
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import Orphan, OrphanKind, Run
from cleanup.monitoring import problems, surroundings
from cleanup.monitoring.problems import ProblemGroup, ProblemKind
from cleanup.rules import short_texts
from cleanup.rules.reasons import Reason
from cleanup.runs import run_status
from cleanup.runs.holds import in_force
from cleanup.runs.moved_or_gone import gone
from cleanup.runs.moved_or_gone.gone import NotGone
from cleanup.runs.orphans import orphans
from cleanup.text.values import visible
from cleanup.web.decorators import JUDGED_AT_ONCE, may_clear, may_look
from cleanup.web.problems import group_lines
from cleanup.web.problems.group_lines import GroupView
from cleanup.web.requests import SignedIn
from cleanup.web.runs import set_asides
from cleanup.web.sweeps.sweep_list import roots_to_go_on

_MISSING = frozenset({Reason.MISSING_DIRECTORY})
may_mark = permission_required(permissions.CHANGE, raise_exception=True)


class MarkGoneForm(forms.Form):
    note = forms.CharField(
        max_length=short_texts.MAX_REASON,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


# What the list shows, by its address.
SHOWN = [("", "Open"), ("nobodys", "With nobody"), ("mine", "Mine"), ("later", "Put off")]


@require_safe
@may_look
def problem_list(request: SignedIn) -> HttpResponse:
    now, user = timezone.now(), request.user
    run_status.judge_stale(now, limit=JUDGED_AT_ONCE)
    hindrances = readiness.hindrances()
    around = surroundings.look(user, now)
    found = problems.counted(user, now, hindrances=hindrances)
    groups = problems.listed(user, now, hindrances=hindrances, around=around, found=found)
    chosen = request.GET.get("show", "")
    chosen = chosen if chosen in dict(SHOWN) else ""
    views = group_lines.views(user, [one for one in groups if _is_shown(one, chosen, user, now)], around.mine, now)
    left = [view for view in views if view.group.key.kind == ProblemKind.LEFT]
    blocked = sum(problem.runs for group in groups for problem in group.problems)
    context = {
        "sections": group_lines.sections(views),
        "stops": [view for view in views if view.group.key.kind == ProblemKind.BREAKER],
        "may_go_on": roots_to_go_on(user, around.mine),
        "left": left,
        "left_number": sum(view.group.number for view in left),
        "many_missing": _may_mark_many(user, left),
        "asides": set_asides.seen_by(user),
        "checked": problems.checked(around),
        "open_problems": found.nobodys,
        "cut": problems.BLOCKED_LOOKED_AT if blocked >= problems.BLOCKED_LOOKED_AT else 0,
        "hindrances": hindrances,
        "shown": [(name, words, sum(_is_shown(one, name, user, now) for one in groups)) for name, words in SHOWN],
        "chosen": chosen,
        "any": bool(groups),
        "now": now,
    }
    return render(request, "cleanup/problems/list.html", context)


def _is_shown(group: ProblemGroup, chosen: str, user: User, now: datetime) -> bool:
    if chosen == "mine":
        return group.case is not None and group.case.assigned_to == user.get_username()
    if chosen == "nobodys":
        return group.is_nobodys(now)
    return group.is_put_off(now) is (chosen == "later")


@require_POST
@may_look
@may_clear
def look_again(request: SignedIn, pk: int) -> HttpResponse:
    """Look at an orphan now, and adopt it if possible."""
    now = timezone.now()
    orphan = get_object_or_404(_visible(request.user), pk=pk)
    _expect(request.user, permissions.CLEAR, orphan)
    messages.add_message(request, *_look(orphan, now))
    return redirect("problem-list")


@require_POST
@may_look
@may_clear
def remove_shell(request: SignedIn, pk: int) -> HttpResponse:
    """Ask the host of the disk to remove the empty folder at a run's path."""
    orphan = get_object_or_404(_visible(request.user).filter(kind=OrphanKind.SHELL, run__isnull=False), pk=pk)
    _expect(request.user, permissions.CLEAR, orphan)
    path = visible(orphan.path)
    try:
        shell_removal.request_removal(orphan, actor=request.user.get_username(), now=timezone.now())
    except queue.AlreadyClearing:
        messages.info(request, f"{path}: it, or the run that lay there, is being removed already.")
    except ValueError:
        messages.info(request, f"{path}: it is no problem any more.")
    else:
        messages.success(request, f"{path}: the empty folder is being removed. What is in it is kept.")
    return redirect("problem-list")


def _look(orphan: Orphan, now: datetime) -> tuple[int, str]:
    path = visible(orphan.path)
    try:
        seen = orphans.look_again(orphan, now=now)
    except Unreachable as error:
        return messages.ERROR, f"{path}: {error.finding.reason.sentence} {visible(error.finding.detail)}"
    if seen is None:
        return messages.INFO, f"{path}: this staging root is being looked at just now; see what comes of it."
    if seen.gone_at is None:
        return messages.INFO, f"{path}: looked at just now, and it is as it was."
    if seen.kind != OrphanKind.MISSING and Run.objects.staged().filter(root=seen.root, run_path=seen.path).exists():
        return messages.SUCCESS, f"{path}: it is a known run now."
    return messages.SUCCESS, f"{path}: it is no problem any more."


@require_http_methods(["GET", "HEAD", "POST"])
@may_look
@may_mark
def mark_gone(request: SignedIn, pk: int) -> HttpResponse:
    """A POST marks the run as gone if the disk still says so."""
    now = timezone.now()
    orphan = get_object_or_404(_visible(request.user).filter(kind=OrphanKind.MISSING), pk=pk)
    _expect(request.user, permissions.CHANGE, orphan)
    form = MarkGoneForm(request.POST if request.method == "POST" else None)
    run = get_object_or_404(Run.objects.with_root(), orphans=orphan)
    if request.method != "POST" or not form.is_valid():
        holds = in_force.in_force(now).filter(run=run).order_by("created_at", "pk")
        context = {"orphan": orphan, "run": run, "form": form, "holds": holds, "now": now}
        return render(request, "cleanup/problems/mark_gone.html", context, status=422 if form.errors else 200)
    path = visible(run.run_path)
    try:
        gone.mark_gone(run, actor=request.user.get_username(), reason=form.cleaned_data["note"], now=now)
    except NotGone as error:
        messages.error(request, f"{path} is not marked as gone. {visible(error)}")
    else:
        messages.success(request, f"{path} is marked as gone. It is not called cleared, and nothing counts as freed.")
    return redirect("problem-list")


def _visible(user: User) -> QuerySet[Orphan]:
    return problems.visible_orphans(user, among=Orphan.objects.all()).select_related("root", "run")


def _expect(user: User, permission: str, orphan: Orphan) -> None:
    if not problems.may(user, permission, orphan):
        raise PermissionDenied


def _may_mark_many(user: User, left: list[GroupView]) -> bool:
    missing = sum(view.group.number for view in left if view.group.key.reason in _MISSING)
    return missing >= 2 and user.has_perm(permissions.CHANGE)
