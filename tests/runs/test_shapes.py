"""An unusual path holds a run only if its own record names the place."""

import os
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from cleanup import clear_run
from cleanup.clears import nas_history, recovery
from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, Orphan, Phase, Run
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.orphans import orphans
from tests.faults import children
from tests.faults.scene import Scene, set_scene
from tests.tools.lab import METADATA, RUN_PATH, Lab, date_everything, read_ingest, snapshot

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine]

PROJECT = "CONFOCAL_01/PROJ-0042"
FOLDER = f"{PROJECT}/Runs"
IN_ITS_PROJECT = f"{PROJECT}/Run_2026-04-17T14-32"
SHAPES = {
    f"{FOLDER}/Run_calibration": "experimental",
    f"{FOLDER}/Run_2026-05-05": "experimental",
    f"{FOLDER}/Run_Kalibrierung µm": "experimental",
    f"{PROJECT}/TestRuns/TestRun_dry": "test",
    IN_ITS_PROJECT: "experimental",
    f"{PROJECT}/Run_calibration": "experimental",
    f"{PROJECT}/TestRun_2026-04-17T14-32": "test",
}
LATER = timedelta(days=1)


@pytest.fixture
def old(now: datetime) -> datetime:
    return now - timedelta(days=3)


def pass_over(root: Any, now: datetime) -> discovery.Discovered:
    before = snapshot(Path(root.path))
    found = discovery.discover(root, now=now)
    orphans.inspect(root, now=now)
    assert snapshot(Path(root.path)) == before
    assert found is not None
    return found


def kinds() -> dict[str, str]:
    return {orphan.path: orphan.kind for orphan in orphans.listed()}


@pytest.mark.parametrize("run_path", SHAPES)
def test_its_record_names_the_place_and_it_is_a_run(lab: Lab, root: Any, now: datetime, run_path: str) -> None:
    scene = set_scene(lab, root, now, run_path)
    assert (scene.run.equipment, scene.run.project) == ("CONFOCAL_01", "PROJ-0042")
    assert (scene.run.leaf, scene.run.run_kind) == (scene.path.name, SHAPES[run_path])
    found = pass_over(root, now + LATER)
    assert (found.found, found.problems, kinds()) == (1, [], {})
    assert clear_run(scene.run, now=now) == (scene.files, scene.bytes)
    scene.assert_cleared()
    assert nas_history.tell(now=timezone.now()) == 1
    assert read_ingest(scene.twin)["current_state"] == "cleared"
    assert pass_over(root, now + LATER).found == 0
    assert (kinds(), Run.objects.count()) == ({}, 1)


def no_record(path: Path) -> None:
    (path / METADATA / "ingest.json").unlink()


def a_broken_record(path: Path) -> None:
    (path / METADATA / "ingest.json").write_text("{")


def the_record_of_another_run(path: Path) -> None:
    record = path / METADATA / "ingest.json"
    record.write_text(record.read_text().replace(path.name, "Run_2026-04-17T14-33"))


def another_kind(path: Path) -> None:
    record = path / METADATA / "ingest.json"
    record.write_text(record.read_text().replace('"run_kind":"', '"run_kind":"x'))


def a_pipe_for_a_record(path: Path) -> None:
    no_record(path)
    os.mkfifo(path / METADATA / "ingest.json")


def a_link_for_a_record(path: Path) -> None:
    record = path / METADATA / "ingest.json"
    record.rename(path / "record")
    record.symlink_to(path / "record")


@pytest.mark.parametrize(
    "spoil",
    [no_record, a_broken_record, the_record_of_another_run, another_kind, a_pipe_for_a_record, a_link_for_a_record],
    ids=lambda spoil: spoil.__name__,
)
def test_without_such_a_record_it_stays_an_orphan(
    lab: Lab, root: Any, now: datetime, old: datetime, spoil: Any
) -> None:
    paths = [f"{FOLDER}/Run_calibration", IN_ITS_PROJECT]
    for run_path in paths:
        path = lab.run(run_path)
        spoil(path)
        date_everything(path, old, old)
    assert pass_over(root, now).found == 0
    assert kinds() == dict(zip(paths, ("stray", "misplaced"), strict=True))
    assert not Run.objects.exists()
    for orphan in orphans.listed():
        orphans.look_again(orphan, now=now)
    assert not Run.objects.exists()


def test_a_copy_beside_a_run_is_none(lab: Lab, root: Any, now: datetime, old: datetime) -> None:
    path = lab.run()
    for copy in ("Run_2026-04-17T14-32 (copy)", "Run_2026-04-17T14-32.bak", "../Run_2026-04-17T14-32"):
        date_everything(shutil.copytree(path, path.parent / copy), old, old)
    assert pass_over(root, now).found == 1
    assert [run.run_path for run in Run.objects.all()] == [RUN_PATH]
    assert sorted(kinds().values()) == ["misplaced", "stray", "stray"]


def test_one_whose_record_comes_later_is_adopted(lab: Lab, root: Any, now: datetime, old: datetime) -> None:
    path = lab.run(IN_ITS_PROJECT)
    record = path / METADATA / "ingest.json"
    record.rename(lab.base / "record")
    date_everything(path, old, old)
    pass_over(root, now)
    (lab.base / "record").rename(record)
    again = orphans.look_again(orphans.listed().get(), now=now)
    assert again is not None
    assert again.gone_at == now
    assert Run.objects.get().run_path == IN_ITS_PROJECT


