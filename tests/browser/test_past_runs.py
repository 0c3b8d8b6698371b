"""Runs of the past in a browser: found, asked for on the NAS, and good to read."""

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.utils import timezone
from playwright.sync_api import Page, expect

from cleanup.clears import protocol
from tests.browser.conftest import SAFE, TEST_RUN
from tests.browser.looks import expect_good_to_read

pytestmark = pytest.mark.one_engine


@pytest.fixture
def past(runs: Any, lab: Any, sign_in: Any) -> None:
    """Two cleared runs, one of them changed on the NAS since; an admin who may see the audit is signed in."""
    for path in (SAFE, TEST_RUN):
        protocol.clear_run(runs[path], now=timezone.now(), actor="mkhan", note="disk is full")
    (lab.twin(SAFE) / "tiles/t_0000.tif").unlink()
    sign_in("operator")
    User.objects.get(username="mkhan").groups.add(Group.objects.get(name="auditor"))


def test_a_run_is_found_and_the_nas_asked_beside_it(page: Page, live_server: Any, past: None, runs: Any) -> None:
    page.goto(f"{live_server.url}/audit/runs/")
    page.get_by_label("Asked for by").fill("mkhan")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("table.past tbody tr")).to_have_count(2)
    changed, whole = runs[SAFE], runs[TEST_RUN]
    page.get_by_role("button", name=f"Is {whole.leaf} still on the NAS?").click()
    expect(page.locator(f"#nas-{whole.pk}")).to_contain_text("Yes, the NAS still has it")
    page.get_by_role("button", name=f"Is {changed.leaf} still on the NAS?").click()
    expect(page.locator(f"#nas-{changed.pk}")).to_contain_text("Not as it was")
    expect(page.locator(f"#nas-{whole.pk}")).to_contain_text("Yes")  # the page stayed
    page.get_by_label("File name").fill("TILES/t_")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_label("How far the search went")).to_contain_text("Looked through the files of 2 runs")
    expect(page.get_by_role("list", name="Files that match").first).to_contain_text("tiles/t_0000.tif")
    page.get_by_role("link", name=f"Receipt of {whole.leaf}").click()
    expect(page.get_by_role("heading", name="Receipt of a clear")).to_be_visible()


@pytest.mark.exhaustive
def test_the_pages_are_good_to_read_and_fit_their_window(page: Page, live_server: Any, past: None, runs: Any) -> None:
    now = timezone.localtime()
    for address in (
        "/audit/runs/",
        "/audit/runs/?q=nothing&since=x",
        "/audit/runs/?file=.&person=mkhan",
        "/audit/runs/?file=nothing",
        f"/audit/months/{now:%Y-%m}/",
        "/audit/months/2020-01/",
    ):
        page.goto(live_server.url + address)
        if address == "/audit/runs/":
            page.get_by_role("button", name=f"Is {runs[SAFE].leaf} still on the NAS?").click()
            expect(page.locator(f"#nas-{runs[SAFE].pk}")).to_contain_text("Not as it was")
        expect_good_to_read(page)
