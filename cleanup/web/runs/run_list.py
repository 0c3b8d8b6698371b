"""The list of runs, and its rows that have changed."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from cleanup.lab import readiness
from cleanup.lab.people import permissions
from cleanup.models import RunQuerySet
from cleanup.monitoring import surroundings, watchdog
from cleanup.rules.states import State
from cleanup.runs import run_status
from cleanup.web.decorators import JUDGED_AT_ONCE, may_look
from cleanup.web.paging import CLEARED_ORDER, LARGEST, ORDERS, PAGE_SIZE, Page, RunOrder, page_of
from cleanup.web.requests import SignedIn
from cleanup.web.runs import run_rows, selection
from cleanup.web.runs.filters import address_of, chosen_filters, filter_form, query_of, without_empty
from cleanup.web.runs.run_rows import ChosenRuns

# A wait of less than a day is counted down in minutes.
COUNTED_DOWN = timedelta(days=1)
# The orders that clicks on a column's name go through.
COLUMNS = {
    "name": ("name",),
    "size": ("size",),
    "files": ("files",),
    "verified": ("oldest", "newest"),
    "verdict": ("",),
}
DIRECTIONS = {"name": "ascending", "oldest": "ascending", "newest": "descending", "size": "descending"}


@require_safe
@may_look
def run_list(request: SignedIn) -> HttpResponse:
    if not request.htmx and (elsewhere := without_empty(request)) is not None:
        return elsewhere
    now = timezone.now()
    around = surroundings.look(request.user, now)
    form = filter_form(request, around.mine)
    chosen = form.chosen()
    hindrances = readiness.hindrances()
    context: dict[str, Any] = {
        "form": form,
        "chosen": chosen,
        "several_roots": form.has_several_roots,
        "roots_in_trouble": [root for root in around.mine if root.problem],
        "queue_is_silent": around.queue_is_silent(),
        "unwatched": around.unwatched,
        "hindrances": hindrances,
        "selection": selection.selection_of(request),
        "here": request.get_full_path(),
        "now": now,
        **_filter_links(chosen),
    }
    shown = (
        _cleared(request, chosen, now)
        if chosen.get("state") == State.CLEARED
        else _staged(request, chosen, around.troubled(hindrances), now)
    )
    page, picked = shown["page"], context["selection"].keys
    context["rows"] = run_rows.rows_of(page.keys, hindrances, now, request.user, picked, breakers=around.findings)
    links = {
        "previous": page.before and address_of(chosen, before=page.before),
        "next": page.after and address_of(chosen, after=page.after),
        "first": page.before and address_of(chosen),
    }
    return render(request, "cleanup/runs/list.html", {**context, **shown, "links": links})


@require_safe
@may_look
def run_row(request: SignedIn, pk: int) -> HttpResponse:
    now = timezone.now()
    run = run_rows.shown_or_404(request.user, pk)
    row = run_rows.row_of(run, now, request.user, selection.picked(request))
    return render(request, "cleanup/runs/_row.html", {"row": row, "now": now})


@require_safe
@may_look
def run_changes(request: SignedIn) -> HttpResponse:
    """The rows and sums of a list that have changed.

    `seen` has the rows with the changes that the page knows: `17.3,18.1`. A row that counts minutes is always sent.
    """
    now = timezone.now()
    seen = _read_seen(request.GET.get("seen", ""))
    run_status.judge_stale(now, limit=JUDGED_AT_ONCE)
    standing = permissions.runs(request.user).filter(pk__in=seen).order_by().values_list("pk", "doubts", "judge_after")
    found = list(standing)
    changed = [key for key, doubts, _at in found if doubts != seen[key]]
    ticking = [key for key, _doubts, at in found if at is not None and now < at <= now + COUNTED_DOWN]
    if not changed and not ticking:
        return HttpResponse(status=204)
    hindrances = readiness.hindrances()
    keys = [key for key in seen if key in {*changed, *ticking}]
    rows = run_rows.rows_of(keys, hindrances, now, request.user, selection.picked(request))
    context: dict[str, Any] = {"rows": rows, "now": now, "oob": True}
    chosen = chosen_filters(request)
    if changed and chosen.get("state") != State.CLEARED:
        found_now, troubled = run_rows.chosen_runs(request.user, chosen, now), run_rows.troubled_roots(hindrances)
        context |= {"chosen": chosen, "totals": _totals(found_now, chosen, troubled)}
    return render(request, "cleanup/runs/list.html#changes", context)


def queue_is_silent(now: datetime, *, host: str | None = None) -> bool:
    """Whether a clear would only wait, on one host or on all."""
    beating = watchdog.beating_hosts(now)
    return not beating if host is None else host not in beating


def _staged(request: SignedIn, chosen: dict[str, str], troubled: Sequence[int], now: datetime) -> dict[str, Any]:
    some_left = run_status.judge_for_page(now, limit=JUDGED_AT_ONCE)
    verdict = chosen.get("verdict", "")
    found = run_rows.chosen_runs(request.user, chosen, now)
    page = _page(request, ORDERS[chosen.get("sort", "")], run_rows.with_verdict(found.runs, verdict, troubled))
    totals = _totals(found, chosen, troubled)
    counted = [one["total"] for one in totals if verdict in ("", one["total"].tone.code)]
    return {
        "page": page,
        "totals": totals,
        "number": sum(total.runs for total in counted),
        "more": any(total.more for total in counted),
        "unjudged": run_status.unjudged(permissions.runs(request.user), limit=run_rows.COUNTED) if some_left else 0,
        "safe": next(one["total"] for one in totals if one["total"].tone.code == "go"),
    }


def _cleared(request: SignedIn, chosen: dict[str, str], now: datetime) -> dict[str, Any]:
    found = run_rows.chosen_runs(request.user, chosen, now)
    number = run_rows.COUNTED + 1 if found.over else run_rows.counted(found.runs)
    page = _page(request, CLEARED_ORDER, found.runs)
    return {"page": page, "number": min(number, run_rows.COUNTED), "more": number > run_rows.COUNTED}


def _page(request: SignedIn, order: RunOrder, runs: RunQuerySet) -> Page:
    after, before = request.GET.get("after", ""), request.GET.get("before", "")
    return page_of(runs, order, among=permissions.runs(request.user), after=after, before=before)


def _totals(runs: ChosenRuns, chosen: dict[str, str], troubled: Sequence[int]) -> list[dict[str, Any]]:
    found = run_rows.totals(runs.runs, troubled, many=runs.many)
    current = chosen.get("verdict", "")
    return [
        {
            "total": total,
            "current": total.tone.code == current,
            "href": address_of(chosen, verdict="" if total.tone.code == current else total.tone.code),
        }
        for total in found
    ]


def _filter_links(chosen: dict[str, str]) -> dict[str, Any]:
    return {
        "query": query_of(chosen),
        "without_reason": address_of(chosen, reason=""),
        "without_opens": address_of(chosen, opens=""),
        "without_freed": address_of(chosen, freed=""),
        "columns": {name: _column(chosen, orders) for name, orders in COLUMNS.items()},
    }


def _column(chosen: dict[str, str], orders: Sequence[str]) -> dict[str, str]:
    current = chosen.get("sort", "")
    position = orders.index(current) + 1 if current in orders else 0
    wanted = orders[position % len(orders)]
    sorted_now = DIRECTIONS.get(current, "other") if current in orders else ""
    return {"href": address_of(chosen, sort=wanted), "sorted": sorted_now}


def _read_seen(text: str) -> dict[int, int]:
    seen: dict[int, int] = {}
    for part in text[: 40 * PAGE_SIZE].split(",")[: 2 * PAGE_SIZE]:
        key, _, doubts = part.partition(".")
        plain = all(one.isascii() and one.isdigit() and len(one) < len(str(LARGEST)) for one in (key, doubts))
        if plain:
            seen[int(key)] = int(doubts)
    return seen
