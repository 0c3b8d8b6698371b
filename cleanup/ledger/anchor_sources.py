"""The anchors that can be read now: of the data directory, of each NAS root, of the database, of a file.

They are read in batches, so that those of decades need little memory.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from django.conf import settings
from django.db.models import QuerySet

from cleanup.lab.nas import nas_anchors
from cleanup.lab.nas.nas_roots import NasRoot
from cleanup.lab.roots import opening
from cleanup.ledger import anchors
from cleanup.ledger.anchors import Anchor
from cleanup.models import AnchorPlace, LedgerAnchor
from cleanup.storage.data_directory import kept_anchors
from cleanup.storage.nas.client import NasError

DATABASE = "database"
_AT_ONCE = 500
_BLOCK = 1 << 20
# No anchor is as long, so the rest of such a line is passed over.
_LONGEST = 1 << 16
# An anchor, or None for a line that is none.
Told = Iterator[Anchor | None]


@dataclass
class AnchorSource:
    """One place, and what the last reading of it has counted.

    `unreadable`: lines that are no anchors; `problem`: why it told nothing, or not all. `written_as`: its name in the
    table of written anchors, of which `newest` is the last that it must hold. `vouches`: it lies outside of the
    database. `seen`: fingerprints of its anchors, kept for a copy and for a place with such a name.
    """

    place: str
    told: Callable[[], Told] = lambda: iter(())
    problem: str = ""
    written_as: str = ""
    is_copy: bool = False
    vouches: bool = True
    read: int = 0
    unreadable: int = 0
    newest: int = 0
    seen: set[int] = field(default_factory=set)

    @property
    def is_off(self) -> bool:
        """Whether it told nothing or not all, as a NAS that is off does; the data directory is always there."""
        return bool(self.problem) and self.written_as != anchors.DATA_DIRECTORY

    def batches(self) -> Iterator[list[Anchor]]:
        """Read the place; never raises for it."""
        self.read, self.unreadable, self.seen = 0, 0, set()
        # Asked for before: an anchor stands in its place before it has a row.
        last = self._written().order_by("-pk").values_list("pk", flat=True).first() if self.written_as else None
        self.newest = last or 0
        batch: list[Anchor] = []
        try:
            for anchor in self.told():
                if anchor is None:
                    self.unreadable += 1
                    continue
                batch.append(anchor)
                if len(batch) == _AT_ONCE:
                    yield self._counted(batch)
                    batch = []
        except (NasError, OSError) as error:
            self.problem = str(error)
        yield self._counted(batch)

    def missing(self, others: Iterable[set[int]]) -> Iterator[tuple[int, int, datetime]]:
        """Yield fingerprint, position and instant of what was written there and is neither there nor in `others`.

        A place that is off misses nothing.
        """
        if self.is_off or not self.written_as:
            return
        known = [self.seen, *others]
        written = self._written().filter(pk__lte=self.newest).order_by("pk")
        for position, sha256, at in written.values_list("position", "sha256", "at").iterator(chunk_size=5000):
            anchor = _fingerprint(position, sha256)
            if not any(anchor in some for some in known):
                yield anchor, position, at

    def _written(self) -> QuerySet[LedgerAnchor]:
        return LedgerAnchor.objects.filter(host=settings.EXLAB_HOST, place=self.written_as)

    def _counted(self, batch: list[Anchor]) -> list[Anchor]:
        self.read += len(batch)
        if self.is_copy or self.written_as:
            self.seen.update(_fingerprint(anchor.position, anchor.sha256) for anchor in batch)
        return batch


def _fingerprint(position: int, sha256: str) -> int:
    # In place of both, since there may be a million.
    return hash((position, sha256))


def of_text(place: str, text: str) -> AnchorSource:
    """Return the source of a text."""
    return AnchorSource(place, lambda: _parsed([text.encode("ascii", "replace")]))


def of_copy(path: str) -> AnchorSource:
    """Return the source of a file that an operator named."""
    return AnchorSource(path, lambda: _parsed(_blocks(path)), is_copy=True)


def read_all(installation: str) -> Iterator[AnchorSource]:
    """Yields each place of this host, and the database."""
    data = opening.data_dir().path
    yield AnchorSource(
        kept_anchors.path_in(data), lambda: _parsed(kept_anchors.read(data)), written_as=anchors.DATA_DIRECTORY
    )
    names = {anchors.DATA_DIRECTORY}
    for nas, staging in nas_anchors.nas_roots_here().items():
        yield AnchorSource(nas.path, partial(_on_nas, nas, staging, installation), written_as=nas.token)
        names.add(nas.token)
    for former in AnchorPlace.objects.filter(host=settings.EXLAB_HOST).exclude(place__in=names).order_by("place"):
        yield AnchorSource(former.path or former.place, problem="no staging root of this host uses it any more")
    yield AnchorSource(DATABASE, lambda: _of_database(installation), vouches=False)


def _on_nas(nas: NasRoot, staging: str, installation: str) -> Told:
    yield from _parsed(nas_anchors.read(nas, staging, installation))


def _blocks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while part := file.read(_BLOCK):
            yield part


def _parsed(parts: Iterable[bytes]) -> Told:
    for line in _lines(parts):
        if line.strip():
            found, _unreadable = anchors.parse(line.decode("ascii", "replace"))
            yield found[0] if found else None


def _lines(parts: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for part in parts:
        *whole, rest = (rest[:_LONGEST] + part).split(b"\n")
        yield from whole
    yield rest


def _of_database(installation: str) -> Iterator[Anchor]:
    # Of this host alone a lab with many hosts would have too few: the table has those of all.
    rows = LedgerAnchor.objects.order_by("position", "pk").values_list("position", "sha256", "at", "host")
    at_position, seen = 0, set[str]()
    for position, sha256, at, host in rows.iterator(chunk_size=5000):
        if position != at_position:
            at_position, seen = position, set()
        if sha256 not in seen:
            seen.add(sha256)
            yield Anchor(installation, position, sha256, at, host)
