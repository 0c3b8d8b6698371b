"""Page 503 for a request that waited in vain for a lock of the database."""

import logging
import sys
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.views.defaults import server_error

from cleanup.lab import lock_waits

logger = logging.getLogger(__name__)


class BusyDatabase:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        return _answer(request, error) if lock_waits.is_at_fault(error) else None


def handle_fault(request: HttpRequest) -> HttpResponse:
    """For a fault outside of the views."""
    error = sys.exc_info()[1]
    return _answer(request, error) if error and lock_waits.is_at_fault(error) else server_error(request)


def _answer(request: HttpRequest, error: BaseException) -> HttpResponse:
    said = lock_waits.say(error)
    logger.warning("%s %s: %s", request.method, request.path, said)
    # Without the request the page does not query the database.
    page = render_to_string("503.html", {"said": said})
    words = said.encode("ascii", "replace").decode()
    return HttpResponse(page, status=503, headers={"Retry-After": "10", "Exlab-Said": words})
