"""Odd entries at a run's top, and a failing database."""

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError

from cleanup.clears.clear_now import clear
from cleanup.clears.report import ClearReport
from cleanup.clears.run_action import Action
from cleanup.models import Hold, LedgerEntry, Run, Sweep
from cleanup.runs import discovery
from cleanup.runs.holds import holds
from cleanup.sweeps.all_roots import sweep
from cleanup.sweeps.journal import Journal
from cleanup.sweeps.record import Recorder
from tests.faults.scene import everything
from tests.tools.lab import Lab

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

FOLDER = "FLOW_01/PROJ-0001/Runs"


@pytest.fixture
def runs(lab: Lab, root: Any, now: datetime, policy: Callable[..., Any]) -> list[Path]:
    built = [
        lab.run(f"{FOLDER}/Run_2026-02-01T0{hour}-00", verified_at=now - timedelta(hours=100 - hour))
        for hour in range(6)
    ]
    discovery.discover(root, now=now)
    policy(mode="scheduled", retain_hours=24, proof="record", rehearse=False)
    return built


def count(swept: ClearReport) -> int:
    return swept.count(Action.CLEARED, Action.PARTIAL)


@pytest.mark.parametrize("seen", [False, True], ids=["before_discovery_saw_it", "after"])
def test_any_entry_under_the_holds_name_keeps_the_run(
    runs: list[Path], lab: Lab, root: Any, now: datetime, seen: bool
) -> None:
    kept = [run / ".exlab-hold" for run in runs]
    kept[0].write_bytes(b"\xff\xfe\x00\xd8")
    kept[1].mkdir(mode=0o000)
    kept[2].symlink_to(runs[0])
    kept[3].symlink_to("nowhere")
    os.mkfifo(kept[4])
    # By another name it holds nothing, but it is data that no manifest lists.
    (runs[5] / ".EXLAB-HOLD").touch()
    if seen:
        discovery.discover(root, now=now)
    before = everything(lab)
    passes = [sweep(now=now, timed=True), sweep(now=now), sweep(now=now, limit=1), clear(Run.objects.all(), now=now)]
    assert [count(swept) for swept in passes] == [0, 0, 0, 0]
    assert {run.reason for run in passes[-1].runs} == {"held", "not_in_manifest"}
    assert everything(lab) == before


def test_nothing_is_taken_without_the_place_written_down(
    runs: list[Path], lab: Lab, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise OperationalError("database or disk is full")

    monkeypatch.setattr(Journal, "remember", refuse)
    before = everything(lab)
    swept = sweep(now=now, timed=True)
    assert [problem.reason for problem in swept.problems] == ["sweep_failed"]
    assert everything(lab) == before
    assert not LedgerEntry.objects.exists()


@pytest.mark.both_engines
def test_a_record_that_cannot_be_written_ends_the_pass_at_once(
    runs: list[Path], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush, flushed = Recorder.flush, []

    def refuse(recorder: Recorder) -> None:
        flushed.append(recorder)
        if len(flushed) > 1:
            raise OperationalError("database or disk is full")
        flush(recorder)

    monkeypatch.setattr(Recorder, "flush", refuse)
    assert count(sweep(now=now, timed=True)) == 1
    monkeypatch.undo()
    assert [run.exists() for run in runs] == [False, True, True, True, True, True]
    assert LedgerEntry.objects.filter(kind="completed").count() == 1
    assert count(sweep(now=now, timed=True)) == 5
    assert {sweep.outcome for sweep in Sweep.objects.all()} == {"interrupted", "done"}


def test_a_hold_laid_between_two_clears_of_a_pass_is_kept(
    runs: list[Path], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = Recorder.flush

    def hold_the_rest(recorder: Recorder) -> None:
        flush(recorder)
        if runs[0].exists() or Hold.objects.exists():
            return
        for run in Run.objects.staged():
            holds.hold(run, owner="ada", reason="needed", until=now + timedelta(days=1), now=now)

    monkeypatch.setattr(Recorder, "flush", hold_the_rest)
    swept = sweep(now=now, timed=True)
    assert [run.reason for run in swept.runs] == ["retention", *["held"] * 5]
    assert [run.exists() for run in runs] == [False, *[True] * 5]
