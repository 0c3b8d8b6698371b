"""What a person does with several selected runs, and with the names that mean the person."""

import pytest
from playwright.sync_api import Page, expect

from cleanup.models import Hold, Run
from cleanup.runs import run_people
from tests.browser.conftest import EXTRA, LONG, SAFE
from tests.browser.looks import expect_good_to_read

pytestmark = pytest.mark.one_engine


def test_selected_runs_are_held_together(page: Page, live_server, runs, sign_in):
    """Takes 5 s: axe looks at the page in both themes."""
    sign_in("operator")
    run_people.keep([(runs[LONG], ("A-name-that-nobody-would-want-to-type-" * 3, "bo"))])
    page.goto(f"{live_server.url}/runs/")
    for path in (SAFE, EXTRA, LONG):
        page.locator(f"#run-{runs[path].pk}-pick").check()
    expect(page.locator("#selection")).to_contain_text("3 runs")
    page.get_by_role("link", name="Hold, release, save…").click()
    page.get_by_label("Reason").fill("figure 3")
    page.get_by_role("button", name="Hold 3 runs").click()
    expect(page.locator("#result")).to_contain_text("3 runs held to the end of")
    expect_good_to_read(page)
    assert set(Hold.objects.values_list("run__run_path", flat=True)) == {SAFE, EXTRA, LONG}
    with page.expect_download() as download:
        page.get_by_role("link", name="Save as CSV").click()
    assert download.value.path().read_text("utf-8-sig").count("\n") == 4
    page.get_by_role("button", name="Clear selection").click()
    expect(page.get_by_role("heading", name="Selected runs")).to_be_hidden()


@pytest.mark.exhaustive
def test_a_person_finds_the_own_runs(page: Page, live_server, runs, sign_in):
    sign_in("operator")
    run_people.keep((run, ("asmith",)) for run in Run.objects.filter(run_path=SAFE))
    page.goto(f"{live_server.url}/account/")
    page.get_by_label("A name in records").fill("ASmith")
    page.get_by_role("button", name="Add").click()
    expect(page.locator("#names")).to_contain_text("ASmith")
    expect_good_to_read(page)
    page.get_by_role("link", name="Show my runs").click()
    expect(page.get_by_label("Person")).to_have_value("mine")
    expect(page.locator("tbody tr").filter(has_text="asmith")).to_have_count(1)
