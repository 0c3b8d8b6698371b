"""What timed passes take counts for 24 hours."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine

from cleanup.clears.report import ClearReport
from cleanup.clears.run_action import Action
from cleanup.lab.roots import registration
from cleanup.models import ClearAttempt, LedgerEntry, Run, StagingRoot, Sweep, SweepBreaker
from cleanup.rules import anomalies
from cleanup.rules.anomalies import Clock
from cleanup.runs import discovery
from cleanup.sweeps import breakers as sweep_breakers
from cleanup.sweeps import taking
from cleanup.sweeps.all_roots import sweep
from cleanup.sweeps.day import Recently
from tests.tools.archive import archive, clears_rows
from tests.tools.lab import Lab
from tests.tools.rows import clear_rows

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "take", clears_rows())


@pytest.fixture
def night(now: datetime, root: StagingRoot) -> Callable[..., ClearReport]:
    def go(hours: float, *, ahead: float = 0, boot: str = "a", **options: Any) -> ClearReport:
        wall = now + timedelta(hours=hours + ahead)
        clock = Clock(wall=wall, boot_id=boot, boot_seconds=1000 + hours * 3600)
        with time_machine.travel(wall, tick=False):
            return sweep(now=wall, timed=True, clock=clock, **options)

    return go


def went(swept: ClearReport) -> int:
    return swept.count(Action.CLEARED)


def standing() -> str:
    return SweepBreaker.objects.get(closed_at=None).detail


# An archive and a budget


@pytest.mark.parametrize("stage", ["promoted", "off"])
def test_a_careful_budget_takes_no_more_than_the_share_within_a_day(
    lab: Lab, root: StagingRoot, now: datetime, night: Any, policy: Any, stage: str
) -> None:
    archive(lab, root, now, runs=60)
    night(0)  # by hand so far
    policy(mode="scheduled", retain_hours=168, budget_runs=11, stage=stage)
    assert [went(night(hours)) for hours in range(1, 5)] == [11, 11, 0, 0]
    assert standing() == (
        "In the last 24 hours 22 runs (22.0 kB) went unasked; these 11 (11.0 kB) would make 33 of 60 "
        "(33.0 kB of 60.0 kB), more than 50% of the bytes."
    )
    stopped = Sweep.objects.filter(outcome="stopped").order_by("pk").first()
    assert stopped is not None and (stopped.scanned, stopped.staged_bytes) == (38, 38_000)


def test_the_first_nights_of_an_archive_of_three_hundred(
    lab: Lab, root: StagingRoot, now: datetime, night: Any, policy: Any
) -> None:
    """Promoted, with a budget: at most half goes before the question, and then what was shown.

    Takes 2 s: three hundred runs are decided six times.
    """
    archive(lab, root, now, runs=300)
    policy(mode="scheduled", retain_hours=168, budget_runs=70, stage="promoted")
    assert [went(night(hours)) for hours in range(4)] == [70, 70, 0, 0]
    breaker = SweepBreaker.objects.get()
    assert len(breaker.lets_go.runs) == 70
    with time_machine.travel(now + 4 * HOUR, tick=False):
        assert sweep_breakers.go_on(breaker, actor="ada", note="", now=now + 4 * HOUR)
    assert went(night(5)) == 70
    assert went(night(6)) == 0
    assert "140 runs (140.0 kB) went unasked; these 70 (70.0 kB) would make 210 of 300" in standing()


def test_a_second_pc_has_a_day_and_a_go_on_of_its_own(
    lab: Lab, root: StagingRoot, now: datetime, night: Any, policy: Any, tmp_path: Path
) -> None:
    archive(lab, root, now, runs=40)
    policy(mode="scheduled", retain_hours=168, stage="promoted")
    night(0)
    second = Lab(tmp_path / "second")
    places = {"nas_path": str(second.nas), "allow_same_filesystem": True, "accept_empty": True}
    other = registration.register("second", str(second.staging), **places, now=now)
    archive(second, other, now, runs=40)
    sweep_breakers.go_on(SweepBreaker.objects.get(root=root), actor="ada", note="", now=now)
    swept = night(1)
    assert {run.root for run in swept.runs if run.action is Action.CLEARED} == {"lab"}
    assert went(swept) == 40


def test_a_budget_below_the_limit_goes_on_day_after_day(
    lab: Lab, root: StagingRoot, now: datetime, night: Any, policy: Any
) -> None:
    archive(lab, root, now, runs=80)
    policy(mode="scheduled", retain_hours=168, budget_runs=11, stage="promoted")
    assert [went(night(12 * half)) for half in range(5)] == [11] * 5  # 22 a day, of 80, 69, 58, 47
    assert not SweepBreaker.objects.exists()


def test_what_went_at_the_same_hour_of_the_day_before_is_of_another_day(
    lab: Lab, root: StagingRoot, now: datetime, night: Any, policy: Any
) -> None:
    archive(lab, root, now, runs=100)
    policy(mode="scheduled", retain_hours=168, budget_runs=30, stage="promoted")
    assert went(night(0)) == 30
    assert went(night(23)) == 0
    assert "30 runs (30.0 kB) went unasked; these 30 (30.0 kB) would make 60 of 100" in standing()
    SweepBreaker.objects.update(closed_at=now, closed_by="ada", shown={})  # a go-on for none of them
    assert went(night(24)) == 30


def test_real_runs_are_counted_as_rows_are(
    lab: Lab, root: StagingRoot, now: datetime, night: Any, policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here two runs are never abnormal, not twenty."""
    monkeypatch.undo()
    monkeypatch.setattr(anomalies, "MIN_RUNS", 2)
    for day in range(1, 7):
        lab.run(f"FLOW_01/PROJ-0001/Runs/Run_2026-01-{day:02}T10-00", files={"a.bin": b"x" * 999})
    discovery.discover(root, now=now)
    policy(mode="scheduled", retain_hours=168, proof="size", budget_runs=2, stage="promoted", max_share=0.75)
    assert [went(night(hours)) for hours in range(3)] == [2, 2, 0]
    said = LedgerEntry.objects.filter(kind="authorised").values_list("bytes", "run__bytes")
    assert all(planned == known for planned, known in said), "taken and left over are counted in one measure"
    assert "would make 6 of 6" in standing()


