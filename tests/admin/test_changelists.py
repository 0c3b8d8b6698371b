"""Tables of the admin ask no more for many rows than for few, and never look at the whole ledger."""

import itertools
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection, models
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django_q.models import OrmQ, Success
from django_q.tasks import async_task

from cleanup.admin import base
from cleanup.models import ClearAttempt, LedgerEntry, LedgerHead, LedgerLink, Proof, Run, StagingRoot
from tests.tools.rows import clear_rows, run_row

# One row, or written with the ledger's rows.
NOT_MADE = {LedgerEntry, LedgerLink, LedgerHead}
# What a model wants besides values of the right kind.
WANTED: dict[str, dict[str, Any]] = {
    "Access": {"group": None, "equipment": "FLOW_01"},
    "Hold": {"until": timezone.now()},
    "LogEntry": {"object_id": "1", "action_flag": 2},
    "Proof": {"level": "checksum"},
}


class Rows:
    """One row of each model with the rows that it belongs to, all its own."""

    def __init__(self, number: int, now: Any) -> None:
        self._number, self._now = number, now
        self._made: dict[type[models.Model], models.Model | None] = {}
        root = StagingRoot.objects.create(name=f"root-{number}", host="h", path=f"/srv/{number}", discovered_at=now)
        self.run, self.other = (
            run_row(root, f"FLOW_01/P-{number}/Runs/Run_2026-01-{day}T10-00", first_seen_at=now, verified_at=now)
            for day in ("01", "02")
        )
        proof = Proof.objects.create(run=self.run, level="size", at=now, host="h", files=1, bytes=1)
        attempt = clear_rows(self.run, now, files=1, size=10, proof=proof, actor="ada")
        known = (root, self.run, proof, attempt)
        self._made |= {type(row): row for row in known}

    def make(self, model: type[models.Model]) -> models.Model | None:
        """The row of a model; None while it is being made."""
        if model not in self._made:
            self._made[model] = None
            if model is OrmQ:
                async_task("cleanup.tasks.heartbeat")
                self._made[model] = OrmQ.objects.order_by("-pk").first()
            else:
                values = {field.name: self._value(field) for field in model._meta.concrete_fields if self._wants(field)}
                values |= WANTED.get(model.__name__, {})
                values |= {"other": self.other} if model.__name__ == "Likeness" else {}
                if model._meta.proxy:  # two tables of the queue's tasks in the admin are one
                    values |= {"id": f"{self._number}-{model.__name__}", "success": model is Success}
                self._made[model] = model._default_manager.create(**values)
        return self._made[model]

    def _wants(self, field: Any) -> bool:
        if field.primary_key:
            return field.get_internal_type() == "CharField"
        if field.is_relation:
            return field.related_model is not field.model
        return not (field.has_default() or field.null or field.blank)

    def _value(self, field: Any) -> Any:
        if field.is_relation:
            return self.make(field.related_model)
        if field.choices:
            return field.choices[0][0]
        kind = field.get_internal_type()
        if kind == "DateTimeField":
            return self._now - timedelta(seconds=self._number)
        if kind in ("CharField", "TextField"):
            return f"{self._number}-{field.model.__name__}-{field.name}"[: field.max_length]
        return self._number


def listed() -> list[type[models.Model]]:
    return list(admin.site._registry)


