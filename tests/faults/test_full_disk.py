"""An ordinary user clears a staging disk without one free byte, with the real command."""

import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from cleanup.lab.roots import registration
from cleanup.runs import discovery
from tests.faults import means
from tests.storage.children import NOBODY
from tests.tools import engines, ordinary
from tests.tools.checkout import CHECKOUT
from tests.tools.lab import RUN_PATH, Lab, census

pytestmark = pytest.mark.django_db(transaction=True)

RESERVE = 1 << 20


@dataclass(frozen=True)
class OnItsOwnDisk(Lab):
    @property
    def staging(self) -> Path:
        return self.base / "disk" / "staging"


@pytest.fixture(autouse=True)
def _sqlite_alone() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("the database is a file of the ordinary user's own here, whatever the other tests run on")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that all users can reach, unlike those of pytest."""
    place = Path(tempfile.mkdtemp(dir=engines.HERE))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def python() -> dict[str, str]:
    try:
        return ordinary.python_env()
    except means.Unavailable as missing:
        means.skip_or_fail(missing)
        raise AssertionError("unreachable") from None


def give_away(top: Path) -> None:
    for path in [top, *top.rglob("*")]:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def copy_the_database(to: Path) -> None:
    with closing(sqlite3.connect(to)) as copy, closing(sqlite3.connect(str(connection.settings_dict["NAME"]))) as here:
        here.backup(copy)
        copy.execute("PRAGMA journal_mode=WAL")


def clear(env: dict[str, str], data: Path) -> Any:
    env = {**env, "EXLAB_DATA_DIR": str(data), "DATABASE_URL": f"sqlite:///{data / 'db.sqlite3'}"}
    command = [
        *ordinary.AS_NOBODY,
        env["PYTHON"],
        "manage.py",
        "clear",
        RUN_PATH,
        "--json",
        "--reason",
        "the disk is full",
    ]
    done = subprocess.run(command, env=env, cwd=CHECKOUT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


@pytest.mark.parametrize("data_folder", ["data", "disk/data"], ids=["data elsewhere", "data on the same disk"])
def test_an_ordinary_user_clears_a_full_disk(
    place: Path, python: dict[str, str], monkeypatch: pytest.MonkeyPatch, data_folder: str
) -> None:
    lab_base, data = place / "lab", place / "lab" / data_folder
    lab_base.mkdir(mode=0o755)
    try:
        with means.tiny_disk(lab_base / "disk", "8m"):
            (lab_base / "disk").chmod(0o755)
            data.mkdir(mode=0o700)
            monkeypatch.setattr(settings, "EXLAB_DATA_DIR", data)
            lab = OnItsOwnDisk(lab_base)
            run = lab.run(verified_at=datetime(2026, 4, 17, 16, 15, 43, tzinfo=UTC))
            expected = census(run)
            now = datetime(2026, 6, 15, 8, 0, tzinfo=UTC)
            root = registration.register("full", str(lab.staging), nas_path=str(lab.nas), accept_empty=True, now=now)
            discovery.discover(root, now=now)
            copy_the_database(data / "db.sqlite3")
            give_away(lab_base)
            means.fill(lab.staging)
            assert os.statvfs(lab.staging).f_bavail == 0
            answer = clear(python, data)
            assert (answer["cleared"], answer["files"], answer["bytes_freed"]) == (1, *expected)
            assert not run.exists()
            assert [path.name for path in run.parent.iterdir()] == []
            assert (lab.staging / ".exlab-reserve").stat().st_size == RESERVE
            with closing(sqlite3.connect(data / "db.sqlite3")) as database:
                assert database.execute("SELECT state FROM cleanup_run").fetchall() == [("cleared",)]
                kinds = "SELECT kind FROM cleanup_ledgerentry WHERE run_id IS NOT NULL ORDER BY id"  # without the key
                assert database.execute(kinds).fetchall() == [("authorised",), ("completed",)]
                assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    except means.Unavailable as missing:
        means.skip_or_fail(missing)
