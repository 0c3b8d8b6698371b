"""The forecast respects day limits and go-ons."""

from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine

from cleanup.lab import policy_versions
from cleanup.models import RetentionPolicy, StagingRoot, SweepBreaker
from cleanup.rules.anomalies import Clock
from cleanup.rules.policies.policy import Stage
from cleanup.sweeps import breakers, policy_preview, taking
from cleanup.sweeps.all_roots import sweep
from tests.tools.archive import archive, clears_rows
from tests.tools.lab import Lab

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def careful(now: datetime, **fields: Any) -> RetentionPolicy:
    fields = {"mode": "scheduled", "retain_hours": 168, "budget_runs": 20, **fields}
    return policy_versions.add_version(author="ada", now=now - 10 * 24 * HOUR, rehearse=False, **fields)


def foretold(root: StagingRoot, first: datetime, passes: int) -> list[tuple[int, bool]]:
    instants = [first + number * HOUR for number in range(passes)]
    found = policy_preview.outlooks(root, instants, lambda _at: RetentionPolicy.objects.scoped())
    return [(len(one.going), bool(one.sights)) for one in found]


def go(now: datetime, patch: pytest.MonkeyPatch) -> int:
    patch.setattr(taking, "take", clears_rows())
    with time_machine.travel(now, tick=False):
        return len(sweep(now=now, timed=True, clock=Clock(wall=now)).freeing)


def test_a_careful_budget_is_foretold_to_stop_where_it_does(
    lab: Lab, root: StagingRoot, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(lab, root, now, runs=100)
    careful(now)
    assert foretold(root, now, 5) == [(20, False), (20, False), (20, True)]
    assert [go(now + number * HOUR, monkeypatch) for number in range(4)] == [20, 20, 0, 0]


def test_what_a_person_has_let_go_is_foretold_to_go_once(
    lab: Lab, root: StagingRoot, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(lab, root, now, runs=60)
    careful(now, budget_runs=40)
    assert go(now, monkeypatch) == 0
    breaker = SweepBreaker.objects.get()
    assert breakers.go_on(breaker, actor="ada", note="", now=now)
    assert foretold(root, now + HOUR, 2) == [(40, False), (20, False)]
    assert [go(now + HOUR, monkeypatch), go(now + 2 * HOUR, monkeypatch)] == [40, 20]


def test_a_larger_share_is_rehearsed_with_the_version_that_sets_it(
    lab: Lab, root: StagingRoot, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(lab, root, now, runs=60)
    policy_versions.add_version(
        author="ada", now=now, mode="scheduled", retain_hours=168, max_share=0.5, stage=Stage.PROMOTED
    )
    version = policy_versions.add_version(author="ada", now=now, retain_hours=100, max_share=1.0)
    assert version.rehearsal == Stage.REHEARSING
    assert foretold(root, now, 1) == [(60, True)]
    assert go(now, monkeypatch) == 0
