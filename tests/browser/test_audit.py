"""An auditor answers with the pages alone: what was freed each month, who asked, by which policy, was it safe?"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from cleanup.models import RetentionPolicy, StagingRoot
from tests.browser.looks import expect_good_to_read
from tests.tools import cleared

pytestmark = pytest.mark.one_engine


@pytest.fixture
def year(transactional_db: None) -> int:
    """A year with clears of several instruments."""
    now = datetime.now(UTC)
    root = StagingRoot.objects.create(name="lab", host="lab-pc", path="/nonexistent", discovered_at=now)
    RetentionPolicy.objects.add_version(author="admin", now=now, equipment="FLOW_01", mode="scheduled", retain_hours=24)
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
    number = months.locator("tbody tr").first.get_by_role("link").first
    said = number.inner_text()
    number.click()
    expect(page.get_by_role("heading", name="Cleared in")).to_be_visible()
    assert said
    expect(page.get_by_role("link", name="Receipt").first).to_be_visible()


def test_the_pages_are_good_to_read_and_fit_their_window(page: Page, live_server: Any, year: int, sign_in: Any) -> None:
    sign_in("auditor")
    for name, address in (
        ("freed", f"/audit/?year={year}"),
        ("empty", "/audit/?year=2001"),
        ("entries", "/audit/entries/?month=2026-05"),
        ("refused", f"/audit/entries/?year={year}&refusal=held"),
    ):
        page.goto(live_server.url + address)
        _shoot(page, name)
        expect_good_to_read(page)


def _shoot(page: Page, name: str) -> None:
    if not (folder := os.environ.get("AUDIT_SHOTS")):
        return
    for theme in ("light", "dark"):
        for width in (1280, 375):
            page.emulate_media(color_scheme=theme)
            page.set_viewport_size({"width": width, "height": 1700})
            page.screenshot(path=str(Path(folder) / f"{name}-{theme}-{width}.png"))
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 800, "height": 900})
    page.screenshot(path=str(Path(folder) / f"{name}-print.png"), full_page=True)
    page.emulate_media(media="null")
