"""Heads of the chain, written down outside of the database: on each NAS root, in the data directory and in the log.

A person who changes the database cannot change those, so a chain that was cut or written anew does not agree with them.
"""

import json
import logging
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction

from cleanup.lab.nas import nas_anchors
from cleanup.lab.nas.nas_roots import NasRoot
from cleanup.lab.roots import opening
from cleanup.ledger import book
from cleanup.models import AnchorPlace, LedgerAnchor
from cleanup.storage.data_directory import kept_anchors
from cleanup.storage.nas.client import NasError

logger = logging.getLogger(__name__)

# The place of the copy beside the tombstones; any other place is a NAS root's token.
DATA_DIRECTORY = "data directory"
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_INSTANT = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True)
class Anchor:
    """A head of the chain that was written down; `at` in UTC."""

    installation: str
    position: int
    sha256: str
    at: datetime
    host: str

    @property
    def line(self) -> str:
        """As one line of JSON, in ASCII."""
        return json.dumps({**asdict(self), "at": self.said_at}, sort_keys=True, separators=(",", ":"))

    @property
    def encoded(self) -> bytes:
        return self.line.encode("ascii")

    @property
    def said_at(self) -> str:
        return said(self.at)


def said(at: datetime) -> str:
    """Return an instant as anchors write it."""
    return at.astimezone(UTC).strftime(_INSTANT)


def instant(text: str) -> datetime:
    """Return what `said` wrote. Raises ValueError."""
    return datetime.strptime(text, _INSTANT).replace(tzinfo=UTC)


def parse(text: str) -> tuple[list[Anchor], int]:
    """Return the anchors of some lines, in their order, and how many lines are none."""
    found: list[Anchor] = []
    lines = [line for line in text.splitlines() if line.strip()]
    for line in lines:
        try:
            found.append(_anchor(json.loads(line)))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return found, len(lines) - len(found)


def _anchor(told: dict[str, object]) -> Anchor:
    position, sha256 = told["position"], str(told["sha256"])
    if type(position) is not int or not 0 < position < 1 << 63 or not _DIGEST.fullmatch(sha256):
        raise ValueError
    installation, at = str(uuid.UUID(str(told["installation"]))), instant(str(told["at"]))
    return Anchor(installation, position, sha256, at, str(told["host"])[:255])


@dataclass(frozen=True)
class _AnchoredPlace:
    name: str
    path: str
    append: Callable[[Anchor], None]


def write(*, now: datetime, daily: bool = False) -> int:
    """Write the head down in every place of this host that lacks it; returns in how many.

    `daily`: also where it stands already. Never raises: what fails is logged, kept with the place and tried again.
    """
    try:
        # One at a time, so that only one process waits for a NAS that hangs.
        with opening.data_dir().lock("anchoring") as free:
            return _write(now, daily=daily) if free else 0
    except Exception:  # neither a clear nor a sweep may fail for this
        logger.exception("the ledger's head cannot be written down")
        return 0


def _write(now: datetime, *, daily: bool) -> int:
    head = book.head()
    if not head.position:
        return 0
    anchor = Anchor(str(head.installation), head.position, head.sha256, now, settings.EXLAB_HOST)
    written = 0
    for place in _places():
        known = AnchorPlace.objects.filter(host=anchor.host, place=place.name).first()
        if daily or known is None or (known.sha256, known.path) != (anchor.sha256, place.path):
            written += _write_at(place, anchor)
    if written:
        logger.info("the ledger stands at %d %s (installation %s)", anchor.position, anchor.sha256, anchor.installation)
    return written


def _write_at(place: _AnchoredPlace, anchor: Anchor) -> bool:
    kept: dict[str, Any] = {"host": anchor.host, "place": place.name}
    try:
        place.append(anchor)
    except (NasError, OSError) as error:
        problem = str(error)
        row, _new = AnchorPlace.objects.get_or_create(**kept)
        if row.problem != problem:  # a NAS that may only be read is told once
            logger.warning("the ledger's head cannot be written down in %s: %s", place.path, problem)
        since = row.since or anchor.at
        AnchorPlace.objects.filter(pk=row.pk).update(path=place.path, problem=problem, since=since)
        return False
    with transaction.atomic():
        LedgerAnchor.objects.create(position=anchor.position, sha256=anchor.sha256, at=anchor.at, **kept)
        stands = {"path": place.path, "position": anchor.position, "sha256": anchor.sha256, "at": anchor.at}
        AnchorPlace.objects.update_or_create(**kept, defaults={**stands, "problem": "", "since": None})
    return True


def _places() -> Iterator[_AnchoredPlace]:
    data = opening.data_dir().path
    yield _AnchoredPlace(
        DATA_DIRECTORY, kept_anchors.path_in(data), lambda anchor: kept_anchors.append(data, anchor.encoded)
    )
    for nas, staging in nas_anchors.nas_roots_here().items():
        yield _AnchoredPlace(nas.token, nas.path, partial(_append_on_nas, nas, staging))


def _append_on_nas(nas: NasRoot, staging: str, anchor: Anchor) -> None:
    nas_anchors.append(nas, staging, anchor.installation, anchor.line)
