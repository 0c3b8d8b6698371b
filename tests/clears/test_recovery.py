"""Recovery after real processes were killed at every step."""

import os
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from cleanup import clear_run
from cleanup.clears import protocol, recovery
from cleanup.clears.queue import ClearRequest, new_attempt
from cleanup.models import ClearAttempt, Requester, Run
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from tests.faults import children
from tests.faults.scene import Scene, everything, inodes, set_scene, states_on_disk
from tests.tools.lab import METADATA, Lab, snapshot

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine]

CLEARING = "cleanup.clears.protocol"
SETTLEMENT, LEDGER = "cleanup.clears.settlement", "cleanup.ledger.entries"
FENCES, REMOVAL = "cleanup.storage.staging.fences", "cleanup.storage.staging.removal"

# Where the process dies: nothing has been recorded, so the run must come back.
BEFORE_THE_COMMIT = {
    "after the claim": f"{CLEARING}:_claim:after:1",
    "while the plan is written": "os:rename:before:1",
    "after the plan": f"{FENCES}:fence:before:1",
    "after the fence": f"{FENCES}:fence:after:1",
    "after the record": f"{FENCES}:prepare_record:after:1",
    "while the tombstone is written": "os:rename:before:2",
    "while the challenge lies": f"{FENCES}:lay_challenge:after:1",
    "before the challenge goes": f"{FENCES}:discard_challenge:before:1",
    "after the challenge": f"{FENCES}:discard_challenge:after:1",
    "before the commit": f"{CLEARING}:_commit:before:1",
    "at the end of the commit": f"{LEDGER}:write_ledger:after:1",
}

# It has been recorded, so the run must go, and the counts must be true.
AFTER_THE_COMMIT = {
    "after the commit": f"{CLEARING}:_commit:after:1",
    "after the publication": f"{FENCES}:publish:after:1",
    "after the first file": f"{REMOVAL}:_unlink_planned:after:1",
    "after some files": f"{REMOVAL}:_unlink_planned:after:5",
    "after a directory": f"{REMOVAL}:_remove_directory:after:1",
    "before the record goes": f"{REMOVAL}:_remove_record_last:before:1",
    "when the record is gone": f"{REMOVAL}:_remove_directory:before:2",
    "when the metadata is gone": f"{REMOVAL}:_remove_fence:before:1",
    "when the fence is gone": f"{REMOVAL}:_remove_fence:after:1",
    "after the end is recorded, not durably": f"{LEDGER}:write_ledger:after:2",
}
# The explorers die everywhere, within one process. These windows are enough to see that it is so for two.
PLAIN = {
    "while the plan is written",
    "after the fence",
    "while the challenge lies",
    "at the end of the commit",
    "after the commit",
    "after some files",
    "when the record is gone",
    "after the end is recorded, not durably",
}


def some(windows: dict[str, str]) -> list[Any]:
    return [name if name in PLAIN else pytest.param(name, marks=pytest.mark.exhaustive) for name in windows]


@pytest.fixture
def scene(lab: Lab, root: Any, now: datetime) -> Scene:
    return set_scene(lab, root, now)


@pytest.fixture
def crash(scene: Scene, subprocess_env: dict[str, str]) -> Callable[[str], ClearAttempt]:
    def clear_and_die(place: str) -> ClearAttempt:
        attempt = scene.attempt()
        children.kill_at(place, subprocess_env, "clear", scene.now, str(attempt.pk))
        attempt.refresh_from_db()
        return attempt

    return clear_and_die


# After a power failure


def challenge_of(attempt: ClearAttempt) -> str:
    return f".exlab-challenge-{attempt.pk.hex}"


def lay_anew(scene: Scene, attempt: ClearAttempt, where: str) -> Path:
    """Put the challenge back, with the run in its fence or at its path; return where the run lies."""
    lies = scene.path.with_name(f".exlab-clearing-{attempt.pk.hex}")
    if where == "at its path":
        lies = lies.rename(scene.path)
    (lies / challenge_of(attempt)).touch()
    return lies


