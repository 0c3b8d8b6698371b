"""Policies: what is in force, what a rehearsal showed, and promotion."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Count, Exists, OuterRef
from django.db.models.functions import Coalesce
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from cleanup.lab.people import permissions
from cleanup.lab.policy_versions import Superseded
from cleanup.lab.roots import first_nights
from cleanup.lab.roots.first_nights import Waiting
from cleanup.models import Instrument, RetentionPolicy, RunKind, StagingRoot, Surprise
from cleanup.monitoring import evening_mail
from cleanup.rules.policies.effective import effective_policy
from cleanup.rules.policies.policy import Policy, Scope, ScopedPolicy, Stage
from cleanup.rules.policies.rehearsal import nights_wanted
from cleanup.rules.policies.sentences import PolicyChange, describe, describe_stage, differences, explain, name_scope
from cleanup.sweeps import rehearsal, rehearsed_runs
from cleanup.sweeps.rehearsed_runs import Became, RehearsedRun
from cleanup.text.values import visible
from cleanup.web.policies.edit import WRITE, query_of
from cleanup.web.requests import SignedIn

PAGE_SIZE = 50
# The comparison lists at most this many runs; its sums count all.
SHOWN_RUNS = 500
# At most this many instruments have their policies in sentences,
SHOWN_INSTRUMENTS = 200
# each with at most this many projects that have their own policy.
SHOWN_PROJECTS = 20

may_look_at_policies = permission_required("cleanup.view_retentionpolicy", raise_exception=True)
may_set_policies = permission_required(WRITE, raise_exception=True)


class NoteForm(forms.Form):
    note = forms.CharField(required=False, max_length=RetentionPolicy._meta.get_field("note").max_length)


@dataclass(frozen=True)
class ShownVersion:
    """A version, the one `before` it in its scope, and its clean `nights` of `wanted`."""

    version: RetentionPolicy
    scope: str
    sentence: str
    stage: str
    in_force: bool
    rehearsed: bool
    changes: list[PolicyChange]
    before: int | None = None
    nights: int = 0
    wanted: int = 0
    surprises: int = 0

    @property
    def query(self) -> str:
        return query_of(self.version.scope)


@dataclass(frozen=True)
class InstrumentPolicies:
    """In sentences; `left_out` counts projects."""

    instrument: Instrument
    sentences: list[str]
    left_out: int


@dataclass(frozen=True)
class RehearsedTotal:
    """Bytes are logical."""

    became: Became
    runs: int
    bytes: int


@require_safe
@may_look_at_policies
def policy_list(request: SignedIn) -> HttpResponse:
    now, scoped = timezone.now(), RetentionPolicy.objects.scoped()
    told = _tell_all(request.user, now, scoped)
    in_force = sorted((shown for shown in told if shown.in_force), key=lambda shown: _order(shown.version.scope))
    page = Paginator(told, PAGE_SIZE).get_page(request.GET.get("page", "1"))
    instruments = permissions.instruments(request.user).select_related("root").order_by("root__name", "equipment")
    context = {
        "in_force": in_force,
        "page": page,
        "lines": _explain(instruments[:SHOWN_INSTRUMENTS], scoped),
        "first_nights": [
            (waiting, _may_promote(request.user, waiting.root)) for waiting in _first_nights(request.user, now, scoped)
        ],
        "unexplained": max(0, instruments.count() - SHOWN_INSTRUMENTS),
        "now": now,
    }
    return render(request, "cleanup/policies/list.html", context)


@require_safe
@may_look_at_policies
def policy_detail(request: SignedIn, number: int) -> HttpResponse:
    now, scoped = timezone.now(), RetentionPolicy.objects.scoped()
    same_scope = _of_its_scope(number)
    version = next((one for one in same_scope if one.version == number), None)
    if version is None or not _sees(request.user, version):
        raise Http404
    places = permissions.places(request.user, permissions.VIEW)
    compared = [
        one
        for one in rehearsed_runs.comparison(version, now, same_scope=same_scope)
        if places.include(one.run.root_id, one.run.equipment)
    ]
    (shown,) = _tell(same_scope, [version], now, scoped)
    surprises = Surprise.objects.filter(places.q("run__root", "run__equipment"), policy_version=number)
    context = {
        "shown": shown,
        "version": version,
        "compared": sorted(compared, key=lambda one: not one.became.surprising)[:SHOWN_RUNS],
        "left_out": max(0, len(compared) - SHOWN_RUNS),
        "totals": _totals(compared),
        "surprises": surprises.select_related("run").order_by("-at")[:SHOWN_RUNS],
        "may_write": _may_write(request.user, version),
        "first_nights": [
            waiting
            for waiting in _first_nights(request.user, now, scoped)
            if number in waiting.versions or (shown.rehearsed and version.root_id in (None, waiting.root.pk))
        ],
        "now": now,
    }
    return render(request, "cleanup/policies/detail.html", context)


@require_http_methods(["POST"])
@may_look_at_policies
@may_set_policies
def promote_policy(request: SignedIn, number: int) -> HttpResponse:
    def promote(version: RetentionPolicy, author: str, note: str, now: datetime) -> RetentionPolicy:
        return rehearsal.promote(version, author, now, note=note)

    return _restage(request, number, promote, "From the next pass on it clears what is due.")


@require_http_methods(["POST"])
@may_look_at_policies
@may_set_policies
def promote_root(request: SignedIn, pk: int) -> HttpResponse:
    """End the first nights of a staging root."""
    root = get_object_or_404(permissions.roots(request.user), pk=pk)
    if not _may_promote(request.user, root):
        raise PermissionDenied
    form = NoteForm(request.POST)
    if not form.is_valid():
        messages.error(request, f"Nothing was changed: {' '.join(map(str, form.errors['note']))}")
        return redirect("policy-list")
    try:
        rehearsal.promote_root(root, request.user.get_username(), timezone.now(), note=form.cleaned_data["note"])
    except Superseded as error:
        messages.error(request, f"Nothing was changed: {visible(error)}.")
    else:
        said = f"The first nights of {root.name} are over: from the next pass on what is due goes there."
        messages.success(request, f"{visible(said)}{_coming(request.user, [root])}")
    return redirect("policy-list")


@require_http_methods(["POST"])
@may_look_at_policies
@may_set_policies
def rehearse_policy(request: SignedIn, number: int) -> HttpResponse:
    return _restage(request, number, rehearsal.send_back, "From the next pass on it only records what it would clear.")


def _restage(
    request: SignedIn,
    number: int,
    write: Callable[[RetentionPolicy, str, str, datetime], RetentionPolicy],
    said: str,
) -> HttpResponse:
    version = _visible_version(request.user, number)
    if not _may_write(request.user, version):
        raise PermissionDenied
    form = NoteForm(request.POST)
    if not form.is_valid():
        messages.error(request, f"Nothing was changed: {' '.join(map(str, form.errors['note']))}")
        return redirect("policy-detail", number=number)
    try:
        written = write(version, request.user.get_username(), form.cleaned_data["note"], timezone.now())
    except Superseded as error:
        messages.error(request, f"Nothing was changed: {error}.")
        return redirect("policy-detail", number=number)
    roots = [written.root] if written.root else StagingRoot.objects.active().order_by("name")
    coming = _coming(request.user, roots) if written.rehearsal == Stage.PROMOTED else ""
    messages.success(request, f"Version {written.version} was written. {said}{coming}")
    return redirect("policy-detail", number=written.version)


def _coming(user: User, roots: Iterable[StagingRoot]) -> str:
    """What the next sweeps take, only of roots that the user sees as a whole."""
    places = permissions.places(user, permissions.VIEW)
    seen = [root for root in roots if places.include(root.pk, "")]
    said = evening_mail.say_next(seen, timezone.now())
    return f" {visible(said)}" if said else ""


def _tell_all(user: User, now: datetime, scoped: list[ScopedPolicy]) -> list[ShownVersion]:
    versions = list(RetentionPolicy.objects.select_related("root").order_by("version"))
    return _tell(versions, [version for version in versions if _sees(user, version)], now, scoped)[::-1]


def _of_its_scope(number: int) -> list[RetentionPolicy]:
    """All versions of a version's scope, in order; none if there is no such version."""
    columns = ("equipment", "project", "run_kind")
    its: Any = RetentionPolicy.objects.filter(version=number, **{name: OuterRef(name) for name in columns})
    of_root = its.annotate(of=Coalesce("root", 0)).filter(of=Coalesce(OuterRef("root"), 0))
    return list(RetentionPolicy.objects.filter(Exists(of_root)).select_related("root").order_by("version"))


