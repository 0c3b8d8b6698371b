"""Holds: list, lay, extend and release."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import F
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe
from django_htmx.http import reswap, retarget

from cleanup.lab import days
from cleanup.lab.people import permissions
from cleanup.models import Hold, HoldQuerySet, HoldSource, Likeness, Run
from cleanup.rules import short_texts
from cleanup.rules.states import State
from cleanup.runs.holds import holds as run_holds
from cleanup.runs.holds import in_force, keeping_holds
from cleanup.runs.holds.holds import HoldRefused
from cleanup.runs.holds.in_force import Cost
from cleanup.text.values import visible
from cleanup.web.caching import wants_fragment
from cleanup.web.decorators import may_hold
from cleanup.web.requests import SignedIn

PAGE_SIZE = 50
# At most this many holds are listed and summed, the first to end first.
ADDED_UP = 5_000
SHOWN = [("all", "All holds"), ("mine", "Mine"), ("ending", "Ending soon, or by a file for a month")]

may_look = permission_required(["cleanup.view_run", "cleanup.view_hold"], raise_exception=True)


def _in_a_week() -> date:
    return timezone.localdate() + timedelta(days=7)


class HoldForm(forms.Form):
    """The last day counts whole."""

    last_day = forms.DateField(
        label="Hold to the end of",
        initial=_in_a_week,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        input_formats=["%Y-%m-%d"],
    )
    reason = forms.CharField(
        max_length=short_texts.MAX_REASON, widget=forms.TextInput(attrs={"autocomplete": "off"}), strip=True
    )

    def __init__(self, data: Any = None) -> None:  # noqa: ANN401
        super().__init__(data, auto_id="hold-%s", label_suffix="")

    def clean_last_day(self) -> date:
        day: date = self.cleaned_data["last_day"]
        if day > timezone.localdate() + run_holds.LONGEST:  # also keeps `until` within the calendar
            raise forms.ValidationError(run_holds.TOO_LONG)
        return day

    @property
    def until(self) -> datetime:
        return days.end_of(self.cleaned_data["last_day"])


class ExtendForm(HoldForm):
    reason = None  # type: ignore[assignment]  # so Django removes an inherited field

    def __init__(self, data: Any = None, *, hold: Hold) -> None:  # noqa: ANN401
        super().__init__(data)
        if hold.until:
            last_day = timezone.localtime(hold.until - timedelta(microseconds=1)).date()
            self.fields["last_day"].initial = min(last_day + timedelta(days=7), date.max)
            self.fields["last_day"].widget.attrs["min"] = f"{last_day + timedelta(days=1)}"


@dataclass(frozen=True)
class HoldLine:
    """`alike`: the hold is of another run, and why it keeps this one."""

    hold: Hold
    cost: Cost
    ended_at: datetime | None
    may_hold: bool = True
    alike: Likeness | None = None

    @property
    def may_be_released(self) -> bool:
        return self.may_hold and self.ended_at is None and self.hold.source == HoldSource.PERSON


@dataclass(frozen=True)
class HoldOwner:
    """Whose holds an address asks for, on runs that lie on a staging disk: a number of the audit leads to them."""

    owner: str
    source: HoldSource


def _asked_owner(request: SignedIn) -> HoldOwner | None:
    owner, source = request.GET.get("owner", ""), request.GET.get("source", "")
    # PostgreSQL takes no text with a NUL, so no row has one.
    if not owner or "\0" in owner or source not in HoldSource.values:
        return None
    return HoldOwner(owner, HoldSource(source))


@require_safe
@may_look
def hold_list(request: SignedIn) -> HttpResponse:
    now = timezone.now()
    shown = dict(SHOWN)
    chosen = request.GET.get("show", "")
    chosen = chosen if chosen in shown else SHOWN[0][0]
    places = permissions.places(request.user, permissions.VIEW).q("run__root", "run__equipment")
    holds = (in_force.ending(now) if chosen == "ending" else in_force.in_force(now)).filter(places)
    if chosen == "mine":
        holds = holds.filter(owner=request.user.get_username(), source=HoldSource.PERSON)
    by = _asked_owner(request)
    if by is not None:
        holds = holds.filter(owner=by.owner, source=by.source, run__here=True)
    ordered = holds.order_by(F("until").asc(nulls_last=True), "created_at", "pk")
    found = list(ordered.select_related("run__root").defer("run__facts")[: ADDED_UP + 1])
    page = Paginator(found[:ADDED_UP], PAGE_SIZE).get_page(request.GET.get("page"))
    context = {
        "shown": SHOWN,
        "chosen": chosen,
        "by": by,
        "page": page,
        "lines": _lines(page.object_list, now, request.user),
        "total": in_force.total_cost(found[:ADDED_UP], now),
        "cut": ADDED_UP if len(found) > ADDED_UP else 0,
        "runs": len({hold.run_id for hold in found}),
        "now": now,
    }
    return render(request, "cleanup/holds/list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@may_look
@may_hold
def hold_run(request: SignedIn, pk: int) -> HttpResponse:
    run = get_object_or_404(permissions.runs(request.user).with_root(), pk=pk)
    _expect_may(request.user, run)
    now = timezone.now()
    form = HoldForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        owner = request.user.get_username()
        try:
            laid = run_holds.hold(run, owner=owner, reason=form.cleaned_data["reason"], until=form.until, now=now)
        except HoldRefused as refused:
            form.add_error(None, str(refused))
        else:
            if request.htmx:  # the row shows it
                return redirect("run-row", pk=run.pk)
            messages.success(request, f"Held until {days.say_end(form.until, now)}, by {laid.owner}.")
            return redirect("run-detail", pk=run.pk)
    context = {"run": run, "form": form, "may_be_held": _may_be_held(run), "now": now}
    return _render(request, "hold", context, form)


@require_http_methods(["GET", "HEAD", "POST"])
@may_look
@may_hold
def extend_hold(request: SignedIn, pk: int) -> HttpResponse:
    hold = get_object_or_404(_visible(request.user), pk=pk)
    _expect_may(request.user, hold.run)
    now = timezone.now()
    form = ExtendForm(request.POST if request.method == "POST" else None, hold=hold)
    if request.method == "POST" and form.is_valid():
        words, level = (
            f"The hold of {hold.owner} lasts until {days.say_end(form.until, now)}.",
            messages.SUCCESS,
        )
        try:
            if not run_holds.extend(hold, until=form.until, actor=request.user.get_username(), now=now):
                words, level = "This hold is over, or was changed meanwhile. Nothing was done.", messages.ERROR
        except HoldRefused as refused:
            form.add_error("last_day", str(refused))
        else:
            messages.add_message(request, level, words)
            return redirect("hold-list")
    extendable = hold.source == HoldSource.PERSON and in_force.ended_at(hold, now) is None
    return _render(request, "extend", {"hold": hold, "form": form, "extendable": extendable, "now": now}, form)


@require_http_methods(["POST"])
@may_look
@may_hold
def release_hold(request: SignedIn, pk: int) -> HttpResponse:
    """Release a hold, also one of another user; a second call is harmless."""
    hold = get_object_or_404(_visible(request.user), pk=pk)
    _expect_may(request.user, hold.run)
    if hold.source == HoldSource.FILE:
        messages.error(request, "This hold lies in the run: it ends when the file .exlab-hold is taken away.")
    elif run_holds.release(hold, actor=request.user.get_username(), now=timezone.now()):
        messages.success(request, f"Released: the hold of {hold.owner} on {visible(hold.run.leaf)}.")
    else:
        messages.info(request, "This hold is over already.")
    if request.POST.get("back") == "list":
        return redirect("hold-list")
    return redirect("run-detail", pk=_page_of(request, hold))


def _page_of(request: SignedIn, hold: Hold) -> int:
    back = request.POST.get("back", "")
    kept = [run.pk for run in keeping_holds.kept_by_holds_of(hold.run_id).only("pk") if str(run.pk) == back]
    return kept[0] if kept else hold.run_id


def _visible(user: User) -> HoldQuerySet:
    places = permissions.places(user, permissions.VIEW).q("run__root", "run__equipment")
    return Hold.objects.filter(places).select_related("run__root").defer("run__facts")


def _expect_may(user: User, run: Run) -> None:
    if not permissions.may(user, permissions.HOLD, run):
        raise PermissionDenied


def _render(request: SignedIn, name: str, context: dict[str, Any], form: forms.Form) -> HttpResponse:
    """htmx shows nothing of an answer with an error status: a dialog is always 200."""
    if not wants_fragment(request):
        return render(request, f"cleanup/holds/{name}.html", context, status=422 if form.errors else 200)
    response = render(request, f"cleanup/holds/{name}.html#dialog", context)
    return reswap(retarget(response, "#slot"), "innerHTML")


def panel(run: Run, now: datetime, user: User) -> dict[str, Any]:
    holds = list(run.holds.all())
    return {
        "lines": [*_lines_of_others(run, now, user), *_lines(holds, now)],
        "total": in_force.total_cost(holds, now),
        "form": HoldForm(),
        "may_be_held": _may_be_held(run),
    }


def _lines_of_others(run: Run, now: datetime, user: User) -> list[HoldLine]:
    """The holds in force of other runs that may be this one."""
    lines = []
    for alike in keeping_holds.alike_runs(run) if _may_be_held(run) else ():
        for hold in (
            Hold.objects.in_force(now).filter(run=alike.other_id, source=HoldSource.PERSON).select_related("run")
        ):
            may_hold = permissions.may(user, permissions.HOLD, hold.run)
            lines.append(HoldLine(hold, in_force.cost(hold, now), None, may_hold=may_hold, alike=alike))
    return lines


def _may_be_held(run: Run) -> bool:
    return run.state != State.CLEARED and run.gone_at is None


def _lines(holds: Iterable[Hold], now: datetime, user: User | None = None) -> list[HoldLine]:
    return [
        HoldLine(
            hold,
            in_force.cost(hold, now),
            in_force.ended_at(hold, now),
            may_hold=user is None or permissions.may(user, permissions.HOLD, hold.run),
        )
        for hold in holds
    ]
