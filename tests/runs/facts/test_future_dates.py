"""Files of a wrong clock: ten minutes without change, and then every byte."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cleanup.clears import protocol
from cleanup.models import ClearAttempt, Run
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.facts import stored_facts
from tests.faults.scene import Scene, set_scene
from tests.tools.lab import METADATA, Lab, touch

pytestmark = pytest.mark.django_db(transaction=True)
TILE = "tiles/t_0001.tif"
NEVER = datetime(2107, 12, 31, tzinfo=UTC)
LATER = timedelta(minutes=10)


@pytest.fixture(params=["ingest", "sync_state"])
def scene(lab: Lab, root: Any, now: datetime, request: pytest.FixtureRequest) -> Scene:
    scene = set_scene(lab, root, now, record=request.param)
    for side in (scene.path, scene.twin):
        touch(side / TILE, NEVER)
    if request.param == "sync_state":
        redate(scene.path)
    discovery.discover(root, now=now)
    return scene


def redate(run: Path) -> None:
    """A file's signature is made of its size and time when it was copied."""
    from tests.tools.lab import read_sync_state, write_sync_state

    said = read_sync_state(run)
    said["files"][TILE]["synced_signature"][1] = (run / TILE).stat().st_mtime_ns
    write_sync_state(run, said)


def clear(scene: Scene, now: datetime) -> ClearAttempt:
    return protocol.perform(scene.attempt(), now=now)


def test_it_waits_and_then_goes(scene: Scene) -> None:
    early = clear(scene, scene.now + LATER - timedelta(seconds=1))
    assert early.reason == Reason.FUTURE_DATED
    assert "2107-12-31" in early.detail
    assert f"{scene.now:%Y-%m-%d %H:%M}" in early.detail
    assert scene.path.is_dir()
    attempt = clear(scene, scene.now + LATER)
    assert (attempt.reason, attempt.phase) == ("", "done")


def test_the_first_look_counts_however_often_it_is_looked_at(scene: Scene) -> None:
    discovery.discover(scene.root, now=scene.now + LATER / 2)
    run = Run.objects.get()
    assert stored_facts.facts_of(run).future.since == scene.now
    assert clear(scene, scene.now + LATER).phase == "done"


@pytest.mark.parametrize(
    "change", ["bytes", *(pytest.param(change, marks=pytest.mark.exhaustive) for change in ("chmod", "size"))]
)
def test_any_change_meanwhile_begins_it_anew(scene: Scene, change: str) -> None:
    path = scene.path / TILE
    content = path.read_bytes()
    {
        "bytes": lambda: path.write_bytes(content),
        "chmod": lambda: path.chmod(0o600),
        "size": lambda: path.write_bytes(content + b"x"),
    }[change]()
    touch(path, NEVER)
    attempt = clear(scene, scene.now + LATER)
    assert attempt.reason in (Reason.FUTURE_DATED, Reason.NAS_SIZE_MISMATCH, Reason.NOT_SYNC_VERIFIED)
    assert scene.path.is_dir()


@pytest.mark.parametrize("level", ["size", "record"])
def test_without_every_byte_compared_it_stays(scene: Scene, policy: Callable[..., Any], level: str) -> None:
    policy(proof=level)
    assert clear(scene, scene.now + LATER).reason == Reason.CHANGED_SINCE_VERIFICATION
    assert scene.path.is_dir()


def test_other_bytes_stay(scene: Scene) -> None:
    twin = scene.twin / TILE
    twin.write_bytes(twin.read_bytes()[:-1] + b"?")
    touch(twin, NEVER)
    assert clear(scene, scene.now + LATER).reason == Reason.NAS_CHECKSUM_MISMATCH
    assert scene.path.is_dir()


def test_a_draft_of_a_wrong_clock_is_judged_by_when_this_host_saw_it(lab: Lab, root: Any) -> None:
    """Its change time is this host's, independent of the test's instant."""
    scene = set_scene(lab, root, datetime.now(UTC) + timedelta(hours=2))
    draft = scene.path / METADATA / "ingest.json.a1b2c3d4.tmp"
    draft.write_bytes(b"{}")
    os.utime(draft, (NEVER.timestamp(), NEVER.timestamp()))
    assert clear(scene, datetime.now(UTC) + timedelta(minutes=59)).reason == Reason.WRITER_ACTIVE
    assert clear(scene, datetime.now(UTC) + timedelta(minutes=61)).phase == "done"