ANOTHERS_CHALLENGE = ".exlab-challenge-" + "5" * 32


@pytest.mark.parametrize("where", ["in the fence", "at its path"])
def test_a_challenge_that_comes_back_before_the_commit_goes_and_no_other_name(
    scene: Scene, crash: Callable[[str], ClearAttempt], where: str
) -> None:
    attempt = crash(BEFORE_THE_COMMIT["after the challenge"])
    (lay_anew(scene, attempt, where) / ANOTHERS_CHALLENGE).touch()
    recovery.recover(now=scene.now)
    assert sorted(path.name for path in scene.path.glob(".exlab-challenge-*")) == [ANOTHERS_CHALLENGE]
    assert scene.leftovers() == []


def test_what_was_written_under_the_name_of_a_challenge_is_not_ours(
    scene: Scene, crash: Callable[[str], ClearAttempt]
) -> None:
    attempt = crash(BEFORE_THE_COMMIT["while the challenge lies"])
    fence = scene.path.with_name(f".exlab-clearing-{attempt.pk.hex}")
    (fence / challenge_of(attempt)).write_text("mine")
    recovery.recover(now=scene.now)
    assert (scene.path / challenge_of(attempt)).read_text() == "mine"


@pytest.mark.parametrize("where", ["in the fence", "at its path"])
def test_a_challenge_that_comes_back_after_the_commit_goes_with_the_run(
    scene: Scene, crash: Callable[[str], ClearAttempt], where: str
) -> None:
    attempt = crash(AFTER_THE_COMMIT["after the commit"])
    lay_anew(scene, attempt, where)
    recovery.recover(now=scene.now)
    scene.assert_cleared()


# Killed on the way


@pytest.mark.parametrize("window", some(BEFORE_THE_COMMIT))
def test_a_crash_before_the_commit_leaves_the_run(
    scene: Scene, crash: Callable[[str], ClearAttempt], window: str
) -> None:
    attempt = crash(BEFORE_THE_COMMIT[window])
    assert attempt.phase == "intent"
    settled = recovery.recover(now=scene.now)
    assert [one.pk for one in settled.rolled_back] == [attempt.pk]
    scene.assert_whole()
    attempt.refresh_from_db()
    assert (attempt.phase, attempt.reason) == ("aborted", "interrupted")
    assert scene.kinds() == ["aborted"]
    data = Path(os.environ["EXLAB_DATA_DIR"])
    assert not list(data.glob(f"*/{attempt.pk.hex}*"))
    assert_settled(scene)
    assert clear_run(scene.run, now=scene.now) == (scene.files, scene.bytes)
    scene.assert_cleared()


@pytest.mark.parametrize("window", some(AFTER_THE_COMMIT))
def test_a_crash_after_the_commit_is_completed(scene: Scene, crash: Callable[[str], ClearAttempt], window: str) -> None:
    attempt = crash(AFTER_THE_COMMIT[window])
    assert attempt.phase == "committed"
    assert Run.objects.get().state == "cleared"
    assert scene.kinds() == ["authorised"]
    settled = recovery.recover(now=scene.now)
    assert [one.pk for one in settled.rolled_forward] == [attempt.pk]
    scene.assert_cleared()
    assert scene.kinds() == ["authorised", "completed"]
    assert_settled(scene)
    assert clear_run(scene.run, now=scene.now) == (0, 0)


