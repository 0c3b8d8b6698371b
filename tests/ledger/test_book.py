"""Transactions that write to the ledger: rows and links together, or nothing."""

import subprocess
from collections import Counter
from datetime import datetime
from itertools import pairwise

import pytest
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from cleanup.ledger import book, verification
from cleanup.models import Heartbeat, LedgerEntry, LedgerHead, LedgerLink
from tests.ledger.book_rows import as_owner, key_row
from tests.tools import warm

pytestmark = pytest.mark.django_db


def standing() -> tuple[int, int, int]:
    return book.head().position, LedgerEntry.objects.count(), LedgerLink.objects.count()


def test_rows_are_saved_with_their_links_in_the_order_in_which_they_were_written(now: datetime) -> None:
    with book.writing():
        book.write(key_row(now, 2), key_row(now, 1))
        book.write(key_row(now, 3))
        assert LedgerEntry.objects.count() == 0, "they come at the end"
    assert [entry.files for entry in LedgerEntry.objects.order_by("link__position")] == [2, 1, 3]
    head, last = LedgerHead.objects.get(), LedgerLink.objects.latest("position")
    assert (head.position, head.sha256, head.last_entry) == (3, last.sha256, last.entry_id)


def test_a_write_without_a_transaction_is_one(now: datetime) -> None:
    book.write(key_row(now))
    assert standing() == (1, 1, 1)


def test_a_transaction_that_is_rolled_back_leaves_nothing(now: datetime) -> None:
    with pytest.raises(ValueError, match="regret"), book.writing():
        book.write(key_row(now))
        raise ValueError("regret")
    assert standing() == (0, 0, 0)
    book.write(key_row(now))
    assert standing() == (1, 1, 1), "what was not saved is not written by the next one"


def test_a_row_that_the_database_refuses_takes_the_others_with_it(now: datetime) -> None:
    with pytest.raises(DatabaseError), book.writing():
        Heartbeat.objects.create(cluster="x", host="y", at=now)
        book.write(key_row(now, 1), key_row(now, 2, kind="unheard of"), key_row(now, 3))
    assert standing() == (0, 0, 0)
    assert not Heartbeat.objects.filter(cluster="x").exists()


def test_a_transaction_within_another_is_a_part_of_that(now: datetime) -> None:
    with book.writing():
        book.write(key_row(now, 1))
        with book.writing():
            book.write(key_row(now, 2))
        with pytest.raises(ValueError, match="regret"), book.writing():
            book.write(key_row(now, 3))
            with book.writing():
                book.write(key_row(now, 4))
            raise ValueError("regret")
        book.write(key_row(now, 5))
        assert standing() == (0, 0, 0)
    assert list(LedgerEntry.objects.order_by("pk").values_list("files", flat=True)) == [1, 2, 5]
    assert verification.verify().bad is None


def test_a_plain_transaction_around_it_is_refused(now: datetime) -> None:
    """It could take a lock after the head's."""
    with transaction.atomic():
        with pytest.raises(RuntimeError, match="durable"):
            book.write(key_row(now))
        with pytest.raises(RuntimeError, match="durable"), book.writing():
            pass
    assert standing() == (0, 0, 0)
    book.write(key_row(now))
    assert standing() == (1, 1, 1)


def test_the_head_is_locked_last_and_only_for_rows(now: datetime) -> None:
    with CaptureQueriesContext(connection) as asked, book.writing():
        Heartbeat.objects.create(cluster="x", host="y", at=now)
    assert not [one for one in asked.captured_queries if "ledger" in one["sql"]]
    with CaptureQueriesContext(connection) as asked, book.writing():
        book.write(key_row(now))
        Heartbeat.objects.filter(cluster="x").update(at=now)
    tables = [
        one["sql"].split('"')[1] for one in asked.captured_queries if '"' in one["sql"] and "POINT" not in one["sql"]
    ]
    head = next(number for number, one in enumerate(asked.captured_queries) if "ledgerhead" in one["sql"])
    assert {"cleanup_ledgerentry", "cleanup_ledgerlink"} <= set(tables)
    after = [one["sql"] for one in asked.captured_queries[head:]]
    assert not [sql for sql in after if "heartbeat" in sql]
    if connection.vendor == "postgresql":
        assert after[0].endswith("FOR UPDATE")


def test_without_a_head_nothing_is_written(now: datetime) -> None:
    as_owner("DELETE FROM cleanup_ledgerhead")
    with pytest.raises(book.LedgerBroken, match="verify_ledger"):
        book.write(key_row(now))
    assert LedgerEntry.objects.count() == 0


PROCESSES, TRANSACTIONS = 8, 24


def test_eight_processes_on_two_hosts_write_one_chain(subprocess_env: dict[str, str]) -> None:
    """Takes 3 s: eight processes at once, and all of Django for the second host."""
    envs = [subprocess_env, {**subprocess_env, "EXLAB_HOST": "labpc-2"}]
    writers = [
        warm.python(
            ["-m", "tests.ledger.writer", f"writer {number}", str(TRANSACTIONS)],
            envs[number % 2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    assert [writer.stdout.readline() for writer in writers] == ["ready\n"] * PROCESSES
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    said = [writer.communicate(timeout=120)[0] for writer in writers]
    expected = sum(1 + number % 3 for number in range(TRANSACTIONS) if number % 3 != 2)
    assert said == [f"{expected}\n"] * PROCESSES
    assert standing() == (PROCESSES * expected,) * 3
    found = verification.verify()
    assert (found.bad, found.position) == (None, PROCESSES * expected)
    by_host = Counter(LedgerEntry.objects.values_list("host", flat=True))
    assert by_host == dict.fromkeys((settings.EXLAB_HOST, "labpc-2"), PROCESSES // 2 * expected)
    actors = LedgerEntry.objects.order_by("pk").values_list("actor", flat=True)
    changes = sum(before != after for before, after in pairwise(actors))
    assert changes >= PROCESSES, "they really wrote at once"
