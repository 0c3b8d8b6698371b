"""“Clear now”, for one run and for many: the question and the request."""

import contextlib
import uuid
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef, Subquery
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render, resolve_url
from django.utils import timezone
from django.views.decorators.http import require_http_methods
from django_htmx.http import HttpResponseClientRedirect, reswap, retarget

from cleanup.clears import batches, preview, queue
from cleanup.clears.batches import NotConfirmed, RunsChanged
from cleanup.clears.making_room import room_plan
from cleanup.clears.making_room.room_plan import RoomOrder
from cleanup.clears.preview import ClearPreview, RequestedRuns
from cleanup.lab import readiness
from cleanup.lab.people import permissions
from cleanup.models import DiskUsage, Run, StagingRoot
from cleanup.monitoring import surroundings
from cleanup.rules import quantities
from cleanup.rules.policies.policy import ProofLevel
from cleanup.runs import run_status
from cleanup.runs.proving import proving_counts, proving_rows
from cleanup.text import clear_proofs
from cleanup.text.values import count
from cleanup.web.caching import wants_fragment
from cleanup.web.clears import estimate, ticks
from cleanup.web.clears.forms import ClearForm
from cleanup.web.decorators import JUDGED_AT_ONCE, may_clear
from cleanup.web.requests import SignedIn
from cleanup.web.runs import run_rows, selection
from cleanup.web.runs.run_rows import shown_or_404
from cleanup.web.runs.status_text import stand

# The preview shows this many runs; the others unfold.
IN_SIGHT = 20
BEING_CLEARED = "This run is being cleared already; here is how far it is."
# A change after the preview is a conflict, not a mistake in the form.
CONFLICT, MISTAKE = 409, 422


# One run


@require_http_methods(["GET", "HEAD", "POST"])
@may_clear
def clear_run(request: SignedIn, pk: int) -> HttpResponse:
    run = shown_or_404(request.user, pk)
    if not permissions.may(request.user, permissions.CLEAR, run):
        raise PermissionDenied
    now = timezone.now()
    if request.method == "POST":
        return _ask_for(request, run, now)
    return _confirm(request, run, ClearForm(), now)


def _confirm(
    request: SignedIn, run: Run, form: ClearForm, now: datetime, *, shown: ClearPreview | None = None, status: int = 200
) -> HttpResponse:
    hindrances, around = readiness.hindrances(), surroundings.look(request.user, now)
    shown = shown or preview.preview(
        request.user, RequestedRuns.of([run.pk]), now, hindrances=hindrances, breakers=around.findings
    )
    (item,) = shown.items
    _ask_ahead(request, shown, now)
    context = {
        "run": item.run,
        "item": item,
        "preview": shown,
        "standing": stand(item.run, item.attempt, item.judged, now),
        "allowed": item.goes,
        "changed": status == CONFLICT,
        "form": form,
        "hindrances": hindrances,
        "queue_is_silent": around.queue_is_silent(item.run.root.host),
        "now": now,
        **(estimate.about(shown, now) if item.goes else {}),
    }
    if not wants_fragment(request):
        return render(request, "cleanup/clears/confirm.html", context, status=status)
    # htmx shows nothing of an answer with an error status.
    answer = render(request, "cleanup/clears/confirm.html#dialog", context)
    if request.method == "POST":  # the form targets the row, this answer the dialog
        answer = reswap(retarget(answer, "#slot"), "innerHTML")
    return answer


def _ask_ahead(request: SignedIn, shown: ClearPreview, now: datetime) -> None:
    """A click will soon follow: the runs that would go are proven first."""
    if request.method != "GET":
        return
    keys = [item.run.pk for item in shown.items if item.goes and item.policy.proof is ProofLevel.CHECKSUM]
    if keys:
        proving_rows.ask(keys, now, known=proving_counts.rows_of(keys))


