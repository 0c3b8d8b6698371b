"""Receipts of real clears: what they say, when they are written, and what keeps them from it."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings

from cleanup import clear_run
from cleanup.clears import receipt_delivery, recovery
from cleanup.clears.refusal import Refused
from cleanup.lab.roots import opening
from cleanup.ledger.receipts import checking, keys, writing
from cleanup.models import ClearAttempt, LedgerEntry, LedgerHead, Receipt
from cleanup.runs import discovery
from cleanup.runs.set_aside.set_aside import set_aside
from cleanup.storage.data_directory import datadir
from cleanup.storage.root_files import reserve
from cleanup.storage.staging import removal
from tests.faults import means
from tests.faults.scene import Scene, set_scene
from tests.runs.proofs.test_verify_again import TILE, Place, rewrite
from tests.runs.proofs.test_verify_again import place as place
from tests.tools.checkout import CHECKOUT
from tests.tools.lab import METADATA, Lab

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine]

SCHEMA = json.loads((CHECKOUT / "docs/receipt.schema.json").read_text())
LATER = timedelta(days=400)


def folder() -> Path:
    return Path(settings.EXLAB_DATA_DIR) / "receipts"


def written(attempt: ClearAttempt, number: int = 1) -> dict[str, Any]:
    said = json.loads((folder() / f"receipt-{attempt.pk.hex}-{number}.json").read_bytes())
    jsonschema.validate(said, SCHEMA)
    return said["receipt"]


def lines_of(attempt: ClearAttempt) -> dict[str, dict[str, Any]]:
    lines = (folder() / f"files-{attempt.pk.hex}.jsonl").read_text().splitlines()
    return {line["path"]: line for line in map(json.loads, lines)}


def clear(scene: Scene) -> ClearAttempt:
    clear_run(scene.run, now=scene.now, actor="ada")
    assert writing.write_due(now=scene.now + LATER) == 1
    return scene.run.attempts.get()


@pytest.fixture
def scene(lab: Lab, root: Any, now: datetime) -> Scene:
    return set_scene(lab, root, now)


@pytest.mark.both_engines
def test_it_says_everything_of_a_clear(scene: Scene) -> None:
    sizes = {name: seen.size for name, seen in scene.entries.items() if seen.kind == "-"}
    digests = {name: seen.content for name, seen in scene.entries.items() if seen.kind == "-"}
    attempt = clear(scene)
    said, lines, head = written(attempt), lines_of(attempt), LedgerHead.objects.get()
    assert {name: line["size"] for name, line in lines.items()} == sizes
    assert {name: line["sha256"] for name, line in lines.items()} == digests
    assert {line["digest"] for line in lines.values()} == {"read"}
    assert {name for name, line in lines.items() if line["kept"]} == {n for n in sizes if n.startswith(METADATA)}
    assert (said["number"], said["installation"]) == (1, str(head.installation))
    assert [event["state"] for event in said["run"]["history"]] == scene.states()
    assert (said["clear"]["actor"], said["proof"]["kind"], said["accepted"]) == ("ada", "checksum", None)
    assert said["freed"]["files"] == scene.files and said["freed"]["bytes"] == scene.bytes
    assert [row["content"]["kind"] for row in said["ledger"]["rows"]] == ["authorised", "completed"]
    assert [row["link"]["position"] for row in said["ledger"]["rows"]] == [1, 2]
    assert said["ledger"]["head"] == {"position": head.position, "sha256": head.sha256}
    assert said["checks"] == attempt.decision
    (receipt,) = Receipt.objects.all()
    assert (receipt.told_at, receipt.fingerprint) == (None, keys.fingerprint(next(keys.known()).public))
    assert writing.write_due(now=scene.now + LATER) == 0


def test_digests_that_were_not_read_are_the_manifests(scene: Scene, policy: Any) -> None:
    policy(proof="size")
    attempt = clear(scene)
    data = [line for line in lines_of(attempt).values() if not line["kept"]]
    assert {line["digest"] for line in data} == {"manifest"}
    assert all(line["sha256"] == scene.entries[line["path"]].content for line in data)
    assert written(attempt)["proof"]["level"] == "size"


def test_a_partial_clear_gets_a_receipt_and_its_end_another_one(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    unlink = removal._unlink

    def fail(directory: int, name: bytes) -> None:
        if name == b"t_0001.tif":
            raise PermissionError(1, "not now")
        unlink(directory, name)

    monkeypatch.setattr(removal, "_unlink", fail)
    attempt = clear(scene)
    first = written(attempt)
    assert not first["clear"]["complete"] and "t_0001.tif" in first["clear"]["left"]
    assert first["freed"]["files"] < scene.files
    monkeypatch.undo()
    recovery.recover(now=scene.now)
    assert writing.write_due(now=scene.now + LATER) == 1
    second = written(attempt, 2)
    assert [row["content"]["kind"] for row in second["ledger"]["rows"]] == ["authorised", "partial", "completed"]
    assert (second["number"], second["clear"]["complete"], second["freed"]["files"]) == (2, True, scene.files)
    assert checking.check(str(folder() / f"receipt-{attempt.pk.hex}-1.json")).differs == []
    assert [receipt.number for receipt in attempt.receipts.order_by("number")] == [1, 2]


def test_a_clear_that_was_refused_has_none(scene: Scene) -> None:
    (scene.twin / "run_complete").unlink()
    with pytest.raises(Refused):
        clear_run(scene.run, now=scene.now, actor="ada")
    assert writing.write_due(now=scene.now + LATER) == 0
    assert not Receipt.objects.exists()


def test_without_a_key_the_clear_goes_on_and_the_receipt_waits(scene: Scene) -> None:
    place = Path(settings.EXLAB_DATA_DIR) / keys.FILE
    place.write_text("no key at all")
    clear_run(scene.run, now=scene.now, actor="ada")
    scene.assert_cleared()
    due = scene.now + LATER
    assert writing.write_due(now=due) == 0
    attempt = scene.run.attempts.get()
    assert attempt.receipt_problem == "no key: receipt-key in the data directory holds no key"
    assert due < attempt.receipt_after <= due + timedelta(minutes=1)
    place.unlink()
    assert writing.write_due(now=due) == 0
    assert writing.write_due(now=attempt.receipt_after) == 1
    assert scene.run.attempts.get().receipt_problem == ""


def test_on_a_full_disk_it_waits_and_leaves_what_clears_need(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    clear_run(scene.run, now=scene.now, actor="ada")
    kept = Path(settings.EXLAB_DATA_DIR) / os.fsdecode(reserve.RESERVE)
    keys.current(now=scene.now)
    assert kept.exists()
    with monkeypatch.context() as patch:
        patch.setattr(reserve, "free_bytes", lambda descriptor: datadir.LOW_WATER_BYTES - 1)
        assert writing.write_due(now=scene.now + LATER) == 0
    attempt = scene.run.attempts.get()
    assert "No space left on device" in attempt.receipt_problem
    assert kept.exists() and not list(folder().glob(f"*{attempt.pk.hex}*"))
    assert writing.write_due(now=attempt.receipt_after) == 1


@contextmanager
def no_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder().write_text("no folder")
    yield
    folder().unlink()


@contextmanager
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with means.replaced(monkeypatch, reserve, "free_bytes", lambda descriptor: datadir.LOW_WATER_BYTES - 1):
        yield


@contextmanager
def read_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    data = str(settings.EXLAB_DATA_DIR)
    with means.mounted("--bind", data, data):
        subprocess.run(["mount", "-o", "remount,bind,ro", data], check=True)
        yield


NOT_KEPT = "no key: its public half cannot be kept in the data directory"


@pytest.mark.parametrize(
    ("hinder", "problem"),
    [
        (no_folder, f"{NOT_KEPT}: Not a directory"),
        (full, f"{NOT_KEPT}: No space left on device"),
        (read_only, "the data directory: Read-only file system"),
    ],
)
def test_where_the_public_half_cannot_be_kept_it_waits_and_says_why(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hinder: Any, problem: str
) -> None:
    """Only root can mount something read-only."""
    monkeypatch.setattr(settings, "EXLAB_DATA_DIR", tmp_path / "data")  # a new one, without a key
    (tmp_path / "data").mkdir(mode=0o700)
    clear_run(scene.run, now=scene.now, actor="ada")
    scene.assert_cleared()
    due = scene.now + LATER
    try:
        with hinder(monkeypatch):
            assert writing.write_due(now=due) == 0
    except means.Unavailable as missing:
        means.skip_or_fail(missing)
    attempt = scene.run.attempts.get()
    assert (attempt.receipt_problem, attempt.receipt_tries) == (problem, 1)
    assert due < attempt.receipt_after <= due + timedelta(minutes=1)
    assert writing.write_due(now=attempt.receipt_after) == 1
    assert len(list(keys.known())) == len(list(folder().glob("key-*.pem"))) == 1


def test_without_the_plan_there_is_none_and_it_says_so(scene: Scene) -> None:
    clear_run(scene.run, now=scene.now, actor="ada")
    attempt = scene.run.attempts.get()
    (Path(settings.EXLAB_DATA_DIR) / "plans" / attempt.pk.hex).unlink()
    assert writing.write_due(now=scene.now + LATER) == 0
    attempt.refresh_from_db()
    assert attempt.receipt_problem == "PlanError: the plan is gone"


def test_a_plan_that_was_changed_leaves_no_draft(scene: Scene) -> None:
    clear_run(scene.run, now=scene.now, actor="ada")
    attempt = scene.run.attempts.get().pk.hex
    plan = Path(settings.EXLAB_DATA_DIR) / "plans" / attempt
    plan.write_bytes(plan.read_bytes() + b" ")
    assert writing.write_due(now=scene.now + LATER) == 0
    assert scene.run.attempts.get().receipt_problem.startswith("PlanError: ")
    assert not list(folder().glob(f"*{attempt}*"))


@pytest.mark.parametrize("file", ["files-", "receipt-", "checksums-"])
def test_a_kill_while_a_file_is_written_leaves_no_half_receipt(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    class Killed(BaseException):
        pass

    def die(source: str, target: str) -> None:
        if file in target:
            raise Killed
        os.replace(source, target)

    clear_run(scene.run, now=scene.now, actor="ada")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(datadir.os, "rename", die)
        writing.write_due(now=scene.now + LATER)
    assert not Receipt.objects.exists()
    assert writing.write_due(now=scene.now + LATER) == 1
    attempt = scene.run.attempts.get()
    assert checking.check(str(folder() / f"receipt-{attempt.pk.hex}-1.json")).differs == []
    assert not list(folder().glob(f"*{attempt.pk.hex}*.part"))


def test_a_row_that_comes_meanwhile_is_not_left_out(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    clear_run(scene.run, now=scene.now, actor="ada")
    sealed = writing.signing.sealed

    def slow(*given: Any) -> bytes:
        row = LedgerEntry.objects.filter(run=scene.run).latest("pk")
        again = {
            field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields if not field.primary_key
        }
        writing.book.write(LedgerEntry(**again | {"kind": "partial", "files": 0, "bytes": 0, "allocated_bytes": 0}))
        return sealed(*given)

    with monkeypatch.context() as patch:
        patch.setattr(writing.signing, "sealed", slow)
        assert writing.write_due(now=scene.now + LATER) == 0
    assert writing.write_due(now=scene.now + LATER) == 1
    assert len(written(scene.run.attempts.get())["ledger"]["rows"]) == 3


class TestKeys:
    def test_the_first_is_private_and_stands_in_the_ledger(self, scene: Scene) -> None:
        clear(scene)
        place = Path(settings.EXLAB_DATA_DIR) / keys.FILE
        assert place.stat().st_mode & 0o777 == 0o600
        (known,) = keys.known()
        assert (known.reason, known.vouched) == (keys.MADE, True)
        assert (folder() / f"key-{known.fingerprint[:16]}.pem").exists()

    def test_a_renewed_one_is_signed_by_the_one_before(self, root: Any, now: datetime) -> None:
        first = keys.current(now=now)
        second = keys.renew(now=now)
        assert keys.current(now=now).fingerprint == second.fingerprint != first.fingerprint
        assert [(one.fingerprint, one.reason, one.vouched) for one in keys.known()] == [
            (first.fingerprint, "key_made", True),
            (second.fingerprint, "key_renewed", True),
        ]

    def test_a_renewal_that_was_killed_before_its_end_is_finished(
        self, root: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys.current(now=now)
        with monkeypatch.context() as patch:
            patch.setattr(datadir.DataDir, "put_in_place", lambda *given: (_ for _ in ()).throw(OSError(5, "killed")))
            with pytest.raises(OSError):
                keys.renew(now=now)
        assert keys.current(now=now).fingerprint == list(keys.known())[-1].fingerprint
        assert len(list(keys.known())) == 2

    def test_a_second_first_key_and_what_it_signs_are_vouched_for_by_none(self, root: Any, now: datetime) -> None:
        """Who can write rows can write any key, but not the signature of the one before."""
        place = Path(settings.EXLAB_DATA_DIR) / keys.FILE
        keys.current(now=now)
        place.unlink()
        keys.current(now=now)
        keys.renew(now=now)
        assert [one.vouched for one in keys.known()] == [True, False, False]
        forged = keys.SigningKey(Ed25519PrivateKey.generate())
        keys._write_row(forged, None, keys.MADE, now)
        assert [one.vouched for one in keys.known()] == [True, False, False, False]

    def test_after_a_loss_the_row_says_so_and_the_old_half_stays(self, root: Any, now: datetime) -> None:
        first = keys.current(now=now)
        (Path(settings.EXLAB_DATA_DIR) / keys.FILE).unlink()
        second = keys.current(now=now)
        assert [(one.public, one.reason, one.vouched) for one in keys.known()] == [
            (first.public, "key_made", True),
            (second.public, "key_lost", False),
        ]


def test_a_run_that_is_copied_back_with_its_receipts_is_cleared_again(
    scene: Scene,
) -> None:
    """Takes two clears. The second one has a receipt beside those of the first, which its archive keeps."""
    first = clear(scene)
    receipt_delivery.tell_and_deliver(now=scene.now + LATER)
    laid = scene.twin / METADATA / "receipts"
    before = {path.name: path.read_bytes() for path in laid.iterdir()}
    assert sorted(before) == ["checksums.sha256", f"files-{first.pk.hex}.jsonl", f"receipt-{first.pk.hex}-1.json"]
    shutil.copytree(scene.twin, scene.path)
    discovery.discover(scene.root, now=scene.now + LATER)
    again = type(scene.run).objects.with_root().latest("pk")
    assert again.pk != scene.run.pk
    clear_run(again, now=scene.now + LATER, actor="ada")
    assert not scene.path.exists()
    second = again.attempts.get()
    with opening.data_dir().opened_tombstone(second.pk.hex) as archive:
        kept = {name.rpartition("/")[2] for name in archive.getnames() if name.startswith("metadata/receipts/")}
    assert kept == set(before)
    writing.write_due(now=scene.now + LATER)
    assert f"{METADATA}/receipts/checksums.sha256" in lines_of(second)
    receipt_delivery.tell_and_deliver(now=scene.now + LATER)
    assert second.receipts.get().tell_reason == ""
    assert {path.name: path.read_bytes() for path in laid.iterdir() if path.name in before} == before
    for listed in laid.glob("checksums*.sha256"):
        subprocess.run(["sha256sum", "-c", "--strict", listed.name], cwd=laid, check=True, capture_output=True)
    assert len(list(laid.iterdir())) == 6


def test_accepted_bytes_stand_in_it_as_they_were_read(place: Place) -> None:
    """The manifest says otherwise of one file. Only root can mount the NAS on another disk."""
    place.both(rewrite)
    place.look()
    taken = place.accept()
    content = (place.path / TILE).read_bytes()
    attempt = place.clear()
    assert writing.write_due(now=place.now + LATER) == 1
    said, line = written(attempt), lines_of(attempt)[TILE]
    assert (said["proof"]["kind"], said["accepted"]["actor"]) == ("accepted", "ada")
    assert (said["accepted"]["note"], said["accepted"]["digest"]) == ("repaired by hand", taken.digest)
    assert (line["sha256"], line["digest"]) == (hashlib.sha256(content).hexdigest(), "read")
    file = str(folder() / f"receipt-{attempt.pk.hex}-1.json")
    assert checking.check(file, nas_root=str(place.lab.nas)).differs == []


def test_what_was_set_aside_is_named_and_not_in_the_list(scene: Scene) -> None:
    (scene.path / "notes.txt").write_text("mine")
    os.utime(scene.path / "notes.txt", (1776436708, 1776436708))
    discovery.discover(scene.root, now=scene.now)
    set_aside(scene.run, [b"notes.txt"], actor="ben", reason="not data", now=scene.now)
    attempt = clear(scene)
    (aside,) = written(attempt)["set_aside"]
    assert (aside["path"], aside["actor"], aside["state"], aside["size"]) == ("notes.txt", "ben", "done", 4)
    assert "notes.txt" not in lines_of(attempt)
