"""Pages for requests refused before any view: what was seen, and which setting decides."""

import math
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import DisallowedHost, SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port
from django.http.response import HttpResponseBase
from django.middleware.csrf import REASON_BAD_ORIGIN, REASON_BAD_REFERER
from django.shortcuts import render
from django.utils import timezone

from cleanup.lab.people import first_admin, sign_ins
from cleanup.web.caching import keep_nothing

# Where `proxies` leaves the address of an untrusted proxy.
UNTRUSTED_PROXY = "exlab.untrusted_proxy"
# The longest name of a host.
LONGEST_NAME = 253
# Begin of Django's reasons about the origin of a form, not its token.
_ABOUT_THE_ORIGIN = tuple(reason.split(" - ")[0] for reason in (REASON_BAD_ORIGIN, REASON_BAD_REFERER))


class SayWhatOnlyButtonsDo:
    """Gives 405 a page: by Back or after a sign-in, users come to addresses of forms."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if response.status_code != 405 or request.method != "GET":
            return response
        page = render(request, "405.html", status=405)
        page["Allow"] = response["Allow"]
        return page


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    if not reason.startswith(_ABOUT_THE_ORIGIN):
        return render(request, "403_csrf.html", status=403)
    origin = request.META.get("HTTP_ORIGIN") or _origin_of(request.META.get("HTTP_REFERER", ""))
    context = {
        "origin": origin,
        "is_an_origin": "://" in origin,
        "own": f"{request.scheme}://{request.get_host()}",
        **_proxy(request),
    }
    return render(request, "403_origin.html", context, status=403)


def bad_request(request: HttpRequest, exception: SuspiciousOperation) -> HttpResponse:
    """For an unknown host it names the setting."""
    if isinstance(exception, DisallowedHost):
        host = request.META.get("HTTP_X_FORWARDED_HOST", request.META.get("HTTP_HOST", ""))
        name, _port = split_domain_port(host)
        context = {"host": host[:LONGEST_NAME], "name": name[:LONGEST_NAME], **_proxy(request)}
        response = render(request, "400_host.html", context, status=400)
    else:
        response = render(request, "400.html", status=400)
    keep_nothing(response)
    return response


def goes_in_a_circle(request: HttpRequest) -> HttpResponse:
    """The redirect to https arrives as http again."""
    context = {"peer": request.META.get("REMOTE_ADDR", ""), **_proxy(request)}
    return render(request, "400_https.html", context, status=400)


def locked_out(request: HttpRequest, *_given: object) -> HttpResponse:
    account = sign_ins.account_of(request, getattr(request, "axes_credentials", None))
    address, now = sign_ins.address_of(request), timezone.now()
    lock = sign_ins.lock_on(account, address, now)
    seconds = max(1, math.ceil((lock.until - now).total_seconds())) if lock else 1
    of_token = account == sign_ins.key_of(first_admin.ACCOUNT)
    context = {"lock": lock, "minutes": math.ceil(seconds / 60), "address": address, "of_token": of_token}
    page = render(request, "cleanup/account/locked.html", context, status=429)
    page["Retry-After"] = str(seconds)
    return page


def _proxy(request: HttpRequest) -> dict[str, Any]:
    return {"untrusted": request.META.get(UNTRUSTED_PROXY, "")}


def _origin_of(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme and parts.netloc else ""
