import json
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine

from cleanup.models import LedgerEntry, StagingRoot
from cleanup.runs import discovery
from tests.management.test_orphans import answer, call
from tests.tools.lab import RUN_PATH, Lab, touch

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

FILES = ("late.tif", os.fsdecode(b"tiles/caf\xe9.tif"))


@pytest.fixture
def path(lab: Lab, root: StagingRoot, now: datetime) -> Any:
    path = lab.run()
    for name in FILES:
        (path / name).write_bytes(b"more")
        touch(path / name, now - timedelta(days=1))
    discovery.discover(root, now=now)
    with time_machine.travel(now, tick=False):
        yield path


def test_shows_moves_lists_and_puts_back(path: Path) -> None:
    shown = answer("set_aside", RUN_PATH)["may_be_set_aside"]
    assert shown == [{"file": "late.tif", "bytes": 4}, {"file": "tiles/caf\\xe9.tif", "bytes": 4}]
    done = answer("set_aside", RUN_PATH, *FILES, "--reason", "by mistake")
    assert done["refused"] is None and [file["state"] for file in done["files"]] == ["done", "done"]
    assert not any((path / name).exists() for name in FILES)
    listed = answer("set_aside", "--list")["set_aside"]
    assert {file["where"] for file in listed} == {
        f"CONFOCAL_01/PROJ-0042/Runs/.exlab-set-aside/{path.name}/{shown}"
        for shown in ("late.tif", "tiles/caf\\xe9.tif")
    }
    assert "by mistake" in call("set_aside", "--list")[1]
    assert answer("set_aside", RUN_PATH, FILES[0], "--undo", "--reason", "no")["files"][0]["state"] == "undone"
    assert call("set_aside", RUN_PATH, "--undo", "--reason", "no") == (0, "1 file put back\n")
    assert all((path / name).read_bytes() == b"more" for name in FILES)
    assert sorted(entry.kind for entry in LedgerEntry.objects.all()) == [
        "put_back",
        "put_back",
        "set_aside",
        "set_aside",
    ]


def test_refuses_a_listed_file_with_status_one(path: Path) -> None:
    status, out = call("set_aside", RUN_PATH, "run_complete", "--reason", "why", "--json")
    assert status == 1 and "its manifest lists it" in json.loads(out)["refused"]
    assert (path / "run_complete").exists()


@pytest.mark.parametrize(
    "arguments",
    [(), (RUN_PATH, "late.tif"), (RUN_PATH, "late.tif", "--undo", "--reason", "x"), ("no/such", "x")],
)
def test_bad_usage(path: Path, arguments: tuple[str, ...]) -> None:
    assert call("set_aside", *arguments)[0] == 2
    assert (path / "late.tif").exists()
