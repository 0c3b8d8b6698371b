"""What was written of a clear does not depend on people, projects and instruments: they may go, and it stays."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.db import models
from django.test import Client

from cleanup.lab import policy_versions
from cleanup.models import ClearBatch, Hold, Instrument, Project, StagingRoot
from tests.tools.rows import clear_rows, run_row

# These are of a person, or only of a disk, and go with them.
OF_A_PERSON = {"Access", "AccountName", "KeptSelection", "RunReminder"}
OF_A_DISK = {"DiskUsage", "Instrument", "Access"}


def references() -> list[tuple[str, str, Any]]:
    return [
        (model.__name__, field.related_model.__name__, field.remote_field.on_delete)
        for model in apps.get_app_config("cleanup").get_models()
        for field in model._meta.get_fields()
        if isinstance(field, models.ForeignKey)
    ]


@pytest.mark.one_engine(by="function")
def test_no_row_refers_to_an_account_a_group_a_project_or_an_instrument() -> None:
    things = {"User", "Group", "Project", "Instrument"}
    assert {model for model, other, _how in references() if other in things} == OF_A_PERSON


@pytest.mark.one_engine(by="function")
def test_no_deletion_takes_rows_along() -> None:
    kept = {(model, other): how for model, other, how in references() if model not in OF_A_PERSON | OF_A_DISK}
    assert len(kept) > 20
    assert {pair for pair, how in kept.items() if how is not models.PROTECT} == set()


def rows() -> dict[str, list[dict[str, Any]]]:
    """Every row of the program that is not of a person."""
    found = apps.get_app_config("cleanup").get_models()
    # The change of what pages show counts each deletion.
    gone = OF_A_PERSON | {"Instrument", "Project", "NotedChange"}
    return {
        model.__name__: list(model._default_manager.order_by("pk").values())
        for model in found
        if model.__name__ not in gone
    }


def test_accounts_projects_and_instruments_go_and_all_that_was_written_stays(
    db: None, now: datetime, client: Client
) -> None:
    person = User.objects.create_user("ada")
    person.groups.add(Group.objects.get(name="operator"))
    root = StagingRoot.objects.create(name="lab", host="lab-pc", path="/srv/lab", token="t", nas_path="/mnt/nas")
    Instrument.objects.create(root=root, equipment="FLOW_01")
    Project.objects.create(code="PROJ-0060", title="Dose response")
    run = run_row(
        root,
        "FLOW_01/PROJ-0060/Runs/Run_2026-04-10T14-32",
        first_seen_at=now,
        state="cleared",
        here=False,
        cleared_at=now,
        cleared_for="ada",
    )
    batch = ClearBatch.objects.create(actor="ada", note="the disk is full", digest="0" * 64, created_at=now)
    clear_rows(run, now, files=10, size=1000, actor="ada", typed_by="ada (uid 7)", batch=batch)
    Hold.objects.create(run=run, owner="ada", reason="figures", created_at=now, until=now + timedelta(days=2))
    policy_versions.add_version(author="ada", now=now, mode="manual", project="PROJ-0060")
    before = rows()
    assert {len(before[name]) for name in ("LedgerEntry", "LedgerLink")} == {2} and len(before["ClearAttempt"]) == 1

    for thing in (person, *Project.objects.all(), *Instrument.objects.all(), *Group.objects.exclude(name="auditor")):
        thing.delete()

    assert rows() == before
    client.force_login(User.objects.create_superuser("admin"))
    page = client.get("/audit/runs/?person=ada&project=PROJ-0060&equipment=FLOW_01").content.decode()
    assert f'id="past-{run.pk}"' in page and "asked for by ada" in page
    assert "ada" in client.get(f"/runs/{run.pk}/receipt/").content.decode()
