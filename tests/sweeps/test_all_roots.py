"""The sweep takes only what is due; its rehearsal picks the same and changes nothing."""

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from cleanup.clears import protocol, queue, recovery
from cleanup.clears.clear_now import clear
from cleanup.clears.report import ClearReport
from cleanup.clears.run_action import Action
from cleanup.models import ClearAttempt, IngestEvent, LedgerEntry, Proof, Run
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.sweeps.all_roots import sweep
from tests.faults.scene import Scene, everything, scene_of
from tests.tools.lab import METADATA, Lab, census, snapshot

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

VERIFIED = {
    "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-32": 500,
    "CONFOCAL_01/PROJ-0051/TestRuns/TestRun_2026-04-17T09-12": 48,
    "FLOW_01/PROJ-0042/Runs/Run_2026-06-13T08-00": 24,
    "FLOW_01/PROJ-0060/Runs/Run_2026-06-14T08-00": 23,
}
OTHERS = {
    "FLOW_01/PROJ-0060/Runs/Run_2026-06-01T13-00": "staging",
    "FLOW_01/PROJ-0042/Runs/Run_2026-04-20T11-45": "complete",
    "CONFOCAL_01/PROJ-0051/Runs/Run_2026-05-02T08-00": "sync_queued",
}
CONFOCAL, TEST_RUN, BOUNDARY, YOUNG = VERIFIED


@pytest.fixture
def scenes(lab: Lab, root: Any, now: datetime) -> dict[str, Scene]:
    files = {"stack/t_0000.tif": b"II*\0" * 2048}
    paths = {
        run_path: lab.run(run_path, files=files, verified_at=now - timedelta(hours=hours))
        for run_path, hours in VERIFIED.items()
    }
    paths |= {run_path: lab.run(run_path, files=files, state=state) for run_path, state in OTHERS.items()}
    discovery.discover(root, now=now)
    return {run_path: scene_of(lab, root, now, run_path, path) for run_path, path in paths.items()}


def paths(swept: ClearReport, *actions: Action) -> list[str]:
    return [run.run_path for run in swept.runs if run.action in actions]


def reasons(swept: ClearReport) -> dict[str, str]:
    return {run.run_path: run.reason for run in swept.runs}


def rows() -> list[Any]:
    models = (Run, ClearAttempt, IngestEvent, LedgerEntry, Proof)
    return [list(model._default_manager.order_by("pk").values()) for model in models]


def data_dir() -> dict[str, Any]:
    base = Path(os.environ["EXLAB_DATA_DIR"])
    return {folder: snapshot(base / folder) for folder in ("plans", "tombstones") if (base / folder).exists()}


# What it takes


@pytest.mark.parametrize("retain_hours", [0, 24, 100_000 / 24])
def test_manual_clears_nothing_ever(
    scenes: dict[str, Scene], lab: Lab, now: datetime, policy: Callable[..., Any], retain_hours: float
) -> None:
    policy(mode="manual", retain_hours=retain_hours)
    before = everything(lab)
    for at in (now, now + timedelta(days=10_000)):
        swept = sweep(now=at)
        assert (swept.scanned, swept.candidates, swept.count(Action.CLEARED)) == (7, 0, 0)
        assert reasons(swept) == dict.fromkeys(VERIFIED, "policy_manual")
    assert everything(lab) == before
    assert not ClearAttempt.objects.exists()


def test_no_policy_is_manual(scenes: dict[str, Scene], lab: Lab, now: datetime) -> None:
    before = everything(lab)
    assert sweep(now=now + timedelta(days=10_000)).count(Action.CLEARED) == 0
    assert everything(lab) == before


def test_scheduled_clears_exactly_what_is_due(
    scenes: dict[str, Scene], now: datetime, policy: Callable[..., Any]
) -> None:
    policy(mode="scheduled", retain_hours=24)
    swept = sweep(now=now)
    assert paths(swept, Action.CLEARED) == [CONFOCAL, TEST_RUN, BOUNDARY]  # the oldest verification first
    assert (swept.scanned, swept.candidates, swept.failed) == (7, 3, 0)
    assert reasons(swept)[YOUNG] == "retention_not_elapsed"
    due = [scenes[run_path] for run_path in (CONFOCAL, TEST_RUN, BOUNDARY)]
    assert (swept.files, swept.bytes_freed) == (
        sum(scene.files for scene in due),
        sum(scene.bytes for scene in due),
    )
    for run_path, scene in scenes.items():
        if scene in due:
            scene.assert_cleared()
            attempt = scene.run.attempts.get()
            assert (attempt.requester, attempt.actor, attempt.policy_version) == ("schedule", "", 1)
        else:
            assert snapshot(scene.path) == scene.entries, run_path
            assert not scene.run.attempts.exists()


