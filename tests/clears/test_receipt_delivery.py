"""The outbox of receipts to the NAS: what it lays there, and what keeps it from that."""

import subprocess
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from cleanup import clear_run
from cleanup.clears import nas_history, receipt_delivery
from cleanup.ledger.receipts import writing
from cleanup.models import NasBreaker, Receipt
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage.nas import client, laid_receipts
from cleanup.storage.nas.record import NotTold
from tests.faults.scene import Scene, set_scene
from tests.tools.lab import METADATA, Lab, snapshot

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine]

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Due:
    scene: Scene
    at: datetime

    @property
    def laid(self) -> Path:
        return self.scene.twin / METADATA / "receipts"

    @property
    def receipt(self) -> Receipt:
        return Receipt.objects.select_related("attempt").get()

    def names(self) -> list[str]:
        name = self.receipt.attempt.pk.hex
        return ["checksums.sha256", f"files-{name}.jsonl", f"receipt-{name}-1.json"]


@pytest.fixture
def due(lab: Lab, root: Any, now: datetime) -> Due:
    scene = set_scene(lab, root, now)
    clear_run(scene.run, now=now, actor="ada")
    at = now + timedelta(days=400)
    assert writing.write_due(now=at) == 1
    return Due(scene, at)


def test_it_waits_for_the_record_and_then_lays_new_names_only(due: Due) -> None:
    assert receipt_delivery.deliver(now=due.at) == 0
    assert not due.laid.exists()
    assert nas_history.tell(now=due.at) == 1
    before = snapshot(due.scene.lab.nas)
    assert receipt_delivery.deliver(now=due.at) == 1
    after = snapshot(due.scene.lab.nas)
    assert sorted(path.name for path in due.laid.iterdir()) == due.names()
    folder = due.laid.relative_to(due.scene.lab.nas)
    of_the_folder = {str(folder.parent)}  # a new name in it changes its time
    assert {name: seen for name, seen in before.items() if name not in of_the_folder} == {
        name: seen for name, seen in after.items() if not name.startswith(str(folder)) and name not in of_the_folder
    }
    for name in due.names()[1:]:
        assert (due.laid / name).read_bytes() == (Path(settings.EXLAB_DATA_DIR) / "receipts" / name).read_bytes()
        assert (due.laid / name).stat().st_mode & 0o777 == (due.laid.parent / "ingest.json").stat().st_mode & 0o666
    subprocess.run(["sha256sum", "-c", "--strict", "checksums.sha256"], cwd=due.laid, check=True, capture_output=True)
    assert (due.receipt.told_at, due.receipt.tell_after) == (due.at, None)
    assert receipt_delivery.deliver(now=due.at + DAY) == 0
    assert snapshot(due.scene.lab.nas) == after


def test_what_a_crash_left_is_completed_and_whole_files_stay(due: Due, monkeypatch: pytest.MonkeyPatch) -> None:
    nas_history.tell(now=due.at)
    receipt_delivery.deliver(now=due.at)
    _listed, signed = due.names()[1:]
    whole = {path.name: path.stat().st_ino for path in due.laid.iterdir() if path.name != signed}
    (due.laid / signed).rename(due.laid / f".exlab-receipt-{signed}")
    with (due.laid / f".exlab-receipt-{signed}").open("r+b") as draft:
        draft.truncate(100)
    Receipt.objects.update(told_at=None, tell_after=due.at)
    assert receipt_delivery.deliver(now=due.at) == 1
    assert sorted(path.name for path in due.laid.iterdir()) == due.names()
    assert {path.name: path.stat().st_ino for path in due.laid.iterdir() if path.name != signed} == whole


def test_a_name_that_is_taken_is_left_alone_and_told(due: Due) -> None:
    nas_history.tell(now=due.at)
    due.laid.mkdir()
    (due.laid / due.names()[2]).write_text("mine")
    assert receipt_delivery.deliver(now=due.at) == 0
    receipt = due.receipt
    assert (receipt.tell_reason, receipt.tell_after) == (Reason.NAS_CHECKSUM_MISMATCH, None)
    assert receipt.tell_detail == f"another file {due.names()[2]} lies on the NAS"
    assert (due.laid / due.names()[2]).read_text() == "mine"


def test_a_folder_that_is_a_link_is_not_followed(due: Due, tmp_path: Path) -> None:
    nas_history.tell(now=due.at)
    (tmp_path / "elsewhere").mkdir()
    due.laid.symlink_to(tmp_path / "elsewhere")
    assert receipt_delivery.deliver(now=due.at) == 0
    assert due.receipt.tell_reason == Reason.UNSAFE_PATH
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_another_run_at_the_twins_place_gets_nothing(due: Due) -> None:
    nas_history.tell(now=due.at)
    record = due.laid.parent / "ingest.json"
    record.write_text(record.read_text().replace('"cleared"', '"sync_verified"'))
    assert receipt_delivery.deliver(now=due.at) == 0
    assert due.receipt.tell_reason in (Reason.INGEST_DISAGREES, Reason.INGEST_UNREADABLE)
    assert not due.laid.exists()


@pytest.mark.parametrize(
    ("reason", "ill"), [(Reason.NAS_NOT_WRITABLE, False), (Reason.NAS_IO_ERROR, True), (Reason.NAS_TIMEOUT, True)]
)
def test_a_nas_that_takes_nothing_lets_it_wait_and_is_asked_all_else(
    due: Due, monkeypatch: pytest.MonkeyPatch, reason: Reason, ill: bool
) -> None:
    """The failure is injected: nobody is root everywhere, and for root every NAS is writable."""
    nas_history.tell(now=due.at)

    def fail(*given: Any, **how: Any) -> None:
        raise client.NasError(Finding(reason, "no"), ill=ill)

    with monkeypatch.context() as patch:
        patch.setattr(client.NasReader, "lay", fail)
        for tries in range(1, 6):
            assert receipt_delivery.deliver(now=due.at + tries * DAY) == 0
            assert (due.receipt.tell_reason, due.receipt.tell_tries) == (reason, tries)
    assert not NasBreaker.objects.filter(open_until__isnull=False).exists()
    assert not NasBreaker.objects.filter(failures__gt=0).exists()
    assert receipt_delivery.deliver(now=due.at + 9 * DAY) == 1


class TestParts:
    @pytest.mark.parametrize(
        ("parts", "reason"),
        [
            ([(0, b"abc"), (2, b"def")], "nas_checksum_mismatch"),
            ([(0, b"abc"), (3, b"deX")], "nas_checksum_mismatch"),
            ([(3, b"def")], "nas_missing_file"),
        ],
    )
    def test_out_of_order_or_wrong_bytes_get_no_name(self, tmp_path: Path, parts: Any, reason: str) -> None:
        import hashlib

        from cleanup.storage import handles

        sha256 = hashlib.sha256(b"abcdef").hexdigest()
        with handles.opened(handles.open_root(str(tmp_path))) as folder, pytest.raises((NotTold, OSError)) as raised:
            for at, data in parts:
                laid_receipts._lay(folder, laid_receipts.Part(b"receipt", at, data, 6, sha256), 0o644)
        assert reason == "nas_missing_file" or reason in str(raised.value)
        assert not (tmp_path / "receipt").exists()
