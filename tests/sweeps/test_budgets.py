"""Budgets limit a sweep; no run waits for ever behind others."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from cleanup.clears import protocol, queue
from cleanup.clears.report import ClearReport
from cleanup.clears.run_action import Action
from cleanup.models import ClearAttempt, Run, Sweep
from cleanup.runs import discovery
from cleanup.sweeps.all_roots import sweep
from tests.tools.lab import Lab

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

PATHS = [f"FLOW_01/PROJ-0001/Runs/Run_2026-01-0{day}T10-00" for day in range(1, 6)]


@pytest.fixture
def due(lab: Lab, root: Any, now: datetime, policy: Callable[..., Any]) -> Callable[..., Any]:
    """Five due runs, each verified an hour after the one before; `due(budget_runs=2)` limits a sweep."""
    for number, run_path in enumerate(PATHS):
        lab.run(run_path, files={"a.bin": b"x" * 4000}, verified_at=now - timedelta(hours=100 - number))
    discovery.discover(root, now=now)

    def bound(**budget: Any) -> None:
        policy(root=root, mode="scheduled", retain_hours=0, proof="size", **budget)

    return bound


def paths(swept: ClearReport, *actions: Action) -> list[str]:
    return [run.run_path for run in swept.runs if run.action in actions]


def left_over(swept: ClearReport) -> list[str]:
    return [run.run_path for run in swept.runs if run.reason == "budget_exhausted"]


@pytest.mark.both_engines
def test_what_is_left_over_says_so_and_comes_first_next_time(due: Callable[..., Any], now: datetime) -> None:
    due(budget_runs=2)
    swept = sweep(now=now)
    assert paths(swept, Action.CLEARED) == PATHS[:2]
    assert left_over(swept) == PATHS[2:]
    assert {run.detail for run in swept.runs if run.reason == "budget_exhausted"} == {"2 runs"}
    assert (swept.candidates, swept.count(Action.SKIPPED)) == (5, 3)
    assert paths(sweep(now=now), Action.CLEARED) == PATHS[2:4]
    assert paths(sweep(now=now), Action.CLEARED) == PATHS[4:]


def test_runs_that_are_refused_use_up_no_runs_of_the_budget(due: Callable[..., Any], lab: Lab, now: datetime) -> None:
    due(budget_runs=1)
    (lab.staging / PATHS[0] / "extra").write_bytes(b"x")
    assert paths(sweep(now=now), Action.CLEARED) == [PATHS[1]]


def test_a_budget_of_bytes(due: Callable[..., Any], now: datetime) -> None:
    sizes = dict(Run.objects.values_list("run_path", "bytes"))
    due(budget_bytes=sizes[PATHS[0]] + sizes[PATHS[1]])
    assert paths(sweep(now=now), Action.CLEARED) == PATHS[:2]
    due(budget_bytes=1)
    assert paths(sweep(now=now), Action.CLEARED) == [PATHS[2]], "a run that is larger than the budget goes alone"


def test_a_budget_of_minutes(due: Callable[..., Any], now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    due(budget_minutes=10)
    minutes = iter([5, 10, 11, 12])  # the first run has its turn without being asked
    monkeypatch.setattr(
        "cleanup.sweeps.taking.Taking._minutes", lambda self: next(minutes)
    )  # no test waits for ten minutes
    swept = sweep(now=now)
    assert paths(swept, Action.CLEARED) == PATHS[:2]
    assert {run.detail for run in swept.runs if run.reason == "budget_exhausted"} == {"10 minutes"}


def test_a_persons_limit_takes_the_place_of_the_budget_of_runs(due: Callable[..., Any], now: datetime) -> None:
    due(budget_runs=1)
    assert paths(sweep(now=now, limit=3, dry_run=True), Action.WOULD_CLEAR) == PATHS[:3]


def test_a_dry_run_picks_what_the_next_sweep_takes(due: Callable[..., Any], now: datetime) -> None:
    due(budget_runs=2)
    for expected in (PATHS[:2], PATHS[2:4], PATHS[4:]):
        assert paths(sweep(now=now, dry_run=True), Action.WOULD_CLEAR) == expected
        assert paths(sweep(now=now), Action.CLEARED) == expected


def test_runs_that_use_up_the_minutes_in_vain_do_not_starve_the_others(
    due: Callable[..., Any], lab: Lab, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest run is refused only after all its bytes were read, and used up the minutes of each sweep."""
    due(budget_minutes=1)
    (lab.staging / PATHS[0] / "extra").write_bytes(b"x")
    minutes = iter([1, 1, 1, 1] * 9)
    monkeypatch.setattr("cleanup.sweeps.taking.Taking._minutes", lambda self: next(minutes))
    assert paths(sweep(now=now), Action.CLEARED) == []
    assert paths(sweep(now=now), Action.CLEARED) == [PATHS[1]]


def test_a_run_that_kills_every_sweep_does_not_starve_the_others(
    due: Callable[..., Any], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    due()
    perform = protocol.perform

    def die(attempt: ClearAttempt, **options: Any) -> ClearAttempt:
        if attempt.run.run_path == PATHS[1]:
            queue.save(attempt, begun=False)
            raise SystemExit("killed")  # what no `except Exception` sees, as the end of a process is
        return perform(attempt, **options)

    monkeypatch.setattr(protocol, "perform", die)
    with pytest.raises(SystemExit):
        sweep(now=now)
    assert paths(sweep(now=now), Action.CLEARED) == PATHS[2:]
    assert [one.outcome for one in Sweep.objects.order_by("pk")] == ["interrupted", "done"]


def test_what_was_left_over_is_not_forgotten_by_a_sweep_that_took_nothing(
    due: Callable[..., Any], now: datetime, lab: Lab, root: Any
) -> None:
    due(budget_runs=2)
    sweep(now=now)
    assert paths(sweep(now=now, limit=0), Action.CLEARED) == []
    assert paths(sweep(now=now), Action.CLEARED) == PATHS[2:4]


def test_a_small_budget_of_minutes_still_clears_one(
    due: Callable[..., Any], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deciding alone may take longer than the budget."""
    due(budget_minutes=1)
    monkeypatch.setattr("cleanup.sweeps.taking.Taking._minutes", lambda self: 5)
    assert paths(sweep(now=now), Action.CLEARED) == PATHS[:1]
    assert paths(sweep(now=now), Action.CLEARED) == PATHS[1:2]
