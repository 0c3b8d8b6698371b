"""What may be declared the same run or root, and what never."""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db.models import QuerySet
from django.test import Client

from cleanup import clear_run
from cleanup.clears import recovery
from cleanup.clears.refusal import Refused
from cleanup.lab.roots import opening, registration
from cleanup.lab.roots.registration import RegistrationError
from cleanup.models import ClearAttempt, IngestEvent, LedgerEntry, Phase, Run, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery, run_status
from cleanup.runs.facts import stored_facts
from cleanup.runs.moved_or_gone import reregistration
from cleanup.runs.moved_or_gone.reregistration import Moved, RegisterAction, RegisterOrder, Reregistration
from cleanup.storage.root_files import reserve
from cleanup.storage.staging import fences, removal, run_tree
from cleanup.sweeps import all_roots
from tests.faults.scene import Scene, everything, inodes, scene_of, set_scene
from tests.tools.lab import METADATA, RUN_PATH, Lab, census, read_ingest, snapshot

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

TOKEN = ".exlab-root"
TILE = "tiles/t_0001.tif"
OTHER_PATH = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-18T09-10"
THIRD_PATH = "FLOW_01/PROJ-0060/Runs/Run_2026-05-28T16-20"


@pytest.fixture
def scene(lab: Lab, root: StagingRoot, now: datetime) -> Scene:
    path = lab.run()
    get_to_know(root, now)
    return scene_of(lab, root, now, RUN_PATH, path)


def get_to_know(root: StagingRoot, now: datetime) -> None:
    """Discovery without the NAS, which does not matter here: twice as fast."""
    row = StagingRoot.objects.filter(pk=root.pk)
    row.update(nas_path="")
    discover(root, now)
    row.update(nas_path=root.nas_path)


@pytest.fixture
def order(now: datetime) -> RegisterOrder:
    return RegisterOrder(now=now, actor="ada", note="disk failed")


def restore(path: Path) -> None:
    aside = path.with_name(".restored")
    shutil.copytree(path, aside)
    shutil.rmtree(path)
    aside.rename(path)