def _ask_for(request: SignedIn, run: Run, now: datetime) -> HttpResponse:
    form = ClearForm(request.POST)
    if not form.is_valid():
        return _confirm(request, run, form, now, status=MISTAKE)
    sent = form.cleaned_data
    try:
        batches.place_one(request.user, run, digest=sent["digest"], typed=sent["typed"], note=sent["note"], now=now)
    except queue.AlreadyClearing:
        _tell(request, messages.INFO, BEING_CLEARED)
    except NotConfirmed as wrong:
        _ask_to_type(form, wrong)
        return _confirm(request, run, form, now, shown=wrong.preview, status=MISTAKE)
    except RunsChanged as changed:
        (item,) = changed.preview.items
        if item.goes:
            return _confirm(request, run, form, now, shown=changed.preview, status=CONFLICT)
        if item.attempt is not None and item.attempt.is_active:
            _tell(request, messages.INFO, BEING_CLEARED)
        else:
            _tell(request, messages.ERROR, "Not cleared: this run may not go now, for the reason that stands here.")
    if request.htmx:
        row = run_rows.row_of(run, now, request.user, selection.picked(request))
        return render(request, "cleanup/runs/_row.html", {"row": row, "now": now})
    return redirect("run-detail", pk=run.pk)


def _tell(request: SignedIn, level: int, words: str) -> None:
    if not request.htmx:  # the row shows it
        messages.add_message(request, level, words)


def _ask_to_type(form: ClearForm, wrong: NotConfirmed) -> None:
    form.add_error("typed", f"To clear this much, type {count(wrong.preview.number)}.")


# Many runs


@require_http_methods(["GET", "HEAD", "POST"])
@may_clear
def clear_runs(request: SignedIn) -> HttpResponse:
    """Preview the safe runs of a root, or the selected ones; a POST asks for exactly these."""
    now = timezone.now()
    root = _root_of(request)
    some_left = run_status.judge_for_page(now, limit=JUDGED_AT_ONCE)
    if request.method == "POST":
        return _place(request, root, now)
    return _show(request, root, _chosen(request, root), ClearForm(), now, some_left=some_left)


def _root_of(request: SignedIn) -> StagingRoot | None:
    name = request.GET.get("root", "")
    if not name:
        return None
    if "\0" in name:  # PostgreSQL refuses it in a text
        raise Http404
    permitted = permissions.roots(request.user, permissions.CLEAR).order_by().filter(pk=OuterRef("pk"))
    # With how full its disk is: another question would be one more.
    latest = DiskUsage.objects.filter(root=OuterRef("pk")).order_by("-at")
    usage = {f"latest_{name}": Subquery(latest.values(name)[:1]) for name in _OF_USAGE}
    asked = permissions.roots(request.user).annotate(permitted=Exists(permitted), **usage)
    root: Any = get_object_or_404(asked, name=name)
    if not root.permitted:
        raise PermissionDenied
    found: StagingRoot = root
    return found


def _chosen(request: SignedIn, root: StagingRoot | None) -> RequestedRuns:
    if root is None:
        return RequestedRuns.of(selection.chosen(request))
    safe = preview.safe_on(request.user, root)
    if (wanted := wanted_bytes(request)) is None:
        return preview.choose(safe)
    order = RoomOrder.LARGEST if request.GET.get("order") == RoomOrder.LARGEST else RoomOrder.OLDEST
    return room_plan.make_plan(safe, root, wanted, order=order, disk=room_plan.room_of(root)).requested


def wanted_bytes(request: SignedIn) -> int | None:
    """The free space that the page “Make room” asked for; None without it, or if it is no size."""
    with contextlib.suppress(ValueError):
        return quantities.parse_bytes(request.GET.get("bytes", ""))
    return None


def _place(request: SignedIn, root: StagingRoot | None, now: datetime) -> HttpResponse:
    form = ClearForm(request.POST)
    form.is_valid()
    sent = form.cleaned_data
    ticked = ticks.read_ticks(request.POST, sent)
    asked, aside = ticked.asked, ticked.aside
    if ticked.changed or "again" in request.POST:
        return _show(request, root, asked, form.anew(), now, aside=aside, ticked_anew=True)
    if form.errors:
        return _show(request, root, asked, form, now, aside=aside, status=MISTAKE)
    if (
        root is None
        and not batches.is_placed(sent["batch"])
        and (gone := selection.dropped_since(request, asked.marks))
    ):
        asked = RequestedRuns.of(key for key in selection.chosen(request) if key not in aside.marks)
        return _show(request, root, asked, ClearForm(), now, aside=aside, status=CONFLICT, dropped=len(gone))
    try:
        batch = batches.place(
            request.user,
            asked,
            digest=sent["digest"],
            key=sent["batch"] or uuid.uuid4(),
            typed=sent["typed"],
            note=sent["note"],
            starts_at=form.starts_at(now),
            now=now,
        )
    except NotConfirmed as wrong:
        _ask_to_type(form, wrong)
        return _show(request, root, asked, form, now, shown=wrong.preview, aside=aside, status=MISTAKE)
    except RunsChanged as changed:
        return _show(request, root, asked, form, now, shown=changed.preview, aside=aside, status=CONFLICT)
    except queue.AlreadyClearing:
        return _show(request, root, asked, form, now, aside=aside, status=CONFLICT)
    selection.forget(request, asked.marks)
    address = resolve_url("batch", batch.pk)
    return HttpResponseClientRedirect(address) if request.htmx else redirect(address)


