"""Signing in, and an open page whose session ends."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from playwright.sync_api import Page, expect

from cleanup.lab.people import sessions
from tests.browser.looks import expect_good_to_read

pytestmark = pytest.mark.one_engine


LOOKS = [(375, "dark"), pytest.param(1280, "light", marks=pytest.mark.exhaustive)]


@pytest.fixture(autouse=True)
def _sessions_last() -> None:
    """Overrides the fixture that keeps sessions alive."""


def forget_expected(trouble: list[str]) -> None:
    """Chromium logs every error answer, also an expected one."""
    trouble[:] = [line for line in trouble if "status of 429" not in line]


def fail(page: Page) -> None:
    page.get_by_label("User name").fill("mkhan")
    page.get_by_label("Password").fill("a wrong one")
    page.get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_too_many_failures_are_told(page: Page, live_server, transactional_db, trouble, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{live_server.url}/runs/")
    for _ in range(4):
        fail(page)
        expect(page.get_by_role("alert").first).to_contain_text("do not belong together")
    fail(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Too many failed sign-ins")
    expect(page.locator("main strong")).to_have_text("15 minutes")
    expect_good_to_read(page)
    page.get_by_role("link", name="Back to the sign-in page").click()
    expect(page.get_by_label("User name")).to_be_visible()
    forget_expected(trouble)


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_one_s_own_account_is_good_to_read(page: Page, live_server, sign_in, width, scheme):
    sign_in()
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    for address in ("/account/", "/account/password/"):
        page.goto(live_server.url + address)
        expect_good_to_read(page)


def test_from_one_s_name_to_a_new_password_and_out_everywhere(page: Page, live_server, sign_in):
    sign_in()
    user = User.objects.get(username="mkhan")
    user.set_password("the-old-one-42")
    user.save()
    page.goto(f"{live_server.url}/login/")
    page.get_by_label("User name").fill("mkhan")
    page.get_by_label("Password").fill("the-old-one-42")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_title("Your account").click()
    page.get_by_role("link", name="Change password…").click()
    page.get_by_label("Old password").fill("the-old-one-42")
    page.get_by_label("New password", exact=True).fill("the-new-one-42")
    page.get_by_label("New password confirmation").fill("the-new-one-42")
    page.get_by_role("button", name="Change password").click()
    expect(page.locator(".messages")).to_contain_text("Your password is changed")
    page.get_by_role("button", name="Sign out everywhere").click()
    expect(page).to_have_url(re.compile("/login/$"))
    expect(page.locator(".messages")).to_contain_text("You are signed out in this browser.")
    assert sessions.count(user) == 0


def test_a_page_whose_session_ends_goes_to_the_sign_in_and_stays_there(page: Page, live_server, sign_in, runs, asked):
    sign_in()
    page.goto(f"{live_server.url}/runs/?state=sync_verified")
    store = SessionStore(Session.objects.get().session_key)
    store[sessions.SEEN] -= timedelta(hours=12).total_seconds()
    store.save()
    asked.clear()
    page.evaluate("htmx.trigger('#pulse', 'wake')")
    expect(page.get_by_label("User name")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/login/\?next=%2Fruns%2F%3Fstate%3Dsync_verified$"))
    page.wait_for_timeout(300)
    assert len([url for url in asked if "/login/" in url]) == 2, asked  # by the page's script, and by the browser
    assert not Session.objects.exists()
