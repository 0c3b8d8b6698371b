"""The defects of the tool before this one, one test each."""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cleanup import clear_run, freed_bytes_and_count
from cleanup.clears import clear_now, recovery
from cleanup.clears.refusal import Refused
from cleanup.lab.roots import opening
from cleanup.models import LedgerEntry, Run
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.storage.staging import run_tree
from cleanup.sweeps import all_roots
from tests.faults import children, means
from tests.faults.cases import survey
from tests.faults.scene import Scene, set_scene, states_on_disk
from tests.tools.checkout import CHECKOUT
from tests.tools.lab import METADATA, RUN_PATH, Lab, census, manifest_of, touch

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

TILE = "tiles/t_0001.tif"


@pytest.fixture
def scene(lab: Lab, root: Any, now: datetime) -> Scene:
    return set_scene(lab, root, now)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    other = Lab(tmp_path / "another lab")
    return other.run()


# Any path was accepted


@pytest.mark.parametrize("how", ["absolute", "climbing", "climbing from a run", "the root itself", "a folder of runs"])
def test_no_path_but_a_run_s_own_is_cleared(scene: Scene, elsewhere: Path, tmp_path: Path, how: str) -> None:
    climbing = os.path.relpath(elsewhere, scene.lab.staging)
    path = {
        "absolute": str(elsewhere),
        "climbing": climbing,
        "climbing from a run": f"{RUN_PATH}/../../../../{climbing}",
        "the root itself": "",
        "a folder of runs": RUN_PATH.rpartition("/")[0],
    }[how]
    Run.objects.filter(pk=scene.run.pk).update(run_path=path)
    before = survey(tmp_path)
    with pytest.raises(Refused) as refused:
        clear_run(Run.objects.with_root().get(pk=scene.run.pk), now=scene.now)
    assert refused.value.finding.reason is Reason.UNSAFE_PATH
    assert survey(tmp_path) == before


@pytest.mark.django_db(transaction=True)
def test_the_command_knows_runs_and_no_paths(
    scene: Scene, elsewhere: Path, tmp_path: Path, subprocess_env: dict[str, str]
) -> None:
    before = survey(tmp_path)
    for path in (str(elsewhere), f"{RUN_PATH}/../.."):
        command = [sys.executable, "manage.py", "clear", path, "--json"]
        done = subprocess.run(command, cwd=CHECKOUT, env=subprocess_env, capture_output=True, timeout=60)
        assert done.returncode == 2
        assert b"Traceback" not in done.stderr
    assert survey(tmp_path) == before


# Errors were ignored, and all bytes claimed


def test_only_what_is_gone_is_claimed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file cannot be unlinked: count, outcome and ledger leave it out."""
    unlink = os.unlink

    def unlink_but_one(path: Any, *args: Any, **kwargs: Any) -> None:
        if os.fsencode(path).endswith(b"t_0001.tif"):
            raise PermissionError(1, "Operation not permitted")
        unlink(path, *args, **kwargs)

    with means.replaced(monkeypatch, run_tree.os, "unlink", unlink_but_one):
        swept = clear_now.clear([scene.run], now=scene.now, actor="ada")
    (fence,) = (path for path in scene.path.parent.iterdir() if path.name.startswith(".exlab-clearing-"))
    left = census(fence)
    assert left[0] == 2  # the file, and the record that tells its story
    record = scene.entries[f"{METADATA}/ingest.json"].size
    freed = scene.files - 2, scene.bytes - scene.entries[TILE].size - record
    assert (swept.runs[0].action, swept.files, swept.bytes_freed, swept.failed) == ("partial", *freed, 1)
    assert f"2 of {scene.files} files left" in swept.runs[0].detail
    assert LedgerEntry.objects.totals()["bytes"] == freed[1]
    recovery.recover(now=scene.now)
    scene.assert_cleared()


# The record went together with the run


def test_the_history_outlives_the_run(scene: Scene) -> None:
    before = json.loads((scene.path / METADATA / "ingest.json").read_bytes())
    clear_run(scene.run, now=scene.now)
    attempt = scene.run.attempts.get()
    with tarfile.open(opening.data_dir().tombstone_path(attempt.pk.hex)) as archive:
        member = archive.extractfile("ingest.json")
        assert member is not None
        kept = json.loads(member.read())
    assert kept["history"][:-1] == before["history"]
    assert kept["history"][-1]["state"] == kept["current_state"] == "cleared"
    assert scene.states() == [entry["state"] for entry in kept["history"]]


def test_the_record_says_cleared_as_long_as_anything_is_left(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every removal the record is still there, and the database knows."""
    seen = []
    unlink = os.unlink

    def look_and_unlink(path: Any, *args: Any, **kwargs: Any) -> None:
        # The challenge is no part of the run: it goes before the commit.
        challenge = os.fsencode(path).startswith(b".exlab-challenge-")
        fences = [each for each in scene.path.parent.iterdir() if each.name.startswith(".exlab-clearing-")]
        if fences and not challenge and (fences[0] / METADATA / "ingest.json").exists():
            seen.append((states_on_disk(fences[0])[-1], Run.objects.get(pk=scene.run.pk).state))
        unlink(path, *args, **kwargs)

    with means.replaced(monkeypatch, run_tree.os, "unlink", look_and_unlink):
        clear_run(scene.run, now=scene.now)
    assert len(seen) >= scene.files
    assert set(seen) == {("cleared", "cleared")}