# What counts


def test_what_people_clear_does_not_count(lab: Lab, root: StagingRoot, now: datetime, night: Any, policy: Any) -> None:
    runs = archive(lab, root, now, runs=100)
    policy(mode="scheduled", retain_hours=168, budget_runs=20, stage="promoted")
    night(0)
    with time_machine.travel(now + HOUR, tick=False):
        for run in runs[-30:]:  # by clicks
            clear_rows(run, now + HOUR, files=1, size=1000, requester="operator", actor="ada")
        Run.objects.filter(pk__in=[run.pk for run in runs[-30:]]).update(state="cleared")
        sweep(now=now + HOUR, limit=10, actor="ada")  # and by a sweep that was typed
    assert went(night(2)) == 20
    assert went(night(3)) == 0
    assert "40 runs (40.0 kB) went unasked" in standing()


def test_a_pass_that_died_and_a_root_of_another_name_hide_nothing(
    lab: Lab, root: StagingRoot, now: datetime, night: Any, policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(lab, root, now, runs=100)
    policy(mode="scheduled", retain_hours=168, budget_runs=25, stage="promoted")
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(taking, "take", clears_rows(until=15))
        night(0)
    assert Run.objects.filter(state="cleared").count() == 15
    assert went(night(1)) == 25
    StagingRoot.objects.update(name="other")
    root.refresh_from_db()
    assert went(night(2)) == 0
    assert "In the last 24 hours 40 runs (40.0 kB) went unasked; these 25 (25.0 kB) would make 65 of 100" in standing()


def test_a_clear_that_was_committed_counts_however_it_ends(
    lab: Lab, root: StagingRoot, now: datetime, night: Any, policy: Any
) -> None:
    archive(lab, root, now, runs=30)
    policy(mode="scheduled", retain_hours=168, budget_runs=5, stage="promoted")
    night(0)
    ClearAttempt.objects.update(phase="committed", freed_bytes=0)
    day = Recently(root, Clock(wall=now + HOUR), but=None).look()
    assert (day.runs, day.bytes, day.staged_runs, day.staged_bytes) == (5, 5000, 30, 30_000)


def test_clears_of_an_earlier_program_count_by_their_time(
    lab: Lab, root: StagingRoot, now: datetime, night: Any, policy: Any
) -> None:
    runs = archive(lab, root, now, runs=30)
    for run, hours in zip(runs, (1, 23, 25), strict=False):
        clear_rows(run, now - hours * HOUR, files=1, size=1000, requester="schedule", actor="")
    clear_rows(runs[3], now, files=1, size=1000, requester="schedule", actor="ada")
    assert Recently(root, Clock(wall=now), but=None).look().runs == 2


def test_a_long_pass_counts_by_when_it_took_its_runs(
    lab: Lab, root: StagingRoot, now: datetime, night: Any, policy: Any
) -> None:
    runs = archive(lab, root, now, runs=3)
    begun = Sweep.objects.create(root=root, kind="timed", host="h", now=now, started_at=now)
    for run, hours in zip(runs, (0, 2, 5), strict=True):
        clear_rows(run, now + hours * HOUR, files=1, size=1000, requester="schedule", actor="", sweep=begun)
    assert Recently(root, Clock(wall=now + 26 * HOUR), but=None).look().runs == 1


def test_another_roots_day_is_another(lab: Lab, root: StagingRoot, now: datetime, night: Any, policy: Any) -> None:
    archive(lab, root, now, runs=30)
    policy(mode="scheduled", retain_hours=168, budget_runs=5, stage="promoted")
    night(0)
    other = StagingRoot.objects.create(name="two", path="/nowhere", host=root.host, token="t", created_at=now)
    assert Recently(other, Clock(wall=now), but=None).look().runs == 0


# Clocks, and days before


def test_a_clock_that_is_set_ahead_begins_no_new_day(
    lab: Lab, root: StagingRoot, now: datetime, night: Any, policy: Any
) -> None:
    archive(lab, root, now, runs=100)
    policy(mode="scheduled", retain_hours=168, budget_runs=20, stage="promoted")
    assert [went(night(hours)) for hours in range(2)] == [20, 20]
    assert went(night(2, ahead=25)) == 0
    breaker = SweepBreaker.objects.get(closed_at=None)
    assert {sight.kind for sight in sweep_breakers.sights_of(breaker)} == {"clock", "share"}
    assert len(breaker.lets_go.runs) == 20


def test_a_day_many_times_larger_than_those_before_it_asks(
    lab: Lab, root: StagingRoot, now: datetime, night: Any, policy: Any
) -> None:
    archive(lab, root, now, runs=3, equipment="CONFOCAL_01")
    archive(lab, root, now + HOUR, runs=200, days=6.5)
    policy(mode="scheduled", retain_hours=168, budget_runs=8, stage="promoted")
    assert went(night(0)) == 3
    assert [went(night(24 * 2 + hours)) for hours in range(3)] == [8, 8, 0]
    assert standing().endswith("would make 24 runs (24.0 kB); the largest recent day had 3 runs (3.00 kB).")


def test_what_comes_in_verified_and_goes_at_once_is_no_archive(
    lab: Lab, root: StagingRoot, now: datetime, night: Any, policy: Any
) -> None:
    """A lab that keeps nothing takes more in a day than it ever holds, and is not asked daily."""
    policy(mode="scheduled", retain_hours=0, stage="promoted")
    night(0)
    for hours in (1, 2, 3, 4):
        archive(lab, root, now + hours * HOUR, runs=9, days=1 / 24 / 4)
        assert went(night(hours + 0.5)) == 9
    assert not SweepBreaker.objects.exists()
    archive(lab, root, now + 5 * HOUR, runs=30, days=90)  # old ones are: they were somewhere else before
    assert went(night(5.5)) == 0
