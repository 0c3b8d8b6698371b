"""WCAG, narrow screens, and the admin under the strict policy."""

import re

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from cleanup.clears import protocol, queue
from cleanup.models import Heartbeat
from tests.browser.conftest import EXTRA, LONG, SAFE, TEST_RUN, TOUCHED
from tests.browser.looks import expect_good_to_read

pytestmark = pytest.mark.one_engine


PAGES = ["sign-in", "overview", "list", "run", "question", "dialog", "wrong"]
# The same templates with other runs, or another refusal.
ALSO = ["cleared", "long", "blocked", "live", "done", "403"]


@pytest.fixture
def visit(page: Page, live_server, runs, sign_in):
    def visit(name: str) -> Page:
        now = timezone.now()
        if name not in ("sign-in",):
            sign_in("viewer" if name == "403" else "operator")
        if name in ("overview", "list", "run", "question"):
            Heartbeat.objects.create(cluster="exlab-clear", host="h", at=now)
        if name == "live":
            queue.request_clear(runs[SAFE], actor="mkhan", now=now)
        if name in ("cleared", "done"):
            protocol.clear_run(runs[TEST_RUN], now=now, actor="mkhan", note="disk is full")
        addresses = {
            "sign-in": "/login/",
            "overview": "/",
            "list": "/runs/",
            "live": "/runs/",
            "dialog": "/runs/",
            "cleared": "/runs/?state=cleared",
            "run": f"/runs/{runs[SAFE].pk}/",
            "long": f"/runs/{runs[LONG].pk}/",
            "blocked": f"/runs/{runs[EXTRA].pk}/",
            "done": f"/runs/{runs[TEST_RUN].pk}/",
            "question": f"/runs/{runs[TOUCHED].pk}/clear/",
            "wrong": "/nothing/",
            "403": f"/runs/{runs[SAFE].pk}/clear/",
        }
        page.goto(live_server.url + addresses[name])
        if name == "dialog":
            page.locator(f"#run-{runs[LONG].pk} .act .clear").click()
            expect(page.get_by_role("dialog")).to_be_visible()
        return page

    return visit


def forget_expected(trouble):
    """Chromium logs every error answer, also an expected one."""
    trouble[:] = [line for line in trouble if not re.search("status of 40[34]", line)]


@pytest.mark.parametrize("name", [*PAGES, *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ALSO)])
def test_a_page_is_good_to_read_and_fits_its_window(visit, page: Page, trouble, name):
    visit(name)
    expect_good_to_read(page)
    forget_expected(trouble)


def test_what_can_be_pressed_on_a_phone_is_large_enough(visit, page: Page):
    page.set_viewport_size({"width": 390, "height": 844})
    visit("list")
    for button in page.locator("button:visible, .button:visible, select:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44


TABLES = ["stagingroot", "clearattempt", "retentionpolicy"]


@pytest.mark.parametrize(
    "model", ["ledgerentry", "run", *(pytest.param(model, marks=pytest.mark.exhaustive) for model in TABLES)]
)
def test_the_admin_lives_under_the_strict_policy(page: Page, live_server, runs, sign_in, model):
    sign_in("admin")
    protocol.clear_run(runs[SAFE], now=timezone.now(), actor="mkhan")
    page.goto(f"{live_server.url}/admin/cleanup/{model}/")
    expect(page.locator("#content h1")).to_be_visible()
    if model == "ledgerentry":
        expect(page.locator("#ledger-totals")).to_contain_text("1 run")
    first = page.locator("#result_list tbody th a")
    if first.count():
        first.first.click()
        expect(page.locator("#content h1")).to_be_visible()
