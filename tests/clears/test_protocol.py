"""What the clear of one run removes and records. Refusals are in the fault matrix."""

import contextlib
import errno
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.db import transaction

from cleanup import clear_run
from cleanup.clears import queue
from cleanup.clears.protocol import perform
from cleanup.clears.queue import ClearRequest
from cleanup.clears.refusal import Refused
from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, IngestEvent, LedgerEntry, Proof, Requester, Run
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.storage.nas import reader_process
from cleanup.storage.root_files import reserve
from cleanup.storage.staging import fences, removal
from cleanup.storage.staging.records import ingest_json as ingest
from tests.faults.means import before, flocked_elsewhere
from tests.faults.scene import Scene, inodes, is_root, set_scene, states_on_disk
from tests.tools import warm
from tests.tools.lab import METADATA, RUN_PATH, Lab, census, linked_lock, read_ingest, snapshot

OTHER_RUN = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-18T09-10"
TILE = "tiles/t_0001.tif"

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]


@pytest.fixture
def scene(lab: Lab, root: Any, now: datetime) -> Scene:
    return set_scene(lab, root, now)


# What a clear does


@pytest.mark.both_engines
@pytest.mark.parametrize("level", ["record", "size", "checksum"])
def test_clears_a_verified_run(scene: Scene, policy: Callable[..., Any], level: str) -> None:
    policy(proof=level)
    neighbour = scene.lab.run(OTHER_RUN)
    before = snapshot(neighbour), inodes(neighbour)
    assert clear_run(scene.run, now=scene.now, actor="ada", note="disk is full") == (scene.files, scene.bytes)
    scene.assert_cleared()
    assert scene.kinds() == ["authorised", "completed"]
    assert (snapshot(neighbour), inodes(neighbour)) == before
    attempt = scene.run.attempts.get()
    assert (attempt.actor, attempt.note, attempt.requester) == ("ada", "disk is full", "operator")
    assert (attempt.policy_version, attempt.proof.level) == (1, level)
    assert (attempt.planned_files, attempt.planned_bytes) == (scene.files, scene.bytes)
    assert {entry["verdict"] for entry in attempt.decision if entry["gate"] != "retention"} == {"pass"}


LOCK, OTHER_LOCK = f"{METADATA}/ingest.json.lock", f"{METADATA}/creation.json.lock"


@pytest.mark.parametrize(
    ("change", "more"),
    [
        (lambda run: os.utime(run / LOCK, (1, 1)), 0),
        (lambda run: (run / LOCK).unlink(), -1),
        (lambda run: ((run / LOCK).unlink(), (run / LOCK).touch()), 0),
        (lambda run: (run / METADATA / "readme_fields.json.lock").touch(), 1),
    ],
    ids=["touched", "deleted", "made anew", "one more"],
)
@pytest.mark.parametrize("late", [True, False])
def test_the_wizards_locks_come_and_go_until_the_fence(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], Any], more: int, late: bool
) -> None:
    """Some versions of the lock library do this at each take and release. Each removed file is counted once."""
    with contextlib.ExitStack() as stack:
        if late:
            stack.enter_context(before(monkeypatch, fences, "fence", lambda: change(scene.path)))
        else:
            change(scene.path)
        counted = clear_run(scene.run, now=scene.now)
    assert counted == (scene.files + more, scene.bytes)
    assert scene.kinds() == ["authorised", "completed"]
    scene.assert_freed(*counted)
    assert not scene.path.exists()
    assert scene.leftovers() == []


def test_a_linked_lock_that_a_crash_of_the_wizard_left_goes_with_the_run(scene: Scene) -> None:
    link = linked_lock(scene.path)
    for path in (link, *link.parents[:3]):
        os.utime(path, (1, 1))
    counted = clear_run(scene.run, now=scene.now)
    assert counted == (scene.files, scene.bytes)
    assert scene.kinds() == ["authorised", "completed"]
    scene.assert_freed(*counted)
    assert not scene.path.exists()
    assert scene.leftovers() == []


def test_a_lock_that_comes_and_goes_is_no_news(scene: Scene, root: Any, now: datetime) -> None:
    Run.objects.update(failures=3)
    (scene.path / LOCK).unlink()
    os.utime(scene.path / OTHER_LOCK, (1, 1))
    discovery.discover(root, now=now + timedelta(minutes=5))
    assert Run.objects.get().failures == 3


def test_a_proof_holds_while_only_the_locks_change(scene: Scene, policy: Callable[..., Any]) -> None:
    policy(proof="checksum")
    with mock.patch.object(fences, "prepare_record", side_effect=OSError(errno.EIO, "planted")):
        first = perform(scene.attempt(), now=scene.now)
    assert first.phase == "refused" and first.proof_id
    (scene.path / LOCK).unlink()
    os.utime(scene.path / OTHER_LOCK, (1, 1))
    second = perform(scene.attempt(), now=scene.now + timedelta(hours=1))
    assert second.phase == "done"
    assert second.proof_id == first.proof_id