def assert_settled(scene: Scene) -> None:
    disk, rows = everything(scene.lab), scene.kinds()
    settled = recovery.recover(now=scene.now + timedelta(days=1))
    assert (settled.rolled_back, settled.rolled_forward, settled.unsettled) == ([], [], [])
    discovery.discover(scene.root, now=scene.now)
    assert (everything(scene.lab), scene.kinds()) == (disk, rows)
    assert Run.objects.count() == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("clear_dies", "recovery_dies"),
    [
        (f"{FENCES}:fence:after:1", f"{FENCES}:put_back:before:1"),
        (f"{FENCES}:prepare_record:after:1", f"{FENCES}:discard_prepared:after:1"),
        (f"{FENCES}:prepare_record:after:1", f"{FENCES}:put_back:after:1"),
        (f"{CLEARING}:_commit:before:1", f"{SETTLEMENT}:roll_back:after:1"),
        (f"{CLEARING}:_commit:before:1", f"{LEDGER}:write_ledger:after:1"),
    ],
)
def test_a_crash_in_the_rolling_back(
    scene: Scene,
    crash: Callable[[str], ClearAttempt],
    subprocess_env: dict[str, str],
    clear_dies: str,
    recovery_dies: str,
) -> None:
    crash(clear_dies)
    children.kill_at(recovery_dies, subprocess_env, "recover", scene.now)
    assert len(recovery.recover(now=scene.now).rolled_back) == 1
    scene.assert_whole()
    assert scene.kinds() == ["aborted"]
    assert_settled(scene)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("clear_dies", "recovery_dies"),
    [
        (f"{CLEARING}:_commit:after:1", f"{FENCES}:publish:after:1"),
        (f"{FENCES}:publish:before:1", f"{REMOVAL}:_unlink_planned:after:3"),
        (f"{REMOVAL}:_unlink_planned:after:2", f"{REMOVAL}:_unlink_planned:after:8"),
        (f"{REMOVAL}:_unlink_planned:after:2", f"{REMOVAL}:_remove_fence:before:1"),
        (f"{REMOVAL}:_remove_fence:after:1", f"{LEDGER}:write_ledger:after:1"),
    ],
)
def test_a_crash_in_the_rolling_forward(
    scene: Scene,
    crash: Callable[[str], ClearAttempt],
    subprocess_env: dict[str, str],
    clear_dies: str,
    recovery_dies: str,
) -> None:
    crash(clear_dies)
    children.kill_at(recovery_dies, subprocess_env, "recover", scene.now)
    assert len(recovery.recover(now=scene.now).rolled_forward) == 1
    scene.assert_cleared()
    assert scene.kinds() == ["authorised", "completed"]
    assert_settled(scene)


def test_two_recoveries_at_once_settle_it_once(
    scene: Scene, crash: Callable[[str], ClearAttempt], subprocess_env: dict[str, str]
) -> None:
    crash(f"{FENCES}:publish:after:1")
    first = children.pause_at(f"{REMOVAL}:_unlink_planned:before:3", subprocess_env, "recover", scene.now)
    settled = recovery.recover(now=scene.now)
    assert (settled.rolled_forward, settled.unsettled) == ([], [])
    assert children.resume(first) == [0, 1, 0]
    scene.assert_cleared()


@pytest.mark.parametrize("place", [f"{CLEARING}:_clear:before:1", f"{FENCES}:fence:after:1"])
def test_a_clear_that_is_under_way_is_left_to_its_holder(
    scene: Scene, subprocess_env: dict[str, str], place: str
) -> None:
    attempt = scene.attempt()
    holder = children.pause_at(place, subprocess_env, "clear", scene.now, str(attempt.pk))
    settled = recovery.recover(now=scene.now + timedelta(days=3))
    assert (settled.rolled_back, settled.unsettled) == ([], [])
    found = discovery.discover(scene.root, now=scene.now)
    assert found is not None
    assert found.problems == []
    assert Run.objects.get().problem == ""
    assert children.resume(holder) == ["done", scene.files, scene.bytes]
    scene.assert_cleared()


@pytest.mark.parametrize(
    "place",
    [pytest.param(f"{FENCES}:fence:after:1", marks=pytest.mark.exhaustive), f"{REMOVAL}:_unlink_planned:after:3"],
)
def test_a_clear_that_keeps_its_locks_elsewhere_is_left_alone_too(
    scene: Scene, subprocess_env: dict[str, str], tmp_path: Path, place: str
) -> None:
    """A second installation uses the same database, or a tidy program emptied the data directory."""
    attempt = scene.attempt()
    elsewhere = {**subprocess_env, "EXLAB_DATA_DIR": str(tmp_path / "data")}
    (tmp_path / "data").mkdir(mode=0o700)
    holder = children.pause_at(place, elsewhere, "clear", scene.now, str(attempt.pk))
    shutil.copytree(tmp_path / "data/plans", Path(os.environ["EXLAB_DATA_DIR"]) / "plans", dirs_exist_ok=True)
    settled = recovery.recover(now=scene.now)
    assert (settled.rolled_back, settled.rolled_forward, settled.unsettled) == ([], [], [])
    assert children.resume(holder) == ["done", scene.files, scene.bytes]
    scene.assert_cleared()


