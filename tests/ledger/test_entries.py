"""Rows of the ledger: what each copies, and that nothing changes one later."""

from datetime import datetime
from typing import Any

import pytest
from django.db import DatabaseError, transaction

from cleanup.clears import protocol
from cleanup.lab.people import os_account
from cleanup.ledger import entries
from cleanup.models import LedgerEntry, LedgerKind, Requester, Run
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from tests.tools.lab import Lab


@pytest.fixture
def run(lab: Lab, root: Any, now: datetime) -> Run:
    lab.run("FLOW_01/alpha/Run_2026-01-01T00-00")
    discovery.discover(root, now=now)
    return Run.objects.with_root().get()


def copied(entry: LedgerEntry) -> dict[str, str]:
    names = ("root_name", "run_path", "equipment", "project", "run_kind", "host")
    return {name: getattr(entry, name) for name in names}


def test_an_operators_statement_names_run_person_and_account(run: Run, now: datetime) -> None:
    with os_account.typing("labpc"):
        entries.write_entry(run, kind=LedgerKind.MARKED_GONE, actor="ada", now=now, reason="", detail="the disk died")
    entry = LedgerEntry.objects.get()
    assert (entry.kind, entry.at, entry.detail) == ("marked_gone", now, "the disk died")
    assert (entry.requester, entry.actor, entry.typed_by) == (Requester.OPERATOR, "ada", "labpc")
    assert (entry.attempt, entry.files, entry.bytes, entry.policy_version) == (None, 0, 0, 0)


def test_the_steps_of_a_clear_tell_the_same_run_though_its_row_changes_later(run: Run, now: datetime) -> None:
    freed = protocol.clear_run(run, requester=Requester.OPERATOR, actor="ada", note="full disk", now=now)
    attempt = run.attempts.get()
    before = [copied(entry) for entry in LedgerEntry.objects.order_by("pk")]
    run.root.name = "renamed"
    run.root.save(update_fields=["name"])
    Run.objects.filter(pk=run.pk).update(run_path="FLOW_01/alpha/Run_elsewhere")
    authorised, completed = LedgerEntry.objects.order_by("pk")
    assert [copied(authorised), copied(completed)] == before
    assert before[0] == before[1]
    assert before[0]["root_name"] == "lab" and before[0]["run_path"] == "FLOW_01/alpha/Run_2026-01-01T00-00"
    assert (authorised.kind, completed.kind) == ("authorised", "completed")
    assert authorised.plan_sha256 == completed.plan_sha256 == attempt.plan_sha256 != ""
    assert freed == (completed.files, completed.bytes) == (authorised.files, authorised.bytes)
    assert completed.proof_level == "checksum" and completed.policy_version == attempt.policy_version


def test_a_row_stays_as_it_was_written(run: Run, now: datetime) -> None:
    entries.write_entry(run, kind=LedgerKind.ACCEPTED, actor="ada", now=now, reason=Reason.HELD, detail="x")
    for change in (lambda: LedgerEntry.objects.update(actor="eve"), lambda: LedgerEntry.objects.all().delete()):
        with pytest.raises(DatabaseError), transaction.atomic():
            change()
    assert LedgerEntry.objects.get().actor == "ada"
