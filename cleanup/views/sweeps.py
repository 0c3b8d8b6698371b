"""The record of sweeps: every pass, what one of them said of its runs, and the breakers that stopped them."""

from dataclasses import dataclass

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

from cleanup import access, answering, breaking, dryruns
from cleanup.dryruns import Expected
from cleanup.models import StagingRoot, Sweep, SweepBreaker, SweepKind
from cleanup.models.sums import bytes_sum
from cleanup.policy.reasons import Reason
from cleanup.taking import FREEING, Action
from cleanup.templatetags.words import visible
from cleanup.views.permits import may_clear
from cleanup.views.questions import GoOnForm, said_filter, sweeps_filter
from cleanup.views.requests import SignedIn
from cleanup.views.runs import queue_is_silent

PAGE_SIZE = 50
# Past breakers that the history shows; the admin has them all.
SHOWN_BREAKERS = 20
_LARGEST_KEY = 2**63 - 1
GO_ON = "cleanup.go_on"

# What a pass cleared, or would, is told first.
_FREEING_FIRST = Case(
    When(action__in=FREEING, then=Value(0)), When(action=Action.SKIPPED, then=Value(2)), default=Value(1)
)

may_look_at_sweeps = permission_required("cleanup.view_sweep", raise_exception=True)
may_go_on = permission_required(GO_ON, raise_exception=True)


@dataclass(frozen=True)
class Waiting:
    """A dry run that is queued or running."""

    root: StagingRoot
    dry_run: Expected


@dataclass(frozen=True)
class Stretch:
    """Some passes, the latest first, and the keys behind which older and newer ones lie, where there are any."""

    sweeps: list[Sweep]
    older: int | None = None
    newer: int | None = None


@require_safe
@may_look_at_sweeps
def sweep_list(request: SignedIn) -> HttpResponse:
    """Every pass, the latest first. A page that waits for a dry run asks for the list again until it has changed."""
    now, user = timezone.now(), request.user
    roots = list(access.roots(user).order_by("name"))
    expected = dryruns.expected(roots, now=now)
    waiting = [Waiting(root, expected[root.pk]) for root in roots if root.pk in expected]
    state = ",".join(f"{each.root.pk}{'r' if each.dry_run.running else 'q'}" for each in waiting) or "none"
    if request.htmx and request.GET.get("seen") == state:
        return HttpResponse(status=204)  # as it was: nothing is swapped, and no screen reader disturbed
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
        "may_go_on": roots_to_go_on(user),
        "waiting": waiting,
        "state": state,
        "to_try": access.roots(user, access.CLEAR).order_by("name"),
        "queue_is_silent": any(queue_is_silent(now, host=each.root.host) for each in waiting),
        "latest_dry_run": _visible(user).filter(kind=SweepKind.DRY_RUN).order_by("-pk").first(),
        "now": now,
    }
    return render(request, "cleanup/_passes.html" if request.htmx else "cleanup/sweeps.html", context)


@require_POST
@may_look_at_sweeps
@may_clear
def dry_run(request: SignedIn) -> HttpResponse:
    """Queue a dry run of one staging root, of which whoever asks may clear at least one instrument's runs.

    It removes nothing, but it reads what a sweep would read, and that is no viewer's to ask for.
    """
    now, name = timezone.now(), request.POST.get("root", "")
    root = next((root for root in access.roots(request.user) if root.name == name), None)
    if root is None:
        raise Http404
    if not access.roots(request.user, access.CLEAR).filter(pk=root.pk).exists():
        raise PermissionDenied
    if dryruns.ask_for(root, actor=request.user.get_username(), now=now):
        messages.success(request, visible(f"A dry run of {root.name} is queued. What it says will stand here."))
    else:
        messages.info(request, visible(f"A dry run of {root.name} is queued or running already."))
    return redirect("sweep-list")


