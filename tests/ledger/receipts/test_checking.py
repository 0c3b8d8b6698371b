"""What was changed in a receipt is named; the check needs neither this program nor its database."""

import base64
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.core.management import call_command

from cleanup import clear_run
from cleanup.ledger.receipts import checking, keys, signing, writing
from cleanup.management.commands import verify_receipt
from cleanup.models import LedgerHead
from tests.faults.scene import set_scene
from tests.tools.checkout import CHECKOUT
from tests.tools.lab import RUN_PATH, Lab

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

SCRIPT = CHECKOUT / "docs/check_receipt.py"


@dataclass(frozen=True)
class Taken:
    """A receipt that was carried away, with its list and its key."""

    file: Path
    listed: Path
    key: Path
    lab: Lab

    def check(self, **how: Any) -> checking.ReceiptCheck:
        return checking.check(str(self.file), **how)

    def change(self, act: Callable[[dict[str, Any]], None], *, key: Any = None) -> None:
        said = json.loads(self.file.read_bytes())
        act(said["receipt"])
        if key is not None:
            self.file.write_bytes(signing.sealed(said["receipt"], key))
        else:
            self.file.write_text(json.dumps(said))


@pytest.fixture
def taken(lab: Lab, root: Any, now: datetime, tmp_path: Path, transactional_db: None) -> Taken:
    scene = set_scene(lab, root, now)
    clear_run(scene.run, now=now, actor="ada")
    assert writing.write_due(now=now + timedelta(days=400)) == 1
    name = scene.run.attempts.get().pk.hex
    away = tmp_path / "away"
    away.mkdir()
    folder = Path(settings.EXLAB_DATA_DIR) / "receipts"
    receipt = scene.run.attempts.get().receipts.get()
    names = (f"receipt-{name}-1.json", f"files-{name}.jsonl", f"key-{receipt.fingerprint[:16]}.pem")
    return Taken(*(Path(shutil.copy(folder / each, away)) for each in names), lab)


def grow(receipt: dict[str, Any]) -> None:
    receipt["freed"]["bytes"] += 1


def edit_row(receipt: dict[str, Any]) -> None:
    receipt["ledger"]["rows"][1]["content"]["actor"] = "eve"


def swap_rows(receipt: dict[str, Any]) -> None:
    rows = receipt["ledger"]["rows"]
    rows[0]["link"], rows[1]["link"] = rows[1]["link"], rows[0]["link"]


def another_person(receipt: dict[str, Any]) -> None:
    receipt["clear"]["actor"] = "eve"


CHANGED = "its signature does not fit its content: one of them was changed"


@pytest.mark.parametrize("act", [grow, edit_row, swap_rows, another_person])
def test_every_change_breaks_the_signature(taken: Taken, act: Any) -> None:
    taken.change(act)
    found = taken.check(key=str(taken.key))
    assert (found.differs[0], found.status) == (CHANGED, checking.DIFFERS)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (grow, "freed bytes: it says 20369, its rows 20368"),
        (edit_row, "row 2 of the ledger (completed) is not what its digest says"),
        (swap_rows, "row 1 of the ledger (authorised) is not what its digest says"),
    ],
)
def test_a_liar_with_a_key_of_his_own_contradicts_himself(taken: Taken, act: Any, words: str) -> None:
    taken.change(act, key=keys.SigningKey(Ed25519PrivateKey.generate()))
    found = taken.check()
    assert words in [said.replace(f"row {said.split()[1]}", f"row {words.split()[1]}", 1) for said in found.differs]
    assert found.status == checking.DIFFERS


