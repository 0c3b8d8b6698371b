"""Databases restored from a backup: what their chain lacks, and the row that declares it.

The chain goes on from where the backup stood, so positions come a second time. Anchors of the lost rows stay: they lie
beyond the last anchor that both have, and are no younger than the newest one that the declaration names.
"""

import enum
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cleanup.ledger import anchors, book, entries
from cleanup.ledger.anchor_sources import AnchorSource
from cleanup.ledger.anchors import Anchor
from cleanup.models import LedgerEntry, LedgerKind, LedgerLink, Requester

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Clocks of hosts differ.
_SKEW = timedelta(days=1)
_SAID = re.compile(
    r"lacks position (?P<position>\d+) (?P<sha256>[0-9a-f]{64}) of (?P<at>\S+Z) \(installation (?P<of>\S+)\); "
    r"shares positions up to (?P<shared>\d+); stood at (?P<stood>\d+) (?P<stood_sha256>[0-9a-f]{64}): (?P<why>.*)",
    re.ASCII | re.DOTALL,
)


class NothingLacks(Exception):
    """All anchors agree with the chain, so there is nothing to declare."""


class NoRestore(Exception):
    """Anchors disagree as they never do after a restore; the message says how."""


class Disagrees(enum.StrEnum):
    """How an anchor disagrees with the chain. Scripts depend on these words."""

    CUT = "cut"
    DIFFERS = "differs"
    OTHER_INSTALLATION = "other_installation"


@dataclass(frozen=True)
class RestoreGap:
    """A declared restore of this `installation`.

    `entry` says that the chain lacks `newest` and what leads to it beyond position `shared`; it `stood` there then.
    """

    installation: str
    entry: int
    newest: Anchor
    shared: int
    stood: int
    actor: str
    at: datetime
    why: str

    def covers(self, anchor: Anchor) -> bool:
        """Whether an anchor that disagrees is of the rows that were lost."""
        is_beyond = anchor.position > self.shared or anchor.installation != self.installation
        return is_beyond and anchor.at <= self.newest.at


@dataclass(frozen=True)
class AnchorDisagreement:
    """An anchor that is not of this chain, where it stands, and the restore that declares it."""

    anchor: Anchor
    place: str
    how: Disagrees
    declared: RestoreGap | None


@dataclass(frozen=True)
class AgreeingAnchors:
    """Anchors that agree, by their positions and instants (microseconds since 1970) alone: there may be a million.

    `newest`: the position of the newest one outside of the database; 0 without one.
    """

    positions: "array[int]" = field(default_factory=lambda: array("q"))
    instants: "array[int]" = field(default_factory=lambda: array("q"))
    newest: int = 0

    def newest_before(self, at: datetime) -> int:
        """The largest position of one that was written before an instant; 0 without one."""
        limit = _microseconds(at)
        pairs = zip(self.positions, self.instants, strict=True)
        return max((position for position, instant in pairs if instant < limit), default=0)


@dataclass(frozen=True)
class ComparedAnchors:
    """Anchors beside the chain, and the restores that it declares."""

    agreeing: AgreeingAnchors
    disagreements: tuple[AnchorDisagreement, ...]
    gaps: tuple[RestoreGap, ...]

    @property
    def undeclared(self) -> list[AnchorDisagreement]:
        return [one for one in self.disagreements if one.declared is None]

    @property
    def newest_agreeing(self) -> int:
        """The position of the newest one that lies outside of the database, which cannot vouch for itself."""
        return self.agreeing.newest


NOTHING_COMPARED = ComparedAnchors(AgreeingAnchors(), (), ())


def compare(sources: Iterable[AnchorSource]) -> ComparedAnchors:
    """Read anchors and compare them with the chain's links as stored; `verification.verify` judges these."""
    head = book.head()
    installation = str(head.installation)
    declared = tuple(gaps(installation))
    found: list[AnchorDisagreement] = []
    positions, instants, newest = array("q"), array("q"), 0
    for source in sources:
        for batch in source.batches():
            stored = _stored(anchor.position for anchor in batch)
            for anchor in batch:
                if (how := _how(anchor, installation, stored)) is not None:
                    gap = next((gap for gap in declared if gap.covers(anchor)), None)
                    found.append(AnchorDisagreement(anchor, source.place, how, gap))
                    continue
                positions.append(anchor.position)
                instants.append(_microseconds(anchor.at))
                # An owner of the database can write its own anchors anew too.
                newest = max(newest, anchor.position if source.vouches else 0)
    return ComparedAnchors(AgreeingAnchors(positions, instants, newest), tuple(found), declared)


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _how(anchor: Anchor, installation: str, stored: dict[int, str]) -> Disagrees | None:
    if anchor.installation != installation:
        return Disagrees.OTHER_INSTALLATION
    if anchor.position not in stored:
        return Disagrees.CUT
    return None if stored[anchor.position] == anchor.sha256 else Disagrees.DIFFERS


def _stored(positions: Iterable[int]) -> dict[int, str]:
    wanted = set(positions)
    return dict(LedgerLink.objects.filter(position__in=wanted).values_list("position", "sha256")) if wanted else {}


def gaps(installation: str) -> Iterator[RestoreGap]:
    """Yields the declared restores, the oldest first."""
    for entry in LedgerEntry.objects.of_itself(LedgerKind.RESTORED):
        if said := _SAID.fullmatch(entry.detail):
            newest = Anchor(said["of"], int(said["position"]), said["sha256"], anchors.instant(said["at"]), "")
            shared, stood = int(said["shared"]), int(said["stood"])
            yield RestoreGap(installation, entry.pk, newest, shared, stood, entry.actor, entry.at, said["why"])


def declare(compared: ComparedAnchors, *, actor: str, reason: str, now: datetime) -> RestoreGap:
    """Write down that the database was restored, with the newest anchor that the chain lacks.

    Raises NothingLacks, NoRestore.
    """
    lacking = [one.anchor for one in compared.undeclared]
    if not lacking:
        raise NothingLacks
    head = book.head()
    own = str(head.installation)
    newest = max(lacking, key=lambda anchor: (anchor.at, anchor.position))
    if newest.at > now + _SKEW:
        # It would excuse every cut until then.
        raise NoRestore(
            f"an anchor at position {newest.position} says {newest.said_at}, a time to come: no loss did that"
        )
    shared = _shared(compared, [anchor for anchor in lacking if anchor.installation == own])
    said = (
        f"lacks position {newest.position} {newest.sha256} of {newest.said_at} (installation {newest.installation}); "
        f"shares positions up to {shared}; stood at {head.position} {head.sha256}: {reason}"
    )
    entry = entries.entry_of_itself(LedgerKind.RESTORED, now, requester=Requester.OPERATOR, actor=actor, detail=said)
    book.write(entry)
    anchors.write(now=now)
    return next(gap for gap in gaps(own) if gap.entry == entry.pk)


def _shared(compared: ComparedAnchors, lacking: list[Anchor]) -> int:
    """The newest position of which both the lost rows and the chain have an anchor."""
    # What was written down since the restore agrees too, and is younger than all that was lost.
    begun = min((anchor.at for anchor in lacking), default=None)
    shared = compared.agreeing.newest_before(begun) if begun is not None else 0
    earliest = min((anchor.position for anchor in lacking), default=shared + 1)
    if earliest <= shared:
        raise NoRestore(
            f"an anchor at position {earliest} disagrees, and an older one at {shared} agrees: no restore does that"
        )
    return shared