# A crash left `cleared` with the data still there, for ever


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("by", ["recovery", "the next sweep"])
def test_a_clear_that_was_killed_is_completed(
    scene: Scene, subprocess_env: dict[str, str], policy: Callable[..., Any], by: str
) -> None:
    attempt = scene.attempt()
    children.kill_at(
        "cleanup.storage.staging.removal:_unlink_planned:after:2", subprocess_env, "clear", scene.now, str(attempt.pk)
    )
    assert Run.objects.get().state == "cleared"
    assert scene.leftovers() != []
    scene.assert_freed(0, 0)
    if by == "recovery":
        recovery.recover(now=scene.now)
    else:
        policy(mode="scheduled", retain_hours=0)
        all_roots.sweep(now=scene.now)
    scene.assert_cleared()


def test_cleared_by_another_program_with_the_data_still_there_is_shown(scene: Scene, root: Any) -> None:
    """The tool before this one wrote `cleared` and died: the run is neither called cleared nor hidden."""
    record = json.loads((scene.path / METADATA / "ingest.json").read_bytes())
    record["history"].append({"state": "cleared", "at": "2026-06-14T10:00:00Z", "host": "labpc-04"})
    record["current_state"] = "cleared"
    (scene.path / METADATA / "ingest.json").write_text(json.dumps(record))
    before = survey(scene.lab.base)
    found = discovery.discover(root, now=scene.now)
    assert found is not None
    assert (RUN_PATH, Reason.ALREADY_CLEARED) in [problem[:2] for problem in found.problems]
    assert Run.objects.get().problem == Reason.ALREADY_CLEARED
    assert survey(scene.lab.base) == before


# Links were followed, and two names counted twice


def test_no_link_is_followed(scene: Scene, elsewhere: Path) -> None:
    for name, target in (("folder", elsewhere), ("file", elsewhere / TILE), ("nowhere", Path("/nonexistent"))):
        (scene.path / name).symlink_to(target)
    before = survey(elsewhere)
    assert freed_bytes_and_count(scene.path) == (scene.files, scene.bytes)
    with pytest.raises(Refused) as refused:
        clear_run(scene.run, now=scene.now)
    assert refused.value.finding.reason is Reason.UNSAFE_PATH
    assert survey(elsewhere) == before


def test_two_names_count_once(scene: Scene) -> None:
    twice = "tiles/twice.tif"
    os.link(scene.path / TILE, scene.path / twice)
    (scene.twin / twice).write_bytes((scene.twin / TILE).read_bytes())
    manifest = scene.path / METADATA / "checksums.sha256"
    added = manifest_of({twice: (scene.path / twice).read_bytes()})
    manifest.write_bytes(manifest.read_bytes() + added)
    touch(scene.path / TILE, datetime.fromisoformat("2026-04-17T15:00:00Z"))
    expected = scene.files, scene.bytes + len(added)
    assert freed_bytes_and_count(scene.path) == expected
    assert clear_run(scene.run, now=scene.now) == expected
    assert LedgerEntry.objects.totals()["bytes"] == expected[1]
