"""The list of runs in a browser, also without scripts."""

import copy
import re
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from cleanup.clears import queue
from cleanup.models import ClearAttempt, Run
from cleanup.runs.holds import holds
from tests.browser.conftest import EXTRA, QUEUED, SAFE, TEST_RUN
from tests.browser.looks import expect_good_to_read, expect_readable

pytestmark = pytest.mark.one_engine


def row(page, run):
    return page.locator(f"#run-{run.pk}")


def box(page, run):
    return page.locator(f"#run-{run.pk}-pick")


def link(page, run):
    return page.locator(f"#run-{run.pk}-link")


@pytest.fixture
def listed(page: Page, live_server, runs, sign_in):
    sign_in()

    def listed(query=""):
        page.goto(f"{live_server.url}/runs/{query}")
        return page

    return listed


@pytest.fixture
def many(runs):
    for index in range(60):
        run = copy.copy(runs[SAFE])
        run.pk, run._state = None, copy.copy(run._state)
        run._state.adding = True
        run.run_path, run.leaf, run.identity = f"CONFOCAL_01/P/Runs/Run_{index:05}", f"Run_{index:05}", f"{index}:-:-"
        run.bytes = 1_000 + index
        run.save()


@pytest.mark.exhaustive
def test_filters_order_and_the_way_back(listed, page: Page, live_server, runs):
    listed()
    rows = page.locator("tbody tr")
    page.get_by_label("Search").fill("flow immune")
    expect(rows).to_have_count(0)
    expect(page.locator("#runs")).to_contain_text("No run matches these filters.")
    page.get_by_label("Search").fill("FLOW")
    expect(rows).to_have_count(3)
    expect(page.get_by_label("Search")).to_be_focused()
    page.get_by_label("Order").select_option("name")
    expect(page).to_have_url(f"{live_server.url}/runs/?q=FLOW&sort=name")
    expect(page.locator("th[aria-sort=ascending]")).to_have_text("Run")
    page.get_by_role("link", name="Size", exact=True).click()
    expect(page).to_have_url(f"{live_server.url}/runs/?q=FLOW&sort=size")
    page.get_by_role("link", name="Blocked").click()
    expect(rows).to_have_count(2)
    page.go_back()
    expect(rows).to_have_count(3)
    page.go_back()
    expect(page).to_have_url(f"{live_server.url}/runs/?q=FLOW&sort=name")
    expect(page.get_by_label("Order")).to_have_value("name")


def test_a_reason_is_told_and_taken_out(listed, page: Page, live_server, runs):
    listed("?reason=not_in_manifest")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_label("Kind").select_option("experimental")
    expect(page).to_have_url(re.compile("kind=experimental.*reason=not_in_manifest"))
    page.get_by_role("link", name="Show runs with other reasons").click()
    expect(page).to_have_url(f"{live_server.url}/runs/?kind=experimental")


@pytest.mark.exhaustive
def test_what_is_picked_survives_pages_filters_and_orders(listed, page: Page, many, runs):
    listed()
    page.get_by_role("checkbox", name=f"Select {runs[SAFE].leaf}", exact=True).check()
    bar = page.locator("#selection")
    expect(bar).to_contain_text("1 run")
    expect(page.locator("#announce")).to_contain_text("1 run selected")
    page.get_by_role("link", name="Next").click()
    expect(bar).to_contain_text("1 run")
    page.locator("input[name=run]").first.check()
    expect(bar).to_contain_text("2 runs")
    page.get_by_label("State").select_option("sync_queued")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(bar).to_contain_text("2 runs")
    box(page, runs[QUEUED]).check()
    expect(bar).to_contain_text("3 runs")
    box(page, runs[QUEUED]).uncheck()
    expect(bar).to_contain_text("2 runs")
    page.get_by_label("State").select_option("")
    expect(box(page, runs[SAFE])).to_be_checked()
    page.get_by_role("button", name="Select all safe").click()
    expect(bar).to_contain_text("63 runs")
    expect(page.locator("input[name=run]").nth(20)).to_be_checked()
    expect_readable(page)
    page.get_by_role("button", name="Clear selection").click()
    expect(page.locator("#announce")).to_contain_text("No run is selected.")
    expect(page.locator("input[name=run]:checked")).to_have_count(0)


def test_ticking_faster_than_the_server_answers_loses_nothing(listed, page: Page, runs):
    listed()
    page.evaluate(
        "document.querySelectorAll('input[name=run]').forEach((box, n) => setTimeout(() => box.click(), 25 * n))"
    )
    expect(page.locator("#selection")).to_contain_text(f"{len(runs)} runs")
    expect(page.locator("input[name=run]:checked")).to_have_count(len(runs))


@pytest.mark.exhaustive
def test_the_list_is_good_to_read_with_something_picked(listed, page: Page, runs):
    listed()
    box(page, runs[SAFE]).check()
    expect(page.locator("#selection .dock")).to_be_visible()
    expect_good_to_read(page)
    page.set_viewport_size({"width": 1280, "height": 844})
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    expect_readable(page)


