"""Missing runs: many marked at once, and a folder renamed on both sides."""

import re
from datetime import timedelta

import pytest

from cleanup.models import LedgerEntry, Orphan, Run
from cleanup.runs import discovery
from cleanup.runs.orphans import orphans
from cleanup.runs.orphans.orphan_rows import GRACE
from tests.tools.lab import snapshot
from tests.tools.pages import EXTRA, SAFE, TEST_RUN, TOUCHED

pytestmark = pytest.mark.one_engine


OLD, NEW = "CONFOCAL_01/PROJ-0042", "CONFOCAL_01/PROJ-0042-cortex"
GONE = "/problems/gone/"


def look(root, now):
    for at in (now - GRACE, now):
        discovery.discover(root, now=at)
        orphans.inspect(root, now=at)


@pytest.fixture
def gone(runs, lab, root, now):
    (lab.staging / OLD).rename(lab.base / "away 1")
    (lab.staging / "FLOW_01").rename(lab.base / "away 2")
    look(root, now)
    return {run.run_path: run.pk for run in Run.objects.filter(problem="missing_directory")}


@pytest.fixture
def renamed(runs, lab, root, now):
    for side in (lab.staging, lab.nas):
        (side / OLD).rename(side / NEW)
    look(root, now)
    return Orphan.objects.get(gone_at=None, path=SAFE)


def test_many_are_marked_with_one_reason(people, gone, root, now):
    text = people.admin.get("/problems/").content.decode()
    assert f'href="{GONE}"' in text
    text = people.admin.get(f"{GONE}?root=lab").content.decode()
    assert set(gone) == {SAFE, TEST_RUN, EXTRA, TOUCHED}
    for path, key in gone.items():
        assert path in text
        assert f'name="run" value="{key}" checked' in text
    chosen = [gone[SAFE], gone[TEST_RUN], gone[EXTRA]]
    for bad in ({"run": chosen, "note": " "}, {"run": [], "note": "archive"}, {"run": ["x"], "note": "archive"}):
        assert people.admin.post(GONE, bad).status_code == 422
    assert not LedgerEntry.objects.exists()
    answer = people.admin.post(GONE, {"run": chosen, "note": "archive"}, follow=True)
    assert "3 runs are marked as gone." in answer.content.decode()
    assert set(Run.objects.exclude(gone_at=None).values_list("run_path", flat=True)) == {SAFE, TEST_RUN, EXTRA}
    assert {(entry.kind, entry.actor) for entry in LedgerEntry.objects.all()} == {("marked_gone", "admin")}
    assert GONE not in people.admin.get("/problems/").content.decode()  # a single one has its own button
    assert TOUCHED in people.admin.get(GONE).content.decode()
    assert "No run is listed as missing on west" in people.admin.get(f"{GONE}?root=west").content.decode()


def test_what_came_back_is_told_and_not_marked(people, gone, lab):
    (lab.base / "away 2").rename(lab.staging / "FLOW_01")
    answer = people.admin.post(GONE, {"run": list(gone.values()), "note": "archive"}, follow=True).content.decode()
    assert "2 runs are marked as gone." in answer
    assert answer.count("is not marked as gone") == 2
    assert Run.objects.staged().filter(run_path__in=[EXTRA, TOUCHED]).count() == 2


def test_what_is_not_missing_cannot_be_marked(people, gone, lab, runs):
    there = Run.objects.staged().exclude(pk__in=gone.values()).first()
    assert there is not None
    assert people.admin.post(GONE, {"run": [there.pk], "note": "archive"}).status_code == 422
    assert not LedgerEntry.objects.exists()


def test_no_more_than_a_page_at_once(people, gone, monkeypatch):
    monkeypatch.setattr("cleanup.web.problems.missing.AT_ONCE", 3)
    text = people.admin.get(GONE).content.decode()
    assert (text.count('name="run"'), "Only the first 3 are listed" in text) == (3, True)


