"""The origin of a form, as a real browser sends it."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from playwright.sync_api import Page, Route, expect

from tests.browser.looks import expect_good_to_read

pytestmark = pytest.mark.one_engine


def test_one_signs_in_although_a_proxy_tells_browsers_to_hide_the_address(
    page: Page, live_server: Any, transactional_db: None
) -> None:
    """With `Referrer-Policy: no-referrer` a browser sends `Origin: null`, unless the page says otherwise."""
    User.objects.create_user("mkhan", password="a long password").groups.add(Group.objects.get(name="operator"))

    def hide(route: Route) -> None:
        answer = route.fetch(max_redirects=0)
        route.fulfill(response=answer, headers={**answer.headers, "referrer-policy": "no-referrer"})

    page.route(f"{live_server.url}/login/**", hide, times=1)
    page.goto(f"{live_server.url}/login/")
    page.get_by_label("User name").fill("mkhan")
    page.get_by_label("Password").fill("a long password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_what_is_refused_before_a_view_is_good_to_read(
    page: Page, live_server: Any, sign_in: Callable[..., None], settings: Any, trouble: list[str]
) -> None:
    """Takes 8 s."""
    sign_in()
    long = "an-instrument-pc-with-a-name-that-nobody-would-want-to-type.microscopy.biology.university.example:8443"
    page.set_extra_http_headers({"X-Forwarded-Host": long})
    page.goto(f"{live_server.url}/runs/")
    expect(page.get_by_role("heading", name="The server does not know this name")).to_be_visible()
    expect_good_to_read(page)
    page.set_extra_http_headers({})
    page.goto(f"{live_server.url}/problems/1/look/")
    expect(page.get_by_role("heading", name="Nothing was done")).to_be_visible()
    expect_good_to_read(page)
    page.goto(f"{live_server.url}/")
    settings.ALLOWED_HOSTS = ["*"]
    page.set_extra_http_headers({"X-Forwarded-Host": long})
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="This page came from another address")).to_be_visible()
    expect(page.locator("main")).to_contain_text(f"EXLAB_TRUSTED_ORIGINS={live_server.url}")
    expect_good_to_read(page)
    assert all("status of 4" in one for one in trouble)  # which Chromium writes of every such page
    trouble.clear()
