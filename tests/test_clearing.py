"""The clear of one run: what it removes, what it records, and everything that it refuses to touch."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, transaction

from cleanup import cleanup_eligible, clear_run, clearing, discovery, freed_bytes_and_count, gathering, recovery
from cleanup.clearing import Refused, perform
from cleanup.models import ClearAttempt, IngestEvent, LedgerEntry, Proof, Run
from cleanup.policy.reasons import Reason
from cleanup.policy.retention import Mode, Policy
from cleanup.staging import ingest, tree
from tests.faults import children
from tests.faults.scene import Scene, everything, inodes, is_root, scene_of, set_scene, states_on_disk
from tests.lab import METADATA, RUN_PATH, Lab, census, manifest_of, read_ingest, snapshot, touch

OTHER_RUN = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-18T09-10"
TILE = "tiles/t_0001.tif"

pytestmark = pytest.mark.django_db

needs_root = pytest.mark.skipif(not is_root(), reason="only root may do this to a filesystem")


@pytest.fixture
def scene(lab: Lab, root: Any, now: datetime) -> Scene:
    return set_scene(lab, root, now)


# What a clear does


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
    path = Path(gathering.data_dir().tombstone_path(attempt.pk.hex))
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
    plan = gathering.data_dir().read_plan(attempt.pk.hex, attempt.plan_sha256)
    assert plan.run_path == RUN_PATH
    assert {os.fsdecode(entry.path): entry.ino for entry in plan.entries} | {".": plan.ino} == scene.inodes


def test_everything_is_recorded_before_the_first_removal(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the moment of the first unlink the ledger, the history and the record on disk all say so already."""
    seen: list[Any] = []
    remove = tree.remove

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
                "tombstone": Path(gathering.data_dir().tombstone_path(attempt.pk.hex)).exists(),
            }
        )
        return remove(parent, name, fenced, *args, **kwargs)

    monkeypatch.setattr(tree, "remove", look_and_remove)
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
    remove = tree.remove

    def look_and_remove(parent: int, name: bytes, *args: Any, **kwargs: Any) -> Any:
        seen = (scene.path.parent / os.fsdecode(name) / METADATA / "ingest.json").stat()
        owners.append((seen.st_uid, seen.st_gid))
        return remove(parent, name, *args, **kwargs)

    monkeypatch.setattr(tree, "remove", look_and_remove)
    clear_run(scene.run, now=scene.now)
    assert owners == [(4321, 4322)]


def test_touched_files_with_the_same_bytes_pass_at_checksum(scene: Scene) -> None:
    touch(scene.path / TILE, scene.now - timedelta(hours=1))
    assert clear_run(scene.run, now=scene.now) == (scene.files, scene.bytes)
    (gate,) = [gate for gate in scene.run.attempts.get().decision if gate["gate"] == "unchanged"]
    assert gate["verdict"] == "pass"
    assert "touched, same bytes" in gate["detail"]


def test_clears_strange_but_honest_trees(lab: Lab, root: Any, now: datetime) -> None:
    files = {
        "- leading dash": b"1",
        "new\nline": b"2",
        "back\\slash": b"3",
        os.fsdecode(b"not utf-8 \xff"): b"4",
        "deep/" * 60 + "file": b"5",
        f"nested/{METADATA}/ingest.json": b"data like any other",
        "empty": b"",
    }
    path = lab.run(files=files)
    (path / "an empty folder").mkdir()
    _escape_manifest(path)
    discovery.discover(root, now=now)
    scene = scene_of(lab, root, now, RUN_PATH, path)
    assert clear_run(scene.run, now=now) == (scene.files, scene.bytes)
    scene.assert_cleared()


def test_read_only_directories_are_cleared_too(scene: Scene) -> None:
    """A data folder that its owner locked is no obstacle; an ordinary user may make it writable, root need not."""
    (scene.path / "tiles").chmod(0o555)
    scene.path.chmod(0o555)
    assert clear_run(scene.run, now=scene.now) == (scene.files, scene.bytes)
    assert not scene.path.exists()


