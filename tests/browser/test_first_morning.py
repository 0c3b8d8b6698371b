"""The first morning: from an empty installation to the first freed byte."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page, expect

from cleanup.lab.people import first_admin
from cleanup.models import LedgerEntry, LedgerKind, StagingRoot
from tests.browser.looks import expect_good_to_read
from tests.management.test_up import Running
from tests.tools.lab import RUN_PATH, Lab

GOOD = "correct-horse-battery"
PATIENCE = 90_000.0


@pytest.fixture
def running(subprocess_env: dict[str, str], tmp_path: Path) -> Iterator[Running]:
    started = Running(subprocess_env, tmp_path / "data")
    yield started
    started.clear_away()


def forget_expected(trouble: list[str]) -> None:
    """Chromium logs every error answer, also an expected one."""
    trouble[:] = [line for line in trouble if "status of 422" not in line]


def make_admin(page: Page, address: str, token: str) -> None:
    page.goto(address)
    page.get_by_role("link", name="Make the first admin…").click()
    page.get_by_label("One-time token").fill(token)
    page.get_by_label("Your user name").fill("ada")
    page.get_by_label("Password", exact=True).fill(GOOD)
    page.get_by_label("The same password again").fill(GOOD)
    page.get_by_role("button", name="Make the first admin").click()


def add_person(page: Page) -> None:
    page.get_by_role("link", name="Add a person…").click()
    page.get_by_label("User name").fill("grace")
    page.get_by_label("Operator: also clears").check()
    page.get_by_label("Your own password").fill(GOOD)
    page.get_by_role("button", name="Add this person").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("The account grace was made")
    assert len(page.locator("#password").inner_text()) == 19


def register(page: Page, lab: Lab) -> None:
    """Both sides, from the guided page, and back to it."""
    page.get_by_role("link", name="Add a staging root").click()
    page.get_by_label("Your password").fill(GOOD)
    page.get_by_role("button", name="Continue").click()
    page.get_by_label("Path").fill(str(lab.staging))
    expect(page.locator("#checks")).to_contain_text("1 run of CONFOCAL_01", timeout=PATIENCE)
    page.get_by_label("Name").fill("lab")
    page.get_by_role("button", name="Register").click()
    expect(page.locator("#done")).to_contain_text("lab is registered", timeout=PATIENCE)
    page.get_by_role("link", name="Add its NAS root").click()
    page.get_by_text("One instrument, another layout, unusual mounts").click()
    page.get_by_label("Accept the same filesystem").check()
    page.get_by_label("Path of the NAS root").fill(str(lab.nas))
    expect(page.locator("#checks")).to_contain_text("Layout", timeout=PATIENCE)
    page.get_by_role("button", name="Register").click()
    expect(page.locator("#done")).to_contain_text("the NAS root of lab", timeout=PATIENCE)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_from_an_empty_installation_to_the_first_freed_byte(browser: Browser, running: Running, lab: Lab) -> None:
    """Takes half a minute: `up` in its own process, on both engines."""
    told = running.wait_until_up()
    lab.run(verified_at=datetime.now(UTC) - timedelta(days=3))
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    make_admin(page, told["address"], told["first_admin_token"])
    expect(page.get_by_role("heading", level=1)).to_have_text("Set the lab up")
    assert "valid" not in page.url
    register(page, lab)
    registered = time.monotonic()
    page.goto(f"{told['address']}setup/")
    expect(page.get_by_text("1 run found so far.")).to_be_visible(timeout=PATIENCE)
    looked = time.monotonic() - registered
    page.get_by_role("button", name="Keep it manual").click()
    add_person(page)
    page.goto(f"{told['address']}setup/")
    expect(page.get_by_role("heading", level=1)).to_have_text("The lab is set up")
    page.get_by_role("link", name="To the overview").click()
    page.get_by_role("link", name="Clear 1 verified run…").click()
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#batch .verdict")).to_contain_text("1 of 1 run cleared", timeout=PATIENCE)
    assert not (lab.staging / RUN_PATH).exists()
    assert LedgerEntry.objects.get(kind=LedgerKind.COMPLETED).actor == "ada"
    assert User.objects.get(username="grace").groups.get().name == "operator"
    assert looked < 90, "the page says: within a minute"
    context.close()
    assert running.stop() == 0, running.errors.read_text()


@pytest.mark.one_engine
def test_the_pages_of_the_first_morning_are_good_to_read(
    page: Page, live_server: Any, transactional_db: None, trouble: list[str]
) -> None:
    """Takes 5 s: four pages in many sizes."""
    page.goto(f"{live_server.url}/login/")
    expect_good_to_read(page)
    page.get_by_role("link", name="Make the first admin…").click()
    page.get_by_label("One-time token").fill("wrong")
    page.get_by_label("Your user name").fill("ada")
    page.get_by_label("Password", exact=True).fill(GOOD)
    page.get_by_label("The same password again").fill(GOOD)
    page.get_by_role("button", name="Make the first admin").click()
    expect(page.get_by_role("alert").first).to_contain_text("not the one-time token")
    expect_good_to_read(page)
    issued = first_admin.issue(datetime.now(UTC))
    assert issued
    make_admin(page, f"{live_server.url}/login/", issued.token)
    expect(page.get_by_role("heading", level=1)).to_have_text("Set the lab up")
    expect_good_to_read(page)
    forget_expected(trouble)


@pytest.mark.one_engine
def test_the_steps_renew_themselves_and_keep_the_focus(
    page: Page, live_server: Any, sign_in: Callable[..., None]
) -> None:
    sign_in("admin")
    root = StagingRoot.objects.create(name="lab", host="lab-pc", path="/data/lab", token="t", nas_path="/mnt/nas")
    page.goto(f"{live_server.url}/setup/")
    expect(page.get_by_text("The first look at /data/lab begins within a minute.")).to_be_visible()
    page.get_by_role("button", name="Keep it manual").focus()
    now = datetime.now(UTC)
    StagingRoot.objects.update(looking_done=40, looking_total=1400, looking_seen_at=now)
    expect(page.get_by_text("40 of about 1,400 runs so far")).to_be_visible()
    StagingRoot.objects.filter(pk=root.pk).update(discovered_at=now)
    expect(page.get_by_text("0 runs found so far.")).to_be_visible()
    expect(page.get_by_role("button", name="Keep it manual")).to_be_focused()
    expect(page.locator("#steps[hx-trigger]")).to_have_count(0)


@pytest.mark.exhaustive
@pytest.mark.one_engine
def test_accounts_are_good_to_read(
    page: Page, live_server: Any, sign_in: Callable[..., None], site: Lab, trouble: list[str]
) -> None:
    """Takes 5 s: three pages in many sizes."""
    sign_in("admin")
    page.goto(f"{live_server.url}/people/")
    page.get_by_role("link", name="Add a person…").click()
    page.get_by_label("User name").fill("grace")
    page.get_by_label("Only at these places:").check()
    page.get_by_label("Your own password").fill("wrong")
    page.get_by_role("button", name="Add this person").click()
    expect(page.get_by_role("alert").first).to_be_visible()
    expect_good_to_read(page)
    grace = User.objects.create_user("grace")
    page.goto(f"{live_server.url}/people/{grace.pk}/")
    expect_good_to_read(page)
    page.goto(f"{live_server.url}/people/")
    expect_good_to_read(page)
    forget_expected(trouble)