@pytest.mark.exhaustive
def test_a_sweep_that_was_killed_is_taken_up_by_the_next(
    scene: Scene, policy: Callable[..., Any], subprocess_env: dict[str, str]
) -> None:
    policy(mode="scheduled", retain_hours=1)
    children.kill_at(f"{FENCES}:fence:after:1", subprocess_env, "sweep", scene.now)
    assert children.run(subprocess_env, "sweep", scene.now) == [[scene.run.run_path, "cleared", "retention"]]
    scene.assert_cleared()
    assert scene.kinds() == ["aborted", "authorised", "completed"]


# Queued attempts


def test_a_queued_attempt_of_an_operator_is_left_alone(scene: Scene) -> None:
    attempt = scene.attempt()
    ClearAttempt.objects.update(task_id="a task that will come")
    settled = recovery.recover(now=scene.now + timedelta(days=3))
    attempt.refresh_from_db()
    assert (attempt.phase, settled.rolled_back) == ("queued", [])


@pytest.mark.parametrize("requester", Requester.values)
def test_a_queued_attempt_without_a_task_ends(scene: Scene, requester: str) -> None:
    attempt = new_attempt(scene.run, ClearRequest(requester=Requester(requester), actor="ada"), now=scene.now)
    recovery.recover(now=scene.now + timedelta(minutes=1))
    attempt.refresh_from_db()
    assert attempt.phase == "queued"
    recovery.recover(now=scene.now + timedelta(minutes=3))
    attempt.refresh_from_db()
    assert attempt.phase == "aborted"
    scene.assert_whole()
    assert clear_run(scene.run, now=scene.now) == (scene.files, scene.bytes)


# Changes since the crash


def fence_of(scene: Scene) -> Path:
    (fence,) = (path for path in scene.path.parent.glob(".exlab-clearing-*") if path.is_dir())
    return fence


def test_a_new_folder_at_the_path_of_a_fenced_run_is_a_conflict(
    scene: Scene, crash: Callable[[str], ClearAttempt]
) -> None:
    attempt = crash(f"{FENCES}:fence:after:1")
    scene.path.mkdir()
    (scene.path / "new.tif").write_bytes(b"somebody's new work")
    recovery.recover(now=scene.now)
    attempt.refresh_from_db()
    assert (attempt.phase, attempt.reason) == ("conflict", "path_occupied")
    assert fence_of(scene).name in attempt.detail
    assert scene.kinds() == ["conflict"]
    assert snapshot(fence_of(scene)) == scene.entries
    assert (scene.path / "new.tif").read_bytes() == b"somebody's new work"
    recovery.recover(now=scene.now)
    assert scene.kinds() == ["conflict"]
    assert inodes(fence_of(scene)) == scene.inodes


@pytest.mark.parametrize("harm", ["gone", "other", "cut"])
def test_without_its_plan_nothing_is_removed(scene: Scene, crash: Callable[[str], ClearAttempt], harm: str) -> None:
    attempt = crash(f"{FENCES}:publish:after:1")
    plan = Path(os.environ["EXLAB_DATA_DIR"]) / "plans" / attempt.pk.hex
    kept = plan.read_bytes()
    if harm == "gone":
        plan.unlink()
    else:
        plan.write_bytes(kept.replace(b"t_0001", b"t_0009") if harm == "other" else kept[:-100])
    before = everything(scene.lab)
    for _ in range(2):
        settled = recovery.recover(now=scene.now)
        ((unsettled, finding),) = settled.unsettled
        assert (unsettled.pk, finding.reason) == (attempt.pk, Reason.PLAN_MISSING)
        assert everything(scene.lab) == before
    plan.write_bytes(kept)
    recovery.recover(now=scene.now)
    scene.assert_cleared()


