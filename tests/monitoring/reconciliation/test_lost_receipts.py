"""A database restored from an older backup gets back what intact receipts tell, and nothing else."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.utils import timezone

from cleanup.clears.refusal import Refused
from cleanup.ledger.receipts import keys, signing, writing
from cleanup.models import ClearAttempt, LedgerEntry, Phase, Run
from cleanup.monitoring.reconciliation import recovering
from cleanup.monitoring.reconciliation.reconciling import Reconciled
from cleanup.rules.reasons import Reason
from tests.monitoring.reconciliation.scene import FIRST, SECOND, THIRD, Place
from tests.monitoring.reconciliation.scene import place as place
from tests.monitoring.reconciliation.scene import untouched as untouched
from tests.monitoring.reconciliation.test_recovering import HISTORY, expect_whole_chain, rows
from tests.tools.baseline import Baseline

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine]

LATER = timedelta(days=1)


def clear(place: Place) -> ClearAttempt:
    """With its receipt."""
    attempt = place.clear().attempts.get()
    assert writing.write_due(now=timezone.now() + LATER) == 1
    return attempt


def receipt_of(place: Place, attempt: ClearAttempt) -> Path:
    return place.data / "receipts" / f"receipt-{attempt.pk.hex}-1.json"


def lose(place: Place, *folders: str) -> None:
    for folder in folders:
        for path in (place.data / folder).iterdir():
            path.unlink()


def told(done: Reconciled) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in done.found.in_order:
        found.setdefault(each.kind, []).append(each.detail)
    return found


def history(run: Run) -> list[Any]:
    return list(run.events.order_by("position").values_list("state", "at", "host", "extra", "digest"))


@pytest.mark.both_engines
def test_a_receipt_alone_brings_the_clear_back(place: Place, untouched: Callable[..., Any]) -> None:
    """Archive and plan are lost too."""
    backup = Baseline()
    attempt = clear(place)
    before = history(attempt.run)
    lose(place, "tombstones", "plans")
    backup.restore()
    with untouched():
        dry, done = place.reconcile(bounds=None), place.reconcile(apply=True, bounds=None)
    (said,) = told(dry)["lost_clear"]
    assert said.endswith(f"by mkhan; receipts/{receipt_of(place, attempt).name}")
    assert ([run.run_path for run in done.recovered], told(done)) == ([FIRST], {})
    run = place.run()
    assert (run.state, run.cleared_by, run.cleared_for, run.cleared_at) == ("cleared", "", "mkhan", before[-1][1])
    assert history(run) == before and [state for state, *_ in before] == HISTORY
    row = run.ledger.get()
    assert (row.kind, row.actor, row.requester, row.proof_level) == ("recovered", "mkhan", "operator", "checksum")
    freed = (attempt.freed_files, attempt.freed_bytes, attempt.freed_allocated_bytes)
    assert (row.files, row.bytes, row.allocated_bytes) == freed
    assert (row.policy_version, row.decided_by) == (attempt.policy_version, attempt.decided_by)
    assert row.detail.startswith(f"recovered from the signed receipt 1 of {attempt.pk.hex}: cleared at ")
    assert "what the receipt says was freed" in row.detail
    expect_whole_chain()
    after = rows()
    assert (place.reconcile(apply=True, bounds=None).recovered, rows()) == ([], after)
    assert LedgerEntry.objects.totals()["runs"] == 0


@pytest.mark.parametrize("numbered", [True, False])
def test_a_copy_that_came_back_is_not_the_run_that_was_cleared(place: Place, numbered: bool) -> None:
    """The backup is older than the run, and its copy was moved away again. Some disks number no folders lastingly."""
    newer = "FLOW_01/PROJ-0060/Runs/Run_2026-04-20T16-20"
    backup, at = Baseline(), place.lab.staging / newer
    place.lab.run(newer)
    kept = shutil.copytree(at, place.lab.base / "kept")
    place.discover()
    place.clear(newer)
    assert writing.write_due(now=timezone.now() + LATER) == 1
    lose(place, "tombstones", "plans")
    backup.restore()
    shutil.copytree(kept, at)
    place.discover()
    at.rename(at.with_name("set-aside"))
    place.discover()
    if not numbered:
        copy = place.run(newer)
        Run.objects.filter(pk=copy.pk).update(identity=f"-:-:{copy.origin}")
    before = rows()
    done = place.reconcile(apply=True, bounds=None)
    assert (done.recovered, rows(), "missing" in told(done)) == ([], before, True)
    said = "knows another run at its path" if numbered else "came to its path after that attempt, as a copy does"
    assert told(done)["doubted_clear"][0].endswith(said)


@pytest.mark.parametrize("lost", [(), ("tombstones", "plans")])
def test_what_is_copied_back_after_a_recovery_is_cleared_by_its_bytes_alone(
    place: Place, policy: Callable[..., Any], lost: tuple[str, ...]
) -> None:
    """Under a policy that trusts the wizard's record, and with the copy on the NAS gone since."""
    policy(mode="manual", proof="record")
    at = place.lab.staging / FIRST
    kept = shutil.copytree(at, place.lab.base / "kept")
    backup = Baseline()
    clear(place)
    lose(place, *lost)
    backup.restore()
    (former,) = place.reconcile(apply=True, bounds=None).recovered
    shutil.copytree(kept, at)
    place.discover()
    run = place.run()
    assert (run.state, run.returned_from) == ("sync_verified", former) and run.returned_at is not None
    place.lab.twin().rename(place.lab.base / "lost")
    with pytest.raises(Refused) as refused:
        place.clear()
    assert (refused.value.finding.reason, at.exists()) == (Reason.NAS_MISSING_FILE, True)


