"""The pages of sweeps in a browser, also without scripts."""

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from cleanup.lab import policy_versions
from cleanup.models import Run, Sweep, SweepBreaker
from cleanup.sweeps import all_roots
from tests.browser.conftest import EXTRA
from tests.browser.looks import expect_good_to_read, expect_readable
from tests.browser.test_clear import cluster

pytestmark = pytest.mark.one_engine


@pytest.fixture
def record(runs, root):
    now = timezone.now()
    policy_versions.add_version(author="admin", now=now, mode="scheduled", retain_hours=1, rehearse=True)
    all_roots.sweep(now=now, dry_run=True)
    all_roots.sweep(now=now, timed=True)
    return SweepBreaker.objects.create(
        root=root,
        sweep=Sweep.objects.latest("pk"),
        kind="share",
        detail="It would clear 41 runs, 3,000 bytes: more than 50% of the 4,000 bytes that are staged.",
        opened_at=now,
    )


@pytest.mark.exhaustive
def test_the_pages_are_good_to_read_and_fit_their_window(page: Page, live_server, runs, record, sign_in):
    sign_in("operator")
    run = f"/runs/{runs[EXTRA].pk}/answers/"
    pages = ["/sweeps/", f"/sweeps/{record.sweep_id}/", f"/breakers/{record.pk}/go-on/", run]
    for address in pages:
        page.goto(live_server.url + address)
        expect_good_to_read(page)


def test_an_operator_asks_why_and_lets_the_sweeps_go_on(page: Page, live_server, runs, record, sign_in):
    sign_in("operator")
    page.goto(f"{live_server.url}/runs/{runs[EXTRA].pk}/")
    page.get_by_role("link", name="Why was it not cleared").click()
    expect(page.get_by_text("not_in_manifest").first).to_be_visible()
    page.get_by_text("Every check").first.click()
    page.get_by_label("Date").fill("2020-01-01")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_text("No timed pass had looked at lab by then.")).to_be_visible()
    page.get_by_role("link", name="Automatic clearing").click()
    page.get_by_label("Why it may go on").fill("the new microscope")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("Automatic clearing of lab goes on with the next pass.")).to_be_visible()
    expect(page.get_by_text("“the new microscope”")).to_be_visible()


@pytest.mark.exhaustive
@pytest.mark.both_engines
def test_an_operator_sees_what_a_sweep_would_clear(page: Page, live_server, runs, subprocess_env, sign_in):
    policy_versions.add_version(author="admin", now=timezone.now(), mode="scheduled", retain_hours=1, rehearse=False)
    sign_in("operator")
    page.goto(f"{live_server.url}/sweeps/")
    page.get_by_role("button", name="Dry run now").click()
    expect(page.get_by_text("A dry run of lab is queued, asked for by mkhan.")).to_be_visible()
    page.get_by_role("button", name="Dry run now").click()
    expect(page.get_by_text("A dry run of lab is queued or running already.")).to_be_visible()
    with cluster(subprocess_env):
        expect(page.locator("#passes").get_by_text("Would clear 4 runs, ")).to_be_visible(
            timeout=40_000
        )  # without a reload
    expect(page.locator("#announce")).to_contain_text("The dry run of lab is over. Would clear 4 runs, ")
    assert Sweep.objects.get().actor == "mkhan"
    page.locator("a.leaf").click()
    expect(page.get_by_role("heading", name="Dry run over lab")).to_be_visible()
    expect(page.locator("table.said .mark").filter(has_text="would be cleared")).to_have_count(4)
    expect_readable(page)
    assert not Run.objects.filter(state="cleared").exists()
