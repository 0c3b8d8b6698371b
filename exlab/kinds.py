"""Parsers of settings."""

import os
import zoneinfo
from collections.abc import Callable
from email.utils import parseaddr
from pathlib import Path

from exlab.reading import nearest

_LONGEST_HOST = 255  # the columns that hold it
_ZONES = Path("/usr/share/zoneinfo")  # where Django looks for them, if there is such a folder


def path_from(base: Path) -> Callable[[str], Path]:
    """`~` is a home; a relative path counts from `base`."""

    def parse(text: str) -> Path:
        if text.startswith("$"):
            raise ValueError("nothing is put in here for a name that begins with $; write the path itself.")
        if "://" in text:
            raise ValueError(f"{text!r} is no path of this host; write one as in /srv/exlab.")
        expanded = os.path.expanduser(text)
        if expanded.startswith("~"):
            raise ValueError(f"{text!r} names the home of a user whom this host does not know; write the whole path.")
        return Path(os.path.normpath(base / expanded))

    return parse


def parse_host(text: str) -> str:
    if len(text) > _LONGEST_HOST or any(character in text for character in ",/@ "):
        raise ValueError(f"{text[:40]!r} is no name of one host; write it as `hostname` says it, as in labpc-04.")
    return text


def parse_zone(text: str) -> str:
    try:
        zoneinfo.ZoneInfo(text)
        known = not _ZONES.exists() or (_ZONES / text).is_file()
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        known = False
    if not known:
        meant = nearest(text, zoneinfo.available_timezones()) or "Europe/Zurich"
        raise ValueError(f"{text!r} is no time zone; write one by its name, as in {meant}.")
    return text


def parse_mail_address(text: str) -> str:
    _name, address = parseaddr(text)
    before, _at, domain = address.rpartition("@")
    if not before or not domain or " " in address:
        raise ValueError(f"{text!r} is no mail address; write one as in staging@lab.example.")
    return text
