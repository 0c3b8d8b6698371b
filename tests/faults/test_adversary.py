"""What somebody would do who wants a byte lost, a count wrong, or a run hidden: each of these once worked."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cleanup import clear_run, discovery, recovery
from cleanup.clearing import Refused
from cleanup.models import ClearAttempt
from cleanup.policy.reasons import Reason
from cleanup.staging import tree
from tests.faults import children
from tests.faults.scene import Scene, inodes, set_scene
from tests.lab import METADATA, Lab, census

pytestmark = pytest.mark.django_db(transaction=True)

CLEARING, TREE = "cleanup.clearing", "cleanup.staging.tree"


@pytest.fixture
def scene(lab: Lab, root: Any, now: datetime) -> Scene:
    return set_scene(lab, root, now)


@pytest.fixture
def crash(scene: Scene, subprocess_env: dict[str, str]) -> Callable[[str], ClearAttempt]:
    """Let a process clear the scene's run and be killed at a place."""

    def clear_and_die(place: str) -> ClearAttempt:
        attempt = scene.attempt()
        children.kill_at(place, subprocess_env, "clear", scene.now, str(attempt.pk))
        attempt.refresh_from_db()
        return attempt

    return clear_and_die


def test_a_run_put_into_safety_while_its_bytes_are_compared_is_not_followed_there(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Comparing takes hours: somebody moves the run away and puts other work at its path meanwhile."""
    safe = tmp_path / "kept by hand"
    fence = tree.fence

    def swap_and_fence(*args: Any) -> None:
        scene.path.rename(safe)
        scene.path.mkdir()
        (scene.path / "new work").write_bytes(b"without any twin")
        fence(*args)

    monkeypatch.setattr(tree, "fence", swap_and_fence)
    with pytest.raises(Refused):
        clear_run(scene.run, now=scene.now)
    assert inodes(safe) == scene.inodes
    assert (scene.path / "new work").read_bytes() == b"without any twin"
    assert scene.leftovers() == []
    assert scene.kinds() == ["refused"]


def test_what_was_freed_is_counted_once_however_late_recovery_looks(
    scene: Scene, crash: Callable[[str], ClearAttempt], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One recovery has read the attempt and is busy elsewhere while another finishes it with something left."""
    crash(f"{TREE}:publish:after:1")
    (fence,) = scene.path.parent.glob(".exlab-clearing-*")
    (fence / "late").write_bytes(b"late")
    settle = recovery._settle
    others: list[ClearAttempt] = []

    def settle_late(attempt: ClearAttempt, *rest: Any) -> None:
        if not others:
            others.append(attempt)
            recovery.recover(now=scene.now)
        settle(attempt, *rest)

    monkeypatch.setattr(recovery, "_settle", settle_late)
    recovery.recover(now=scene.now)
    assert census(fence)[0] == 2
    record = scene.entries[f"{METADATA}/ingest.json"].size
    scene.assert_freed(scene.files - 1, scene.bytes - record)


def test_a_project_folder_renamed_after_the_commit_is_not_taken_for_a_finished_clear(
    scene: Scene, crash: Callable[[str], ClearAttempt]
) -> None:
    crash(f"{CLEARING}:_commit:after:1")
    project = scene.path.parent.parent
    project.rename(project.with_name("PROJ-0042-old"))
    settled = recovery.recover(now=scene.now)
    assert scene.kinds() == ["authorised"]
    assert [finding.reason for _attempt, finding in settled.unsettled] == [Reason.MISSING_DIRECTORY]
    assert Reason.MISSING_DIRECTORY.sentence in scene.run.attempts.get().detail  # and the pages tell it
    project.with_name("PROJ-0042-old").rename(project)
    recovery.recover(now=scene.now)
    scene.assert_cleared()


def test_a_project_folder_renamed_before_the_commit_does_not_hide_the_run(
    scene: Scene, crash: Callable[[str], ClearAttempt]
) -> None:
    attempt = crash(f"{TREE}:fence:after:1")
    project = scene.path.parent.parent
    project.rename(project.with_name("PROJ-0042-old"))
    recovery.recover(now=scene.now)
    project.with_name("PROJ-0042-old").rename(project)
    recovery.recover(now=scene.now)
    attempt.refresh_from_db()
    assert attempt.phase == "aborted"
    scene.assert_whole()


def test_what_a_person_takes_out_of_a_fence_is_not_claimed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A removal left something; a person moves the rest elsewhere on the same disk."""
    publish = tree.publish

    def change_and_publish(*args: Any) -> None:
        publish(*args)
        (fence,) = scene.path.parent.glob(".exlab-clearing-*")
        for tile in (fence / "tiles").iterdir():
            tile.write_bytes(b"changed")

    with monkeypatch.context() as patch:
        patch.setattr(tree, "publish", change_and_publish)
        freed = clear_run(scene.run, now=scene.now)
    (fence,) = scene.path.parent.glob(".exlab-clearing-*")
    fence.rename(tmp_path / "rescued")
    recovery.recover(now=scene.now)
    scene.assert_freed(*freed)


def test_a_fence_of_an_unknown_attempt_is_reported(scene: Scene, root: Any) -> None:
    """The database was restored from an older backup: the run lies whole under a name that hides it."""
    fence = scene.path.with_name(".exlab-clearing-" + "0" * 32)
    scene.path.rename(fence)
    found = discovery.discover(root, now=scene.now)
    assert found is not None
    assert (f"CONFOCAL_01/PROJ-0042/Runs/{fence.name}", Reason.STRAY_FENCE, "") in found.problems
    assert inodes(fence) == scene.inodes
