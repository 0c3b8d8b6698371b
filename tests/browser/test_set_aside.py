"""Two blocked runs, cleared by click: one with an extra file, one with a Thumbs.db."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from cleanup.clears import protocol
from cleanup.models import ClearAttempt, Phase
from cleanup.runs import discovery
from tests.browser.conftest import EXTRA, SAFE
from tests.browser.looks import expect_good_to_read
from tests.tools.lab import touch

pytestmark = pytest.mark.one_engine


NAME = "notes after the run.txt"


def clear(page: Page, address: str) -> None:
    page.goto(address)
    page.get_by_role("link", name="Clear now…").click()
    page.get_by_role("button", name="Clear").first.click()
    protocol.perform(ClearAttempt.objects.get(phase=Phase.QUEUED), now=timezone.now())


@pytest.mark.exhaustive
@pytest.mark.both_engines
def test_a_run_with_a_file_more_and_one_with_thumbs(page: Page, live_server, runs, lab, root, sign_in):
    """Takes 5 s: a real browser."""
    (lab.staging / SAFE / "Thumbs.db").write_bytes(b"seen")
    touch(lab.staging / EXTRA / NAME, datetime.now(UTC) - timedelta(days=4))
    discovery.discover(root, now=timezone.now())
    sign_in("admin")
    blocked = f"{live_server.url}/runs/{runs[EXTRA].pk}/"
    page.goto(blocked)
    page.get_by_role("link", name="Set files aside…").click()
    expect(page.get_by_text(NAME, exact=True)).to_be_visible()
    expect_good_to_read(page)
    page.get_by_label("Reason").fill("a note, kept elsewhere")
    page.get_by_role("button", name="Set aside").click()
    expect(page.get_by_text("1 file set aside.")).to_be_visible()
    expect(page.get_by_role("heading", name="Set aside")).to_be_visible()
    expect_good_to_read(page)
    clear(page, blocked)
    folder = (lab.staging / EXTRA).parent
    assert not (lab.staging / EXTRA).exists()
    assert (folder / ".exlab-set-aside" / EXTRA.rpartition("/")[2] / NAME).read_text() == "late"
    page.goto(f"{live_server.url}/problems/")
    expect(page.get_by_text(NAME, exact=True)).to_be_visible()

    looked_into = f"{live_server.url}/runs/{runs[SAFE].pk}/"
    page.goto(looked_into)
    expect(page.get_by_text("files of desktops or NAS systems")).to_be_visible()
    clear(page, looked_into)
    assert not (lab.staging / SAFE).exists()


@pytest.mark.exhaustive
def test_the_question_to_put_back_is_good_to_read(page: Page, live_server, runs, sign_in):
    from cleanup.runs.set_aside import set_aside

    run = runs[EXTRA]
    set_aside.set_aside(run, [NAME.encode()], actor="ada", reason="why", now=timezone.now())
    sign_in("admin")
    page.goto(f"{live_server.url}/runs/{run.pk}/put-back/")
    expect_good_to_read(page)
