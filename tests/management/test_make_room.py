"""`make_room` frees what is missing, takes no more, and says what is short."""

import io
import json
from datetime import datetime
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from cleanup.clears.making_room import clear_for_room
from cleanup.clears.making_room.room_plan import DiskRoom
from cleanup.models import Run, StagingRoot
from cleanup.runs import discovery
from tests.tools.lab import Lab

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine]

OLD = "FLOW_01/PROJ-0060/Runs/Run_2026-04-18T16-20"
NEW = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-19T14-32"
KB = 1024


@pytest.fixture
def disk(lab: Lab, root: StagingRoot, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A small and a large safe run, on a disk that seems full: the real one is shared with other tests."""
    lab.run(OLD, files={"plate.fcs": b"o" * 100 * KB})
    lab.run(NEW, files={"stack.tif": b"n" * 900 * KB})
    discovery.discover(root, now=now)
    whole = used(lab)

    def measure(_root: StagingRoot, at: datetime) -> DiskRoom:
        return DiskRoom(free_bytes=whole - used(lab), total_bytes=whole, at=at)

    monkeypatch.setattr(clear_for_room, "measure", measure)
    return lab


def used(lab: Lab) -> int:
    return sum(path.stat().st_blocks * 512 for path in lab.staging.rglob("*") if path.is_file())


def call(*arguments: str) -> tuple[int, Any]:
    out = io.StringIO()
    try:
        call_command("make_room", "--root", "lab", "--json", *arguments, stdout=out)
    except SystemExit as ended:
        return int(ended.code or 0), json.loads(out.getvalue())
    return 0, json.loads(out.getvalue())


def states() -> dict[str, str]:
    return dict(Run.objects.values_list("run_path", "state"))


def test_it_frees_what_is_missing_and_no_more(disk: Lab) -> None:
    status, said = call("--bytes", "50kB", "--dry-run")
    assert (status, said["cleared"], said["short_bytes"]) == (0, 0, 0)
    assert [(run["run_path"], run["action"]) for run in said["runs"]] == [(OLD, "would_clear")]
    assert set(states().values()) == {"sync_verified"}

    status, said = call("--bytes", "50kB")
    assert (status, said["cleared"], said["short_bytes"], said["root"]) == (0, 1, 0, "lab")
    assert states() == {OLD: "cleared", NEW: "sync_verified"}
    assert said["free_after_bytes"] >= 50_000 > said["free_before_bytes"]
    assert call("--bytes", "50kB")[1]["runs"] == []  # so much is free already


def test_the_largest_first(disk: Lab) -> None:
    assert [run["run_path"] for run in call("--bytes", "50kB", "--order", "largest", "--dry-run")[1]["runs"]] == [NEW]


def test_a_run_that_is_refused_gives_its_turn_to_another_and_what_is_short_is_said(disk: Lab) -> None:
    (disk.nas / OLD / "plate.fcs").unlink()  # the look before does not know it yet
    status, said = call("--bytes", "50kB")
    assert [(run["run_path"], run["action"]) for run in said["runs"]] == [(OLD, "refused"), (NEW, "cleared")]
    assert (status, said["short_bytes"]) == (0, 0)

    status, said = call("--bytes", "1TB", "--by", "2199-01-01T00:00")
    assert status == 1
    assert said["short_bytes"] > 0
    assert said["in_time"] in (True, None)


@pytest.mark.parametrize("wrong", [["--bytes", "much"], ["--bytes", "0"], ["--bytes", "1GB", "--by", "2001-01-01"]])
def test_what_is_no_question_is_bad_usage(disk: Lab, wrong: list[str]) -> None:
    with pytest.raises(CommandError):
        call(*wrong)


def test_a_disk_that_keeps_the_space_is_not_emptied_in_vain(disk: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clear_for_room, "measure", lambda root, at: DiskRoom(free_bytes=0, total_bytes=1, at=at))
    status, said = call("--bytes", "50kB")
    assert (status, said["cleared"], said["short_bytes"]) == (1, 1, 50_000)
    assert states()[NEW] == "sync_verified"


def test_a_disk_that_cannot_be_measured_is_left_alone(disk: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that was asked for would seem to be missing."""
    monkeypatch.setattr(clear_for_room, "measure", lambda _root, _at: DiskRoom())
    with pytest.raises(CommandError, match="cannot be measured: nothing was cleared"):
        call("--bytes", "50kB")
    assert set(states().values()) == {"sync_verified"}
    assert call("--bytes", "50kB", "--dry-run")[1]["free_before_bytes"] is None