def test_a_reader_of_the_nas_that_is_started_as_in_the_lab(
    scene: Scene, policy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other tests fork readers from one that waits, with everything imported."""
    monkeypatch.setattr(reader_process, "start", warm.real_start)
    policy(proof="checksum")
    assert clear_run(scene.run, now=scene.now, actor="ada") == (scene.files, scene.bytes)
    scene.assert_cleared()


@pytest.mark.parametrize(("asked", "later"), [("checksum", "record"), ("record", "size")])
def test_a_clear_that_waited_asks_for_the_stronger_of_both_proofs(
    scene: Scene, policy: Callable[..., Any], asked: str, later: str
) -> None:
    """What the operator was told at the click holds, and what the policy has asked for since."""
    policy(proof=asked)
    attempt = queue.new_attempt(scene.run, ClearRequest(requester=Requester.OPERATOR, actor="ada"), now=scene.now)
    policy(proof=later, rehearse=False)
    scene.lab.twin().rename(scene.lab.base / "lost")
    attempt = perform(attempt, now=scene.now)
    assert (attempt.phase, attempt.reason) == ("refused", Reason.NAS_MISSING_FILE)
    assert scene.path.is_dir()


def test_the_ledger_tells_the_whole_story(scene: Scene, policy: Callable[..., Any]) -> None:
    version = policy(mode="manual").version
    clear_run(scene.run, now=scene.now, actor="ada")
    attempt = scene.run.attempts.get()
    for entry in LedgerEntry.objects.all():
        assert (entry.root_name, entry.run_path) == ("lab", RUN_PATH)
        assert (entry.equipment, entry.project, entry.run_kind) == ("CONFOCAL_01", "PROJ-0042", "experimental")
        assert (entry.requester, entry.actor, entry.policy_version) == ("operator", "ada", version)
        assert (entry.proof_level, entry.plan_sha256) == ("checksum", attempt.plan_sha256)
    allocated = sum(seen.st_blocks * 512 for seen in map(os.lstat, _files(scene.twin)))
    completed = LedgerEntry.objects.get(kind="completed")
    assert completed.allocated_bytes >= allocated - 4096 * 2
    assert completed.allocated_bytes % 512 == 0


def test_the_proof_is_kept_with_its_counts(scene: Scene) -> None:
    data = [path for path in _files(scene.path) if METADATA not in path.parts]
    manifest = (scene.path / METADATA / "checksums.sha256").read_bytes()
    clear_run(scene.run, now=scene.now)
    proof = Proof.objects.get()
    assert proof.level == "checksum"
    assert (proof.files, proof.bytes) == (
        len(data),
        sum(seen.size for seen in scene.entries.values()) - _metadata(scene),
    )
    assert proof.manifest_sha256 == hashlib.sha256(manifest).hexdigest()


def test_the_tombstone_keeps_all_metadata(scene: Scene) -> None:
    before = {path.name: path.read_bytes() for path in (scene.path / METADATA).iterdir()}
    clear_run(scene.run, now=scene.now, actor="ada")
    attempt = scene.run.attempts.get()
    path = Path(opening.data_dir().tombstone_path(attempt.pk.hex))
    assert path.stat().st_mode & 0o077 == 0
    with tarfile.open(path) as archive:
        kept = {member.name: _read(archive, member) for member in archive.getmembers()}
    story, record = json.loads(kept.pop("tombstone.json")), json.loads(kept.pop("ingest.json"))
    assert kept == {f"metadata/{name}": content for name, content in before.items()}
    assert (story["run_path"], story["actor"], story["files"]) == (RUN_PATH, "ada", scene.files)
    assert story["plan_sha256"] == attempt.plan_sha256
    assert record["current_state"] == "cleared"
    old = json.loads(before["ingest.json"])
    assert record["history"][:-1] == old["history"]
    assert {**record, "history": [], "current_state": ""} == {**old, "history": [], "current_state": ""}
    event = IngestEvent.objects.get(state="cleared")
    assert event.digest == ingest.digest(record["history"][-1])
    assert (event.position, event.at_text, event.host) == (
        4,
        record["history"][-1]["at"],
        record["history"][-1]["host"],
    )


def test_the_plan_is_kept_and_names_every_entry(scene: Scene) -> None:
    clear_run(scene.run, now=scene.now)
    attempt = scene.run.attempts.get()
    plan = opening.data_dir().read_plan(attempt.pk.hex, attempt.plan_sha256)
    assert plan.run_path == RUN_PATH
    assert {os.fsdecode(entry.path): entry.ino for entry in plan.entries} | {".": plan.ino} == scene.inodes


@pytest.mark.both_engines
def test_everything_is_recorded_before_the_first_removal(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    remove = removal.remove

    def look_and_remove(parent: int, name: bytes, fenced: int, *args: Any, **kwargs: Any) -> Any:
        fence = scene.path.parent / os.fsdecode(name)
        attempt = ClearAttempt.objects.get()
        seen.append(
            {
                "fence": name.decode() == f".exlab-clearing-{attempt.pk.hex}",
                "phase": attempt.phase,
                "run": Run.objects.get().state,
                "ledger": scene.kinds(),
                "on disk": states_on_disk(fence),
                "current": read_ingest(fence)["current_state"],
                "census": census(fence)[0],
                "mode": (fence / METADATA / "ingest.json").stat().st_mode & 0o777,
                "at its path": scene.path.exists(),
                "tombstone": Path(opening.data_dir().tombstone_path(attempt.pk.hex)).exists(),
            }
        )
        return remove(parent, name, fenced, *args, **kwargs)

    monkeypatch.setattr(removal, "remove", look_and_remove)
    clear_run(scene.run, now=scene.now)
    assert seen == [
        {
            "fence": True,
            "phase": "committed",
            "run": "cleared",
            "ledger": ["authorised"],
            "on disk": ["staging", "complete", "sync_queued", "sync_verified", "cleared"],
            "current": "cleared",
            "census": scene.files,
            "mode": 0o600,
            "at its path": False,
            "tombstone": True,
        }
    ]


def test_keeps_the_owner_of_the_record(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_root():
        pytest.skip("only root may give files away")
    record = scene.path / METADATA / "ingest.json"
    os.chown(record, 4321, 4322)
    owners = []
    remove = removal.remove

    def look_and_remove(parent: int, name: bytes, *args: Any, **kwargs: Any) -> Any:
        seen = (scene.path.parent / os.fsdecode(name) / METADATA / "ingest.json").stat()
        owners.append((seen.st_uid, seen.st_gid))
        return remove(parent, name, *args, **kwargs)

    monkeypatch.setattr(removal, "remove", look_and_remove)
    clear_run(scene.run, now=scene.now)
    assert owners == [(4321, 4322)]


def test_the_reserve_is_there_afterwards(scene: Scene) -> None:
    clear_run(scene.run, now=scene.now)
    assert (scene.lab.staging / ".exlab-reserve").stat().st_size == reserve.RESERVE_BYTES


# Twice is harmless


@pytest.mark.both_engines
def test_one_run_has_one_attempt_at_a_time(scene: Scene) -> None:
    scene.attempt()
    with pytest.raises(Refused) as refused:
        clear_run(scene.run, now=scene.now)
    assert refused.value.finding.reason is Reason.ALREADY_CLEARING
    scene.assert_whole()


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_an_attempt_waits_while_its_run_is_locked_by_another_process(
    scene: Scene, subprocess_env: dict[str, str]
) -> None:
    attempt = scene.attempt()
    with flocked_elsewhere(Path(os.environ["EXLAB_DATA_DIR"]) / "locks" / str(scene.run.pk)):
        assert perform(attempt, now=scene.now).phase == "queued"
        scene.assert_whole()
    assert perform(attempt, now=scene.now).phase == "done"


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_an_outer_transaction_is_refused_before_anything_is_touched(scene: Scene) -> None:
    attempt = scene.attempt()
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        perform(attempt, now=scene.now)
    attempt.refresh_from_db()
    assert attempt.phase == "queued"
    scene.assert_whole()


# What a refusal says


def test_the_decision_of_a_refusal_names_every_gate(scene: Scene) -> None:
    (scene.path / METADATA / "checksums.sha256").unlink()
    (scene.twin / TILE).unlink()
    with pytest.raises(Refused):
        clear_run(scene.run, now=scene.now)
    verdicts = {gate["gate"]: gate["reason"] for gate in scene.run.attempts.get().decision}
    assert verdicts == {
        "state": None,
        "clock": None,
        "retention": "policy_manual",
        "hold": None,
        "path": None,
        "unchanged": "manifest_missing",
        "proof": "nas_missing_file",
        "free": None,
        "attempts": None,
        "budget": None,
        "breaker": None,
    }


# Helpers


def _files(top: Path) -> list[Path]:
    return [path for path in top.rglob("*") if path.is_file() and not path.is_symlink()]


def _metadata(scene: Scene) -> int:
    return sum(seen.size for name, seen in scene.entries.items() if name.startswith(METADATA + "/"))


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert isinstance(file, io.BufferedIOBase)
    return file.read()
