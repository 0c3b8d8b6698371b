"""Missing runs in a browser."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from cleanup.models import Run
from cleanup.runs import discovery
from cleanup.runs.orphans import orphans
from cleanup.runs.orphans.orphan_rows import GRACE
from tests.browser.conftest import EXTRA, SAFE, TOUCHED
from tests.browser.looks import expect_good_to_read

pytestmark = pytest.mark.one_engine


OLD, NEW = "CONFOCAL_01/PROJ-0042", "CONFOCAL_01/PROJ-0042-cortex"


@pytest.fixture
def missing(runs, lab, root):
    now = timezone.now()
    for side in (lab.staging, lab.nas):
        (side / OLD).rename(side / NEW)
    for number, path in enumerate((EXTRA, TOUCHED)):
        (lab.staging / path).rename(lab.base / f"away {number}")
    record = lab.nas / EXTRA / ".exlab-wizard/ingest.json"
    content = json.loads(record.read_bytes())
    content["history"].append({"state": "cleared", "at": (now - timedelta(hours=3)).isoformat(), "host": "labpc-04"})
    record.write_text(json.dumps({**content, "current_state": "cleared"}))
    for at in (now - GRACE, now):
        discovery.discover(root, now=at)
        orphans.inspect(root, now=at)
    return {orphan.path: orphan for orphan in orphans.listed()}


@pytest.mark.exhaustive
def test_the_pages_are_good_to_read_and_fit_their_window(page: Page, live_server, missing, runs, sign_in):
    sign_in("admin")
    cleared = Run.objects.get(run_path=EXTRA)
    moved = f"/problems/{missing[SAFE].pk}/moved/"
    for address in ("/problems/", "/problems/gone/", f"/runs/{cleared.pk}/", f"/runs/{cleared.pk}/receipt/", moved):
        page.goto(live_server.url + address)
        expect_good_to_read(page)
    page.get_by_role("button", name="Show which runs").click()
    expect_good_to_read(page)


@pytest.mark.exhaustive
def test_a_renamed_folder_and_many_missing_runs(page: Page, live_server, missing, sign_in):
    sign_in("admin")
    page.goto(f"{live_server.url}/problems/")
    page.get_by_role("link", name=f"Its folder was renamed: {SAFE}").click()
    expect(page.get_by_label("The folder as it is now")).to_have_value(NEW)
    page.get_by_role("button", name="Show which runs").click()
    expect(page.get_by_text(f"becomes {SAFE.replace(OLD, NEW)}")).to_be_visible()
    page.get_by_role("button", name="They are the same runs").click()
    expect(page.get_by_text("1 run has its new path.")).to_be_visible()
    page.goto(f"{live_server.url}/problems/gone/")
    expect(page.get_by_role("checkbox", name=TOUCHED)).to_be_checked()
    page.get_by_label("Where they went").fill("to the archive")
    page.get_by_role("button", name="Mark the ticked ones as gone").click()
    expect(page.get_by_text("1 run is marked as gone.")).to_be_visible()
