"""Sweeps of a full staging root."""

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from cleanup.clears.report import ClearReport
from cleanup.clears.run_action import Action
from cleanup.models import Alert, ClearAttempt, LedgerEntry, Run, Sweep
from cleanup.runs import discovery
from cleanup.storage.root_files import reserve
from cleanup.sweeps import record
from cleanup.sweeps.all_roots import sweep
from tests.faults.scene import everything
from tests.tools.lab import Lab

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

AGES = {  # hours since the verification
    "FLOW_01/PROJ-0001/Runs/Run_2026-01-01T10-00": 96,
    "FLOW_01/PROJ-0001/Runs/Run_2026-01-02T10-00": 72,
    "FLOW_01/PROJ-0001/Runs/Run_2026-01-03T10-00": 48,
    "FLOW_01/PROJ-0001/Runs/Run_2026-01-04T10-00": 24,
}
OLDEST, OLD, YOUNG, YOUNGEST = AGES


@pytest.fixture
def full(lab: Lab, root: Any, now: datetime, policy: Callable[..., Any]) -> Callable[..., Any]:
    """Four equal runs, kept for 90 hours, under pressure for 36; `full(max_runs=2)` limits the root."""
    for run_path, hours in AGES.items():
        lab.run(run_path, files={"a.bin": b"x" * 5000}, verified_at=now - timedelta(hours=hours))
    discovery.discover(root, now=now)

    def limit(mode: str = "scheduled", **limits: Any) -> None:
        policy(root=root, mode=mode, retain_hours=90, min_retain_hours=36, proof="size", **limits)

    return limit


def cleared(swept: ClearReport) -> dict[str, str]:
    went = (Action.CLEARED, Action.WOULD_CLEAR)
    return {run.run_path: run.reason for run in swept.runs if run.action in went}


def reasons(swept: ClearReport) -> dict[str, str]:
    return {run.run_path: run.reason for run in swept.runs}


def test_without_pressure_the_retention_decides(full: Callable[..., Any], now: datetime) -> None:
    full(max_runs=4, max_bytes=10**9)
    assert cleared(sweep(now=now)) == {OLDEST: "retention"}


@pytest.mark.both_engines
def test_as_many_runs_as_are_too_many(full: Callable[..., Any], now: datetime) -> None:
    full(max_runs=2)
    swept = sweep(now=now)
    assert cleared(swept) == {OLDEST: "retention+max_runs", OLD: "max_runs"}
    assert reasons(swept)[YOUNG] == reasons(swept)[YOUNGEST] == "retention_not_elapsed"
    assert (swept.candidates, swept.problems) == (2, [])
    (sweep_row,) = Sweep.objects.all()
    assert (sweep_row.pressure["wanted"]["runs_over"], sweep_row.pressure["left"]["runs_over"]) == (2, 0)


def test_attempt_and_ledger_say_why(full: Callable[..., Any], now: datetime) -> None:
    full(max_runs=2)
    sweep(now=now)
    causes = {"retention+max_runs", "max_runs"}
    assert set(ClearAttempt.objects.values_list("cause", flat=True)) == causes
    assert set(LedgerEntry.objects.filter(kind="completed").values_list("cause", flat=True)) == causes


def test_bytes_are_those_of_all_staged_runs(full: Callable[..., Any], lab: Lab, root: Any, now: datetime) -> None:
    """A byte cap on old runs alone would miss a disk full of new ones."""
    lab.run("FLOW_01/PROJ-0001/Runs/Run_2026-06-15T07-00", files={"big.bin": b"x" * 50_000}, state="staging")
    discovery.discover(root, now=now)
    one = Run.objects.get(run_path=OLD).bytes or 0
    total = sum(size or 0 for size in Run.objects.values_list("bytes", flat=True))
    full(max_bytes=total - one - 1)
    assert cleared(sweep(now=now)) == {OLDEST: "retention+max_bytes", OLD: "max_bytes"}


def test_the_floor_under_pressure_stands(full: Callable[..., Any], now: datetime, root: Any) -> None:
    full(max_runs=0)
    swept = sweep(now=now)
    assert cleared(swept) == {OLDEST: "retention+max_runs", OLD: "max_runs", YOUNG: "max_runs"}
    (problem,) = swept.problems
    assert (problem.root, problem.reason, problem.detail) == ("lab", "limit_exceeded", "1 run above max_runs")
    alert = Alert.objects.get(kind="pressure")
    assert (alert.root, alert.reason, alert.ended_at) == (root, "limit_exceeded", None)


def test_the_floor_is_the_retention_unless_one_is_set(
    lab: Lab, root: Any, now: datetime, policy: Callable[..., Any]
) -> None:
    lab.run(OLDEST, verified_at=now - timedelta(hours=20))
    discovery.discover(root, now=now)
    policy(root=root, mode="scheduled", retain_hours=21, max_runs=0)
    assert cleared(sweep(now=now)) == {}
    assert cleared(sweep(now=now + timedelta(hours=1))) == {OLDEST: "retention+max_runs"}


def test_every_other_gate_stands_and_the_next_makes_up(
    full: Callable[..., Any], lab: Lab, root: Any, now: datetime
) -> None:
    full(max_runs=2)
    (lab.staging / OLD / "extra").write_bytes(b"x")
    swept = sweep(now=now)
    assert cleared(swept) == {OLDEST: "retention+max_runs", YOUNG: "max_runs"}
    assert reasons(swept)[OLD] == "not_in_manifest"


