"""The counts and decisions of every pass; equal passes share a row."""

import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cleanup import tasks
from cleanup.clears import protocol
from cleanup.clears.clear_now import clear
from cleanup.clears.run_action import Action
from cleanup.lab.roots import registration, root_lock
from cleanup.models import Alert, ClearAttempt, LedgerEntry, Run, Sweep, SweepKind, SweptRun
from cleanup.runs import discovery
from cleanup.runs.facts import stored_facts
from cleanup.sweeps import record as sweep_record
from cleanup.sweeps.all_roots import sweep
from cleanup.sweeps.one_root import RootSweep
from cleanup.sweeps.survey import DueRun, Grounds, Survey
from tests.faults.scene import Scene, scene_of
from tests.tools.lab import Lab

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

OLD = "FLOW_01/PROJ-0001/Runs/Run_2026-01-01T10-00"
YOUNG = "FLOW_01/PROJ-0001/Runs/Run_2026-06-14T20-00"
UNVERIFIED = "FLOW_01/PROJ-0001/Runs/Run_2026-06-14T22-00"


@pytest.fixture
def scenes(lab: Lab, root: Any, now: datetime, policy: Callable[..., Any]) -> dict[str, Scene]:
    made = {
        OLD: lab.run(OLD, verified_at=now - timedelta(hours=500)),
        YOUNG: lab.run(YOUNG, verified_at=now - timedelta(hours=10)),
        UNVERIFIED: lab.run(UNVERIFIED, state="complete"),
    }
    discovery.discover(root, now=now)
    policy(mode="scheduled", retain_hours=24, proof="size", rehearse=False)
    return {run_path: scene_of(lab, root, now, run_path, path) for run_path, path in made.items()}


def rows(sweep_row: Sweep) -> dict[str, SweptRun]:
    found = SweptRun.objects.filter(
        root=sweep_row.root, kind=sweep_row.kind, first_id__lte=sweep_row.pk, last_id__gte=sweep_row.pk
    )
    return {row.run.run_path: row for row in found.select_related("run")}


def test_a_pass_keeps_its_counts(scenes: dict[str, Scene], now: datetime, root: Any) -> None:
    swept = sweep(now=now, timed=True)
    kept = Sweep.objects.get()
    assert (kept.root, kept.kind, kept.outcome, kept.now, kept.actor) == (root, "timed", "done", now, "")
    assert (kept.scanned, kept.candidates, kept.cleared, kept.skipped, kept.failed) == (3, 1, 1, 2, 0)
    assert (kept.files, kept.bytes) == (scenes[OLD].files, scenes[OLD].bytes) == (swept.files, swept.bytes_freed)
    assert kept.policy_version == 1
    assert kept.ended_at is not None
    assert 0 < kept.seconds < 60


def test_every_run_has_its_action_and_all_of_its_gates(scenes: dict[str, Scene], now: datetime) -> None:
    sweep(now=now, timed=True)
    said = rows(Sweep.objects.get())
    assert {run_path: (row.action, row.reason) for run_path, row in said.items()} == {
        OLD: ("cleared", "retention"),
        YOUNG: ("skipped", "retention_not_elapsed"),
        UNVERIFIED: ("skipped", "not_sync_verified"),
    }
    assert (said[OLD].files, said[OLD].bytes) == (scenes[OLD].files, scenes[OLD].bytes)
    for row in said.values():
        assert [gate["gate"] for gate in row.gates][:3] == ["state", "clock", "retention"]
        assert len(row.gates) == 11
    (retention,) = [gate for gate in said[YOUNG].gates if gate["gate"] == "retention"]
    assert retention["verdict"] == "wait"
    assert retention["opens_at"] == (now + timedelta(hours=14)).isoformat()


def test_every_reason_is_kept_not_only_the_first(scenes: dict[str, Scene], now: datetime) -> None:
    (scenes[OLD].path / "extra").write_bytes(b"x")
    (scenes[OLD].twin / "README.md").unlink()
    sweep(now=now, timed=True)
    gates = rows(Sweep.objects.get())[OLD].gates
    assert {gate["gate"]: gate["reason"] for gate in gates if gate["reason"]} == {
        "unchanged": "not_in_manifest",
        "proof": "nas_missing_file",
    }


@pytest.mark.both_engines
def test_passes_that_say_the_same_share_a_row(scenes: dict[str, Scene], now: datetime) -> None:
    for hours in range(4):
        sweep(now=now + timedelta(hours=hours), timed=True)
    first, *_others, last = Sweep.objects.order_by("pk")
    row = SweptRun.objects.get(run=scenes[YOUNG].run)
    assert (row.first, row.last) == (first, last)
    assert SweptRun.objects.filter(run=scenes[OLD].run).get().last == first, "it was cleared, and is asked no more"
    sweep(now=now + timedelta(hours=14), timed=True)
    assert [one.action for one in SweptRun.objects.filter(run=scenes[YOUNG].run)] == ["skipped", "cleared"]


