"""Locks of what rows of the ledger name, beside the head's."""

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from django.db import connection

from cleanup.ledger import book, entries
from cleanup.models import LedgerEntry, LedgerKind, Run
from cleanup.runs import discovery
from cleanup.runs.moved_or_gone import gone
from tests.faults.means import before
from tests.tools.lab import Lab


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_a_person_and_a_clear_write_of_one_run_at_once(
    lab: Lab, root: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Takes 1 s: on SQLite the second one waits. Its row names the run that the person has locked."""
    path = lab.run()
    discovery.discover(root, now=now)
    shutil.rmtree(path)
    run = Run.objects.with_root().get()
    others: list[Future[None]] = []

    def settle() -> None:
        try:
            entries.write_entry(run, kind=LedgerKind.PUT_BACK, actor="bea", now=now, reason="", detail="")
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:

        def begin() -> None:
            others.append(pool.submit(settle))
            if connection.vendor == "postgresql":
                others[0].result(5)  # it waits for no one
            else:
                assert not others[0].done()

        with before(monkeypatch, entries, "write_entry", begin):
            gone.mark_gone(run, actor="ada", reason="lost", now=now)
        others[0].result(20)
    assert set(LedgerEntry.objects.values_list("actor", flat=True)) == {"ada", "bea"}
    assert book.head().position == 2
