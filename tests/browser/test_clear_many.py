"""Clears of many runs in a browser; runs that changed meanwhile are left out."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django_q.models import OrmQ
from playwright.sync_api import Page, expect

from cleanup import tasks
from cleanup.models import ClearAttempt, ClearBatch, Phase, Run
from tests.browser.conftest import LONG, SAFE, TEST_RUN, wait_until
from tests.browser.looks import expect_good_to_read
from tests.browser.test_clear import cluster
from tests.tools.lab import snapshot

pytestmark = pytest.mark.one_engine


GOING = (SAFE, TEST_RUN, LONG)


def preview(page: Page, live_server: Any) -> None:
    page.goto(f"{live_server.url}/clear/?root=lab")
    expect(page.get_by_role("heading", name="Clear 3 runs?")).to_be_visible()


def yes(page: Page) -> Any:
    return page.get_by_role("button", name="Clear 3 runs")


def told(page: Page) -> Any:
    return page.locator("#batch .verdict")


def run_tasks() -> None:
    for attempt in ClearAttempt.objects.filter(phase=Phase.QUEUED):
        tasks.clear(str(attempt.pk))


@pytest.mark.both_engines
@pytest.mark.browser_context_args  # with the timers of a person
def test_many_runs_with_a_pause_and_the_real_cluster(
    page: Page, live_server: Any, runs: dict[str, Run], lab: Any, sign_in: Callable[..., None], subprocess_env: Any
) -> None:
    sign_in()
    preview(page, live_server)
    for path in GOING:
        expect(page.locator("main")).to_contain_text(f"{lab.nas}/{path}")
    expect_good_to_read(page)
    page.get_by_label("Reason").fill("disk is full")
    yes(page).click()
    page.wait_for_url("**/batches/**")
    expect(told(page)).to_contain_text("0 of 3 runs cleared")
    page.get_by_role("button", name="Pause").click()
    expect(told(page)).to_contain_text("Paused")
    on = page.get_by_role("button", name="Go on")
    expect(on).to_be_focused()  # where the pause was, and it stays however often the page renews itself
    whole = {path: snapshot(lab.staging / path) for path in GOING}

    with cluster(subprocess_env):
        wait_until(page, lambda: not OrmQ.objects.exists())
        expect(on).to_be_focused()
        assert {path: snapshot(lab.staging / path) for path in GOING} == whole
        page.reload()
        expect(told(page)).to_contain_text("Paused")
        on.click()
        expect(told(page)).to_contain_text("3 of 3 runs cleared", timeout=60_000)
    expect(page.locator("#announce")).to_contain_text("3 of 3 runs cleared")
    for path in GOING:
        assert not (lab.staging / path).exists()
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    expect_good_to_read(page)
    page.goto(f"{live_server.url}/batches/")
    expect(page.get_by_role("table")).to_contain_text("disk is full")
    expect_good_to_read(page)


@pytest.mark.exhaustive
def test_a_stale_preview_queues_nothing_and_is_shown_anew(
    page: Page, live_server: Any, runs: dict[str, Run], policy: Any, sign_in: Callable[..., None]
) -> None:
    sign_in()
    preview(page, live_server)
    policy(proof="size")
    yes(page).click()
    expect(page.get_by_role("alert").filter(has_text="Nothing has been asked for")).to_be_visible()
    expect(page.get_by_role("heading", name="Nothing has been asked for")).to_be_focused()
    expect(page.locator("main")).to_contain_text("bytes are not read")
    assert not ClearBatch.objects.exists()
    expect_good_to_read(page)
    yes(page).click()
    page.wait_for_url("**/batches/**")
    assert ClearBatch.objects.get().attempts.count() == 3


@pytest.mark.exhaustive
def test_a_double_click_is_one_batch(
    page: Page, live_server: Any, runs: dict[str, Run], sign_in: Callable[..., None]
) -> None:
    sign_in()
    preview(page, live_server)
    yes(page).dblclick()
    page.wait_for_url("**/batches/**")
    assert (ClearBatch.objects.count(), ClearAttempt.objects.count()) == (1, 3)


def test_the_place_of_the_keyboard_is_kept_while_a_batch_renews_itself(
    page: Page, live_server: Any, runs: dict[str, Run], sign_in: Callable[..., None]
) -> None:
    sign_in()
    preview(page, live_server)
    yes(page).click()
    page.wait_for_url("**/batches/**")
    link = page.locator("#batch").get_by_role("link", name=runs[SAFE].leaf)
    link.focus()
    with page.expect_response("**/batches/**"):
        pass
    with page.expect_response("**/batches/**"):  # the first has been taken in by now
        pass
    expect(link).to_be_focused()


@pytest.mark.exhaustive
def test_a_run_that_has_changed_is_asked_about_once_more(
    page: Page, live_server: Any, runs: dict[str, Run], policy: Any, sign_in: Callable[..., None]
) -> None:
    sign_in()
    page.goto(f"{live_server.url}/runs/")
    row = page.locator(f"#run-{runs[SAFE].pk}")
    row.get_by_role("link", name="Clear now").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    policy(proof="size")
    dialog.get_by_role("button", name="Clear now").click()
    expect(dialog.get_by_role("heading", name="It has changed")).to_be_focused()
    assert not ClearAttempt.objects.exists()
    dialog.get_by_role("button", name="Clear now").click()
    expect(row).to_contain_text("Waiting in the queue")
    expect(dialog).to_have_count(0)


@pytest.mark.exhaustive
@pytest.mark.browser_context_args(java_script_enabled=False)
def test_many_runs_without_scripts(page: Page, live_server: Any, runs: dict[str, Run], lab: Any) -> None:
    User.objects.create_user("asmith", password="a long password").groups.add(Group.objects.get(name="operator"))
    page.goto(f"{live_server.url}/clear/?root=lab")
    page.get_by_label("User name").fill("asmith")
    page.get_by_label("Password").fill("a long password")
    page.get_by_role("button", name="Sign in").click()
    yes(page).click()
    page.wait_for_url("**/batches/**")
    page.get_by_role("button", name="Pause").click()
    expect(told(page)).to_contain_text("Paused")
    run_tasks()
    page.get_by_role("button", name="Go on").click()
    expect(told(page)).to_contain_text("0 of 3 runs cleared")
    run_tasks()
    expect(told(page)).to_contain_text("3 of 3 runs cleared", timeout=15_000)  # the page reloads itself
    assert not any((lab.staging / path).exists() for path in GOING)
