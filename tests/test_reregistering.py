"""Registering again what was moved or restored: what a person may say is the same run, and what it never is."""

import json
import os
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cleanup import clear_run, discovery, gathering, reregistering
from cleanup.clearing import Refused
from cleanup.models import ClearAttempt, IngestEvent, LedgerEntry, Phase, Run, StagingRoot
from cleanup.policy.reasons import Reason
from cleanup.registering import RegistrationError
from cleanup.reregistering import Action, Order, Outcome
from cleanup.staging import tree
from tests.faults.scene import Scene, everything, set_scene
from tests.lab import METADATA, RUN_PATH, Lab, census, read_ingest

pytestmark = pytest.mark.django_db

TOKEN = ".exlab-root"
TILE = "tiles/t_0001.tif"
OTHER_PATH = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-18T09-10"
THIRD_PATH = "FLOW_01/PROJ-0060/Runs/Run_2026-05-28T16-20"


@pytest.fixture
def scene(lab: Lab, root: Any, now: datetime) -> Scene:
    return set_scene(lab, root, now)


@pytest.fixture
def order(now: datetime) -> Order:
    return Order(now=now, actor="ada", note="disk failed")


@pytest.fixture
def rehearsal(now: datetime) -> Order:
    return Order(now=now, actor="ada", dry_run=True)


def restore(path: Path) -> None:
    """Put a copy in the place of a run, as a backup is restored: other inodes, the same bytes and times."""
    aside = path.with_name(".restored")
    shutil.copytree(path, aside)
    shutil.rmtree(path)
    aside.rename(path)


