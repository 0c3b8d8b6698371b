"""The filters of the list in an address."""

from collections.abc import Sequence

from django.http import HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode

from cleanup.models import StagingRoot
from cleanup.web.requests import SignedIn
from cleanup.web.runs import run_rows
from cleanup.web.runs.forms import FilterForm


def filter_form(request: SignedIn, roots: Sequence[StagingRoot] | None = None) -> FilterForm:
    """The form of an address; `roots` are those that the user may see, where they were read already."""
    names = run_rows.root_choices(request.user) if roots is None else [root.name for root in roots]
    offered = run_rows.choices(request.user)
    return FilterForm(
        request.GET, roots=names, equipment=offered.equipment, projects=offered.projects, people=offered.people
    )


def chosen_filters(request: SignedIn) -> dict[str, str]:
    return filter_form(request).chosen()


def query_of(chosen: dict[str, str], **changes: str) -> str:
    wanted = {name: value for name, value in {**chosen, **changes}.items() if value}
    return f"?{urlencode(wanted)}" if wanted else ""


def address_of(chosen: dict[str, str], **changes: str) -> str:
    return reverse("run-list") + query_of(chosen, **changes)


def without_empty(request: SignedIn) -> HttpResponseRedirect | None:
    """Redirect a form without scripts to an address without empty filters."""
    if "" not in (value for values in dict(request.GET.lists()).values() for value in values):
        return None
    pairs = [(name, value) for name, values in request.GET.lists() for value in values if value]
    return redirect(f"{request.path}?{urlencode(pairs)}" if pairs else request.path)
