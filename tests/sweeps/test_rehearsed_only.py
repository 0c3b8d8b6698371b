"""What a rehearsed policy would take is called rehearsed only, also in a dry run."""

from datetime import datetime
from typing import Any

import pytest
from django.test import Client

from cleanup.management.base import sweep_as_text
from cleanup.models import StagingRoot, Sweep
from cleanup.runs import discovery
from cleanup.sweeps import all_roots
from cleanup.text.sweeps import came_to
from tests.tools.lab import Lab

pytestmark = pytest.mark.one_engine


@pytest.fixture
def rehearsed(lab: Lab, root: StagingRoot, policy: Any, now: datetime) -> None:
    for day in (17, 18, 19):
        lab.run(f"CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-{day}T14-32")
    discovery.discover(root, now=now)
    policy(mode="scheduled", retain_hours=24)


@pytest.mark.parametrize("kind", [{"dry_run": True}, {"dry_run": True, "timed": True}, {"timed": True}])
def test_lines_and_pages_say_so(rehearsed: None, kind: dict[str, bool], now: datetime, admin_client: Client) -> None:
    text = sweep_as_text(all_roots.sweep(now=now, **kind))
    assert "rehearsed only: 3 would have gone by the schedule, " in text
    said, row = "ehearsed only: 3 runs would have gone.", Sweep.objects.get()
    assert said in came_to(row)
    for address in ("/sweeps/", f"/sweeps/{row.pk}/"):
        assert said in admin_client.get(address).content.decode()


def test_what_a_person_clears_in_earnest_is_not_rehearsed(rehearsed: None, now: datetime) -> None:
    text = sweep_as_text(all_roots.sweep(now=now, actor="ada"))
    assert "3 cleared" in text
    assert "rehearsed" not in text


def test_a_policy_in_force_says_nothing_of_it(rehearsed: None, policy: Any, now: datetime) -> None:
    policy(stage="promoted")
    assert "rehearsed" not in sweep_as_text(all_roots.sweep(now=now, dry_run=True))
    assert came_to(Sweep.objects.get()).startswith("Would clear 3 runs")
