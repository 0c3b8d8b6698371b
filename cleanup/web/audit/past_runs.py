"""Runs of the past: found by what is known of them, with their receipts, and whether the NAS still has them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from threading import BoundedSemaphore
from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.validators import MaxValueValidator, MinValueValidator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_POST, require_safe

from cleanup.lab.people import permissions
from cleanup.ledger import period
from cleanup.models import ClearAttempt, Instrument, Project, Run, RunQuerySet, fold_name
from cleanup.rules.states import State
from cleanup.runs import file_names
from cleanup.runs.file_names import CLEARED_IN, FileSearch, FoundNames, NotRead
from cleanup.runs.proofs import still_there
from cleanup.text.values import visible
from cleanup.web.caching import wants_fragment
from cleanup.web.paging import PAGE_SIZE, PAST_ORDERS, RunOrder, page_of, walk
from cleanup.web.requests import SignedIn
from cleanup.web.runs import run_rows
from cleanup.web.runs.forms import SearchField

_NAME = {"autocomplete": "off", "spellcheck": "false"}
_ANY_DAY = [MinValueValidator(date(1970, 1, 1)), MaxValueValidator(date(9998, 12, 31))]
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_FIELDS = ("q", "file", "equipment", "project", "person", "since", "until", "sort")
_SORTS = [("", "Latest clear first"), ("first", "Oldest clear first"), ("person", "By who asked for it")]
# The orders that clicks on the column's name go through.
_NEXT_SORT = {"": ("first", "descending"), "first": ("", "ascending"), "person": ("", "other")}
# A search by file name reads files: a page of it ends after this time, and keeps a thread from the other pages.
_SECONDS = 2.0
_AT_A_TIME = 2
_turns = BoundedSemaphore(_AT_A_TIME)
_CANDIDATES = 200  # runs asked of the database at once


class DayInput(forms.DateInput):
    """A browser's own field for a day, empty where the address names none."""

    def __init__(self) -> None:
        super().__init__(attrs={"type": "date"}, format="%Y-%m-%d")

    def format_value(self, value: Any) -> str | None:  # noqa: ANN401
        shown = super().format_value(value)
        return shown if shown and _DAY.fullmatch(shown) else None


class PastRunForm(forms.Form):
    """Drops what is no day, and cuts what is too long: every address leads to a page."""

    q = SearchField()
    file = forms.CharField(label="File name", required=False, max_length=255)
    equipment = forms.CharField(label="Instrument", required=False, max_length=255)
    project = forms.CharField(required=False, max_length=255)
    person = forms.CharField(label="Asked for by", required=False, max_length=150)
    since = forms.DateField(label="Cleared from", required=False, validators=_ANY_DAY)
    until = forms.DateField(label="Cleared to", required=False, validators=_ANY_DAY)
    sort = forms.ChoiceField(label="Order", choices=_SORTS, required=False)

    def __init__(self, data: Any) -> None:  # noqa: ANN401
        super().__init__(data, auto_id="past-%s", label_suffix="")
        self.fields["q"].label = "Words of the path, the title or a person"
        for name in ("file", "equipment", "project", "person"):
            listed = {} if name == "file" else {"list": f"known-{name}"}
            self.fields[name].widget = forms.TextInput(attrs={**_NAME, **listed})
        for name in ("since", "until"):
            self.fields[name].widget = DayInput()

    def chosen(self) -> dict[str, Any]:
        """What is asked for, by the names of the fields."""
        self.is_valid()
        return {name: self.cleaned_data[name] for name in _FIELDS if self.cleaned_data.get(name)}


@dataclass(frozen=True)
class PastRun:
    """A cleared run and the attempt that cleared it; None: another program did.

    `may_look`: the reader may open the run's page. `files`: its files of the name that was asked for.
    """

    run: Run
    clear: ClearAttempt | None
    may_look: bool
    files: FoundNames | None = None

    @property
    def is_partial(self) -> bool:
        return self.clear is not None and self.clear.incomplete


@dataclass(frozen=True)
class UnreadRuns:
    """Runs that were not looked into for one reason; `host`: where their lists are."""

    why: NotRead
    host: str
    runs: int


@require_safe
def past_run_list(request: SignedIn) -> HttpResponse:
    """The cleared runs that a user may see, the latest first."""
    seen = _seen(request)
    form = PastRunForm(request.GET)
    chosen = form.chosen()
    runs = _found(seen, chosen)
    page = _with_file(request, runs, seen, chosen) if "file" in chosen else _listed(request, runs, seen, chosen)
    asked = {name: value for name, value in chosen.items() if name != "sort"}
    following, direction = _NEXT_SORT[chosen.get("sort", "")]
    context = {"form": form, "chosen": asked, "known": _known(request.user), "links": {}, "now": timezone.now(), **page}
    context |= {"sorted": direction, "sort_link": _address({**asked, **({"sort": following} if following else {})})}
    return render(request, "cleanup/audit/past_runs.html", context, status=503 if page.get("busy") else 200)


def _listed(request: SignedIn, runs: RunQuerySet, seen: RunQuerySet, chosen: dict[str, Any]) -> dict[str, Any]:
    after, before = request.GET.get("after", ""), request.GET.get("before", "")
    page = page_of(runs, _order(chosen), among=seen, after=after, before=before)
    links = {
        "previous": page.before and _address(chosen, before=page.before),
        "next": page.after and _address(chosen, after=page.after),
        "first": page.before and _address(chosen),
    }
    return {"rows": _rows(page.keys, request.user), "links": links}


