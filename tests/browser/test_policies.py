"""The pages of the policies: good to read, on a phone too, and a promotion by a click."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from cleanup.models import Hold, Outcome, RetentionPolicy, Sweep, SweepKind, SweptRun
from cleanup.policy.reasons import Reason
from tests.browser.conftest import LONG, SAFE, TEST_RUN
from tests.browser.looks import expect_good_to_read, expect_readable


@pytest.fixture
def rehearsed(runs):
    """A policy that was rehearsed for a night: one run was pinned since, the others are still there."""
    now = timezone.now()
    version = RetentionPolicy.objects.add_version(
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


@pytest.mark.parametrize("address", ["/policies/", "/policies/1/"])
def test_a_page_is_good_to_read_and_fits_its_window(page: Page, live_server, sign_in, rehearsed, trouble, address):
    sign_in("operator")
    page.goto(live_server.url + address)
    expect_good_to_read(page)
    assert trouble == []


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
    expect_good_to_read(page)
    page.get_by_label("Keep after the verification").fill("7d")
    page.get_by_label("Keep after the verification").press("Enter")
    expect(page.get_by_text("Version 2 was written. FLOW_01: scheduled, kept 7 days")).to_be_visible()
    assert [message for message in trouble if "422" not in message] == []
    trouble.clear()