def _show(
    request: SignedIn,
    root: StagingRoot | None,
    asked: RequestedRuns,
    form: ClearForm,
    now: datetime,
    *,
    shown: ClearPreview | None = None,
    aside: RequestedRuns | None = None,
    status: int = 200,
    some_left: bool = True,
    **said: Any,  # noqa: ANN401
) -> HttpResponse:
    hindrances, around = readiness.hindrances(), surroundings.look(request.user, now)
    how: dict[str, Any] = {"hindrances": hindrances, "breakers": around.findings}
    shown = shown or preview.preview(request.user, asked, now, **how)
    _ask_ahead(request, shown, now)
    roots = shown.roots
    context: dict[str, Any] = {
        "preview": shown,
        **_boxes(shown, preview.preview(request.user, aside, now, **how) if aside and aside.marks else None),
        **said,
        **estimate.about(shown, now),
        "root": root,
        **(_rest_of(request, root, asked, some_left) if root else {}),
        "most": preview.MAX_RUNS,
        "space": _space_after(shown, root or roots[0]) if len(roots) == 1 else None,
        "form": form,
        "key": uuid.uuid4(),
        "changed": status == CONFLICT,
        "selection_version": selection.selection_of(request).version,
        "not_permitted": preview.NOT_PERMITTED,
        "hindrances": hindrances,
        "queue_is_silent": any(around.queue_is_silent(root.host) for root in roots),
        "now": now,
    }
    if request.htmx:  # htmx shows nothing of it otherwise
        return render(request, "cleanup/clears/confirm_runs.html#question", context)
    return render(request, "cleanup/clears/confirm_runs.html", context, status=status)


def _boxes(shown: ClearPreview, unticked: ClearPreview | None) -> dict[str, Any]:
    rows = ticks.rows_of(shown, unticked)
    return {
        "common": clear_proofs.common_proof(rows),
        "in_sight": rows[:IN_SIGHT],
        "folded": rows[IN_SIGHT:],
        "unticked": unticked,
        "without_tick": {item.run.pk for item in unticked.going} if unticked else (),
    }


def _rest_of(request: SignedIn, root: StagingRoot, asked: RequestedRuns, some_left: bool) -> dict[str, Any]:
    user = request.user
    unjudged = permissions.runs(user).filter(root=root)
    left = preview.left_over(preview.safe_on(user, root), asked)
    return {
        "wanted": wanted_bytes(request),
        "left": left,
        "left_is_more": left >= preview.COUNTED,
        "staying_on": preview.staying_on(user, root),
        "unjudged": run_status.unjudged(unjudged, limit=preview.COUNTED) if some_left else 0,
    }


def _space_after(shown: ClearPreview, root: StagingRoot) -> dict[str, Any] | None:
    usage = _usage_of(root)
    if usage is None or usage.total_bytes <= 0 or shown.allocated_bytes is None:
        return None
    used = usage.total_bytes - usage.free_bytes
    after = max(used - shown.allocated_bytes, 0)
    return {
        "at": usage.at,
        "before_percent": round(100 * used / usage.total_bytes),
        "after_percent": round(100 * after / usage.total_bytes),
        "free_after": usage.total_bytes - after,
    }


_OF_USAGE = ("at", "total_bytes", "free_bytes")


def _usage_of(root: StagingRoot) -> DiskUsage | None:
    known = vars(root)
    if "latest_at" not in known:
        return DiskUsage.objects.filter(root=root).order_by("-at").first()
    return None if known["latest_at"] is None else DiskUsage(**{name: known[f"latest_{name}"] for name in _OF_USAGE})