def test_a_known_one_whose_record_breaks_stays_a_run(lab: Lab, root: Any, now: datetime, old: datetime) -> None:
    scene = set_scene(lab, root, now, IN_ITS_PROJECT)
    a_broken_record(scene.path)
    date_everything(scene.path, old, old)
    pass_over(root, now)
    assert Run.objects.get().problem == Reason.INGEST_UNREADABLE
    assert kinds() == {IN_ITS_PROJECT: "no_record"}
    scene.path.rename(lab.base / "away")
    scene.path.symlink_to(lab.base / "away")
    pass_over(root, now + LATER)
    assert Run.objects.get().problem == Reason.UNSAFE_PATH
    assert kinds() == {}


def test_one_that_vanishes_is_missing(lab: Lab, root: Any, now: datetime) -> None:
    scene = set_scene(lab, root, now, f"{FOLDER}/Run_calibration")
    scene.path.rename(lab.base / "away")
    pass_over(root, now)
    pass_over(root, now + LATER)
    assert kinds() == {f"{FOLDER}/Run_calibration": "missing"}


# A clear of a run in its project itself: the fence lies one step higher


@pytest.mark.parametrize(
    ("place", "phase", "settled"),
    [
        ("cleanup.storage.staging.fences:fence:after:1", "intent", "rolled_back"),
        ("cleanup.clears.protocol:_commit:after:1", "committed", "rolled_forward"),
        ("cleanup.storage.staging.removal:_unlink_planned:after:3", "committed", "rolled_forward"),
    ],
)
def test_a_killed_clear_is_settled(
    lab: Lab, root: Any, now: datetime, subprocess_env: dict[str, str], place: str, phase: str, settled: str
) -> None:
    scene = set_scene(lab, root, now, IN_ITS_PROJECT)
    attempt = scene.attempt()
    children.kill_at(place, subprocess_env, "clear", now, str(attempt.pk))
    attempt.refresh_from_db()
    assert attempt.phase == phase
    (fence,) = (path for path in scene.path.parent.glob(".exlab-clearing-*") if path.is_dir())
    assert fence.parent == lab.staging / PROJECT
    assert pass_over(root, now + LATER).problems == []
    assert kinds() == {}
    assert [one.pk for one in getattr(recovery.recover(now=now), settled)] == [attempt.pk]
    if settled == "rolled_back":
        scene.assert_whole()
        assert clear_run(scene.run, now=now) == (scene.files, scene.bytes)
    scene.assert_cleared()


def test_a_fence_belongs_to_the_folder_of_its_run_alone(lab: Lab, root: Any, now: datetime, old: datetime) -> None:
    scenes = [set_scene(lab, root, now, run_path) for run_path in (RUN_PATH, IN_ITS_PROJECT)]
    for scene, elsewhere in zip(scenes, (lab.staging / PROJECT, lab.staging / FOLDER), strict=True):
        attempt = scene.attempt()
        ClearAttempt.objects.filter(pk=attempt.pk).update(phase=Phase.INTENT)
        fence = elsewhere / f".exlab-clearing-{attempt.pk.hex}"
        fence.mkdir()
        date_everything(fence, old, old)
    found = pass_over(root, now)
    assert {reason for _path, reason, _detail in found.problems} == {Reason.STRAY_FENCE}
    assert len(found.problems) == 2
    assert set(kinds().values()) == {"leftover"}


# What the wizard leaves above the runs


def test_a_projects_own_files_are_no_strays(lab: Lab, root: Any, now: datetime, old: datetime) -> None:
    lab.run()
    (lab.staging / PROJECT / "README.md").write_text("# PROJ-0042\n")
    for place in ("CONFOCAL_01", PROJECT, f"{PROJECT}/TestRuns"):
        (lab.staging / place / METADATA).mkdir(parents=True)
        (lab.staging / place / METADATA / "creation.json").write_text("{}")
        (lab.staging / place / ".exlab-answers.yml").write_text("")
    for stray in (f"{FOLDER}/README.md", "CONFOCAL_01/README.md", f"{PROJECT}/readme.txt"):
        (lab.staging / stray).write_text("")
    (lab.staging / "FLOW_01/P/README.md").mkdir(parents=True)
    (lab.staging / "FLOW_01/Q").mkdir()
    (lab.staging / "FLOW_01/Q/README.md").symlink_to("nowhere")
    date_everything(lab.staging, old, old)
    pass_over(root, now)
    assert set(kinds()) == {
        f"{FOLDER}/README.md",
        "CONFOCAL_01/README.md",
        f"{PROJECT}/readme.txt",
        "FLOW_01/P/README.md",
        "FLOW_01/Q/README.md",
    }


# Pages


def test_pages_show_one_in_its_project(lab: Lab, root: Any, now: datetime, admin_client: Any) -> None:
    scene = set_scene(lab, root, now, IN_ITS_PROJECT)
    for address in ("/runs/", f"/runs/{scene.run.pk}/", f"/runs/?q={scene.run.leaf}", "/instruments/", "/problems/"):
        assert admin_client.get(address).status_code == 200
    assert IN_ITS_PROJECT in admin_client.get(f"/runs/{scene.run.pk}/").content.decode()
    assert not Orphan.objects.exists()
    with opening.reached(scene.run) as (opened, _reader):
        assert os.fstat(opened.parent).st_ino == (lab.staging / PROJECT).stat().st_ino


def test_two_of_one_name_are_two_runs(lab: Lab, root: Any, now: datetime) -> None:
    scenes: list[Scene] = [set_scene(lab, root, now, run_path) for run_path in (RUN_PATH, IN_ITS_PROJECT)]
    assert clear_run(scenes[1].run, now=now) == (scenes[1].files, scenes[1].bytes)
    scenes[0].assert_whole()
    scenes[1].assert_cleared()