@pytest.mark.parametrize("place", [f"{FENCES}:fence:after:1", f"{FENCES}:publish:after:1"])
def test_a_root_without_its_token_is_left_alone(scene: Scene, crash: Callable[[str], ClearAttempt], place: str) -> None:
    attempt = crash(place)
    phase = attempt.phase
    token = scene.lab.staging / ".exlab-root"
    content = token.read_bytes()
    for wrong in (None, b"11111111-2222-3333-4444-555555555555\n", b"no token"):
        token.unlink(missing_ok=True)
        if wrong is not None:
            token.write_bytes(wrong)
        before = everything(scene.lab)
        settled = recovery.recover(now=scene.now)
        assert [finding.reason for _, finding in settled.unsettled] == [Reason.ROOT_NOT_MOUNTED]
        attempt.refresh_from_db()
        assert attempt.phase == phase
        assert everything(scene.lab) == before
    token.write_bytes(content)
    recovery.recover(now=scene.now)
    scene.assert_whole() if phase == "intent" else scene.assert_cleared()


def test_a_disk_that_is_unplugged_does_not_settle_anything(scene: Scene, crash: Callable[[str], ClearAttempt]) -> None:
    attempt = crash(f"{FENCES}:publish:after:1")
    away = scene.lab.base / "away"
    scene.lab.staging.rename(away)
    for make in (lambda: None, scene.lab.staging.mkdir):
        make()
        recovery.recover(now=scene.now)
        attempt.refresh_from_db()
        assert attempt.phase == "committed"
        assert scene.kinds() == ["authorised"]
    scene.lab.staging.rmdir()
    away.rename(scene.lab.staging)
    recovery.recover(now=scene.now)
    scene.assert_cleared()


def test_attempts_of_another_host_are_left_to_it(
    scene: Scene, crash: Callable[[str], ClearAttempt], settings: Any
) -> None:
    crash(f"{FENCES}:fence:after:1")
    settings.EXLAB_HOST = "another-pc"
    before = everything(scene.lab)
    settled = recovery.recover(now=scene.now)
    assert (settled.rolled_back, settled.unsettled) == ([], [])
    assert everything(scene.lab) == before


def test_look_alikes_are_never_touched(scene: Scene, crash: Callable[[str], ClearAttempt]) -> None:
    parent = scene.path.parent
    strange = parent / (".exlab-clearing-" + "0" * 32)
    (strange / METADATA).mkdir(parents=True)
    (strange / "data.tif").write_bytes(b"whose?")
    (parent / (".exlab-clearing-" + "0" * 32 + ".ingest.json")).write_text("{}")
    (parent / ".exlab-clearing-by-hand").mkdir()
    alike = [path for path in parent.iterdir() if path.name.startswith(".exlab-clearing-")]
    before = [(snapshot(path), path.stat().st_ino) for path in alike]
    crash(f"{REMOVAL}:_unlink_planned:after:1")
    recovery.recover(now=scene.now)
    discovery.discover(scene.root, now=scene.now)
    assert [(snapshot(path), path.stat().st_ino) for path in alike] == before
    assert not scene.path.exists()
    assert scene.kinds() == ["authorised", "completed"]
    assert Run.objects.count() == 1


def test_a_committed_run_found_back_at_its_own_path_is_fenced_again(
    scene: Scene, crash: Callable[[str], ClearAttempt]
) -> None:
    """A power failure undid the rename: inode and tree equal the plan, so the record still stands."""
    crash(f"{CLEARING}:_commit:after:1")
    fence_of(scene).rename(scene.path)
    recovery.recover(now=scene.now)
    scene.assert_cleared()


