"""The record of sweeps and the breakers."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Case, Count, QuerySet, Value, When
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from cleanup.clears.run_action import FREEING, Action
from cleanup.lab.people import permissions
from cleanup.models import RetentionPolicy, Run, StagingRoot, Sweep, SweepBreaker, SweepKind
from cleanup.sweeps import breakers as sweep_breakers
from cleanup.sweeps import dry_runs, history, record
from cleanup.sweeps.breakers import GoOnAnswer
from cleanup.sweeps.dry_runs import Expected
from cleanup.text.values import visible
from cleanup.web.caching import reload_page, wants_fragment
from cleanup.web.decorators import may_clear
from cleanup.web.requests import SignedIn
from cleanup.web.runs.run_list import queue_is_silent
from cleanup.web.sweeps.forms import GoOnForm, said_filter, sweeps_filter

PAGE_SIZE = 50
# The history shows this many past breakers; the admin has all.
SHOWN_BREAKERS = 20
# The question of a go-on lists this many runs, the largest first.
SHOWN_RUNS = 1_000
_LARGEST_KEY = 2**63 - 1
GO_ON = "cleanup.go_on"

# The runs that a pass cleared, or would clear, come first.
_FREEING_FIRST = Case(
    When(action__in=FREEING, then=Value(0)), When(action=Action.SKIPPED, then=Value(2)), default=Value(1)
)

may_look_at_sweeps = permission_required("cleanup.view_sweep", raise_exception=True)
may_go_on = permission_required(GO_ON, raise_exception=True)


@dataclass(frozen=True)
class WaitingSweep:
    root: StagingRoot
    dry_run: Expected


@dataclass(frozen=True)
class Stretch:
    """Some passes, the latest first; `older` and `newer`: keys of the next pages."""

    sweeps: list[Sweep]
    older: int | None = None
    newer: int | None = None


@require_safe
@may_look_at_sweeps
def sweep_list(request: SignedIn) -> HttpResponse:
    if wants_fragment(request):
        return reload_page()
    now, roots = timezone.now(), _roots(request.user)
    return _show(request, roots, _waiting(roots, now), now, "cleanup/sweeps/list.html")


@require_safe
@may_look_at_sweeps
def sweep_changes(request: SignedIn) -> HttpResponse:
    """The list for a page that waits for a dry run; empty as long as nothing has changed."""
    if not wants_fragment(request):
        return redirect("sweep-list")
    now, roots = timezone.now(), _roots(request.user)
    waiting = _waiting(roots, now)
    if request.GET.get("seen") == _state(waiting):
        return HttpResponse(status=204)  # htmx swaps nothing, and no screen reader speaks
    return _show(request, roots, waiting, now, "cleanup/sweeps/list.html#passes")


def _roots(user: User) -> list[StagingRoot]:
    return list(permissions.roots(user).order_by("name"))


def _waiting(roots: list[StagingRoot], now: datetime) -> list[WaitingSweep]:
    expected = dry_runs.expected(roots, now=now)
    return [WaitingSweep(root, expected[root.pk]) for root in roots if root.pk in expected]


def _state(waiting: list[WaitingSweep]) -> str:
    """The dry runs as the page knows them: `3q,7r`."""
    return ",".join(f"{each.root.pk}{'r' if each.dry_run.running else 'q'}" for each in waiting) or "none"


def _show(
    request: SignedIn, roots: list[StagingRoot], waiting: list[WaitingSweep], now: datetime, template: str
) -> HttpResponse:
    user = request.user
    form = sweeps_filter(request.GET, [root.name for root in roots])
    chosen = form.chosen()
    sweeps = _visible(user)
    if name := chosen.get("root"):
        sweeps = sweeps.filter(root__name=name)
    if kind := chosen.get("kind"):
        sweeps = sweeps.filter(kind=kind)
    breakers = _visible_breakers(user)
    context = {
        "form": form,
        "chosen": chosen,
        "stretch": _stretch(sweeps, before=_key(request.GET.get("before")), after=_key(request.GET.get("after"))),
        "open_breakers": breakers.filter(closed_at=None),
        "past_breakers": breakers.exclude(closed_at=None).order_by("-closed_at")[:SHOWN_BREAKERS],
        "may_go_on": roots_to_go_on(user, roots),
        "roots": roots,
        "waiting": waiting,
        "state": _state(waiting),
        "to_try": list(permissions.roots(user, permissions.CLEAR).active().order_by("name")),
        "queue_is_silent": any(queue_is_silent(now, host=each.root.host) for each in waiting),
        "latest_dry_run": _visible(user).filter(kind=SweepKind.DRY_RUN).order_by("-pk").first(),
        "now": now,
    }
    return render(request, template, context)


@require_POST
@may_look_at_sweeps
@may_clear
def dry_run(request: SignedIn) -> HttpResponse:
    """Queue a dry run; it reads as much as a sweep, so viewers may not ask for it."""
    now, name = timezone.now(), request.POST.get("root", "")
    root = next((root for root in permissions.roots(request.user) if root.name == name), None)
    if root is None:
        raise Http404
    if not permissions.roots(request.user, permissions.CLEAR).active().filter(pk=root.pk).exists():
        raise PermissionDenied
    if dry_runs.ask_for(root, actor=request.user.get_username(), now=now):
        messages.success(request, visible(f"A dry run of {root.name} is queued. Its result will appear here."))
    else:
        messages.info(request, visible(f"A dry run of {root.name} is queued or running already."))
    return redirect("sweep-list")


@require_safe
@may_look_at_sweeps
def sweep_detail(request: SignedIn, pk: int) -> HttpResponse:
    sweep = get_object_or_404(_visible(request.user), pk=pk)
    places = permissions.places(request.user, permissions.VIEW)
    said = history.said_by(sweep).filter(places.q("root", "run__equipment"))
    by_reason = said.order_by().values_list("action", "reason").annotate(number=Count("pk"))
    form = said_filter(request.GET, by_reason)
    shown = said.filter(**form.chosen()).order_by(_FREEING_FIRST, "run__run_path", "pk")
    counted = record.tally(sweep)
    context = {
        "sweep": sweep,
        "tally": counted,
        "not_come_to": max(sweep.scanned - counted.runs, 0),
        "partly": not places.include(sweep.root_id, ""),
        "form": form,
        "chosen": form.chosen(),
        "page": Paginator(shown, PAGE_SIZE).get_page(request.GET.get("page", "1")),
        "breakers": sweep.breakers.select_related("root"),
        "may_go_on": roots_to_go_on(request.user, [sweep.root]),
        "now": timezone.now(),
    }
    return render(request, "cleanup/sweeps/detail.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@may_look_at_sweeps
@may_go_on
def go_on(request: SignedIn, pk: int) -> HttpResponse:
    now = timezone.now()
    breaker = get_object_or_404(_visible_breakers(request.user), pk=pk)
    if breaker.root_id not in roots_to_go_on(request.user, [breaker.root]):
        raise PermissionDenied
    form = GoOnForm(request.POST if request.method == "POST" else None)
    if request.method != "POST" or not form.is_valid():
        return _ask(request, breaker, form, now, status=422 if form.errors else 200)
    said = {"actor": request.user.get_username(), **form.cleaned_data}
    match sweep_breakers.answer(breaker, now=now, **said):
        case GoOnAnswer.SEEN_MORE:
            breaker.refresh_from_db()
            return _ask(request, breaker, form, now, status=409)
        case GoOnAnswer.GONE_ON:
            messages.success(request, f"Automatic clearing of {breaker.root.name} goes on with the next pass.")
        case GoOnAnswer.ALREADY:
            messages.info(request, f"Automatic clearing of {breaker.root.name} was let go on already.")
    return redirect("sweep-list")


def _ask(request: SignedIn, breaker: SweepBreaker, form: GoOnForm, now: datetime, *, status: int) -> HttpResponse:
    """The question of a go-on; status 409: more runs than shown would go by now."""
    question = sweep_breakers.question(breaker, now=now) if breaker.closed_at is None else None
    shown = question.shown if question else breaker.lets_go
    runs = Run.objects.filter(pk__in=list(shown.runs)).select_related("root").order_by("-bytes", "pk")
    context = {
        "breaker": breaker,
        "question": question,
        "shown": shown,
        "runs": runs[:SHOWN_RUNS],
        "versions": RetentionPolicy.objects.filter(version__in=shown.versions).order_by("version"),
        "form": form,
        "refused": status == 409,
        "now": now,
    }
    return render(request, "cleanup/sweeps/go_on.html", context, status=status)


def roots_to_go_on(user: User, roots: Iterable[StagingRoot]) -> set[int]:
    """Those of visible roots whose sweeps the user may let go on: with the permission for the whole root, as a sweep
    takes all its runs.
    """
    wanted = [permissions.places(user, permission) for permission in (permissions.VIEW, GO_ON)]
    return {root.pk for root in roots if all(places.include(root.pk, "") for places in wanted)}


def _visible(user: User) -> "QuerySet[Sweep]":
    return Sweep.objects.filter(root__in=permissions.roots(user).order_by()).select_related("root", "previous")


def _visible_breakers(user: User) -> "QuerySet[SweepBreaker]":
    return SweepBreaker.objects.filter(root__in=permissions.roots(user).order_by()).select_related("root", "sweep")


def _stretch(sweeps: "QuerySet[Sweep]", *, before: int | None, after: int | None) -> Stretch:
    if after is not None and (found := list(sweeps.filter(pk__gt=after).order_by("pk")[: PAGE_SIZE + 1])):
        shown = found[:PAGE_SIZE][::-1]
        older = shown[-1].pk if sweeps.filter(pk__lt=shown[-1].pk).exists() else None
        return Stretch(shown, older=older, newer=shown[0].pk if len(found) > PAGE_SIZE else None)
    older_ones = sweeps.filter(pk__lt=before) if before is not None else sweeps
    found = list(older_ones.order_by("-pk")[: PAGE_SIZE + 1])
    if before is not None and not found:
        return _oldest(sweeps)
    shown = found[:PAGE_SIZE]
    is_newest = before is None or not shown or not sweeps.filter(pk__gt=shown[0].pk).exists()
    return Stretch(
        shown,
        older=shown[-1].pk if len(found) > PAGE_SIZE else None,
        newer=None if is_newest else shown[0].pk,
    )


def _oldest(sweeps: "QuerySet[Sweep]") -> Stretch:
    found = list(sweeps.order_by("pk")[: PAGE_SIZE + 1])
    shown = found[:PAGE_SIZE][::-1]
    return Stretch(shown, newer=shown[0].pk if len(found) > PAGE_SIZE else None)


def _key(text: str | None) -> int | None:
    if not text or not text.isdecimal():
        return None
    return min(int(text[:20]), _LARGEST_KEY)
