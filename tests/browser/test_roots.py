"""Adding a staging root and its NAS root in a real browser, with a real worker."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from cleanup.models import StagingRoot
from tests.browser.looks import expect_good_to_read
from tests.browser.test_clear import cluster
from tests.tools.lab import Lab

pytestmark = [pytest.mark.one_engine, pytest.mark.exhaustive]


@pytest.mark.both_engines
def test_from_no_root_to_both_sides(page: Page, live_server, transactional_db, subprocess_env, tmp_path: Path, sign_in):
    """Takes half a minute: a task cluster starts, and two processes register."""
    lab = Lab(tmp_path / "disk")
    lab.run()
    sign_in("admin")
    User.objects.get(username="mkhan").set_password("x")
    boss = User.objects.get(username="mkhan")
    boss.set_password("a long password")
    boss.save()
    page.goto(f"{live_server.url}/login/")
    page.get_by_label("User name").fill("mkhan")
    page.get_by_label("Password").fill("a long password")
    page.get_by_role("button", name="Sign in").click()
    page.goto(f"{live_server.url}/roots/")
    expect_good_to_read(page)
    page.get_by_role("link", name="Add a staging root").first.click()
    page.get_by_label("Your password").fill("a long password")
    page.get_by_role("button", name="Continue").click()
    with cluster(subprocess_env, clears=False):
        page.get_by_label("Path").fill("/etc")
        expect(page.locator("#checks")).to_contain_text("a folder of the system", timeout=60_000)
        page.get_by_label("Path").fill(str(lab.staging))
        expect(page.locator("#checks")).to_contain_text("1 run of CONFOCAL_01", timeout=60_000)
        expect_good_to_read(page)
        page.get_by_label("Name").fill("east")
        page.get_by_role("button", name="Register").click()
        expect(page.locator("#done")).to_contain_text("east is registered", timeout=60_000)
        page.get_by_role("link", name="Add its NAS root").click()
        page.get_by_text("One instrument, another layout, unusual mounts").click()
        page.get_by_label("Accept the same filesystem").check()
        page.get_by_label("Path of the NAS root").fill(str(lab.nas))
        expect(page.locator("#checks")).to_contain_text("Layout", timeout=60_000)
        expect_good_to_read(page)
        page.get_by_role("button", name="Register").click()
        expect(page.locator("#done")).to_contain_text("the NAS root of east", timeout=60_000)
        expect_good_to_read(page)
        page.get_by_role("link", name="Its page").click()
        expect_good_to_read(page)
    root = StagingRoot.objects.get()
    assert (root.path, root.nas_path, bool(root.token and root.nas_token)) == (str(lab.staging), str(lab.nas), True)
