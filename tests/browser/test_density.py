"""How much a screen shows: rows of the list, the first run on a phone, pages at twice their size, the admin."""

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from cleanup.clears import protocol
from cleanup.models import Heartbeat, Run
from tests.browser.conftest import EXTRA, LONG, SAFE
from tests.browser.looks import expect_good_to_read
from tests.tools.pages import many as many

pytestmark = pytest.mark.one_engine

ROWS = "table.runs tbody tr"
# The bottom of each row, and its height, in CSS pixels.
BOXES = "rows => rows.map(row => row.getBoundingClientRect()).map(box => [box.bottom, box.height])"


@pytest.fixture
def listed(page: Page, live_server: Any, runs: dict[str, Run], many: Callable[[int], None], sign_in: Any) -> Page:
    many(20)
    for cluster in ("exlab-clear", "watch"):
        Heartbeat.objects.create(cluster=cluster, host=runs[SAFE].root.host, at=timezone.now())
    sign_in()
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(f"{live_server.url}/runs/")
    return page


def boxes(page: Page) -> list[list[float]]:
    found: list[list[float]] = page.locator(ROWS).evaluate_all(BOXES)
    assert len(found) == 26
    return found


def test_a_screen_shows_fourteen_runs(listed: Page) -> None:
    found = boxes(listed)
    assert max(height for _bottom, height in found) <= 56
    assert sum(bottom <= 900 for bottom, _height in found) >= 14
    lines = listed.locator(f"{ROWS} :is(.leaf, .project, .instrument)")
    assert max(lines.evaluate_all("names => names.map(name => name.offsetHeight)")) <= 48


def test_a_name_that_is_too_long_is_whole_under_the_keyboard(listed: Page, runs: dict[str, Run]) -> None:
    row = listed.locator(f"#run-{runs[LONG].pk}")
    project, cut = row.locator(".project"), row.locator(".cut")
    overflows = (
        "element => element.scrollWidth > element.clientWidth + 1 || element.scrollHeight > element.clientHeight + 1"
    )
    assert project.evaluate(overflows)
    assert "Dose-response-without-any-space" in (project.get_attribute("title") or "")
    before = row.bounding_box()
    listed.keyboard.press("Tab")
    row.locator(".leaf").focus()
    assert not cut.evaluate(overflows)
    assert row.bounding_box() == before  # nothing below is moved under the mouse


def test_a_phone_shows_the_first_run_at_once(listed: Page) -> None:
    listed.set_viewport_size({"width": 390, "height": 844})
    found = boxes(listed)
    assert max(height for _bottom, height in found) <= 110
    assert found[0][0] <= 844
    state = listed.get_by_label("State")
    expect(state).to_be_hidden()
    listed.locator("#filters-shown").focus()
    listed.keyboard.press("Space")
    expect(state).to_be_visible()
    listed.get_by_text("Filters", exact=True).click()
    expect(state).to_be_hidden()


@pytest.mark.parametrize("size", [{"width": 720, "height": 450}, {"width": 390, "height": 844}])
def test_no_page_is_pushed_sideways(listed: Page, live_server: Any, runs: dict[str, Run], size: Any) -> None:
    """720 px are a screen of 1440 at 200 %."""
    listed.set_viewport_size(size)
    for address in ("/runs/", f"/runs/{runs[SAFE].pk}/", f"/runs/{runs[LONG].pk}/", "/clear/?root=lab"):
        listed.goto(live_server.url + address)
        assert listed.evaluate("document.documentElement.scrollWidth") == size["width"], address


def test_checks_that_have_passed_unfold_by_the_keyboard(listed: Page, live_server: Any, runs: dict[str, Run]) -> None:
    listed.goto(f"{live_server.url}/runs/{runs[EXTRA].pk}/")
    verdict = listed.locator("#head .verdict").bounding_box()
    assert verdict is not None
    assert verdict["y"] < 250
    expect(listed.locator("#gates tr:visible")).to_have_count(4)  # the names of the columns, and what has not passed
    passed = listed.locator("#passed tbody tr")
    expect(passed.first).to_be_hidden()
    listed.locator("#passed summary").focus()
    listed.keyboard.press("Enter")
    expect(passed.first).to_be_visible()


def test_the_admin_is_good_to_read(page: Page, live_server: Any, runs: dict[str, Run], sign_in: Any) -> None:
    sign_in("admin")
    protocol.clear_run(runs[SAFE], now=timezone.now(), actor="mkhan")
    for address in ("/admin/", "/admin/cleanup/ledgerentry/"):
        page.goto(live_server.url + address)
        expect_good_to_read(page)
