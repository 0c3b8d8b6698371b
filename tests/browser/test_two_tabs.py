"""Two tabs, and a session that ends during a question: nothing is picked or cleared unasked."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from playwright.sync_api import BrowserContext, Page, expect

from cleanup.models import ClearAttempt, Run
from tests.browser.conftest import EXTRA, SAFE, TEST_RUN
from tests.browser.looks import expect_good_to_read
from tests.browser.test_back import sign_in_by_form

pytestmark = pytest.mark.one_engine


def box(page: Page, run: Run) -> Any:
    return page.locator(f"#run-{run.pk}-pick")


def bar(page: Page) -> Any:
    return page.locator("#selection")


@pytest.mark.exhaustive
@pytest.mark.browser_context_args
def test_two_tabs(
    context: BrowserContext, page: Page, live_server: Any, runs: dict[str, Run], sign_in: Callable[..., None]
) -> None:
    """Takes 3 s: a real browser."""
    sign_in()
    old, new = page, context.new_page()
    old.goto(f"{live_server.url}/runs/")
    box(old, runs[SAFE]).check()
    box(old, runs[TEST_RUN]).check()
    expect(bar(old)).to_contain_text("2 runs")
    new.goto(f"{live_server.url}/runs/")
    box(new, runs[SAFE]).uncheck()
    expect(bar(new)).to_contain_text("1 run")

    # The old tab ticks another run. It still shows the first as ticked, and learns that it is not.
    expect(box(old, runs[SAFE])).to_be_checked()
    box(old, runs[EXTRA]).check()
    expect(bar(old)).to_contain_text("1 run stays as another page has left it")
    expect(bar(old)).to_contain_text("2 runs")
    expect(box(old, runs[SAFE])).not_to_be_checked()
    expect(box(old, runs[EXTRA])).to_be_checked()
    expect_good_to_read(old)

    # Then it may pick it again.
    box(old, runs[SAFE]).check()
    expect(bar(old)).to_contain_text("3 runs")
    expect(bar(old)).not_to_contain_text("another page")

    # A question in the one, and a run that is dropped in the other.
    old.get_by_role("link", name="Clear…", exact=True).click()
    expect(old.get_by_role("heading", name="Clear 2 runs?")).to_be_visible()
    new.reload()
    box(new, runs[SAFE]).uncheck()
    expect(bar(new)).to_contain_text("2 runs")
    old.get_by_role("button", name="Clear 2 runs").click()
    expect(old.locator("main")).to_contain_text("not selected any more: another page has deselected it")
    expect(old.get_by_role("heading", name="Clear 1 run?")).to_be_visible()
    assert not ClearAttempt.objects.exists()

    # Back leads to a list that ticks what is picked now, not what it ticked when it was left.
    old.go_back()
    expect(box(old, runs[TEST_RUN])).to_be_checked()
    expect(box(old, runs[SAFE])).not_to_be_checked()


@pytest.mark.browser_context_args
def test_signing_in_again_in_the_middle_of_a_question(page: Page, live_server: Any, runs: dict[str, Run]) -> None:
    """Takes 2 s: a real browser, which signs in twice."""
    user = User.objects.create_user("mkhan", password="quiet water 7")
    user.groups.add(Group.objects.get(name="operator"))
    sign_in_by_form(page, live_server, "quiet water 7")
    page.goto(f"{live_server.url}/runs/")
    box(page, runs[SAFE]).check()
    expect(bar(page)).to_contain_text("1 run")
    page.get_by_role("link", name="Clear…", exact=True).click()
    Session.objects.all().delete()  # as when it is over
    page.get_by_role("button", name="Clear 1 run").click()
    page.wait_for_url("**/login/**")
    page.get_by_label("User name").fill("mkhan")
    page.get_by_label("Password").fill("quiet water 7")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/clear/**")
    expect(page.get_by_role("heading", name="Clear 1 run?")).to_be_visible()
    assert not ClearAttempt.objects.exists()
    page.get_by_role("button", name="Clear 1 run").click()
    page.wait_for_url("**/batches/**")
    assert [attempt.run_id for attempt in ClearAttempt.objects.all()] == [runs[SAFE].pk]