def test_each_kind_of_pass_has_a_record_of_its_own(scenes: dict[str, Scene], now: datetime) -> None:
    sweep(now=now, dry_run=True, actor="ada")
    sweep(now=now, timed=True)
    sweep(now=now, dry_run=True, actor="ada")
    dry, timed, again = Sweep.objects.order_by("pk")
    assert [one.kind for one in (dry, timed, again)] == ["dry_run", "timed", "dry_run"]
    assert (dry.actor, dry.would_clear, dry.cleared, dry.bytes) == ("ada", 1, 0, scenes[OLD].bytes)
    assert rows(dry)[OLD].action == "would_clear"
    assert rows(timed)[OLD].action == "cleared"
    assert OLD not in rows(again)
    assert (again.previous, timed.previous) == (dry, None)


def test_a_pass_between_that_said_otherwise_ends_the_row(
    scenes: dict[str, Scene], now: datetime, policy: Callable[..., Any]
) -> None:
    sweep(now=now, timed=True)
    policy(mode="manual")
    sweep(now=now, timed=True)
    policy(mode="scheduled", rehearse=False)
    sweep(now=now, timed=True)
    said = SweptRun.objects.filter(run=scenes[YOUNG].run).order_by("pk")
    reasons = [row.reason for row in said]
    assert reasons == ["retention_not_elapsed", "policy_manual", "retention_not_elapsed"]
    assert [row.policy_version for row in said] == [1, 2, 3], "the newest when they were said first"
    assert all(row.first == row.last for row in said)


@pytest.mark.both_engines
def test_last_tuesday_is_one_query(
    scenes: dict[str, Scene], now: datetime, django_assert_num_queries: Callable[[int], Any]
) -> None:
    for hours in range(3):
        sweep(now=now + timedelta(hours=hours), timed=True)
    asked = Sweep.objects.order_by("pk")[1]
    with django_assert_num_queries(1):
        row = SweptRun.objects.get(run=scenes[YOUNG].run, kind="timed", first_id__lte=asked.pk, last_id__gte=asked.pk)
    assert row.reason == "retention_not_elapsed"


def test_a_rehearsal_is_recorded_and_clears_nothing(
    scenes: dict[str, Scene], lab: Lab, now: datetime, policy: Callable[..., Any]
) -> None:
    policy(mode="scheduled", retain_hours=12, rehearse=True)
    swept = sweep(now=now, timed=True)
    kept = Sweep.objects.get()
    assert (kept.would_clear, kept.cleared, kept.files, kept.bytes) == (1, 0, 0, 0)
    assert (swept.files, swept.count(Action.WOULD_CLEAR)) == (0, 1)
    row = rows(kept)[OLD]
    assert (row.action, row.reason, row.detail) == (
        "would_clear",
        "rehearsal",
        "It would go once the policy is promoted (retention).",
    )
    assert (row.files, row.bytes) == (scenes[OLD].files, scenes[OLD].bytes)
    assert {gate["reason"] for gate in row.gates if gate["gate"] == "retention"} == {"rehearsal"}
    scenes[OLD].assert_whole()
    assert sweep(now=now).count(Action.CLEARED) == 1, "a person's own sweep rehearses nothing"


