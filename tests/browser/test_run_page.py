"""The page of a run in every state, and its printed receipt."""

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from cleanup.clears import protocol, queue
from cleanup.clears.queue import ClearRequest
from cleanup.models import ClearAttempt, Phase, Receipt, Requester, Run, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.holds import holds
from tests.browser.conftest import EXTRA, LONG, QUEUED, SAFE, TEST_RUN
from tests.browser.looks import expect_good_to_read

pytestmark = pytest.mark.one_engine


NASTY = "\u202e<b>end</b>" + "without-any-space-" * 12


def refuse(run, number):
    now = timezone.now()
    gate = {"gate": "proof", "verdict": "block", "reason": "nas_missing_file", "detail": "1 of 7", "opens_at": None}
    ClearAttempt.objects.bulk_create(
        ClearAttempt(
            run=run,
            host="labpc-04",
            requester="operator",
            actor="mkhan",
            note=NASTY,
            phase=Phase.REFUSED,
            reason=Reason.NAS_MISSING_FILE,
            detail=NASTY,
            decision=[gate],
            created_at=now - timedelta(hours=index + 1),
            phase_at=now - timedelta(hours=index + 1),
        )
        for index in range(number)
    )


def held_for_long(runs, lab):
    run, now = runs[LONG], timezone.now()
    refuse(run, 22)
    (lab.staging / LONG / ("n" * 200 + "\u202e.raw")).write_bytes(b"x" * 9999)
    discovery.discover(run.root, now=now)
    holds.hold(run, owner="jlee", reason=NASTY, until=now + timedelta(days=3), now=now)
    return run


def partly_cleared(runs, lab):
    protocol.clear_run(runs[TEST_RUN], now=timezone.now(), actor="mkhan", note="disk is full")
    ClearAttempt.objects.update(reason=Reason.REMOVAL_INCOMPLETE, detail="1 of 9 files left (a: EACCES)", freed_files=8)
    return runs[TEST_RUN]


def gone(runs, lab):
    Run.objects.filter(pk=runs[EXTRA].pk).update(gone_at=timezone.now())
    return runs[EXTRA]


def out_of_reach(runs, lab):
    StagingRoot.objects.update(problem=Reason.ROOT_NOT_MOUNTED)
    return runs[QUEUED]


SEEN, ALSO = (partly_cleared, gone), (held_for_long, out_of_reach)


@pytest.mark.parametrize("state", [*SEEN, *(pytest.param(state, marks=pytest.mark.exhaustive) for state in ALSO)])
def test_every_state_is_good_to_read(page: Page, live_server, runs, lab, sign_in, state):
    sign_in()
    run = state(runs, lab)
    page.goto(f"{live_server.url}/runs/{run.pk}/")
    expect_good_to_read(page)


def test_a_receipt_is_good_to_read_and_to_print(page: Page, live_server, runs, lab, sign_in):
    sign_in()
    run = partly_cleared(runs, lab)
    told = {
        "host": "labpc-04",
        "position": 12,
        "tell_reason": "nas_not_writable",
        "tell_detail": "Read-only file system",
    }
    digests = {
        "sha256": "0f" * 32,
        "list_sha256": "1e" * 32,
        "fingerprint": "2d" * 32,
        "size": 9000,
        "list_size": 99000,
    }
    Receipt.objects.create(attempt=run.attempts.latest("created_at"), number=1, at=timezone.now(), **told, **digests)
    page.goto(f"{live_server.url}/runs/{run.pk}/")
    page.locator("#receipt").click()
    expect(page.locator("#fingerprint")).to_have_text("2d" * 32)
    expect(page.get_by_role("heading", level=1)).to_have_text("Receipt of a clear")
    expect_good_to_read(page)
    page.emulate_media(media="print", color_scheme="dark")
    expect(page.locator("nav")).to_be_hidden()
    expect(page.locator("#print")).to_be_hidden()
    expect(page.locator(".crumb")).to_be_hidden()
    colours = page.evaluate(
        "[...document.querySelectorAll('body, .card, h1, dd, .note')]"
        ".map((e) => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor])"
    )
    inks, grounds = ({pair[side] for pair in colours} for side in (0, 1))
    assert inks == {"rgb(0, 0, 0)"}
    assert grounds <= {"rgb(255, 255, 255)", "rgba(0, 0, 0, 0)"}
    sheet = page.pdf(prefer_css_page_size=True)
    assert sheet.count(b"/Type /Page\n") == 1
    assert b"595 842" in sheet or b"594.95" in sheet or b"594.96" in sheet


def test_a_page_stays_calm_while_a_clear_is_under_way(page: Page, live_server, runs, sign_in):
    sign_in()
    run = runs[SAFE]
    refuse(run, 1)
    attempt = queue.new_attempt(run, ClearRequest(requester=Requester.OPERATOR, actor="mkhan"), now=timezone.now())
    attempt.advance([Phase.QUEUED], Phase.INTENT, now=timezone.now())
    page.goto(f"{live_server.url}/runs/{run.pk}/")
    page.locator("#attempts summary").click()
    page.locator("#life").evaluate("(element) => { element.dataset.same = 'yes'; }")
    page.locator("#why").focus()
    ClearAttempt.objects.filter(pk=attempt.pk).update(compared_bytes=1_230_000)
    expect(page.locator("#head")).to_contain_text("1.23 MB compared so far")
    expect(page.locator("#attempts")).to_contain_text("1.23 MB compared so far")
    expect(page.locator("#why")).to_be_focused()
    expect(page.locator("#attempts details")).to_have_attribute("open", "")
    expect(page.locator("#life")).to_have_attribute("data-same", "yes")
    attempt.advance([Phase.INTENT], Phase.REFUSED, now=timezone.now(), reason=Reason.NAS_TIMEOUT)
    expect(page.locator("#head .verdict")).to_contain_text("Refused")
    expect(page.locator("#life")).to_contain_text("Clear refused: nothing was removed")
    expect(page.locator("#why")).to_be_focused()
    expect(page.locator("#attempts details[open]")).to_have_count(1)
    expect(page.locator("#announce")).to_contain_text("Refused")
    expect(page.locator("[hx-get]")).to_have_count(0)


def test_the_whole_life_has_an_address_and_works_with_the_keyboard(page: Page, live_server, runs, sign_in):
    sign_in()
    refuse(runs[SAFE], 30)
    page.goto(f"{live_server.url}/runs/{runs[SAFE].pk}/")
    expect(page.locator("#life li")).to_have_count(16)
    page.locator("#all").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#life li")).to_have_count(35)
    expect(page).to_have_url(f"{live_server.url}/runs/{runs[SAFE].pk}/?all=1#life")
    page.go_back()
    expect(page.locator("#life li")).to_have_count(16)
