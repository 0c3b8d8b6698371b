"""The signed receipt on its page: what it shows, offers and explains, and to whom."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from cleanup import clear_run
from cleanup.clears import nas_history, receipt_delivery
from cleanup.ledger.receipts import checking, writing
from cleanup.models import ClearAttempt, NasBreaker, Receipt
from cleanup.rules.reasons import Reason
from tests.faults import means
from tests.faults.scene import Scene, set_scene
from tests.tools.lab import METADATA, Lab, snapshot

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine]

LATER = timedelta(days=400)


@pytest.fixture
def cleared(lab: Lab, root: Any, now: datetime) -> Scene:
    scene = set_scene(lab, root, now)
    clear_run(scene.run, now=now, actor="ada")
    return scene


@pytest.fixture
def boss(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("boss"))
    return client


def shown(client: Client, scene: Scene) -> str:
    text = client.get(reverse("receipt", args=[scene.run.pk])).content.decode()
    return " ".join(text.partition('id="signed"')[2].partition("</dl>")[0].split())


def test_it_says_how_the_receipt_stands(cleared: Scene, boss: Client) -> None:
    assert "not yet: it is written within minutes" in shown(boss, cleared)
    ClearAttempt.objects.update(receipt_problem="no key: <none>")
    assert "not yet: no key: &lt;none&gt;. It is tried again." in shown(boss, cleared)
    due = cleared.now + LATER
    writing.write_due(now=due)
    receipt = Receipt.objects.get()
    page = shown(boss, cleared)
    assert f'id="fingerprint">{receipt.fingerprint}<' in page and receipt.sha256 in page
    assert f"check_receipt.py receipt-{receipt.attempt_id.hex}-1.json --key key-{receipt.fingerprint[:16]}.pem" in page
    assert "not yet: the record of the copy is told of the clear first" in page
    Receipt.objects.update(tell_reason="nas_not_writable", tell_detail="Read-only file system")
    assert "not yet:" in shown(boss, cleared) and "Read-only file system" in shown(boss, cleared)
    receipt_delivery.tell_and_deliver(now=due)
    assert "beside the copy in <code>.exlab-wizard/receipts/</code>" in shown(boss, cleared)
    Receipt.objects.all().delete()
    assert "none: this clear is older than signed receipts" in shown(boss, cleared)


@contextmanager
def takes_nothing(nas: Path, run: Path) -> Iterator[str]:
    """A NAS mounted read-only; an ordinary user, who may not mount, cannot write the folder. Yields the words."""
    if os.geteuid():
        folder, mode = run / METADATA, (run / METADATA).stat().st_mode
        folder.chmod(0o500)
        yield "Permission denied"
        folder.chmod(mode)
        return
    with means.mounted("--bind", nas, nas):
        subprocess.run(["mount", "-o", "remount,bind,ro", nas], check=True)
        yield "Read-only file system"
        subprocess.run(["mount", "-o", "remount,bind,rw", nas], check=True)


def test_a_nas_that_is_mounted_read_only_lets_it_wait_and_the_page_says_why(
    cleared: Scene, boss: Client, time_machine: Any
) -> None:
    """First its record takes nothing, then its folder of receipts; each is delivered once the mount may be written."""
    due, sentence = cleared.now + LATER, Reason.NAS_NOT_WRITABLE.sentence.replace("'", "&#x27;")
    time_machine.move_to(due, tick=False)
    laid, before = cleared.twin / METADATA / "receipts", snapshot(cleared.lab.nas)
    try:
        with takes_nothing(cleared.lab.nas, cleared.twin) as words:
            assert receipt_delivery.tell_and_deliver(now=due) == 0
            page = shown(boss, cleared)
            assert f"not yet: the record of the copy was not told of the clear. {sentence}" in page
            assert f"on the NAS: {words}. Tried again in 1 day." in page
        assert snapshot(cleared.lab.nas) == before
        due += timedelta(days=1)
        assert nas_history.tell(now=due) == 1
        with takes_nothing(cleared.lab.nas, cleared.twin) as words:
            assert receipt_delivery.deliver(now=due) == 0
            assert f"not yet: {sentence}<span" in shown(boss, cleared)
            assert f"receipts on the NAS: {words}. Tried again in" in shown(boss, cleared)
            assert not laid.exists()
        assert not NasBreaker.objects.filter(failures__gt=0).exists()
        assert receipt_delivery.deliver(now=due + timedelta(days=1)) == 1
    except means.Unavailable as missing:
        means.skip_or_fail(missing)
    assert "beside the copy in <code>.exlab-wizard/receipts/</code>" in shown(boss, cleared)
    subprocess.run(["sha256sum", "-c", "--strict", "checksums.sha256"], cwd=laid, check=True, capture_output=True)


def test_its_files_can_be_taken_along_and_checked(cleared: Scene, boss: Client, tmp_path: Path) -> None:
    assert boss.get(reverse("receipt-file", args=[cleared.run.pk])).status_code == 404
    writing.write_due(now=cleared.now + LATER)
    taken: dict[str, Path] = {}
    for name in ("receipt-file", "receipt-list", "receipt-key"):
        response = boss.get(reverse(name, args=[cleared.run.pk]))
        file = response.headers["Content-Disposition"].partition('filename="')[2].rstrip('"')
        taken[name] = tmp_path / file
        taken[name].write_bytes(b"".join(response.streaming_content))  # type: ignore[attr-defined]
    found = checking.check(str(taken["receipt-file"]), key=str(taken["receipt-key"]), nas_root=str(cleared.lab.nas))
    assert (found.status, found.files, found.notes) == (0, 7, [])
    script = boss.get(reverse("receipt-script", args=[cleared.run.pk]))
    assert f'href="{script.request["PATH_INFO"]}"' in shown(boss, cleared)
    assert script.headers["Content-Disposition"] == 'attachment; filename="check_receipt.py"'
    assert script.headers["Content-Type"] == "text/x-python; charset=utf-8"
    (tmp_path / "check_receipt.py").write_bytes(b"".join(script.streaming_content))  # type: ignore[attr-defined]
    command = [sys.executable, "-I", "check_receipt.py", taken["receipt-file"].name, "--key", taken["receipt-key"].name]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60).returncode == 0
    address = reverse("receipt-file", args=[cleared.run.pk])
    statuses = {number: boss.get(f"{address}?number={number}").status_code for number in ("1", "2", "x", "9" * 30)}
    assert statuses == {"1": 200, "2": 404, "x": 404, "9" * 30: 404}


def test_an_auditor_sees_it_everywhere_and_others_only_where_they_look(cleared: Scene, client: Client) -> None:
    writing.write_due(now=cleared.now + LATER)
    auditor = User.objects.create_user("auditor")
    auditor.groups.add(Group.objects.get(name="auditor"))
    names = ("receipt", "receipt-file", "receipt-list", "receipt-script")
    addresses = [reverse(name, args=[cleared.run.pk]) for name in names]
    client.force_login(auditor)
    assert [client.get(address).status_code for address in addresses] == [200] * 4
    client.force_login(User.objects.create_user("stranger"))
    assert [client.get(address).status_code for address in addresses] == [403] * 4


def test_a_receipt_of_another_host_is_named_and_not_offered(cleared: Scene, boss: Client) -> None:
    writing.write_due(now=cleared.now + LATER)
    Receipt.objects.update(host="elsewhere")
    assert "in the data directory of elsewhere" in shown(boss, cleared)
    assert boss.get(reverse("receipt-file", args=[cleared.run.pk])).status_code == 404
    assert str(settings.EXLAB_DATA_DIR) not in shown(boss, cleared)
