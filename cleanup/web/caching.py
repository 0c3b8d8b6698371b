"""Browsers store none of our answers, unless a view says otherwise: a stored page may be old, or another user's."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import add_never_cache_headers, patch_vary_headers
from django_htmx.http import HttpResponseClientRefresh

from cleanup.web.requests import SignedIn


class KeepNothing:
    """Forbids storing; htmx and browsers get different answers of one address."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return keep_nothing(self.get_response(request))


def keep_nothing(response: HttpResponseBase) -> HttpResponseBase:
    """A view's own word on storing stands."""
    patch_vary_headers(response, ["HX-Request"])
    if not response.has_header("Cache-Control"):
        add_never_cache_headers(response)
    return response


def wants_fragment(request: SignedIn) -> bool:
    """When htmx restores its history, it wants the page."""
    return bool(request.htmx) and not request.htmx.history_restore_request


def reload_page() -> HttpResponse:
    """A fragment has its own address: a page that asks for its own address is of an older version."""
    return HttpResponseClientRefresh()
