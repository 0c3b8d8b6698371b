"""What a user may do with all selected runs beside clearing them: hold, release, be reminded, take as a file."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from cleanup.lab.people import permissions
from cleanup.ledger import exports
from cleanup.models import Run, RunReminder
from cleanup.rules import short_texts
from cleanup.runs import run_status, selected_table
from cleanup.runs.holds import many_holds, run_reminders
from cleanup.runs.holds.many_holds import DoneWithRun
from cleanup.runs.holds.run_reminders import NoReminder
from cleanup.text import values
from cleanup.web.decorators import may_clear, may_look
from cleanup.web.holds import HoldForm
from cleanup.web.requests import SignedIn
from cleanup.web.runs import selection

NOT_YOURS = "your role does not let you hold runs of this instrument"
# The page names this many runs; the others unfold.
IN_SIGHT = 12
# Judged before the answer, so that the list shows the holds at once.
JUDGED = 300


class ReminderForm(forms.Form):
    """An instant in the lab's zone."""

    at = forms.DateTimeField(
        label="Remind me at",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"],
    )
    note = forms.CharField(
        max_length=short_texts.MAX_REASON, required=False, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )

    def __init__(self, data: Any = None) -> None:  # noqa: ANN401
        super().__init__(data, auto_id="remind-%s", label_suffix="")


class ReleaseForm(forms.Form):
    """Whose holds end."""

    whose = forms.ChoiceField(
        label="Which holds",
        choices=[("own", "My own holds"), ("all", "All holds of people")],
        initial="own",
        widget=forms.RadioSelect,
    )

    def __init__(self, data: Any = None) -> None:  # noqa: ANN401
        super().__init__(data, auto_id="release-%s", label_suffix="")


@dataclass(frozen=True)
class DoneWithAll:
    """What was done with the selected runs; `verb`: `held`. `undone` come first."""

    verb: str
    done: list[DoneWithRun]
    undone: list[DoneWithRun]

    @classmethod
    def of(cls, verb: str, told: Sequence[DoneWithRun]) -> "DoneWithAll":
        """Sorted by what was done."""
        return cls(verb, [each for each in told if each.is_done], [each for each in told if not each.is_done])

    @property
    def said(self) -> str:
        """`8 held, 2 not`."""
        left = f", {len(self.undone):,} not" if self.undone else ""
        return f"{values.runs(len(self.done))} {self.verb}{left}"


@require_safe
@may_look
@may_clear
def selected_runs(request: SignedIn) -> HttpResponse:
    """The selected runs, and what can be done with all of them."""
    return _page(request, _runs(request))


@require_POST
@may_look
@may_clear
def hold_selected(request: SignedIn) -> HttpResponse:
    """Hold every selected run: one reason, one end."""
    runs, now, form = _runs(request), timezone.now(), HoldForm(request.POST)
    if form.is_valid() and form.until <= now:
        form.add_error("last_day", "The end of a hold must lie in the future.")
    if not form.is_valid():
        return _page(request, runs, hold_form=form)
    owner, reason, until = request.user.get_username(), form.cleaned_data["reason"], form.until

    def hold(some: Iterable[Run]) -> list[DoneWithRun]:
        return many_holds.hold_all(some, owner=owner, reason=reason, until=until, now=now)

    return _do(request, runs, f"held to the end of {form.cleaned_data['last_day']}", now, hold)


@require_POST
@may_look
@may_clear
def release_selected(request: SignedIn) -> HttpResponse:
    """Release the user's holds on every selected run, or all holds of people."""
    runs, now, form = _runs(request), timezone.now(), ReleaseForm(request.POST)
    if not form.is_valid():
        return _page(request, runs, release_form=form)
    only_own, actor = form.cleaned_data["whose"] == "own", request.user.get_username()

    def release(some: Iterable[Run]) -> list[DoneWithRun]:
        return many_holds.release_all(some, actor=actor, now=now, only_own=only_own, may=may)

    def may(run: Run) -> bool:
        return permissions.may(request.user, permissions.HOLD, run)

    return _do(request, runs, "released", now, release)


@require_POST
@may_look
@may_clear
def remind_of_selected(request: SignedIn) -> HttpResponse:
    """Remind the user of every selected run at an instant."""
    runs, now, form = _runs(request), timezone.now(), ReminderForm(request.POST)
    if form.is_valid():
        note = form.cleaned_data["note"]
        try:
            told = run_reminders.remind_all(runs, user=request.user, at=form.cleaned_data["at"], note=note, now=now)
        except NoReminder as refused:
            form.add_error("at", str(refused))
        else:
            return _page(request, runs, result=DoneWithAll.of("to be reminded of", told))
    return _page(request, runs, remind_form=form)


@require_safe
@may_look
@may_clear
def selected_file(request: SignedIn) -> HttpResponse:
    """The selected runs as CSV, as the files of the audit are."""
    runs = _runs(request)
    headers = {"Content-Disposition": 'attachment; filename="exlab-selected-runs.csv"'}
    parts = exports.as_csv(selected_table.table(runs), bom=True)
    return HttpResponse(b"".join(parts), content_type="text/csv; charset=utf-8", headers=headers)


@require_POST
@may_look
def finish_reminder(request: SignedIn, pk: int) -> HttpResponse:
    """Say that a reminder of the user's own is done; a second call is harmless."""
    reminder = get_object_or_404(RunReminder, pk=pk, user=request.user)
    if run_reminders.finish(reminder, timezone.now()):
        messages.success(request, "The reminder is done.")
    return redirect("run-detail", pk=reminder.run_id)


def _runs(request: SignedIn) -> list[Run]:
    """The selected runs that the user may see and that are still here, largest first."""
    keys = selection.chosen(request)
    found = permissions.runs(request.user).select_related("root").defer("facts").in_bulk(keys)
    return [found[key] for key in keys if key in found]


def _do(
    request: SignedIn,
    runs: Sequence[Run],
    verb: str,
    now: datetime,
    act: Callable[[Iterable[Run]], list[DoneWithRun]],
) -> HttpResponse:
    """Act on the runs that the user may hold, and tell of each."""
    may = request.user.has_perm(permissions.HOLD)
    mine = [run for run in runs if may and permissions.may(request.user, permissions.HOLD, run)]
    keys = {run.pk for run in mine}
    told = act(mine) + [DoneWithRun(run, False, NOT_YOURS) for run in runs if run.pk not in keys]
    run_status.judge_stale(now, limit=JUDGED)
    return _page(request, runs, result=DoneWithAll.of(verb, told))


def _page(request: SignedIn, runs: Sequence[Run], **more: Any) -> HttpResponse:  # noqa: ANN401
    context = {
        "runs": runs,
        "in_sight": runs[:IN_SIGHT],
        "folded": runs[IN_SIGHT:],
        "size": sum(run.bytes or 0 for run in runs),
        "may_hold": request.user.has_perm(permissions.HOLD),
        "hold_form": HoldForm(),
        "release_form": ReleaseForm(),
        "remind_form": ReminderForm(),
        "now": timezone.now(),
        **more,
    }
    wrong = any(isinstance(form, forms.Form) and form.errors for form in context.values())
    return render(request, "cleanup/runs/selected.html", context, status=422 if wrong else 200)
