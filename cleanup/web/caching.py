"""Browsers keep none of our answers, unless a view says otherwise.

A stored page may be out of date, or belong to a person who has signed out.
"""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import add_never_cache_headers, patch_vary_headers
from django_htmx.http import HttpResponseClientRefresh

from cleanup.web.requests import SignedIn


class KeepNothing:
    """Mark every answer of a view: not to be stored, and another for htmx than for a browser that opens the address."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return keep_nothing(self.get_response(request))


def keep_nothing(response: HttpResponseBase) -> HttpResponseBase:
    """The same answer, not to be stored; what a view itself says of storing stands."""
    patch_vary_headers(response, ["HX-Request"])
    if not response.has_header("Cache-Control"):
        add_never_cache_headers(response)
    return response


def wants_fragment(request: SignedIn) -> bool:
    """Whether htmx asks for a part of a page; where it restores its history, it asks for the page."""
    return bool(request.htmx) and not request.htmx.history_restore_request


def reload_page() -> HttpResponse:
    """Let the browser load the whole page.

    Fragments have their own addresses: a page that asks for its own address comes from an older version.
    """
    return HttpResponseClientRefresh()
