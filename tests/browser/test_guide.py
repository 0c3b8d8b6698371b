"""The "?" of a page opens the guide where it explains the page."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SAFE
from tests.browser.looks import expect_good_to_read

pytestmark = pytest.mark.one_engine


def test_the_question_mark_leads_to_the_heading_by_keyboard_on_a_phone(page: Page, live_server, runs, sign_in, trouble):
    """Takes 2 s: axe looks at a long page."""
    sign_in("operator")
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{live_server.url}/runs/{runs[SAFE].pk}/")
    link = page.get_by_role("link", name="Help for this page")
    box = link.bounding_box()
    assert box is not None
    assert min(box["width"], box["height"]) >= 24
    link.focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/guide/#it-will-not-clear-and-i-want-to-know-why$"))
    heading = page.get_by_role("heading", name="It will not clear, and I want to know why")
    expect(heading).to_be_in_viewport()
    expect_good_to_read(page)
    page.set_viewport_size({"width": 1280, "height": 844})
    page.get_by_role("navigation", name="On this page").get_by_role("link", name="At the bench").click()
    expect(page.get_by_role("heading", name="At the bench")).to_be_in_viewport()
    page.get_by_role("navigation", name="Guide", exact=True).get_by_role("link", name="Every reason").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Every reason, and its way out")
    assert page.evaluate("[...document.images].every((image) => image.src.startsWith(location.origin))")


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["admin", "reasons", "words", "receipts", "mounts", "privacy"])
def test_every_page_of_the_guide_is_good_to_read(page: Page, live_server, sign_in, trouble, name):
    sign_in("viewer")
    page.goto(f"{live_server.url}/guide/{name}/")
    expect_good_to_read(page)