@pytest.mark.both_engines
def test_one_bad_row_does_not_stop_the_pass(
    scenes: dict[str, Scene], now: datetime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    facts_of = stored_facts.facts_of

    def fail_for_one(run: Run, **options: Any) -> Any:
        if run.run_path == YOUNG:
            raise RuntimeError("a fault of our own")
        return facts_of(run, **options)

    monkeypatch.setattr(stored_facts, "facts_of", fail_for_one)
    swept = sweep(now=now, timed=True)
    assert {run.run_path: run.action for run in swept.runs} == {OLD: Action.CLEARED, YOUNG: Action.FAILED}
    kept = Sweep.objects.get()
    assert (kept.cleared, kept.failed, kept.outcome) == (1, 1, "done")
    assert rows(kept)[YOUNG].detail == "RuntimeError: a fault of our own"
    (logged,) = [record for record in caplog.records if record.exc_info]
    assert "a fault of our own" in str(logged.exc_info)


def test_a_failed_clear_is_counted_with_its_trace(
    scenes: dict[str, Scene], now: datetime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(attempt: ClearAttempt, **options: Any) -> ClearAttempt:
        raise RuntimeError("a fault of our own")

    monkeypatch.setattr(protocol, "perform", fail)
    sweep(now=now, timed=True)
    kept = Sweep.objects.get()
    assert (kept.cleared, kept.failed) == (0, 1)
    assert any(record.exc_info for record in caplog.records)


def test_one_bad_root_does_not_stop_the_others(
    scenes: dict[str, Scene], now: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Lab(tmp_path / "another")
    registration.register("another", str(other.staging), accept_empty=True, now=now)  # it comes first
    begin = sweep_record.begin

    def fail_for_one(root: Any, *args: Any, **options: Any) -> Any:
        if root.name == "another":
            raise RuntimeError("a fault of our own")
        return begin(root, *args, **options)

    monkeypatch.setattr(sweep_record, "begin", fail_for_one)
    swept = sweep(now=now, timed=True)
    assert swept.count(Action.CLEARED) == 1
    (problem,) = swept.problems
    assert (problem.root, problem.reason) == ("another", "sweep_failed")
    assert swept.failed == 1


def test_a_pass_that_failed_is_written_down_and_told_until_one_comes_to_its_end(
    scenes: dict[str, Scene], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(one: RootSweep, found: Survey) -> None:
        raise RuntimeError("a fault of our own")

    monkeypatch.setattr(RootSweep, "_pressure", fail)
    sweep(now=now, dry_run=True)
    assert not Alert.objects.exists()
    assert "lab: sweep_failed RuntimeError: a fault of our own" in tasks.sweep()
    failed = Sweep.objects.get(kind="timed")
    assert (failed.outcome, failed.reason) == ("interrupted", "sweep_failed")
    assert failed.detail == "RuntimeError: a fault of our own"
    assert failed.ended_at is not None
    alert = Alert.objects.get()
    assert (alert.kind, alert.reason, alert.root, alert.ended_at) == ("schedule", "sweep_failed", failed.root, None)
    assert alert.detail == "lab: RuntimeError: a fault of our own"
    monkeypatch.undo()
    sweep(now=now, dry_run=True)
    assert not Alert.objects.filter(ended_at__isnull=False).exists()
    sweep(now=now, timed=True)
    assert Alert.objects.get().ended_at == now


def test_a_root_that_cannot_be_claimed_is_told_too(
    scenes: dict[str, Scene], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(root: Any) -> None:
        raise RuntimeError("a fault of our own")

    monkeypatch.setattr(root_lock, "claim", fail)
    sweep(now=now, timed=True)
    assert Alert.objects.get(ended_at=None).reason == "sweep_failed"
    monkeypatch.undo()
    sweep(now=now, timed=True)
    assert not Alert.objects.filter(ended_at=None).exists()


def test_a_pass_over_a_disk_that_is_not_there_says_so(scenes: dict[str, Scene], lab: Lab, now: datetime) -> None:
    lab.staging.rename(lab.base / "away")
    sweep(now=now, timed=True)
    kept = Sweep.objects.get()
    assert (kept.outcome, kept.reason, kept.cleared) == ("done", "root_not_mounted", 0)


@pytest.mark.both_engines
def test_a_pass_that_was_killed_says_so(
    scenes: dict[str, Scene], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*args: Any, **options: Any) -> None:
        raise SystemExit  # as the end of its process is, it passes by every `except Exception`

    monkeypatch.setattr(protocol, "perform", die)
    with pytest.raises(SystemExit):
        sweep(now=now, timed=True)
    monkeypatch.undo()
    killed = Sweep.objects.get()
    assert killed.outcome == "running"
    assert rows(killed)[YOUNG].reason == "retention_not_elapsed", "what it had decided is kept"
    sweep(now=now, timed=True)
    killed.refresh_from_db()
    assert killed.outcome == "interrupted"
    assert killed.ended_at is not None


def die(*args: Any, **options: Any) -> None:
    raise SystemExit


def test_a_killed_pass_has_the_counts_and_rows_of_what_it_did(
    scenes: dict[str, Scene], now: datetime, root: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sweep_record.Recorder, "note", lambda *_args: die()
    )  # after the clear, before it is written down
    monkeypatch.setattr(RootSweep, "_decide_of", _only_note_nothing(RootSweep._decide_of))
    with pytest.raises(SystemExit):
        sweep(now=now, timed=True)
    monkeypatch.undo()
    killed = Sweep.objects.get()
    assert (killed.outcome, killed.cleared, killed.bytes) == ("running", 0, 0)
    assert not SweptRun.objects.filter(run=scenes[OLD].run).exists()
    # What a person clears after that is not the pass's doing.
    clear([scenes[YOUNG].run], now=now + timedelta(hours=30), actor="ada")
    assert ClearAttempt.objects.filter(phase="done").count() == 2
    assert sweep_record.recent_sizes(root) == []
    sweep(now=now, timed=True)
    killed.refresh_from_db()
    assert (killed.outcome, killed.cleared, killed.failed) == ("interrupted", 1, 0)
    assert (killed.files, killed.bytes) == (scenes[OLD].files, scenes[OLD].bytes)
    row = rows(killed)[OLD]
    assert (row.action, row.reason, row.files, row.bytes) == (
        "cleared",
        "retention",
        scenes[OLD].files,
        scenes[OLD].bytes,
    )
    assert row.gates == ClearAttempt.objects.get(run=scenes[OLD].run).decision
    assert len(row.gates) == 11
    assert YOUNG not in rows(killed)
    assert sweep_record.recent_sizes(root) == [(1, scenes[OLD].bytes)]
    freed = LedgerEntry.objects.filter(requester="schedule").totals()
    assert freed["runs"] == sum(Sweep.objects.values_list("cleared", flat=True))
    assert freed["bytes"] == sum(Sweep.objects.values_list("bytes", flat=True))


def _only_note_nothing(decide_of: Callable[..., tuple[DueRun, ...]]) -> Callable[..., tuple[DueRun, ...]]:
    def decide(one: RootSweep, run: Run, grounds: Grounds, **options: Any) -> tuple[DueRun, ...]:
        with contextlib.suppress(SystemExit):
            return decide_of(one, run, grounds, **options)
        return ()

    return decide


def test_a_killed_pass_has_what_was_rolled_back_as_failed(
    scenes: dict[str, Scene], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_clear", die)  # between the claim and the commit
    with pytest.raises(SystemExit):
        sweep(now=now, timed=True)
    monkeypatch.undo()
    sweep(now=now, timed=True)
    killed, after = Sweep.objects.order_by("pk")
    assert (killed.cleared, killed.failed, killed.bytes) == (0, 1, 0)
    assert rows(killed)[OLD].action == "failed"
    assert (after.cleared, after.bytes) == (1, scenes[OLD].bytes)


def test_no_pass_is_credited_with_the_attempts_of_another(scenes: dict[str, Scene], now: datetime, root: Any) -> None:
    recorder = sweep_record.begin(root, SweepKind.TIMED, now=now, actor="", policy_version=1, clock={})
    early = recorder.sweep
    sweep_record.interrupt(early)
    sweep(now=now, timed=True)
    Sweep.objects.filter(pk=early.pk).update(outcome="running")  # as if the row had not been updated at once
    sweep_record.interrupt(early)
    early.refresh_from_db()
    assert (early.outcome, early.cleared) == ("interrupted", 0)
    assert OLD not in rows(early)


def test_a_policy_elsewhere_ends_no_row(scenes: dict[str, Scene], now: datetime, policy: Callable[..., Any]) -> None:
    """Only a run's own policy is in its gates, not the newest one."""
    sweep(now=now, timed=True)
    policy(equipment="CONFOCAL_09", mode="manual")
    sweep(now=now + timedelta(minutes=1), timed=True)
    first, second = Sweep.objects.order_by("pk")
    row = SweptRun.objects.get(run=scenes[YOUNG].run)
    assert (row.first, row.last, row.policy_version) == (first, second, 1)
    assert (first.policy_version, second.policy_version) == (1, 2)


def test_what_is_rehearsed_is_said_anew_under_every_version(
    scenes: dict[str, Scene], now: datetime, policy: Callable[..., Any]
) -> None:
    """A version is judged by the runs rehearsed since it was written, so their rows must be new."""
    policy(mode="scheduled", retain_hours=12, rehearse=True)
    sweep(now=now, timed=True)
    policy(equipment="CONFOCAL_09", mode="manual")
    sweep(now=now + timedelta(minutes=1), timed=True)
    sweep(now=now + timedelta(minutes=2), timed=True)
    said = SweptRun.objects.filter(run=scenes[OLD].run).order_by("pk")
    assert [(row.reason, row.policy_version) for row in said] == [("rehearsal", 2), ("rehearsal", 3)]


@pytest.mark.both_engines
def test_thousands_of_runs_cost_few_rows_and_queries(
    scenes: dict[str, Scene], now: datetime, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    known = Run.objects.filter(run_path=YOUNG).values().get()
    Run.objects.bulk_create(
        Run(**{**known, "id": None, "run_path": f"FLOW_01/PROJ-0001/Runs/Run_20{year}-01-01T10-{minute:02}"})
        for year in range(30, 40)
        for minute in range(60)
    )
    sweep(now=now, timed=True)
    counted = SweptRun.objects.count()
    with django_assert_max_num_queries(60):
        sweep(now=now + timedelta(minutes=1), timed=True)
    assert SweptRun.objects.count() == counted
