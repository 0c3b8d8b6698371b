"""Problems taken and ended, and a disk that fills up, in a browser."""

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from cleanup.lab import alerts
from cleanup.models import Alert, AlertKind, DiskUsage
from cleanup.monitoring import disk_alarms
from cleanup.monitoring.problems import ProblemKey, cases
from cleanup.rules.reasons import Reason
from tests.browser.looks import expect_good_to_read
from tests.tools.rows import run_row

pytestmark = pytest.mark.one_engine

GB, TB = 10**9, 10**12


@pytest.fixture
def stalled(runs, root):
    """25 runs that stand still; the key of their group."""
    now = timezone.now()
    for minute in range(25):
        path = f"FLOW_01/PROJ-0060/Runs/Run_2026-05-28T16-{minute:02}"
        known = {"state": "sync_queued", "looked_at": now, "doubts": 1, "judged": 1}
        run = run_row(root, path, first_seen_at=now, identity=path, **known)
        since = now - timedelta(hours=30 + minute)
        words = "sync_queued since yesterday, and 24 h is the limit here"
        alerts.open_alert(AlertKind.STALLED_RUN, path, reason=Reason.STALLED, now=since, detail=words, run=run)
    cases.note(now)
    return ProblemKey("stalled_run", "stalled", root.pk)


@pytest.fixture
def filling(runs, root):
    """A disk that is full in ten hours, as a task has found."""
    now = timezone.now()
    DiskUsage.objects.filter(root=root).delete()
    DiskUsage.objects.bulk_create(
        DiskUsage(
            root=root, at=now - timedelta(minutes=10 * index), total_bytes=8 * TB, free_bytes=TB + index * 17 * GB
        )
        for index in range(25)
    )
    return disk_alarms.look_at(root, now)


@pytest.mark.both_engines
def test_a_problem_is_taken_noted_and_ended(page: Page, live_server, stalled, sign_in):
    """Four clicks to take it and to leave a note: open, take, look closer, keep."""
    sign_in("operator")
    page.goto(live_server.url)
    page.get_by_role("link", name="Problems").click()
    chip = page.get_by_role("link", name="Problems").locator(".chip")
    before = int(chip.inner_text())
    group = page.locator("li.group").filter(has_text=Reason.STALLED.sentence)
    expect(group.get_by_text("Run_2026-05-28T16-24")).not_to_be_visible()
    group.locator("summary").click()
    expect(group.get_by_text("Run_2026-05-28T16-24")).to_be_visible()
    group.get_by_role("button", name="Take it").click()
    expect(chip).to_have_text(str(before - 1))
    expect(group.get_by_text("mkhan has it")).to_be_visible()
    group.get_by_role("link", name="Give, put off, note").click()
    page.get_by_label("Note").fill("the wizard's PC was off")
    page.get_by_role("button", name="Keep the note").click()
    expect(page.get_by_text("“the wizard's PC was off”", exact=False).first).to_be_visible()
    now = timezone.now()
    Alert.objects.filter(kind=AlertKind.STALLED_RUN).update(ended_at=now)
    cases.note(now)
    page.reload()
    expect(page.get_by_text("This problem is over.")).to_be_visible()
    expect(page.get_by_text("mkhan had it")).to_be_visible()


@pytest.mark.browser_context_args(java_script_enabled=False)
def test_it_is_put_off_without_scripts(page: Page, live_server, stalled, sign_in):
    sign_in("operator")
    page.goto(f"{live_server.url}/problems/groups/{stalled.slug}/")
    page.get_by_label("Put off until the end of").fill(f"{timezone.localdate() + timedelta(days=3)}")
    page.get_by_role("button", name="Put off").click()
    expect(page.get_by_text("It comes back earlier if it grows.")).to_be_visible()


def test_from_the_alarm_to_what_may_go(page: Page, live_server, filling, sign_in):
    sign_in("operator")
    page.goto(live_server.url)
    expect(page.locator(".alarm strong")).to_have_text(disk_alarms.say(disk_alarms.fill_of(filling), timezone.now()))
    page.get_by_role("link", name="Make room on lab").click()
    expect(page.get_by_role("heading", level=1).first).to_be_attached()
    assert page.url != f"{live_server.url}/"


@pytest.mark.exhaustive
def test_the_pages_are_good_to_read(page: Page, live_server, stalled, filling, root, sign_in):
    sign_in("admin")
    for address in (
        "/",
        "/problems/",
        f"/problems/groups/{stalled.slug}/",
        "/problems/ended/",
        f"/roots/{root.pk}/alarm/",
    ):
        page.goto(live_server.url + address)
        expect_good_to_read(page)
