"""The bench page: readable from across the room, and green only when confirmed."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from cleanup.models import Instrument, Run, StagingRoot, Status
from tests.browser.looks import expect_good_to_read, expect_readable
from tests.tools.rows import run_row

pytestmark = pytest.mark.one_engine


RUN = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-32"


@pytest.fixture
def instrument(transactional_db) -> Instrument:
    now = timezone.now()
    root = StagingRoot.objects.create(name="lab", host="lab-pc", path="/srv/staging", token="t", discovered_at=now)
    run_row(
        root,
        RUN,
        first_seen_at=now,
        state="sync_verified",
        verified_at=now - timedelta(days=2),
        bytes=1_200_000_000,
        tone=Status.GO,
        doubts=1,
        judged=1,
    )
    return Instrument.objects.create(root=root, equipment="CONFOCAL_01", public=True)


def open_bench(page: Page, live_server, instrument: Instrument) -> None:
    page.goto(live_server.url + reverse("bench", args=[instrument.token]))


def test_every_light_is_good_to_read(page: Page, live_server, instrument):
    open_bench(page, live_server, instrument)
    expect(page.locator("#bench .word")).to_have_text("SAFE TO CLEAR")
    expect_good_to_read(page)
    later = timezone.now() + timedelta(hours=3)
    for word, changes in {
        "WAIT 3 h": {"tone": Status.WAIT, "reason": "not_quiet", "opens_at": later},
        "NEEDS ATTENTION": {"tone": Status.BLOCK, "reason": "not_in_manifest", "opens_at": None},
        "NOTHING HERE": {"here": False},
    }.items():
        Run.objects.update(**changes)
        page.set_viewport_size({"width": 390, "height": 844})
        page.reload()
        expect(page.locator("#bench .word")).to_have_text(word)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            expect_readable(page)


@pytest.mark.browser_context_args
def test_it_asks_again_and_says_what_has_changed(page: Page, live_server, instrument):
    page.clock.install()
    open_bench(page, live_server, instrument)
    expect(page.locator("#bench .word")).to_have_text("SAFE TO CLEAR")
    Run.objects.update(tone=Status.BLOCK, reason="not_in_manifest")
    page.clock.run_for(31_000)
    expect(page.locator("#bench .word")).to_have_text("NEEDS ATTENTION")
    expect(page.locator("#announce")).to_have_text("NEEDS ATTENTION")


@pytest.mark.browser_context_args
def test_an_unconfirmed_green_light_goes_out(page: Page, live_server, instrument, trouble):
    page.clock.install()
    open_bench(page, live_server, instrument)
    expect(page.locator("#silence")).to_be_hidden()
    page.context.set_offline(True)
    page.clock.run_for(130_000)
    expect(page.locator("#silence")).to_contain_text("DO NOT TOUCH")
    expect(page.locator("#bench")).to_be_hidden()
    page.context.set_offline(False)
    page.clock.run_for(31_000)
    expect(page.locator("#bench .word")).to_have_text("SAFE TO CLEAR")
    expect(page.locator("#silence")).to_be_hidden()
    trouble[:] = [line for line in trouble if "ERR_INTERNET_DISCONNECTED" not in line and "console: htmx:" not in line]


def test_without_scripts_it_is_loaded_again(browser, live_server, instrument):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    open_bench(page, live_server, instrument)
    expect(page.locator("#bench .word")).to_have_text("SAFE TO CLEAR")
    expect(page.locator("meta[http-equiv=refresh]")).to_have_attribute("content", "30")
    context.close()


def test_the_list_and_the_card(page: Page, live_server, instrument, sign_in):
    sign_in("viewer")
    page.goto(live_server.url + reverse("instrument-list"))
    expect_good_to_read(page)
    page.get_by_role("link", name="Print the QR code").click()
    picture = page.get_by_role("img", name="QR code of")
    expect(picture).to_be_visible()
    page.wait_for_load_state("load")  # the picture has its place before it has come
    assert picture.evaluate("picture => picture.naturalWidth") > 100
    expect_good_to_read(page)
    page.emulate_media(media="print")
    expect(page.get_by_role("navigation", name="Main")).to_be_hidden()
    expect(picture).to_be_visible()
