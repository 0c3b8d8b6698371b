"""A known difference of bytes stands until something changes."""

import errno
import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from cleanup.clears import preparation
from cleanup.clears.clear_now import clear
from cleanup.clears.run_action import Action, RunAction
from cleanup.models import Difference, Proof, Run
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.proofs import differences, proofs
from cleanup.sweeps.all_roots import sweep
from tests.faults import means
from tests.faults.scene import Scene, set_scene
from tests.tools.lab import METADATA, Lab

pytestmark = pytest.mark.django_db

TILE = "tiles/t_0001.tif"
LONG_AGO = datetime(2026, 5, 1).timestamp()
WEEK = timedelta(days=7)


def damage(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    os.utime(path, (LONG_AGO, LONG_AGO))


@pytest.fixture
def damaged(lab: Lab, root: Any, now: datetime, policy: Callable[..., Any]) -> Scene:
    policy(mode="scheduled", retain_hours=1, rehearse=False)
    scene = set_scene(lab, root, now)
    damage(scene.twin / TILE)
    return scene


def swept(now: datetime, **how: Any) -> RunAction:
    (action,) = sweep(now=now, timed=True, **how).runs
    return action


def hours(count: float) -> timedelta:
    return timedelta(hours=count)


def test_a_damaged_twin_is_read_once_and_told_once(damaged: Scene, read: list[bytes]) -> None:
    first = swept(damaged.now)
    assert (first.action, first.reason) == (Action.SKIPPED, Reason.NAS_CHECKSUM_MISMATCH)
    assert read
    read.clear()
    said = {swept(damaged.now + hours(count)) for count in (1, 2, 150)}
    assert read == []
    (again,) = said
    assert (again.action, again.reason) == (Action.SKIPPED, Reason.NAS_CHECKSUM_MISMATCH)
    assert f"{TILE} on the NAS; compared on 2026-06-15 08:00 UTC, nothing has changed since" in again.detail
    assert "the schedule reads it again from 2026-06-22 08:00 UTC on, a click at once" in again.detail
    assert damaged.kinds() == ["refused"]
    assert damaged.run.attempts.count() == 1


def test_after_a_week_it_is_read_again_and_told_once_more(damaged: Scene, read: list[bytes]) -> None:
    swept(damaged.now)
    read.clear()
    swept(damaged.now + WEEK)
    assert read
    assert damaged.kinds() == ["refused", "refused"]
    assert Difference.objects.get().at == damaged.now + WEEK


def test_a_difference_from_the_future_does_not_count(damaged: Scene, read: list[bytes]) -> None:
    swept(damaged.now)
    read.clear()
    swept(damaged.now - hours(1))
    assert read


def rewritten(path: Path) -> None:
    status = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def another_inode(path: Path) -> None:
    status = path.stat()
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    copy.replace(path)


CHANGES: dict[str, Callable[[Scene], None]] = {
    "the damaged twin is written again": lambda scene: rewritten(scene.twin / TILE),
    "another file of the twin has another inode": lambda scene: another_inode(scene.twin / "stack.ome.xml"),
    "the twin has another time": lambda scene: os.utime(scene.twin / TILE, (LONG_AGO + 1, LONG_AGO + 1)),
    "the staged file is written again": lambda scene: rewritten(scene.path / TILE),
    "the manifest is written again": lambda scene: rewritten(scene.path / METADATA / "checksums.sha256"),
}


ALSO = {"another file of the twin has another inode", "the twin has another time"}


@pytest.mark.parametrize(
    "change", [pytest.param(change, marks=[pytest.mark.exhaustive] if change in ALSO else []) for change in CHANGES]
)
def test_whatever_has_changed_on_either_side_is_read_again(damaged: Scene, read: list[bytes], change: str) -> None:
    swept(damaged.now)
    CHANGES[change](damaged)
    read.clear()
    swept(damaged.now + hours(1))
    assert read
    read.clear()
    swept(damaged.now + hours(2))
    assert read == []


def test_a_mended_twin_lets_the_run_go_with_the_next_sweep(lab: Lab, damaged: Scene) -> None:
    swept(damaged.now)
    mended = damaged.twin / TILE
    mended.write_bytes((damaged.path / TILE).read_bytes())
    os.utime(mended, (LONG_AGO, LONG_AGO))
    assert swept(damaged.now + hours(1)).action is Action.CLEARED
    assert not Difference.objects.exists()


def test_damage_on_the_staging_side_is_remembered_as_well(
    lab: Lab, root: Any, now: datetime, policy: Callable[..., Any], read: list[bytes]
) -> None:
    policy(mode="scheduled", retain_hours=1, rehearse=False)
    scene = set_scene(lab, root, now)
    damage(scene.path / TILE)
    assert "in staging" in swept(now).detail
    read.clear()
    assert f"{TILE} in staging; compared on" in swept(now + hours(1)).detail
    assert read == []


def test_touched_files_that_differ_are_remembered_as_well(damaged: Scene, read: list[bytes]) -> None:
    late = (damaged.now - hours(2)).timestamp()
    os.utime(damaged.path / TILE, (late, late))
    swept(damaged.now)
    read.clear()
    assert swept(damaged.now + hours(1)).reason == Reason.NAS_CHECKSUM_MISMATCH
    assert read == []


def test_an_operator_s_click_reads_at_once(damaged: Scene, read: list[bytes]) -> None:
    swept(damaged.now)
    read.clear()
    (action,) = clear([damaged.run], now=damaged.now + hours(1), actor="ada").runs
    assert (action.action, action.reason, action.detail) == (
        Action.REFUSED,
        Reason.NAS_CHECKSUM_MISMATCH,
        f"{TILE} on the NAS",
    )
    assert read
    assert Difference.objects.get().at == damaged.now + hours(1)


def test_a_dry_run_reads_nothing_again_and_remembers_nothing(damaged: Scene, read: list[bytes]) -> None:
    swept(damaged.now, dry_run=True)
    assert read
    assert not Difference.objects.exists()
    swept(damaged.now)
    read.clear()
    assert "nothing has changed since" in swept(damaged.now + hours(1), dry_run=True).detail
    assert read == []


def test_a_twin_that_was_written_while_it_was_read_is_read_again(damaged: Scene, read: list[bytes]) -> None:
    os.utime(damaged.twin / TILE, (damaged.now.timestamp() + 1, damaged.now.timestamp() + 1))
    swept(damaged.now)
    assert Difference.objects.get().evidence == ""
    read.clear()
    swept(damaged.now + hours(1))
    assert read


@pytest.mark.parametrize("written", [LONG_AGO, None], ids=["seen for sure", "written while it was read"])
def test_no_earlier_proof_counts_once_a_difference_was_found(
    damaged: Scene, monkeypatch: pytest.MonkeyPatch, written: float | None
) -> None:
    """The twin was equal, is damaged and found, and then gets its old time back."""
    twin = damaged.twin / TILE
    twin.write_bytes((damaged.path / TILE).read_bytes())
    os.utime(twin, (LONG_AGO - 1, LONG_AGO - 1))
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "keep_plan", means.failing(OSError(errno.ENOSPC, "planted")))
        swept(damaged.now)
    assert Proof.objects.get().evidence
    damage(twin)
    at = written or (damaged.now + hours(1)).timestamp()
    os.utime(twin, (at, at))
    swept(damaged.now + hours(1))
    os.utime(twin, (LONG_AGO - 1, LONG_AGO - 1))
    assert swept(damaged.now + hours(2)).reason == Reason.NAS_CHECKSUM_MISMATCH
    (action,) = clear([damaged.run], now=damaged.now + hours(3), actor="ada").runs
    assert (action.action, action.reason) == (Action.REFUSED, Reason.NAS_CHECKSUM_MISMATCH)
    assert damaged.path.is_dir()