def _with_file(request: SignedIn, runs: RunQuerySet, seen: RunQuerySet, chosen: dict[str, Any]) -> dict[str, Any]:
    """The runs with a file of this name, as far as the time of a page goes."""
    after = request.GET.get("after", "")
    if not _turns.acquire(blocking=False):
        return {"busy": _AT_A_TIME, "again": request.get_full_path()}
    try:
        candidates = walk(runs, _order(chosen), among=seen, after=after, size=_CANDIDATES)
        said = file_names.search(candidates, chosen["file"], size=PAGE_SIZE, seconds=_SECONDS)
    finally:
        _turns.release()
    key, place = said.last or (0, "")
    links = {"first": after and _address(chosen), "further": _address(chosen, after=place) if said.goes_on else ""}
    return {
        "rows": _rows(list(said.found), request.user, said.found),
        "links": links,
        "search": said,
        "unread": [UnreadRuns(why, visible(host), number) for (why, host), number in said.unread.most_common()],
        "first_unread": _first_unread(said),
        "back_to": Run.objects.filter(pk=key).values_list("cleared_at", flat=True).first(),
    }


def _first_unread(said: FileSearch) -> list[Run]:
    known = Run.objects.select_related("root").defer("facts").in_bulk([each.run for each in said.first_unread])
    return [known[each.run] for each in said.first_unread if each.run in known]


@require_POST
def ask_nas(request: SignedIn, pk: int) -> HttpResponse:
    """Ask the NAS for one cleared run."""
    run = get_object_or_404(_seen(request).select_related("root"), pk=pk)
    (row,) = _rows([run.pk], request.user)
    answer = still_there.ask(run, row.clear, timezone.now())
    template = "cleanup/audit/_on_nas.html" if wants_fragment(request) else "cleanup/audit/on_nas.html"
    return render(request, template, {"row": row, "run": run, "answer": answer})


def _seen(request: SignedIn) -> RunQuerySet:
    """The cleared runs that a user may see: an auditor all. Raises PermissionDenied."""
    user = request.user
    if not (user.has_perm(permissions.AUDIT) or user.has_perm(permissions.VIEW)):
        raise PermissionDenied
    runs = Run.objects.all() if user.has_perm(permissions.AUDIT) else permissions.runs(user)
    return runs.filter(state=State.CLEARED)


def _order(chosen: dict[str, Any]) -> RunOrder:
    return PAST_ORDERS[chosen.get("sort", "")]


def _found(runs: RunQuerySet, chosen: dict[str, Any]) -> RunQuerySet:
    same = {"equipment": "equipment", "project": "project"}
    if person := chosen.get("person"):
        runs = runs.filter(cleared_for=_as_written(person))
    runs = runs.filter(**{column: chosen[name] for name, column in same.items() if name in chosen})
    if since := chosen.get("since"):
        runs = runs.filter(cleared_at__gte=period.Period(since, since).begins_at)
    if until := chosen.get("until"):
        runs = runs.filter(cleared_at__lt=period.Period(until, until).ends_at)
    return run_rows.searched(runs, chosen.get("q", "")).runs


def _as_written(person: str) -> str:
    """The account that is meant, where only the case of letters is another; the text itself where none is."""
    if User.objects.filter(username=person).exists():
        return person
    names = User.objects.order_by("pk").values_list("username", flat=True)
    return next((name for name in names if fold_name(name) == fold_name(person)), person)


def _rows(keys: list[int], user: User, files: Mapping[int, FoundNames] | None = None) -> list[PastRun]:
    runs = Run.objects.select_related("root").defer("facts").in_bulk(keys)
    attempts = (
        ClearAttempt.objects.clears().filter(run__in=keys, phase__in=CLEARED_IN).select_related("proof__accepted")
    )
    clears = {attempt.run_id: attempt for attempt in attempts.order_by("created_at").defer("decision", "decided_by")}
    return [
        PastRun(run, clears.get(key), permissions.may(user, permissions.VIEW, run), files.get(key) if files else None)
        for key in keys
        if (run := runs.get(key)) is not None
    ]


def _known(user: User) -> dict[str, list[str]]:
    """Names that the form suggests; older ones may be typed. Only an auditor reads the names of all accounts."""
    if user.has_perm(permissions.AUDIT):
        instruments = Instrument.objects.order_by("equipment").values_list("equipment", flat=True).distinct()
        projects = Project.objects.order_by("code").values_list("code", flat=True)
        people = list(User.objects.order_by("username").values_list("username", flat=True)[: run_rows.OFFERED])
        return {
            "equipment": [*instruments[: run_rows.OFFERED]],
            "project": [*projects[: run_rows.OFFERED]],
            "person": people,
        }
    offered = run_rows.choices(user)
    return {"equipment": offered.equipment, "project": [code for code, _words in offered.projects], "person": []}


def _address(chosen: dict[str, Any], **changes: str) -> str:
    wanted = {**{name: str(value) for name, value in chosen.items()}, **changes}
    return reverse("past-run-list") + (f"?{urlencode(wanted)}" if wanted else "")
