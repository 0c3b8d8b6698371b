"""The page of the last comparison, by role."""

from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from cleanup.models import Access, Reconciliation
from tests.tools.pages import SAFE

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

ADDRESS = "/audit/reconcile/"


@pytest.fixture
def auditor(people: SimpleNamespace) -> Client:
    user = User.objects.create_user("auditor")
    user.groups.add(Group.objects.get(name="auditor"))
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def row(now: datetime, run: Any = None, **fields: Any) -> Reconciliation:
    found = {"kind": "nas_missing", "root": "lab", "run_path": "A/B/\u202e<b>", "run": run, "detail": "the NAS <i>"}
    values = {
        "host": "lab-pc",
        "started_at": now - timedelta(minutes=5),
        "progress_at": now,
        "ended_at": now - timedelta(minutes=4),
        "runs": 1204,
        "asked": 900,
        "waiting": 300,
        "not_asked": 4,
        "counts": {"nas_missing": 3, "plan_left": 1, "of another version": 1},
        "found": [found, {**found, "kind": "plan_left", "root": "", "run_path": ""}, {"kind": "of another version"}],
        "problems": [{"root": "lab", "reason": "root_not_mounted", "detail": "no token file at its top"}],
    }
    return Reconciliation.objects.create(**{**values, **fields})


def test_only_those_who_audit_see_it(people: SimpleNamespace, auditor: Client) -> None:
    assert reverse("reconcile") == ADDRESS
    for name, status in (("stranger", 403), ("viewer", 403), ("operator", 403), ("admin", 200), ("nobody", 302)):
        assert getattr(people, name).get(ADDRESS).status_code == status, name
    assert auditor.get(ADDRESS).status_code == 200
    assert auditor.post(ADDRESS).status_code == 405


def test_before_the_first_pass_it_says_so(auditor: Client) -> None:
    assert "Nothing was compared so far." in auditor.get(ADDRESS).content.decode()


def test_it_shows_what_differs_with_a_next_step(
    people: SimpleNamespace, auditor: Client, runs: dict[str, Any], now: datetime
) -> None:
    row(now, runs[SAFE].pk)
    page = auditor.get(ADDRESS).content.decode()
    for words in (
        "The copy on the NAS is missing, although the run is verified.",
        "Clear nothing of this instrument.",
        "A/B/\\u202e&lt;b&gt;",
        "the NAS &lt;i&gt;",
        "And 2 more.",
        "3 to look at",
        "Ended",
        "1,204 runs seen on the disks · 900 copies asked for · 4 of which the NAS did not tell · 300 not asked for yet",
        "lab was not looked at, or not whole:",
        "no token file at its top",
    ):
        assert words in page, words
    assert "of another version" not in page
    # Who may only audit gets no link to a page that is closed.
    link, words = reverse("run-detail", args=[runs[SAFE].pk]), "Tell an operator or an admin of the next steps."
    assert link not in page and "/problems/" not in page and words in page
    whole = people.admin.get(ADDRESS).content.decode()
    assert link in whole and words not in whole
    # Who audits everywhere, and looks in one place only.
    user = User.objects.get(username="auditor")
    user.user_permissions.set(Group.objects.get(name="viewer").permissions.all())
    Access.objects.create(user=user, root=runs[SAFE].root, equipment="ANOTHER_01")
    assert link not in auditor.get(ADDRESS).content.decode()
    Access.objects.update(equipment=runs[SAFE].equipment)
    assert link in auditor.get(ADDRESS).content.decode()


def test_a_pass_under_way_shows_its_progress(auditor: Client, now: datetime) -> None:
    row(now, ended_at=None, step="staging root lab", counts={}, found=[])
    page = auditor.get(ADDRESS).content.decode()
    assert "Under way since" in page and "at: staging root lab" in page
    assert "nothing wrong found" not in page
    Reconciliation.objects.update(ended_at=now)
    page = auditor.get(ADDRESS).content.decode()
    assert "nothing wrong found" in page and "Nothing differs." in page