def test_an_error_is_no_difference_and_takes_nothing_for_granted(
    damaged: Scene, read: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails once may read the next time, and neither side would show it."""
    with monkeypatch.context() as patch:
        patch.setattr(proofs, "_staged_differences", means.failing(OSError(errno.EIO, "it failed", TILE)))
        assert swept(damaged.now).reason == Reason.STAGING_IO_ERROR
    assert not Difference.objects.exists()
    read.clear()
    assert swept(damaged.now + hours(1)).reason == Reason.NAS_CHECKSUM_MISMATCH
    assert read
    with monkeypatch.context() as patch:
        patch.setattr(proofs, "_staged_differences", means.failing(OSError(errno.EIO, "it failed", TILE)))
        clear([damaged.run], now=damaged.now + hours(2), actor="ada")
    assert Difference.objects.get().at == damaged.now + hours(1)


@pytest.mark.parametrize("level", ["size", "record"])
def test_what_was_found_different_goes_by_its_bytes_alone_until_they_are_equal(
    damaged: Scene, policy: Callable[..., Any], level: str
) -> None:
    swept(damaged.now)
    policy(proof=level, mode="scheduled", retain_hours=1, rehearse=False)
    os.utime(damaged.twin / TILE, (LONG_AGO + 1, LONG_AGO + 1))
    assert swept(damaged.now + hours(1)).reason == Reason.NAS_CHECKSUM_MISMATCH
    (damaged.twin / TILE).write_bytes((damaged.path / TILE).read_bytes())
    assert swept(damaged.now + hours(2)).action is Action.CLEARED


@pytest.mark.parametrize("operator", [False, True], ids=["schedule", "operator"])
@pytest.mark.parametrize("later", [hours(1), WEEK], ids=["an hour", "a week"])
def test_what_is_known_to_be_damaged_does_not_go_by_names_and_sizes(
    damaged: Scene, policy: Callable[..., Any], later: timedelta, operator: bool
) -> None:
    """A policy that asks for less than bytes may not clear a run with a known difference."""
    swept(damaged.now)
    policy(proof="size", rehearse=False)
    at = damaged.now + later
    action = clear([damaged.run], now=at, actor="ada").runs[0] if operator else swept(at)
    assert action.reason == Reason.NAS_CHECKSUM_MISMATCH
    assert damaged.path.is_dir()


def test_what_was_found_while_the_nas_was_gone_for_a_while_still_stands(
    damaged: Scene, read: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new mount of the same disk ends a proof, but not a known difference."""
    swept(damaged.now)
    from cleanup.runs.proofs import proofs

    monkeypatch.setattr(proofs, "_storage", lambda place: ("mounted anew",))
    read.clear()
    assert "nothing has changed since" in swept(damaged.now + hours(1)).detail
    assert read == []


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "not kept"])
def test_inode_numbers_count_only_where_the_mount_keeps_them(
    damaged: Scene, read: list[bytes], monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """Such a mount changes inode numbers after it forgot the names; all times stay."""
    from cleanup.runs.proofs import proofs
    from cleanup.storage.nas import client

    monkeypatch.setattr(proofs, "keeps_inodes", lambda place: kept)
    swept(damaged.now)
    listed = client.NasReader.read

    def renumbered(*args: Any, **how: Any) -> client.Listing:
        found = listed(*args, **how)
        files = {path: twin._replace(ino=twin.ino + 1) for path, twin in found.files.items()}
        return replace(found, files=files)

    monkeypatch.setattr(client.NasReader, "read", renumbered)
    read.clear()
    swept(damaged.now + hours(1))
    assert bool(read) is kept


def test_page_and_command_say_it_and_the_click_is_offered(
    damaged: Scene, time_machine: Any, admin_client: Client
) -> None:
    time_machine.move_to(damaged.now)
    swept(damaged.now)
    discovery.discover(damaged.root, now=damaged.now + hours(1))
    time_machine.move_to(damaged.now + hours(1))
    page = admin_client.get(f"/runs/{damaged.run.pk}/").content.decode()
    assert "Safe to clear" not in page
    assert "nothing has changed since" in page
    assert "Compare every byte and clear" in page
    question = admin_client.get(f"/runs/{damaged.run.pk}/clear/").content.decode()
    assert "Every byte is read again on both sides" in question
    out = io.StringIO()
    call_command("evaluate", damaged.run.run_path, json=True, stdout=out)
    (said,) = json.loads(out.getvalue())["runs"]
    (proof,) = (gate for gate in said["gates"] if gate["gate"] == "proof")
    assert (said["clearable"], proof["verdict"], proof["reason"]) == (False, "block", "nas_checksum_mismatch")
    assert "a click at once" in proof["detail"]


def test_discovery_tells_nothing_new_while_nothing_changes(damaged: Scene) -> None:
    swept(damaged.now)
    discovery.discover(damaged.root, now=damaged.now + hours(1))
    before = Run.objects.get().facts
    discovery.discover(damaged.root, now=damaged.now + hours(2))
    after = Run.objects.get().facts
    assert {**before, "gathered_at": ""} == {**after, "gathered_at": ""}


def test_the_sentence_names_a_week() -> None:
    assert WEEK == differences.READ_AGAIN_AFTER
