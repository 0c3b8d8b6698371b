"""Registering staging roots and NAS roots: a worker looks at the path as it is typed, then registers it."""

from typing import Any
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from cleanup.models import RootRequest, RootRequestKind
from cleanup.runs.root_requests import asking
from cleanup.web.decorators import may_manage_roots
from cleanup.web.password_again import asks_password
from cleanup.web.requests import SignedIn
from cleanup.web.roots.forms import ImportForm, NasForm, StagingForm
from cleanup.web.roots.shown_request import own_look, shown

LOOK = "look"


def hosts() -> list[str]:
    return asking.known_hosts(timezone.now()) or [settings.EXLAB_HOST]


@require_http_methods(["GET", "HEAD", "POST"])
@may_manage_roots
@asks_password()
def add_root(request: SignedIn) -> HttpResponse:
    look = own_look(request)
    known = hosts()
    initial = {"host": settings.EXLAB_HOST if settings.EXLAB_HOST in known else known[0]}
    if look is not None and look.kind == RootRequestKind.LOOK_STAGING:
        initial |= {"host": look.host, **look.asked}
    form = StagingForm(request.POST or None, hosts=known, initial=initial)
    if request.POST.get("act") == LOOK:
        form.fields["name"].required = False
    if form.is_bound and form.is_valid():
        given = form.cleaned_data
        asked = {name: given[name] for name in ("path", "name", "accept_empty")}
        if request.POST.get("act") == LOOK:
            return _looking(request, RootRequestKind.LOOK_STAGING, given["host"], asked, "add-root")
        return _doing(request, RootRequestKind.ADD_STAGING, given["host"], asked)
    return _show(request, "add.html", form, look, RootRequestKind.LOOK_STAGING)


@require_http_methods(["GET", "HEAD", "POST"])
@may_manage_roots
@asks_password()
def add_nas_root(request: SignedIn) -> HttpResponse:
    look = own_look(request)
    initial: dict[str, Any] = {"root": request.GET.get("root")}
    if look is not None and look.kind == RootRequestKind.LOOK_NAS:
        initial = {"root": look.root_id, **look.asked, **look.asked.get("flags", {})}
    form = NasForm(request.POST or None, initial=initial)
    if form.is_bound and form.is_valid():
        given = form.cleaned_data
        flags = {name: given[name] for name in NasForm.FLAGS}
        asked = {name: given[name] for name in ("path", "equipment", "own_layout")} | {"flags": flags}
        asked["layout"] = given["own_layout"] or given["nas_layout"]
        root = given["root"]
        if request.POST.get("act") == LOOK:
            return _looking(request, RootRequestKind.LOOK_NAS, root.host, asked, "add-nas-root", root=root)
        return _doing(request, RootRequestKind.ADD_NAS, root.host, asked, root=root)
    return _show(request, "add_nas.html", form, look, RootRequestKind.LOOK_NAS)


@require_http_methods(["GET", "HEAD", "POST"])
@may_manage_roots
@asks_password()
def import_wizard_config(request: SignedIn) -> HttpResponse:
    """First the plan, as the command's dry run; its button carries out just that plan."""
    look, known = own_look(request), hosts()
    initial = {"host": settings.EXLAB_HOST if settings.EXLAB_HOST in known else known[0]}
    if look is not None and look.kind == RootRequestKind.LOOK_CONFIG:
        initial = {"host": look.host, **look.asked}
    form = ImportForm(request.POST or None, hosts=known, initial=initial)
    if form.is_bound and form.is_valid():
        given = form.cleaned_data
        asked = {name: given[name] for name in ("name", "nas_path")}
        if digest := request.POST.get("digest", ""):
            return _doing(request, RootRequestKind.IMPORT_CONFIG, given["host"], {**asked, "digest": digest[:64]})
        return _looking(request, RootRequestKind.LOOK_CONFIG, given["host"], asked, "import-wizard-config")
    return _show(request, "import.html", form, look, RootRequestKind.LOOK_CONFIG)


def _looking(
    request: SignedIn,
    kind: RootRequestKind,
    host: str,
    asked: dict[str, Any],
    page: str,
    **about: Any,  # noqa: ANN401
) -> HttpResponse:
    now = timezone.now()
    row = asking.ask(kind, host, actor=request.user.get_username(), asked=asked, now=now, **about)
    if request.htmx:
        return render(request, "cleanup/roots/_answer.html", {"asked": shown(row, now), "now": now})
    return HttpResponseRedirect(f"{reverse(page)}?{urlencode({'request': row.pk})}")


def _doing(
    request: SignedIn,
    kind: RootRequestKind,
    host: str,
    asked: dict[str, Any],
    **about: Any,  # noqa: ANN401
) -> HttpResponse:
    now = timezone.now()
    row = asking.ask(kind, host, actor=request.user.get_username(), asked=asked, now=now, **about)
    return HttpResponseRedirect(reverse("root-request", args=[row.pk]))


def _show(
    request: SignedIn, name: str, form: forms.Form, look: RootRequest | None, kind: RootRequestKind
) -> HttpResponse:
    now = timezone.now()
    mine = look is not None and look.kind == kind
    context = {"form": form, "asked": shown(look, now) if look is not None and mine else None, "now": now}
    if request.htmx:  # htmx shows nothing of an answer with an error status; what is typed is not yet a path
        return render(request, "cleanup/roots/_untold.html", context)
    return render(request, f"cleanup/roots/{name}", context, status=422 if form.errors else 200)
