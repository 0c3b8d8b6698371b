"""An unattended pass stops before anything abnormal, and waits for an operator."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from cleanup.clears.report import ClearReport
from cleanup.clears.run_action import Action
from cleanup.models import ClearAttempt, RetentionPolicy, Run, Sweep, SweepBreaker, SweptRun
from cleanup.rules.anomalies import Anomaly, AnomalyKind, Clock
from cleanup.runs import discovery
from cleanup.storage import linux
from cleanup.storage.data_directory.datadir import DataDir
from cleanup.sweeps import breakers, one_root
from cleanup.sweeps.all_roots import sweep
from tests.faults.scene import everything
from tests.tools.lab import Lab

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

FOLDER = "FLOW_01/PROJ-0001/Runs"
FIRST = f"{FOLDER}/Run_2026-01-01T10-00"


@pytest.fixture
def real(lab: Lab, root: Any, now: datetime) -> Run:
    lab.run(FIRST, files={"a.bin": b"x" * 4000}, verified_at=now - timedelta(hours=100))
    discovery.discover(root, now=now)
    return Run.objects.get()


@pytest.fixture
def crowd(real: Run, now: datetime) -> Callable[[int], None]:
    """As many rows beside the real run: due, and refused by a look, since the disk has nothing.

    A large unverified one makes their share of the root small.
    """
    large = {"run_path": f"{FOLDER}/Run_2026-01-02T10-00", "state": "staging", "bytes": 10**9}
    known = Run.objects.filter(pk=real.pk).values().get()
    unverified = {**known["facts"], "recorded_state": "staging", "ingest_state": "staging"}
    known |= {"twin_key": "", "twin_place": ""}  # each at a different place
    Run.objects.create(**{**known, "id": None, "facts": unverified, **large})

    def add(count: int) -> None:
        taken = Run.objects.count()
        Run.objects.bulk_create(
            Run(**{**known, "id": None, "run_path": f"{FOLDER}/Run_2026-02-{day // 24 + 1:02}T{day % 24:02}-00"})
            for day in range(taken, taken + count)
        )

    return add


def timed(now: datetime, **options: Any) -> ClearReport:
    return sweep(now=now, timed=True, **options)


def reasons(swept: ClearReport) -> set[str]:
    return {run.reason for run in swept.runs}


def go_on(now: datetime, note: str = "") -> bool:
    return breakers.go_on(SweepBreaker.objects.get(closed_at=None), actor="ada", note=note, now=now)


# A fresh policy


def test_a_fresh_policy_that_was_not_rehearsed_waits_for_a_person(
    crowd: Any, lab: Lab, now: datetime, policy: Callable[..., Any]
) -> None:
    crowd(25)
    policy(mode="scheduled", retain_hours=24, rehearse=False)
    before = everything(lab)
    swept = timed(now)
    assert reasons(swept) == {"breaker_open"}
    assert (swept.candidates, swept.failed) == (26, 0)
    assert swept.scanned == 27
    assert everything(lab) == before
    assert not ClearAttempt.objects.exists()
    breaker = SweepBreaker.objects.get()
    assert (breaker.kind, breaker.closed_at) == ("policy", None)
    assert "26 of 26 runs are due by a policy that is new" in breaker.detail
    assert [(problem.reason, problem.detail) for problem in swept.problems] == [("breaker_open", breaker.detail)]
    sweep_row = Sweep.objects.get()
    # All that it looked at stayed; the 26 that were due and the one that is not verified.
    assert (sweep_row.outcome, sweep_row.reason, sweep_row.skipped) == ("stopped", "breaker_open", 27)
    assert SweptRun.objects.filter(first=sweep_row).count() == 27


def test_it_stays_open_however_often_the_schedule_asks(crowd: Any, now: datetime, policy: Callable[..., Any]) -> None:
    crowd(25)
    policy(mode="scheduled", retain_hours=24, rehearse=False)
    for hours in range(3):
        assert reasons(timed(now + timedelta(hours=hours))) == {"breaker_open"}
    assert SweepBreaker.objects.count() == 1


@pytest.mark.both_engines
def test_a_go_on_lets_the_next_sweep_do_what_was_stopped(crowd: Any, now: datetime, policy: Callable[..., Any]) -> None:
    crowd(25)
    policy(mode="scheduled", retain_hours=24, rehearse=False)
    timed(now)
    assert go_on(now, "the new policy is meant")
    assert not breakers.go_on(SweepBreaker.objects.get(), actor="bob", note="", now=now), "said once is said"
    swept = timed(now + timedelta(hours=1))
    assert [run.run_path for run in swept.runs if run.action is Action.CLEARED] == [FIRST]
    assert reasons(swept) == {"retention", "missing_directory"}
    breaker = SweepBreaker.objects.get()
    assert (breaker.closed_by, breaker.note) == ("ada", "the new policy is meant")
    assert breaker.used == Sweep.objects.latest("pk")
    crowd(99)  # nothing of it is left for another time
    policy(mode="scheduled", retain_hours=1, rehearse=False)
    assert reasons(timed(now + timedelta(hours=2))) >= {"breaker_open"}


def test_a_go_on_covers_no_policy_that_was_made_after_it(crowd: Any, now: datetime, policy: Callable[..., Any]) -> None:
    crowd(25)
    policy(mode="scheduled", retain_hours=24, rehearse=False)
    timed(now)
    go_on(now)
    policy(mode="scheduled", retain_hours=1, rehearse=False)
    assert reasons(timed(now + timedelta(hours=1))) == {"breaker_open"}


def test_a_go_on_does_not_last_for_ever(crowd: Any, now: datetime, policy: Callable[..., Any]) -> None:
    crowd(25)
    policy(mode="scheduled", retain_hours=24, rehearse=False)
    timed(now)
    go_on(now)
    assert reasons(timed(now + timedelta(days=3))) == {"breaker_open"}


def test_a_policy_that_was_promoted_is_not_fresh(crowd: Any, now: datetime, policy: Callable[..., Any]) -> None:
    crowd(25)
    policy(mode="scheduled", retain_hours=24, stage="promoted")
    assert reasons(timed(now)) == {"retention", "missing_directory"}


def test_few_runs_go_under_a_fresh_policy(real: Run, now: datetime, policy: Callable[..., Any]) -> None:
    policy(mode="scheduled", retain_hours=24, rehearse=False)
    assert timed(now).count(Action.CLEARED) == 1


def test_a_persons_sweep_is_stopped_by_none_of_it(crowd: Any, now: datetime, policy: Callable[..., Any]) -> None:
    crowd(25)
    policy(mode="scheduled", retain_hours=24, rehearse=False)
    assert reasons(timed(now)) == {"breaker_open"}
    assert sweep(now=now).count(Action.CLEARED) == 1


def test_a_dry_run_of_the_timed_pass_shows_it_and_opens_nothing(
    crowd: Any, now: datetime, policy: Callable[..., Any]
) -> None:
    crowd(25)
    policy(mode="scheduled", retain_hours=24, rehearse=False)
    shown = timed(now, dry_run=True)
    assert reasons(shown) == {"breaker_open"}
    assert not SweepBreaker.objects.exists()
    assert reasons(sweep(now=now, dry_run=True)) == {"retention", "missing_directory"}


# Size, share, clock


def test_a_sweep_many_times_larger_than_the_recent_ones(
    crowd: Any, real: Run, now: datetime, policy: Callable[..., Any]
) -> None:
    policy(mode="scheduled", retain_hours=24, stage="promoted", max_share=1)
    timed(now)
    crowd(25)
    swept = timed(now)
    assert reasons(swept) == {"breaker_open"}
    assert SweepBreaker.objects.get().kind == "size"
    assert "the largest recent pass cleared 1 run," in SweepBreaker.objects.get().detail


def test_a_sweep_over_the_share_of_the_root(crowd: Any, now: datetime, policy: Callable[..., Any], root: Any) -> None:
    crowd(25)
    policy(mode="scheduled", retain_hours=24, stage="promoted")
    policy(root=root, max_share=1e-9)
    assert reasons(timed(now)) == {"breaker_open"}
    assert SweepBreaker.objects.get().kind == "share"
    policy(root=root, max_share=0.5)
    go_on(now)
    assert "breaker_open" not in reasons(timed(now))


def test_a_clock_that_jumps_stops_the_pass(real: Run, lab: Lab, now: datetime, policy: Callable[..., Any]) -> None:
    policy(mode="scheduled", retain_hours=1000, rehearse=False)
    timed(now, clock=Clock(wall=now, boot_id="a", boot_seconds=100))
    before = everything(lab)
    later = now + timedelta(days=60)
    swept = timed(later, clock=Clock(wall=later, boot_id="a", boot_seconds=3700))
    assert reasons(swept) == {"breaker_open"}
    assert SweepBreaker.objects.get().kind == "clock"
    assert everything(lab) == before
    later += timedelta(hours=1)
    assert reasons(timed(later, clock=Clock(wall=later, boot_id="a", boot_seconds=7300))) == {"breaker_open"}
    go_on(later)
    assert timed(later, clock=Clock(wall=later, boot_id="a", boot_seconds=7301)).count(Action.CLEARED) == 1


def test_this_hosts_clock_is_read_with_the_time_since_its_boot() -> None:
    first = breakers.read_clock(timezone.now())
    second = breakers.read_clock(timezone.now())
    assert first.boot_id == second.boot_id != ""
    assert first.boot_seconds is not None and second.boot_seconds is not None
    assert 0 <= second.boot_seconds - first.boot_seconds < 60


# Failures


@pytest.fixture
def failing(lab: Lab, root: Any, now: datetime, policy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    for day in range(1, 6):
        lab.run(f"{FOLDER}/Run_2026-03-0{day}T10-00", files={"a.bin": b"x"}, verified_at=now - timedelta(hours=100))
    discovery.discover(root, now=now)
    policy(mode="scheduled", retain_hours=0, proof="size", rehearse=False)

    def no_space(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DataDir, "write_plan", no_space)
    return monkeypatch


@pytest.mark.parametrize("as_timed", [True, False])
def test_three_failures_in_a_row_stop_any_sweep(failing: Any, now: datetime, as_timed: bool) -> None:
    swept = sweep(now=now, timed=as_timed)
    assert (swept.failed, swept.count(Action.SKIPPED)) == (3, 2)
    assert [run.reason for run in swept.runs] == ["storage_error"] * 3 + ["breaker_open"] * 2
    assert SweepBreaker.objects.get().kind == "failures"
    again = sweep(now=now, timed=as_timed)
    assert (again.failed, again.count(Action.SKIPPED)) == (0, 5)
    assert ClearAttempt.objects.count() == 3


def test_a_full_disk_parks_no_run_before_a_person_has_looked(failing: Any, now: datetime) -> None:
    for hours in range(5):
        timed(now + timedelta(hours=hours))
    assert set(Run.objects.values_list("failures", flat=True)) == {0, 1}
    failing.undo()
    assert timed(now).count(Action.CLEARED) == 0
    go_on(now)
    assert timed(now).count(Action.CLEARED) == 5


def test_refusals_are_no_failures(lab: Lab, root: Any, now: datetime, policy: Callable[..., Any]) -> None:
    for day in range(1, 6):
        path = lab.run(f"{FOLDER}/Run_2026-03-0{day}T10-00", files={"a.bin": b"x"}, verified_at=now - timedelta(days=9))
        if day < 5:
            (path / "extra").write_bytes(b"x")
    discovery.discover(root, now=now)
    policy(mode="scheduled", retain_hours=0, rehearse=False)
    assert timed(now).count(Action.CLEARED) == 1
    assert not SweepBreaker.objects.exists()


# What a pass is compared with, and what a go-on covers


def die(*args: Any, **options: Any) -> None:
    raise SystemExit  # as the end of its process is, it passes by every `except Exception`


def killed(now: datetime, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(one_root.RootSweep, "_pressure", die)
        timed(now, **options)


def test_a_killed_pass_makes_no_policy_old(
    crowd: Any, now: datetime, policy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd(25)
    policy(mode="scheduled", retain_hours=24, rehearse=False)
    killed(now, monkeypatch)
    assert reasons(timed(now + timedelta(days=2))) == {"breaker_open"}


def test_a_killed_pass_makes_no_clock_right(
    real: Run, now: datetime, policy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy(mode="scheduled", retain_hours=1000, rehearse=False)
    timed(now, clock=Clock(wall=now, boot_id="a", boot_seconds=0))
    later = now + timedelta(days=60)
    killed(later, monkeypatch, clock=Clock(wall=later, boot_id="a", boot_seconds=3600))
    later += timedelta(hours=1)
    assert reasons(timed(later, clock=Clock(wall=later, boot_id="a", boot_seconds=7200))) == {"breaker_open"}


def test_a_pass_that_a_breaker_stopped_makes_no_clock_right(
    crowd: Any, now: datetime, policy: Callable[..., Any]
) -> None:
    crowd(25)
    policy(mode="scheduled", retain_hours=24, rehearse=False)
    timed(now, clock=Clock(wall=now, boot_id="a", boot_seconds=0))
    later = now + timedelta(days=60)
    timed(later, clock=Clock(wall=later, boot_id="a", boot_seconds=3600))
    go_on(later)  # to the policy: it is all that was seen
    later += timedelta(hours=1)
    assert reasons(timed(later, clock=Clock(wall=later, boot_id="a", boot_seconds=7200))) == {"breaker_open"}
    assert SweepBreaker.objects.get(closed_at=None).kind == "clock"


def test_a_version_written_under_an_open_breaker_is_asked_about_as_well(
    crowd: Any, now: datetime, policy: Callable[..., Any], root: Any
) -> None:
    crowd(25)
    policy(root=root, max_share=1e-9, rehearse=False)
    policy(mode="scheduled", retain_hours=24, stage="promoted")
    timed(now)
    assert SweepBreaker.objects.get().kind == "share"
    policy(mode="scheduled", retain_hours=24, equipment="FLOW_01", rehearse=False)
    policy(mode="manual", stage="promoted")
    # What would go by now, and by which version, was not shown: the go-on is refused until it was.
    assert not go_on(now)
    assert reasons(timed(now + timedelta(hours=1))) == {"breaker_open"}
    newest = RetentionPolicy.objects.filter(equipment="FLOW_01").get()
    assert SweepBreaker.objects.get().lets_go.versions == (newest.version,)
    assert go_on(now)
    assert timed(now + timedelta(hours=1)).count(Action.CLEARED) == 1


def test_a_pass_that_could_take_nothing_makes_no_policy_old(
    crowd: Any, now: datetime, policy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd(25)
    policy(mode="scheduled", retain_hours=24, rehearse=False)
    with monkeypatch.context() as patch:
        patch.setattr(linux, "missing_calls", lambda: ["openat2"])
        assert reasons(timed(now)) == {"clearing_unsupported"}
    assert reasons(timed(now + timedelta(days=2))) == {"breaker_open"}


def test_a_go_on_to_a_small_jump_covers_no_large_one(real: Run, now: datetime, policy: Callable[..., Any]) -> None:
    policy(mode="scheduled", retain_hours=1000, rehearse=False)
    timed(now, clock=Clock(wall=now, boot_id="a", boot_seconds=0))
    at = now + timedelta(minutes=20)
    timed(at, clock=Clock(wall=at, boot_id="a", boot_seconds=600))
    go_on(at)
    at = now + timedelta(hours=40)
    timed(at, clock=Clock(wall=at, boot_id="a", boot_seconds=1200))
    assert SweepBreaker.objects.get(closed_at=None).kind == "clock"


def test_limits_that_are_new_and_were_not_rehearsed_are_a_fresh_policy(
    crowd: Any, now: datetime, policy: Callable[..., Any], root: Any
) -> None:
    crowd(25)
    policy(mode="scheduled", retain_hours=1000, min_retain_hours=24, rehearse=False)
    assert reasons(timed(now)) == {"retention_not_elapsed"}
    policy(root=root, max_runs=0, rehearse=False)
    assert reasons(timed(now + timedelta(hours=1))) == {"breaker_open"}
    assert SweepBreaker.objects.get().kind == "policy"


def test_what_a_new_version_leaves_to_a_wider_scope_is_a_fresh_policy(
    crowd: Any, now: datetime, policy: Callable[..., Any]
) -> None:
    crowd(25)
    policy(mode="scheduled", retain_hours=24, rehearse=False)
    policy(mode="manual", equipment="FLOW_01", rehearse=False)
    timed(now)
    policy(mode="", equipment="FLOW_01", rehearse=False)
    assert reasons(timed(now + timedelta(hours=1))) == {"breaker_open"}


def test_what_goes_in_the_place_of_refused_runs_is_judged_as_it_goes(
    crowd: Any, lab: Lab, root: Any, now: datetime, policy: Callable[..., Any]
) -> None:
    crowd(25)
    Run.objects.filter(run_path=FIRST).update(bytes=1)
    Run.objects.exclude(run_path=FIRST).update(bytes=1)
    for day in range(1, 5):
        large = {"a.bin": b"x" * 40_000}
        lab.run(f"{FOLDER}/Run_2026-05-0{day}T10-00", files=large, verified_at=now - timedelta(hours=50 - day))
    discovery.discover(root, now=now)
    Run.objects.filter(run_path__startswith=f"{FOLDER}/Run_2026-02").update(problem="", bytes=1)
    policy(mode="scheduled", retain_hours=24, proof="size", stage="promoted")
    policy(root=root, budget_runs=25, rehearse=False)
    swept = timed(now)
    assert SweepBreaker.objects.get().kind == "share"
    assert 0 < swept.count(Action.CLEARED) <= 3
    assert swept.bytes_freed <= sum(run.bytes or 0 for run in Run.objects.all()) / 2


def test_failures_are_told_under_another_open_breaker(failing: Any, now: datetime, root: Any) -> None:
    sweep_row = Sweep.objects.create(root=root, kind="timed", host="lab-pc", now=now, started_at=now)
    SweepBreaker.objects.create(
        root=root,
        sweep=sweep_row,
        kind="share",
        detail="Half of it.",
        saw={"sights": [Anomaly(kind=AnomalyKind.SHARE, detail="Half of it.").as_json()]},
        opened_at=now,
    )
    assert sweep(now=now).failed == 3
    assert sweep(now=now).failed == 0
    breaker = SweepBreaker.objects.get()
    assert breaker.detail == "Half of it. 3 clears in a row have failed."
    assert [sight.kind for sight in breakers.sights_of(breaker)] == ["share", "failures"]


def test_a_killed_pass_keeps_a_go_on_and_its_place(
    crowd: Any, now: datetime, policy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd(25)
    policy(mode="scheduled", retain_hours=24, rehearse=False)
    timed(now)
    go_on(now)
    Sweep.objects.update(cursor_verified_at=now, cursor_run=7)
    killed(now, monkeypatch)
    assert Sweep.objects.latest("pk").cursor_run == 7
    assert "breaker_open" not in reasons(timed(now))
    assert SweepBreaker.objects.get().used == Sweep.objects.latest("pk")
