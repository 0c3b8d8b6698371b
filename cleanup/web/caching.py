"""Browsers store no answer, unless a view allows it: a stored page may be old, or another user's."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import add_never_cache_headers, patch_vary_headers
from django_htmx.http import HttpResponseClientRefresh

from cleanup.web.requests import SignedIn


class KeepNothing:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return keep_nothing(self.get_response(request))


def keep_nothing(response: HttpResponseBase) -> HttpResponseBase:
    patch_vary_headers(response, ["HX-Request"])
    if not response.has_header("Cache-Control"):
        add_never_cache_headers(response)
    return response


def wants_fragment(request: SignedIn) -> bool:
    """When htmx restores its history, it wants the page."""
    return bool(request.htmx) and not request.htmx.history_restore_request


def reload_page() -> HttpResponse:
    """Fragments have their own addresses: this page comes from an older version."""
    return HttpResponseClientRefresh()
