"""History, policies, proofs and ledger only grow; the database enforces it."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import DatabaseError, connection, models, transaction

from cleanup import clear_run
from cleanup.models import (
    AccountNote,
    AppendOnly,
    IngestEvent,
    LedgerAnchor,
    LedgerEntry,
    LedgerLink,
    Proof,
    RecordSight,
    RetentionPolicy,
    RootNote,
    Surprise,
    triggers,
)
from cleanup.rules.reasons import Reason
from cleanup.sweeps import rehearsal
from tests.faults.scene import set_scene
from tests.tools.lab import Lab

TABLES = [
    *(AccountNote, IngestEvent, LedgerAnchor, LedgerEntry, LedgerLink),
    *(Proof, RecordSight, RetentionPolicy, RootNote, Surprise),
]
# A number in each table that a test may try to change.
COLUMNS = {
    AccountNote: "id",
    IngestEvent: "position",
    LedgerAnchor: "position",
    LedgerEntry: "files",
    LedgerLink: "form",
    Proof: "files",
    RecordSight: "run_id",
    RetentionPolicy: "version",
    RootNote: "policy_version",
    Surprise: "policy_version",
}

pytestmark = pytest.mark.django_db
on_sqlite = pytest.mark.skipif("sqlite" not in connection.vendor, reason="a statement of SQLite's")
on_postgresql = pytest.mark.skipif("postgresql" not in connection.vendor, reason="a statement of PostgreSQL's")


@pytest.fixture
def rows(lab: Lab, root: Any, now: datetime, policy: Any) -> Iterator[dict[type, list[Any]]]:
    """One cleared run with a surprise fills every table. Afterwards all rows must be unchanged."""
    policy(mode="manual")
    run = set_scene(lab, root, now).run
    clear_run(run, now=now)
    RecordSight.objects.create(run=run, digest="0" * 64, first_seen_at=now)
    LedgerAnchor.objects.create(position=1, sha256="0" * 64, at=now, place="data directory", host="labpc")
    AccountNote.objects.create(account="ada", event="made", actor="grace", at=now)
    rehearsal.note_surprise(run, [1], Reason.HELD, "by ada", now)
    before = contents()
    assert all(before.values())
    yield before
    assert contents() == before


def contents() -> dict[type, list[Any]]:
    return {model: list(model._default_manager.order_by("pk").values()) for model in TABLES}


def refused(statement: str, *parameters: Any) -> None:
    with (
        pytest.raises(DatabaseError, match="never changed or removed"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement, parameters)


def test_every_append_only_model_is_meant() -> None:
    assert set(AppendOnly.__subclasses__()) == set(TABLES)
    assert sorted(triggers.tables()) == sorted(model._meta.db_table for model in TABLES)
    assert triggers.missing(connection) == []


def test_a_row_of_the_ledger_follows_its_link(rows: dict[type, list[Any]]) -> None:
    known = LedgerEntry.objects.earliest("pk")
    copied = {field.attname: getattr(known, field.attname) for field in LedgerEntry._meta.fields}
    for key in (9999, LedgerLink.objects.latest("position").entry_id + 1):
        with pytest.raises(DatabaseError, match="link in the chain"), transaction.atomic():
            LedgerEntry.objects.create(**{**copied, "id": key, "kind": "refused"})


# Rows for all tables need a clear, so all these tests share them.


def test_python_refuses(rows: dict[type, list[Any]]) -> None:
    for model in TABLES:
        row = model._default_manager.earliest("pk")
        with pytest.raises(ValidationError, match="never changed"):
            row.save()
        with pytest.raises(ValidationError, match="never changed"):
            row.save(update_fields=["id"])
        with pytest.raises(ValidationError, match="never removed"):
            row.delete()


def test_querysets_are_refused_by_the_database(rows: dict[type, list[Any]]) -> None:
    for model in TABLES:
        with pytest.raises(DatabaseError, match="never changed or removed"), transaction.atomic():
            model._default_manager.update(**{COLUMNS[model]: 99})
        with pytest.raises(DatabaseError), transaction.atomic():
            queryset = model._default_manager.all()
            queryset._raw_delete(queryset.db)


def test_statements_are_refused(rows: dict[type, list[Any]]) -> None:
    for model in TABLES:
        table, key = model._meta.db_table, model._meta.pk.column
        refused(f'UPDATE "{table}" SET {key} = {key}')
        refused(f'UPDATE "{table}" SET {key} = {key} + 1000 WHERE {key} = (SELECT min({key}) FROM "{table}")')
        refused(f'DELETE FROM "{table}"')
        refused(f'DELETE FROM "{table}" WHERE {key} = (SELECT max({key}) FROM "{table}")')


@on_sqlite
def test_replace_is_refused(rows: dict[type, list[Any]]) -> None:
    for model in TABLES:
        table, key = model._meta.db_table, model._meta.pk.column
        refused(f'REPLACE INTO "{table}" SELECT * FROM "{table}"')
        refused(f'INSERT OR REPLACE INTO "{table}" SELECT * FROM "{table}" LIMIT 1')
        refused(f'UPDATE OR REPLACE "{table}" SET {key} = 1')


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_truncate_is_refused(rows: dict[type, list[Any]]) -> None:
    for table in triggers.tables():
        refused(f'TRUNCATE "{table}" CASCADE')


@on_postgresql
def test_on_conflict_is_refused(rows: dict[type, list[Any]]) -> None:
    refused(
        'INSERT INTO "cleanup_ledgerentry" SELECT * FROM "cleanup_ledgerentry" '
        "ON CONFLICT (id) DO UPDATE SET actor = 'somebody else'"
    )


def test_bulk_writes_are_refused(rows: dict[type, list[Any]]) -> None:
    entries = list(LedgerEntry.objects.all())
    for entry in entries:
        entry.actor = "somebody else"
    with pytest.raises(DatabaseError), transaction.atomic():
        LedgerEntry.objects.bulk_update(entries, ["actor"])
    with pytest.raises(DatabaseError), transaction.atomic():
        LedgerEntry.objects.bulk_create(entries, update_conflicts=True, unique_fields=["id"], update_fields=["actor"])
    with pytest.raises(DatabaseError), transaction.atomic():
        LedgerEntry.objects.all().delete()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("model", TABLES)
def test_a_table_that_is_remade_gets_its_triggers_back(model: type[models.Model]) -> None:
    """SQLite alters a table by making it anew, and silently drops its triggers."""
    field = models.IntegerField(default=0)
    field.set_attributes_from_name("passing_thought")
    triggers.lift(using="default")  # as before each migrate
    with connection.schema_editor() as editor:
        editor.add_field(model, field)
    with connection.schema_editor() as editor:
        editor.remove_field(model, field)
    if connection.vendor == "sqlite":
        assert set(triggers.missing(connection)) == {model._meta.db_table, LedgerEntry._meta.db_table}
    call_command("migrate", verbosity=0)
    assert triggers.missing(connection) == []


@pytest.mark.django_db(transaction=True)
def test_the_triggers_work_after_they_were_laid_again(rows: dict[type, list[Any]]) -> None:
    triggers.remove(connection)
    assert sorted(triggers.missing(connection)) == sorted(triggers.tables())
    call_command("migrate", verbosity=0)
    for model in TABLES:
        refused(f'DELETE FROM "{model._meta.db_table}"')
        refused(f'UPDATE "{model._meta.db_table}" SET {model._meta.pk.column} = {model._meta.pk.column}')


def test_laying_them_twice_is_harmless() -> None:
    before = sorted(triggers.standing(connection))
    triggers.install(using="default")
    assert sorted(triggers.standing(connection)) == before