def test_a_second_sweep_clears_nothing(
    scenes: dict[str, Scene], lab: Lab, root: Any, now: datetime, policy: Callable[..., Any]
) -> None:
    policy(mode="scheduled", retain_hours=24)
    sweep(now=now)
    before, recorded = everything(lab), rows()
    swept = sweep(now=now)
    assert (swept.count(Action.CLEARED), swept.candidates, swept.files, swept.bytes_freed) == (0, 0, 0, 0)
    assert (everything(lab), rows()) == (before, recorded)
    found = discovery.discover(root, now=now)
    assert found is not None
    assert (found.new, found.updated, found.problems) == (0, 0, [])


def test_an_hour_later_the_next_is_due(scenes: dict[str, Scene], now: datetime, policy: Callable[..., Any]) -> None:
    policy(mode="scheduled", retain_hours=24)
    sweep(now=now)
    assert paths(sweep(now=now + timedelta(minutes=59, seconds=59)), Action.CLEARED) == []
    assert paths(sweep(now=now + timedelta(hours=1)), Action.CLEARED) == [YOUNG]


@pytest.mark.parametrize(
    ("scope", "cleared"),
    [
        ({"equipment": "FLOW_01"}, [BOUNDARY]),
        ({"project": "PROJ-0042"}, [CONFOCAL, BOUNDARY]),
        ({"run_kind": "test"}, [TEST_RUN]),
        ({"equipment": "CONFOCAL_01", "project": "PROJ-0042"}, [CONFOCAL]),
        ({"equipment": "MASS_01"}, []),
    ],
)
def test_a_policy_reaches_as_far_as_its_scope(
    scenes: dict[str, Scene],
    now: datetime,
    policy: Callable[..., Any],
    scope: dict[str, str],
    cleared: list[str],
) -> None:
    policy(mode="scheduled", retain_hours=24, **scope)
    assert paths(sweep(now=now), Action.CLEARED) == cleared


def test_the_more_specific_policy_keeps_its_runs(
    scenes: dict[str, Scene], root: Any, now: datetime, policy: Callable[..., Any]
) -> None:
    policy(mode="scheduled", retain_hours=0)
    policy(equipment="CONFOCAL_01", mode="manual")
    policy(root=root, equipment="FLOW_01", retain_hours=24)
    assert paths(sweep(now=now), Action.CLEARED) == [BOUNDARY]


def test_a_limit_takes_the_oldest_first(scenes: dict[str, Scene], now: datetime, policy: Callable[..., Any]) -> None:
    policy(mode="scheduled", retain_hours=0)
    swept = sweep(now=now, limit=2)
    assert paths(swept, Action.CLEARED) == [CONFOCAL, TEST_RUN]
    assert swept.candidates == 4
    assert paths(sweep(now=now, limit=1), Action.CLEARED) == [BOUNDARY]


def test_a_refused_run_does_not_use_up_the_limit(
    scenes: dict[str, Scene], now: datetime, policy: Callable[..., Any]
) -> None:
    policy(mode="scheduled", retain_hours=0)
    (scenes[CONFOCAL].path / "extra").write_bytes(b"x")
    assert paths(sweep(now=now, limit=1), Action.CLEARED) == [TEST_RUN]


def test_only_the_roots_that_are_named(scenes: dict[str, Scene], now: datetime, policy: Callable[..., Any]) -> None:
    policy(mode="scheduled", retain_hours=0)
    swept = sweep(now=now, roots=[])
    assert (swept.scanned, swept.runs) == (0, [])


# What stands in the way