@require_safe
@may_look_at_sweeps
def sweep_detail(request: SignedIn, pk: int) -> HttpResponse:
    """One pass, and what it said of every run that it came to."""
    sweep = get_object_or_404(_visible(request.user), pk=pk)
    places = access.places(request.user, access.VIEW)
    said = answering.said_by(sweep).filter(places.q("root", "run__equipment"))
    tally = said.order_by().values_list("action", "reason").annotate(number=Count("pk"))
    form = said_filter(request.GET, tally)
    shown = said.filter(**form.chosen()).order_by(_FREEING_FIRST, "run__run_path", "pk")
    rehearsed = said.filter(action=Action.WOULD_CLEAR, reason=Reason.REHEARSAL).order_by()
    context = {
        "sweep": sweep,
        "rehearsed": rehearsed.aggregate(runs=Count("pk"), bytes=bytes_sum("bytes", default=0)),
        "partly": not places.include(sweep.root_id, ""),
        "form": form,
        "chosen": form.chosen(),
        "page": Paginator(shown, PAGE_SIZE).get_page(request.GET.get("page", "1")),
        "breakers": sweep.breakers.select_related("root"),
        "may_go_on": roots_to_go_on(request.user),
        "now": timezone.now(),
    }
    return render(request, "cleanup/sweeps_detail.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@may_look_at_sweeps
@may_go_on
def go_on(request: SignedIn, pk: int) -> HttpResponse:
    """Say that the sweeps of a staging root may go on after what has stopped them."""
    now = timezone.now()
    breaker = get_object_or_404(_visible_breakers(request.user), pk=pk)
    if breaker.root_id not in roots_to_go_on(request.user):
        raise PermissionDenied
    form = GoOnForm(request.POST if request.method == "POST" else None)
    if request.method != "POST" or not form.is_valid():
        context = {"breaker": breaker, "form": form, "now": now}
        return render(request, "cleanup/sweeps_go_on.html", context, status=422 if form.errors else 200)
    if breaking.go_on(breaker, actor=request.user.get_username(), note=form.cleaned_data["note"], now=now):
        messages.success(request, f"The sweeps of {breaker.root.name} go on with the next pass.")
    else:
        messages.info(request, f"Somebody has let the sweeps of {breaker.root.name} go on already.")
    return redirect("sweep-list")


def roots_to_go_on(user: User) -> set[int]:
    """The staging roots whose sweeps somebody may let go on. A sweep takes every instrument's runs, so nobody may for
    one instrument alone."""
    wanted = [access.places(user, permission) for permission in (access.VIEW, GO_ON)]
    return {root.pk for root in access.roots(user) if all(places.include(root.pk, "") for places in wanted)}


def _visible(user: User) -> "QuerySet[Sweep]":
    """The passes over the staging roots that somebody may see."""
    return Sweep.objects.filter(root__in=access.roots(user).order_by()).select_related("root", "previous")


def _visible_breakers(user: User) -> "QuerySet[SweepBreaker]":
    return SweepBreaker.objects.filter(root__in=access.roots(user).order_by()).select_related("root", "sweep")


def _stretch(sweeps: "QuerySet[Sweep]", *, before: int | None, after: int | None) -> Stretch:
    """The passes before a key, or after one, else the latest; where there are none the nearest there are."""
    if after is not None:
        found = list(sweeps.filter(pk__gt=after).order_by("pk")[:PAGE_SIZE])[::-1]
    elif before is not None:
        found = list(sweeps.filter(pk__lt=before).order_by("-pk")[:PAGE_SIZE])
        found = found or list(sweeps.order_by("pk")[:PAGE_SIZE])[::-1]
    else:
        found = []
    found = found or list(sweeps.order_by("-pk")[:PAGE_SIZE])
    if not found:
        return Stretch([])
    first, last = found[0].pk, found[-1].pk
    return Stretch(
        found,
        older=last if sweeps.filter(pk__lt=last).exists() else None,
        newer=first if sweeps.filter(pk__gt=first).exists() else None,
    )


def _key(text: str | None) -> int | None:
    if not text or not text.isdecimal():
        return None
    return min(int(text[:20]), _LARGEST_KEY)
