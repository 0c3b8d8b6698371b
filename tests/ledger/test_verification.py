"""Whoever owns the database can change the ledger, and each change is found."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from django.db import connection, transaction

from cleanup.ledger import book, chain, linked_rows, verification
from cleanup.ledger.verification import ChainFault
from cleanup.models import LedgerEntry, LedgerHead, LedgerLink
from tests.ledger.book_rows import as_owner, chain_anew, cut, key_at, key_row, set_entry, set_link, write_rows

pytestmark = pytest.mark.django_db

ROWS = 12
OTHER = "f" * 64


@pytest.fixture
def written(now: datetime) -> list[LedgerEntry]:
    return write_rows(now, ROWS)


@pytest.fixture
def rows(written: list[LedgerEntry]) -> Iterator[list[LedgerEntry]]:
    """Twelve rows; what a test does to them is rolled back, with the constraints that it breaks."""
    with transaction.atomic():
        yield written
        transaction.set_rollback(True)


def bad() -> tuple[str, int, int]:
    found = verification.verify().bad
    assert found is not None
    return found.fault, found.position, found.entry


def test_an_untouched_chain_is_whole(rows: list[LedgerEntry]) -> None:
    found = verification.verify()
    head = LedgerHead.objects.get()
    assert (found.bad, found.position, found.sha256) == (None, ROWS, head.sha256)
    assert (found.installation, found.unvouched) == (head.installation, head.unvouched)


def test_an_empty_chain_is_whole() -> None:
    assert (verification.verify().bad, verification.verify().position) == (None, 0)


def test_the_fast_reading_equals_the_canonical_content(rows: list[LedgerEntry], monkeypatch: Any) -> None:
    monkeypatch.setattr(linked_rows, "_AT_ONCE", 5)
    read = list(linked_rows.linked_rows(0, ROWS))
    assert [row.content for row in read] == [chain.canonical(chain.content(entry)) for entry in rows]
    assert [row.position for row in linked_rows.linked_rows(4, 10)] == [5, 6, 7, 8, 9, 10]


def test_a_change_of_any_column_is_found(rows: list[LedgerEntry]) -> None:
    """Every column of the model is in the content, and a change of each is found."""
    assert {field.attname for field in LedgerEntry._meta.fields} == set(chain.FIELDS[chain.FORM])
    for field in LedgerEntry._meta.fields:
        if field.primary_key or field.is_relation:
            continue  # the references are asked for by the database itself
        value: Any = {"BigIntegerField": 99, "PositiveIntegerField": 99, "JSONField": '{"x": 1}'}.get(
            field.get_internal_type(), "other"
        )
        value = "2026-06-15 08:05:00.000001+00:00" if field.name == "at" else value
        value = "restored" if field.name == "kind" else value
        with transaction.atomic():
            set_entry(5, **{field.column: value})
            assert bad() == (ChainFault.EDITED, 5, key_at(5)), field.name
            transaction.set_rollback(True)
    assert verification.verify().bad is None


def swap_contents() -> None:
    columns = [field.column for field in LedgerEntry._meta.fields if not field.primary_key]
    with connection.cursor() as cursor:
        values = {}
        for position in (4, 7):
            named = ", ".join(f'"{name}"' for name in columns)
            cursor.execute(f"SELECT {named} FROM cleanup_ledgerentry WHERE id = %s", [key_at(position)])
            values[position] = cursor.fetchone()
    for position, other in ((4, 7), (7, 4)):
        set_entry(position, **{f'"{name}"': value for name, value in zip(columns, values[other], strict=True)})


def swap_links() -> None:
    for position, key in ((4, -1), (7, key_at(4)), (4, key_at(7))):
        set_link(position, entry_id=key)


def delete(position: int, *, row: bool = True, link: bool = True) -> None:
    if link:
        as_owner("DELETE FROM cleanup_ledgerlink WHERE position = %s", position)
    if row:
        as_owner("DELETE FROM cleanup_ledgerentry WHERE id = %s", key_at(position))


def insert(key: int) -> None:
    columns = ", ".join(f'"{field.column}"' for field in LedgerEntry._meta.fields if not field.primary_key)
    as_owner(
        f"INSERT INTO cleanup_ledgerentry (id, {columns}) SELECT %s, {columns} FROM cleanup_ledgerentry WHERE id = %s",
        key,
        key_at(3),
    )


def rewrite(position: int) -> None:
    """A row with its link, so that both fit what lies before."""
    set_entry(position, actor="eve")
    content = chain.content_digest(LedgerEntry.objects.get(pk=key_at(position)))
    before = LedgerLink.objects.get(position=position - 1).sha256
    set_link(position, content_sha256=content, sha256=chain.link_digest(before, content))


def set_head(**columns: Any) -> None:
    named = ", ".join(f"{name} = %s" for name in columns)
    as_owner(f"UPDATE cleanup_ledgerhead SET {named}", *columns.values())


@pytest.mark.parametrize(
    ("tamper", "fault", "position"),
    [
        (lambda: set_entry(5, actor="eve"), ChainFault.EDITED, 5),
        (lambda: set_entry(1, files=0), ChainFault.EDITED, 1),
        (lambda: set_entry(ROWS, detail=""), ChainFault.EDITED, ROWS),
        (swap_contents, ChainFault.SWAPPED, 4),
        (swap_links, ChainFault.SWAPPED, 4),
        (lambda: delete(6), ChainFault.MISSING, 6),
        (lambda: delete(1), ChainFault.MISSING, 1),
        (lambda: delete(6, link=False), ChainFault.MISSING, 6),
        (lambda: delete(6, row=False), ChainFault.MISSING, 6),
        (lambda: cut(9, head=False), ChainFault.CUT, 10),
        (lambda: set_link(6, content_sha256=OTHER), ChainFault.REWRITTEN, 6),
        (lambda: set_link(6, sha256=OTHER), ChainFault.REWRITTEN, 6),
        (lambda: set_link(1, sha256=OTHER), ChainFault.REWRITTEN, 1),
        (lambda: set_link(6, sha256=OTHER, content_sha256=OTHER), ChainFault.REWRITTEN, 6),
        (lambda: rewrite(6), ChainFault.REWRITTEN, 6),
        (lambda: (rewrite(6), rewrite(7)), ChainFault.REWRITTEN, 7),
        (lambda: rewrite(ROWS), ChainFault.HEAD, ROWS),
        (lambda: set_link(6, form=99), ChainFault.UNKNOWN_FORM, 6),
        (lambda: set_head(sha256=OTHER), ChainFault.HEAD, ROWS),
        (lambda: set_head(last_entry=10_000), ChainFault.HEAD, ROWS),
        (lambda: set_head(position=ROWS + 1), ChainFault.CUT, ROWS + 1),
        (lambda: set_head(installation="00000000-0000-0000-0000-000000000000".replace("-", "")), ChainFault.HEAD, 0),
        (lambda: set_head(unvouched=1), ChainFault.MISSING, 0),
        (lambda: as_owner("DELETE FROM cleanup_ledgerhead"), ChainFault.HEAD, 0),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_first_bad_row_is_named(
    rows: list[LedgerEntry], tamper: Callable[[], Any], fault: ChainFault, position: int
) -> None:
    tamper()
    found = verification.verify().bad
    assert found is not None
    assert (found.fault, found.position) == (fault, position)
    assert found.said


def test_of_two_changes_the_first_is_named(rows: list[LedgerEntry]) -> None:
    set_entry(8, actor="eve")
    delete(10)
    set_entry(3, actor="eve")
    assert bad() == (ChainFault.EDITED, 3, key_at(3))


def test_a_row_without_a_link_is_named(rows: list[LedgerEntry]) -> None:
    newest = key_at(ROWS)
    insert(newest + 5)
    assert bad() == (ChainFault.INSERTED, 0, newest + 5)


def test_a_row_among_those_from_before_the_chain_is_found(rows: list[LedgerEntry]) -> None:
    insert(-3)
    assert bad() == (ChainFault.INSERTED, 0, 0)


def test_a_head_that_was_set_back_is_found(rows: list[LedgerEntry]) -> None:
    link = LedgerLink.objects.get(position=9)
    set_head(position=9, sha256=link.sha256, last_entry=link.entry_id)
    assert bad() == (ChainFault.INSERTED, 10, 0)


def test_what_only_an_anchor_can_tell(rows: list[LedgerEntry]) -> None:
    """A chain that was cut, or written anew to its end, is whole in itself: see `test_restores`."""
    with transaction.atomic():
        cut(9, head=True)
        assert (verification.verify().bad, verification.verify().position) == (None, 9)
        transaction.set_rollback(True)
    before = verification.verify().sha256
    set_entry(5, actor="eve")
    chain_anew(5)
    found = verification.verify()
    assert found.bad is None and found.position == ROWS and found.sha256 != before


def test_rows_from_before_the_chain_are_told(rows: list[LedgerEntry]) -> None:
    """As migration 0022 begins where there are rows already."""
    as_owner("DELETE FROM cleanup_ledgerlink")
    newest = key_at(ROWS)
    head = LedgerHead.objects.get()
    begun = chain.beginning(head.installation, began_after=newest, unvouched=ROWS)
    set_head(position=0, sha256=begun, began_after=newest, unvouched=ROWS)
    found = verification.verify()
    assert (found.bad, found.unvouched, found.position) == (None, ROWS, 0)


@pytest.mark.skipif("sqlite" not in connection.vendor, reason="PostgreSQL's columns hold only what they are for")
@pytest.mark.parametrize(
    "text", ["", "never", "2026-06-15", "2026-06-15 08:05:00.1234567", "2026-06-15T08:05:00+00:00x"]
)
def test_an_instant_that_is_none_is_an_edited_row(rows: list[LedgerEntry], text: str) -> None:
    set_entry(5, at=text)
    assert bad()[:2] == (ChainFault.EDITED, 5)


@pytest.mark.skipif("sqlite" not in connection.vendor, reason="PostgreSQL's columns hold only what they are for")
@pytest.mark.parametrize(
    "change",
    [
        "at = strftime('%Y%m%dT', at) || substr(at, 12)",
        "at = at || '+00:00'",
        """decided_by = '{"mode": {"version": 7}, "mode": {"version": 1}}'""",
    ],
)
def test_what_is_written_otherwise_and_sorted_elsewhere_is_an_edited_row(now: datetime, change: str) -> None:
    write_rows(now, 2)
    book.write(key_row(now, 3, decided_by={"mode": {"version": 1}}))
    with transaction.atomic():
        before = chain.content_digest(LedgerEntry.objects.get(pk=key_at(3)))
        as_owner(f"UPDATE cleanup_ledgerentry SET {change} WHERE id = {key_at(3)}")
        assert chain.content_digest(LedgerEntry.objects.get(pk=key_at(3))) == before
        assert bad() == (ChainFault.EDITED, 3, key_at(3))
        transaction.set_rollback(True)


def test_rows_that_are_written_meanwhile_are_followed(
    written: list[LedgerEntry], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, more = linked_rows.linked_rows, iter([3, 2])

    def reading(after: int, upto: int) -> Iterator[Any]:
        yield from real(after, upto)
        write_rows(now, next(more, 0))

    monkeypatch.setattr(verification, "linked_rows", reading)
    found = verification.verify()
    assert (found.bad, found.position) == (None, ROWS + 5)