def edit_record(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    record = read_ingest(path)
    change(record)
    (path / METADATA / "ingest.json").write_text(json.dumps(record))


def one(run: Run, order: Order) -> Outcome:
    (outcome,) = reregistering.reregister_runs([Run.objects.with_root().get(pk=run.pk)], order)
    return outcome


def rows() -> list[Any]:
    """Everything that could change, as it stands in the database."""
    tables = (StagingRoot, Run, IngestEvent, ClearAttempt, LedgerEntry)
    return [list(table.objects.order_by("pk").values()) for table in tables]


def discover(root: StagingRoot, now: datetime) -> discovery.Discovered:
    root.refresh_from_db()
    found = discovery.discover(root, now=now)
    assert found is not None
    return found


def refuse_clear(run: Run, now: datetime, reason: Reason) -> None:
    with pytest.raises(Refused) as refused:
        clear_run(run, now=now)
    assert refused.value.finding.reason is reason


def assert_changes_nothing(lab: Lab, act: Callable[[], Any]) -> Any:
    """What it returns, after a proof that neither the disk nor any row is another than before."""
    before = rows(), everything(lab)
    result = act()
    assert (rows(), everything(lab)) == before
    return result


# One run


def test_a_restored_run_is_registered_again_and_cleared_with_true_counts(scene: Scene, order: Order) -> None:
    restore(scene.path)
    discover(scene.root, scene.now)
    refuse_clear(scene.run, scene.now, Reason.IDENTITY_MISMATCH)
    before = everything(scene.lab)
    assert one(scene.run, order).action is Action.REREGISTERED
    assert everything(scene.lab) == before
    old = scene.run.identity
    scene.run.refresh_from_db()
    assert scene.run.identity.split(":")[0] == str(scene.path.stat().st_ino) != old.split(":")[0]
    assert scene.run.identity.split(":")[2] == old.split(":")[2]
    assert discover(scene.root, scene.now).problems == []
    assert clear_run(scene.run, now=scene.now) == (scene.files, scene.bytes)
    scene.assert_cleared()
    assert Run.objects.count() == 1


def test_a_clear_needs_no_discovery_in_between(scene: Scene, order: Order) -> None:
    restore(scene.path)
    one(scene.run, order)
    assert clear_run(scene.run, now=scene.now) == (scene.files, scene.bytes)
    scene.assert_cleared()


def test_what_was_seen_of_the_other_directory_is_forgotten(scene: Scene, order: Order) -> None:
    restore(scene.path)
    discover(scene.root, scene.now)
    Run.objects.update(failures=3)
    scene.run.refresh_from_db()
    assert scene.run.problem == Reason.IDENTITY_MISMATCH
    one(scene.run, order)
    scene.run.refresh_from_db()
    assert (scene.run.problem, scene.run.facts, scene.run.failures) == ("", {}, 0)
    assert (scene.run.files, scene.run.bytes) == census(scene.path)
    decision = gathering.stored_decision(scene.run, [], scene.now)
    assert Reason.NOT_LOOKED_AT in [gate.reason for gate in decision.refusals(operator=True)]


def test_the_ledger_says_who_registered_what_again(scene: Scene, order: Order) -> None:
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


def test_twice_is_harmless(scene: Scene, order: Order) -> None:
    restore(scene.path)
    one(scene.run, order)
    assert assert_changes_nothing(scene.lab, lambda: one(scene.run, order)).action is Action.UNCHANGED


def test_a_run_that_was_not_moved_is_left_alone(scene: Scene, order: Order) -> None:
    assert assert_changes_nothing(scene.lab, lambda: one(scene.run, order)).action is Action.UNCHANGED


def test_a_rehearsal_changes_nothing(scene: Scene, rehearsal: Order) -> None:
    restore(scene.path)
    outcome = assert_changes_nothing(scene.lab, lambda: one(scene.run, rehearsal))
    assert outcome.action is Action.WOULD_REREGISTER


def test_a_longer_history_is_the_same_run(lab: Lab, root: Any, now: datetime, order: Order) -> None:
    scene = set_scene(lab, root, now, state="complete", twin=False)
    shutil.rmtree(scene.path)
    path = lab.run()
    assert one(scene.run, order).action is Action.REREGISTERED
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


@pytest.mark.parametrize("spoil", OTHERS, ids=lambda spoil: spoil.__name__)
def test_another_run_is_refused_and_declared_gone_only_when_asked(scene: Scene, order: Order, spoil: Any) -> None:
    restore(scene.path)
    spoil(scene.path)
    outcome = assert_changes_nothing(scene.lab, lambda: one(scene.run, order))
    assert outcome.action is Action.REFUSED
    assert outcome.finding is not None
    assert outcome.finding.reason is OTHERS[spoil]
    before = everything(scene.lab)
    insisting = Order(now=scene.now, actor="ada", replaced=True)
    assert one(scene.run, insisting).action is Action.DECLARED_GONE
    assert everything(scene.lab) == before
    old = scene.run
    identity, files, size = old.identity, old.files, old.bytes
    old.refresh_from_db()
    assert (old.gone_at, old.state, old.cleared_at) == (scene.now, "sync_verified", None)
    assert (old.identity, old.files, old.bytes) == (identity, files, size)
    assert scene.states() == ["staging", "complete", "sync_queued", "sync_verified"]
    assert not Run.objects.staged().exists()
    assert one(old, insisting).action is Action.REFUSED
    scene.assert_freed(0, 0)
    (entry,) = LedgerEntry.objects.all()
    assert (entry.kind, entry.reason, entry.files) == ("reregistered", Reason.IDENTITY_MISMATCH, 0)
    assert entry.detail.startswith(f"declared gone: {identity}; at its path lies ")


def test_a_rehearsal_declares_nothing_gone(scene: Scene, now: datetime) -> None:
    restore(scene.path)
    another_beginning(scene.path)
    asking = Order(now=now, actor="ada", replaced=True, dry_run=True)
    outcome = assert_changes_nothing(scene.lab, lambda: one(scene.run, asking))
    assert outcome.action is Action.WOULD_DECLARE_GONE


def test_what_lies_there_instead_becomes_a_run_of_its_own(scene: Scene, now: datetime) -> None:
    """A new acquisition at the old path: cleared for itself, and the old row never called cleared or counted."""
    shutil.rmtree(scene.path)
    shutil.rmtree(scene.twin)
    path = scene.lab.run(files={"only.tif": b"1" * 5000})
    another_beginning(path)
    discover(scene.root, now)
    assert Run.objects.get().problem == Reason.INGEST_DISAGREES
    assert one(scene.run, Order(now=now, actor="ada", replaced=True)).action is Action.DECLARED_GONE
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


def test_a_rewritten_history_in_the_very_same_directory(scene: Scene, order: Order, now: datetime) -> None:
    a_shorter_history(scene.path)
    outcome = assert_changes_nothing(scene.lab, lambda: one(scene.run, order))
    assert outcome.action is Action.REFUSED
    one(scene.run, Order(now=now, actor="ada", replaced=True))
    assert discover(scene.root, now).new == 1
    assert Run.objects.staged().get().state == "sync_queued"
    refuse_clear(Run.objects.staged().get(), now, Reason.NOT_SYNC_VERIFIED)


def test_an_unreadable_record_in_its_own_directory_is_no_other_run(scene: Scene, now: datetime) -> None:
    a_broken_record(scene.path)
    insisting = Order(now=now, actor="ada", replaced=True)
    outcome = assert_changes_nothing(scene.lab, lambda: one(scene.run, insisting))
    assert outcome.action is Action.REFUSED


def test_a_run_whose_history_was_never_read_cannot_be_known_again(
    lab: Lab, root: Any, now: datetime, order: Order
) -> None:
    path = lab.run()
    record = (path / METADATA / "ingest.json").read_bytes()
    no_record(path)
    discover(root, now)
    run = Run.objects.get()
    (path / METADATA / "ingest.json").write_bytes(record)
    assert one(run, order).action is Action.UNCHANGED  # its own directory: discovery reads the record
    restore(path)
    outcome = assert_changes_nothing(lab, lambda: one(run, order))
    assert (outcome.action, outcome.finding.reason) == (Action.REFUSED, Reason.IDENTITY_MISMATCH)


def test_a_directory_that_is_gone_is_nobody_elses(scene: Scene, now: datetime) -> None:
    scene.path.rename(scene.lab.base / "away")
    insisting = Order(now=now, actor="ada", replaced=True)
    outcome = assert_changes_nothing(scene.lab, lambda: one(scene.run, insisting))
    assert (outcome.action, outcome.finding.reason) == (Action.REFUSED, Reason.MISSING_DIRECTORY)


def test_a_link_at_the_path_is_refused(scene: Scene, now: datetime) -> None:
    away = scene.lab.base / "away"
    scene.path.rename(away)
    scene.path.symlink_to(away)
    insisting = Order(now=now, actor="ada", replaced=True)
    outcome = assert_changes_nothing(scene.lab, lambda: one(scene.run, insisting))
    assert (outcome.action, outcome.finding.reason) == (Action.REFUSED, Reason.UNSAFE_PATH)


def test_a_cleared_run_is_refused(scene: Scene, now: datetime) -> None:
    clear_run(scene.run, now=now)
    insisting = Order(now=now, actor="ada", replaced=True)
    outcome = assert_changes_nothing(scene.lab, lambda: one(scene.run, insisting))
    assert (outcome.action, outcome.finding.reason) == (Action.REFUSED, Reason.ALREADY_CLEARED)


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


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (add_a_file, Reason.NOT_IN_MANIFEST),
        (change_a_byte, Reason.NAS_CHECKSUM_MISMATCH),
        (lose_a_file, Reason.MISSING_FILE),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_our_record_over_other_data_is_not_cleared(scene: Scene, order: Order, spoil: Any, reason: Reason) -> None:
    restore(scene.path)
    spoil(scene.path)
    assert one(scene.run, order).action is Action.REREGISTERED
    before = everything(scene.lab)
    refuse_clear(scene.run, scene.now, reason)
    assert everything(scene.lab) == before
    scene.assert_freed(0, 0)


def test_a_fresh_proof_of_the_old_directory_is_no_proof_of_the_new_one(scene: Scene, order: Order) -> None:
    """A refused clear may leave a proof behind that a later one reuses: never for other inodes."""
    with pytest.MonkeyPatch.context() as patch:

        def full(*args: Any) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(tree, "fence", full)
        refuse_clear(scene.run, scene.now, Reason.STORAGE_ERROR)
    assert scene.run.proofs.exists()
    restore(scene.path)
    change_a_byte(scene.path)
    one(scene.run, order)
    refuse_clear(scene.run, scene.now, Reason.NAS_CHECKSUM_MISMATCH)


# While somebody clears


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.INTENT, Phase.COMMITTED])
def test_a_run_that_is_being_cleared_is_refused(scene: Scene, order: Order, phase: Phase) -> None:
    scene.attempt()
    ClearAttempt.objects.update(phase=phase)
    restore(scene.path)
    outcome = assert_changes_nothing(scene.lab, lambda: one(scene.run, order))
    assert (outcome.action, outcome.finding.reason) == (Action.REFUSED, Reason.ALREADY_CLEARING)
    for asked in (order, Order(now=scene.now, actor="ada", dry_run=True)):
        with pytest.raises(RegistrationError, match="have not come to their end"):
            reregistering.reregister_root(scene.root, asked)


