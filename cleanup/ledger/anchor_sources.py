"""The anchors that can be read now: of the data directory, of each NAS root, of the database, of a file."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from django.conf import settings

from cleanup.lab.nas import nas_anchors
from cleanup.lab.roots import opening
from cleanup.ledger import anchors
from cleanup.ledger.anchors import Anchor
from cleanup.models import LedgerAnchor
from cleanup.storage.data_directory import kept_anchors
from cleanup.storage.nas.client import NasError

DATABASE = "database"


@dataclass(frozen=True)
class AnchorSource:
    """What one place told. `unreadable`: lines that are no anchors; `problem`: why it told nothing.

    `missing`: anchors that were written there, as the database says, and are not there.
    """

    place: str
    anchors: tuple[Anchor, ...] = ()
    unreadable: int = 0
    problem: str = ""
    missing: int = 0


def of_text(place: str, text: str) -> AnchorSource:
    """Return what a text tells."""
    found, unreadable = anchors.parse(text)
    return AnchorSource(place, tuple(found), unreadable)


def read_all(installation: str) -> Iterator[AnchorSource]:
    """Yields what each place of this host tells of an installation. Never raises for a place."""
    data = opening.data_dir().path
    try:
        told = of_text(kept_anchors.path_in(data), kept_anchors.read(data).decode("ascii", "replace"))
        yield _with_missing(told, anchors.DATA_DIRECTORY)
    except OSError as error:
        yield AnchorSource(kept_anchors.path_in(data), problem=str(error))
    for nas, staging in nas_anchors.nas_roots_here().items():
        try:
            yield _with_missing(of_text(nas.path, nas_anchors.read(nas, staging, installation)), nas.token)
        except NasError as error:
            yield AnchorSource(nas.path, problem=str(error))
    yield AnchorSource(DATABASE, tuple(_of_database(installation)))


def _with_missing(told: AnchorSource, place: str) -> AnchorSource:
    there = {(anchor.position, anchor.sha256) for anchor in told.anchors}
    written = LedgerAnchor.objects.filter(host=settings.EXLAB_HOST, place=place).order_by()
    missing = set(written.values_list("position", "sha256")) - there
    return replace(told, missing=len(missing))


def _of_database(installation: str) -> Iterator[Anchor]:
    # Of this host alone a lab with many hosts would have too few: the table has those of all.
    rows = LedgerAnchor.objects.order_by("pk").values_list("position", "sha256", "at", "host")
    seen: set[tuple[int, str]] = set()
    for position, sha256, at, host in rows.iterator(chunk_size=5000):
        if (position, sha256) not in seen:
            seen.add((position, sha256))
            yield Anchor(installation, position, sha256, at, host)