def _visible_version(user: User, number: int) -> RetentionPolicy:
    version = RetentionPolicy.objects.select_related("root").filter(version=number).first()
    if version is None or not _sees(user, version):
        raise Http404
    return version


def _sees(user: User, version: RetentionPolicy) -> bool:
    places = permissions.places(user, permissions.VIEW)
    return places.everywhere or any(
        None in (version.root_id, root) or version.root_id == root
        for root, instrument in places.pairs
        if "" in (version.equipment, instrument) or version.equipment == instrument
    )


def _may_write(user: User, version: RetentionPolicy) -> bool:
    wanted = (permissions.VIEW, WRITE)
    return all(permissions.places(user, each).include(version.root_id, version.equipment) for each in wanted)


def _first_nights(user: User, now: datetime, scoped: list[ScopedPolicy]) -> list[Waiting]:
    found = first_nights.waiting(now, scoped=scoped)
    seen = set(permissions.roots(user).values_list("pk", flat=True)) if found else set()
    return [waiting for waiting in found if waiting.root.pk in seen]


def _may_promote(user: User, root: StagingRoot) -> bool:
    return all(permissions.places(user, each).include(root.pk, "") for each in (permissions.VIEW, WRITE))


def _explain(instruments: Iterable[Instrument], scoped: list[ScopedPolicy]) -> list[InstrumentPolicies]:
    lines = []
    for instrument in instruments:
        where = Scope(root=instrument.root.name, equipment=instrument.equipment)
        here = [policy for policy in scoped if _may_cover(policy.scope, where)]
        projects = sorted({policy.scope.project for policy in here if policy.scope.project})
        usual = _by_kind(here, where)
        sentences = _sentences(f"{instrument.equipment} ", "", usual)
        for project in projects[:SHOWN_PROJECTS]:
            of_project = _by_kind(here, replace(where, project=project))
            other = {kind: policy for kind, policy in of_project.items() if policy != usual[kind]}
            sentences += _sentences(f"{instrument.equipment} ", f" of {project}", other)
        lines.append(InstrumentPolicies(instrument, sentences, max(0, len(projects) - SHOWN_PROJECTS)))
    return lines