@pytest.mark.parametrize("change", ["a file more", "another directory"])
def test_a_committed_run_found_back_changed_is_left_alone(
    scene: Scene, crash: Callable[[str], ClearAttempt], change: str
) -> None:
    attempt = crash(f"{CLEARING}:_commit:after:1")
    fence = fence_of(scene)
    fence.rename(scene.path)
    if change == "a file more":
        (scene.path / "late.tif").write_bytes(b"late")
    else:
        aside = scene.path.with_name("aside")
        shutil.copytree(scene.path, aside)
        shutil.rmtree(scene.path)
        shutil.copytree(aside, scene.path)
        shutil.rmtree(aside)
    before = snapshot(scene.path)
    recovery.recover(now=scene.now)
    assert snapshot(scene.path) == before
    attempt.refresh_from_db()
    if change == "a file more":
        assert attempt.phase == "committed"
    else:
        scene.run.refresh_from_db()
        assert scene.run.state == "cleared"


def test_another_directory_at_the_fence_is_left_alone(scene: Scene, crash: Callable[[str], ClearAttempt]) -> None:
    attempt = crash(f"{CLEARING}:_commit:after:1")
    fence = fence_of(scene)
    fence.rename(scene.lab.base / "hidden")
    shutil.copytree(scene.lab.base / "hidden", fence)
    before = everything(scene.lab)
    settled = recovery.recover(now=scene.now)
    assert [finding.reason for _, finding in settled.unsettled] == [Reason.IDENTITY_MISMATCH]
    attempt.refresh_from_db()
    assert attempt.phase == "committed"
    assert everything(scene.lab) == before


def test_a_fence_whose_name_is_taken_is_told(scene: Scene, crash: Callable[[str], ClearAttempt]) -> None:
    attempt = crash(f"{CLEARING}:_commit:after:1")
    fence = fence_of(scene)
    fence.rename(scene.path)
    fence.mkdir()
    (fence / "whose").touch()
    before = everything(scene.lab)
    settled = recovery.recover(now=scene.now)
    assert [unsettled.pk for unsettled, _ in settled.unsettled] == [attempt.pk]
    assert everything(scene.lab) == before


def test_a_new_run_at_the_path_of_a_cleared_one_is_not_taken_for_it(
    scene: Scene, crash: Callable[[str], ClearAttempt]
) -> None:
    """The disk gives the new folder the old inode: the birth time tells them apart."""
    crash(f"{SETTLEMENT}:finish:before:1")
    tried = [scene.path.with_name(f"try-{number}") for number in range(500)]
    for path in tried:
        path.mkdir()
        if path.stat().st_ino == scene.inodes["."]:
            path.rename(scene.path)
            break
    else:
        pytest.skip("this filesystem does not hand out an inode again")
    (scene.path / "new.tif").write_bytes(b"new")
    settled = recovery.recover(now=scene.now)
    assert settled.unsettled == []
    assert scene.kinds() == ["authorised", "completed"]
    assert (scene.path / "new.tif").read_bytes() == b"new"


def test_a_record_that_was_never_published_stops_the_removal(
    scene: Scene, crash: Callable[[str], ClearAttempt]
) -> None:
    """The entry must be on disk before the first file goes, and the prepared record is missing."""
    crash(f"{CLEARING}:_commit:after:1")
    (prepared,) = scene.path.parent.glob(".exlab-clearing-*.ingest.json")
    prepared.rename(scene.lab.base / "lost")
    before = everything(scene.lab)
    settled = recovery.recover(now=scene.now)
    assert everything(scene.lab) == before
    assert len(settled.unsettled) == 1
    (scene.lab.base / "lost").rename(prepared)
    recovery.recover(now=scene.now)
    scene.assert_cleared()


def test_what_is_changed_in_a_fence_survives_recovery(scene: Scene, crash: Callable[[str], ClearAttempt]) -> None:
    crash(f"{REMOVAL}:_unlink_planned:after:2")
    fence = fence_of(scene)
    kept = next(path for path in sorted((fence / "tiles").iterdir()))
    kept.write_bytes(b"another thing altogether")
    (fence / "tiles/new").write_bytes(b"new")
    recovery.recover(now=scene.now)
    assert kept.read_bytes() == b"another thing altogether"
    assert (fence / "tiles/new").read_bytes() == b"new"
    assert states_on_disk(fence)[-1] == "cleared"
    attempt = scene.run.attempts.get()
    assert (attempt.phase, attempt.reason) == ("done", "removal_incomplete")
    assert scene.kinds() == ["authorised", "partial"]
    assert attempt.freed_files == scene.files - 2
    shutil.rmtree(fence / "tiles")
    recovery.recover(now=scene.now)
    assert scene.kinds() == ["authorised", "partial", "completed"]
    assert scene.leftovers() == []
    scene.assert_freed(scene.files, scene.bytes)


