"""Rows for the tests of the chain, and the hands of a database's owner."""

from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from cleanup.ledger import book, chain
from cleanup.models import LedgerEntry, LedgerHead, LedgerKind, LedgerLink, Requester, triggers


def key_row(at: datetime, number: int = 0, **fields: Any) -> LedgerEntry:
    """An unsaved row that needs neither run nor attempt."""
    told = {"actor": f"person {number}", "detail": f"row {number}", "files": number}
    told |= {"kind": LedgerKind.KEY, "requester": Requester.OPERATOR, "host": "labpc", "policy_version": 0}
    return LedgerEntry(at=at + timedelta(minutes=number), **{**told, **fields})


def write_rows(at: datetime, number: int) -> list[LedgerEntry]:
    rows = [key_row(at, each) for each in range(1, number + 1)]
    book.write(*rows)
    return rows


def as_owner(statement: str, *parameters: Any) -> None:
    """What only the owner of the tables can do: the triggers are off."""
    if triggers.standing(connection):
        triggers.remove(connection)
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def key_at(position: int) -> int:
    return LedgerHead.objects.get().began_after + position


def chain_anew(first: int, *, head: bool = True) -> None:
    """Compute the links from a position on anew from the rows as they are, and the head."""
    before = LedgerLink.objects.get(position=first - 1).sha256
    for link in LedgerLink.objects.filter(position__gte=first).select_related("entry"):
        content = chain.content_digest(link.entry)
        before = chain.link_digest(before, content)
        set_link(link.position, content_sha256=content, sha256=before)
    if head:
        as_owner("UPDATE cleanup_ledgerhead SET sha256 = %s", before)


def set_link(position: int, **columns: Any) -> None:
    settings = ", ".join(f"{name} = %s" for name in columns)
    as_owner(f"UPDATE cleanup_ledgerlink SET {settings} WHERE position = %s", *columns.values(), position)


def set_entry(position: int, **columns: Any) -> None:
    settings = ", ".join(f"{name} = %s" for name in columns)
    as_owner(f"UPDATE cleanup_ledgerentry SET {settings} WHERE id = %s", *columns.values(), key_at(position))


def cut(after: int, *, head: bool) -> None:
    """Take away all rows and links beyond a position; with `head` it is set back too."""
    as_owner("DELETE FROM cleanup_ledgerlink WHERE position > %s", after)
    as_owner("DELETE FROM cleanup_ledgerentry WHERE id > %s", key_at(after))
    if head:
        last = LedgerLink.objects.get(position=after)
        as_owner(
            "UPDATE cleanup_ledgerhead SET position = %s, sha256 = %s, last_entry = %s",
            after,
            last.sha256,
            key_at(after),
        )
