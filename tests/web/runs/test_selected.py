"""What can be done with all selected runs, each by its own rights."""

import csv
import io
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from cleanup.models import Access, Hold, Run, RunReminder
from cleanup.runs.holds import many_holds
from tests.tools.pages import EXTRA, SAFE, TEST_RUN

pytestmark = pytest.mark.one_engine

HOLD = {"last_day": "2026-07-01", "reason": "figure 3"}


@pytest.fixture
def picked(people, runs):
    keys = [runs[path].pk for path in (SAFE, TEST_RUN, EXTRA)]
    people.operator.post("/selection/", {"action": "add", "run": keys})
    return people.operator


def text(answer):
    assert answer.status_code == 200
    return answer.content.decode()


def test_all_are_held_with_one_reason_and_one_end(picked, runs, now):
    page = text(picked.post("/selected/hold/", HOLD))
    assert "3 runs held to the end of 2026-07-01." in page and 'id="picked"' in page
    assert set(Hold.objects.values_list("run__run_path", "owner", "reason")) == {
        (path, "operator", "figure 3") for path in (SAFE, TEST_RUN, EXTRA)
    }
    text(picked.post("/selected/hold/", HOLD))
    assert Hold.objects.count() == 3, "the same hold laid twice is one"
    assert "On hold" in text(picked.get("/runs/"))


def test_each_run_by_its_own_rights(people, runs, now):
    """The user may clear runs of both instruments, and hold those of one."""
    user = User.objects.create_user("half")
    of = Permission.objects.filter(content_type__app_label="cleanup")
    user.user_permissions.set(of.filter(codename__in=["view_run", "clear_run", "view_hold", "hold_run"]))
    Access.objects.create(user=user, equipment="CONFOCAL_01")
    from django.contrib.auth.models import Group

    group = Group.objects.create(name="clears flow")
    group.permissions.set(of.filter(codename__in=["view_run", "clear_run"]))
    Access.objects.create(group=group, equipment="FLOW_01")
    user.groups.add(group)
    client = Client()
    client.force_login(user)
    client.post("/selection/", {"action": "add", "run": [runs[path].pk for path in (SAFE, TEST_RUN, EXTRA)]})
    page = text(client.post("/selected/hold/", HOLD))
    assert "2 runs held to the end of 2026-07-01, 1 not:" in page and "does not let you hold" in page
    assert set(Hold.objects.values_list("run__run_path", flat=True)) == {SAFE, TEST_RUN}


def test_own_holds_are_released_or_all(picked, people, runs):
    admin = people.admin
    admin.post(f"/runs/{runs[SAFE].pk}/hold/", {**HOLD, "reason": "of the admin"})
    picked.post("/selected/hold/", HOLD)
    Hold.objects.filter(run=runs[EXTRA]).delete()
    page = text(picked.post("/selected/release/", {"whose": "own"}))
    assert "2 runs released, 1 not:" in page and "not held" in page and "still held by admin: of the admin" in page
    assert Hold.objects.filter(released_at=None).get().owner == "admin"
    assert "1 run released, 2 not:" in text(picked.post("/selected/release/", {"whose": "all"}))
    assert not Hold.objects.filter(released_at=None).exists()
    assert picked.post("/selected/release/", {"whose": "yours"}).status_code == 422


def test_a_bad_form_holds_nothing_and_says_why(picked):
    answer = picked.post("/selected/hold/", {"last_day": "2026-01-01", "reason": "x"})
    assert (answer.status_code, Hold.objects.count()) == (422, 0)
    assert "must lie in the future" in answer.content.decode()
    answer = picked.post("/selected/hold/", {"last_day": "2026-07-01", "reason": ""})
    assert (answer.status_code, Hold.objects.count()) == (422, 0)


def test_a_run_that_cannot_be_held_stops_no_other(picked, runs):
    Run.objects.filter(pk=runs[EXTRA].pk).update(gone_at=runs[EXTRA].first_seen_at, here=True)
    runs_now = list(Run.objects.filter(run_path__in=[SAFE, EXTRA]).order_by("run_path"))
    until = runs[SAFE].first_seen_at + timedelta(days=3)
    told = many_holds.hold_all(runs_now, owner="ada", reason="x", until=until, now=runs[SAFE].first_seen_at)
    assert [(each.run.run_path, each.is_done) for each in told] == [(SAFE, True), (EXTRA, False)]
    assert "declared gone" in told[1].said


def test_the_file_is_a_csv_that_spreadsheets_take(picked, runs):
    Run.objects.filter(pk=runs[SAFE].pk).update(people=["=cmd()", "bo"], project_name="Öl")
    answer = picked.get("/selected/runs.csv")
    assert answer.content.startswith(b"\xef\xbb\xbf")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="exlab-selected-runs.csv"'
    rows = {row["run_path"]: row for row in csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig")))}
    assert set(rows) == {SAFE, TEST_RUN, EXTRA}
    safe = rows[SAFE]
    assert (safe["people"], safe["project_name"], safe["status"]) == ("'=cmd(); bo", "Öl", "go")
    assert safe["logical_bytes"].isdigit() and safe["verified_at"].endswith("Z")


def test_a_reminder_stands_on_the_page_of_the_run_until_it_is_done(picked, people, runs, now):
    at = {"at": "2026-06-20T09:00", "note": "look at plate 4"}
    assert "3 runs to be reminded of." in text(picked.post("/selected/remind/", at))
    text(picked.post("/selected/remind/", at))
    assert RunReminder.objects.count() == 3
    page = f"/runs/{runs[SAFE].pk}/"
    assert "look at plate 4" in text(picked.get(page))
    mine = RunReminder.objects.get(run=runs[SAFE])
    assert "Done</button>" not in text(people.admin.get(page))
    assert people.admin.post(f"/reminders/{mine.pk}/done/").status_code == 404
    assert picked.post(f"/reminders/{mine.pk}/done/").url == page
    assert "look at plate 4" not in text(picked.get(page))
    past = f"{now - timedelta(days=1):%Y-%m-%dT%H:%M}"
    answer = picked.post("/selected/remind/", {"at": past})
    assert answer.status_code == 422 and "must lie in the future" in answer.content.decode()


def test_nothing_selected_offers_nothing(people, runs):
    page = text(people.operator.get("/selected/"))
    assert "No run is selected." in page and "<form" not in page.partition("<main")[2].partition("</main>")[0]
    assert people.viewer.get("/selected/").status_code == 403
