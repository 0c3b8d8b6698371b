"""Receipts of real clears: written, laid on the NAS, and checked."""

import json
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from cleanup import clear_run
from cleanup.clears import receipt_delivery
from cleanup.ledger.receipts import checking, verifying, writing
from cleanup.models import Receipt
from tests.faults.scene import Scene, set_scene
from tests.tools.lab import METADATA, Lab

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine]


def receipts_folder() -> Path:
    return Path(settings.EXLAB_DATA_DIR) / "receipts"


@pytest.fixture
def scene(lab: Lab, root: Any, now: datetime) -> Scene:
    return set_scene(lab, root, now)


def test_first(scene: Scene) -> None:
    clear_run(scene.run, now=scene.now, actor="ada")
    assert writing.write_due(now=scene.run.attempts.get().receipt_after) == 1
    attempt = scene.run.attempts.get()
    print(attempt.receipt_problem, list(receipts_folder().iterdir()))
    receipt = Receipt.objects.get()
    path = receipts_folder() / f"receipt-{attempt.pk.hex}-1.json"
    print(json.dumps(json.loads(path.read_text()), indent=1)[:6000])
    print((receipts_folder() / f"files-{attempt.pk.hex}.jsonl").read_text())
    found = checking.check(str(path), nas_root=str(scene.lab.nas))
    print(found.as_text())
    verifying.against_ledger(checking.read(str(path)), found)
    print(found.as_text())
    receipt_delivery.tell_and_deliver(now=receipt.at)
    receipt.refresh_from_db()
    print(receipt.told_at, receipt.tell_reason, receipt.tell_detail)
    laid = scene.twin / METADATA / "receipts"
    print(list(laid.iterdir()))
    print(subprocess.run(["sha256sum", "-c", "checksums.sha256"], cwd=laid, capture_output=True))
    assert 0
