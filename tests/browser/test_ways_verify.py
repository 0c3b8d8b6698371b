"""A damaged copy, and a run that was copied back, in a browser."""

import shutil

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from cleanup import tasks
from cleanup.clears import nas_history, protocol
from cleanup.models import ByteCheck, Run
from cleanup.runs import discovery
from tests.browser.conftest import SAFE
from tests.browser.looks import expect_good_to_read
from tests.browser.test_clear import perform_queued
from tests.faults.means import change_keeping_size_and_time

TILE = "tiles/t_0001.tif"


def press_clear(page: Page, name: str) -> None:
    page.locator("#clear").click()
    page.get_by_role("button", name=name).click()
    perform_queued()


def verify_again(page: Page) -> None:
    page.get_by_role("link", name="Verify again here…").click()
    page.get_by_role("button", name="Compare every byte").click()
    expect(page.locator("#verified")).to_contain_text("waits for a worker")
    check = ByteCheck.objects.get(phase="queued")
    ByteCheck.objects.filter(pk=check.pk).update(phase="running", planned_bytes=400, compared_bytes=100)
    expect(page.get_by_role("progressbar", name="Bytes compared")).to_have_attribute("value", "25")
    ByteCheck.objects.filter(pk=check.pk).update(phase="queued")
    tasks.verify_again(str(check.pk))


@pytest.mark.exhaustive
def test_a_damaged_copy_is_kept_named_mended_and_then_cleared(page: Page, live_server, runs, lab, sign_in):
    """Takes 10 s: two clears and two comparisons."""
    sign_in("operator")
    copy, here = lab.twin(SAFE) / TILE, lab.staging / SAFE / TILE
    change_keeping_size_and_time(copy)
    page.goto(f"{live_server.url}/runs/{runs[SAFE].pk}/")
    press_clear(page, "Clear now")
    expect(page.locator("#head")).to_contain_text("Files differ from the verified checksums.")
    expect(page.locator("#head")).to_contain_text("“Verify again here” names the files")
    verify_again(page)
    told = page.locator("#verified")
    expect(told).to_contain_text("Not the same here and on the NAS: 1 file of 7", timeout=15_000)
    expect(told).to_contain_text("Here it is as the manifest says. The copy on the NAS is another.")
    expect(told).to_contain_text("Put the file from here in the place of the copy on the NAS.")
    expect_good_to_read(page)
    assert here.exists()
    shutil.copy2(here, copy)
    verify_again(page)
    expect(told).to_contain_text("are the same here and on the NAS, and as the manifest says", timeout=15_000)
    press_clear(page, "Clear now")
    expect(page.locator("#head")).to_contain_text("Cleared", timeout=15_000)
    assert not (lab.staging / SAFE).exists() and copy.exists()


def test_a_run_that_was_copied_back_is_cleared_again(page: Page, live_server, runs, lab, root, sign_in):
    """Takes 5 s: two clears and three pages."""
    sign_in("operator")
    protocol.clear_run(runs[SAFE], now=timezone.now(), actor="asmith")
    nas_history.tell(now=timezone.now())
    shutil.copytree(lab.twin(SAFE), lab.staging / SAFE)
    discovery.discover(root, now=timezone.now())
    run = Run.objects.staged().get(run_path=SAFE)
    page.goto(f"{live_server.url}/runs/{run.pk}/")
    expect(page.locator("#returned")).to_contain_text("Copied back.")
    expect(page.locator("#head")).to_contain_text("Safe to clear")
    press_clear(page, "Clear now")
    expect(page.locator("#head")).to_contain_text("Cleared", timeout=15_000)
    assert not (lab.staging / SAFE).exists()
    page.locator("#receipt").click()
    expect(page.locator("#former")).to_contain_text("This was not its first clear")
    page.get_by_role("link", name="the receipt of that clear").click()
    expect(page.locator("#later")).to_contain_text("copied back since")
    expect(page.get_by_text("asmith, by hand")).to_be_visible()
