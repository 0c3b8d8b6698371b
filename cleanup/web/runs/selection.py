"""The runs that a user has picked to clear together; `runs.picks` keeps them."""

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

from cleanup.lab import readiness
from cleanup.lab.people import permissions
from cleanup.models import RunQuerySet
from cleanup.models.aggregates import bytes_sum
from cleanup.rules.states import State
from cleanup.runs import picks
from cleanup.text.values import runs
from cleanup.web.decorators import may_clear, may_look
from cleanup.web.paging import LARGEST, or_nothing
from cleanup.web.requests import SignedIn
from cleanup.web.runs import run_rows
from cleanup.web.runs.filters import chosen_filters

KEY = picks.KEY
# As many as an operator can check and one preview can show.
MOST = 1_000
# Said if an older page asks for a change.
ELSEWHERE = "as another page has left it: this one was older. It now shows what is selected."


@dataclass(frozen=True)
class Selection:
    """In logical bytes; `version`: the last change that the page has seen."""

    keys: frozenset[int]
    version: int = 0
    runs: int = 0
    bytes: int = 0

    @property
    def full(self) -> bool:
        return len(self.keys) >= MOST


def picked(request: HttpRequest) -> frozenset[int]:
    """The keys in the session, also of runs that have changed since."""
    return picks.of(request.session).keys


def seen_by(request: HttpRequest) -> int | None:
    """The last change that the form's page had seen; None if unknown."""
    text = request.POST.get("selection", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST)) else None


def dropped_since(request: HttpRequest, keys: Iterable[int]) -> frozenset[int]:
    """The runs that another page has dropped after this one was opened."""
    return picks.of(request.session).dropped(keys, seen_by(request))


def chosen(request: SignedIn) -> list[int]:
    """The picked runs that are still staged and that the user may clear; largest first."""
    runs = _open_to(request).filter(pk__in=picked(request)).annotate(size=or_nothing("bytes"))
    return list(runs.order_by("-size", "-pk").values_list("pk", flat=True))


def forget(request: HttpRequest, pks: Iterable[int] | None = None) -> None:
    before = picks.of(request.session)
    kept = frozenset() if pks is None else before.keys - frozenset(pks)
    picks.keep(request.session, request.user, before.become(kept))


def selection_of(request: SignedIn) -> Selection:
    found_now = picks.of(request.session)
    keys, version = found_now.keys, found_now.version
    if not keys:
        return Selection(keys, version)
    found = _open_to(request).filter(pk__in=keys).aggregate(runs=Count("pk"), bytes=bytes_sum("bytes", default=0))
    return Selection(keys, version, found["runs"], int(found["bytes"]))


@require_POST
@may_look
@may_clear
def select_runs(request: SignedIn) -> HttpResponse:
    """Pick or drop runs: `these` of those that a page shows, `add`, `remove`, `all` that are safe, `clear`."""
    before, action = picks.of(request.session), request.POST.get("action", "")
    adds, drops = _asked(request, action, before.keys)
    left = _unheard(request, action, before, adds, drops)
    wanted = (before.keys | (adds - left)) - (drops - left)
    # Keys of runs that are gone would stay for ever.
    kept = frozenset(_open_to(request).filter(pk__in=wanted).values_list("pk", flat=True)[: 2 * MOST])
    too_many = len(kept) > MOST
    kept = frozenset(sorted(kept, key=lambda key: (key not in before.keys, key))[:MOST])
    picks.keep(request.session, request.user, before.become(kept))
    if request.htmx:
        # The operator may have ticked the next box before our answer: it must not reset the boxes.
        tick = action != "these" or too_many or bool(left)
        context = {"selection": selection_of(request), "too_many": too_many, "most": MOST, "tell": True, "tick": tick}
        return render(request, "cleanup/runs/list.html#selection", {**context, "left": len(left)})
    if too_many:
        messages.error(request, f"At most {MOST:,} runs can be selected.")
    if left:
        messages.error(request, f"{runs(len(left))} {'stays' if len(left) == 1 else 'stay'} {ELSEWHERE}")
    return redirect(_back(request))


def _asked(request: SignedIn, action: str, before: frozenset[int]) -> tuple[frozenset[int], frozenset[int]]:
    """The runs that a form picks, and those that it drops."""
    named = _numbers(request.POST.getlist("run"))
    if action == "these":
        return named - before, (_numbers(request.POST.getlist("shown")) - named) & before
    if action == "add":
        return named - before, frozenset()
    if action == "all":
        return _safe(request, MOST - len(before)), frozenset()
    return frozenset(), before if action == "clear" else named & before if action == "remove" else frozenset()


def _unheard(
    request: SignedIn, action: str, before: picks.Picks, adds: frozenset[int], drops: frozenset[int]
) -> frozenset[int]:
    """Runs that another page has changed since: they stay as they are.

    A form may always drop runs by name, or all: that clears nothing.
    """
    seen = seen_by(request)
    if action == "these":
        return before.dropped(adds, None) if seen is None else before.unseen(adds | drops, seen)
    return frozenset() if seen is None else before.unseen(adds, seen)


def _open_to(request: SignedIn) -> RunQuerySet:
    return permissions.runs(request.user, permissions.CLEAR).here().staged()


def _safe(request: SignedIn, number: int) -> frozenset[int]:
    filters = chosen_filters(request)
    if number <= 0 or filters.get("state") == State.CLEARED:
        return frozenset()
    troubled = run_rows.troubled_roots(readiness.hindrances())
    safe = run_rows.with_verdict(run_rows.filtered(request.user, filters, timezone.now()), "go", troubled)
    rest = safe.filter(pk__in=_open_to(request).values("pk")).exclude(pk__in=picked(request))
    largest = rest.annotate(size=or_nothing("bytes")).order_by("tone", "-size", "-pk")
    return frozenset(largest.values_list("pk", flat=True)[:number])


def _numbers(texts: Iterable[str]) -> frozenset[int]:
    plain = (text for text in texts if text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST)))
    return frozenset(number for number in map(int, list(plain)[: 2 * MOST]) if number <= LARGEST)


def _back(request: SignedIn) -> str:
    address = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(address, allowed_hosts={request.get_host()}, require_https=request.is_secure()):
        return address
    return reverse("run-list")
