"""The problems page in a browser, also without scripts."""

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from cleanup.clears import recovery
from cleanup.lab import alerts
from cleanup.models import AlertKind, ClearAttempt, Sweep, SweepBreaker
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.orphans import orphans
from cleanup.runs.orphans.orphan_rows import GRACE
from tests.browser.conftest import EXTRA, SAFE, TOUCHED
from tests.browser.looks import expect_good_to_read
from tests.tools.lab import METADATA, date_everything
from tests.tools.rows import clear_rows

pytestmark = pytest.mark.one_engine


@pytest.fixture
def found(runs, lab, root):
    now = timezone.now()
    stray = lab.staging / ("without-any-space-" * 13)
    stray.write_bytes(b"12345")
    date_everything(stray, now - timedelta(days=3), now - timedelta(days=3))
    (lab.staging / SAFE).rename(lab.base / "away")
    for at in (now - GRACE, now):
        discovery.discover(root, now=at)
        orphans.inspect(root, now=at)
    orphans.listed().filter(kind="stray").update(escalated_at=now, detail="x" * 200)
    alerts.open_alert(AlertKind.CLUSTER, "clear on lab-pc", reason=Reason.CLUSTER_SILENT, now=now, detail="y" * 200)
    sweep = Sweep.objects.create(root=root, kind="timed", host="lab-pc", now=now, started_at=now)
    SweepBreaker.objects.create(root=root, sweep=sweep, kind="share", detail="94 % of the bytes", opened_at=now)
    return {orphan.kind: orphan for orphan in orphans.listed()}


@pytest.fixture
def shell_and_conflict(runs, lab, root):
    now = timezone.now()
    cleared, kept = runs[SAFE], runs[EXTRA]
    (lab.staging / SAFE).rename(lab.base / "cleared")
    type(cleared).objects.filter(pk=cleared.pk).update(state="cleared", cleared_at=now)
    clear_rows(cleared, now - timedelta(hours=3), files=3, size=300)
    (lab.staging / SAFE / METADATA).mkdir(parents=True)
    attempt = ClearAttempt.objects.create(
        run=kept, phase="intent", host=root.host, requester="operator", actor="ada", created_at=now, phase_at=now
    )
    path = lab.staging / EXTRA
    path.rename(path.with_name(f".exlab-clearing-{attempt.pk.hex}"))
    path.mkdir()
    (path / "new.tif").write_bytes(b"new work")
    recovery.recover(now=now)
    for at in (now, now + 2 * GRACE):
        discovery.discover(root, now=at)
        orphans.inspect(root, now=at)
    return kept


def test_a_shell_and_a_conflict_are_good_to_read(page: Page, live_server, shell_and_conflict, sign_in):
    """Takes some seconds: two pages, two themes, five widths."""
    sign_in("operator")
    for address in ("/problems/", f"/runs/{shell_and_conflict.pk}/"):
        page.goto(live_server.url + address)
        expect_good_to_read(page)


@pytest.mark.exhaustive
@pytest.mark.browser_context_args(java_script_enabled=False)
def test_a_click_removes_a_shell_without_scripts(page: Page, live_server, shell_and_conflict, sign_in):
    sign_in("operator")
    page.goto(f"{live_server.url}/problems/")
    page.get_by_role("button", name=f"Remove the empty folder: {SAFE}").click()
    expect(page.get_by_text("the empty folder is being removed")).to_be_visible()
    expect(page.get_by_text("Being removed…")).to_be_visible()


@pytest.mark.exhaustive
def test_the_pages_are_good_to_read_and_fit_their_window(page: Page, live_server, found, sign_in):
    sign_in("admin")
    for address in ("/problems/", f"/problems/{found['missing'].pk}/gone/"):
        page.goto(live_server.url + address)
        expect_good_to_read(page)


@pytest.mark.both_engines
def test_an_admin_looks_again_and_marks_a_run_as_gone(page: Page, live_server, found, lab, sign_in):
    sign_in("admin")
    page.goto(f"{live_server.url}/problems/")
    chip = page.get_by_role("link", name="Problems").locator(".chip")
    before = int(chip.inner_text())
    (lab.staging / found["stray"].path).rename(lab.base / "taken away")
    page.get_by_role("button", name=f"Look again: {found['stray'].path}").click()
    expect(page.get_by_text("it is no problem any more")).to_be_visible()
    page.get_by_role("link", name=f"Mark as gone: {SAFE}").click()
    page.get_by_label("Where it went").fill("to the archive")
    page.get_by_role("button", name="Mark as gone").click()
    expect(page.get_by_text("is marked as gone.")).to_be_visible()
    expect(chip).to_have_text(str(before - 2))


@pytest.mark.exhaustive
def test_from_a_problem_to_the_runs_that_it_is_about(page: Page, live_server, found, runs, sign_in):
    sign_in("viewer")
    page.goto(f"{live_server.url}/problems/")
    page.get_by_role("link", name=f"See these runs: {Reason.NOT_IN_MANIFEST.sentence}").click()
    expect(page.locator(f"#run-{runs[EXTRA].pk}")).to_be_visible()
    expect(page.locator(f"#run-{runs[TOUCHED].pk}")).to_have_count(0)