@pytest.mark.parametrize("lost", [("tombstones",), ("tombstones", "plans")])
def test_what_is_copied_back_is_known_by_its_record_without_a_history_too(
    place: Place, policy: Callable[..., Any], lost: tuple[str, ...]
) -> None:
    """The backup is older than the run: only the receipt tells which folder was cleared."""
    policy(mode="manual", proof="record")
    newer = "FLOW_01/PROJ-0060/Runs/Run_2026-04-20T16-20"
    backup, at = Baseline(), place.lab.staging / newer
    place.lab.run(newer, record="sync_state")
    kept = shutil.copytree(at, place.lab.base / "kept")
    place.discover()
    place.clear(newer)
    assert writing.write_due(now=timezone.now() + LATER) == 1
    lose(place, *lost)
    backup.restore()
    (former,) = place.reconcile(apply=True, bounds=None).recovered
    shutil.copytree(kept, at)
    place.discover()
    assert place.run(newer).returned_from == former
    place.lab.twin(newer).rename(place.lab.base / "lost")
    with pytest.raises(Refused) as refused:
        place.clear(newer)
    assert (refused.value.finding.reason, at.exists()) == (Reason.NAS_MISSING_FILE, True)


def test_a_record_without_a_history_comes_back_from_its_receipt(place: Place) -> None:
    newer = "FLOW_01/PROJ-0060/Runs/Run_2026-04-20T16-20"
    place.lab.run(newer, record="sync_state")
    place.discover()
    backup = Baseline()
    cleared = place.clear(newer)
    assert writing.write_due(now=timezone.now() + LATER) == 1
    before = history(cleared)
    lose(place, "tombstones")
    backup.restore()
    assert place.reconcile(apply=True, bounds=None).recovered
    run = place.run(newer)
    assert (run.state, run.cleared_at, history(run)) == ("cleared", cleared.cleared_at, before)


def test_archive_and_receipt_of_one_clear_make_one_row(place: Place) -> None:
    """The receipt has the last word: it says what was freed, and by which policy."""
    backup = Baseline()
    attempt = clear(place)
    archive, receipt = f"tombstones/{attempt.pk.hex}.tar.gz", receipt_of(place, attempt)
    ClearAttempt.objects.filter(pk=attempt.pk).update(phase=Phase.ABORTED)
    said = told(place.reconcile(apply=True, bounds=None))["doubted_clear"]
    assert said == [f"receipts/{receipt.name}: the database says that the attempt ended as aborted"]
    backup.restore()
    whole = receipt.read_bytes()
    receipt.write_bytes(b"torn")
    dry = told(place.reconcile(bounds=None))
    assert (list(dry), dry["lost_clear"][0].endswith(archive)) == (["lost_clear", "doubted_receipt"], True)
    receipt.write_bytes(whole)
    dry = told(place.reconcile(bounds=None))
    assert list(dry) == ["lost_clear"]
    assert dry["lost_clear"][0].endswith(f"{archive} and receipts/{receipt.name}")
    assert len(place.reconcile(apply=True, bounds=None).recovered) == 1
    row = LedgerEntry.objects.get(kind="recovered")
    assert row.detail.startswith(f"recovered from the tombstone and the signed receipt 1 of {attempt.pk.hex}: ")
    assert (row.allocated_bytes, row.decided_by) == (attempt.freed_allocated_bytes, attempt.decided_by)


def another_key(said: dict[str, Any]) -> bytes:
    return signing.sealed(said["receipt"], keys.SigningKey(Ed25519PrivateKey.generate()))


def another_installation(said: dict[str, Any]) -> bytes:
    return resealed(said, installation="0b4b2a3e-6c0f-4b0e-9f3c-123456789abc")


def another_host(said: dict[str, Any]) -> bytes:
    return resealed(said, host="other")


def another_attempt(said: dict[str, Any]) -> bytes:
    return resealed(said, clear={**said["receipt"]["clear"], "attempt": "7" * 32})


def with_a_nul(said: dict[str, Any]) -> bytes:
    return resealed(said, run={**said["receipt"]["run"], "project_name": "a\0b"})


