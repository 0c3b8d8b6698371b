"""An auditor answers with the pages alone: what was freed each month, who asked, by which policy, was it safe?"""

from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from cleanup.lab import policy_versions
from cleanup.models import StagingRoot
from tests.browser.looks import expect_good_to_read
from tests.tools import cleared

pytestmark = pytest.mark.one_engine


@pytest.fixture
def year(transactional_db: None) -> int:
    """A year with clears of several instruments."""
    now = datetime.now(UTC)
    root = StagingRoot.objects.create(name="lab", host="lab-pc", path="/nonexistent", discovered_at=now)
    policy_versions.add_version(author="admin", now=now, equipment="FLOW_01", mode="scheduled", retain_hours=24)
    cleared.write(root, cleared.random_clears(120, 2, "UTC"))
    return 2026


def test_an_auditor_answers_the_questions(page: Page, live_server: Any, year: int, sign_in: Any) -> None:
    sign_in("auditor")
    page.goto(f"{live_server.url}/")
    expect(page.get_by_role("heading", name="Freed in")).to_be_visible()
    page.goto(f"{live_server.url}/audit/?year={year}")
    months = page.get_by_role("region", name="By month and instrument")
    expect(months.get_by_role("columnheader", name="FLOW_01")).to_be_visible()
    expect(page.get_by_role("table", name="By person")).to_contain_text("ada")
    expect(page.get_by_role("table", name="By policy")).to_contain_text("FLOW_01")
    expect(page.locator("#totals")).to_contain_text("at checksum")
    months.locator("tbody td").get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="Cleared in January 2026")).to_be_visible()
    expect(page.get_by_role("link", name="Receipt").first).to_be_visible()


def test_the_page_prints_its_tables_alone(page: Page, live_server: Any, year: int, sign_in: Any) -> None:
    sign_in("auditor")
    page.goto(f"{live_server.url}/audit/?year={year}")
    page.emulate_media(media="print", color_scheme="dark")
    for hidden in ("nav.bar", "form.filters", "nav.choices", ".files", ".card-chart figcaption"):
        assert not any(one.is_visible() for one in page.locator(hidden).all()), hidden
    expect(page.get_by_role("table", name="By person")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    page.set_viewport_size({"width": 700, "height": 900})  # A4 without its margins
    assert page.evaluate("document.documentElement.scrollWidth") == 700


def test_the_pages_are_good_to_read_and_fit_their_window(page: Page, live_server: Any, year: int, sign_in: Any) -> None:
    sign_in("auditor")
    for address in (
        f"/audit/?year={year}",
        "/audit/?year=2001",
        "/audit/entries/?month=2026-05",
        f"/audit/entries/?year={year}&refusal=held",
    ):
        page.goto(live_server.url + address)
        expect_good_to_read(page)
