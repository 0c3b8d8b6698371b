"""The page of problems, each with its next step."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import F, QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from cleanup.clears import queue, shell_removal
from cleanup.lab import readiness
from cleanup.lab.people import permissions
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import AlertKind, AttemptKind, ClearAttempt, Orphan, OrphanKind, Run
from cleanup.monitoring import problems, surroundings
from cleanup.monitoring.problems import OpenProblem, ProblemGroup, ProblemKind, Urgency
from cleanup.rules import short_texts
from cleanup.rules.reasons import Reason
from cleanup.runs import run_status
from cleanup.runs.holds import in_force
from cleanup.runs.moved_or_gone import gone
from cleanup.runs.moved_or_gone.gone import NotGone
from cleanup.runs.orphans import orphans
from cleanup.runs.orphans.orphans import NextStep
from cleanup.text.values import visible
from cleanup.web.decorators import JUDGED_AT_ONCE, may_clear, may_look
from cleanup.web.requests import SignedIn
from cleanup.web.runs import set_asides
from cleanup.web.sweeps.sweep_list import roots_to_go_on

PAGE_SIZE = 50
may_mark = permission_required(permissions.CHANGE, raise_exception=True)


class MarkGoneForm(forms.Form):
    note = forms.CharField(
        max_length=short_texts.MAX_REASON,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


@dataclass(frozen=True)
class ProblemLine:
    """One problem with the link to its safe next step, if any."""

    problem: OpenProblem
    label: str = ""
    address: str = ""


@dataclass(frozen=True)
class Section:
    group: ProblemGroup
    lines: list[ProblemLine]

    @property
    def before_breakers(self) -> bool:
        return self.group.urgency < Urgency.FULL

    @property
    def before_orphans(self) -> bool:
        return Urgency.FULL <= self.group.urgency <= Urgency.BLOCKED

    @property
    def after_all(self) -> bool:
        return self.group.urgency > Urgency.BLOCKED

    @property
    def loud(self) -> bool:
        return self.group.urgency is Urgency.NOTHING_GOES

    @property
    def of_blocked_runs(self) -> bool:
        return self.group.urgency is Urgency.BLOCKED


@dataclass(frozen=True)
class OrphanRow:
    orphan: Orphan
    step: NextStep
    may_look_again: bool
    may_mark: bool
    may_remove: bool = False
    being_removed: bool = False
    failed: ClearAttempt | None = None


@require_safe
@may_look
def problem_list(request: SignedIn) -> HttpResponse:
    now, user = timezone.now(), request.user
    run_status.judge_stale(now, limit=JUDGED_AT_ONCE)
    found = problems.visible_orphans(user).select_related("root", "run").defer("run__facts")
    ordered = found.order_by(F("escalated_at").asc(nulls_last=True), F("bytes").desc(nulls_last=True), "pk")
    first = list(ordered[: PAGE_SIZE + 1])
    page = Paginator(first if len(first) <= PAGE_SIZE else ordered, PAGE_SIZE).get_page(request.GET.get("page", "1"))
    hindrances = readiness.hindrances()
    around = surroundings.look(user, now)
    groups = problems.listed(user, now, hindrances=hindrances, around=around)
    breakers = list(problems.breakers(user).select_related("root", "sweep")) if around.breakers else []
    blocked = sum(problem.runs for group in groups for problem in group.problems)
    context = {
        "sections": [Section(group, list(map(_line, group.problems))) for group in groups],
        "breakers": breakers,
        "may_go_on": roots_to_go_on(user, around.mine),
        "page": page,
        "rows": _rows(user, page.object_list),
        "many_missing": _may_mark_many(user, found, first),
        "asides": set_asides.seen_by(user),
        "checked": problems.checked(around),
        "open_problems": len(breakers) + page.paginator.count + sum(group.count for group in groups),
        "cut": problems.BLOCKED_LOOKED_AT if blocked >= problems.BLOCKED_LOOKED_AT else 0,
        "hindrances": hindrances,
        "now": now,
    }
    return render(request, "cleanup/problems/list.html", context)


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


def _rows(user: User, found: Iterable[Orphan]) -> list[OrphanRow]:
    listed = list(found)
    removals = _latest_removals([orphan for orphan in listed if orphan.kind == OrphanKind.SHELL])
    return [_row(user, orphan, removals.get((orphan.run_id, orphan.path))) for orphan in listed]


def _latest_removals(listed: list[Orphan]) -> dict[tuple[int | None, str], ClearAttempt]:
    if not listed:
        return {}
    tried = ClearAttempt.objects.filter(kind=AttemptKind.SHELL, run__in=[orphan.run_id for orphan in listed])
    return {(one.run_id, str(one.prepared["path"])): one for one in tried.order_by("created_at").defer("decision")}


def _row(user: User, orphan: Orphan, removal: ClearAttempt | None) -> OrphanRow:
    step = orphans.next_step(orphan)
    return OrphanRow(
        orphan,
        step,
        may_look_again=problems.may(user, permissions.CLEAR, orphan),
        may_mark=step is NextStep.MARK_GONE and problems.may(user, permissions.CHANGE, orphan),
        may_remove=step is NextStep.REMOVE_SHELL and problems.may(user, permissions.CLEAR, orphan),
        being_removed=removal is not None and removal.is_active,
        failed=removal if removal is not None and removal.phase in ClearAttempt.FAILED else None,
    )


def _may_mark_many(user: User, found: QuerySet[Orphan], first: list[Orphan]) -> bool:
    """`first`: the first page and one more; where they are all, no more is asked."""
    if not user.has_perm(permissions.CHANGE):
        return False
    missing = [orphan for orphan in first if orphan.kind == OrphanKind.MISSING]
    if len(missing) >= 2 or len(first) <= PAGE_SIZE:
        return len(missing) >= 2
    return len(found.filter(kind=OrphanKind.MISSING).order_by("pk")[:2]) == 2


def _line(problem: OpenProblem) -> ProblemLine:
    runs = reverse("run-list")
    if problem.run is not None:
        held = problem.kind == AlertKind.HOLD and problem.reason != Reason.REMINDER_DUE
        address = reverse("run-detail", args=[problem.run.pk])
        return ProblemLine(problem, "See the hold" if held else "See the run", f"{address}#holds" if held else address)
    if problem.batch is not None:
        return ProblemLine(problem, "Resume or stop it", reverse("batch", args=[problem.batch.pk]))
    if problem.kind == ProblemKind.RUNS:
        return ProblemLine(
            problem, "See these runs", f"{runs}?{urlencode({'verdict': 'block', 'reason': problem.reason})}"
        )
    if problem.reason == Reason.CLOCK_IN_DOUBT:
        return ProblemLine(problem, "See automatic clearing", reverse("sweep-list"))
    if problem.root is None:
        return ProblemLine(problem)
    of_root = {"root": problem.root.name}
    match problem.kind:
        case AlertKind.PRESSURE:
            return ProblemLine(problem, "See what may go", f"{runs}?{urlencode({'verdict': 'go', **of_root})}")
        case AlertKind.SCHEDULE:
            return ProblemLine(problem, "See its passes", f"{reverse('sweep-list')}?{urlencode(of_root)}")
    return ProblemLine(problem, "See its runs", f"{runs}?{urlencode(of_root)}")