# One bad attempt


def test_one_attempt_that_cannot_be_settled_does_not_stop_the_others(
    lab: Lab, root: Any, now: datetime, subprocess_env: dict[str, str]
) -> None:
    scenes = [set_scene(lab, root, now, f"CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-1{day}T14-32") for day in (1, 2, 3)]
    for scene in scenes:
        attempt = scene.attempt()
        children.kill_at(f"{FENCES}:publish:after:1", subprocess_env, "clear", now, str(attempt.pk))
    plan = Path(os.environ["EXLAB_DATA_DIR"]) / "plans" / ClearAttempt.objects.get(run=scenes[1].run).pk.hex
    plan.write_bytes(b"")
    settled = recovery.recover(now=now)
    assert (len(settled.rolled_forward), len(settled.unsettled)) == (2, 1)
    scenes[0].assert_freed(scenes[0].files, scenes[0].bytes)
    scenes[2].assert_freed(scenes[2].files, scenes[2].bytes)
    scenes[1].assert_freed(0, 0)


def test_only_the_named_runs_are_settled(lab: Lab, root: Any, now: datetime, subprocess_env: dict[str, str]) -> None:
    scenes = [set_scene(lab, root, now, f"CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-1{day}T14-32") for day in (1, 2)]
    for scene in scenes:
        attempt = scene.attempt()
        children.kill_at(f"{FENCES}:fence:before:1", subprocess_env, "clear", now, str(attempt.pk))
    settled = recovery.recover(now=now, runs=[scenes[0].run])
    assert [attempt.run_id for attempt in settled.rolled_back] == [scenes[0].run.pk]
    assert scenes[1].run.attempts.get().phase == "intent"


# Changes by a person while a clear is interrupted


def test_a_fence_that_somebody_took_away_whole_is_not_claimed(
    scene: Scene, crash: Callable[[str], ClearAttempt], tmp_path: Path
) -> None:
    """The process died just after the commit; a person moves the hidden folder away."""
    attempt = crash(f"{CLEARING}:_commit:after:1")
    (fence,) = [path for path in scene.path.parent.glob(".exlab-clearing-*") if path.is_dir()]
    fence.rename(tmp_path / "rescued")
    recovery.recover(now=scene.now)
    attempt.refresh_from_db()
    assert (attempt.phase, attempt.reason) == ("done", "removal_incomplete")
    assert "another program took the rest away" in attempt.detail
    scene.assert_freed(0, 0)
    recovery.recover(now=scene.now)
    attempt.refresh_from_db()
    assert (attempt.reason, attempt.freed_files, attempt.freed_bytes) == ("", 0, 0)
    assert scene.kinds() == ["authorised", "partial", "completed"]
    scene.assert_freed(0, 0)
    assert len(inodes(tmp_path / "rescued")) == len(scene.inodes)


def test_a_fence_that_vanishes_after_it_was_emptied_is_counted_whole(
    scene: Scene, crash: Callable[[str], ClearAttempt]
) -> None:
    attempt = crash(f"{REMOVAL}:_remove_fence:before:1")
    attempt.refresh_from_db()
    assert attempt.emptied
    (fence,) = scene.path.parent.glob(".exlab-clearing-*")
    fence.rmdir()
    recovery.recover(now=scene.now)
    scene.assert_cleared()