def test_a_run_whose_lock_is_held_is_refused(scene: Scene, order: Order) -> None:
    restore(scene.path)
    with gathering.data_dir().lock(str(scene.run.pk)) as free:
        assert free
        outcome = assert_changes_nothing(scene.lab, lambda: one(scene.run, order))
    assert (outcome.action, outcome.finding.reason) == (Action.REFUSED, Reason.ALREADY_CLEARING)
    assert one(scene.run, order).action is Action.REREGISTERED


def test_an_attempt_that_comes_between_look_and_record_is_left_alone(
    scene: Scene, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore(scene.path)
    real = reregistering._look

    def look(run: Run, root: int) -> Any:
        scene.attempt()
        return real(run, root)

    monkeypatch.setattr(reregistering, "_look", look)
    outcome = one(scene.run, order)
    assert (outcome.action, outcome.finding.reason) == (Action.REFUSED, Reason.ALREADY_CLEARING)
    assert list(Run.objects.values_list("identity", flat=True)) == [scene.run.identity]
    assert not LedgerEntry.objects.exists()


def test_a_run_that_lies_aside_behind_its_fence_is_not_the_one_at_its_path(scene: Scene, now: datetime) -> None:
    """After a conflict the run itself, whole, has the fence's name; a copy at its path must not take its row."""
    attempt = scene.attempt()
    attempt.advance([Phase.QUEUED], Phase.CONFLICT, now=now, reason=Reason.PATH_OCCUPIED)
    restore(scene.path)
    fence = scene.path.with_name(os.fsdecode(tree.fence_name(attempt.pk.hex)))
    shutil.copytree(scene.path, fence)
    insisting = Order(now=now, actor="ada", replaced=True)
    outcome = assert_changes_nothing(scene.lab, lambda: one(scene.run, insisting))
    assert (outcome.action, outcome.finding.reason) == (Action.REFUSED, Reason.PATH_OCCUPIED)


# A whole root
