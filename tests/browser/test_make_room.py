"""Make room in a browser: a plan, its question, ticks, and a batch that waits."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from cleanup import tasks
from cleanup.models import ClearAttempt, ClearBatch, DiskUsage, Phase, Run, StagingRoot
from tests.browser.conftest import LONG, SAFE, TEST_RUN, wait_until
from tests.browser.looks import expect_good_to_read
from tests.browser.test_clear import cluster

pytestmark = pytest.mark.one_engine


@pytest.fixture
def full(runs: dict[str, Run]) -> StagingRoot:
    """A disk with nothing free, and three safe runs."""
    root = runs[SAFE].root
    DiskUsage.objects.all().delete()
    DiskUsage.objects.create(root=root, at=timezone.now(), total_bytes=10**9, free_bytes=0)
    return root


@pytest.mark.both_engines
@pytest.mark.browser_context_args  # with the timers of a person
def test_from_the_list_to_a_freed_disk(
    page: Page, live_server: Any, full: StagingRoot, lab: Any, sign_in: Callable[..., None], subprocess_env: Any
) -> None:
    sign_in()
    page.goto(f"{live_server.url}/runs/")
    page.get_by_role("link", name="Make room").click()
    page.get_by_label("I need").fill("1 kB")
    page.get_by_role("button", name="Show a plan").click()
    expect(page.get_by_role("heading", name="1 run gives enough")).to_be_visible()
    page.get_by_role("link", name="Look through this run, and clear").click()
    expect(page.get_by_role("heading", name="Clear 1 run?")).to_be_visible()
    page.get_by_role("button", name="Clear 1 run").click()
    page.wait_for_url("**/batches/**")
    with cluster(subprocess_env):
        expect(page.locator("#batch .verdict")).to_contain_text("1 of 1 run cleared", timeout=60_000)
    assert not (lab.staging / SAFE).exists()  # the oldest
    assert (lab.staging / TEST_RUN).exists()


def test_the_plan_is_good_to_read_and_more_than_there_is_is_said(
    page: Page, live_server: Any, full: StagingRoot, sign_in: Callable[..., None], trouble: list[str]
) -> None:
    sign_in()
    page.goto(f"{live_server.url}/room/?root={full.pk}&bytes=1TB&by=14:00")
    expect(page.get_by_role("heading", name="are short")).to_be_visible()
    expect(page.get_by_role("heading", name="What else would give room")).to_be_visible()
    expect_good_to_read(page)


@pytest.mark.browser_context_args
def test_a_tick_is_taken_and_the_rest_waits_for_its_time(
    page: Page, live_server: Any, runs: dict[str, Run], lab: Any, sign_in: Callable[..., None]
) -> None:
    sign_in()
    page.goto(f"{live_server.url}/clear/?root=lab")
    box = page.get_by_role("checkbox", name=f"Clear {runs[LONG].leaf}")
    box.uncheck()
    expect(page.get_by_role("heading", name="Clear 2 runs?")).to_be_visible()
    expect(box).to_be_focused()
    assert not ClearBatch.objects.exists()
    page.get_by_text("Not now, but at a given time").click()
    page.get_by_label("Clear at").fill("22:00")
    page.get_by_role("button", name="Clear them at that time").click()
    page.wait_for_url("**/batches/**")
    expect(page.get_by_role("heading", name="Waits: 2 runs to clear")).to_be_visible()
    expect_good_to_read(page)
    ClearBatch.objects.update(starts_at=timezone.now() - timedelta(minutes=1))
    tasks.begin_batches()
    for attempt in ClearAttempt.objects.filter(phase=Phase.QUEUED):
        tasks.clear(str(attempt.pk))
    assert (lab.staging / LONG).exists()
    wait_until(page, lambda: not (lab.staging / SAFE).exists())
    page.reload()
    expect(page.locator("#batch .verdict")).to_contain_text("2 of 2 runs cleared")


@pytest.mark.exhaustive
@pytest.mark.browser_context_args(java_script_enabled=False)
def test_without_scripts(
    page: Page, live_server: Any, runs: dict[str, Run], full: StagingRoot, sign_in: Callable[..., None]
) -> None:
    sign_in()
    page.goto(f"{live_server.url}/clear/?root=lab")
    page.get_by_role("checkbox", name=f"Clear {runs[LONG].leaf}").uncheck()
    page.get_by_role("button", name="Clear 3 runs").click()
    expect(page.locator("main")).to_contain_text("Nothing has been asked for yet")
    assert not ClearBatch.objects.exists()
    page.get_by_role("button", name="Clear 2 runs").click()
    page.wait_for_url("**/batches/**")
    assert set(ClearAttempt.objects.values_list("run__run_path", flat=True)) == {SAFE, TEST_RUN}
