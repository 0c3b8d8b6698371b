"""The policy pages in a browser, and a promotion by click."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from cleanup.lab import policy_versions
from cleanup.models import Hold, Outcome, RetentionPolicy, Sweep, SweepKind, SweptRun
from cleanup.rules.reasons import Reason
from tests.browser.conftest import LONG, SAFE, TEST_RUN
from tests.browser.looks import expect_good_to_read, expect_readable

pytestmark = pytest.mark.one_engine


@pytest.fixture
def rehearsed(runs):
    now = timezone.now()
    version = policy_versions.add_version(
        author="ada", now=now - timedelta(days=2), mode="scheduled", retain_hours=24, note="from Monday on"
    )
    root, at = runs[SAFE].root, now - timedelta(days=1)
    sweep = Sweep.objects.create(
        root=root, kind=SweepKind.TIMED, outcome=Outcome.DONE, host="h", now=at, started_at=at, policy_version=1
    )
    for path in (SAFE, TEST_RUN, LONG):
        SweptRun.objects.create(
            run=runs[path],
            root=root,
            kind=SweepKind.TIMED,
            first=sweep,
            last=sweep,
            action="would_clear",
            reason=Reason.REHEARSAL,
            policy_version=1,
            files=runs[path].files,
            bytes=runs[path].bytes,
        )
    Hold.objects.create(
        run=runs[SAFE], owner="bob", reason="still needed", created_at=now, until=now + timedelta(days=1)
    )
    return version


@pytest.mark.parametrize("address", ["/policies/", pytest.param("/policies/1/", marks=pytest.mark.exhaustive)])
def test_a_page_is_good_to_read_and_fits_its_window(page: Page, live_server, sign_in, rehearsed, trouble, address):
    sign_in("operator")
    page.goto(live_server.url + address)
    expect_good_to_read(page)
    assert trouble == []


@pytest.mark.exhaustive
def test_an_admin_promotes_by_a_click(page: Page, live_server, sign_in, rehearsed, trouble):
    sign_in("admin")
    page.goto(live_server.url + "/policies/")
    page.get_by_role("link", name="Version 1").first.click()
    expect(page.get_by_role("heading", name="Policy version 1")).to_be_visible()
    expect(page.get_by_text("by bob: still needed")).to_be_visible()
    page.get_by_label("Why").fill("looks right")
    page.get_by_role("button", name="Promote").click()
    expect(page.get_by_text("Version 2 was written.")).to_be_visible()
    expect(page.get_by_role("button", name="Back to rehearsal")).to_be_visible()
    expect_readable(page)
    assert RetentionPolicy.objects.get(version=2).note == "looks right"
    assert trouble == []


@pytest.mark.both_engines
def test_an_admin_writes_a_policy_by_keyboard(page: Page, live_server, sign_in, rehearsed, trouble):
    sign_in("admin")
    page.goto(live_server.url + "/policies/")
    page.get_by_role("link", name="New policy").click()
    page.get_by_label("Instrument").select_option("FLOW_01")
    expect_readable(page)
    page.get_by_role("button", name="Continue").press("Enter")
    page.get_by_label("Keep after the verification").fill("a week")
    page.get_by_label("Keep after the verification").press("Enter")
    expect(page.get_by_label("Keep after the verification")).to_have_accessible_description(re.compile("no duration"))
    expect(page.get_by_label("Keep after the verification")).to_have_value("a week")
    expect_readable(page)
    page.get_by_label("Keep after the verification").fill("2h")
    page.get_by_label("Rehearse first").select_option("no")
    page.get_by_label("Keep after the verification").press("Enter")
    heading = page.get_by_role("heading", name="What would come of it")
    expect(heading).to_be_focused()
    expect(page.get_by_text("With the next pass")).to_be_visible()
    assert RetentionPolicy.objects.count() == 1, "Enter shows what would go and saves nothing"
    expect_good_to_read(page)
    page.get_by_role("button", name="Save as a new version").press("Enter")
    expect(page.get_by_text("Version 2 was written. FLOW_01: scheduled, kept 2 h")).to_be_visible()
    assert trouble == []
    page.go_back()
    expect(page.get_by_label("Keep after the verification")).to_be_visible()


@pytest.mark.exhaustive
def test_without_scripts_the_preview_is_a_page(browser, browser_context_args, live_server, sign_in, runs, context):
    sign_in("admin")
    plain = browser.new_context(**browser_context_args, java_script_enabled=False)
    plain.add_cookies(context.cookies())
    page = plain.new_page()
    page.goto(f"{live_server.url}/policies/change/?root=&equipment=&project=&run_kind=")
    page.get_by_label("Mode").select_option("scheduled")
    page.get_by_role("button", name="Show what would go").last.click()
    expect(page.get_by_text("nothing goes for 3 clean nights")).to_be_visible()
    page.get_by_role("button", name="Save as a new version").click()
    expect(page.get_by_text("Version 1 was written.")).to_be_visible()
    plain.close()


@pytest.mark.both_engines
def test_an_operator_extends_a_hold_and_releases_it(page: Page, live_server, sign_in, rehearsed, trouble):
    Hold.objects.update(until=timezone.now() + timedelta(days=3))
    sign_in("operator")
    page.goto(f"{live_server.url}/holds/")
    page.get_by_role("link", name="Extend the hold of bob").click()
    dialog = page.get_by_role("dialog", name="Extend this hold")
    expect(dialog).to_be_visible()
    expect_readable(page)
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Extend the hold of bob")).to_be_focused()
    page.get_by_role("link", name="Extend the hold of bob").click()
    dialog.get_by_role("button", name="Extend").click()
    expect(page.get_by_text("The hold of bob lasts until the end of")).to_be_visible()
    page.get_by_role("button", name="Release the hold of bob").click()
    expect(page.get_by_text("Nothing is held.")).to_be_visible()
    assert trouble == []
