from typing import Any

from axe_playwright_python.base import AXE_SCRIPT, AxeResults
from playwright.sync_api import Page

WIDTHS = (1440, 1024, 768, 390, 320)

# The colours are nearly all that axe takes time for, and a theme gives one element the same ones at every width. So in
# the dark, what a phone shows is looked at there, and on a wide screen what a phone hides.
HIDDEN_ON_A_PHONE = """() => {
    window.hiddenOnAPhone = [...document.body.querySelectorAll("*")].filter((element) => !element.checkVisibility());
}"""
COLOURS_OF_THE_REST = """async () => {
    const include = window.hiddenOnAPhone.filter((element) => element.isConnected && element.checkVisibility());
    if (!include.length) return [];
    const asked = { preload: false, resultTypes: ["violations"], runOnly: ["color-contrast"] };
    const found = await axe.run({ include }, asked);
    return found.violations;
}"""
# Style sheets that others import need not be fetched for the rules that are on; axe would lay them into the page.
EVERYTHING = "async () => (await axe.run({ preload: false, resultTypes: ['violations'] })).violations"


def expect_good_to_read(page: Page) -> None:
    """axe finds nothing, light and dark, and no width from phone to wide screen scrolls sideways."""
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page.set_viewport_size({"width": 1280, "height": 844})
    expect_readable(page)
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") == width, (page.url, width)
    expect_readable(page)
    page.evaluate(HIDDEN_ON_A_PHONE)
    page.set_viewport_size({"width": 1280, "height": 844})
    _expect_nothing_found(page, page.evaluate(COLOURS_OF_THE_REST))
    page.set_viewport_size({"width": WIDTHS[-1], "height": 844})


def expect_readable(page: Page) -> None:
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    _expect_nothing_found(page, page.evaluate(EVERYTHING))


def _expect_nothing_found(page: Page, violations: list[dict[str, Any]]) -> None:
    assert not violations, page.url + AxeResults({"violations": violations}).generate_report()