def address_of(model: type[models.Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


@pytest.mark.one_engine
def test_no_table_asks_more_for_more_rows(people, now):
    """It takes two seconds: every table is asked three times."""
    numbers = itertools.count(1)

    def add(times: int) -> None:
        for _ in range(times):
            rows = Rows(next(numbers), now)
            for model in listed():
                if model not in NOT_MADE:
                    rows.make(model)

    def ask() -> dict[str, tuple[int, int]]:
        found = {}
        for model in listed():
            with CaptureQueriesContext(connection) as asked:
                answer = people.admin.get(address_of(model))
            assert answer.status_code == 200, model
            found[model._meta.label] = len(asked), answer.context["cl"].result_count
        return found

    add(2)
    ask()  # what is asked once for each process
    few = ask()
    add(4)
    many = ask()
    single = {LedgerHead._meta.label}
    assert {label for label, (_, rows) in many.items() if rows < few[label][1] + 4} == single
    assert {label: asked for label, (asked, _) in many.items()} == {label: asked for label, (asked, _) in few.items()}


@pytest.fixture
def ledger(db, now):
    for number in range(1, 8):
        Rows(number, now - timedelta(hours=number))


# What has an index: a column that is not offered is not sorted by.
ORDERS: dict[type[models.Model], list[str]] = {
    LedgerEntry: ['"cleanup_ledgerentry"."at" DESC, "cleanup_ledgerentry"."id"', '"cleanup_ledgerentry"."id"'],
    LedgerLink: ['"cleanup_ledgerlink"."position"'],
}
QUESTIONS = ["", "?o=-3.7", "?o=8", "?kind=completed", "?actor=ada", "?equipment=FLOW_01", "?q=Run_2026", "?p=2"]


@pytest.mark.both_engines
@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("model", [LedgerEntry, LedgerLink])
def test_the_ledger_is_never_counted_or_sorted_whole(people, ledger, monkeypatch, model, question):
    if model is LedgerLink and question not in ("", "?o=-3.7", "?o=8", "?p=2"):
        return
    monkeypatch.setattr(base, "MOST_LISTED", 5)
    monkeypatch.setattr(base.ReadOnly, "list_per_page", 3)
    with CaptureQueriesContext(connection) as asked:
        answer = people.admin.get(address_of(model) + question)
    assert answer.status_code == 200
    assert answer.context["cl"].result_count == 5
    assert ("These are the newest 5 entries" in answer.content.decode()) is (model is LedgerEntry)
    assert "totals" not in answer.context
    looks = [each["sql"] for each in asked if f'FROM "{model._meta.db_table}"' in each["sql"]]
    assert looks
    orders = [f"{column} DESC LIMIT" for column in ORDERS[model]]
    for sql in looks:
        assert re.search(r" LIMIT \d+", sql), sql
        assert "ORDER BY" not in sql or any(f"ORDER BY {order}" in sql for order in orders), sql
        assert "SUM(" not in sql and "DISTINCT" not in sql, sql


@pytest.mark.one_engine
def test_rows_lead_to_their_pages_and_links_to_their_rows(people, ledger):
    entry = LedgerEntry.objects.filter(kind="completed").order_by("pk").first()
    link = LedgerLink.objects.get(entry=entry)
    page = people.admin.get(address_of(LedgerEntry)).content.decode()
    run, receipt = reverse("run-detail", args=[entry.run_id]), reverse("receipt", args=[entry.run_id])
    assert f'href="{run}"' in page
    assert page.count(f'href="{receipt}"') == 1  # of the completed row, not of the authorised one
    change = people.admin.get(reverse("admin:cleanup_ledgerentry_change", args=[entry.pk])).content.decode()
    assert link.sha256 in change
    assert reverse("admin:cleanup_ledgerlink_change", args=[link.pk]) in change
    links = people.admin.get(address_of(LedgerLink)).content.decode()
    assert reverse("admin:cleanup_ledgerentry_change", args=[entry.pk]) in links
    head = people.admin.get(address_of(LedgerHead)).content.decode()
    assert LedgerLink.objects.order_by("-position").first().sha256 in head


@pytest.mark.one_engine
@pytest.mark.parametrize("model", [LedgerLink, LedgerHead])
def test_the_chain_takes_no_change(people, ledger, model):
    row = model.objects.order_by("pk").first()
    name = model._meta.model_name
    for action in ("change", "delete"):
        address = reverse(f"admin:cleanup_{name}_{action}", args=[row.pk])
        assert people.admin.post(address, {"sha256": "0" * 64, "post": "yes"}).status_code == 403
    assert people.admin.get(reverse(f"admin:cleanup_{name}_change", args=[row.pk])).status_code == 200
    assert people.admin.get(reverse(f"admin:cleanup_{name}_add")).status_code == 403
    assert model.objects.filter(pk=row.pk, sha256=row.sha256).exists()
    User.objects.filter(username="operator").update(is_staff=True)
    assert people.operator.get(address_of(model)).status_code == 403
    assert ClearAttempt.objects.exists() and Run.objects.exists()
