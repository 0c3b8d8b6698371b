"""Addresses of the database and of the mail server.

No sentence here shows what was written: a part may be a password.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from exlab.addresses import is_host_name
from exlab.kinds import path_from

POSTGRESQL = "django.db.backends.postgresql"
SQLITE = "django.db.backends.sqlite3"

# Wait this long for a server that does not answer.
_CONNECT_SECONDS = "10"
# Give up a server that has taken nothing of what was sent for this long (milliseconds).
_UNANSWERED = "30000"
_LONGEST_NAME = 63
_POSTGRES_SCHEMES = ("postgres", "postgresql", "pgsql", "psql")
_ENCODE = (
    "write each of : / ? # [ ] @ % and blanks in user and password as % and two digits, as in "
    "postgres://lab:one%40two@db/exlab for the password one@two."
)
_ENCODE_MAIL = _ENCODE.replace("postgres://lab:one%40two@db/exlab", "smtp+tls://lab:one%40two@mail.example:587")
_MAIL = "django.core.mail.backends"
# scheme: backend, port, and what is on
_MAIL_SCHEMES: dict[str, tuple[str, int | None, dict[str, bool]]] = {
    "smtp": ("smtp", 25, {}),
    "smtp+tls": ("smtp", 587, {"EMAIL_USE_TLS": True}),
    "smtp+ssl": ("smtp", 465, {"EMAIL_USE_SSL": True}),
    "consolemail": ("console", None, {}),
    "memorymail": ("locmem", None, {}),
    "dummymail": ("dummy", None, {}),
}


@dataclass(frozen=True)
class _Parts:
    scheme: str
    user: str
    password: str
    hosts: tuple[tuple[str, str], ...]  # host and port, each may be empty
    path: str
    options: dict[str, str]


def database(base: Path) -> Callable[[str], dict[str, Any]]:
    """Parses an address into an entry of DATABASES; an SQLite path counts from `base`."""

    def parse(text: str) -> dict[str, Any]:
        if text.lower().startswith("sqlite:"):
            return _sqlite(text, base)
        parts = _split(text, _ENCODE)
        if parts.scheme not in _POSTGRES_SCHEMES:
            raise ValueError("it names no database that can be used; write postgres://USER:PASSWORD@HOST/NAME.")
        return _postgres(parts)

    return parse


def sqlite_file(path: Path) -> dict[str, Any]:
    return {"ENGINE": SQLITE, "NAME": str(path), "USER": "", "PASSWORD": "", "HOST": "", "PORT": ""}


def absolute(database: dict[str, Any], text: str) -> str:
    return f"sqlite:///{quote(database['NAME'])}" if database["ENGINE"] == SQLITE else text


def mail(text: str) -> dict[str, Any]:
    parts = _split(text, _ENCODE_MAIL)
    if parts.scheme not in _MAIL_SCHEMES:
        raise ValueError(
            "it begins with none of smtp+tls://, smtp+ssl:// and smtp://; write one as in "
            "smtp+tls://USER:PASSWORD@mail.example:587 (STARTTLS), or with smtp+ssl and 465 for TLS from the start."
        )
    backend, usual_port, switches = _MAIL_SCHEMES[parts.scheme]
    host, port = parts.hosts[0] if parts.hosts else ("", "")
    if backend == "smtp" and (not host or len(parts.hosts) > 1 or parts.path or parts.options):
        raise ValueError("it is not one mail server and no more; write smtp+tls://USER:PASSWORD@mail.example:587.")
    return {
        "EMAIL_BACKEND": f"{_MAIL}.{backend}.EmailBackend",
        "EMAIL_HOST": host or None,
        "EMAIL_PORT": int(port) if port else usual_port,
        "EMAIL_HOST_USER": parts.user or None,
        "EMAIL_HOST_PASSWORD": parts.password or None,
        **switches,
    }


def _sqlite(text: str, base: Path) -> dict[str, Any]:
    begin, path = text[: len("sqlite:///")].lower(), text[len("sqlite:///") :]
    if begin != "sqlite:///" or not path or ":memory:" in path:
        raise ValueError("it names no file; write sqlite:////srv/exlab/db.sqlite3, with four strokes before the path.")
    if "?" in path or "#" in path:
        raise ValueError("there is a ? or # in its path; write %3F or %23 for it, and leave options out.")
    return sqlite_file(path_from(base)(_decoded(path, "write a % in its path as %25.")))


def _postgres(parts: _Parts) -> dict[str, Any]:
    name, hosts = parts.path, parts.hosts
    if name.startswith("/"):  # postgres:////var/run/postgresql/exlab
        folder, _slash, name = name.rpartition("/")
        hosts = ((folder, ""),)
    if not name or "/" in name or len(name) > _LONGEST_NAME:
        raise ValueError("it names no database behind the host; write postgres://USER:PASSWORD@HOST/NAME.")
    options = {"connect_timeout": _CONNECT_SECONDS, "tcp_user_timeout": _UNANSWERED, **parts.options}
    lives = options.pop("conn_max_age", "0")
    if not re.fullmatch("[0-9]{1,6}", lives) or set(options) - _libpq_options():
        raise ValueError("PostgreSQL knows none of the options behind its question mark, as in ?sslmode=require.")
    return {
        "ENGINE": POSTGRESQL,
        "NAME": name,
        "USER": parts.user,
        "PASSWORD": parts.password,
        "HOST": ",".join(host for host, _port in hosts),
        "PORT": ",".join(port for _host, port in hosts if port),
        "CONN_MAX_AGE": int(lives),
        "OPTIONS": options,
    }


def _libpq_options() -> set[str]:
    from psycopg import pq  # not imported for SQLite

    return {option.keyword.decode() for option in pq.Conninfo.get_defaults()}


def _split(text: str, encode: str) -> _Parts:
    """Raises ValueError if the address can be read in two ways."""
    match = re.fullmatch(r"([a-zA-Z0-9+.-]+)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?", text)
    if match is None:
        raise ValueError(f"it is no address with :// in it; {encode}")
    scheme, authority, path, query, fragment = match.groups(default="")
    before, _at, behind = authority.rpartition("@")
    if fragment or "@" in before or "@" in path + query or set(" []") & set(before) or " " in text:
        raise ValueError(f"user and password cannot be told from the rest; {encode}")
    user, _colon, password = before.partition(":")
    return _Parts(
        scheme=scheme.lower(),
        user=_decoded(user, encode),
        password=_decoded(password, encode),
        hosts=tuple(_host(part, encode) for part in behind.split(",")) if behind else (),
        path=_decoded(path[1:], encode),
        options=_options(query, encode),
    )


def _host(text: str, encode: str) -> tuple[str, str]:
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(.*))?", text)
    host, port = match.groups(default="") if match else ("", "no port")
    host = _decoded(host, encode)
    if port and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536):
        raise ValueError(f"what stands behind the host is no port from 1 to 65535; write digits there, and {encode}")
    # Docker allows underscores in the names of services.
    if not is_host_name(host.replace("_", "-")) and not host.startswith("/"):
        raise ValueError(f"there is no name of a host in it; write one behind the @, and {encode}")
    return host.strip("[]"), port


def _options(query: str, encode: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(query, strict_parsing=bool(query), keep_blank_values=True))
    except ValueError:
        raise ValueError(f"what stands behind its question mark is no option; take it away, and {encode}") from None


def _decoded(text: str, encode: str) -> str:
    if re.search(r"%(?![0-9a-fA-F]{2})", text):
        raise ValueError(f"a % in it is not followed by two digits; {encode}")
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(f"what its % stand for is no text; {encode}") from None
    if "\0" in decoded:  # libpq reads only up to it: it would ask another server
        raise ValueError(f"%00 stands for no character; {encode}")
    return decoded
