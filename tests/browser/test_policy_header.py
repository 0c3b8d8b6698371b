"""The watcher notices a missing or weaker content policy."""

from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page

pytestmark = pytest.mark.one_engine


@pytest.mark.parametrize("policy", [None, {"default-src": ["'self'", "'unsafe-inline'"]}])
def test_a_page_without_our_policy_is_trouble(
    page: Page, live_server: Any, trouble: list[str], settings: Any, policy: dict[str, list[str]] | None
) -> None:
    address = live_server.url + reverse("login")
    page.goto(address)
    assert trouble == []
    settings.CONTENT_SECURITY_POLICY = {"DIRECTIVES": policy} if policy else None
    page.reload()
    assert [line.partition(": ")[0] for line in trouble] == [f"the policy of {address}"]
    trouble.clear()
