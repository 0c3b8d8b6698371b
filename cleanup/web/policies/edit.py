"""Writing a policy: first its scope, then its fields."""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods
from django_htmx.http import HttpResponseClientRedirect

from cleanup.lab import policy_versions
from cleanup.lab.people import permissions
from cleanup.lab.policy_versions import Superseded
from cleanup.models import RetentionPolicy, StagingRoot
from cleanup.rules.policies.effective import effective_policy
from cleanup.rules.policies.policy import Scope, Stage
from cleanup.rules.policies.sentences import describe, name_scope
from cleanup.sweeps import policy_preview
from cleanup.sweeps.policy_preview import PolicyPreview
from cleanup.text.values import visible
from cleanup.web.policies.forms import PolicyForm, ScopeForm
from cleanup.web.requests import SignedIn

WRITE = "cleanup.add_retentionpolicy"
# At most this many of the runs that would go are named.
SHOWN_RUNS = 20

may_write_policies = permission_required(["cleanup.view_retentionpolicy", WRITE], raise_exception=True)

SCOPE_FIELDS = ("root", "equipment", "project", "run_kind")

# How a version begins, after the sentence of its meaning.
BEGINS = {
    Stage.REHEARSING: "It is rehearsed first: until then the timed pass only records what more it would clear.",
    Stage.PROMOTED: "It is in force from the next pass on.",
    Stage.OFF: "It is in force from the next pass on, and never rehearsed.",
}


@require_http_methods(["GET", "HEAD", "POST"])
@may_write_policies
def change_policy(request: SignedIn) -> HttpResponse:
    posted = request.method == "POST"
    data = request.POST if posted else request.GET
    where = _scope_form(request.user, data if posted or any(name in data for name in SCOPE_FIELDS) else None)
    if where.is_valid():
        return _change(request, where)
    context: dict[str, Any] = {"where": where}
    if posted:  # the typed text stays, to be sent again with a known scope
        context["form"] = PolicyForm(data, scope=Scope(), before=None, scoped=[])
    return render(request, "cleanup/policies/change.html", context, status=422 if where.errors else 200)


def query_of(scope: Scope) -> str:
    return urlencode({name: getattr(scope, name) or "" for name in SCOPE_FIELDS})


def _scope_form(user: User, data: QueryDict | None) -> ScopeForm:
    places = permissions.places(user, permissions.VIEW)
    equipment = {*permissions.instruments(user).order_by().values_list("equipment", flat=True)}
    of_policies = RetentionPolicy.objects.exclude(equipment="").order_by().values_list("equipment", flat=True)
    equipment |= {name for name in of_policies.distinct() if places.include(None, name)}
    roots = permissions.roots(user).order_by("name").values_list("name", flat=True)
    return ScopeForm(data, roots=roots, equipment=sorted(equipment))


def _change(request: SignedIn, where: ScopeForm) -> HttpResponse:
    """The form; sent once it shows the preview, sent again with that preview it writes a version."""
    now = timezone.now()
    _expect_place(request.user, where.scope)
    before, scoped = _in_force(where.scope), RetentionPolicy.objects.scoped()
    data = request.POST if request.method == "POST" else None
    form = PolicyForm(data, scope=where.scope, before=before, scoped=scoped)
    newer, shown, asks = None, None, False
    meant = data.get("at_once", "") if data else ""  # the answer to the question about 0 h
    seen = (data.get("seen", "") or meant) if data else ""
    if form.is_bound:
        try:
            if form.is_valid():
                _expect_in_force(form, before)
                shown = _preview(form, author=request.user.get_username(), now=now)
                asks = seen == shown.digest and shown.at_once and meant != shown.digest
                if seen == shown.digest and not asks:
                    written = _write(form, author=request.user.get_username(), now=now)
                    messages.success(request, visible(f"Version {written.version} was written. {_meaning(written)}"))
                    return _go_to(request, reverse("policy-detail", args=[written.version]))
            else:
                _expect_in_force(form, before)
        except Superseded as error:
            newer, shown = _in_force(where.scope), None
            form.add_error(None, f"Nothing was written: {error}.")
        except ValidationError as error:
            form.add_error(None, error)
    context = {
        **_scope_context(where, now),
        "form": form,
        "before": before,
        "newer": newer,
        "preview": shown,
        "meaning": _describe(shown) if shown else "",
        "changed": bool(shown and seen and not asks),
        "asks_at_once": asks,
    }
    if request.htmx:  # htmx shows nothing of an answer with an error status
        return render(request, "cleanup/policies/change.html#form", context)
    return render(request, "cleanup/policies/change.html", context, status=422 if form.errors else 200)


def _scope_context(where: ScopeForm, now: datetime) -> dict[str, Any]:
    return {
        "where": where,
        "scope": name_scope(where.scope),
        "query": query_of(where.scope),
        "shown_runs": SHOWN_RUNS,
        "looked_at": policy_preview.LOOKED_AT,
        "now": now,
    }


def _go_to(request: SignedIn, address: str) -> HttpResponse:
    return HttpResponseClientRedirect(address) if request.htmx else HttpResponseRedirect(address)


def _expect_place(user: User, scope: Scope) -> None:
    """Raise PermissionDenied unless the user may write policies for the whole scope."""
    root = StagingRoot.objects.get(name=scope.root).pk if scope.root else None
    for permission in (permissions.VIEW, WRITE):
        if not permissions.places(user, permission).include(root, scope.equipment or ""):
            raise PermissionDenied


def _preview(form: PolicyForm, author: str, now: datetime) -> PolicyPreview:
    drafted = policy_versions.draft(form.before, author=author, now=now, rehearse=form.rehearse, **_fields(form))
    return policy_preview.preview(drafted, now)


def _describe(shown: PolicyPreview) -> str:
    return describe(shown.draft.as_value(), shown.policy, nights=shown.draft.rehearsal_nights)


def _write(form: PolicyForm, author: str, now: datetime) -> RetentionPolicy:
    """Raises ValidationError, or Superseded if another user was faster."""
    try:
        return policy_versions.replace_version(
            expected=form.cleaned_data["made_from"],
            author=author,
            now=now,
            rehearse=form.rehearse,
            note=form.cleaned_data["note"],
            **_fields(form),
        )
    except Superseded as error:
        _expect_in_force(form, _in_force(form.scope))
        raise Superseded("another version was written at the same moment") from error


def _fields(form: PolicyForm) -> dict[str, Any]:
    scope = form.scope
    root = StagingRoot.objects.get(name=scope.root) if scope.root else None
    named = {name: getattr(scope, name) or "" for name in SCOPE_FIELDS if name != "root"}
    return {"root": root, **named, **form.changed_fields()}


def _expect_in_force(form: PolicyForm, before: RetentionPolicy | None) -> None:
    """Raise Superseded unless the form was made from the version in force."""
    made_from = form.cleaned_data.get("made_from")
    if made_from is None or made_from == (before.version if before else 0):
        return
    if before is None:
        raise Superseded(f"version {made_from} is none of this scope")
    raise Superseded(f"{visible(before.author)} has written version {before.version} meanwhile")


def _in_force(scope: Scope) -> RetentionPolicy | None:
    return next((version for version in RetentionPolicy.objects.in_force() if version.scope == scope), None)


def _meaning(version: RetentionPolicy) -> str:
    value = version.as_value()
    policy = effective_policy(RetentionPolicy.objects.scoped(), value.scope)
    return f"{describe(value, policy, nights=version.rehearsal_nights)}. {BEGINS[value.stage]}"