def test_a_renamed_folder_is_shown_first_and_then_moved(people, renamed, lab, now):
    address = f"/problems/{renamed.pk}/moved/"
    assert f'href="{address}"' in people.admin.get("/problems/").content.decode()
    text = people.admin.get(address).content.decode()
    assert f'value="{OLD}"' in text
    assert f'value="{NEW}"' in text
    before = snapshot(lab.base)
    text = people.admin.post(address, {"old": OLD, "new": NEW}).content.decode()
    assert "2 runs of 2 would have a new path" in text
    assert "They are the same runs" in text
    assert Run.objects.staged().filter(run_path=SAFE).exists()
    answer = people.admin.post(address, {"old": OLD, "new": NEW, "note": "a typo", "confirm": "1"}, follow=True)
    assert "2 runs have their new paths." in answer.content.decode()
    assert snapshot(lab.base) == before
    run = Run.objects.staged().get(run_path=SAFE.replace(OLD, NEW))
    assert (run.record_path, run.problem, bool(run.facts)) == (SAFE, "", True)
    entry = LedgerEntry.objects.get(run=run)
    assert (entry.kind, entry.actor) == ("reregistered", "admin")
    assert entry.detail.endswith("; a typo")
    page = people.admin.get(f"/runs/{run.pk}/").content.decode()
    assert "Safe to clear" in page
    assert "moved from" in page
    assert re.search(rf"Its record names</dt>\s*<dd><code>{re.escape(SAFE)}</code>", page)
    orphans.inspect(renamed.root, now=now + timedelta(hours=2))
    assert not Orphan.objects.filter(gone_at=None, kind="missing").exists()
    assert "Not missing any more" in people.admin.get(address).content.decode()


def test_the_page_of_a_missing_run_leads_there(people, renamed):
    page = f"/runs/{renamed.run_id}/"
    for client, seen in ((people.admin, True), (people.operator, False)):
        text = client.get(page).content.decode()
        assert (f'href="/problems/{renamed.pk}/moved/"' in text) is seen
        assert (f'href="/problems/{renamed.pk}/gone/"' in text) is seen


def test_what_cannot_be_moved_is_told(people, renamed):
    address = f"/problems/{renamed.pk}/moved/"
    text = people.admin.post(address, {"old": OLD, "new": "CONFOCAL_01/nowhere"}).content.decode()
    assert "0 runs of 2 would have a new path" in text
    assert "is not on the staging disk" in text
    assert "They are the same runs" not in text
    for old, new, said in (
        (OLD, OLD, "named as it was before"),
        ("CONFOCAL_01/nothing", NEW, "No staged run is known"),
        ("", NEW, "This field is required"),
    ):
        answer = people.admin.post(address, {"old": old, "new": new})
        assert (answer.status_code, said in answer.content.decode()) == (422, True)
    answer = people.admin.post(address, {"old": OLD, "new": "CONFOCAL_01/nowhere", "confirm": "1"}, follow=True)
    assert answer.content.decode().count("is not moved") == 2
    assert not LedgerEntry.objects.exists()


def test_only_an_admin_of_both_places_moves(people, keeper, renamed):
    from django.contrib.auth.models import Permission, User

    address = f"/problems/{renamed.pk}/moved/"
    for client in (people.viewer, people.operator):
        assert client.get(address).status_code == 403
        assert client.get(GONE).status_code == 403
    client = keeper(root=renamed.root, equipment="CONFOCAL_01")
    User.objects.latest("pk").user_permissions.add(Permission.objects.get(codename="change_run"))
    assert client.get(address).status_code == 200
    assert client.post(address, {"old": OLD, "new": "FLOW_01/P"}).status_code == 403
    assert client.post(address, {"old": OLD, "new": NEW}).status_code == 200
    other = keeper(root=renamed.root, equipment="FLOW_01")
    User.objects.latest("pk").user_permissions.add(Permission.objects.get(codename="change_run"))
    assert other.get(address).status_code == 404
    assert SAFE not in other.get(GONE).content.decode()