@pytest.mark.parametrize("name", ["tiles/t_0001.tif", f"{METADATA}/creation.json"])
def test_what_a_person_made_removable_goes_with_the_next_pass(
    scene: Scene, crash: Callable[[str], ClearAttempt], name: str
) -> None:
    """chmod and chattr change the ctime of the plan; the bytes are read and are still the proven ones."""
    crash(f"{FENCES}:publish:after:1")
    (fence,) = scene.path.parent.glob(".exlab-clearing-*")
    (fence / name).chmod(0o640)
    recovery.recover(now=scene.now)
    scene.assert_cleared()


def test_changed_bytes_stay_even_with_the_old_size_and_time(scene: Scene, crash: Callable[[str], ClearAttempt]) -> None:
    crash(f"{FENCES}:publish:after:1")
    (fence,) = scene.path.parent.glob(".exlab-clearing-*")
    tile = fence / "tiles/t_0001.tif"
    status = tile.stat()
    changed = tile.read_bytes()[::-1]
    tile.write_bytes(changed)
    os.utime(tile, ns=(status.st_atime_ns, status.st_mtime_ns))
    recovery.recover(now=scene.now)
    assert tile.read_bytes() == changed
    assert "tiles/t_0001.tif: changed" in scene.run.attempts.get().detail


def test_without_its_tombstone_a_changed_ctime_keeps_a_file(scene: Scene, crash: Callable[[str], ClearAttempt]) -> None:
    attempt = crash(f"{FENCES}:publish:after:1")
    (Path(os.environ["EXLAB_DATA_DIR"]) / "tombstones" / f"{attempt.pk.hex}.tar.gz").unlink()
    (fence,) = scene.path.parent.glob(".exlab-clearing-*")
    (fence / "tiles/t_0001.tif").chmod(0o640)
    recovery.recover(now=scene.now)
    assert (fence / "tiles/t_0001.tif").exists()


def test_a_fence_that_comes_back_after_the_clear_is_finished_and_counted_once(
    scene: Scene, crash: Callable[[str], ClearAttempt], tmp_path: Path, lab: Lab
) -> None:
    """A disk that lied about its writes: after a power cut the emptied fence is back."""
    attempt = crash(f"{REMOVAL}:_remove_fence:before:1")
    (fence,) = scene.path.parent.glob(".exlab-clearing-*")
    fence.rename(tmp_path / "lost")
    recovery.recover(now=scene.now)
    scene.assert_cleared()
    (tmp_path / "lost").rename(fence)
    found = discovery.discover(scene.root, now=scene.now)
    assert found is not None
    assert found.problems == []
    attempt.refresh_from_db()
    assert attempt.incomplete
    recovery.recover(now=scene.now)
    scene.assert_cleared()
    assert scene.kinds() == ["authorised", "completed"]


def test_another_folder_under_the_name_of_a_finished_fence_stays(
    scene: Scene, crash: Callable[[str], ClearAttempt]
) -> None:
    attempt = crash(f"{REMOVAL}:_remove_fence:after:1")
    recovery.recover(now=scene.now)
    fence = scene.path.with_name(f".exlab-clearing-{attempt.pk.hex}")
    fence.mkdir()
    (fence / "work").write_text("somebody's")
    discovery.discover(scene.root, now=scene.now)
    settled = recovery.recover(now=scene.now)
    ((_attempt, finding),) = settled.unsettled
    # The disk may give the new folder the old inode; then the missing record tells them apart.
    assert finding.reason in (Reason.IDENTITY_MISMATCH, Reason.INGEST_DISAGREES)
    assert (fence / "work").read_text() == "somebody's"
    scene.assert_freed(scene.files, scene.bytes)


@pytest.mark.parametrize("done", [[], [None]], ids=["the challenge has no time yet", "the challenge is gone"])
def test_a_crash_before_the_run_got_its_time_back(scene: Scene, done: list[None]) -> None:
    """The folder has the challenge's time: the plan knows the one before."""
    attempt = scene.attempt()
    with mock.patch("os.utime", side_effect=[*done, KeyboardInterrupt]), pytest.raises(KeyboardInterrupt):
        protocol.perform(attempt, now=scene.now)
    recovery.recover(now=scene.now)
    scene.assert_whole()
