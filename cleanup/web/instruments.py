"""The bench page of an instrument, readable from across the room, and its QR code."""

import io
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import segno
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.core.paginator import Paginator
from django.db.models import Case, Count, F, Max, OuterRef, Q, QuerySet, Subquery, When
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_safe

from cleanup.lab import readiness
from cleanup.lab.people import permissions
from cleanup.models import Instrument, Orphan, OrphanKind, Run, RunQuerySet, StagingRoot, Status
from cleanup.models.aggregates import bytes_sum
from cleanup.rules.liveness import AHEAD
from cleanup.rules.reasons import Reason
from cleanup.runs import run_status
from cleanup.text.values import duration, in_units, runs, sentence
from cleanup.web.caching import reload_page, wants_fragment
from cleanup.web.decorators import JUDGED_AT_ONCE, may_look
from cleanup.web.requests import SignedIn

# An older look is no ground for a green light.
OLD = timedelta(minutes=30)
SHOWN = 20
# As many reasons as can be read from a distance.
REASONS = 3
PAGE_SIZE = 50
# The list counts the runs of an instrument up to this number.
MANY = 1000
# Reasons whose end is not known.
WITHOUT_END = (Reason.HELD, Reason.NOT_SYNC_VERIFIED)
BLOCK = Status.BLOCK.code
# A phone that scans such an address opens itself.
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Error correction of the QR code: a scratched card can still be read.
CORRECTION = "m"


@dataclass(frozen=True)
class Sign:
    tone: str
    word: str
    because: tuple[str, ...] = ()


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
    context = {
        "instrument": instrument,
        "sign": _sign(instrument, staged, now),
        "lines": [BenchLine(run, _sign_of_run(run, now)) for run in latest],
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


def _sign(instrument: Instrument, staged: RunQuerySet, now: datetime) -> Sign:
    """One word for all runs; anything unknown, old or not settled says: do not touch."""
    if trouble := _trouble(instrument.root, now):
        return _closed(trouble)
    tally = list(
        staged.order_by()
        .values("tone", "reason")
        .annotate(
            runs=Count("pk"),
            bytes=bytes_sum("bytes"),
            until=Max("opens_at"),
            doubted=Count("pk", filter=Q(judged__lt=F("doubts"))),
        )
    )
    if any(row["doubted"] for row in tally):
        return _closed("How the runs stand is being worked out just now.")
    signs = [(row, _judged_sign(row["tone"], row["reason"], row["until"], now)) for row in tally]
    against = sorted((row for row, sign in signs if sign.tone == BLOCK), key=lambda row: -row["runs"])
    strangers = _strangers(instrument).count()
    if against or strangers:
        return _closed(*_against(strangers, against, of=sum(row["runs"] for row, _ in signs)))
    if not signs:
        return Sign("done", "NOTHING HERE", ("No run of this instrument is on the staging disk.",))
    what = _what(sum(row["runs"] for row, _ in signs), sum(row["bytes"] or 0 for row, _ in signs))
    if waits := [row["until"] for row, sign in signs if sign.tone == "wait"]:
        return Sign("wait", f"WAIT {duration(max(waits) - now)}", (f"{what}: by then every one of them may go.",))
    settled = f"{what}: verified on the NAS, and nothing speaks against clearing."
    return Sign("go", "SAFE TO CLEAR", (settled, "They are cleared in ExLab staging; delete nothing by hand."))


def _closed(*because: str) -> Sign:
    return Sign(BLOCK, "DO NOT TOUCH", because)


def _against(strangers: int, rows: Sequence[Any], *, of: int) -> Iterator[str]:
    if strangers:
        things = "1 thing" if strangers == 1 else f"{strangers:,} things"
        yield f"{things} in the instrument's folder: no known run, perhaps one that is being written."
    if rows and of > 1:
        yield f"{sum(row['runs'] for row in rows):,} of {runs(of)} must stay."
    for row in rows[:REASONS]:
        yield f"{runs(row['runs'])}: {_why(row['tone'], row['reason'])}"
    if len(rows) > REASONS:
        yield "And others, for other reasons."


def _sign_of_run(run: Run, now: datetime) -> Sign:
    if run.judged < run.doubts:
        return Sign(BLOCK, "Do not touch", ("How it stands is being worked out just now.",))
    return _judged_sign(run.tone, run.reason, run.opens_at, now)


def _judged_sign(tone: int, reason: str, until: datetime | None, now: datetime) -> Sign:
    if tone == Status.GO:
        return Sign("go", "Safe to clear")
    if tone == Status.WAIT and reason not in WITHOUT_END and until is not None and until > now:
        return Sign("wait", f"Wait {duration(until - now)}", (sentence(reason),))
    return Sign(BLOCK, "Do not touch", (_why(tone, reason),))


def _why(tone: int, reason: str) -> str:
    if tone == Status.WORK:
        return "It is being cleared just now."
    return sentence(reason) if reason else "It is not settled yet."


def _trouble(root: StagingRoot, now: datetime) -> str:
    if root.problem:
        return f"Nothing is done on this staging disk. {sentence(root.problem)}"
    if root.discovered_at is None:
        return "This staging disk was not looked at yet."
    if not now - OLD <= root.discovered_at <= now + AHEAD:
        return f"This staging disk was not looked at for {duration(abs(now - root.discovered_at))}."
    if hindrances := readiness.hindrances():
        return sentence(hindrances[0].reason)
    return ""


def _strangers(instrument: Instrument) -> "QuerySet[Orphan]":
    """Things in the instrument's folder that belong to no run; one may be written just now."""
    here = Orphan.objects.filter(root=instrument.root, gone_at=None, path__startswith=f"{instrument.equipment}/")
    return here.exclude(kind=OrphanKind.MISSING)


def _what(number: int, size: int) -> str:
    return f"{runs(number) if number == 1 else f'All {runs(number)}'}, {in_units(size)} logical"
