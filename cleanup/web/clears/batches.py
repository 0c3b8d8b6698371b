"""Batches of clears: progress, pause, resume and stop."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from cleanup.clears import batches as clear_batches
from cleanup.clears import preview, waiting_batches
from cleanup.clears.progress import Progress, disks, measure
from cleanup.lab.people import permissions
from cleanup.models import ClearAttempt, ClearBatch, Phase, WaitingRun
from cleanup.models.aggregates import bytes_sum
from cleanup.rules.reasons import Reason
from cleanup.text.room import moment_words
from cleanup.web.caching import reload_page, wants_fragment
from cleanup.web.decorators import may_clear, may_look
from cleanup.web.requests import SignedIn
from cleanup.web.runs.run_list import queue_is_silent

PAGE_SIZE = 50
# The list only serves to find a recent batch.
SHOWN = 50
# A batch that should have begun so long ago is late.
LATE = timedelta(minutes=5)
# A screen reader speaks at every tenth, not every second.
STEP_PERCENT = 10
# A run counts once in its batch, with its last attempt.
LAST_TRY = Q(attempts__repeated_by=None)


@require_safe
@may_look
def batch_list(request: SignedIn) -> HttpResponse:
    seen = _is_seen(request)
    latest = list(ClearBatch.objects.filter(seen).order_by("-created_at", "-pk").values_list("pk", flat=True)[:SHOWN])
    batches = (
        ClearBatch.objects.filter(pk__in=latest)
        .annotate(
            runs=Count("attempts", filter=LAST_TRY),
            cleared=Count("attempts", filter=Q(attempts__phase=Phase.DONE)),
            waiting=Count(
                "attempts", filter=Q(attempts__phase__in=ClearAttempt.ACTIVE) | Q(attempts__again_after__isnull=False)
            ),
            freed_bytes=bytes_sum("attempts__freed_bytes", default=0),
            planned=Coalesce(Subquery(_planned()), 0),
        )
        .order_by("-created_at", "-pk")
    )
    return render(request, "cleanup/clears/batches.html", {"batches": batches, "shown": SHOWN, "now": timezone.now()})


@require_safe
@may_look
def batch_detail(request: SignedIn, key: UUID) -> HttpResponse:
    batch = _find(request, key)
    if wants_fragment(request):
        return reload_page()
    return _show(request, batch, timezone.now(), "cleanup/clears/batch.html")


@require_safe
@may_look
def batch_progress(request: SignedIn, key: UUID) -> HttpResponse:
    """The batch page polls it each second."""
    batch = _find(request, key)
    if not wants_fragment(request):
        return redirect("batch", key=key)
    return _show(request, batch, timezone.now(), "cleanup/clears/batch.html#batch")


@require_POST
@may_look
@may_clear
def pause_batch(request: SignedIn, key: UUID) -> HttpResponse:
    """A clear under way ends first."""
    return _act(request, key, lambda batch, actor, now: clear_batches.pause(batch, actor=actor, now=now))


@require_POST
@may_look
@may_clear
def resume_batch(request: SignedIn, key: UUID) -> HttpResponse:
    return _act(request, key, lambda batch, actor, now: clear_batches.resume(batch, now=now))


@require_POST
@may_look
@may_clear
def stop_batch(request: SignedIn, key: UUID) -> HttpResponse:
    """Withdraws the runs that have not begun."""
    return _act(request, key, lambda batch, actor, now: clear_batches.stop(batch, actor=actor, now=now))


def _act(request: SignedIn, key: UUID, act: Callable[[ClearBatch, str, datetime], object]) -> HttpResponse:
    now = timezone.now()
    batch = _find(request, key)
    if not _may_steer(request, batch):
        raise PermissionDenied
    act(batch, request.user.get_username(), now)
    if request.htmx:
        return _show(request, _find(request, key), now, "cleanup/clears/batch.html#batch")
    return redirect("batch", key=key)


def _find(request: SignedIn, key: UUID) -> ClearBatch:
    """Raises Http404 unless the user may see a run of the batch."""
    batch = ClearBatch.objects.filter(_is_seen(request), pk=key).first()
    if batch is None:
        raise Http404
    return batch


def _is_seen(request: SignedIn) -> Q:
    mine = permissions.runs(request.user)
    begun = Exists(ClearAttempt.objects.filter(batch=OuterRef("pk"), run__in=mine))
    return Q(begun) | Q(waiting_batches.visible_in(mine))


def _planned() -> QuerySet[Any, Any]:
    """How many runs a batch that waits has."""
    rows = WaitingRun.objects.filter(batch=OuterRef("pk")).order_by().values("batch")
    return rows.annotate(runs=Count("pk")).values("runs")


def _may_steer(request: SignedIn, batch: ClearBatch) -> bool:
    if not request.user.has_perm(permissions.CLEAR):
        return False
    mine = permissions.runs(request.user, permissions.CLEAR)
    if batch.waits:
        others = WaitingRun.objects.filter(batch=batch).exclude(run__in=mine)
        return batch.actor == request.user.get_username() or not others.exists()
    return not ClearAttempt.objects.filter(batch=batch).exclude(run__in=mine).exists()


def _show(request: SignedIn, batch: ClearBatch, now: datetime, template: str) -> HttpResponse:
    progress = measure(batch, now)
    if not batch.has_begun or (batch.starts_at and not progress.runs):
        return _show_waiting(request, batch, now, template.replace("batch.html", "waiting.html"))
    visible = ClearAttempt.objects.filter(batch=batch, run__in=permissions.runs(request.user))
    # The order in which they are taken: stable, so that no row jumps.
    rows = visible.last_tries().select_related("run").defer("run__facts", "decision")
    rows = rows.order_by(Coalesce("run__bytes", 0).desc(), F("run_id").desc())
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page", "1"))
    hosts = visible.filter(phase=Phase.QUEUED).order_by().values_list("host", flat=True).distinct()
    context: dict[str, Any] = {
        "batch": batch,
        "progress": progress,
        "page": page,
        "hidden": progress.runs - page.paginator.count,
        "stayed": _stayed(visible),
        "disks": [] if progress.open else disks(visible),
        "visible_keys": set(
            visible.filter(pk__in=[one.attempt.pk for one in progress.under_way]).values_list("pk", flat=True)
        ),
        "may_steer": progress.open and _may_steer(request, batch),
        "queue_is_silent": progress.open and any(queue_is_silent(now, host=host) for host in hosts),
        "step": _step(progress),
        "left_out": _left_out(request, batch) if batch.starts_at else [],
        "now": now,
    }
    return render(request, template, context)


def _show_waiting(request: SignedIn, batch: ClearBatch, now: datetime, template: str) -> HttpResponse:
    """A batch that waits, was called off, or of which nothing could go."""
    rows = WaitingRun.objects.filter(batch=batch, run__in=permissions.runs(request.user))
    rows = rows.select_related("run__root").defer("run__facts").order_by("-bytes", "-run_id")
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page", "1"))
    sums = WaitingRun.objects.filter(batch=batch).aggregate(
        runs=Count("pk"), bytes=bytes_sum("bytes", default=0), gives=bytes_sum("allocated_bytes", default=0)
    )
    context: dict[str, Any] = {
        "batch": batch,
        "page": page,
        "sums": sums,
        "hidden": sums["runs"] - page.paginator.count,
        "starts_said": moment_words(batch.starts_at or now, now),
        "late": batch.waits and batch.starts_at is not None and batch.starts_at < now - LATE,
        "trouble": waiting_batches.trouble_of(batch) if batch.waits else [],
        "may_steer": batch.waits and _may_steer(request, batch),
        "changed": waiting_batches.CHANGED,
        "not_permitted": preview.NOT_PERMITTED,
        "now": now,
    }
    return render(request, template, context)


def _left_out(request: SignedIn, batch: ClearBatch) -> list[WaitingRun]:
    rows = WaitingRun.objects.filter(batch=batch, run__in=permissions.runs(request.user)).exclude(left_out="")
    return list(rows.select_related("run").defer("run__facts")[:PAGE_SIZE])


def _stayed(visible: Any) -> list[ClearAttempt]:  # noqa: ANN401
    failed = visible.last_tries().filter(phase__in=ClearAttempt.FAILED, again_after=None)
    failed = failed.exclude(reason=Reason.WITHDRAWN)
    return list(failed.select_related("run").defer("run__facts", "decision").order_by("phase_at", "pk")[:PAGE_SIZE])


def _step(progress: Progress) -> str:
    """A screen reader speaks again when this changes."""
    if not progress.open:
        return "over"
    if progress.paused:
        return f"paused-{len(progress.under_way)}"
    return f"at-{progress.percent // STEP_PERCENT}"
