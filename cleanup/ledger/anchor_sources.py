"""The anchors that can be read now: of the data directory, of each NAS root, of the database, of a file."""

from collections.abc import Iterator
from dataclasses import dataclass

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
    """What one place told. `unreadable`: lines that are no anchors; `problem`: why it told nothing."""

    place: str
    anchors: tuple[Anchor, ...] = ()
    unreadable: int = 0
    problem: str = ""


def of_text(place: str, text: str) -> AnchorSource:
    """Return what a text tells."""
    found, unreadable = anchors.parse(text)
    return AnchorSource(place, tuple(found), unreadable)


def read_all(installation: str) -> Iterator[AnchorSource]:
    """Yields what each place of this host tells of an installation. Never raises for a place."""
    data = opening.data_dir().path
    try:
        yield of_text(kept_anchors.path_in(data), kept_anchors.read(data).decode("ascii", "replace"))
    except OSError as error:
        yield AnchorSource(kept_anchors.path_in(data), problem=str(error))
    for nas, staging in nas_anchors.nas_roots_here().items():
        try:
            yield of_text(nas.path, nas_anchors.read(nas, staging, installation))
        except NasError as error:
            yield AnchorSource(nas.path, problem=str(error))
    yield AnchorSource(DATABASE, tuple(_of_database(installation)))


def _of_database(installation: str) -> Iterator[Anchor]:
    # Of this host alone a lab with many hosts would have too few: the table has those of all.
    rows = LedgerAnchor.objects.order_by("pk").values_list("position", "sha256", "at", "host")
    seen: set[tuple[int, str]] = set()
    for position, sha256, at, host in rows.iterator(chunk_size=5000):
        if (position, sha256) not in seen:
            seen.add((position, sha256))
            yield Anchor(installation, position, sha256, at, host)
