"""Anchors that were written down and are gone: how many of each place, and the rows that declare such a loss."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings

from cleanup.ledger import anchors, book, entries
from cleanup.ledger.anchor_sources import AnchorSource
from cleanup.models import LedgerEntry, LedgerKind, Requester

REASON = "anchors_lost"
_SAID = re.compile(
    r"lacks (?P<missing>\d+) anchors of (?P<place>[^\n]+?) \(last of (?P<until>\S+Z)\): (?P<why>.*)", re.DOTALL
)


class NoneMissing(Exception):
    """All anchors that were written down can be read, so there is nothing to declare."""


@dataclass(frozen=True)
class AnchorLoss:
    """Anchors of one place of this host, by its name in the table, that were declared lost: those up to `until`.

    `position`: of the declaration in the chain.
    """

    entry: int
    position: int
    place: str
    missing: int
    until: datetime
    actor: str
    at: datetime
    why: str

    def covers(self, position: int, at: datetime) -> bool:
        """Whether an anchor that is missing was declared."""
        # Only the chain tells what is younger: a clock that was ahead once would excuse all until then.
        return position < self.position and at <= self.until


@dataclass(frozen=True)
class MissingAnchors:
    """The anchors of a place, by its name in the table, that no declaration explains; the last is of `until`."""

    place: str
    number: int
    until: datetime


def losses() -> list[AnchorLoss]:
    """Return what was declared of this host, the oldest first."""
    found = []
    rows = LedgerEntry.objects.of_itself(LedgerKind.RESTORED).filter(reason=REASON, host=settings.EXLAB_HOST)
    for entry in rows.exclude(link=None).select_related("link"):
        said = _SAID.fullmatch(entry.detail)
        try:
            until = anchors.instant(said["until"]) if said else None
        except ValueError:
            continue  # verify_ledger tells of a row that was changed
        if said and until:
            of = (entry.pk, entry.link.position, said["place"], int(said["missing"]))
            found.append(AnchorLoss(*of, until, entry.actor, entry.at, said["why"]))
    return found


def missing(sources: Iterable[AnchorSource]) -> list[MissingAnchors]:
    """Return what is missing of sources that were read, place by place."""
    sources = list(sources)
    copied = [source.seen for source in sources if source.is_copy]
    declared = losses()
    places: dict[str, list[AnchorSource]] = {}
    for source in sources:
        places.setdefault(source.written_as, []).append(source)
    found = []
    for place, several in places.items():
        its = [loss for loss in declared if loss.place == place]
        last = {
            anchor: at
            for anchor, position, at in _missing(several, copied)
            if not any(loss.covers(position, at) for loss in its)
        }
        if last:
            found.append(MissingAnchors(place, len(last), max(last.values())))
    return found


def _missing(several: list[AnchorSource], copied: list[set[int]]) -> Iterator[tuple[int, int, datetime]]:
    # One NAS may be reached by two paths: what one of them shows is there.
    if not any(source.is_off for source in several):
        yield from several[0].missing([*copied, *(source.seen for source in several)])


def declare(lost: Iterable[MissingAnchors], *, actor: str, reason: str, now: datetime) -> None:
    """Write down that anchors are lost, a row for each place. Raises NoneMissing."""
    rows = [
        entries.entry_of_itself(
            LedgerKind.RESTORED,
            now,
            requester=Requester.OPERATOR,
            actor=actor,
            reason=REASON,
            detail=f"lacks {one.number} anchors of {one.place} (last of {anchors.said(one.until)}): {reason}",
        )
        for one in lost
    ]
    if not rows:
        raise NoneMissing
    book.write(*rows)
    anchors.write(now=now)
