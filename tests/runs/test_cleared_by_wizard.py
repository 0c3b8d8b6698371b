"""The wizard's own clears are shown as its own, and not counted here."""

import json
import os
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cleanup.models import ClearAttempt, IngestEvent, LedgerEntry, Orphan, Phase, Run, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.orphans import orphans
from cleanup.storage.nas import client
from tests.faults import means
from tests.faults.scene import Scene, set_scene
from tests.tools.lab import METADATA, RUN_PATH, Lab, snapshot

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

LATER = timedelta(hours=2)
CLEARED = {"state": "cleared", "at": "2026-06-14T21:40:00Z", "host": "labpc-04"}


@pytest.fixture
def scene(lab: Lab, root: StagingRoot, now: datetime) -> Scene:
    return set_scene(lab, root, now)


def edit(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    record = run / METADATA / "ingest.json"
    content = json.loads(record.read_bytes())
    change(content)
    record.write_text(json.dumps(content))


def say_cleared(record: dict[str, Any]) -> None:
    record["history"].append(CLEARED)
    record["current_state"] = "cleared"


def vanish(scene: Scene) -> None:
    scene.path.rename(scene.lab.base / "removed")


def pass_over(scene: Scene) -> discovery.Discovered:
    before = snapshot(scene.lab.base)
    first = discovery.discover(scene.root, now=scene.now)
    for at in (scene.now, scene.now + LATER):
        discovery.discover(scene.root, now=at)
        orphans.inspect(scene.root, now=at)
    assert snapshot(scene.lab.base) == before
    assert first is not None
    return first


def assert_wizards(run: Run) -> None:
    run.refresh_from_db()
    assert (run.state, run.cleared_by, run.problem) == ("cleared", "wizard", "")
    assert run.cleared_at is not None
    assert run.cleared_at.isoformat() == "2026-06-14T21:40:00+00:00"
    assert list(run.events.order_by("position").values_list("state", flat=True))[-2:] == ["sync_verified", "cleared"]
    assert not LedgerEntry.objects.exists()
    assert not ClearAttempt.objects.exists()
    assert not Orphan.objects.filter(gone_at=None).exists()


def assert_missing(run: Run) -> None:
    run.refresh_from_db()
    assert (run.state, run.cleared_by, run.problem) == ("sync_verified", "", Reason.MISSING_DIRECTORY)
    assert list(orphans.listed().values_list("kind", flat=True)) == ["missing"]


def test_the_record_on_the_nas_says_so(scene: Scene) -> None:
    edit(scene.twin, say_cleared)
    vanish(scene)
    found = pass_over(scene)
    assert (found.problems, found.updated) == ([], 1)
    assert_wizards(scene.run)


@pytest.mark.parametrize("copied_at", ["complete", "sync_queued"])
def test_a_copy_that_was_made_before_the_verification_says_so(
    lab: Lab, root: StagingRoot, now: datetime, copied_at: str
) -> None:
    scene = set_scene(lab, root, now, twin_state=copied_at)
    edit(scene.twin, say_cleared)
    vanish(scene)
    pass_over(scene)
    assert_wizards(scene.run)


@pytest.mark.parametrize("state", ["staging", "complete", "sync_queued"])
def test_a_run_that_was_never_verified_cannot_have_been_cleared(
    lab: Lab, root: StagingRoot, now: datetime, state: str
) -> None:
    scene = set_scene(lab, root, now, state=state)
    scene.twin.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(scene.path, scene.twin)
    edit(scene.twin, say_cleared)
    vanish(scene)
    discovery.discover(root, now=now)
    scene.run.refresh_from_db()
    assert (scene.run.state, scene.run.problem) == (state, Reason.MISSING_DIRECTORY)


def test_the_record_on_the_staging_disk_said_so_before_it_went(scene: Scene) -> None:
    edit(scene.path, say_cleared)
    discovery.discover(scene.root, now=scene.now)
    scene.run.refresh_from_db()
    assert (scene.run.state, scene.run.problem) == ("cleared", Reason.ALREADY_CLEARED)
    vanish(scene)
    pass_over(scene)
    assert_wizards(scene.run)


def nothing(record: dict[str, Any]) -> None:
    """The wizard copied its record before it wrote the end: the usual case."""


def another_path(record: dict[str, Any]) -> None:
    say_cleared(record)
    record["run_path"] = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-18T14-32"


def another_history(record: dict[str, Any]) -> None:
    say_cleared(record)
    record["history"][3]["host"] = "elsewhere"


def an_illegal_history(record: dict[str, Any]) -> None:
    say_cleared(record)
    record["history"].insert(4, {"state": "staging", "at": "2026-06-14T21:00:00Z", "host": "labpc-04"})


def nothing_but_the_end(record: dict[str, Any]) -> None:
    say_cleared(record)
    record["history"] = record["history"][-1:]


@pytest.mark.parametrize("change", [nothing, nothing_but_the_end, another_path, another_history, an_illegal_history])
def test_anything_else_that_is_found_there_says_nothing(scene: Scene, change: Callable[[dict[str, Any]], Any]) -> None:
    edit(scene.twin, change)
    vanish(scene)
    pass_over(scene)
    assert_missing(scene.run)


@pytest.mark.parametrize("how", ["gone", "pipe", "link", "too large", "not mounted", "broken"])
def test_a_record_that_cannot_be_read_says_nothing(scene: Scene, how: str) -> None:
    edit(scene.twin, say_cleared)
    record = scene.twin / METADATA / "ingest.json"
    if how == "not mounted":
        (scene.lab.nas / ".exlab-root").unlink()
    elif how == "too large":
        record.write_bytes(record.read_bytes() + b" " * (4 << 20))
    elif how == "broken":
        record.write_text("{")
    else:
        record.rename(scene.lab.base / "record")
        if how == "pipe":
            os.mkfifo(record)
        elif how == "link":
            record.symlink_to(scene.lab.base / "record")
    vanish(scene)
    if how == "pipe":
        discovery.discover(scene.root, now=scene.now)  # a tree with a pipe cannot be compared by its bytes
        scene.run.refresh_from_db()
        assert scene.run.problem == Reason.MISSING_DIRECTORY
        return
    pass_over(scene)
    assert_missing(scene.run)


def test_a_run_that_is_there_is_not_asked_about(scene: Scene) -> None:
    edit(scene.twin, say_cleared)
    discovery.discover(scene.root, now=scene.now)
    scene.run.refresh_from_db()
    assert (scene.run.state, scene.run.cleared_by) == ("sync_verified", "")


def test_a_run_behind_a_link_or_in_its_fence_is_not_cleared(scene: Scene) -> None:
    edit(scene.twin, say_cleared)
    vanish(scene)
    scene.path.symlink_to(scene.lab.base / "removed")
    discovery.discover(scene.root, now=scene.now)
    scene.run.refresh_from_db()
    assert (scene.run.state, scene.run.problem) == ("sync_verified", Reason.UNSAFE_PATH)
    scene.path.unlink()
    attempt = scene.attempt()
    ClearAttempt.objects.filter(pk=attempt.pk).update(phase=Phase.ABORTED)
    (scene.lab.base / "removed").rename(scene.path.with_name(f".exlab-clearing-{attempt.pk.hex}"))
    discovery.discover(scene.root, now=scene.now)
    scene.run.refresh_from_db()
    assert scene.run.state == "sync_verified"


def test_a_nas_that_hangs_leaves_it_missing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes 1 s of silence."""
    edit(scene.twin, say_cleared)
    vanish(scene)
    monkeypatch.setattr(
        client.NasReader,
        "_start",
        lambda reader: means.subprocess.Popen(["sleep", "60"], stdin=-1, stdout=-1, start_new_session=True),
    )
    with means.impatient(monkeypatch, 0.3):
        discovery.discover(scene.root, now=scene.now)
    scene.run.refresh_from_db()
    assert (scene.run.state, scene.run.problem) == ("sync_verified", Reason.MISSING_DIRECTORY)


def test_pages_say_by_whom(scene: Scene, admin_client: Any) -> None:
    edit(scene.twin, say_cleared)
    vanish(scene)
    pass_over(scene)
    run = scene.run.pk
    for address in (f"/runs/{run}/", "/runs/?state=cleared", f"/runs/{run}/receipt/"):
        answer = admin_client.get(address)
        assert (answer.status_code, "Cleared by the wizard" in answer.content.decode()) == (200, True), address
    assert "has cleared this run. This program has proven nothing" in admin_client.get(f"/runs/{run}/").content.decode()
    assert "has proven nothing" in admin_client.get(f"/runs/{run}/receipt/").content.decode()


def test_a_run_that_comes_back_is_a_new_one(scene: Scene) -> None:
    edit(scene.twin, say_cleared)
    vanish(scene)
    pass_over(scene)
    scene.lab.run(RUN_PATH, state="staging", twin=False)
    discovery.discover(scene.root, now=scene.now)
    assert list(Run.objects.order_by("pk").values_list("state", flat=True)) == ["cleared", "staging"]
    assert IngestEvent.objects.filter(run=scene.run).count() == 5
