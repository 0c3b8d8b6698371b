"""What a page must look like, whatever it is about."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

WIDTHS = (1440, 1024, 768, 390, 320)


def expect_good_to_read(page: Page) -> None:
    """What axe knows of WCAG, light and dark; and no scrolling sideways from a phone to a wide screen."""
    page.set_viewport_size({"width": 1280, "height": 844})
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        expect_readable(page)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") == width, (page.url, width)
    expect_readable(page)


def expect_readable(page: Page) -> None:
    """Nothing that axe finds, as the page stands."""
    results = Axe().run(page)
    assert results.violations_count == 0, page.url + results.generate_report()
