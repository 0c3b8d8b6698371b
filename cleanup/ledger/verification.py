"""Whether the ledger is what was written: the chain is computed anew from the rows, in constant memory."""

import enum
import json
import uuid
from dataclasses import dataclass

from django.db import connection

from cleanup.ledger import chain
from cleanup.ledger.linked_rows import LinkedRow, linked_rows
from cleanup.models import LedgerEntry, LedgerHead, LedgerLink


class ChainFault(enum.StrEnum):
    """What is wrong with the first bad row. Scripts depend on these words."""

    EDITED = "edited"
    SWAPPED = "swapped"
    MISSING = "missing"
    INSERTED = "inserted"
    REWRITTEN = "rewritten"
    CUT = "cut"
    HEAD = "head"
    UNKNOWN_FORM = "unknown_form"


@dataclass(frozen=True)
class BadRow:
    """The first bad row: its position in the chain (0: none) and its key (0: none)."""

    fault: ChainFault
    position: int
    entry: int
    said: str


@dataclass(frozen=True)
class VerifiedChain:
    """The chain as it stands. `unvouched`: rows from before the chain, for which nothing vouches."""

    installation: uuid.UUID | None
    position: int
    sha256: str
    unvouched: int
    bad: BadRow | None


@dataclass
class _Followed:
    """How far the chain is followed, and the digest there."""

    position: int
    sha256: str


def verify() -> VerifiedChain:
    """Compute the whole chain anew; stops at the first bad row. Others may write meanwhile: their rows are followed."""
    head = LedgerHead.objects.first()
    if head is None:
        return VerifiedChain(None, 0, "", 0, BadRow(ChainFault.HEAD, 0, 0, "the chain has no head"))
    begun = chain.beginning(head.installation, began_after=head.began_after, unvouched=head.unvouched)
    place, bad = _Followed(0, begun), _before_the_chain(head)
    while bad is None:
        bad = _follow(head, place)
        newer = LedgerHead.objects.get()
        if bad is not None or newer.position <= place.position:
            break
        head = newer
    bad = bad or _beyond()
    return VerifiedChain(head.installation, place.position, place.sha256, head.unvouched, bad)


def _before_the_chain(head: LedgerHead) -> BadRow | None:
    found = LedgerEntry.objects.filter(pk__lte=head.began_after).count()
    if found == head.unvouched:
        return None
    fault = ChainFault.MISSING if found < head.unvouched else ChainFault.INSERTED
    said = f"{found} rows lie before the chain (keys up to {head.began_after}); it began with {head.unvouched}"
    return BadRow(fault, 0, 0, said)


def _follow(head: LedgerHead, place: _Followed) -> BadRow | None:
    for row in linked_rows(place.position, head.position):
        if bad := _judge(head, place, row):
            return bad
        place.position, place.sha256 = row.position, row.sha256
    return _end(head, place)


def _judge(head: LedgerHead, place: _Followed, row: LinkedRow) -> BadRow | None:
    position, key = place.position + 1, head.began_after + place.position + 1
    if row.position != position:
        return _gap(position, key)
    if row.entry_id != key:
        said = f"its link names row {row.entry_id} in place of row {key}"
        return BadRow(ChainFault.SWAPPED, position, key, said)
    if row.form not in chain.FIELDS:
        return BadRow(
            ChainFault.UNKNOWN_FORM, position, key, f"its content has form {row.form}: a newer program wrote it"
        )
    if row.content is None:
        return BadRow(ChainFault.MISSING, position, key, "its link stands, and the row is gone")
    content = _content_digest(row)
    follows = chain.link_digest(place.sha256, row.content_sha256) == row.sha256
    if content == row.content_sha256 and follows:
        return None
    if content == row.content_sha256:
        return _broken_link(head, place, row, key)
    if follows:
        return _changed(position, key, row)
    if chain.link_digest(place.sha256, content) == row.sha256:
        return BadRow(
            ChainFault.REWRITTEN, position, key, "its link names another content; the row itself fits the chain"
        )
    return BadRow(ChainFault.REWRITTEN, position, key, "neither the row nor its link fits the chain")


