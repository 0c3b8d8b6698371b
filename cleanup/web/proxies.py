"""Headers of a proxy count only if it is in `EXLAB_TRUSTED_PROXIES`: every client can write them."""

import ipaddress
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from cleanup.web import refusals
from cleanup.web.caching import keep_nothing

THIS_HOST = "127.0.0.1"
HOST = "HTTP_HOST"
FORWARDED_FOR = "HTTP_X_FORWARDED_FOR"
FORWARDED_PROTO = "HTTP_X_FORWARDED_PROTO"
FORWARDED_HOST = "HTTP_X_FORWARDED_HOST"
# All headers of proxies; those that we do not read are removed too, since a library may trust them.
SAID_BY_PROXIES = (
    FORWARDED_FOR,
    FORWARDED_PROTO,
    FORWARDED_HOST,
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_SSL",
    "HTTP_X_FORWARDED_PROTOCOL",
    "HTTP_X_REAL_IP",
    "HTTP_FORWARDED",
)
# Cookie set by the redirect to https, deleted by https: if it is still there on http, the redirect loops.
SENT = "exlab-sent-to-https"
SENT_SECONDS = 10


class BelieveTrustedProxies:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        said_https = _last(request, FORWARDED_PROTO) == "https"
        _sort_out(request)
        response = self.get_response(request)
        if request.is_secure():
            if SENT in request.COOKIES:
                response.delete_cookie(SENT)
            return response
        if not _sends_to_https(response):
            return response
        if SENT in request.COOKIES or said_https:
            return keep_nothing(refusals.goes_in_a_circle(request))
        response.set_cookie(SENT, "1", max_age=SENT_SECONDS, httponly=True, samesite="Lax")
        return keep_nothing(response)


def is_trusted(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address.strip())
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return any(found in network for network in settings.EXLAB_TRUSTED_PROXIES)


def _sort_out(request: HttpRequest) -> None:
    """Keep what trusted proxies say; remember an untrusted one, so that a page can name it."""
    # A connection over a Unix socket has no address: it comes from this host.
    peer = request.META["REMOTE_ADDR"] = request.META.get("REMOTE_ADDR") or THIS_HOST
    said = {name: request.META.pop(name) for name in SAID_BY_PROXIES if name in request.META}
    if not is_trusted(peer):
        if FORWARDED_PROTO in said or FORWARDED_HOST in said:
            request.META[refusals.UNTRUSTED_PROXY] = peer
        return
    for name in (FORWARDED_PROTO, FORWARDED_HOST):
        if name in said:
            # A proxy adds at the end; the text before that may be forged.
            request.META[name] = said[name].rpartition(",")[2].strip()
    request.META["REMOTE_ADDR"] = _client(said.get(FORWARDED_FOR, ""), peer)
    # Browsers leave the usual port out of the origin of a form; some proxies write it.
    usual = ":443" if request.is_secure() else ":80"
    for name in (HOST, FORWARDED_HOST):
        if name in request.META:
            request.META[name] = request.META[name].removesuffix(usual)


def _client(forwarded_for: str, peer: str) -> str:
    """The nearest address that is no trusted proxy."""
    for address in reversed([one.strip() for one in forwarded_for.split(",") if one.strip()]):
        if not _is_address(address):
            break
        peer = address
        if not is_trusted(address):
            break
    return peer


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _last(request: HttpRequest, name: str) -> str:
    return str(request.META.get(name, "")).rpartition(",")[2].strip()


def _sends_to_https(response: HttpResponseBase) -> bool:
    return settings.SECURE_SSL_REDIRECT and response.status_code == 301 and response["Location"].startswith("https://")