def test_hard_links_are_counted_once_and_elsewhere_free_no_blocks(scene: Scene, tmp_path: Path) -> None:
    elsewhere = tmp_path / "kept.tif"
    os.link(scene.path / TILE, elsewhere)
    inside = scene.path / "tiles/t_0002.tif"
    inside.unlink()
    os.link(scene.path / "tiles/t_0003.tif", inside)  # two names of one file within the run
    content = inside.read_bytes()
    twin = scene.twin / "tiles/t_0002.tif"
    twin.write_bytes(content)
    data = {name: (scene.path / name).read_bytes() for name in _data_names(scene.path)}
    (scene.path / METADATA / "checksums.sha256").write_bytes(manifest_of(data))
    verified = read_ingest(scene.path)["history"][-1]["at"]
    for path in _files(scene.path):
        touch(path, datetime.fromisoformat(verified) - timedelta(hours=1))
    kept = elsewhere.read_bytes()
    files, size = clear_run(scene.run, now=scene.now)
    assert (files, size) == (scene.files - 1, scene.bytes - len(content))
    assert elsewhere.read_bytes() == kept
    attempt = scene.run.attempts.get()
    assert attempt.freed_allocated_bytes > 0
    assert attempt.freed_allocated_bytes <= sum(-(-seen.size // 4096) * 4096 for seen in scene.entries.values()) - 8192


def test_the_reserve_is_there_afterwards(scene: Scene) -> None:
    clear_run(scene.run, now=scene.now)
    assert (scene.lab.staging / ".exlab-reserve").stat().st_size == tree.RESERVE_BYTES


# Twice is harmless


def test_a_second_clear_frees_nothing_and_writes_no_second_entry(scene: Scene) -> None:
    clear_run(scene.run, now=scene.now)
    rows = LedgerEntry.objects.count(), ClearAttempt.objects.count(), IngestEvent.objects.count()
    assert clear_run(scene.run, now=scene.now) == (0, 0)
    stale = Run.objects.get()
    stale.state = "sync_verified"  # somebody read the row before the clear
    assert clear_run(stale, now=scene.now) == (0, 0)
    assert (LedgerEntry.objects.count(), ClearAttempt.objects.count(), IngestEvent.objects.count()) == rows


def test_a_run_whose_directory_somebody_else_took_away_frees_nothing(scene: Scene) -> None:
    rename_aside(scene.path)
    events = scene.run.events.count()
    assert clear_run(scene.run, now=scene.now) == (0, 0)
    scene.run.refresh_from_db()
    assert (scene.run.state, scene.run.events.count()) == ("sync_verified", events)
    assert scene.kinds() == ["refused"]
    assert scene.run.attempts.get().reason == Reason.MISSING_DIRECTORY


def test_a_run_whose_directory_is_gone_frees_nothing_and_is_not_called_cleared(scene: Scene) -> None:
    rename_aside(scene.path)
    before = everything(scene.lab)
    assert clear_run(scene.run, now=scene.now) == (0, 0)
    assert everything(scene.lab) == before
    scene.run.refresh_from_db()
    assert (scene.run.state, scene.states()[-1]) == ("sync_verified", "sync_verified")
    attempt = scene.run.attempts.get()
    assert (attempt.phase, attempt.reason) == ("refused", "missing_directory")
    assert scene.kinds() == ["refused"]


def test_a_task_that_is_delivered_twice_leaves_silently(scene: Scene) -> None:
    attempt = scene.attempt()
    first = perform(attempt, now=scene.now)
    again = perform(ClearAttempt.objects.get(), now=scene.now)
    assert (first.phase, again.phase) == ("done", "done")
    scene.assert_cleared()


def test_an_attempt_of_another_host_is_left_alone(scene: Scene, settings: Any) -> None:
    attempt = scene.attempt()
    settings.EXLAB_HOST = "another-pc"
    assert perform(attempt, now=scene.now).phase == "queued"
    scene.assert_whole()


def test_one_run_has_one_attempt_at_a_time(scene: Scene) -> None:
    scene.attempt()
    with pytest.raises(Refused) as refused:
        clear_run(scene.run, now=scene.now)
    assert refused.value.finding.reason is Reason.ALREADY_CLEARING
    scene.assert_whole()


@pytest.mark.django_db(transaction=True)
def test_two_processes_at_once_clear_it_once(scene: Scene, subprocess_env: dict[str, str]) -> None:
    attempt = scene.attempt()
    holder = children.pause_at(
        "cleanup.clearing:_pass_gates:before:1", subprocess_env, "clear", scene.now, str(attempt.pk)
    )
    assert children.run(subprocess_env, "clear", scene.now, str(attempt.pk)) == ["intent", 0, 0]
    assert children.run(subprocess_env, "recover", scene.now) == [0, 0, 0]  # a held lock means hands off
    assert perform(ClearAttempt.objects.get(), now=scene.now).phase == "intent"
    assert snapshot(scene.path) == scene.entries
    assert children.resume(holder) == ["done", scene.files, scene.bytes]
    scene.assert_cleared()


@pytest.mark.django_db(transaction=True)
def test_an_attempt_waits_while_its_run_is_locked_by_another_process(
    scene: Scene, subprocess_env: dict[str, str]
) -> None:
    attempt = scene.attempt()
    with _held_elsewhere(Path(os.environ["EXLAB_DATA_DIR"]) / "locks" / str(scene.run.pk)):
        assert perform(attempt, now=scene.now).phase == "queued"
        scene.assert_whole()
    assert perform(attempt, now=scene.now).phase == "done"


@pytest.mark.django_db(transaction=True)
def test_an_outer_transaction_is_refused_before_anything_is_touched(scene: Scene) -> None:
    attempt = scene.attempt()
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        perform(attempt, now=scene.now)
    attempt.refresh_from_db()
    assert attempt.phase == "queued"
    scene.assert_whole()


# What a clear refuses


@dataclass(frozen=True)
class Obstacle:
    """Something wrong with a run, made after its discovery; `level` is the proof that the policy asks."""

    reason: Reason
    make: Callable[[Scene], Any]
    level: str = "checksum"


def edit_record(scene: Scene, change: Callable[[dict[str, Any]], Any]) -> None:
    record = read_ingest(scene.path)
    change(record)
    (scene.path / METADATA / "ingest.json").write_text(json.dumps(record))


def add_old_file(scene: Scene, name: str, content: bytes = b"more") -> None:
    (scene.path / name).write_bytes(content)
    touch(scene.path / name, datetime.fromisoformat("2026-04-17T15:00:00Z"))


def change_keeping_size_and_time(path: Path) -> None:
    before = path.stat()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_a_copy(scene: Scene) -> None:
    aside = scene.path.with_name("aside")
    scene.path.rename(aside)
    shutil.copytree(aside, scene.path)
    shutil.rmtree(aside)


def link_the_twin(scene: Scene) -> None:
    (scene.twin / TILE).unlink()
    os.link(scene.path / TILE, scene.twin / TILE)


def swap_nas_for_an_empty_directory(scene: Scene) -> None:
    scene.lab.nas.rename(scene.lab.base / "the disk that is not mounted")
    scene.lab.nas.mkdir()


def rename_aside(path: Path) -> None:
    path.rename(path.with_name(path.name + ".aside"))


def set_root(scene: Scene, **fields: Any) -> None:
    type(scene.root).objects.filter(pk=scene.root.pk).update(**fields)


OTHER_TOKEN = "11111111-2222-3333-4444-555555555555\n"

OBSTACLES = {
    # state
    "record gone": Obstacle(Reason.INGEST_UNREADABLE, lambda s: (s.path / METADATA / "ingest.json").unlink()),
    "record truncated": Obstacle(
        Reason.INGEST_UNREADABLE, lambda s: (s.path / METADATA / "ingest.json").write_bytes(b'{"schema_version"')
    ),
    "record of the future": Obstacle(
        Reason.INGEST_SCHEMA_UNSUPPORTED, lambda s: edit_record(s, lambda r: r.update(schema_version="2.0"))
    ),
    "history rewritten": Obstacle(
        Reason.INGEST_DISAGREES, lambda s: edit_record(s, lambda r: r["history"][1].update(host="someone"))
    ),
    "history shortened": Obstacle(
        Reason.INGEST_DISAGREES,
        lambda s: edit_record(s, lambda r: (r["history"].pop(), r.update(current_state="sync_queued"))),
    ),
    "another run's record": Obstacle(
        Reason.INGEST_DISAGREES, lambda s: edit_record(s, lambda r: r.update(run_path=OTHER_RUN))
    ),
    "cleared by the record": Obstacle(
        Reason.ALREADY_CLEARED,
        lambda s: edit_record(
            s,
            lambda r: (
                r["history"].append({"state": "cleared", "at": "2026-04-20T10:00:00Z", "host": "x"}),
                r.update(current_state="cleared"),
            ),
        ),
    ),
    # path
    "staging token missing": Obstacle(Reason.ROOT_NOT_MOUNTED, lambda s: rename_aside(s.lab.staging / ".exlab-root")),
    "another staging disk": Obstacle(
        Reason.ROOT_NOT_MOUNTED, lambda s: (s.lab.staging / ".exlab-root").write_text(OTHER_TOKEN)
    ),
    "run replaced": Obstacle(Reason.IDENTITY_MISMATCH, replace_by_a_copy),
    "run is a link": Obstacle(
        Reason.UNSAFE_PATH, lambda s: (rename_aside(s.path), s.path.symlink_to(f"{s.path.name}.aside"))
    ),
    "project is a link": Obstacle(
        Reason.UNSAFE_PATH,
        lambda s: (
            s.path.parents[1].rename(s.lab.base / "moved"),
            s.path.parents[1].symlink_to(s.lab.base / "moved"),
        ),
    ),
    "link inside": Obstacle(Reason.UNSAFE_PATH, lambda s: (s.path / "tiles/all").symlink_to("/")),
    "link as data file": Obstacle(
        Reason.UNSAFE_PATH, lambda s: (rename_aside(s.path / TILE), (s.path / TILE).symlink_to("t_0001.tif.aside"))
    ),
    "fifo inside": Obstacle(Reason.SPECIAL_FILE, lambda s: os.mkfifo(s.path / "tiles/pipe")),
    "too deep": Obstacle(Reason.TREE_TOO_DEEP, lambda s: (s.path / ("d/" * 140)).mkdir(parents=True)),
    # unchanged
    "extra file": Obstacle(Reason.NOT_IN_MANIFEST, lambda s: add_old_file(s, "tiles/extra.tif")),
    "extra file called .exlab-wizard deeper down": Obstacle(
        Reason.NOT_IN_MANIFEST,
        lambda s: ((s.path / "tiles" / METADATA).mkdir(), add_old_file(s, f"tiles/{METADATA}/ingest.json")),
    ),
    "missing file": Obstacle(Reason.MISSING_FILE, lambda s: (s.path / TILE).unlink()),
    "manifest missing": Obstacle(Reason.MANIFEST_MISSING, lambda s: (s.path / METADATA / "checksums.sha256").unlink()),
    "manifest empty": Obstacle(
        Reason.MANIFEST_EMPTY, lambda s: (s.path / METADATA / "checksums.sha256").write_bytes(b"\n")
    ),
    "manifest broken": Obstacle(
        Reason.MANIFEST_UNREADABLE, lambda s: (s.path / METADATA / "checksums.sha256").write_bytes(b"no sum\n")
    ),
    "manifest climbs": Obstacle(
        Reason.MANIFEST_UNREADABLE,
        lambda s: (s.path / METADATA / "checksums.sha256").write_bytes(b"0" * 64 + b"  ../other/file\n"),
    ),
    "newer file at size": Obstacle(
        Reason.CHANGED_SINCE_VERIFICATION, lambda s: touch(s.path / TILE, s.now - timedelta(hours=1)), "size"
    ),
    "newer file at record": Obstacle(
        Reason.CHANGED_SINCE_VERIFICATION, lambda s: touch(s.path / TILE, s.now - timedelta(hours=1)), "record"
    ),
    # Both gates block; that the bytes differ tells more than that the file is newer.
    "newer and other bytes": Obstacle(
        Reason.NAS_CHECKSUM_MISMATCH,
        lambda s: (
            change_keeping_size_and_time(s.path / TILE),
            touch(s.path / TILE, s.now - timedelta(hours=1)),
        ),
    ),
    "written a moment ago": Obstacle(
        Reason.NOT_QUIET, lambda s: touch(s.path / TILE, s.now - timedelta(minutes=9, seconds=59))
    ),
    "from the future": Obstacle(Reason.NOT_QUIET, lambda s: touch(s.path / TILE, s.now + timedelta(days=300))),
    "unknown metadata": Obstacle(
        Reason.UNEXPECTED_METADATA, lambda s: (s.path / METADATA / "notes.txt").write_text("mine")
    ),
    "metadata folder in metadata": Obstacle(
        Reason.UNEXPECTED_METADATA, lambda s: (s.path / METADATA / "wizard.x.log").mkdir()
    ),
    "too much metadata": Obstacle(
        Reason.UNEXPECTED_METADATA, lambda s: (s.path / METADATA / "wizard.a.log").write_bytes(b"x" * (4 << 20))
    ),
    # proof
    "other bytes in staging": Obstacle(
        Reason.NAS_CHECKSUM_MISMATCH, lambda s: change_keeping_size_and_time(s.path / TILE)
    ),
    "other bytes on the nas": Obstacle(
        Reason.NAS_CHECKSUM_MISMATCH, lambda s: change_keeping_size_and_time(s.twin / TILE)
    ),
    "other bytes on both": Obstacle(
        Reason.NAS_CHECKSUM_MISMATCH,
        lambda s: (change_keeping_size_and_time(s.path / TILE), change_keeping_size_and_time(s.twin / TILE)),
    ),
    "nas misses a file": Obstacle(Reason.NAS_MISSING_FILE, lambda s: (s.twin / TILE).unlink()),
    "nas misses a file, at size": Obstacle(Reason.NAS_MISSING_FILE, lambda s: (s.twin / TILE).unlink(), "size"),
    "nas misses the run": Obstacle(Reason.NAS_MISSING_FILE, lambda s: rename_aside(s.twin)),
    "nas has a link for a file": Obstacle(
        Reason.NAS_MISSING_FILE, lambda s: (rename_aside(s.twin / TILE), (s.twin / TILE).symlink_to("t_0001.tif.aside"))
    ),
    "nas has a link for the run": Obstacle(
        Reason.NAS_IO_ERROR, lambda s: (rename_aside(s.twin), s.twin.symlink_to(f"{s.twin.name}.aside"))
    ),
    "nas leads back to staging": Obstacle(
        Reason.NAS_IO_ERROR, lambda s: (rename_aside(s.twin), s.twin.symlink_to(s.path))
    ),
    "shorter on the nas": Obstacle(Reason.NAS_SIZE_MISMATCH, lambda s: os.truncate(s.twin / TILE, 100), "size"),
    "nas token missing": Obstacle(Reason.NAS_NOT_MOUNTED, lambda s: rename_aside(s.lab.nas / ".exlab-root")),
    "another nas": Obstacle(
        Reason.NAS_IDENTITY_MISMATCH, lambda s: (s.lab.nas / ".exlab-root").write_text(OTHER_TOKEN)
    ),
    "nas is an empty directory": Obstacle(Reason.NAS_NOT_MOUNTED, swap_nas_for_an_empty_directory),
    "nas is no directory": Obstacle(Reason.NAS_NOT_MOUNTED, lambda s: rename_aside(s.lab.nas)),
    "no nas": Obstacle(Reason.NAS_NOT_CONFIGURED, lambda s: set_root(s, nas_path="", nas_token="")),
    "a nas without its token laid": Obstacle(Reason.NAS_NOT_MOUNTED, lambda s: set_root(s, nas_token="")),
    "same filesystem": Obstacle(Reason.NAS_SAME_FILESYSTEM, lambda s: set_root(s, allow_same_filesystem=False)),
    "the twin is the very same file": Obstacle(Reason.NAS_SAME_FILESYSTEM, link_the_twin),
    "the twin is the very same file, at size": Obstacle(Reason.NAS_SAME_FILESYSTEM, link_the_twin, "size"),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_refuses(scene: Scene, policy: Callable[..., Any], name: str) -> None:
    obstacle = OBSTACLES[name]
    policy(proof=obstacle.level)
    obstacle.make(scene)
    assert_refused(scene, obstacle.reason)


def assert_refused(scene: Scene, reason: Reason) -> None:
    """The clear is refused for this reason, and not a byte, time or inode of the lab is another afterwards."""
    before = everything(scene.lab)
    with pytest.raises(Refused) as refused:
        clear_run(Run.objects.get(pk=scene.run.pk), now=scene.now, actor="ada")
    assert refused.value.finding.reason is reason, str(refused.value)
    assert everything(scene.lab) == before
    scene.run.refresh_from_db()
    assert (scene.run.state, scene.run.cleared_at) == ("sync_verified", None)
    assert scene.kinds() == ["refused"]
    attempt = scene.run.attempts.get()
    assert (attempt.phase, attempt.reason) == ("refused", reason)
    data = Path(os.environ["EXLAB_DATA_DIR"])
    assert not list(data.glob(f"*/{attempt.pk.hex}*"))
    recovery.recover(now=scene.now)
    assert everything(scene.lab) == before


def test_refuses_a_verification_in_the_future(lab: Lab, root: Any, now: datetime) -> None:
    scene = set_scene(lab, root, now, verified_at=now + timedelta(minutes=6))
    assert_refused(scene, Reason.CLOCK_UNTRUSTED)


def test_a_clock_that_runs_ahead_a_little_is_believed(lab: Lab, root: Any, now: datetime) -> None:
    scene = set_scene(lab, root, now, verified_at=now + timedelta(minutes=4))
    assert clear_run(scene.run, now=now) == (scene.files, scene.bytes)


@pytest.mark.parametrize("at", ["yesterday", "", None, "2026-13-40T00:00:00Z", 17])
def test_refuses_a_verification_without_a_usable_instant(lab: Lab, root: Any, now: datetime, at: Any) -> None:
    path = lab.run()
    record = read_ingest(path)
    record["history"][-1]["at"] = at
    (path / METADATA / "ingest.json").write_text(json.dumps(record))
    discovery.discover(root, now=now)
    assert_refused(scene_of(lab, root, now, RUN_PATH, path), Reason.NO_VERIFIED_TIMESTAMP)


@pytest.mark.parametrize("state", ["staging", "complete", "sync_queued"])
def test_refuses_a_run_that_is_not_verified(lab: Lab, root: Any, now: datetime, state: str) -> None:
    scene = set_scene(lab, root, now, state=state)
    before = everything(lab)
    with pytest.raises(Refused) as refused:
        clear_run(scene.run, now=now)
    assert refused.value.finding.reason is Reason.NOT_SYNC_VERIFIED
    assert everything(lab) == before


def test_refuses_at_size_what_only_lies_about_its_bytes_at_checksum(scene: Scene, policy: Callable[..., Any]) -> None:
    """At `size` equal names and sizes are proof enough, as the policy says: that is what choosing it means."""
    policy(proof="size")
    change_keeping_size_and_time(scene.twin / TILE)
    assert clear_run(scene.run, now=scene.now) == (scene.files, scene.bytes)


def test_record_asks_nothing_of_the_nas(scene: Scene, policy: Callable[..., Any]) -> None:
    policy(proof="record")
    shutil.rmtree(scene.lab.nas)
    assert clear_run(scene.run, now=scene.now) == (scene.files, scene.bytes)


@pytest.mark.parametrize("mode", ["a", "r+"])
def test_refuses_while_a_program_writes(scene: Scene, mode: str) -> None:
    script = f"import sys; file = open({str(scene.path / TILE)!r}, {mode!r}); print('open', flush=True); input()"
    with _running(script):
        assert_refused(scene, Reason.WRITER_ACTIVE)


def test_a_reader_is_no_reason_to_refuse(scene: Scene) -> None:
    script = f"file = open({str(scene.path / TILE)!r}); print('open', flush=True); input()"
    with _running(script):
        assert clear_run(scene.run, now=scene.now) == (scene.files, scene.bytes)


def test_refuses_while_the_wizard_holds_its_lock(scene: Scene) -> None:
    with _held_elsewhere(scene.path / METADATA / "ingest.json.lock"):
        assert_refused(scene, Reason.WRITER_ACTIVE)


def test_a_lock_file_that_is_a_link_is_not_followed(scene: Scene, tmp_path: Path) -> None:
    target = tmp_path / "somewhere"
    target.touch()
    lock = scene.path / METADATA / "ingest.json.lock"
    lock.unlink()
    lock.symlink_to(target)
    assert_refused(scene, Reason.UNSAFE_PATH)


def test_a_run_without_a_lock_file_is_cleared(scene: Scene) -> None:
    (scene.path / METADATA / "ingest.json.lock").unlink()
    assert clear_run(scene.run, now=scene.now) == (scene.files - 1, scene.bytes)


@needs_root
def test_refuses_a_mount_inside(scene: Scene) -> None:
    """What lies behind a bind mount is somebody else's."""
    treasure = scene.lab.base / "treasure"
    treasure.mkdir()
    (treasure / "only copy").write_text("gold")
    (scene.path / "mnt").mkdir()
    with _mounted(["--bind", str(treasure), str(scene.path / "mnt")], scene.path / "mnt"):
        assert_refused(scene, Reason.MOUNT_INSIDE)
    assert (treasure / "only copy").read_text() == "gold"


@needs_root
def test_refuses_a_nas_that_is_the_staging_disk_under_another_name(scene: Scene) -> None:
    shutil.rmtree(scene.lab.nas)
    scene.lab.nas.mkdir()
    set_root(scene, nas_token=scene.root.token)
    with _mounted(["--bind", str(scene.lab.staging), str(scene.lab.nas)], scene.lab.nas):
        with pytest.raises(Refused) as refused:
            clear_run(Run.objects.get(), now=scene.now)
        assert refused.value.finding.reason is Reason.NAS_SAME_FILESYSTEM
        assert snapshot(scene.path) == scene.entries


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
        "path": None,
        "unchanged": "manifest_missing",
        "proof": "nas_missing_file",
        "free": None,
        "attempts": None,
    }


# What changes under its hands

SEAMS: dict[str, Callable[[Path], Any]] = {
    "a new file": lambda run: (run / "tiles/late.tif").write_bytes(b"late"),
    "a new folder": lambda run: (run / "late").mkdir(),
    "a file gone": lambda run: (run / TILE).unlink(),
    "a file rewritten": lambda run: change_keeping_size_and_time(run / TILE),
    "a file touched": lambda run: touch(run / TILE, datetime.fromisoformat("2026-01-01T00:00:00Z")),
    "a link": lambda run: (run / "late").symlink_to("/"),
    "the record rewritten": lambda run: change_keeping_size_and_time(run / METADATA / "ingest.json"),
    "a lock": lambda run: (run / METADATA / "late.lock").touch(),
}


@pytest.mark.parametrize("name", SEAMS)
def test_a_change_between_scan_and_fence_puts_the_run_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fence = tree.fence

    def change_and_fence(*args: Any) -> None:
        SEAMS[name](scene.path)
        fence(*args)

    monkeypatch.setattr(tree, "fence", change_and_fence)
    with pytest.raises(Refused) as refused:
        clear_run(scene.run, now=scene.now)
    assert refused.value.finding.reason is Reason.CHANGED_SINCE_VERIFICATION
    monkeypatch.undo()
    kept = scene.inodes.items() & inodes(scene.path).items()
    assert len(kept) >= len(scene.inodes) - 1
    assert inodes(scene.path)["."] == scene.inodes["."]
    assert scene.leftovers() == []
    assert scene.kinds() == ["refused"]
    assert scene.states()[-1] == "sync_verified"


def test_a_writer_that_comes_late_puts_the_run_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    fence = tree.fence
    with ExitStack() as stack:

        def open_and_fence(*args: Any) -> None:
            script = f"file = open({str(scene.path / TILE)!r}, 'a'); print('open', flush=True); input()"
            stack.enter_context(_running(script))
            fence(*args)

        monkeypatch.setattr(tree, "fence", open_and_fence)
        with pytest.raises(Refused) as refused:
            clear_run(scene.run, now=scene.now)
    assert refused.value.finding.reason is Reason.WRITER_ACTIVE
    scene.assert_whole()


def test_what_appears_behind_the_fence_stays_and_is_reported(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file written after the commit is in no plan: it is kept, with the record that tells its story."""
    publish = tree.publish

    def write_and_publish(parent: int, name: bytes, fenced: int) -> None:
        publish(parent, name, fenced)
        fence = next(scene.path.parent.glob(".exlab-clearing-*"))
        (fence / "tiles/late.tif").write_bytes(b"late")
        change_keeping_size_and_time(fence / TILE)

    monkeypatch.setattr(tree, "publish", write_and_publish)
    changed = (scene.path / TILE).stat().st_size
    record = (scene.path / METADATA / "ingest.json").stat().st_size
    files, size = clear_run(scene.run, now=scene.now)
    assert (files, size) == (scene.files - 2, scene.bytes - changed - record)
    (fence,) = scene.path.parent.glob(".exlab-clearing-*")
    assert sorted(_names(fence)) == [f"{METADATA}/ingest.json", "tiles/late.tif", TILE]
    assert states_on_disk(fence)[-1] == "cleared"
    attempt = scene.run.attempts.get()
    assert (attempt.phase, attempt.reason) == ("done", "removal_incomplete")
    assert attempt.detail.startswith(f"2 of {scene.files} files left")
    assert scene.kinds() == ["authorised", "partial"]
    scene.assert_freed(files, size)
    monkeypatch.undo()
    for _ in range(2):  # it stays, however often recovery looks, and the ledger does not grow
        recovery.recover(now=scene.now)
        assert sorted(_names(fence)) == [f"{METADATA}/ingest.json", "tiles/late.tif", TILE]
        assert scene.kinds() == ["authorised", "partial"]


def test_something_at_the_path_after_a_fence_is_not_overwritten(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The instrument makes the folder anew while a clear is refused: neither of the two is lost."""
    fence = tree.fence

    def fence_and_occupy(*args: Any) -> None:
        fence(*args)
        scene.path.mkdir()
        (next(scene.path.parent.glob(".exlab-clearing-*")) / "late").touch()

    monkeypatch.setattr(tree, "fence", fence_and_occupy)
    with pytest.raises(FileExistsError):
        clear_run(scene.run, now=scene.now)
    monkeypatch.undo()
    (held,) = scene.path.parent.glob(".exlab-clearing-*")
    assert scene.inodes.items() <= inodes(held).items()
    assert scene.path.is_dir()
    recovery.recover(now=scene.now)
    assert scene.run.attempts.get().phase == "conflict"
    assert scene.kinds() == ["conflict"]
    assert scene.inodes.items() <= inodes(held).items()


# When the database fails


@pytest.mark.django_db(transaction=True)
def test_a_commit_that_fails_puts_the_run_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("the disk of the database is full")

    monkeypatch.setattr(clearing, "write_ledger", _only_for("authorised", fail, clearing.write_ledger))
    with pytest.raises(Refused) as refused:
        clear_run(scene.run, now=scene.now)
    assert refused.value.finding.reason is Reason.DATABASE_ERROR
    scene.assert_whole()
    assert scene.kinds() == ["refused"]
    monkeypatch.undo()
    assert clear_run(scene.run, now=scene.now) == (scene.files, scene.bytes)


@pytest.mark.django_db(transaction=True)
def test_a_commit_whose_answer_is_lost_is_completed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database made it durable and then the connection broke: the row decides, not the error."""
    atomic = transaction.atomic

    @contextmanager
    def atomic_that_breaks(*args: Any, **kwargs: Any) -> Iterator[None]:
        with atomic(*args, **kwargs):
            yield
        if ClearAttempt.objects.get().phase == "committed":
            monkeypatch.setattr(transaction, "atomic", atomic)
            raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(transaction, "atomic", atomic_that_breaks)
    assert clear_run(scene.run, now=scene.now) == (scene.files, scene.bytes)
    scene.assert_cleared()


@pytest.mark.django_db(transaction=True)
def test_a_database_that_stays_away_leaves_everything_to_recovery(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("no connection")

    with monkeypatch.context() as away:
        away.setattr(clearing, "_write_commit", fail)
        away.setattr(clearing.ClearAttempt.objects, "get", fail)
        with pytest.raises(DatabaseError):
            clear_run(scene.run, now=scene.now)
    (fence,) = scene.path.parent.glob(".exlab-clearing-*[0-9a-f]")
    assert inodes(fence) == scene.inodes
    recovery.recover(now=scene.now)
    scene.assert_whole()
    assert scene.run.attempts.get().phase == "aborted"


@pytest.mark.django_db(transaction=True)
def test_a_run_that_somebody_else_cleared_meanwhile_is_not_cleared_twice(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = clearing._prepare

    def prepare_and_interfere(*args: Any) -> None:
        prepare(*args)
        Run.objects.update(state="sync_queued")

    monkeypatch.setattr(clearing, "_prepare", prepare_and_interfere)
    with pytest.raises(Refused) as refused:
        clear_run(scene.run, now=scene.now)
    assert refused.value.finding.reason is Reason.DATABASE_ERROR
    assert inodes(scene.path) == scene.inodes
    assert scene.kinds() == ["refused"]


# When the disk fails


@needs_root
def test_what_cannot_be_removed_is_refused_beforehand(scene: Scene) -> None:
    if not _immutable(scene.path / "tiles", True):
        pytest.skip("this filesystem knows no immutable folders")
    try:
        assert_refused(scene, Reason.PERMISSION_DENIED)
    finally:
        _immutable(scene.path / "tiles", False)


@needs_root
def test_what_cannot_be_removed_after_all_is_told_and_tried_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn = scene.path / "tiles"
    files, size = census(stubborn)
    files, size = files + 1, size + (scene.path / METADATA / "ingest.json").stat().st_size
    if not (_immutable(stubborn, True) and _immutable(stubborn, False)):
        pytest.skip("this filesystem knows no immutable folders")
    remove = tree.remove

    def remove_from_stubborn(*arguments: Any, **options: Any) -> tree.Removal:
        _immutable(next(scene.path.parent.glob(".exlab-clearing-*/tiles")), True)
        return remove(*arguments, **options)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(tree, "remove", remove_from_stubborn)
            cleared = clear_run(scene.run, now=scene.now)
        assert cleared == (scene.files - files, scene.bytes - size)
        (fence,) = scene.path.parent.glob(".exlab-clearing-*")
        assert census(fence) == (files, (fence / METADATA / "ingest.json").stat().st_size + census(fence / "tiles")[1])
        assert inodes(fence / "tiles") == inodes_below(scene, "tiles")
        attempt = scene.run.attempts.get()
        assert (attempt.phase, attempt.reason) == ("done", "removal_incomplete")
        assert attempt.detail.startswith(f"{files} of {scene.files} files left (tiles: EPERM, ")
        assert (attempt.freed_files, attempt.freed_bytes) == (scene.files - files, scene.bytes - size)
        assert scene.kinds() == ["authorised", "partial"]
        recovery.recover(now=scene.now)  # in vain
        assert scene.kinds() == ["authorised", "partial"]
        scene.assert_freed(scene.files - files, scene.bytes - size)
    finally:
        _immutable(next(scene.path.parent.glob("*/tiles")), False)
    recovery.recover(now=scene.now)
    scene.assert_cleared()
    assert scene.kinds() == ["authorised", "partial", "completed"]
    partial, rest = LedgerEntry.objects.get(kind="partial"), LedgerEntry.objects.get(kind="completed")
    assert (rest.files, rest.bytes) == (files, size)
    allocated = scene.run.attempts.get().freed_allocated_bytes
    assert partial.allocated_bytes + rest.allocated_bytes == allocated
    recovery.recover(now=scene.now)
    assert scene.kinds() == ["authorised", "partial", "completed"]


@needs_root
def test_a_full_disk_is_cleared(tmp_path: Path, now: datetime) -> None:
    """Not one byte can be written there: the reserve makes room for the record, and is laid again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with _mounted(["-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], disk):
        lab = _lab_across(disk, tmp_path)
        root = _register(lab, now)
        scene = set_scene(lab, root, now)
        with pytest.raises(OSError, match="space"), (lab.staging / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        assert clear_run(scene.run, now=now) == (scene.files, scene.bytes)
        scene.assert_cleared()
        assert (lab.staging / ".exlab-reserve").stat().st_size == tree.RESERVE_BYTES


@needs_root
def test_a_full_disk_without_a_reserve_refuses_and_puts_back(tmp_path: Path, now: datetime) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with _mounted(["-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], disk):
        lab = _lab_across(disk, tmp_path)
        scene = set_scene(lab, _register(lab, now), now)
        (lab.staging / ".exlab-reserve").unlink()
        with pytest.raises(OSError, match="space"), (lab.staging / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        with pytest.raises(Refused) as refused:
            clear_run(scene.run, now=now)
        assert refused.value.finding.reason is Reason.STORAGE_ERROR
        scene.assert_whole()


# The wizard's own functions, under their own names


@dataclass(frozen=True)
class Entry:
    state: str
    at: datetime | None


@dataclass(frozen=True)
class Record:
    current_state: str
    history: tuple[Entry, ...]


SCHEDULED = Policy(mode=Mode.SCHEDULED, retain_hours=24)


def record_of(now: datetime, *, age: timedelta | None, state: str = "sync_verified") -> Record:
    at = None if age is None else now - age
    return Record(state, (Entry("staging", now - timedelta(days=90)), Entry("sync_verified", at)))


@pytest.mark.parametrize(
    ("age", "eligible"),
    [(timedelta(hours=24), True), (timedelta(hours=24) - timedelta(seconds=1), False), (None, False)],
)
def test_eligible_at_the_boundary(now: datetime, age: timedelta | None, eligible: bool) -> None:
    assert cleanup_eligible(ingest=record_of(now, age=age), policy=SCHEDULED, now_utc=now) is eligible


def test_manual_is_never_eligible(now: datetime) -> None:
    old = record_of(now, age=timedelta(days=3000))
    assert not cleanup_eligible(ingest=old, policy=Policy(retain_hours=0), now_utc=now)


@pytest.mark.parametrize("state", ["staging", "complete", "sync_queued", "cleared"])
def test_no_other_state_is_eligible(now: datetime, state: str) -> None:
    old = record_of(now, age=timedelta(days=3000), state=state)
    assert not cleanup_eligible(ingest=old, policy=SCHEDULED, now_utc=now)


def test_the_latest_verification_counts(now: datetime) -> None:
    old = record_of(now, age=timedelta(days=30))
    again = Record("sync_verified", (*old.history, Entry("sync_verified", now - timedelta(hours=1))))
    assert cleanup_eligible(ingest=old, policy=SCHEDULED, now_utc=now)
    assert not cleanup_eligible(ingest=again, policy=SCHEDULED, now_utc=now)


def test_freed_bytes_and_count_counts_like_the_clear(scene: Scene) -> None:
    assert freed_bytes_and_count(scene.path) == (scene.files, scene.bytes)
    assert freed_bytes_and_count(scene.path / "not there") == (0, 0)
    (scene.path / "link").symlink_to(scene.twin)
    os.link(scene.path / TILE, scene.path / "twice.tif")
    assert freed_bytes_and_count(scene.path) == (scene.files, scene.bytes)
    assert freed_bytes_and_count(scene.path / "link") == (0, 0)


# Helpers


def _files(top: Path) -> list[Path]:
    return [path for path in top.rglob("*") if path.is_file() and not path.is_symlink()]


def _names(top: Path) -> list[str]:
    return [str(path.relative_to(top)) for path in _files(top)]


def _data_names(run: Path) -> list[str]:
    return [name for name in _names(run) if not name.startswith(METADATA)]


def _metadata(scene: Scene) -> int:
    return sum(seen.size for name, seen in scene.entries.items() if name.startswith(METADATA + "/"))


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert isinstance(file, io.BufferedIOBase)
    return file.read()


def _escape_manifest(run: Path) -> None:
    """Write the manifest as GNU sha256sum does where names hold newlines or backslashes."""
    path = run / METADATA / "checksums.sha256"
    before = path.stat()
    lines = []
    for name in _data_names(run):
        digest = hashlib.sha256((run / name).read_bytes()).hexdigest()
        escaped = name.replace("\\", "\\\\").replace("\n", "\\n")
        lines.append(("\\" if escaped != name else "") + f"{digest}  {escaped}\n")
    path.write_bytes("".join(lines).encode("utf-8", "surrogateescape"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _only_for(kind: str, instead: Callable[..., None], original: Callable[..., None]) -> Callable[..., None]:
    def choose(attempt: ClearAttempt, its_kind: str, *args: Any, **kwargs: Any) -> None:
        (instead if its_kind == kind else original)(attempt, its_kind, *args, **kwargs)

    return choose


@contextmanager
def _running(script: str) -> Iterator[None]:
    """Another process that says that it is ready, and lives until the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        try:
            yield
        finally:
            process.communicate("\n", timeout=10)


@contextmanager
def _held_elsewhere(path: Path) -> Iterator[None]:
    """Another process holds an flock on a file, as the filelock library does."""
    script = (
        "import fcntl, os; "
        f"file = os.open({str(path)!r}, os.O_RDWR | os.O_CREAT); "
        "fcntl.flock(file, fcntl.LOCK_EX); print('held', flush=True); input()"
    )
    with _running(script):
        yield


@contextmanager
def _mounted(arguments: list[str], where: Path) -> Iterator[None]:
    if subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(where)], check=True)


def _immutable(path: Path, on: bool) -> bool:
    done = subprocess.run(["chattr", "+i" if on else "-i", str(path)], capture_output=True, check=False)
    return done.returncode == 0


@dataclass(frozen=True)
class TwoDisks(Lab):
    """A lab whose staging root lies on a disk of its own."""

    disk: Path = Path()

    @property
    def staging(self) -> Path:
        return self.disk / "staging"


def _lab_across(disk: Path, tmp_path: Path) -> Lab:
    return TwoDisks(tmp_path / "lab", disk)


def _register(lab: Lab, now: datetime) -> Any:
    from cleanup import registering

    return registering.register("small", str(lab.staging), nas_path=str(lab.nas), accept_empty=True, now=now)


def inodes_below(scene: Scene, folder: str) -> dict[str, int]:
    return {
        str(Path(name).relative_to(folder)): inode
        for name, inode in scene.inodes.items()
        if name == folder or name.startswith(folder + "/")
    }
