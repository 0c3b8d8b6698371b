"""The bench page of an instrument, readable from across the room, and its QR code."""

import io
import uuid
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

import segno
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.core.paginator import Paginator
from django.db.models import Case, Count, F, Max, OuterRef, Q, Subquery, When
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_safe

from cleanup.lab.people import permissions
from cleanup.models import Alert, AlertKind, Instrument, Orphan, OrphanKind, Run, RunQuerySet, Status
from cleanup.models.aggregates import bytes_sum
from cleanup.runs import run_status
from cleanup.web import bench_signs
from cleanup.web.bench_signs import RunTally, Sign
from cleanup.web.caching import reload_page, wants_fragment
from cleanup.web.decorators import JUDGED_AT_ONCE, may_look
from cleanup.web.requests import SignedIn

SHOWN = 20
PAGE_SIZE = 50
# The list counts the runs of an instrument up to this number.
MANY = 1000
# A phone that scans such an address opens itself.
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Error correction of the QR code: a scratched card can still be read.
CORRECTION = "m"


@dataclass(frozen=True)
class BenchLine:
    run: Run
    sign: Sign


class CountRows(Subquery):
    """Counts the rows of a subquery, at most its slice."""

    template = "(SELECT COUNT(*) FROM (%(subquery)s) counted)"


@login_not_required
@require_safe
def bench(request: SignedIn, token: uuid.UUID) -> HttpResponse:
    """It has no actions, so the address of a public page is enough."""
    instrument = _find(request, token)
    if instrument is None:
        return redirect_to_login(request.get_full_path())
    if wants_fragment(request):
        return reload_page()
    return _show(request, instrument, "cleanup/instruments/bench.html")


@login_not_required
@require_safe
def bench_now(request: SignedIn, token: uuid.UUID) -> HttpResponse:
    instrument = _find(request, token)
    if instrument is None or not wants_fragment(request):
        return redirect("bench", token=token)
    return _show(request, instrument, "cleanup/instruments/bench.html#now")


def _show(request: SignedIn, instrument: Instrument, template: str) -> HttpResponse:
    now = timezone.now()
    staged = Run.objects.here().filter(root=instrument.root, equipment=instrument.equipment)
    run_status.judge_stale(now, limit=JUDGED_AT_ONCE, runs=staged)
    latest = staged.defer("facts").order_by("-first_seen_at", "-pk")[:SHOWN]
    stalled = _stalled(instrument)
    context = {
        "instrument": instrument,
        "sign": _sign(instrument, staged, len(stalled), now),
        "lines": [BenchLine(run, bench_signs.of_run(run, now, stalled=run.pk in stalled)) for run in latest],
        "shown": SHOWN,
        "listed": request.user.has_perm(permissions.VIEW),
        "now": now,
    }
    return render(request, template, context)


@login_not_required
@require_safe
def bench_qr(request: SignedIn, token: uuid.UUID) -> HttpResponse:
    instrument = _find(request, token)
    if instrument is None:
        return redirect_to_login(request.get_full_path())
    picture = io.BytesIO()
    code = segno.make_qr(_address(request, instrument), error=CORRECTION)
    code.save(picture, kind="svg", scale=8, dark="#000", light="#fff", svgclass=None, lineclass=None)
    response = HttpResponse(picture.getvalue(), content_type="image/svg+xml")
    if instrument.public:
        patch_cache_control(response, private=True, max_age=3600)
    return response


@require_safe
@may_look
def instrument_list(request: SignedIn) -> HttpResponse:
    now = timezone.now()
    run_status.judge_stale(now, limit=JUDGED_AT_ONCE, runs=permissions.runs(request.user))
    staged = Run.objects.here().filter(root=OuterRef("root"), equipment=OuterRef("equipment")).order_by()
    newest = staged.values("equipment").annotate(newest=Max("first_seen_at")).values("newest")
    known = (
        permissions.instruments(request.user)
        .filter(root__retired_at=None)
        .select_related("root")
        .annotate(
            staged=CountRows(staged.values("pk")[: MANY + 1]),
            safe=CountRows(staged.filter(tone=Status.GO).values("pk")[: MANY + 1]),
            blocked=CountRows(staged.filter(tone=Status.BLOCK).values("pk")[: MANY + 1]),
            newest=Case(When(staged__lte=MANY, then=Subquery(newest))),  # more would take long
        )
        .order_by("equipment", "root__name")
    )
    page = Paginator(known, PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "cleanup/instruments/list.html", {"page": page, "many": MANY, "now": now})


@require_safe
@may_look
def instrument_card(request: SignedIn, pk: int) -> HttpResponse:
    instrument = get_object_or_404(permissions.instruments(request.user).select_related("root"), pk=pk)
    address = _address(request, instrument)
    context = {"instrument": instrument, "bench_address": address, "here_only": urlsplit(address).hostname in LOOPBACK}
    return render(request, "cleanup/instruments/card.html", context)


def _find(request: SignedIn, token: uuid.UUID) -> Instrument | None:
    """None if the user must sign in first."""
    instrument = get_object_or_404(Instrument.objects.select_related("root"), token=token)
    if instrument.public:
        return instrument
    if not request.user.is_authenticated:
        return None
    if not permissions.instruments(request.user).filter(pk=instrument.pk).exists():
        raise Http404
    return instrument


def _address(request: HttpRequest, instrument: Instrument) -> str:
    return request.build_absolute_uri(reverse("bench", args=[instrument.token]))


def _sign(instrument: Instrument, staged: RunQuerySet, stalled: int, now: datetime) -> Sign:
    tally = (
        staged.order_by()
        .values("tone", "reason")
        .annotate(
            runs=Count("pk"),
            bytes=bytes_sum("bytes"),
            until=Max("opens_at"),
            ends=Count("opens_at"),
            doubted=Count("pk", filter=Q(judged__lt=F("doubts"))),
        )
    )
    tallies = [RunTally.of(row) for row in tally]
    return bench_signs.of_instrument(instrument.root, tallies, _strangers(instrument), stalled, now)


def _stalled(instrument: Instrument) -> set[int]:
    """Keys of its runs that the watchdog calls stalled, at most `MANY` + 1."""
    alerts = Alert.objects.filter(kind=AlertKind.STALLED_RUN, ended_at=None, root=instrument.root)
    of_it = alerts.filter(run__equipment=instrument.equipment, run__here=True).order_by()
    return set(of_it.values_list("run", flat=True)[: MANY + 1])


def _strangers(instrument: Instrument) -> list[Orphan]:
    """Things in the instrument's folder that belong to no run; one may be written just now."""
    here = Orphan.objects.filter(root=instrument.root, gone_at=None, path__startswith=f"{instrument.equipment}/")
    return list(here.exclude(kind=OrphanKind.MISSING).order_by()[: bench_signs.MANY_THINGS + 1])