def _content_digest(row: LinkedRow) -> str:
    found = chain.digest(row.content or b"")
    if found == row.content_sha256:
        return found
    # The fast reading never accuses: what differs is read again as it was written.
    try:
        told, read = chain.content(LedgerEntry.objects.get(pk=row.entry_id), row.form), json.loads(row.content or b"")
        # In another writing the database would sort and find it elsewhere.
        is_same = all(read[name] == told[name] for name in read.keys() & told.keys())
        return chain.digest(chain.canonical(told)) if is_same else found
    except (AttributeError, TypeError, ValueError):
        return found  # no value of ours: SQLite keeps any text in any column


def _gap(position: int, key: int) -> BadRow:
    if LedgerEntry.objects.filter(pk=key).exists():
        return BadRow(ChainFault.MISSING, position, key, "the row stands, and its link is gone")
    return BadRow(ChainFault.MISSING, position, key, "the row and its link are gone")


def _broken_link(head: LedgerHead, place: _Followed, row: LinkedRow, key: int) -> BadRow:
    """The row fits its link, and the link not the one before: which of the two was written anew?"""
    if not _is_vouched_for(head, row):
        return BadRow(ChainFault.REWRITTEN, row.position, key, "its link does not follow the one before")
    if place.position == 0:
        said = "the head tells another beginning of the chain than its first link"
        return BadRow(ChainFault.HEAD, 0, 0, said)
    said = "rows up to this one were written anew together with their links: the links after them follow others"
    return BadRow(ChainFault.REWRITTEN, place.position, key - 1, said)


def _is_vouched_for(head: LedgerHead, row: LinkedRow) -> bool:
    following = LedgerLink.objects.filter(position=row.position + 1).first()
    if following is not None:
        return chain.link_digest(row.sha256, following.content_sha256) == following.sha256
    return row.position == head.position and row.sha256 == head.sha256


def _changed(position: int, key: int, row: LinkedRow) -> BadRow:
    if other := _now_at(key, row):
        return BadRow(ChainFault.SWAPPED, position, key, f"what it held stands in row {other} now")
    return BadRow(ChainFault.EDITED, position, key, "the row was changed after it was written")


def _now_at(key: int, row: LinkedRow) -> int:
    """The key of the later row that holds what the row held; 0 if there is none."""
    own = f'"id":{key},'.encode()
    for other in linked_rows(row.position, LedgerLink.objects.latest("position").position):
        content = (other.content or b"").replace(f'"id":{other.entry_id},'.encode(), own, 1)
        if chain.digest(content) == row.content_sha256:
            return other.entry_id
    return 0


def _end(head: LedgerHead, place: _Followed) -> BadRow | None:
    if place.position < head.position:
        said = f"the tail was cut: the head names position {head.position}, and the links end at {place.position}"
        return BadRow(ChainFault.CUT, place.position + 1, head.began_after + place.position + 1, said)
    if place.sha256 != head.sha256:
        return BadRow(ChainFault.HEAD, head.position, head.last_entry, "the head differs from the last link")
    if head.last_entry != head.began_after + head.position:
        return BadRow(ChainFault.HEAD, head.position, head.last_entry, "the head names another row than the last link")
    return None


# One statement each, so that no writer comes between the head and what is compared with it.
_BEYOND = (
    (LedgerLink, "position", "position", "a link stands beyond the head: the head was set back, or the link was added"),
    (LedgerEntry, "id", "last_entry", "the row has no link in the chain"),
)


def _beyond() -> BadRow | None:
    with connection.cursor() as cursor:
        for model, column, known, said in _BEYOND:
            cursor.execute(
                f'SELECT min(t."{column}") FROM "{model._meta.db_table}" t '  # noqa: S608
                f'WHERE t."{column}" > (SELECT h."{known}" FROM "{LedgerHead._meta.db_table}" h)'
            )
            (found,) = cursor.fetchone()
            if found is not None:
                is_link = model is LedgerLink
                return BadRow(ChainFault.INSERTED, found if is_link else 0, 0 if is_link else found, said)
    return None