def test_manual_mode_only_warns(full: Callable[..., Any], lab: Lab, now: datetime) -> None:
    full(mode="manual", max_runs=1)
    before = everything(lab)
    swept = sweep(now=now)
    assert cleared(swept) == {}
    assert everything(lab) == before
    assert [problem.reason for problem in swept.problems] == ["limit_exceeded"]
    assert Alert.objects.filter(kind="pressure", ended_at=None).count() == 1


def test_the_warning_ends_with_the_pressure(full: Callable[..., Any], now: datetime) -> None:
    full(mode="manual", max_runs=1)
    sweep(now=now)
    full(mode="manual", max_runs=None)
    sweep(now=now)
    assert not Alert.objects.filter(kind="pressure", ended_at=None).exists()


def test_a_dry_run_shows_it_and_raises_no_alert(full: Callable[..., Any], lab: Lab, now: datetime) -> None:
    full(max_runs=0)
    before = everything(lab)
    shown = sweep(now=now, dry_run=True)
    assert (everything(lab), Alert.objects.exists()) == (before, False)
    taken = sweep(now=now)
    assert cleared(shown) == cleared(taken)
    assert shown.problems == taken.problems


def test_free_space_is_made_up_to_the_upper_mark(
    full: Callable[..., Any], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mocked: no test fills a disk to the byte; tests/faults/test_full_disk.py fills a real one."""
    allocated = Run.objects.get(run_path=OLD).facts["allocated_bytes"]
    free = 10**6
    monkeypatch.setattr(reserve, "free_bytes", lambda directory: free)
    full(free_start_bytes=free, free_stop_bytes=free + 2 * allocated)
    assert cleared(sweep(now=now, dry_run=True)) == {OLDEST: "retention"}  # not below the lower mark
    full(free_start_bytes=free + 1, free_stop_bytes=free + allocated + 1)
    assert cleared(sweep(now=now)) == {OLDEST: "retention+free_space", OLD: "free_space"}


def test_free_space_goes_on_where_a_budget_stopped_it(
    full: Callable[..., Any], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocated = Run.objects.get(run_path=OLD).facts["allocated_bytes"]
    free = 10**6
    monkeypatch.setattr(reserve, "free_bytes", lambda directory: free)
    full(free_start_bytes=free + 1, free_stop_bytes=free + 3 * allocated, budget_runs=1)
    assert cleared(sweep(now=now)) == {OLDEST: "retention+free_space"}
    free += allocated  # above the lower mark by now, and below the upper one
    assert cleared(sweep(now=now)) == {OLD: "free_space"}
    free += allocated
    assert cleared(sweep(now=now)) == {YOUNG: "free_space"}
    free += allocated
    assert cleared(sweep(now=now)) == {}


def test_real_free_space_is_asked_of_the_roots_own_disk(full: Callable[..., Any], lab: Lab, now: datetime) -> None:
    found = os.statvfs(lab.staging)
    disk = found.f_bavail * found.f_frsize
    full(free_start_bytes=10 * disk, free_stop_bytes=20 * disk)
    swept = sweep(now=now, dry_run=True)
    assert cleared(swept) == {OLDEST: "retention+free_space", OLD: "free_space", YOUNG: "free_space"}
    assert "bytes of free space short of free_stop" in swept.problems[0].detail


def test_free_space_is_not_looked_for_in_runs_that_free_none(
    full: Callable[..., Any], lab: Lab, root: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = lab.base / "kept"
    kept.mkdir()
    for number, path in enumerate(path for path in (lab.staging / OLD).rglob("*") if path.is_file()):
        os.link(path, kept / str(number))
    discovery.discover(root, now=now)
    assert Run.objects.get(run_path=OLD).facts["allocated_bytes"] == 0
    allocated = Run.objects.get(run_path=YOUNG).facts["allocated_bytes"]
    monkeypatch.setattr(reserve, "free_bytes", lambda directory: 10**6)
    full(free_start_bytes=10**6 + 1, free_stop_bytes=10**6 + 2 * allocated)
    assert cleared(sweep(now=now)) == {OLDEST: "retention+free_space", YOUNG: "free_space"}


def test_a_rehearsal_says_no_more_than_would_go(
    full: Callable[..., Any], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocated = Run.objects.get(run_path=OLD).facts["allocated_bytes"]
    monkeypatch.setattr(reserve, "free_bytes", lambda directory: 10**6)
    full(free_start_bytes=10**6 + 1, free_stop_bytes=10**6 + 2 * allocated)
    rehearsed = sweep(now=now, timed=True)
    assert list(cleared(rehearsed)) == list(cleared(sweep(now=now, dry_run=True))) == [OLDEST, OLD]
    assert set(cleared(rehearsed).values()) == {"rehearsal"}


@pytest.mark.parametrize(
    ("pressure", "all_of_it", "unasked"),
    [
        ({}, False, False),
        ({"left": {"free_wanted": 5}}, True, True),
        ({"left": {"free_wanted": 5}, "meanwhile": {"free_wanted": 0}}, True, False),
        ({"left": {"free_wanted": 0}, "meanwhile": {"free_wanted": 5}}, False, True),
    ],
)
def test_room_that_was_begun_goes_on_by_what_is_approved_and_by_what_is_rehearsed(
    pressure: dict[str, Any], all_of_it: bool, unasked: bool
) -> None:
    before = Sweep(pressure=pressure)
    assert record.is_going_on(before) is all_of_it
    assert record.is_going_on(before, unasked=True) is unasked
    assert not record.is_going_on(None)