def test_a_refusal_is_a_skip_with_its_reason(
    scenes: dict[str, Scene], now: datetime, policy: Callable[..., Any]
) -> None:
    policy(mode="scheduled", retain_hours=0)
    (scenes[CONFOCAL].path / "extra").write_bytes(b"x")
    (scenes[TEST_RUN].twin / "README.md").write_bytes(b"other bytes")
    os.utime(scenes[BOUNDARY].path / "README.md", (now.timestamp() - 60,) * 2)
    swept = sweep(now=now)
    assert paths(swept, Action.CLEARED) == [YOUNG]
    assert paths(swept, Action.SKIPPED) == [CONFOCAL, TEST_RUN, BOUNDARY]
    assert reasons(swept) == {
        CONFOCAL: "not_in_manifest",
        TEST_RUN: "nas_size_mismatch",
        BOUNDARY: "not_quiet",
        YOUNG: "retention",
    }
    assert swept.failed == 0
    assert not scenes[CONFOCAL].run.attempts.exists()  # an hourly pass leaves no trail of vain attempts


def test_other_bytes_are_only_found_by_reading_them(
    scenes: dict[str, Scene], now: datetime, policy: Callable[..., Any]
) -> None:
    policy(mode="scheduled", retain_hours=0)
    victim = scenes[CONFOCAL].twin / "README.md"
    victim.write_bytes(bytes(victim.stat().st_size))
    before = everything(scenes[CONFOCAL].lab)[1]
    swept = sweep(now=now, limit=1)
    assert reasons(swept)[CONFOCAL] == "nas_checksum_mismatch"
    assert scenes[CONFOCAL].kinds() == ["refused"]
    after = everything(scenes[CONFOCAL].lab)[1]
    assert {name: inode for name, inode in before.items() if name.startswith(CONFOCAL)} == {
        name: inode for name, inode in after.items() if name.startswith(CONFOCAL)
    }


