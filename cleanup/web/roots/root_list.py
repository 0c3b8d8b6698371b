"""The staging roots of all hosts, with their NAS roots, and the page of one."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from cleanup.lab.nas.nas_roots import NasRoot, nas_roots
from cleanup.lab.roots import disk_usage, root_settings
from cleanup.lab.roots.disk_usage import Outlook
from cleanup.lab.roots.root_checks import RegistrationError
from cleanup.models import NasBreaker, RootNote, RootRequest, RootRequestKind, Run, StagingRoot
from cleanup.runs.root_requests import asking
from cleanup.text.values import visible
from cleanup.web.decorators import may_manage_roots
from cleanup.web.password_again import asks_password
from cleanup.web.requests import SignedIn
from cleanup.web.roots.forms import RegisterAgainForm, RetireForm, SettingsForm

# Runs of a retired root on one page, and entries of its history.
PAGE_SIZE = 50
NOTES = 30


@dataclass(frozen=True)
class NasLine:
    """One NAS root of a staging root; `equipment` where it is that of one instrument."""

    nas: NasRoot
    equipment: str
    breaker: NasBreaker | None


@dataclass(frozen=True)
class RootLine:
    root: StagingRoot
    disk: Outlook | None
    nas: list[NasLine]


@require_safe
@may_manage_roots
def root_list(request: SignedIn) -> HttpResponse:
    now = timezone.now()
    roots = list(StagingRoot.objects.order_by("name"))
    active = [root for root in roots if root.retired_at is None]
    context = {
        "lines": _lines(active, now),
        "retired": [root for root in roots if root.retired_at is not None],
        "open": RootRequest.objects.filter(phase__in=RootRequest.OPEN, asked_at__gt=now - asking.ENDS_AFTER)
        .exclude(kind__in=RootRequest.LOOKS)
        .select_related("root"),
        "now": now,
    }
    return render(request, "cleanup/roots/list.html", context)


def _lines(roots: list[StagingRoot], now: datetime) -> list[RootLine]:
    disks = disk_usage.outlooks(roots, now)
    breakers = {(one.host, one.token): one for one in NasBreaker.objects.filter(open_until__gt=now)}
    return [RootLine(root, disks.get(root.pk), list(_nas_lines(root, breakers))) for root in roots]


def _nas_lines(root: StagingRoot, breakers: dict[tuple[str, str], NasBreaker]) -> Iterable[NasLine]:
    of = {NasRoot(own["path"], own["token"]): name for name, own in root.instrument_nas.items()}
    own = NasRoot(root.nas_path, root.nas_token)
    for nas in nas_roots(root):
        yield NasLine(nas, "" if nas == own else of.get(nas, ""), breakers.get((root.host, nas.token)))


@require_http_methods(["GET", "HEAD", "POST"])
@may_manage_roots
def root_detail(request: SignedIn, pk: int) -> HttpResponse:
    """A look needs no password, a change does."""
    root = get_object_or_404(StagingRoot, pk=pk)
    return _change(request, root) if request.method == "POST" else _show(request, root)


@asks_password(lambda root: reverse("root-detail", args=[root.pk]))
def _change(request: SignedIn, root: StagingRoot) -> HttpResponse:
    form = SettingsForm(request.POST, instance=StagingRoot.objects.get(pk=root.pk))
    if form.is_valid():
        try:
            told = root_settings.change(root, form.values(), author=request.user.get_username(), now=timezone.now())
        except RegistrationError as error:
            form.add_error(None, visible(error))
        else:
            messages.success(request, f"Changed: {visible('; '.join(told))}." if told else "Nothing was changed.")
            return HttpResponseRedirect(reverse("root-detail", args=[root.pk]))
    return _show(request, root, form=form)


def _show(request: SignedIn, root: StagingRoot, **forms: Any) -> HttpResponse:  # noqa: ANN401
    now = timezone.now()
    settings_form = forms.get("form") or SettingsForm(instance=root)
    context = {
        "line": _lines([root], now)[0],
        "root": root,
        "form": settings_form,
        "move": forms.get("move") or RegisterAgainForm(),
        "retire": forms.get("retire") or RetireForm(name=root.name),
        "notes": RootNote.objects.filter(root=root)[:NOTES],
        "requests": RootRequest.objects.filter(root=root).exclude(kind__in=RootRequest.LOOKS)[:10],
        "now": now,
        **(_left(request, root) if root.retired_at is not None else {}),
    }
    wrong = any(form.errors for form in forms.values())
    return render(request, "cleanup/roots/detail.html", context, status=422 if wrong else 200)


def _left(request: SignedIn, root: StagingRoot) -> dict[str, Any]:
    """The runs that lay there when it was retired, by path, a page after a path."""
    after = request.GET.get("after", "")[:1024].replace("\0", "")
    runs = Run.objects.staged().filter(root=root, run_path__gt=after).order_by("run_path")
    page = list(runs.only("run_path", "bytes", "state", "root")[: PAGE_SIZE + 1])
    return {
        "left": page[:PAGE_SIZE],
        "next_after": page[PAGE_SIZE - 1].run_path if len(page) > PAGE_SIZE else "",
        "after": after,
    }


def _page_of(pk: int) -> str:
    return reverse("root-detail", args=[pk])


@require_POST
@may_manage_roots
@asks_password(_page_of)
def move_root(request: SignedIn, pk: int) -> HttpResponse:
    """Register a root again, with its runs; a retired one is taken up again."""
    root = get_object_or_404(StagingRoot, pk=pk)
    form = RegisterAgainForm(request.POST)
    if not form.is_valid():
        return _show(request, root, move=form)
    # As the page showed it: a root that is retired meanwhile is not taken up again by a move.
    how = {"dry_run": "try" in request.POST, "active": "resume" not in request.POST}
    return _ask(request, root, RootRequestKind.MOVE, {**form.cleaned_data, **how})


@require_POST
@may_manage_roots
@asks_password(_page_of)
def retire_root(request: SignedIn, pk: int) -> HttpResponse:
    root = get_object_or_404(StagingRoot, pk=pk)
    form = RetireForm(request.POST, name=root.name)
    if not form.is_valid():
        return _show(request, root, retire=form)
    return _ask(request, root, RootRequestKind.RETIRE, {"note": form.cleaned_data["note"]})


def _ask(request: SignedIn, root: StagingRoot, kind: RootRequestKind, asked: dict[str, Any]) -> HttpResponse:
    actor = request.user.get_username()
    row = asking.ask(kind, root.host, actor=actor, asked=asked, now=timezone.now(), root=root)
    return HttpResponseRedirect(reverse("root-request", args=[row.pk]))