def without_its_end(said: dict[str, Any]) -> bytes:
    run = said["receipt"]["run"]
    return resealed(said, run={**run, "history": run["history"][:-1]})


def resealed(said: dict[str, Any], **changes: Any) -> bytes:
    """As this installation would sign it."""
    own = keys.own()
    assert own is not None
    return signing.sealed({**said["receipt"], **changes}, own)


def edited(said: dict[str, Any]) -> bytes:
    said["receipt"]["clear"]["actor"] = "eve"
    return json.dumps(said).encode()


WRONG = {
    edited: "its signature does not fit its content",
    another_key: "no key of this installation has signed it, but the key ",
    another_installation: "it is of another installation (0b4b2a3e",
    another_host: "it is of the host other",
    another_attempt: "it has the name of another receipt",
    with_a_nul: "it holds a NUL character",
    without_its_end: "its history does not end with the clear",
    lambda said: json.dumps(said).encode()[:-200]: "it is no whole receipt",
    lambda said: b"": "it is no whole receipt",
    lambda said: b'{"receipt": {"format": "exlab-receipt 1"}, "signature": {}}': "something stands beside",
    lambda said: resealed({"receipt": {"format": "exlab-receipt 1"}}): "it has not the shape of a receipt",
}


def test_a_forged_foreign_or_damaged_receipt_is_named_and_brings_nothing(place: Place) -> None:
    """Takes one clear and a look for each: a second."""
    backup = Baseline()
    attempt = clear(place)
    backup.restore()
    lose(place, "tombstones")
    file, before = receipt_of(place, attempt), rows()
    whole = file.read_bytes()
    for change, words in WRONG.items():
        file.write_bytes(change(json.loads(whole)))
        done = place.reconcile(apply=True, bounds=None)
        (said,) = told(done)["doubted_receipt"]
        assert said.startswith(f"receipts/{file.name}: ") and words in said, (words, said)
        assert (done.recovered, rows(), "lost_clear" in told(done)) == ([], before, False)
    # Its key is neither in the ledger nor in the data directory.
    file.write_bytes(whole)
    (place.data / keys.FILE).rename(place.data / "taken-away")
    assert "no key of this installation" in told(place.reconcile(apply=True, bounds=None))["doubted_receipt"][0]
    (place.data / "taken-away").rename(place.data / keys.FILE)
    assert place.reconcile(apply=True, bounds=None).recovered


def test_a_key_that_the_ledger_knows_is_good_after_its_renewal(place: Place) -> None:
    with_key = keys.current(now=timezone.now())
    backup = Baseline()
    clear(place)
    keys.renew(now=timezone.now())
    backup.restore()
    lose(place, "tombstones", "plans")
    own = keys.own()
    assert own is not None and own.public != with_key.public
    assert place.reconcile(apply=True, bounds=None).recovered


def spoil(archive: Path) -> None:
    """As an archive whose text a bad disk has changed: PostgreSQL keeps no such text."""
    with tarfile.open(archive, "r:gz") as old:
        kept = [(member, old.extractfile(member).read()) for member in old.getmembers() if member.isfile()]  # type: ignore[union-attr]
    with tarfile.open(archive, "w:gz") as new:
        for member, data in kept:
            changed = data.replace(b'"mkhan"', b'"mk\\u0000an"') if member.name == "tombstone.json" else data
            member.size = len(changed)
            new.addfile(member, io.BytesIO(changed))


@pytest.mark.both_engines
def test_one_damaged_archive_is_told_and_the_others_come_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is damaged, one that the database refuses within the transaction, and one that is whole: two seconds."""
    backup = Baseline()
    attempts = [place.clear(path).attempts.get() for path in (FIRST, SECOND, THIRD)]
    archives = [f"tombstones/{attempt.pk.hex}.tar.gz" for attempt in attempts]
    spoil(place.data / archives[0])
    backup.restore()
    number = recovering._number
    monkeypatch.setattr(
        recovering, "_number", lambda lost, name: 1 << 70 if lost.attempt == attempts[1].pk.hex else number(lost, name)
    )
    dry, done = place.reconcile(bounds=None), place.reconcile(apply=True, bounds=None)
    assert [run.run_path for run in done.recovered] == [THIRD]
    assert sorted(each.run_path for each in dry.found.listed if each.kind == "lost_clear") == sorted([SECOND, THIRD])
    assert f"{archives[0]}: it cannot be read: it holds a NUL character" in told(dry)["doubted_clear"]
    damaged, refused = sorted(told(done)["doubted_clear"], key=lambda said: archives.index(said.partition(":")[0]))
    assert damaged in told(dry)["doubted_clear"]
    assert refused.startswith(f"{archives[1]}: it cannot be taken over: ")
    assert (place.run(SECOND).state, place.run(THIRD).state) == ("sync_verified", "cleared")
    expect_whole_chain()
