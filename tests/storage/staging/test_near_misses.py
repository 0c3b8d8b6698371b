"""Near misses are named, and never accepted."""

import codecs
import hashlib
import os
import unicodedata
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cleanup.clears import protocol
from cleanup.models import Phase
from cleanup.rules.reasons import Reason
from cleanup.storage.staging import near_misses
from tests.faults.scene import set_scene
from tests.tools.lab import METADATA, Lab

pytestmark = pytest.mark.one_engine(by="function")


MANIFEST = f"{METADATA}/checksums.sha256"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ingest.json~", "a copy of ingest.json"),
        ("ingest.json.bak", "a copy of ingest.json"),
        ("ingest (1).json", "a copy of ingest.json"),
        ("ingest - Copy.json", "a copy of ingest.json"),
        (".ingest.json.swp", "a copy of ingest.json"),
        ("#ingest.json#", "a copy of ingest.json"),
        ("wizard.labpc-04.log.old", "a copy of wizard.labpc-04.log"),
        ("Ingest.JSON", "spelt otherwise than ingest.json"),
        ("CHECKSUMS.SHA256", "spelt otherwise than checksums.sha256"),
        ("checksums.sha256.txt", "a manifest of another program"),
        ("checksums.md5", "a manifest of another program"),
        ("SHA256SUMS", "a manifest of another program"),
        ("md5sum.txt", "a manifest of another program"),
        ("HOLD.txt", "a hold file"),
        ("hold", "a hold file"),
        (".exlab-hold.txt", "a hold file"),
        ("exlab_hold", "a hold file"),
    ],
)
def test_a_name_that_resembles_one_of_the_wizards(name: str, said: str) -> None:
    assert said in near_misses.of_metadata(name.encode())


@pytest.mark.parametrize("name", ["notes.txt", "threshold.txt", "holder.json", "report.sha", "ingest", "copy"])
def test_a_name_that_resembles_nothing(name: str) -> None:
    assert near_misses.of_metadata(name.encode()) == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (hashlib.md5(b"").hexdigest().encode() + b"  a.tif", "MD5"),
        (hashlib.sha1(b"").hexdigest().encode() + b" *a.tif", "SHA-1"),
        (hashlib.sha512(b"").hexdigest().encode() + b"  a.tif", "SHA-512"),
        (hashlib.sha256(b"").hexdigest().encode() + b"\ta.tif", "not parted by two blanks"),
        (b"SHA256 (a.tif) = " + hashlib.sha256(b"").hexdigest().encode(), "as BSD tools do (SHA256 (path)"),
        (b"hello", ""),
    ],
)
def test_a_line_of_another_program(line: bytes, said: str) -> None:
    found = near_misses.of_manifest_line(line)
    assert said in found
    assert bool(said) == bool(found)


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def rewrite(run: Path) -> None:
        (run / MANIFEST).write_bytes(change((run / MANIFEST).read_bytes()))

    return rewrite


def laid(name: str, content: bytes = b"x") -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes(content) and None


def with_a_mark(run: Path) -> None:
    record = run / METADATA / "ingest.json"
    record.write_bytes(codecs.BOM_UTF8 + record.read_bytes())


def in_another_form(data: bytes) -> bytes:
    return unicodedata.normalize("NFD", data.decode()).encode()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("spoil", "reason", "said"),
    [
        (with_a_mark, Reason.INGEST_UNREADABLE, "byte order mark"),
        (rewritten(lambda data: codecs.BOM_UTF8 + data), Reason.MANIFEST_UNREADABLE, "byte order mark"),
        (rewritten(lambda data: data.decode().encode("utf-16")), Reason.MANIFEST_UNREADABLE, "UTF-16"),
        (rewritten(lambda data: data.replace(b"tiles/", b"tiles\\")), Reason.NOT_IN_MANIFEST, "with backslashes"),
        (rewritten(in_another_form), Reason.NOT_IN_MANIFEST, "another Unicode form"),
        (rewritten(lambda data: data.replace(b"README.md", b"readme.md")), Reason.NOT_IN_MANIFEST, "another case"),
        (rewritten(lambda data: data.replace("\xe9".encode(), b"\xe9")), Reason.NOT_IN_MANIFEST, "another encoding"),
        (rewritten(lambda data: data.replace(b"  ", b"  Run_1/")), Reason.NOT_IN_MANIFEST, "another folder"),
        (laid(".exlab-hold.txt"), Reason.NOT_IN_MANIFEST, "must be called .exlab-hold"),
        (laid("HOLD.txt"), Reason.NOT_IN_MANIFEST, "must be called .exlab-hold"),
        (laid(f"{METADATA}/hold"), Reason.UNEXPECTED_METADATA, "must be called .exlab-hold"),
        (laid(f"{METADATA}/ingest.json~"), Reason.UNEXPECTED_METADATA, "a copy of ingest.json"),
        (
            laid(f"{METADATA}/wizard.labpc-04.log", b"x" * (5 << 20)),
            Reason.UNEXPECTED_METADATA,
            "5242880 of them in wizard.labpc-04.log, a log of the wizard's own",
        ),
    ],
)
def test_the_run_stays_and_the_detail_names_the_cause(
    lab: Lab, root: Any, now: datetime, spoil: Callable[[Path], None], reason: Reason, said: str
) -> None:
    scene = set_scene(lab, root, now, files={"caf\xe9.tif": b"x", "tiles/t.tif": b"y"})
    times = {path: path.stat().st_mtime_ns for path in scene.path.rglob("*")}
    spoil(scene.path)
    for path in scene.path.rglob("*"):
        at = times.get(path, min(times.values()))
        os.utime(path, ns=(at, at))
    attempt = protocol.perform(scene.attempt(), now=now)
    assert (attempt.phase, attempt.reason) == (Phase.REFUSED, reason), attempt.detail
    assert said in attempt.detail
    assert scene.path.is_dir()
