"""Settings that hold addresses, made comparable."""

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_DEFAULT_PORTS = {"http": 80, "https": 443}
# A host as browsers name it: `.lab.example` means all names that end so, `*` all names.
_HOST = re.compile(r"\*|\.?[a-z0-9]([a-z0-9.-]*[a-z0-9])?\.?", re.IGNORECASE)


def networks(texts: Iterable[str], *, setting: str) -> tuple[Network, ...]:
    """Addresses and networks, as `10.0.0.5` and `172.16.0.0/12`. Raises ImproperlyConfigured."""
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text.strip(), strict=False))
        except ValueError:
            raise ImproperlyConfigured(
                f"{setting}: {text!r} is no address; write addresses or networks, as in 10.0.0.5,172.16.0.0/12."
            ) from None
    return tuple(found)


def origins(texts: Iterable[str], *, setting: str) -> list[str]:
    """As `https://lab.example:8443`. Raises ImproperlyConfigured."""
    return [_origin(text.strip(), setting) for text in texts]


def base_url(text: str) -> str:
    """The one address under which people open the pages, as `https://lab.example`. Raises ImproperlyConfigured."""
    setting = "EXLAB_BASE_URL"
    if "*" in text:
        raise ImproperlyConfigured(
            f"{setting}: {text!r} stands for several hosts; write one, as in https://lab.example."
        )
    return _origin(text.strip(), setting)


def host_names(texts: Iterable[str], *, setting: str = "EXLAB_ALLOWED_HOSTS") -> list[str]:
    """Host names, also from addresses as `https://lab.example:8443/`. Raises ImproperlyConfigured."""
    return [_host_name(text.strip(), setting) for text in texts]


def is_host_name(text: str) -> bool:
    return bool(_HOST.fullmatch(text)) or _is_bracketed_address(text)


def _origin(text: str, setting: str) -> str:
    wrong = ImproperlyConfigured(
        f"{setting}: {text!r} is no origin; write what stands before the path in the browser's address line, "
        "as in https://lab.example:8443."
    )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        raise wrong
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise wrong
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if not is_host_name(host.removeprefix("*")):
        raise wrong
    shown = "" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{host}{shown}"


def _host_name(text: str, setting: str) -> str:
    name = _without_port(re.split("[/?#]", text.partition("://")[2])[0] if "://" in text else text)
    name = f"[{name}]" if _is_bracketed_address(f"[{name}]") and ":" in name else name
    if not is_host_name(name):
        raise ImproperlyConfigured(
            f"{setting}: {text!r} is no name of a host; write names as they stand in the browser's address line, "
            "with commas between them, as in labpc-04,lab.example."
        )
    return name


def _without_port(text: str) -> str:
    name, colon, port = text.rpartition(":")
    return name if colon and port.isdecimal() and (":" not in name or name.endswith("]")) else text


def _is_bracketed_address(text: str) -> bool:
    try:
        return text.startswith("[") and text.endswith("]") and bool(ipaddress.IPv6Address(text[1:-1]))
    except ValueError:
        return False
