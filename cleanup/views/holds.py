"""Holds: who holds which run and at what cost, laying one, releasing one."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.core.paginator import Paginator
from django.db.models import F
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from cleanup import holding
from cleanup.holding import Cost, HoldRefused
from cleanup.models import Hold, HoldSource, Run
from cleanup.policy.lifecycle import State
from cleanup.views.requests import SignedIn

PAGE_SIZE = 50
SHOWN = [("all", "All holds"), ("mine", "Mine"), ("ending", "Ending soon, or by a file for a month")]

may_look = permission_required(["cleanup.view_run", "cleanup.view_hold"], raise_exception=True)
may_hold = permission_required("cleanup.hold_run", raise_exception=True)


class HoldForm(forms.Form):
    """Until when, and why. The last day counts whole, in the zone of the pages."""

    last_day = forms.DateField(
        label="Hold to the end of",
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        input_formats=["%Y-%m-%d"],
    )
    reason = forms.CharField(
        max_length=holding.REASON_LENGTH, widget=forms.TextInput(attrs={"autocomplete": "off"}), strip=True
    )

    def __init__(self, data: Any = None) -> None:  # noqa: ANN401
        super().__init__(data, auto_id="hold-%s", label_suffix="")

    def clean_last_day(self) -> date:
        day: date = self.cleaned_data["last_day"]
        if day > timezone.localdate() + holding.LONGEST:  # also far from the end of the calendar
            raise forms.ValidationError("A hold may last ten years at the most; it can be laid again.")
        return day

    @property
    def until(self) -> datetime:
        """The first instant after the last day."""
        after = self.cleaned_data["last_day"] + timedelta(days=1)
        return datetime.combine(after, time.min, tzinfo=timezone.get_current_timezone())


@dataclass(frozen=True)
class Line:
    """One hold as a page shows it. `ended_at` is when it stopped to hold, None while it does."""

    hold: Hold
    cost: Cost
    ended_at: datetime | None

    @property
    def may_be_released(self) -> bool:
        return self.ended_at is None and self.hold.source == HoldSource.PERSON


@require_safe
@may_look
def hold_list(request: SignedIn) -> HttpResponse:
    now = timezone.now()
    shown = dict(SHOWN)
    chosen = request.GET.get("show", "")
    chosen = chosen if chosen in shown else SHOWN[0][0]
    holds = holding.ending(now) if chosen == "ending" else holding.in_force(now)
    if chosen == "mine":
        holds = holds.filter(owner=request.user.get_username(), source=HoldSource.PERSON)
    ordered = holds.order_by(F("until").asc(nulls_last=True), "created_at", "pk")
    found = list(ordered.select_related("run__root").defer("run__facts"))
    page = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {
        "shown": SHOWN,
        "chosen": chosen,
        "page": page,
        "lines": _lines(page.object_list, now),
        "total": holding.total_cost(found, now),
        "runs": len({hold.run_id for hold in found}),
        "now": now,
    }
    return render(request, "cleanup/holds.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@may_look
@may_hold
def hold_run(request: SignedIn, pk: int) -> HttpResponse:
    """Lay a hold, its owner whoever asks for it."""
    run = get_object_or_404(Run.objects.with_root(), pk=pk)
    now = timezone.now()
    form = HoldForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        owner = request.user.get_username()
        try:
            laid = holding.hold(run, owner=owner, reason=form.cleaned_data["reason"], until=form.until, now=now)
        except HoldRefused as refused:
            form.add_error(None, str(refused))
        else:
            messages.success(request, f"Held to the end of {form.cleaned_data['last_day']}, by {laid.owner}.")
            return redirect("run-detail", pk=run.pk)
    context = {"run": run, "form": form, "may_be_held": _may_be_held(run), "now": now}
    return render(request, "cleanup/hold_form.html", context, status=422 if form.errors else 200)


@require_http_methods(["POST"])
@may_look
@may_hold
def release_hold(request: SignedIn, pk: int) -> HttpResponse:
    """Release somebody's hold, whoever's it is: the row says who did. Twice is harmless."""
    hold = get_object_or_404(Hold.objects.select_related("run"), pk=pk)
    if hold.source == HoldSource.FILE:
        messages.error(request, "This hold lies in the run: it ends when the file .exlab-hold is taken away.")
    elif holding.release(hold, actor=request.user.get_username(), now=timezone.now()):
        messages.success(request, f"Released: the hold of {hold.owner}.")
    else:
        messages.info(request, "This hold is over already.")
    return redirect("run-detail", pk=hold.run_id)


def panel(run: Run, now: datetime) -> dict[str, Any]:
    """What a run's page shows of its holds: all that there were, what they cost together, and the form for another."""
    holds = list(run.holds.all())
    return {
        "lines": _lines(holds, now),
        "total": holding.total_cost(holds, now),
        "form": HoldForm(),
        "may_be_held": _may_be_held(run),
    }


def _may_be_held(run: Run) -> bool:
    return run.state != State.CLEARED and run.gone_at is None


def _lines(holds: Iterable[Hold], now: datetime) -> list[Line]:
    return [Line(hold, holding.cost(hold, now), holding.ended_at(hold, now)) for hold in holds]
