"""Back, forward and reopened tabs show the page as it is now, for the present user."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.utils import timezone
from playwright.sync_api import BrowserContext, BrowserType, Page, expect

from cleanup.clears import batches, preview, queue
from cleanup.clears.preview import RequestedRuns
from cleanup.models import ClearBatch, Run
from cleanup.sweeps import dry_runs
from tests.browser.conftest import EXTRA, QUEUED, SAFE, TEST_RUN

pytestmark = pytest.mark.one_engine


# A switch of the tests' browser; users' browsers lack it.
KEPT_ASIDE = "--disable-back-forward-cache"


def batch_of(run: Run) -> ClearBatch:
    user, now = User.objects.get(username="mkhan"), timezone.now()
    asked = RequestedRuns.of([run.pk])
    digest = preview.preview(user, asked, now).digest
    return batches.place(user, asked, digest=digest, key=None, typed="", note="", now=now)


def expect_page(page: Page, words: str) -> None:
    expect(page.get_by_role("navigation", name="Main")).to_have_count(1)
    expect(page.locator("h1").first).to_contain_text(words)
    assert page.title().endswith(" · ExLab staging")
    assert page.locator("link[rel=stylesheet]").count() == 1


@pytest.mark.exhaustive
def test_back_to_a_page_that_renews_a_part_of_itself_shows_the_page(
    page: Page, live_server: Any, runs: dict[str, Run], root: Any, sign_in: Callable[..., None]
) -> None:
    """A batch, a run and the sweeps, each after its page has renewed a part. Takes 8 s: they ask every 1 or 2 s."""
    sign_in()
    batch = batch_of(runs[SAFE])
    queue.request_clear(runs[TEST_RUN], actor="mkhan", now=timezone.now())
    dry_runs.ask_for(root, actor="mkhan", now=timezone.now())
    for address, part, words in (
        (f"/batches/{batch.pk}/", "progress", "Clearing 1 run"),
        (f"/runs/{runs[TEST_RUN].pk}/", "live", "TestRun_"),
        ("/sweeps/", "changes", "Automatic clearing"),
    ):
        with page.expect_response(f"**/{part}/**"):
            page.goto(live_server.url + address)
        page.goto(f"{live_server.url}/runs/")
        page.go_back()
        expect_page(page, words)
        with page.expect_response(f"**/{part}/**"):  # and it goes on asking
            pass


def test_back_through_filters_shows_each_list(
    page: Page, live_server: Any, runs: dict[str, Run], sign_in: Callable[..., None]
) -> None:
    sign_in()
    rows = page.locator("tbody tr")
    page.goto(f"{live_server.url}/runs/")
    page.get_by_label("State").select_option("sync_queued")
    expect(rows).to_have_count(1)
    page.locator(f"#run-{runs[QUEUED].pk}-link").click()
    expect_page(page, "Run_2026-04-21T08-00")
    page.go_back()
    expect(rows).to_have_count(1)
    assert "state=sync_queued" in page.url
    page.go_back()
    expect(rows).to_have_count(len(runs))
    page.go_forward()
    expect(rows).to_have_count(1)
    expect(page.get_by_role("navigation", name="Main")).to_have_count(1)


@pytest.mark.exhaustive
def test_back_to_the_answer_of_a_form_asks_the_question_anew(
    page: Page, live_server: Any, runs: dict[str, Run], sign_in: Callable[..., None], trouble: list[str]
) -> None:
    """Answers are not stored: a browser would only say that the form must be sent again."""
    sign_in()
    page.goto(f"{live_server.url}/runs/{runs[EXTRA].pk}/hold/")
    page.get_by_label("Reason").fill("figure 3")
    page.locator("main form").evaluate("form => { form.noValidate = true; form.reset(); form.submit(); }")
    expect(page.locator("main")).to_contain_text("required")
    trouble.clear()  # Chromium writes of the status 422
    page.goto(f"{live_server.url}/runs/")
    page.go_back()
    expect_page(page, "Hold")
    expect(page.locator("main")).not_to_contain_text("required")
    page.reload()
    expect_page(page, "Hold")


def test_a_page_that_a_browser_brings_back_as_it_was_loads_itself_anew(
    page: Page, live_server: Any, runs: dict[str, Run], sign_in: Callable[..., None]
) -> None:
    """Some browsers cache pages even where that is forbidden; this one does not, so the test simulates it."""
    sign_in()
    page.goto(f"{live_server.url}/runs/{runs[SAFE].pk}/")
    queue.request_clear(runs[SAFE], actor="jlee", now=timezone.now())
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    expect(page.locator("#head")).to_contain_text("Waiting in the queue")


# A user's browser: with cached pages and a disk


@pytest.fixture
def opened(
    browser_type: BrowserType, browser_type_launch_args: dict[str, Any], tmp_path: Path
) -> Iterator[Callable[..., BrowserContext]]:
    contexts: list[BrowserContext] = []

    def start(*flags: str) -> BrowserContext:
        for context in contexts:
            context.close()
        contexts[:] = [
            browser_type.launch_persistent_context(
                tmp_path / "profile",
                **{**browser_type_launch_args, "args": [*browser_type_launch_args["args"], *flags]},
                ignore_default_args=[KEPT_ASIDE],
            )
        ]
        return contexts[0]

    yield start
    for context in contexts:
        context.close()


@pytest.fixture
def operator(transactional_db: None) -> str:
    User.objects.create_user("mkhan", password="a long password").groups.add(Group.objects.get(name="operator"))
    return "a long password"


def sign_in_by_form(page: Page, live_server: Any, password: str) -> None:
    page.goto(f"{live_server.url}/login/")
    page.get_by_label("User name").fill("mkhan")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


@pytest.mark.exhaustive
def test_a_page_that_was_kept_aside_is_loaded_anew(
    opened: Callable[..., BrowserContext], live_server: Any, runs: dict[str, Run], operator: str
) -> None:
    """After a sign-out Back shows nothing. Takes 5 s: another browser."""
    page = opened().pages[0]
    sign_in_by_form(page, live_server, operator)
    page.goto(f"{live_server.url}/runs/{runs[SAFE].pk}/")
    page.goto(f"{live_server.url}/runs/")
    queue.request_clear(runs[SAFE], actor="jlee", now=timezone.now())
    page.go_back()
    expect(page.locator("#head")).to_contain_text("Waiting in the queue", timeout=3_000)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.locator("body")).not_to_contain_text("Run_2026")


def tab_with(context: BrowserContext, address: str) -> Page:
    deadline = time.monotonic() + 15
    while not (found := [page for page in context.pages if page.url == address]):
        assert time.monotonic() < deadline, [page.url for page in context.pages]
        context.pages[0].wait_for_timeout(100)
    return found[0]


@pytest.mark.exhaustive
def test_a_tab_that_is_opened_again_shows_the_page(
    opened: Callable[..., BrowserContext], live_server: Any, runs: dict[str, Run], operator: str
) -> None:
    """The browser is closed while a batch renews itself. Takes 10 s."""
    page = opened().pages[0]
    sign_in_by_form(page, live_server, operator)
    batch = batch_of(runs[SAFE])
    with page.expect_response("**/progress/**"):
        page.goto(f"{live_server.url}/batches/{batch.pk}/")
    page.wait_for_timeout(4_000)  # Chromium writes down which tabs are open after two and a half seconds
    address = f"{live_server.url}/batches/{batch.pk}/"
    page = tab_with(opened("--restore-last-session"), address)
    expect_page(page, "Clearing 1 run")
