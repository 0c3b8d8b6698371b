"""The page of the last comparison in a browser."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from cleanup.models import Reconciliation
from tests.browser.conftest import LONG, SAFE
from tests.browser.looks import expect_good_to_read

pytestmark = pytest.mark.one_engine


def test_it_is_good_to_read_and_fits_its_window(
    page: Page, live_server: Any, runs: dict[str, Any], sign_in: Any
) -> None:
    sign_in("admin")
    now = timezone.now()
    found = [
        {"kind": kind, "root": "lab", "run_path": path, "run": runs[path].pk, "detail": detail}
        for kind, path, detail in (
            ("nas_missing", LONG, f"the NAS holds no such run at /mnt/nas/{LONG}"),
            ("missing", SAFE, "its state is sync_verified"),
        )
    ]
    found.append({"kind": "plan_left", "root": "", "run_path": "", "run": None, "detail": "plans/" + "7" * 32})
    Reconciliation.objects.create(
        host="lab-pc",
        started_at=now - timedelta(hours=1),
        progress_at=now,
        ended_at=now,
        runs=6,
        asked=3,
        waiting=1,
        counts={"nas_missing": 214, "missing": 1, "plan_left": 1},
        found=found,
        problems=[{"root": "lab", "reason": "nas_not_mounted", "detail": "no token file at its top"}],
    )
    page.goto(f"{live_server.url}/audit/reconcile/")
    expect(page.get_by_role("heading", name="lab-pc")).to_contain_text("215 to look at")
    expect_good_to_read(page)
    page.get_by_role("link", name=f"See the run: {SAFE}").click()
    expect(page).to_have_url(f"{live_server.url}/runs/{runs[SAFE].pk}/")
