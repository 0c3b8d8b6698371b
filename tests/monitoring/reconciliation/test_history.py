"""Ledger, attempts and histories against one another."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from cleanup.models import ClearAttempt, IngestEvent, LedgerEntry, Run
from tests.monitoring.reconciliation.scene import FIRST, SECOND, Place
from tests.monitoring.reconciliation.scene import place as place
from tests.tools.baseline import _triggers_lifted

pytestmark = pytest.mark.django_db


def lose(model: Any, **rows: Any) -> None:
    """Remove rows as the database's owner can."""
    tables = [model._meta.db_table for model in (LedgerEntry, IngestEvent)]
    if connection.vendor == "postgresql":
        connection.cursor().execute("SET CONSTRAINTS ALL IMMEDIATE")  # a table with pending checks is not altered
    with connection.cursor() as cursor, _triggers_lifted(cursor, [*tables, "cleanup_ledgerlink"]):
        found = model.objects.filter(**rows)
        assert found
        if model is LedgerEntry:
            keys = ", ".join(str(row.pk) for row in found)
            cursor.execute(f"DELETE FROM cleanup_ledgerlink WHERE entry_id IN ({keys})")
        found._raw_delete(found.db)


def test_counts_that_differ(place: Place) -> None:
    place.clear()
    attempt = ClearAttempt.objects.get()
    freed = f"{attempt.freed_files} files and {attempt.freed_bytes:,} bytes"
    ClearAttempt.objects.update(freed_bytes=attempt.freed_bytes + 1)
    assert place.found(bounds=None) == {
        "ledger_differs": [
            f"{FIRST} the clear freed {attempt.freed_files} files and {attempt.freed_bytes + 1:,} bytes, "
            f"the ledger says {freed}"
        ]
    }


def test_an_end_that_the_ledger_lacks(place: Place) -> None:
    place.clear()
    lose(LedgerEntry, kind="completed")
    assert place.found(bounds=None) == {"end_missing": [f"{FIRST} the attempt {ClearAttempt.objects.get().pk.hex}"]}


def test_a_cleared_run_that_the_ledger_does_not_know(place: Place) -> None:
    place.clear()
    lose(LedgerEntry, kind="authorised")
    assert place.found(bounds=None) == {"ledger_missing": [FIRST]}
    Run.objects.filter(run_path=FIRST).update(cleared_by="wizard")
    assert place.found(bounds=None) == {}


def test_a_history_that_does_not_tell_of_the_clear(place: Place) -> None:
    place.clear()
    lose(IngestEvent, state="cleared")
    assert place.found(bounds=None) == {"history_missing": [f"{FIRST} its history has no clear"]}


def test_a_run_that_does_not_count_as_cleared(place: Place) -> None:
    place.clear()
    Run.objects.filter(run_path=FIRST).update(state="sync_verified", gone_at=timezone.now() - timedelta(days=1))
    found = place.found(bounds=None)
    assert found == {"history_missing": [f"{FIRST} its state is not cleared"], "history_alone": [FIRST]}


def test_another_hosts_rows_are_its_own(place: Place) -> None:
    place.clear()
    lose(LedgerEntry, kind="authorised")
    place.root.host = "another"
    place.root.save()
    ClearAttempt.objects.update(host="another")
    assert list(place.found(bounds=None)) == []
    assert place.run(SECOND)
