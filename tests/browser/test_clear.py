"""Clears with a real browser, task cluster and files."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.utils import timezone
from playwright.sync_api import Page, expect

from cleanup.clears import protocol
from cleanup.models import ClearAttempt, LedgerEntry, Phase
from cleanup.rules.reasons import Reason
from tests.browser.conftest import EXTRA, QUEUED, SAFE, TEST_RUN, TOUCHED, wait_until
from tests.tools.lab import census, snapshot

pytestmark = pytest.mark.one_engine


@contextlib.contextmanager
def cluster(environment: dict[str, str], *, clears: bool = True) -> Iterator[None]:
    """The cluster that clears, or the common one."""
    environment = {**environment, **({"Q_CLUSTER_NAME": settings.EXLAB_CLEAR_CLUSTER} if clears else {})}
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "qcluster"]
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def row(page, run):
    return page.locator(f"#run-{run.pk}")


def perform_queued():
    protocol.perform(ClearAttempt.objects.get(phase=Phase.QUEUED), now=timezone.now())


@pytest.mark.both_engines
def test_sign_in_filter_and_clear_with_the_real_cluster(page: Page, live_server, runs, lab, subprocess_env):
    User.objects.create_user("asmith", password="a long password").groups.add(Group.objects.get(name="operator"))
    files, size = census(lab.staging / SAFE)
    others = {path: snapshot(lab.staging / path) for path in runs if path != SAFE}

    page.goto(f"{live_server.url}/runs/")
    page.get_by_label("User name").fill("asmith")
    page.get_by_label("Password").fill("a long password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("table")).to_be_visible()

    page.get_by_label("Instrument").select_option("CONFOCAL_01")
    expect(page).to_have_url(f"{live_server.url}/runs/?equipment=CONFOCAL_01")
    expect(page.locator("tbody tr")).to_have_count(1)

    row(page, runs[SAFE]).get_by_role("link", name="Clear now").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(SAFE)
    expect(dialog).to_contain_text(f"{files} files")
    expect(dialog).to_contain_text(f"{size:,} bytes")
    expect(dialog).to_contain_text(f"{lab.nas}/{SAFE}")
    dialog.get_by_label("Reason").fill("disk is full")
    dialog.get_by_role("button", name="Clear now").click()
    expect(row(page, runs[SAFE])).to_contain_text("Waiting in the queue")

    with cluster(subprocess_env):
        expect(row(page, runs[SAFE])).to_contain_text(f"Cleared, {files} files", timeout=60_000)
    expect(page.locator("#announce")).to_contain_text("Cleared")
    assert not (lab.staging / SAFE).exists()
    assert {path: snapshot(lab.staging / path) for path in others} == others
    done = LedgerEntry.objects.get(kind="completed")
    assert (done.files, done.bytes, done.actor) == (files, size, "asmith")

    page.get_by_role("link", name=SAFE.rpartition("/")[2], exact=True).click()
    expect(page.get_by_role("heading", name="Where the data is now")).to_be_visible()
    expect(page.locator("main")).to_contain_text("disk is full")


def test_the_row_stops_asking_once_settled(page: Page, live_server, runs, sign_in, asked):
    def rows_asked_for():
        return [address for address in asked if "/row/" in address]

    sign_in()
    page.goto(f"{live_server.url}/runs/")
    row(page, runs[SAFE]).get_by_role("link", name="Clear now").click()
    page.get_by_role("dialog").get_by_role("button", name="Clear now").click()
    expect(row(page, runs[SAFE])).to_contain_text("Waiting in the queue")
    wait_until(page, rows_asked_for)
    perform_queued()
    expect(row(page, runs[SAFE])).to_contain_text("Cleared, ")
    asked.clear()
    page.wait_for_timeout(500)  # two and a half seconds by the page's clock
    assert rows_asked_for() == []


@pytest.mark.both_engines
def test_a_refusal_is_told_in_the_row(page: Page, live_server, runs, lab, sign_in):
    sign_in()
    page.goto(f"{live_server.url}/runs/")
    row(page, runs[SAFE]).get_by_role("link", name="Clear now").click()
    twin = lab.twin(SAFE) / "stack.ome.xml"
    twin.write_bytes(twin.read_bytes()[::-1])
    page.get_by_role("dialog").get_by_role("button", name="Clear now").click()
    expect(row(page, runs[SAFE])).to_contain_text("Waiting in the queue")
    perform_queued()
    expect(row(page, runs[SAFE])).to_contain_text("Refused")
    expect(row(page, runs[SAFE])).to_contain_text(Reason.NAS_CHECKSUM_MISMATCH.sentence)
    assert (lab.staging / SAFE).exists()


@pytest.mark.exhaustive
def test_a_touched_run_goes_when_every_byte_is_the_same(page: Page, live_server, runs, lab, sign_in):
    sign_in()
    page.goto(f"{live_server.url}/runs/")
    row(page, runs[TOUCHED]).get_by_role("link", name="Compare every byte and clear").click()
    page.get_by_role("dialog").get_by_role("button", name="Compare every byte and clear").click()
    expect(row(page, runs[TOUCHED])).to_contain_text("Waiting in the queue")
    perform_queued()
    expect(row(page, runs[TOUCHED])).to_contain_text("Cleared, ")
    assert not (lab.staging / TOUCHED).exists()


@pytest.mark.exhaustive
def test_a_run_that_changed_meanwhile_is_refused_without_an_attempt(page: Page, live_server, runs, lab, root, sign_in):
    from cleanup.runs import discovery

    sign_in()
    page.goto(f"{live_server.url}/runs/")
    row(page, runs[SAFE]).get_by_role("link", name="Clear now").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    (lab.staging / SAFE / "late.txt").write_text("late")
    discovery.discover(root, now=timezone.now())
    page.get_by_role("dialog").get_by_role("button", name="Clear now").click()
    expect(row(page, runs[SAFE])).to_contain_text("Blocked")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert not ClearAttempt.objects.exists()


def test_the_keyboard_alone_is_enough(page: Page, live_server, runs, sign_in):
    sign_in()
    page.goto(f"{live_server.url}/runs/")
    button = row(page, runs[SAFE]).get_by_role("link", name="Clear now")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_role("heading")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    for _ in range(5):  # the two paths that unfold, the reason, Cancel, Clear now
        page.keyboard.press("Tab")
    expect(page.get_by_role("dialog").get_by_role("button", name="Clear now")).to_be_focused()
    page.keyboard.press("Enter")
    expect(row(page, runs[SAFE])).to_contain_text("Waiting in the queue")
    link = page.locator(f"#run-{runs[SAFE].pk}-link")
    expect(link).to_be_focused()
    page.wait_for_timeout(500)  # the row has been replaced by itself more than once
    expect(link).to_be_focused()


def test_cancel_asks_for_nothing(page: Page, live_server, runs, sign_in):
    sign_in()
    page.goto(f"{live_server.url}/runs/")
    row(page, runs[SAFE]).get_by_role("link", name="Clear now").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert not ClearAttempt.objects.exists()


def test_the_run_page_follows_a_clear(page: Page, live_server, runs, sign_in):
    sign_in()
    page.goto(f"{live_server.url}/runs/{runs[TEST_RUN].pk}/")
    page.get_by_role("link", name="Clear now").click()
    page.get_by_role("button", name="Clear now").click()
    expect(page.locator(".head")).to_contain_text("Waiting in the queue")
    perform_queued()
    expect(page.locator(".head")).to_contain_text("Cleared, ")
    expect(page.get_by_role("heading", name="Where the data is now")).to_be_visible()


@pytest.mark.both_engines
@pytest.mark.browser_context_args(java_script_enabled=False)
def test_everything_works_without_scripts(page: Page, live_server, runs, lab):
    User.objects.create_user("asmith", password="a long password").groups.add(Group.objects.get(name="operator"))
    page.goto(f"{live_server.url}/runs/")
    page.get_by_label("User name").fill("asmith")
    page.get_by_label("Password").fill("a long password")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Instrument").select_option("CONFOCAL_01")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    row(page, runs[SAFE]).get_by_role("link", name="Clear now").click()
    expect(page.get_by_role("heading", name="Clear this run?")).to_be_visible()
    expect(page.locator("main")).to_contain_text(SAFE)
    page.get_by_label("Reason").fill("disk is full")
    page.get_by_role("button", name="Clear now").click()
    expect(page.locator(".head")).to_contain_text("Waiting in the queue")
    perform_queued()
    expect(page.locator(".head")).to_contain_text("Cleared, ", timeout=15_000)  # the page reloads itself
    assert not (lab.staging / SAFE).exists()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


@pytest.mark.exhaustive
def test_viewers_see_all_and_clear_nothing(page: Page, live_server, runs, sign_in):
    sign_in("viewer")
    page.goto(f"{live_server.url}/runs/")
    expect(page.locator("tbody tr")).to_have_count(len(runs))
    expect(page.locator("tbody").get_by_role("link", name="Clear now")).to_have_count(0)
    row(page, runs[EXTRA]).get_by_role("link", name="See why").click()
    expect(page.locator("main")).to_contain_text(Reason.NOT_IN_MANIFEST.sentence)


@pytest.mark.exhaustive
def test_the_sums_filter_and_the_way_back_works(page: Page, live_server, runs, sign_in):
    sign_in()
    page.goto(f"{live_server.url}/runs/")
    page.get_by_label("State").select_option("sync_queued")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(row(page, runs[QUEUED])).to_be_visible()
    page.go_back()
    expect(page.locator("tbody tr")).to_have_count(len(runs))
    page.get_by_role("link", name="Blocked").click()
    expect(page.locator("tbody tr")).to_have_count(2)


@pytest.mark.exhaustive
def test_an_ended_session_leads_to_the_sign_in_and_back(page: Page, live_server, runs, sign_in):
    from django.contrib.sessions.models import Session

    sign_in()
    page.goto(f"{live_server.url}/runs/?equipment=CONFOCAL_01")
    row(page, runs[SAFE]).get_by_role("link", name="Clear now").click()
    page.get_by_role("dialog").get_by_role("button", name="Clear now").click()
    expect(row(page, runs[SAFE])).to_contain_text("Waiting in the queue")
    Session.objects.all().delete()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert "equipment%3DCONFOCAL_01" in page.url


def test_a_server_that_does_not_answer_is_told_about(page: Page, live_server, runs, sign_in, trouble):
    sign_in()
    page.goto(f"{live_server.url}/runs/")
    page.route("**/clear/", lambda route: route.abort())
    row(page, runs[SAFE]).get_by_role("link", name="Clear now").click()
    expect(page.get_by_role("alert")).to_contain_text("The server did not answer")
    trouble.clear()