def edit_record(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    record = read_ingest(path)
    change(record)
    (path / METADATA / "ingest.json").write_text(json.dumps(record))


def one(run: Run, order: RegisterOrder) -> Reregistration:
    (outcome,) = reregistration.reregister_runs([Run.objects.with_root().get(pk=run.pk)], order)
    return outcome


def rows() -> list[Any]:
    tables = (StagingRoot, Run, IngestEvent, ClearAttempt, LedgerEntry)
    return [list(table.objects.order_by("pk").values()) for table in tables]


def discover(root: StagingRoot, now: datetime) -> discovery.Discovered:
    found = discovery.discover(StagingRoot.objects.get(pk=root.pk), now=now)
    assert found is not None
    return found


def refuse_clear(run: Run, now: datetime, reason: Reason) -> None:
    with pytest.raises(Refused) as refused:
        clear_run(run, now=now)
    assert refused.value.finding.reason is reason


def assert_changes_nothing(lab: Lab, act: Callable[[], Any]) -> Any:
    before = rows(), everything(lab)
    result = act()
    assert (rows(), everything(lab)) == before
    return result


# One run


def test_a_restored_run_is_registered_again_and_cleared_with_true_counts(scene: Scene, order: RegisterOrder) -> None:
    restore(scene.path)
    discover(scene.root, scene.now)
    refuse_clear(scene.run, scene.now, Reason.IDENTITY_MISMATCH)
    before = everything(scene.lab)
    assert one(scene.run, order).action is RegisterAction.REREGISTERED
    assert everything(scene.lab) == before
    old = scene.run.identity
    scene.run.refresh_from_db()
    assert scene.run.identity.split(":")[0] == str(scene.path.stat().st_ino) != old.split(":")[0]
    assert scene.run.identity.split(":")[2] == old.split(":")[2]
    assert clear_run(scene.run, now=scene.now) == (scene.files, scene.bytes)  # no discovery is needed in between
    scene.assert_cleared()
    assert Run.objects.count() == 1


def test_what_was_seen_of_the_other_directory_is_forgotten(scene: Scene, order: RegisterOrder) -> None:
    restore(scene.path)
    discover(scene.root, scene.now)
    Run.objects.update(failures=3)
    scene.run.refresh_from_db()
    assert scene.run.problem == Reason.IDENTITY_MISMATCH
    one(scene.run, order)
    scene.run.refresh_from_db()
    assert (scene.run.problem, scene.run.facts, scene.run.failures) == ("", {}, 0)
    assert (scene.run.files, scene.run.bytes) == census(scene.path)
    decision = stored_facts.decision(scene.run, [], scene.now)
    assert Reason.NOT_LOOKED_AT in [gate.reason for gate in decision.refusals(operator=True)]


def test_twice_is_harmless_and_a_rehearsal_changes_nothing(scene: Scene, order: RegisterOrder) -> None:
    rehearsal = replace(order, dry_run=True)
    for asked in (rehearsal, order):
        assert assert_changes_nothing(scene.lab, partial(one, scene.run, asked)).action is RegisterAction.UNCHANGED
    restore(scene.path)
    outcome = assert_changes_nothing(scene.lab, lambda: one(scene.run, rehearsal))
    assert outcome.action is RegisterAction.WOULD_REREGISTER
    assert one(scene.run, order).action is RegisterAction.REREGISTERED
    for asked in (rehearsal, order):
        assert assert_changes_nothing(scene.lab, partial(one, scene.run, asked)).action is RegisterAction.UNCHANGED


def test_the_ledger_says_who_registered_what_again(scene: Scene, order: RegisterOrder) -> None:
    restore(scene.path)
    one(scene.run, order)
    (entry,) = LedgerEntry.objects.all()
    old = scene.run.identity
    scene.run.refresh_from_db()
    assert (entry.kind, entry.run, entry.attempt, entry.at) == ("reregistered", scene.run, None, scene.now)
    assert (entry.actor, entry.requester, entry.reason) == ("ada", "operator", "")
    assert entry.detail == f"from {old} to {scene.run.identity}; disk failed"
    assert (entry.files, entry.bytes, entry.allocated_bytes) == (0, 0, 0)
    assert (entry.root_name, entry.run_path, entry.equipment, entry.project, entry.run_kind) == (
        "lab",
        RUN_PATH,
        "CONFOCAL_01",
        "PROJ-0042",
        "experimental",
    )


def test_a_longer_history_is_the_same_run(lab: Lab, root: Any, now: datetime, order: RegisterOrder) -> None:
    scene = set_scene(lab, root, now, state="complete", twin=False)
    shutil.rmtree(scene.path)
    path = lab.run()
    assert one(scene.run, order).action is RegisterAction.REREGISTERED
    discover(root, now)
    scene.run.refresh_from_db()
    assert (scene.run.state, scene.run.problem) == ("sync_verified", "")
    assert clear_run(scene.run, now=now)[0] > 0
    assert not path.exists()


def another_beginning(path: Path) -> None:
    edit_record(path, lambda record: record["history"][0].update(at="2020-01-01T00:00:00Z"))


def a_rewritten_history(path: Path) -> None:
    edit_record(path, lambda record: record["history"][-1].update(at="2026-04-17T17:00:00Z"))


def a_shorter_history(path: Path) -> None:
    edit_record(path, lambda record: (record["history"].pop(), record.update(current_state="sync_queued")))


def the_record_of_another_run(path: Path) -> None:
    edit_record(path, lambda record: record.update(run_path=OTHER_PATH))


def no_record(path: Path) -> None:
    (path / METADATA / "ingest.json").unlink()


def a_broken_record(path: Path) -> None:
    (path / METADATA / "ingest.json").write_bytes(b'{"history": [')


OTHERS = {
    another_beginning: Reason.IDENTITY_MISMATCH,
    a_rewritten_history: Reason.INGEST_DISAGREES,
    a_shorter_history: Reason.INGEST_DISAGREES,
    the_record_of_another_run: Reason.INGEST_DISAGREES,
    no_record: Reason.INGEST_UNREADABLE,
    a_broken_record: Reason.INGEST_UNREADABLE,
}


def several(lab: Lab, root: StagingRoot, now: datetime, number: int) -> list[Scene]:
    names = [f"FLOW_01/PROJ-0060/Runs/Run_2026-05-{day:02}T16-20" for day in range(1, number + 1)]
    paths = {name: lab.run(name, files={TILE: name.encode(), "stack.ome.xml": b"<OME/>"}) for name in names}
    get_to_know(root, now)
    return [scene_of(lab, root, now, name, path) for name, path in paths.items()]


def test_another_run_is_refused_and_declared_gone_only_when_asked(
    lab: Lab, root: StagingRoot, now: datetime, order: RegisterOrder
) -> None:
    insisting = replace(order, replaced=True)
    for scene, (spoil, reason) in zip(several(lab, root, now, len(OTHERS)), OTHERS.items(), strict=True):
        restore(scene.path)
        spoil(scene.path)
        outcome = assert_changes_nothing(lab, partial(one, scene.run, order))
        assert (outcome.action, outcome.finding.reason) == (RegisterAction.REFUSED, reason), spoil
        outcome = assert_changes_nothing(lab, partial(one, scene.run, replace(insisting, dry_run=True)))
        assert outcome.action is RegisterAction.WOULD_DECLARE_GONE
        before = everything(lab)
        assert one(scene.run, insisting).action is RegisterAction.DECLARED_GONE
        assert everything(lab) == before
        assert_declared_gone(scene)
        assert assert_changes_nothing(lab, partial(one, scene.run, insisting)).action is RegisterAction.REFUSED


def assert_declared_gone(scene: Scene) -> None:
    old = scene.run
    known = (old.identity, old.files, old.bytes, "sync_verified", None)
    old.refresh_from_db()
    assert old.gone_at == scene.now
    assert (old.identity, old.files, old.bytes, old.state, old.cleared_at) == known
    assert scene.states() == ["staging", "complete", "sync_queued", "sync_verified"]
    assert not Run.objects.staged().filter(pk=old.pk).exists()
    scene.assert_freed(0, 0)
    (entry,) = old.ledger.all()
    assert (entry.kind, entry.reason, entry.files) == ("reregistered", Reason.IDENTITY_MISMATCH, 0)
    assert entry.detail.startswith(f"declared gone: {old.identity}; at its path lies ")


def test_what_lies_there_instead_becomes_a_run_of_its_own(scene: Scene, now: datetime) -> None:
    shutil.rmtree(scene.path)
    shutil.rmtree(scene.twin)
    path = scene.lab.run(files={"only.tif": b"1" * 5000})
    another_beginning(path)
    discover(scene.root, now)
    assert Run.objects.get().problem == Reason.INGEST_DISAGREES
    assert one(scene.run, RegisterOrder(now=now, actor="ada", replaced=True)).action is RegisterAction.DECLARED_GONE
    run_status.judge_runs([scene.run.pk], now)  # the next pass would, and that is no change of the run
    gone = list(Run.objects.filter(pk=scene.run.pk).values())
    later = now + timedelta(hours=1)
    found = discover(scene.root, later)
    assert (found.found, found.new, found.problems) == (1, 1, [])
    new = Run.objects.staged().with_root().get()
    assert new.pk != scene.run.pk
    counted = census(path)
    assert clear_run(new, now=later) == counted
    discover(scene.root, later + timedelta(hours=1))
    assert list(Run.objects.filter(pk=scene.run.pk).values()) == gone
    assert Run.objects.count() == 2
    totals = LedgerEntry.objects.totals()
    assert (totals["runs"], totals["files"], totals["bytes"]) == (1, *counted)


def test_a_rewritten_history_in_the_very_same_directory(scene: Scene, order: RegisterOrder, now: datetime) -> None:
    a_shorter_history(scene.path)
    outcome = assert_changes_nothing(scene.lab, lambda: one(scene.run, order))
    assert outcome.action is RegisterAction.REFUSED
    one(scene.run, RegisterOrder(now=now, actor="ada", replaced=True))
    assert discover(scene.root, now).new == 1
    assert Run.objects.staged().get().state == "sync_queued"
    refuse_clear(Run.objects.staged().get(), now, Reason.NOT_SYNC_VERIFIED)


def test_a_run_whose_history_was_never_read_cannot_be_known_again(
    lab: Lab, root: Any, now: datetime, order: RegisterOrder
) -> None:
    path = lab.run()
    record = (path / METADATA / "ingest.json").read_bytes()
    no_record(path)
    discover(root, now)
    run = Run.objects.get()
    (path / METADATA / "ingest.json").write_bytes(record)
    assert one(run, order).action is RegisterAction.UNCHANGED  # its own directory: discovery reads the record
    restore(path)
    outcome = assert_changes_nothing(lab, lambda: one(run, order))
    assert (outcome.action, outcome.finding.reason) == (RegisterAction.REFUSED, Reason.IDENTITY_MISMATCH)


def unreadable_in_its_own_directory(scene: Scene) -> None:
    a_broken_record(scene.path)


def gone_altogether(scene: Scene) -> None:
    scene.path.rename(scene.lab.base / "gone")


def a_link_at_the_path(scene: Scene) -> None:
    away = scene.lab.base / "away"
    scene.path.rename(away)
    scene.path.symlink_to(away)


def cleared_already(scene: Scene) -> None:
    clear_run(scene.run, now=scene.now)


def test_what_cannot_be_declared_gone(lab: Lab, root: StagingRoot, now: datetime) -> None:
    """Only where another run lies at the path; `missing` may be a disk that is away, and damage is no other run."""
    insisting = RegisterOrder(now=now, actor="ada", replaced=True)
    harms = {
        unreadable_in_its_own_directory: Reason.INGEST_UNREADABLE,
        gone_altogether: Reason.MISSING_DIRECTORY,
        a_link_at_the_path: Reason.UNSAFE_PATH,
        cleared_already: Reason.ALREADY_CLEARED,
    }
    for scene, (harm, reason) in zip(several(lab, root, now, len(harms)), harms.items(), strict=True):
        harm(scene)
        outcome = assert_changes_nothing(lab, partial(one, scene.run, insisting))
        assert (outcome.action, outcome.finding.reason) == (RegisterAction.REFUSED, reason), harm


# Registered again is only the identity: the clear compares every byte


def add_a_file(path: Path) -> None:
    (path / "late.tif").write_bytes(b"the only copy in the world")
    os.utime(path / "late.tif", (1, 1))


def change_a_byte(path: Path) -> None:
    tile = path / TILE
    status = tile.stat()
    tile.write_bytes(b"X" + tile.read_bytes()[1:])
    os.utime(tile, ns=(status.st_atime_ns, status.st_mtime_ns))


def lose_a_file(path: Path) -> None:
    (path / TILE).unlink()


def test_our_record_over_other_data_is_not_cleared(
    lab: Lab, root: StagingRoot, now: datetime, order: RegisterOrder
) -> None:
    harms = {
        add_a_file: Reason.NOT_IN_MANIFEST,
        change_a_byte: Reason.NAS_CHECKSUM_MISMATCH,
        lose_a_file: Reason.MISSING_FILE,
    }
    for scene, (spoil, reason) in zip(several(lab, root, now, len(harms)), harms.items(), strict=True):
        restore(scene.path)
        spoil(scene.path)
        assert one(scene.run, order).action is RegisterAction.REREGISTERED
        before = everything(lab)
        refuse_clear(scene.run, now, reason)
        assert everything(lab) == before
        scene.assert_freed(0, 0)


def test_a_fresh_proof_of_the_old_directory_is_no_proof_of_the_new_one(scene: Scene, order: RegisterOrder) -> None:
    """A refused clear may leave a proof for reuse: never for other inodes."""
    with pytest.MonkeyPatch.context() as patch:

        def full(*args: Any) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(fences, "fence", full)
        refuse_clear(scene.run, scene.now, Reason.STORAGE_ERROR)
    assert scene.run.proofs.exists()
    restore(scene.path)
    change_a_byte(scene.path)
    one(scene.run, order)
    refuse_clear(scene.run, scene.now, Reason.NAS_CHECKSUM_MISMATCH)


# During a clear


def test_a_run_that_is_being_cleared_is_refused(scene: Scene, order: RegisterOrder) -> None:
    scene.attempt()
    restore(scene.path)
    for phase in (Phase.QUEUED, Phase.INTENT, Phase.COMMITTED):
        ClearAttempt.objects.update(phase=phase)
        outcome = assert_changes_nothing(scene.lab, lambda: one(scene.run, order))
        assert (outcome.action, outcome.finding.reason) == (RegisterAction.REFUSED, Reason.ALREADY_CLEARING)
        refused(scene.root, order, "have not come to their end")


def test_a_run_whose_lock_is_held_is_refused(scene: Scene, order: RegisterOrder) -> None:
    restore(scene.path)
    with opening.data_dir().lock(str(scene.run.pk)) as free:
        assert free
        outcome = assert_changes_nothing(scene.lab, lambda: one(scene.run, order))
    assert (outcome.action, outcome.finding.reason) == (RegisterAction.REFUSED, Reason.ALREADY_CLEARING)
    assert one(scene.run, order).action is RegisterAction.REREGISTERED


def test_an_attempt_that_comes_between_look_and_record_is_left_alone(
    scene: Scene, order: RegisterOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore(scene.path)
    real = reregistration._look

    def look(run: Run, root: int) -> Any:
        scene.attempt()
        return real(run, root)

    monkeypatch.setattr(reregistration, "_look", look)
    outcome = one(scene.run, order)
    assert (outcome.action, outcome.finding.reason) == (RegisterAction.REFUSED, Reason.ALREADY_CLEARING)
    assert list(Run.objects.values_list("identity", flat=True)) == [scene.run.identity]
    assert not LedgerEntry.objects.exists()


def test_a_run_that_lies_aside_behind_its_fence_is_not_the_one_at_its_path(scene: Scene, now: datetime) -> None:
    """After a conflict the run is whole under the fence's name; a copy at its path must not take its row."""
    attempt = scene.attempt()
    attempt.advance([Phase.QUEUED], Phase.CONFLICT, now=now, reason=Reason.PATH_OCCUPIED)
    restore(scene.path)
    fence = scene.path.with_name(os.fsdecode(fences.fence_name(attempt.pk.hex)))
    shutil.copytree(scene.path, fence)
    insisting = RegisterOrder(now=now, actor="ada", replaced=True)
    outcome = assert_changes_nothing(scene.lab, lambda: one(scene.run, insisting))
    assert (outcome.action, outcome.finding.reason) == (RegisterAction.REFUSED, Reason.PATH_OCCUPIED)


# A whole root


PATHS = [RUN_PATH, OTHER_PATH, THIRD_PATH]


@pytest.fixture
def full(lab: Lab, root: StagingRoot, now: datetime) -> Lab:
    for run_path in PATHS:
        lab.run(run_path, files={"stack.ome.xml": run_path.encode()})
    get_to_know(root, now)
    return lab


def copy_disk(lab: Lab, name: str = "new disk") -> Path:
    target = lab.base / name
    shutil.copytree(lab.staging, target, symlinks=True)
    return target


def unmount(lab: Lab) -> Path:
    away = lab.base / "unmounted"
    lab.staging.rename(away)
    lab.staging.mkdir()
    return away


def move(root: StagingRoot, order: RegisterOrder, **how: Any) -> Moved:
    root.refresh_from_db()
    return reregistration.reregister_root(root, order, **how)


def refused(root: StagingRoot, order: RegisterOrder, match: str, **how: Any) -> None:
    before = rows()
    for asked in (replace(order, dry_run=True), order):
        with pytest.raises(RegistrationError, match=match):
            move(root, asked, **how)
        assert rows() == before


def actions(moved: Moved) -> dict[str, RegisterAction]:
    return {outcome.run.run_path: outcome.action for outcome in moved.runs}


def token_of(path: Path) -> str:
    return (path / TOKEN).read_text().strip()


def assert_clears(root: StagingRoot, disk: Path, now: datetime, run_path: str = OTHER_PATH) -> None:
    counted = census(disk / run_path)
    assert discover(root, now).problems == []
    assert Run.objects.count() == len(PATHS)
    assert clear_run(Run.objects.with_root().get(run_path=run_path), now=now) == counted
    assert not (disk / run_path).exists()
    totals = LedgerEntry.objects.filter(run_path=run_path).totals()
    assert (totals["runs"], totals["files"], totals["bytes"]) == (1, *counted)


def test_a_disk_that_was_copied_to_another_place(
    full: Lab, root: StagingRoot, now: datetime, order: RegisterOrder
) -> None:
    new = copy_disk(full)
    token = root.token
    old = snapshot(unmount(full))
    moved = move(root, order, path=str(new))
    assert actions(moved) == dict.fromkeys(PATHS, RegisterAction.REREGISTERED)
    assert moved.warnings == []
    root.refresh_from_db()
    assert (root.path, root.token, token_of(new)) == (str(new), token, token)
    assert LedgerEntry.objects.filter(kind="reregistered").count() == len(PATHS)
    entry = LedgerEntry.objects.filter(run_path=RUN_PATH).get()
    assert entry.detail.endswith(f"; the staging root moved from {full.staging} to {new}; disk failed")
    assert actions(move(root, order, path=str(new))) == dict.fromkeys(PATHS, RegisterAction.UNCHANGED)
    assert LedgerEntry.objects.count() == len(PATHS)
    for run_path in PATHS:
        assert_clears(root, new, now, run_path)
    assert snapshot(full.base / "unmounted") == old


def test_no_run_is_touched_on_disk(full: Lab, root: StagingRoot, order: RegisterOrder) -> None:
    new = copy_disk(full)
    unmount(full)

    def runs_there() -> list[Any]:
        return [(snapshot(new / run_path), inodes(new / run_path)) for run_path in PATHS]

    before = runs_there(), snapshot(full.nas)
    move(root, order, path=str(new))
    assert (runs_there(), snapshot(full.nas)) == before


def test_another_disk_in_the_same_place(full: Lab, root: StagingRoot, now: datetime, order: RegisterOrder) -> None:
    new = copy_disk(full)
    full.staging.rename(full.base / "broken")
    new.rename(full.staging)
    assert {problem[1] for problem in discover(root, now).problems} == {Reason.IDENTITY_MISMATCH}
    assert actions(move(root, order)) == dict.fromkeys(PATHS, RegisterAction.REREGISTERED)
    assert_clears(root, full.staging, now)


def test_the_same_disk_in_another_place(full: Lab, root: StagingRoot, now: datetime, order: RegisterOrder) -> None:
    new = full.base / "mnt"
    full.staging.rename(new)
    assert actions(move(root, order, path=str(new))) == dict.fromkeys(PATHS, RegisterAction.UNCHANGED)
    assert not LedgerEntry.objects.exists()
    assert_clears(root, new, now)


def test_one_directory_under_two_names_carries_its_token_once(
    full: Lab, root: StagingRoot, order: RegisterOrder
) -> None:
    (full.base / "alias").symlink_to(full.base)
    StagingRoot.objects.update(path=str(full.base / "alias/staging"))
    moved = move(root, order, path=str(full.staging))
    assert (moved.warnings, actions(moved)) == ([], dict.fromkeys(PATHS, RegisterAction.UNCHANGED))


def test_a_disk_without_token_gets_a_new_one(full: Lab, root: StagingRoot, now: datetime, order: RegisterOrder) -> None:
    new = copy_disk(full)
    (new / TOKEN).unlink()
    (new / ".exlab-reserve").unlink()
    assert set(actions(move(root, replace(order, dry_run=True), path=str(new))).values()) == {
        RegisterAction.WOULD_REREGISTER
    }
    assert not (new / TOKEN).exists()
    old = root.token
    moved = move(root, order, path=str(new))
    root.refresh_from_db()
    assert root.token == token_of(new) == moved.root.token != old == token_of(full.staging)
    assert (new / ".exlab-reserve").stat().st_size == reserve.RESERVE_BYTES
    assert_clears(root, new, now)


def test_a_disk_with_another_token_is_adopted(
    full: Lab, root: StagingRoot, now: datetime, order: RegisterOrder
) -> None:
    new = copy_disk(full)
    token = str(uuid.uuid4())
    (new / TOKEN).write_text(token)
    move(root, order, path=str(new))
    root.refresh_from_db()
    assert (root.token, token_of(new)) == (token, token)
    assert_clears(root, new, now)


def test_an_old_disk_that_still_carries_the_token_is_told_of(
    full: Lab, root: StagingRoot, order: RegisterOrder
) -> None:
    new = copy_disk(full)
    before = snapshot(full.staging)
    (warning,) = move(root, order, path=str(new)).warnings
    assert f"remove {full.staging}/{TOKEN}" in warning
    assert snapshot(full.staging) == before
    with pytest.raises(RegistrationError, match="carries the token"):
        registration.register("again", str(full.staging), now=order.now)
    full.staging.rename(full.base / "old")
    new.rename(full.staging)  # and back to the first place, where a mount of the old disk would be another one again
    assert move(root, order, path=str(full.staging)).warnings == []
    full.staging.rename(new)
    (full.base / "old").rename(full.staging)
    found = discover(root, order.now)
    assert {problem[1] for problem in found.problems} == {Reason.IDENTITY_MISMATCH}


def test_a_rehearsal_of_a_move_changes_nothing(full: Lab, root: StagingRoot, order: RegisterOrder) -> None:
    new = copy_disk(full)
    before = snapshot(new)
    rehearsed = replace(order, dry_run=True)
    moved = assert_changes_nothing(full, lambda: move(root, rehearsed, path=str(new)))
    assert actions(moved) == dict.fromkeys(PATHS, RegisterAction.WOULD_REREGISTER)
    assert (moved.root.path, snapshot(new)) == (str(new), before)


def test_runs_that_are_not_there_or_are_others_stay_as_they_are(
    full: Lab, root: StagingRoot, now: datetime, order: RegisterOrder
) -> None:
    new = copy_disk(full)
    shutil.rmtree(new / OTHER_PATH)
    another_beginning(new / THIRD_PATH)
    left = Run.objects.exclude(run_path=RUN_PATH).order_by("pk")
    before = without_twins(left)
    moved = move(root, order, path=str(new))
    assert [(outcome.run.run_path, outcome.action, outcome.finding and outcome.finding.reason)
            for outcome in moved.runs] == [
        (RUN_PATH, RegisterAction.REREGISTERED, None),
        (OTHER_PATH, RegisterAction.REFUSED, Reason.MISSING_DIRECTORY),
        (THIRD_PATH, RegisterAction.REFUSED, Reason.IDENTITY_MISMATCH),
    ]  # fmt: skip
    assert without_twins(left) == before
    assert LedgerEntry.objects.count() == 1


def test_a_move_that_was_interrupted_is_completed_by_the_next(
    full: Lab, root: StagingRoot, now: datetime, order: RegisterOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = copy_disk(full)
    (new / TOKEN).unlink()

    def die(*args: Any, **how: Any) -> Any:
        raise KeyboardInterrupt

    for step in ("_save", "_settle"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(reregistration, step, die)
            move(root, order, path=str(new))
    assert actions(move(root, order)) == dict.fromkeys(PATHS, RegisterAction.REREGISTERED)
    root.refresh_from_db()
    assert (root.path, root.token) == (str(new), token_of(new))
    assert_clears(root, new, now)


# Places that must not be this root


def another_lab(tmp_path: Path, now: datetime) -> tuple[Lab, StagingRoot]:
    other = Lab(tmp_path / "lab-2")
    for run_path in PATHS:
        other.run(run_path, files={"data": b"1"})
    nas = {"nas_path": str(other.nas), "allow_same_filesystem": True}
    return other, registration.register("other", str(other.staging), now=now, **nas)


def test_refuses_places_that_no_root_may_have(
    full: Lab, root: StagingRoot, now: datetime, order: RegisterOrder, tmp_path: Path, settings: Any
) -> None:
    other, _other_root = another_lab(tmp_path, now)
    new = copy_disk(full)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "lost+found").mkdir()
    for path, match in (
        ("/", "must not be /"),
        (tmp_path / "nowhere", "cannot be found"),
        (full.staging / TOKEN, "is not a directory"),
        (empty, "is empty"),
        (full.nas, "lie one in the other"),
        (full.nas / "CONFOCAL_01", "lie one in the other"),
        (tmp_path, "lie one in the other"),
        (other.staging, "lie one in the other"),
        (other.nas, "lie one in the other"),
    ):
        refused(root, order, match, path=str(path))
    settings.EXLAB_DATA_DIR = new / "var"
    settings.EXLAB_DATA_DIR.mkdir()
    refused(root, order, "keep it elsewhere", path=str(new))
    assert move(root, order, path=str(full.staging)).root.path == str(full.staging)


def test_refuses_a_place_on_the_filesystem_of_the_nas(full: Lab, root: StagingRoot, order: RegisterOrder) -> None:
    new = copy_disk(full)
    StagingRoot.objects.update(allow_same_filesystem=False)
    refused(root, order, "no second copy", path=str(new))
    refused(root, order, "no second copy", nas_path=str(full.nas), with_runs=False)


def test_refuses_a_broken_token(full: Lab, root: StagingRoot, order: RegisterOrder) -> None:
    new = copy_disk(full)
    for content in (b"", b"no uuid"):
        (new / TOKEN).write_bytes(content)
        refused(root, order, "holds no UUID", path=str(new))
        assert (new / TOKEN).read_bytes() == content


def test_refuses_a_place_without_any_of_the_runs(full: Lab, root: StagingRoot, order: RegisterOrder) -> None:
    home = full.base / "home"
    (home / "ada").mkdir(parents=True)
    refused(root, order, "None of the 3 staged runs", path=str(home))
    assert os.listdir(home) == ["ada"]


def test_two_roots_that_were_swapped(
    full: Lab, root: StagingRoot, now: datetime, order: RegisterOrder, tmp_path: Path
) -> None:
    other, other_root = another_lab(tmp_path, now)
    discover(other_root, now)
    full.staging.rename(tmp_path / "aside")
    other.staging.rename(full.staging)
    (tmp_path / "aside").rename(other.staging)
    for mine, path in ((root, full.staging), (other_root, other.staging)):
        refused(mine, order, "does not carry the file that names it")
        refused(mine, order, "it is that very disk", path=str(path))
        assert discover(mine, now).problems == [("", Reason.ROOT_NOT_MOUNTED, f"it carries {token_of(path)}")]
    refused(root, order, "lie one in the other", path=str(other.staging))


def test_staging_and_nas_that_were_swapped(full: Lab, root: StagingRoot, order: RegisterOrder) -> None:
    """A NAS registered as staging would be cleared in favour of the staging copy."""
    refused(root, order, "it is that very disk", path=str(full.nas), nas_path=str(full.staging))
    nas = full.base / "nas-2"
    full.nas.rename(nas)
    full.nas.mkdir()
    refused(root, order, "that very disk", path=str(nas))
    refused(root, order, "that very disk", nas_path=str(copy_disk(full)))


def test_an_unmounted_disk_changes_no_row(
    full: Lab, root: StagingRoot, now: datetime, order: RegisterOrder, policy: Callable[..., Any]
) -> None:
    policy(mode="scheduled", retain_hours=0)
    before = list(Run.objects.values())
    unmount(full)
    for content in (None, "left by a program that did not look"):
        if content:
            (full.staging / "stray.txt").write_text(content)
        for later in (now, now + timedelta(days=1)):
            discover(root, later)
            all_roots.sweep(now=later)
            recovery.recover(now=later)
            with pytest.raises(RegistrationError, match="does not carry the file that names it"):
                move(root, order)
            for run in Run.objects.with_root():
                outcome = one(run, replace(order, replaced=True))
                assert (outcome.action, outcome.finding.reason) == (RegisterAction.REFUSED, Reason.ROOT_NOT_MOUNTED)
            assert list(Run.objects.values()) == before
    refused(root, order, "None of the 3", path=str(full.staging))
    assert [entry.name for entry in full.staging.iterdir()] == ["stray.txt"]


# What clears have left


def test_what_a_clear_left_half_removed_comes_first(
    full: Lab, root: StagingRoot, now: datetime, order: RegisterOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its plan names inodes of the old disk: a copy could never be completed."""
    run = Run.objects.with_root().get(run_path=OTHER_PATH)
    real = fences.fence

    def fence(parent: int, leaf: bytes, name: bytes) -> None:
        real(parent, leaf, name)
        monkeypatch.setattr(removal, "remove", stay)

    def stay(*args: Any, **how: Any) -> removal.Removal:
        return removal.Removal(run_tree.Count(), left=((b"stack.ome.xml", "EPERM"),))

    with monkeypatch.context():
        monkeypatch.setattr(fences, "fence", fence)
        clear_run(run, now=now)
    attempt = ClearAttempt.objects.get()
    assert attempt.incomplete
    monkeypatch.undo()
    new = copy_disk(full)
    refused(root, order, "could not remove", path=str(new))
    refused(root, order, "could not remove")
    full.staging.rename(full.base / "broken")
    refused(root, order, "could not remove", path=str(new))  # the copy of the fence
    shutil.rmtree(new / Path(OTHER_PATH).parent / os.fsdecode(fences.fence_name(attempt.pk.hex)))
    moved = move(root, order, path=str(new))
    assert actions(moved) == dict.fromkeys((RUN_PATH, THIRD_PATH), RegisterAction.REREGISTERED)


# The NAS root in another place


def test_a_nas_that_moved(full: Lab, root: StagingRoot, now: datetime, order: RegisterOrder) -> None:
    new = full.base / "nas-2"
    full.nas.rename(new)
    before = snapshot(full.staging), without_twins(Run.objects.all())
    assert move(root, order, nas_path=str(new), with_runs=False).runs == []
    root.refresh_from_db()
    assert (root.nas_path, root.path) == (str(new), str(full.staging))
    assert (snapshot(full.staging), without_twins(Run.objects.all())) == before
    assert_clears(root, full.staging, now)


def without_twins(runs: QuerySet[Run]) -> list[dict[str, Any]]:
    rows = runs.values()
    return [{name: value for name, value in row.items() if name not in ("twin_key", "twin_place")} for row in rows]


def test_a_nas_with_another_token_and_a_disk_in_another_place(
    full: Lab, root: StagingRoot, now: datetime, order: RegisterOrder
) -> None:
    new, nas, token = copy_disk(full), full.base / "nas-2", str(uuid.uuid4())
    full.nas.rename(nas)
    (nas / TOKEN).write_text(token)
    move(root, order, path=str(new), nas_path=str(nas))
    root.refresh_from_db()
    assert (root.path, root.nas_path, root.nas_token) == (str(new), str(nas), token)
    assert_clears(root, new, now)


def test_refuses_a_nas_that_does_not_show_itself(
    full: Lab, root: StagingRoot, order: RegisterOrder, now: datetime
) -> None:
    nas = full.base / "nas-2"
    nas.mkdir()
    refused(root, order, "is empty", nas_path=str(nas))
    shutil.copytree(full.nas / "CONFOCAL_01", nas / "CONFOCAL_01")
    refused(root, order, "carries no token", nas_path=str(nas))
    assert not (nas / TOKEN).exists()
    other, _root = another_lab(full.base / "b", now)
    (nas / TOKEN).write_text(token_of(other.staging))
    refused(root, order, "it is no second copy", nas_path=str(nas))


def test_a_nas_can_move_while_the_disk_is_away(full: Lab, root: StagingRoot, order: RegisterOrder) -> None:
    nas = full.base / "nas-2"
    full.nas.rename(nas)
    full.staging.rename(full.base / "away")
    move(root, order, nas_path=str(nas), with_runs=False)
    refused(root, order, "does not carry the file that names it", nas_path=str(nas))


# The command


def manage(*arguments: Any) -> tuple[int, dict[str, Any]]:
    out = StringIO()
    status = 0
    try:
        call_command("reregister", *map(str, arguments), "--json", stdout=out, stderr=StringIO())
    except SystemExit as end:
        status = int(str(end.code))
    return status, json.loads(out.getvalue())


def test_the_command_for_one_run(scene: Scene) -> None:
    restore(scene.path)
    User.objects.create_user("mkhan")
    expected = {"root": "lab", "run_path": RUN_PATH, "reason": None, "detail": ""}
    status, answer = manage(RUN_PATH, "--user", "mkhan", "--reason", "backup", "--dry-run")
    assert (status, answer["runs"]) == (0, [{**expected, "action": "would_reregister"}])
    status, answer = manage(RUN_PATH, "--user", "mkhan", "--reason", "backup")
    del answer["now"]
    assert (status, answer) == (
        0,
        {
            "dry_run": False,
            "problem": None,
            "root": None,
            "warnings": [],
            "reregistered": 1,
            "declared_gone": 0,
            "unchanged": 0,
            "refused": 0,
            "runs": [{**expected, "action": "reregistered"}],
        },
    )
    entry = LedgerEntry.objects.get()
    assert (entry.actor, entry.detail.endswith("; backup")) == ("mkhan", True)
    assert manage(RUN_PATH)[1]["unchanged"] == 1
    another_beginning(scene.path)
    status, answer = manage(RUN_PATH)
    assert (status, answer["refused"], answer["runs"][0]["reason"]) == (1, 1, "identity_mismatch")
    status, answer = manage(RUN_PATH, "--replaced")
    assert (status, answer["declared_gone"], answer["runs"][0]["action"]) == (0, 1, "declared_gone")


def test_the_command_for_a_whole_root(full: Lab, root: StagingRoot) -> None:
    new = copy_disk(full)
    unmount(full)
    status, answer = manage("--root", "lab", "--all")
    assert (status, answer["root"], answer["runs"]) == (1, None, [])
    assert "does not carry the file that names it" in answer["problem"]
    status, answer = manage("--root", "lab", "--all", "--path", new)
    assert (status, answer["reregistered"], answer["problem"]) == (0, 3, None)
    nas = {"nas_root": root.nas_path, "nas_token": root.nas_token}
    assert answer["root"] == {"name": "lab", "path": str(new), "token": root.token, **nas}
    out = StringIO()
    call_command("reregister", "--root", "lab", "--all", stdout=out)
    assert out.getvalue().splitlines()[-2:] == [
        f"lab lies in {new}, NAS root {root.nas_path}",
        "registered again 0, declared gone 0, unchanged 3, refused 0",
    ]


MISUSES: list[list[str]] = [
    [],
    ["--all"],
    ["--root", "lab"],
    ["--root", "nowhere", "--all"],
    ["--root", "lab", "--path", "/new"],
    ["--root", "lab", "--all", "--replaced"],
    [RUN_PATH, "--all"],
    [RUN_PATH, "--path", "/new"],
    [RUN_PATH, "--nas-root", "/new"],
    [RUN_PATH, "--user", "nobody"],
    ["CONFOCAL_01/PROJ-0042/Runs/Run_1999-01-01T00-00"],
]


def test_bad_usage(scene: Scene) -> None:
    for arguments in MISUSES:
        with pytest.raises(CommandError) as misuse:
            call_command("reregister", *arguments)
        assert misuse.value.returncode == 2, arguments


# An entry of the ledger without an attempt


def test_pages_admin_and_audit_cope_with_it(scene: Scene, order: RegisterOrder, now: datetime, client: Client) -> None:
    restore(scene.path)
    one(scene.run, order)
    clear_run(scene.run, now=now)
    client.force_login(User.objects.create_superuser("admin"))
    page = client.get(f"/runs/{scene.run.pk}/").content.decode()
    assert "Reregistered" in page
    assert "disk failed" in page
    listed = client.get("/admin/cleanup/ledgerentry/", {"kind__exact": "reregistered"})
    assert (listed.status_code, listed.context_data["totals"]["runs"]) == (200, 0)
    assert client.get("/admin/cleanup/clearattempt/", {"told_at__isempty": "1"}).status_code == 200
    assert client.get("/admin/cleanup/nasbreaker/").status_code == 200
    entry = LedgerEntry.objects.get(kind="reregistered")
    assert client.get(f"/admin/cleanup/ledgerentry/{entry.pk}/change/").status_code == 200
    for by in (None, "month", "equipment", "project", "operator"):
        out = StringIO()
        call_command("audit", *(["--by", by] if by else []), "--json", stdout=out)
        answer = json.loads(out.getvalue())
        assert (answer["total"]["files"], answer["total"]["bytes_freed"]) == (scene.files, scene.bytes)
        assert len(answer["groups"]) == (1 if by else 0)


def test_a_run_that_was_declared_gone_is_shown_and_not_listed(scene: Scene, now: datetime, client: Client) -> None:
    restore(scene.path)
    another_beginning(scene.path)
    one(scene.run, RegisterOrder(now=now, actor="ada", replaced=True))
    client.force_login(User.objects.create_superuser("admin"))
    assert f"/runs/{scene.run.pk}/" not in client.get("/runs/").content.decode()
    assert client.get(f"/runs/{scene.run.pk}/").status_code == 200
    discover(scene.root, now)
    page = client.get("/runs/").content.decode()
    assert f"/runs/{scene.run.pk}/" not in page
    assert f"/runs/{Run.objects.staged().get().pk}/" in page
    admin = client.get("/admin/cleanup/run/", {"gone_at__isempty": "0"})
    assert [run.pk for run in admin.context_data["cl"].queryset] == [scene.run.pk]
