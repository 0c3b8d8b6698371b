"""A real Chromium before a live server; console, requests and policies are watched."""

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response, WebError

from tests.tools import sites
from tests.tools.lab import Lab, touch
from tests.tools.pages import lab as lab
from tests.tools.pages import register
from tests.tools.pages import root as root
from tests.tools.pages import runs as runs

if TYPE_CHECKING:
    pass

# Playwright's loop runs in the tests' thread, so Django takes every query there for asynchronous code.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
NO_CHROMIUM = "There is no Chromium: `apt-get install chromium`, or name one in CHROMIUM_PATH."
FLAGS = [
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

# Every page must send this under all settings: without it a browser reports nothing.
POLICY = {
    "default-src 'self'",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'self'",
    "frame-ancestors 'none'",
}

SAFE = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-32"
TEST_RUN = "FLOW_01/PROJ-0060/TestRuns/TestRun_2026-04-18T09-12-45"
EXTRA = "FLOW_01/PROJ-0060/Runs/Run_2026-04-19T16-20"
TOUCHED = "FLOW_01/PROJ-0060/Runs/Run_2026-04-20T16-20"
QUEUED = "CRYOEM_K3/PROJ-0101/Runs/Run_2026-04-21T08-00"
LONG = "A-very-long-instrument-name-that-nobody-would-want-to-type-0123456789/PROJ-0101/Runs/Run_2026-04-22T08-00"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser/" in item.nodeid:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    path = os.environ.get("CHROMIUM_PATH") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        if os.environ.get("EXLAB_REQUIRE_BROWSER") == "1":
            raise pytest.UsageError(NO_CHROMIUM)
        pytest.skip(NO_CHROMIUM)
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS
    return {**browser_type_launch_args, "executable_path": path, "args": flags}


# One page for all tests: a new one takes longer than most tests.


# Timers of a second or two run five times as fast; shorter than half a second they are unchanged.
QUICK_TIMERS = """(() => {
    const quick = (real) => (act, delay = 0, ...given) => real(act, delay < 500 ? delay : delay / 5, ...given);
    window.setTimeout = quick(window.setTimeout.bind(window));
    window.setInterval = quick(window.setInterval.bind(window));
})()"""
BLANK = '<!doctype html><link rel="icon" href="data:,">'
FORGET = "() => { localStorage.clear(); sessionStorage.clear(); }"


@pytest.fixture(scope="session")
def shared_page(browser: Browser, browser_context_args: dict[str, Any]) -> Iterator[Page]:
    context = browser.new_context(**browser_context_args)
    context.add_init_script(QUICK_TIMERS)
    yield context.new_page()
    context.close()


@pytest.fixture
def context(request: pytest.FixtureRequest, live_server: Any, transactional_db: None) -> Iterator[BrowserContext]:
    """The context shared by all tests; one marked with `browser_context_args` has its own.

    No page asks for anything any more when the database is emptied.
    """
    if request.node.get_closest_marker("browser_context_args"):
        own: BrowserContext = request.getfixturevalue("new_context")()
        yield own
        own.close()
        return
    page: Page = request.getfixturevalue("shared_page")
    yield page.context
    for other in page.context.pages:
        if other != page:
            other.close()
    _make_as_new(page, f"{live_server.url}/nothing/")


def _make_as_new(page: Page, address: str) -> None:
    page.unroute_all()
    page.set_extra_http_headers({})
    page.emulate_media(media="null", color_scheme="light", reduced_motion="null")
    page.set_viewport_size({"width": 1280, "height": 720})
    page.route(address, lambda route: route.fulfill(body=BLANK, content_type="text/html"))
    page.goto(address)
    page.unroute(address)
    page.evaluate(FORGET)  # which only a page of the same origin can do
    page.context.clear_cookies()


@pytest.fixture
def page(request: pytest.FixtureRequest, context: BrowserContext) -> Page:
    if request.node.get_closest_marker("browser_context_args"):
        return context.new_page()
    shared: Page = request.getfixturevalue("shared_page")
    return shared


@pytest.fixture
def asked(page: Page) -> Iterator[list[str]]:
    addresses: list[str] = []

    def on_request(request: Request) -> None:
        addresses.append(request.url)

    page.on("request", on_request)
    yield addresses
    page.remove_listener("request", on_request)


def wait_until(page: Page, true: Callable[[], object], seconds: int = 40) -> None:
    for _ in range(seconds * 20):
        if true():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it never came true")


# Chromium's remark where a test types before the first frame of the page: the focus stays where the typing is.
TYPED_FIRST = "Autofocus processing was blocked because a document already has a focused element."


@pytest.fixture(autouse=True)
def trouble(context: BrowserContext, live_server: Any) -> Iterator[list[str]]:
    """Console messages, requests that left the host, pages without policy; a test removes those it expects."""
    seen: list[str] = []
    host = urlsplit(live_server.url).netloc

    def on_console(message: ConsoleMessage) -> None:
        if message.text != TYPED_FIRST:
            seen.append(f"console: {message.text}")

    def on_request(request: Request) -> None:
        if urlsplit(request.url).netloc != host:
            seen.append(f"off the host: {request.url}")

    def on_response(response: Response) -> None:
        if response.request.resource_type != "document" or urlsplit(response.url).netloc != host:
            return
        policy = response.headers.get("content-security-policy", "")
        if {directive.strip() for directive in policy.split(";")} != POLICY:
            seen.append(f"the policy of {response.url}: {policy or 'none'}")

    def on_fault(error: WebError) -> None:
        seen.append(f"fault: {error.error}")

    watchers = {"console": on_console, "weberror": on_fault, "request": on_request, "response": on_response}
    for event, watcher in watchers.items():
        context.on(event, watcher)
    yield seen
    for event, watcher in watchers.items():
        context.remove_listener(event, watcher)
    assert seen == []


@pytest.fixture
def sign_in(context: BrowserContext, live_server: Any, transactional_db: None) -> Callable[..., None]:
    from django.conf import settings
    from django.contrib.auth.models import Group, User
    from django.test import Client

    def sign_in(role: str = "operator") -> None:
        user = User.objects.create_user("mkhan", is_staff=role == "admin", is_superuser=role == "admin")
        if role != "admin":
            user.groups.add(Group.objects.get(name=role))
        client = Client()
        client.force_login(user)
        cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": live_server.url}])

    return sign_in


@pytest.fixture
def site(transactional_db: None, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A few runs, verified some days ago by the real clock, discovered in the last minute."""
    return sites.lay("browser", _build, tmp_path_factory, lasts=60)


def _build(lab: Lab) -> None:
    from cleanup.runs import discovery

    now = datetime.now(UTC)

    def before(days: float) -> datetime:
        return now - timedelta(days=days)

    root = register(lab, now)
    lab.run(SAFE, verified_at=before(6))
    lab.run(TEST_RUN, verified_at=before(5))
    extra = lab.run(EXTRA, verified_at=before(4))
    (extra / "notes after the run.txt").write_text("late")
    touch(extra / "notes after the run.txt", before(4.5))
    touched = lab.run(TOUCHED, verified_at=before(4))
    touch(touched / "stack.ome.xml", before(2))
    lab.run(QUEUED, state="sync_queued", verified_at=before(1))
    lab.run(LONG, verified_at=before(3), project_name="Dose-response-without-any-space-" * 7 + "\u202e<b>end</b>")
    discovery.discover(root, now=now)