def test_one_bad_run_does_not_stop_the_others(
    scenes: dict[str, Scene], now: datetime, policy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy(mode="scheduled", retain_hours=0)
    perform = protocol.perform

    def perform_badly(attempt: ClearAttempt, **options: Any) -> ClearAttempt:
        if attempt.run.run_path == CONFOCAL:
            queue.save(attempt, begun=False)
            raise RuntimeError("a fault of our own")
        return perform(attempt, **options)

    monkeypatch.setattr(protocol, "perform", perform_badly)
    swept = sweep(now=now)
    assert paths(swept, Action.FAILED) == [CONFOCAL]
    assert swept.runs[0].detail == "RuntimeError: a fault of our own"
    assert paths(swept, Action.CLEARED) == [TEST_RUN, BOUNDARY, YOUNG]
    assert swept.failed == 1
    monkeypatch.undo()
    assert paths(sweep(now=now), Action.CLEARED) == []  # its attempt is still in the way
    # Attempts are made by the real clock: a sweep may have begun hours before.
    recovery.recover(now=timezone.now() + timedelta(minutes=3))
    assert paths(sweep(now=now), Action.CLEARED) == [CONFOCAL]


def test_a_run_with_an_attempt_is_skipped(scenes: dict[str, Scene], now: datetime, policy: Callable[..., Any]) -> None:
    policy(mode="scheduled", retain_hours=0)
    scenes[CONFOCAL].attempt()
    swept = sweep(now=now)
    assert reasons(swept)[CONFOCAL] == "already_clearing"
    assert snapshot(scenes[CONFOCAL].path) == scenes[CONFOCAL].entries


def test_a_pass_ends_under_the_policies_with_which_it_began(
    scenes: dict[str, Scene], now: datetime, policy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a pass would be decided by one policy and carried out by another."""
    policy(mode="scheduled", retain_hours=24)
    perform = protocol.perform

    def change_and_perform(attempt: ClearAttempt, **options: Any) -> ClearAttempt:
        policy(mode="manual")
        return perform(attempt, **options)

    monkeypatch.setattr(protocol, "perform", change_and_perform)
    swept = sweep(now=now)
    assert paths(swept, Action.CLEARED) == [CONFOCAL, TEST_RUN, BOUNDARY]
    assert set(LedgerEntry.objects.values_list("policy_version", flat=True)) == {1}
    monkeypatch.undo()
    assert reasons(sweep(now=now + timedelta(days=9))) == {YOUNG: "policy_manual"}


def test_without_the_nas_nothing_is_cleared(
    scenes: dict[str, Scene], lab: Lab, now: datetime, policy: Callable[..., Any]
) -> None:
    policy(mode="scheduled", retain_hours=0)
    lab.nas.rename(lab.base / "away")
    lab.nas.mkdir()
    before = everything(lab)
    swept = sweep(now=now)
    assert set(reasons(swept).values()) == {"nas_not_mounted"}
    assert everything(lab) == before


# The rehearsal


@pytest.mark.parametrize(("hours_later", "level"), [(-1, "checksum"), (0, "checksum"), (1, "size")])
def test_a_dry_run_picks_what_the_sweep_takes_and_touches_nothing(
    scenes: dict[str, Scene], lab: Lab, now: datetime, policy: Callable[..., Any], hours_later: int, level: str
) -> None:
    policy(mode="scheduled", retain_hours=24, proof=level)
    policy(project="PROJ-0051", mode="manual")
    (scenes[CONFOCAL].path / "extra").write_bytes(b"x")
    at = now + timedelta(hours=hours_later)
    disk, recorded, kept = everything(lab), rows(), data_dir()
    rehearsed = sweep(now=at, dry_run=True)
    assert (everything(lab), rows(), data_dir()) == (disk, recorded, kept)
    taken = sweep(now=at)
    assert paths(rehearsed, Action.WOULD_CLEAR) == paths(taken, Action.CLEARED)
    assert (rehearsed.files, rehearsed.bytes_freed) == (taken.files, taken.bytes_freed)
    assert reasons(rehearsed) == reasons(taken)
    assert (rehearsed.scanned, rehearsed.candidates) == (taken.scanned, taken.candidates)


def test_a_dry_run_sees_what_only_reading_shows(
    scenes: dict[str, Scene], now: datetime, policy: Callable[..., Any]
) -> None:
    policy(mode="scheduled", retain_hours=24)
    victim = scenes[CONFOCAL].twin / "README.md"
    victim.write_bytes(bytes(victim.stat().st_size))
    rehearsed = sweep(now=now, dry_run=True)
    assert reasons(rehearsed)[CONFOCAL] == "nas_checksum_mismatch"
    assert paths(rehearsed, Action.WOULD_CLEAR) == [TEST_RUN, BOUNDARY]


def test_a_dry_run_settles_nothing(scenes: dict[str, Scene], now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "recover", lambda **kwargs: pytest.fail("it recovers"))
    sweep(now=now, dry_run=True)
    clear([scenes[CONFOCAL].run], now=now, dry_run=True)


def test_a_dry_run_keeps_the_limit(scenes: dict[str, Scene], now: datetime, policy: Callable[..., Any]) -> None:
    policy(mode="scheduled", retain_hours=0)
    assert paths(sweep(now=now, limit=2, dry_run=True), Action.WOULD_CLEAR) == [CONFOCAL, TEST_RUN]


# An operator's clear of several runs


def test_an_operator_clears_what_the_schedule_would_not(scenes: dict[str, Scene], now: datetime) -> None:
    runs = [scenes[run_path].run for run_path in (YOUNG, CONFOCAL)]
    swept = clear(runs, now=now, actor="ada", note="the disk is full")
    assert paths(swept, Action.CLEARED) == [YOUNG, CONFOCAL]
    for run in runs:
        attempt = run.attempts.get()
        assert (attempt.requester, attempt.actor, attempt.note) == ("operator", "ada", "the disk is full")


def test_every_gate_but_retention_stands_for_an_operator(scenes: dict[str, Scene], now: datetime) -> None:
    (scenes[CONFOCAL].path / METADATA / "checksums.sha256").unlink()
    runs = [scene.run for scene in scenes.values()]
    swept = clear(runs, now=now, actor="ada")
    assert paths(swept, Action.CLEARED) == [TEST_RUN, BOUNDARY, YOUNG]
    assert paths(swept, Action.REFUSED) == [CONFOCAL, *OTHERS]
    assert reasons(swept)[CONFOCAL] == Reason.MANIFEST_MISSING
    assert {reasons(swept)[run_path] for run_path in OTHERS} == {"not_sync_verified"}
    again = clear(runs, now=now, actor="ada")
    assert paths(again, Action.SKIPPED) == [TEST_RUN, BOUNDARY, YOUNG]
    assert (again.files, again.bytes_freed) == (0, 0)


def test_an_operator_may_rehearse_too(scenes: dict[str, Scene], lab: Lab, now: datetime) -> None:
    disk, recorded = everything(lab), rows()
    swept = clear([scenes[CONFOCAL].run], now=now, dry_run=True)
    (action,) = swept.runs
    assert (action.action, action.files, action.bytes) == (Action.WOULD_CLEAR, *census(scenes[CONFOCAL].path))
    assert (everything(lab), rows()) == (disk, recorded)
