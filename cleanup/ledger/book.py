"""Transactions that write to the ledger: their rows and links together, at their end.

The chain has one head, which each of them locks. It is their last lock: a transaction that took another one after it
could wait for one that waits for the head. PostgreSQL asks for the runs that the rows name at the commit, so others
lock a run with `no_key=True`, which lets it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.db import DatabaseError, transaction

from cleanup.ledger import chain, sums
from cleanup.models import LedgerEntry, LedgerHead, LedgerLink

_AT_ONCE = 100
# The rows of the transaction under way.
_pending: ContextVar[list[LedgerEntry] | None] = ContextVar("ledger_rows", default=None)


class LedgerBroken(DatabaseError):
    """The chain has no head any more, so nothing can be written down."""


@contextmanager
def writing() -> Iterator[None]:
    """A transaction at whose end the rows of `write` are saved. Within another one it is a part of that.

    Durable, so no other transaction may be around it: that could take locks after the head. Raises DatabaseError,
    with nothing written.
    """
    outer = _pending.get()
    rows: list[LedgerEntry] = []
    token = _pending.set(rows)
    try:
        with transaction.atomic(durable=outer is None):
            yield
            if outer is None:
                _save(rows)
    finally:
        _pending.reset(token)
    if outer is not None:
        outer.extend(rows)  # only here: rows of what is rolled back go with it


def write(*rows: LedgerEntry) -> None:
    """Save unsaved rows at the end of the transaction under way; without one, at once."""
    pending = _pending.get()
    if pending is not None:
        pending.extend(rows)
        return
    with writing():
        write(*rows)


def head() -> LedgerHead:
    """Return the chain's head as it stands. Raises LedgerBroken where it is missing."""
    return _expect(LedgerHead.objects.first())


def _save(rows: list[LedgerEntry]) -> None:
    if not rows:
        return
    newest = _expect(LedgerHead.objects.select_for_update().first())
    links = []
    for row in rows:
        newest.position += 1
        newest.last_entry += 1
        row.pk = newest.last_entry
        content_sha256 = chain.content_digest(row)
        newest.sha256 = chain.link_digest(newest.sha256, content_sha256)
        links.append(
            LedgerLink(
                position=newest.position,
                entry_id=row.pk,
                form=chain.FORM,
                content_sha256=content_sha256,
                sha256=newest.sha256,
            )
        )
    # The trigger refuses a row without its link; the link's own reference is asked for at the commit.
    LedgerLink.objects.bulk_create(links, batch_size=_AT_ONCE)
    LedgerEntry.objects.bulk_create(rows, batch_size=_AT_ONCE)
    sums.add(rows)
    newest.save(update_fields=["position", "sha256", "last_entry"])


def _expect(found: LedgerHead | None) -> LedgerHead:
    if found is None:
        raise LedgerBroken("the ledger's chain has no head: restore the database, or see verify_ledger")
    return found
