"""How often discovery asks the database for each run: the number grows with the runs, so it must stay small."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cleanup.lab.roots import registration
from cleanup.models import Run
from cleanup.runs import discovery
from tests.tools.lab import Lab

pytestmark = pytest.mark.django_db

FEW, MANY = 3, 8
AN_HOUR = timedelta(hours=1)

Ask = Callable[[int, timedelta], int]


@pytest.fixture
def ask(tmp_path: Any, now: datetime, record: str, state: str) -> Ask:
    """Discover a lab of so many runs; returns how many questions that took."""
    registered: dict[int, Any] = {}

    def lab_of(runs: int) -> Any:
        lab = Lab(tmp_path / f"of-{runs}")
        for number in range(runs):
            path = f"CONFOCAL_0{runs}/PROJ-0042/Runs/Run_2026-04-17T{number:02}-{runs:02}"
            lab.run(path, record=record, state=state)
        how: dict[str, Any] = {"nas_path": str(lab.nas), "allow_same_filesystem": True, "accept_empty": True}
        return registration.register(f"of-{runs}", str(lab.staging), now=now, **how)

    def discover(runs: int, later: timedelta) -> int:
        root = registered.get(runs) or registered.setdefault(runs, lab_of(runs))
        with CaptureQueriesContext(connection) as asked:
            found = discovery.discover(root, now=now + later)
        assert found is not None and found.problems == []
        assert (found.new, found.unchanged) == ((0, runs) if later else (runs, 0))
        assert Run.objects.filter(root=root, state=state).count() == runs
        return len(asked)

    return discover


@pytest.mark.parametrize(
    ("record", "state", "new", "unchanged"),
    [("ingest", "sync_verified", 12, 3), ("ingest", "complete", 12, 3), ("sync_state", "sync_verified", 15, 5)],
)
def test_a_run_more_costs_few_questions(ask: Ask, new: int, unchanged: int) -> None:
    first = {runs: ask(runs, timedelta(0)) for runs in (FEW, MANY)}
    assert first[MANY] - first[FEW] <= new * (MANY - FEW)
    later = {runs: ask(runs, AN_HOUR) for runs in (FEW, MANY)}
    assert later[MANY] - later[FEW] <= unchanged * (MANY - FEW)
