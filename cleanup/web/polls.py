"""Pages that poll: one cheap question answers them while nothing has changed."""

import math
from collections.abc import Callable
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone

from cleanup.models import changes

# The seconds for which an address may be answered so: what its page tells of the time is older by at most as much.
GOOD_FOR = {
    "overview-now": 60,
    "run-changes": 60,
    "run-row": 5,
    "run-live": 5,
    "batch-progress": 5,
    "run-verified": 5,
    "setup-now": 5,
    "root-request": 5,
}
# The pages that poll these.
_BEGIN = frozenset({"overview", "run-list", "run-detail", "batch", "setup"})
# `<until>~<mark>`: good before that second, while nothing has changed since the mark.
HEADER = "Exlab-Since"
_ASKED = "since"


class AnswerUnchanged:
    """Answers 204 to a page that polls while nothing has changed at all; else the view answers, and gives a new mark.

    It reads the session and one number. It tells a signed-in user only whether something has changed somewhere, and
    a change of who may see what is one, too.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if (since := getattr(request, "since", "")) and response.status_code in (200, 204):
            response.setdefault(HEADER, since)
        return response

    def process_view(self, request: HttpRequest, *_view: object) -> HttpResponse | None:
        name = request.resolver_match.url_name if request.resolver_match else None
        seconds = GOOD_FOR.get(name or "")
        if request.method != "GET" or SESSION_KEY not in request.session:
            return None
        if seconds is None and name not in _BEGIN:
            return None
        now = timezone.now().timestamp()
        if seconds is not None and _is_good(request.GET.get(_ASKED, ""), now):
            return HttpResponse(status=204)
        # Before the page is read: what changes meanwhile is news for it.
        until = math.ceil(now) + (seconds or min(GOOD_FOR.values()))
        marked: Any = request
        marked.since = f"{until}~{mark}" if (mark := changes.mark()) else ""
        return None


def _is_good(asked: str, now: float) -> bool:
    until, _, mark = asked.partition("~")
    if not (until.isascii() and until.isdigit() and len(until) < 12) or now >= int(until):
        return False
    return changes.nothing_since(mark)