def test_a_page_is_walked_with_the_keys(listed, page: Page, live_server, runs):
    listed("?sort=name")
    order = sorted(runs.values(), key=lambda run: run.run_path)
    page.keyboard.press("j")
    expect(link(page, order[0])).to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(link(page, order[1])).to_be_focused()
    page.keyboard.press("x")
    expect(box(page, order[1])).to_be_checked()
    expect(page.locator("#selection")).to_contain_text("1 run")
    expect(link(page, order[1])).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.type("jx?/ck")
    expect(page.get_by_label("Search")).to_have_value("jx?/ck")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.goto(f"{live_server.url}/runs/?q=TestRun")
    page.keyboard.press("j")
    page.keyboard.press("Control+c")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("c")
    expect(page.get_by_role("dialog")).to_contain_text(TEST_RUN)
    page.keyboard.press("j")  # nothing moves behind a dialog
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("j")
    page.keyboard.press("h")
    expect(page.get_by_role("dialog")).to_contain_text("Hold")
    expect(page).to_have_url(f"{live_server.url}/runs/?q=TestRun")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("j")
    page.keyboard.press("o")
    expect(page).to_have_url(f"{live_server.url}/runs/{runs[TEST_RUN].pk}/")


def test_the_keys_can_be_switched_off(listed, page: Page, live_server, runs):
    listed()
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys")
    expect(keys.get_by_role("heading")).to_be_focused()
    keys.get_by_label("Single keys act on lists").uncheck()
    keys.get_by_role("button", name="Close").click()
    page.keyboard.press("j")
    expect(page.locator("tbody :focus")).to_have_count(0)
    page.reload()
    page.keyboard.press("?")
    expect(keys).to_be_hidden()
    page.get_by_role("button", name="Keys").click()
    expect(keys.get_by_label("Single keys act on lists")).not_to_be_checked()
    keys.get_by_label("Single keys act on lists").check()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    expect(page.locator("tbody :focus")).to_have_count(1)


def test_rows_follow_what_happens_elsewhere(listed, page: Page, runs):
    listed()
    link(page, runs[SAFE]).focus()
    before = page.locator("table.runs").bounding_box()
    now = timezone.now()
    holds.hold(runs[SAFE], owner="ada", reason="a figure", until=now + timedelta(days=3), now=now)
    queue.request_clear(runs[TEST_RUN], actor="mkhan", now=now)
    page.evaluate("htmx.trigger('#pulse', 'wake')")
    expect(row(page, runs[SAFE])).to_contain_text("On hold until")
    expect(row(page, runs[TEST_RUN])).to_contain_text("Waiting in the queue")
    expect(page.locator("#totals .work")).to_contain_text("1 run")
    expect(link(page, runs[SAFE])).to_be_focused()
    after = page.locator("table.runs").bounding_box()
    assert before is not None
    assert after is not None
    assert (before["x"], before["y"], before["width"]) == (after["x"], after["y"], after["width"])
    attempt = ClearAttempt.objects.get()
    attempt.advance(["queued"], "refused", now=timezone.now(), reason="nas_timeout")
    expect(row(page, runs[TEST_RUN])).to_contain_text("Refused")  # it asks by itself
    expect(page.locator("#announce")).to_contain_text("Refused")


@pytest.mark.exhaustive
@pytest.mark.browser_context_args(java_script_enabled=False)
def test_without_scripts(listed, page: Page, live_server, many, runs):
    listed()
    page.get_by_label("Search").fill("Run_000")
    page.get_by_label("Order").select_option("name")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(f"{live_server.url}/runs/?q=Run_000&sort=name")
    expect(page.locator("tbody tr")).to_have_count(50)
    page.locator("input[name=run]").first.check()
    page.get_by_role("button", name="Select these").click()
    expect(page).to_have_url(f"{live_server.url}/runs/?q=Run_000&sort=name")
    expect(page.locator("#selection")).to_contain_text("1 run")
    expect(page.locator("input[name=run]").first).to_be_checked()
    page.get_by_role("link", name="Next").click()
    expect(page.locator("tbody tr")).to_have_count(10)
    page.get_by_role("link", name="Previous").click()
    page.locator("input[name=run]").first.uncheck()
    page.get_by_role("button", name="Select these").click()
    expect(page.locator("#selection")).not_to_contain_text("selected")
    page.get_by_role("button", name="Select all safe").click()
    expect(page.locator("#selection")).to_contain_text("60 runs")
    expect(page.get_by_role("button", name="Keys")).to_be_hidden()
    page.goto(f"{live_server.url}/runs/?verdict=block")
    row(page, runs[EXTRA]).get_by_role("link", name="See why").click()
    expect(page).to_have_url(f"{live_server.url}/runs/{runs[EXTRA].pk}/")
    assert Run.objects.here().count() == len(runs) + 60
