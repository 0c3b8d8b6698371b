"""“Make room”: so much space, on one staging root, by a given time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any

from django import forms
from django.db.models import Sum
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from cleanup.clears import preview
from cleanup.clears.making_room import clear_time, other_runs, room_plan
from cleanup.clears.making_room.other_runs import RoomWay, StayingSum
from cleanup.clears.making_room.room_plan import RoomOrder, RoomPlan
from cleanup.lab import days, readiness
from cleanup.lab.people import permissions
from cleanup.models import ClearBatch, StagingRoot, WaitingRun
from cleanup.rules import quantities
from cleanup.rules.clear_pace import ClearPace
from cleanup.rules.remedies import Where
from cleanup.runs import run_status
from cleanup.text.room import moment_words, way_words
from cleanup.text.values import visible
from cleanup.web.clears.estimate import whole_minutes
from cleanup.web.decorators import JUDGED_AT_ONCE, may_clear, may_look
from cleanup.web.requests import SignedIn

# The page shows this many of the runs; the next page shows all.
IN_SIGHT = 20
# At most this many ways out and waiting batches are named.
NAMED = 8


class RoomForm(forms.Form):
    """The space that has to be free, where, and by when."""

    bytes = forms.CharField(
        label="I need",
        max_length=30,
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "400 GB", "inputmode": "text"}),
        error_messages={"required": "Type how much has to be free, such as 400 GB."},
    )
    root = forms.ChoiceField(label="free on")
    by = forms.TimeField(
        label="by",
        required=False,
        input_formats=["%H:%M"],
        widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
        error_messages={"invalid": "Type a time such as 14:00."},
    )
    order = forms.ChoiceField(
        label="Which go first",
        required=False,
        choices=[(RoomOrder.OLDEST, "the oldest"), (RoomOrder.LARGEST, "the largest")],
    )

    def __init__(self, data: Any, *, roots: Sequence[StagingRoot]) -> None:  # noqa: ANN401
        super().__init__(data, auto_id="room-%s", label_suffix="")
        self.fields["root"].choices = [(str(root.pk), visible(root.name)) for root in roots]  # type: ignore[attr-defined]

    def clean_bytes(self) -> int:
        try:
            size = quantities.parse_bytes(self.cleaned_data["bytes"])
        except ValueError:
            raise forms.ValidationError("This is no size: type one such as 400 GB, 1.5 TB or 200 GiB.") from None
        if not size:
            raise forms.ValidationError("Type a size above 0.")
        return size


@dataclass(frozen=True, kw_only=True)
class WayLine:
    """One way out: what to do, what it would give (allocated bytes), and the pages that lead to it."""

    words: str
    way: RoomWay
    reasons: tuple[tuple[StayingSum, str], ...]


@dataclass(frozen=True, kw_only=True)
class InTime:
    """Whether a plan is done by a time; `by_then` allocated bytes are free of it then, if it is not."""

    by: datetime
    said: str
    ready: datetime
    by_then: int

    @property
    def fits(self) -> bool:
        return self.ready <= self.by


@require_safe
@may_look
@may_clear
def make_room(request: SignedIn) -> HttpResponse:
    """A plan for the space asked for. Nothing is cleared here: the next page shows each run and asks."""
    now = timezone.now()
    some_left = run_status.judge_for_page(now, limit=JUDGED_AT_ONCE)
    roots = list(permissions.roots(request.user, permissions.CLEAR).order_by("name"))
    asked = "bytes" in request.GET
    first = {"root": str(roots[0].pk) if roots else "", **request.GET.dict()}
    form = RoomForm(first if asked else None, roots=roots)
    if not asked:
        form.initial = {"root": first["root"]}
    context: dict[str, Any] = {"form": form, "roots": roots, "now": now, "hindrances": readiness.hindrances()}
    if asked and form.is_valid():
        first["bytes"] = quantities.say_bytes(form.cleaned_data["bytes"])  # an address may have a plain number
        (root,) = (root for root in roots if str(root.pk) == form.cleaned_data["root"])
        context |= _planned(request, form, root, now)
        context["unjudged"] = run_status.unjudged(permissions.runs(request.user).filter(root=root)) if some_left else 0
    return render(request, "cleanup/clears/room.html", context, status=422 if asked and form.errors else 200)


def _planned(request: SignedIn, form: RoomForm, root: StagingRoot, now: datetime) -> dict[str, Any]:
    order = RoomOrder(form.cleaned_data["order"] or RoomOrder.OLDEST)
    wanted = form.cleaned_data["bytes"]
    plan = room_plan.make_plan(
        preview.safe_on(request.user, root), root, wanted, order=order, disk=room_plan.room_of(root)
    )
    pace = clear_time.paces().get(root.name, ClearPace()) if plan.runs else ClearPace()
    takes = clear_time.time_of_runs(plan.runs, pace, now) if plan.runs else None
    asked = {"root": root.name, "bytes": wanted, "order": order}
    return {
        "root": root,
        "plan": plan,
        "runs": plan.runs[:IN_SIGHT],
        "more_runs": max(len(plan.runs) - IN_SIGHT, 0),
        "takes": whole_minutes(takes),
        "ready": None if takes is None else now + takes,
        "ready_said": "" if takes is None else moment_words(now + takes, now, about=True),
        "in_time": _in_time(plan, form.cleaned_data["by"], takes, now),
        "ways": _ways(request, root, now) if plan.choice.short else [],
        "waiting": _waiting(request, root, now),
        "question": f"{reverse('clear-runs')}?{urlencode(asked)}",
        "most": preview.MAX_RUNS,
    }


def _in_time(plan: RoomPlan, by: time | None, takes: timedelta | None, now: datetime) -> InTime | None:
    if by is None or takes is None:
        return None
    until = days.next_at(by, now)
    share = min((until - now) / takes, 1.0) if takes else 1.0
    return InTime(by=until, said=moment_words(until, now), ready=now + takes, by_then=int(plan.choice.gives * share))


def _ways(request: SignedIn, root: StagingRoot, now: datetime) -> list[WayLine]:
    found = other_runs.ways_on(permissions.runs(request.user), root, now)
    return [
        WayLine(words=way_words(way), way=way, reasons=tuple((one, _address(root, way, one)) for one in way.sums))
        for way in found[:NAMED]
        if way.gives
    ]


def _address(root: StagingRoot, way: RoomWay, one: StayingSum) -> str:
    if one.runs == 1:
        return reverse("run-detail", args=[one.key])
    if way.where is Where.PROBLEMS:
        return reverse("problem-list")
    filters = {"root": root.name, "verdict": one.tone.code, "reason": one.reason}
    return f"{reverse('run-list')}?{urlencode({name: value for name, value in filters.items() if value})}"


def _waiting(request: SignedIn, root: StagingRoot, now: datetime) -> Iterable[ClearBatch]:
    """The batches that wait with runs of a root that the user sees, with the sum of these runs."""
    waiting = ClearBatch.objects.filter(starts_at__isnull=False, started_at=None, stopped_at=None)
    mine = permissions.runs(request.user).filter(root=root)
    rows = WaitingRun.objects.filter(batch__in=waiting, run__in=mine).order_by().values("batch")
    sums = {row["batch"]: row["size"] for row in rows.annotate(size=Sum("allocated_bytes"))[:NAMED]}
    batches = list(waiting.filter(pk__in=sums).order_by("starts_at", "pk")) if sums else []
    for batch in batches:
        batch.gives = sums[batch.pk]  # type: ignore[attr-defined]  # for the template
        batch.said = moment_words(batch.starts_at or now, now)  # type: ignore[attr-defined]
    return batches
