"""Pictures and notices in a real browser: they load, in both themes, on a phone and on paper."""

import os
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page

from cleanup.lab import policy_versions
from cleanup.models import DiskUsage, Instrument, StagingRoot, Status
from tests.browser.looks import expect_good_to_read
from tests.tools.rows import clear_rows, run_row

pytestmark = pytest.mark.one_engine

GB = 1_000_000_000
LONG = "A-very-long-instrument-name-that-nobody-would-want-to-type-0123456789"
# Where a person who runs this by hand looks at the pages.
SHOTS = os.environ.get("EXLAB_SHOTS")
LOADED = """(narrow) => [...document.images].every((image) =>
    image.complete && image.naturalWidth > 0 && image.currentSrc.includes("narrow") === narrow)"""
SCALES = "[...document.images].map((image) => image.clientWidth / image.naturalWidth)"


@pytest.fixture
def instrument(transactional_db) -> Instrument:
    now = timezone.now()
    root = StagingRoot.objects.create(name="lab", host="lab-pc", path="/srv/lab", token="t", discovered_at=now)
    for number in range(1, 10):
        name = LONG if number == 5 else f"FLOW_0{number}"
        run = run_row(
            root, f"{name}/P-1/Runs/Run_2026-01-0{number}T10-00", first_seen_at=now, state="cleared", here=False
        )
        for month in range(9):
            at = now - timedelta(days=31 * month)
            clear_rows(run, at, files=1, size=(number * (month + 3) % 11 + 1) * 100 * GB)
    states = [
        ("sync_verified", Status.BLOCK, reason) for reason in ("not_in_manifest", "nas_checksum_mismatch", "held")
    ]
    for number, (state, tone, reason) in enumerate([("staging", Status.WAIT, ""), *states], start=1):
        where = f"FLOW_01/P-1/Runs/Run_2026-02-0{number}T10-00"
        seen = now - timedelta(days=number * number * 6)
        run_row(root, where, first_seen_at=seen, state=state, tone=tone, reason=reason, bytes=number * 300 * GB)
    DiskUsage.objects.bulk_create(
        DiskUsage(
            root=root, at=now - timedelta(days=day), total_bytes=8000 * GB, free_bytes=(900 + day % 30 * 120) * GB
        )
        for day in range(0, 85, 5)
    )
    for fields in (
        {"mode": "scheduled", "retain_hours": 24},
        {"root": root, "free_start_bytes": GB, "free_stop_bytes": 2 * GB},
    ):
        policy_versions.add_version(author="admin", now=now, rehearse=False, **fields)
    return Instrument.objects.create(root=root, equipment="FLOW_01", notice=True)


def shoot(page: Page, name: str) -> None:
    if SHOTS:
        for scheme in ("light", "dark"):
            for width in (375, 1280):
                page.emulate_media(color_scheme=scheme)
                page.set_viewport_size({"width": width, "height": 900})
                if name != "notice":
                    page.wait_for_function(LOADED, arg=width == 375, timeout=10_000)
                page.screenshot(path=f"{SHOTS}/{name}-{scheme}-{width}.png", full_page=True)
        page.set_viewport_size({"width": 720, "height": 1000})
        page.emulate_media(media="print", color_scheme="dark")
        page.screenshot(path=f"{SHOTS}/{name}-print.png", full_page=True)
        page.pdf(path=f"{SHOTS}/{name}.pdf", format="A4")
        page.emulate_media(media="screen")


def expect_pictures(page: Page) -> None:
    """Every picture is there, and no text of it is smaller than 11 px."""
    for width, sharpest in ((375, 13), (1280, 15)):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(LOADED, arg=width == 375, timeout=10_000)
        scales = page.evaluate(SCALES)
        assert scales
        assert min(scales) * sharpest >= 11, (width, scales)


@pytest.mark.parametrize(
    "name", ["", "disks/", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("freed/", "reasons/"))]
)
def test_the_pages_of_the_pictures(page: Page, live_server, instrument, sign_in, name):
    """Each takes one to three seconds: axe looks at it twice."""
    sign_in("admin")
    page.goto(f"{live_server.url}{reverse('audit-charts')}{name}")
    expect_pictures(page)
    expect_good_to_read(page)
    shoot(page, f"charts-{name.strip('/') or 'all'}")


def test_a_picture_alone_has_its_colours_in_both_themes(page: Page, live_server, instrument, sign_in, trouble):
    """Its policy is its own: styles inside it, and nothing else."""
    sign_in("admin")
    for name in ("freed", "age", "reasons", "disks"):
        query = f"?root={instrument.root_id}" if name == "disks" else ""
        page.goto(f"{live_server.url}{reverse('audit-chart', args=[name])}{query}")
        for scheme, ground in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(26, 31, 28)")):
            page.emulate_media(color_scheme=scheme)
            colour = "(name) => getComputedStyle(document.querySelector(name))"
            assert page.evaluate(f"{colour}.backgroundColor", "svg") == ground
            assert page.evaluate(f"{colour}.fill", ".color-0") != "rgb(0, 0, 0)"
    expected = [line for line in trouble if line.startswith("the policy of") and "default-src 'none'" in line]
    assert len(expected) == 4
    trouble[:] = [line for line in trouble if line not in expected]


def test_the_notice_is_read_without_signing_in_and_printed_on_one_sheet(page: Page, live_server, instrument):
    page.goto(live_server.url + reverse("notice", args=[instrument.token]))
    assert "keeps data at least 24 h" in page.locator("#rules").inner_text()
    expect_good_to_read(page)
    sheets = page.pdf(format="A4").count(b"/Type /Page\n")
    assert sheets == 1
    shoot(page, "notice")
