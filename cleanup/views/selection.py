"""The runs that somebody has picked from the list to clear together; the session keeps them from page to page."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.contrib import messages
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from cleanup import access, readiness
from cleanup.models import RunQuerySet
from cleanup.models.sums import bytes_sum
from cleanup.policy.lifecycle import State
from cleanup.views import listing
from cleanup.views.filters import chosen_filters
from cleanup.views.paging import LARGEST, or_nothing
from cleanup.views.permits import may_clear, may_look
from cleanup.views.requests import SignedIn

KEY = "selection"
# What somebody can still look through, and one preview can show.
MOST = 1_000


@dataclass(frozen=True)
class Selection:
    """What the picked runs come to, in logical bytes; `full` if there is room for no more."""

    keys: frozenset[int]
    runs: int = 0
    bytes: int = 0

    @property
    def full(self) -> bool:
        return len(self.keys) >= MOST


def picked(request: HttpRequest) -> frozenset[int]:
    """The keys in the session, whatever has become of the runs."""
    kept = request.session.get(KEY, [])
    return frozenset(key for key in kept if isinstance(key, int)) if isinstance(kept, list) else frozenset()


def chosen(request: SignedIn) -> list[int]:
    """The keys of the picked runs that still lie on a staging disk, and that this person may clear; largest first."""
    runs = _open_to(request).filter(pk__in=picked(request)).annotate(size=or_nothing("bytes"))
    return list(runs.order_by("-size", "-pk").values_list("pk", flat=True))


def forget(request: HttpRequest, pks: Iterable[int] | None = None) -> None:
    """Let go of some of the picked runs, or of all."""
    _keep(request, frozenset() if pks is None else picked(request) - frozenset(pks))


def selection_of(request: SignedIn) -> Selection:
    """What the bar below the list says."""
    keys = picked(request)
    if not keys:
        return Selection(keys)
    found = _open_to(request).filter(pk__in=keys).aggregate(runs=Count("pk"), bytes=bytes_sum("bytes", default=0))
    return Selection(keys, found["runs"], int(found["bytes"]))


@require_POST
@may_look
@may_clear
def select_runs(request: SignedIn) -> HttpResponse:
    """Pick runs, or let go: `these` of those that a page shows, `add`, `remove`, `all` that are safe, `clear`."""
    before, action = picked(request), request.POST.get("action", "")
    named = _numbers(request.POST.getlist("run"))
    if action == "these":
        wanted = (before - _numbers(request.POST.getlist("shown"))) | named
    elif action == "add":
        wanted = before | named
    elif action == "remove":
        wanted = before - named
    elif action == "all":
        wanted = before | _safe(request, MOST - len(before))
    elif action == "clear":
        wanted = frozenset()
    else:
        wanted = before
    # Keys of runs that are gone would take up room for ever.
    kept = frozenset(_open_to(request).filter(pk__in=wanted).values_list("pk", flat=True)[: 2 * MOST])
    too_many = len(kept) > MOST
    _keep(request, frozenset(sorted(kept, key=lambda key: (key not in before, key))[:MOST]))
    if request.htmx:
        # Whoever ticks has ticked the next one by the time of our answer: it must not set the boxes back.
        tick = action != "these" or too_many
        context = {"selection": selection_of(request), "too_many": too_many, "most": MOST, "tell": True, "tick": tick}
        return render(request, "cleanup/_selection.html", context)
    if too_many:
        messages.error(request, f"At most {MOST:,} runs can be selected.")
    return redirect(_back(request))


def _open_to(request: SignedIn) -> RunQuerySet:
    return access.runs(request.user, access.CLEAR).here().staged()


def _safe(request: SignedIn, number: int) -> frozenset[int]:
    """The largest runs that are safe to clear, of those that the filters in the address leave."""
    filters = chosen_filters(request)
    if number <= 0 or filters.get("state") == State.CLEARED:
        return frozenset()
    troubled = listing.troubled_roots(readiness.hindrances())
    safe = listing.with_verdict(listing.filtered(request.user, filters, timezone.now()), "go", troubled)
    rest = safe.filter(pk__in=_open_to(request).values("pk")).exclude(pk__in=picked(request))
    largest = rest.annotate(size=or_nothing("bytes")).order_by("tone", "-size", "-pk")
    return frozenset(largest.values_list("pk", flat=True)[:number])


def _keep(request: HttpRequest, keys: frozenset[int]) -> None:
    if keys:
        request.session[KEY] = sorted(keys)
    else:
        request.session.pop(KEY, None)


def _numbers(texts: Iterable[str]) -> frozenset[int]:
    """The keys among what was sent; at most as many as a selection holds, twice."""
    plain = (text for text in texts if text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST)))
    return frozenset(number for number in map(int, list(plain)[: 2 * MOST]) if number <= LARGEST)


def _back(request: SignedIn) -> str:
    """The page of the list that the form stands on."""
    address = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(address, allowed_hosts={request.get_host()}, require_https=request.is_secure()):
        return address
    return reverse("run-list")