def _may_cover(scope: Scope, where: Scope) -> bool:
    return scope.root in (None, where.root) and scope.equipment in (None, where.equipment)


def _by_kind(scoped: list[ScopedPolicy], where: Scope) -> dict[str, Policy]:
    return {
        kind: replace(effective_policy(scoped, replace(where, run_kind=kind)), version=0) for kind in RunKind.values
    }


def _sentences(whose: str, of: str, by_kind: dict[str, Policy]) -> list[str]:
    if len(by_kind) > 1 and len({*by_kind.values()}) == 1:
        by_kind = {"": next(iter(by_kind.values()))}
    return [explain(f"{whose}{f'{kind} ' if kind else ''}runs{of}", policy) for kind, policy in by_kind.items()]


def _tell(
    versions: list[RetentionPolicy], wanted: list[RetentionPolicy], now: datetime, scoped: list[ScopedPolicy]
) -> list[ShownVersion]:
    """The wanted versions, the earliest first; as many queries for many as for one.

    `scoped`: rehearsed versions may leave fields to wider scopes.
    """
    values = {version.version: version.as_value() for version in versions}
    newest = {value.scope: value.version for value in values.values()}
    before: dict[int, ScopedPolicy | None] = {}
    latest: dict[Scope, ScopedPolicy] = {}
    for number, value in values.items():
        before[number] = latest.get(value.scope)
        latest[value.scope] = value
    in_force = [version for version in wanted if version.version in newest.values()]
    nights = rehearsal.nights_by_version([each for each in in_force if each.rehearsal == Stage.REHEARSING], now)
    noted = Surprise.objects.filter(policy_version__in=[version.version for version in in_force]).order_by()
    surprises = dict(noted.values_list("policy_version").annotate(count=Count("pk")))
    told = []
    for version in wanted:
        number, value = version.version, values[version.version]
        applies = newest[value.scope] == number
        effective = effective_policy(scoped, value.scope) if applies else None
        earlier = before[number]
        told.append(
            ShownVersion(
                version=version,
                scope=name_scope(value.scope),
                sentence=describe(value, effective, nights=version.rehearsal_nights) if effective else "",
                stage=describe_stage(value, nights=version.rehearsal_nights),
                in_force=applies,
                rehearsed=number in nights,
                changes=differences(earlier, value),
                before=earlier.version if earlier else None,
                nights=nights.get(number, 0),
                wanted=nights_wanted(version.rehearsal_nights),
                surprises=surprises.get(number, 0),
            )
        )
    return told


def _order(scope: Scope) -> tuple[str, int, str, str, str]:
    return (scope.root or "", scope.rank, scope.equipment or "", scope.project or "", scope.run_kind or "")


def _totals(compared: list[RehearsedRun]) -> list[RehearsedTotal]:
    totals = []
    for became in Became:
        of_this = [one for one in compared if one.became is became]
        if of_this:
            totals.append(RehearsedTotal(became, len(of_this), sum(one.bytes for one in of_this)))
    return totals