def test_signed_anew_it_is_intact_but_not_ours(taken: Taken, capsys: pytest.CaptureFixture[str]) -> None:
    forger = keys.SigningKey(Ed25519PrivateKey.generate())
    ours = taken.check().fingerprint
    taken.change(another_person, key=forger)
    alone = taken.check()
    assert (alone.differs, alone.status, alone.fingerprint) == ([], checking.UNPROVEN, forger.fingerprint)
    with_key = taken.check(key=str(taken.key))
    assert with_key.differs == [f"it is signed by another key ({forger.fingerprint}) than the one given ({ours})"]
    assert command(str(taken.file), "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["differs"] == [f"the ledger knows no key with this fingerprint ({forger.fingerprint})"]


def test_what_stands_beside_what_is_signed_is_no_part_of_a_receipt(taken: Taken) -> None:
    whole = json.loads(taken.file.read_bytes())
    for change in ({**whole, "corrected": {}}, {**whole, "signature": {**whole["signature"], "signer": "the lab"}}):
        taken.file.write_text(json.dumps(change))
        assert taken.check(key=str(taken.key)).differs == ["something stands beside what is signed"]


def test_a_forged_name_does_not_overwrite_the_verdict(taken: Taken) -> None:
    def rename(receipt: dict[str, Any]) -> None:
        receipt["run"]["run_path"] = "a: intact, signed by the known key\n\x1b[8m\udc80"

    taken.change(rename, key=keys.SigningKey(Ed25519PrivateKey.generate()))
    verdict = taken.check().as_text().splitlines()[-1]
    assert verdict.endswith("key\\n\\x1b[8m\\udc80: intact, origin unproven")


def test_the_ledger_knows_its_own_and_names_another_installation(
    taken: Taken, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(str(taken.file), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["intact"], said["origin"], said["run_path"]) == (True, "proven", RUN_PATH)
    assert command(str(taken.file), "--no-ledger") == 3
    assert capsys.readouterr().out.endswith(f"receipt 1 of {RUN_PATH}: intact, origin unproven\n")
    LedgerHead.objects.update(installation="00000000-0000-4000-8000-000000000000")
    assert command(str(taken.file), "--json") == 1
    (named,) = json.loads(capsys.readouterr().out)["differs"]
    assert named.endswith("this ledger is of 00000000-0000-4000-8000-000000000000")


def forged(taken: Taken) -> bytes:
    """Another person's receipt: signed anew and true in itself, with this list."""
    genuine = taken.file.read_bytes()
    taken.change(another_person, key=keys.SigningKey(Ed25519PrivateKey.generate()))
    forgery = taken.file.read_bytes()
    taken.file.write_bytes(genuine)
    return forgery


def test_the_ledger_is_asked_of_the_very_bytes_that_were_checked(
    taken: Taken, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The genuine receipt takes the place of a forged one when this one was read: the ledger knows only the former."""
    genuine, trouble = taken.file.read_bytes(), verify_receipt.databases.trouble
    taken.file.write_bytes(forged(taken))

    def put_back(connection: Any) -> Any:
        taken.file.write_bytes(genuine)
        return trouble(connection)

    monkeypatch.setattr(verify_receipt.databases, "trouble", put_back)
    assert command(str(taken.file), "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["origin"] == "unproven" and said["differs"][0].startswith("the ledger knows no key")


def rewritten(taken: Taken) -> None:
    taken.file.write_bytes(forged(taken))


def replaced(taken: Taken) -> None:
    taken.file.with_name("other").write_bytes(forged(taken))
    taken.file.with_name("other").rename(taken.file)


def taken_away(taken: Taken) -> None:
    taken.file.unlink()


@pytest.mark.parametrize("change", [rewritten, replaced, taken_away])
def test_a_receipt_that_changes_while_it_is_checked_is_named(
    taken: Taken, monkeypatch: pytest.MonkeyPatch, change: Callable[[Taken], None]
) -> None:
    differs = checking.content_differs

    def change_first(document: dict[str, Any]) -> Any:
        change(taken)
        return differs(document)

    monkeypatch.setattr(checking, "content_differs", change_first)
    found = taken.check(key=str(taken.key))
    assert (found.differs, found.status) == (["it was changed while it was checked: check it again"], checking.DIFFERS)


@pytest.mark.parametrize("bytes_there", [b'{"path":"another","size":0,"kept":true}', b"no JSON"])
def test_a_list_that_changes_between_its_two_readings_is_named_and_proves_nothing(
    taken: Taken, monkeypatch: pytest.MonkeyPatch, bytes_there: bytes
) -> None:
    read = checking._read_lines

    def change_first(*given: Any) -> None:
        taken.listed.write_bytes(bytes_there)
        read(*given)

    monkeypatch.setattr(checking, "_read_lines", change_first)
    found = taken.check(key=str(taken.key), nas_root=str(taken.lab.nas))
    assert found.differs == [f"its list of files {taken.listed.name} was changed while it was checked"]


def command(*words: str) -> int:
    try:
        call_command("verify_receipt", *words)
    except SystemExit as left:
        return int(left.code or 0)
    return 0


@pytest.mark.parametrize("left", [0, 1, 700, -3])
def test_a_part_of_a_receipt_is_never_taken_for_one(taken: Taken, left: int) -> None:
    taken.file.write_bytes(taken.file.read_bytes()[:left])
    found = taken.check(key=str(taken.key))
    assert found.status == checking.DIFFERS
    assert found.differs[0].startswith("it is no whole receipt: ")


def test_a_list_that_was_changed_or_left_behind_is_named(taken: Taken) -> None:
    lines = taken.listed.read_bytes().splitlines(keepends=True)
    taken.listed.write_bytes(b"".join(lines[1:]))
    assert taken.check().differs == [f"its list of files {taken.listed.name} was changed"]
    taken.listed.unlink()
    found = taken.check(key=str(taken.key))
    missing = f"its list of files {taken.listed.name} is not beside it (No such file or directory)"
    assert (found.differs, found.notes, found.status) == ([], [missing], checking.INTACT)
    assert taken.check(nas_root=str(taken.lab.nas)).differs == [missing]


def test_the_nas_is_read_when_asked(taken: Taken) -> None:
    how = {"key": str(taken.key), "nas_root": str(taken.lab.nas)}
    found = taken.check(**how)
    assert (found.status, found.files) == (checking.INTACT, 7)
    assert "on the NAS: 7 files were compared\n" in found.as_text()
    twin = taken.lab.twin()
    (twin / "tiles/t_0000.tif").write_bytes(b"x" * 4096)
    (twin / "tiles/t_0001.tif").write_bytes(b"short")
    (twin / "README.md").unlink()
    (twin / "run_complete").unlink()
    (twin / "run_complete").symlink_to(twin / "stack.ome.xml")
    assert taken.check(**how).differs == [
        "on the NAS 'README.md': No such file or directory",
        "on the NAS 'run_complete': Too many levels of symbolic links",
        "on the NAS 'tiles/t_0000.tif' has other bytes",
        "on the NAS 'tiles/t_0001.tif' has 5 bytes, not 4096",
    ]
    (named, *_more, last) = taken.check(nas_root=str(taken.lab.staging)).differs
    assert named == last == f"on the NAS {RUN_PATH}: No such file or directory"


def test_no_path_of_a_receipt_leads_out_of_the_named_folder(taken: Taken, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    line = {"path": "../../../../../secret", "size": 6, "sha256": None, "digest": "none", "kept": False}
    copy = checking.Copy(str(taken.lab.nas), RUN_PATH)
    assert "leads elsewhere" in copy.trouble(line)
    assert "leads elsewhere" in checking.Copy(str(taken.lab.nas), "../nas").trouble(line)

    def elsewhere(receipt: dict[str, Any]) -> None:
        receipt["files"]["name"] = "../secret"

    taken.change(elsewhere, key=keys.SigningKey(Ed25519PrivateKey.generate()))
    assert "it names '../secret' as its list of files" in taken.check().differs


def test_the_script_is_the_same_and_needs_only_openssl(taken: Taken) -> None:
    """Takes two processes. Without `cryptography` the command `openssl` checks the signature."""
    assert SCRIPT.read_bytes() == Path(checking.__file__).read_bytes()
    words = [sys.executable, "-I", "-S", str(SCRIPT), str(taken.file), "--key", str(taken.key)]
    done = subprocess.run(words, cwd="/", capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    taken.change(another_person)
    done = subprocess.run(words, cwd="/", capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert (done.returncode, CHANGED in done.stdout) == (1, True)


def test_by_hand_with_sed_and_openssl(taken: Taken) -> None:
    signature = json.loads(taken.file.read_bytes())["signature"]["value"]
    (taken.file.parent / "signature").write_bytes(base64.b64decode(signature))
    steps = f"sed -n 2p {taken.file.name} > signed && openssl pkeyutl -verify -pubin -inkey {taken.key.name} -rawin"
    done = subprocess.run(
        ["sh", "-c", f"{steps} -in signed -sigfile signature"], cwd=taken.file.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_command_needs_neither_settings_nor_database(taken: Taken, tmp_path: Path) -> None:
    """Takes two processes: one with settings that are wrong, one without its database."""
    words = [sys.executable, str(CHECKOUT / "manage.py"), "verify_receipt", str(taken.file), "--key", str(taken.key)]
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    for more in (
        {"EXLAB_DATA_DIR": str(tmp_path), "DATABASE_URL": "postgres://nobody:no@127.0.0.1:1/none"},
        {"EXLAB_NAS_TIMEOUT": "soon"},
    ):
        done = subprocess.run(words, capture_output=True, text=True, env=bare | more)
        assert (done.returncode, done.stderr) == (0, ""), (more, done.stdout)
    assert not (tmp_path / "db.sqlite3").exists()


@pytest.mark.exhaustive
def test_in_a_clean_virtual_environment(taken: Taken, tmp_path: Path) -> None:
    """Takes some seconds: a virtual environment without any package."""
    venv.create(tmp_path / "venv", with_pip=False)
    script = shutil.copy(SCRIPT, tmp_path)
    words = [str(tmp_path / "venv/bin/python"), script, str(taken.file), "--nas-root", str(taken.lab.nas)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 3, done.stdout + done.stderr
    done = subprocess.run([*words, "--key", str(taken.key)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
