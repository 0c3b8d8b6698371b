"""The overview in a browser."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.utils import timezone
from playwright.sync_api import Page, expect

from cleanup.models import DiskUsage, Heartbeat, Run, StagingRoot, Status
from cleanup.rules.reasons import Reason
from cleanup.runs import run_status
from tests.browser.conftest import SAFE
from tests.browser.looks import expect_good_to_read

pytestmark = pytest.mark.one_engine


TB = 10**12


def test_signing_in_leads_here_and_from_here_to_the_preview(page: Page, live_server, runs):
    User.objects.create_user("jlee", password="sesame-open").groups.add(Group.objects.get(name="operator"))
    page.goto(live_server.url)
    page.get_by_label("User name").fill("jlee")
    page.get_by_label("Password").fill("sesame-open")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{live_server.url}/")
    expect(page.get_by_role("link", name="Overview")).to_have_attribute("aria-current", "page")
    button = page.get_by_role("link", name="Clear 3 verified runs…")
    button.focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{live_server.url}/clear/?root=lab")
    page.go_back()
    expect(button).to_be_visible()


@pytest.mark.browser_context_args
def test_it_keeps_itself_up_to_date_without_a_jump_and_leaves_the_focus(page: Page, live_server, runs, sign_in):
    sign_in()
    page.clock.install()
    page.goto(live_server.url)
    link = page.get_by_role("link", name="Blocked, needs a person")
    link.focus()
    before = link.bounding_box()
    page.evaluate("window.sameDocument = true")
    Run.objects.filter(pk=runs[SAFE].pk).update(tone=Status.BLOCK, reason=Reason.NAS_MISSING_FILE)
    page.clock.run_for(31_000)
    expect(page.get_by_role("link", name="Clear 2 verified runs…")).to_be_visible()
    expect(link).to_be_focused()
    assert link.bounding_box() == before
    assert page.evaluate("window.sameDocument")


@pytest.mark.browser_context_args
def test_a_hidden_page_asks_nothing_and_catches_up_when_it_is_seen(page: Page, live_server, runs, sign_in, asked):
    sign_in()
    page.clock.install()
    page.goto(live_server.url)
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    asked.clear()
    page.clock.run_for(70_000)
    assert asked == []
    Run.objects.filter(pk=runs[SAFE].pk).update(tone=Status.BLOCK, reason=Reason.NAS_MISSING_FILE)
    page.evaluate("""() => {
        Object.defineProperty(document, 'hidden', {value: false, configurable: true});
        document.dispatchEvent(new Event('visibilitychange'));
    }""")
    expect(page.get_by_role("link", name="Clear 2 verified runs…")).to_be_visible()


def test_with_every_part_of_the_bar_and_every_note_it_is_good_to_read(page: Page, live_server, runs, sign_in):
    now = timezone.now()
    run_status.judge_stale(now)
    root = StagingRoot.objects.get()
    for days in (7, 0):
        free = (1 + days) * TB // 2
        DiskUsage.objects.create(root=root, at=now - timedelta(days=days), total_bytes=8 * TB, free_bytes=free)
    for tone, size in ((Status.GO, 3 * TB), (Status.WAIT, TB), (Status.BLOCK, TB // 2)):
        run = Run.objects.filter(tone=tone).first()
        assert run is not None
        Run.objects.filter(pk=run.pk).update(bytes=size, allocated_bytes=size)
    other = StagingRoot.objects.create(
        name="A disk with a name that is long, " * 2, host="another-host", path="/x" * 60, problem="root_not_mounted"
    )
    DiskUsage.objects.create(root=other, at=now - timedelta(hours=3), total_bytes=TB, free_bytes=0)
    sign_in()
    page.goto(live_server.url)
    bar = page.get_by_role("img", name="7,500 GB of 8,000 GB are used")  # in the one unit of its parts
    expect(bar).to_be_visible()
    expect(bar.locator("rect")).to_have_count(5)
    expect_good_to_read(page)


@pytest.mark.parametrize("who", [pytest.param("viewer", marks=pytest.mark.exhaustive), "operator"])
def test_without_scripts_it_says_the_same(browser, live_server, runs, sign_in, context, who):
    Heartbeat.objects.create(cluster="exlab-clear", host="h", at=timezone.now())
    sign_in(who)
    plain = browser.new_context(java_script_enabled=False)
    plain.add_cookies(context.cookies())
    page = plain.new_page()
    page.goto(live_server.url)
    expect(page.get_by_text("Safe to clear now, in 3 runs")).to_be_visible()
    clear = page.get_by_role("link", name="Clear 3 verified runs…")
    if who == "viewer":
        expect(clear).to_have_count(0)
    else:
        clear.click()
        expect(page).to_have_url(f"{live_server.url}/clear/?root=lab")
    plain.close()
