"""A hold to the end of a day in Zurich: it follows the renamed run and is lifted on its page."""

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from cleanup.lab import policy_versions
from cleanup.models import Hold
from cleanup.runs import discovery
from cleanup.sweeps import all_roots
from tests.browser.conftest import SAFE
from tests.browser.looks import expect_good_to_read
from tests.tools.lab import METADATA

pytestmark = pytest.mark.one_engine


ZURICH = ZoneInfo("Europe/Zurich")


@pytest.mark.exhaustive
def test_a_hold_to_the_end_of_a_day_in_zurich(page: Page, live_server, runs, lab, root, sign_in, settings):
    """Takes 6 s: a real browser."""
    settings.TIME_ZONE = "Europe/Zurich"
    now = timezone.now()
    policy_versions.add_version(
        author="admin", now=now, mode="scheduled", retain_hours=24, rehearse=False, max_share=1.0
    )
    sign_in("operator")
    day = datetime.now(ZURICH).date() + timedelta(days=10)
    end = datetime.combine(day + timedelta(days=1), time.min, tzinfo=ZURICH)

    year = "" if day.year == datetime.now(ZURICH).year else f" {day.year}"
    said = f"the end of {day.day} {day:%B}{year}"
    page.goto(f"{live_server.url}/runs/{runs[SAFE].pk}/hold/")
    page.get_by_label("Hold to the end of").fill(day.isoformat())
    page.get_by_label("Reason").fill("the referees ask")
    page.get_by_role("button", name="Hold").click()
    expect(page.get_by_text(f"Held until {said}, by mkhan.")).to_be_visible()
    expect(page.get_by_text(f"On hold until {said}").first).to_be_visible()
    assert Hold.objects.get().until == end
    all_roots.sweep(now=end - timedelta(minutes=1), timed=True, roots=[root])
    assert (lab.staging / SAFE).exists()

    new = SAFE.replace("PROJ-0042", "PROJ-0077")
    for side in (lab.staging, lab.nas):
        (side / "CONFOCAL_01/PROJ-0042").rename(side / "CONFOCAL_01/PROJ-0077")
        record = side / new / METADATA / "ingest.json"
        record.write_text(record.read_text().replace("PROJ-0042", "PROJ-0077"))
    discovery.discover(root, now=timezone.now())
    page.goto(f"{live_server.url}/runs/")
    found = runs[SAFE].__class__.objects.get(run_path=new)
    page.goto(f"{live_server.url}/runs/{found.pk}/")
    expect(page.get_by_text(f"laid on {SAFE}, which may be this run: the same folder").first).to_be_visible()
    expect_good_to_read(page)
    page.get_by_role("link", name="It is not the held run…").click()
    expect(page.get_by_role("heading", name="Is it not the held run?")).to_be_visible()
    expect_good_to_read(page)
    page.get_by_label("Reason").fill("made from the same template")
    page.get_by_role("button", name="It is not the held run").click()
    expect(page.get_by_text("It is a run of its own from now on.")).to_be_visible()
    expect(page.get_by_text("which may be this run")).to_have_count(0)
