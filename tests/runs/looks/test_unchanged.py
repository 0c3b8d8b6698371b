"""A quick pass leaves out what it has seen before, and nothing else."""

import json
import shutil
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cleanup.clears import queue
from cleanup.clears.queue import ClearRequest
from cleanup.models import Requester, Run, StagingRoot
from cleanup.runs import discovery
from cleanup.runs.discovery import Discovered
from cleanup.runs.holds import holds
from cleanup.runs.looks import unchanged
from tests.tools.lab import METADATA, Lab, read_ingest

pytestmark = pytest.mark.django_db

PASS = timedelta(minutes=5)
PATHS = [f"CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T{hour:02}-00" for hour in range(6)]
FIRST = PATHS[0]

Look = Callable[..., Discovered]


@pytest.fixture(autouse=True)
def _files_of_yesterday(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status of the lab's files has just changed."""
    monkeypatch.setattr(unchanged, "GRAIN_SECONDS", -3600.0)


@pytest.fixture
def look(root: StagingRoot, now: datetime) -> Look:
    """A quick pass, the number of minutes later."""

    def discover(minutes: int) -> Discovered:
        root.refresh_from_db()
        found = discovery.discover(root, now=now + timedelta(minutes=minutes), quick=True)
        assert found is not None
        return found

    return discover


@pytest.fixture
def seen(lab: Lab, look: Look) -> Lab:
    for path in PATHS:
        lab.run(path)
    assert look(0).new == len(PATHS)
    return lab


def looked_at(now: datetime, minutes: int) -> set[str]:
    return set(Run.objects.filter(looked_at=now + timedelta(minutes=minutes)).values_list("run_path", flat=True))


def test_each_pass_looks_at_its_share_and_leaves_out_the_rest(seen: Lab, look: Look, now: datetime) -> None:
    turns = []
    for minutes in range(5, 5 + 5 * len(PATHS), 5):
        found = look(minutes)
        assert (found.found, found.unchanged, found.problems) == (len(PATHS), len(PATHS), [])
        (path,) = looked_at(now, minutes)
        turns.append(path)
    assert sorted(turns) == PATHS  # each has had its turn
    latest = Run.objects.with_root().get(run_path=turns[0])
    assert latest.unchanged_at == now + timedelta(minutes=5 * len(PATHS))
    assert Run.objects.with_root().get(run_path=turns[-1]).unchanged_at is None  # just looked at


def change_data(lab: Lab) -> None:
    (lab.staging / PATHS[3] / "README.md").write_text("x")


def change_record(lab: Lab) -> None:
    record = read_ingest(lab.staging / PATHS[3])
    record["project_name"] = "Another"
    (lab.staging / PATHS[3] / METADATA / "ingest.json").write_text(json.dumps(record))


def hold_by_file(lab: Lab) -> None:
    (lab.staging / PATHS[3] / ".exlab-hold").write_text("mine")


@pytest.mark.parametrize("change", [change_data, change_record, hold_by_file])
def test_a_change_on_the_disk_is_seen_by_the_next_pass(
    seen: Lab, look: Look, now: datetime, change: Callable[[Lab], None]
) -> None:
    look(5)
    change(seen)
    assert look(10).updated == 1
    assert PATHS[3] in looked_at(now, 10)
    assert Run.objects.get(run_path=PATHS[3]).changed_at == now + timedelta(minutes=10)
    assert not Run.objects.exclude(run_path=PATHS[3]).exclude(changed_at=None).exists()


def test_a_run_that_goes_or_comes_is_seen_by_the_next_pass(seen: Lab, look: Look) -> None:
    shutil.rmtree(seen.staging / PATHS[4])
    seen.run("FLOW_01/PROJ-0042/Runs/Run_2026-04-20T11-45")
    assert look(5).new == 1
    assert Run.objects.get(run_path=PATHS[4]).problem == "missing_directory"


def ask_for_a_clear(run: Run, now: datetime) -> None:
    queue.new_attempt(run, ClearRequest(requester=Requester.OPERATOR, actor="ada"), now=now)


def lay_a_hold(run: Run, now: datetime) -> None:
    holds.hold(run, owner="ada", reason="not yet", until=now + timedelta(days=9), now=now)


@pytest.mark.parametrize("act", [ask_for_a_clear, lay_a_hold])
def test_what_people_do_is_no_longer_remembered(
    seen: Lab, look: Look, now: datetime, act: Callable[[Run, datetime], None]
) -> None:
    run = Run.objects.with_root().get(run_path=PATHS[3])
    assert run in Run.objects.remembered()
    act(run, now)
    assert run not in Run.objects.remembered()


def test_a_copy_that_is_lost_makes_the_pass_look_at_all_copies(seen: Lab, look: Look, now: datetime) -> None:
    shutil.rmtree(seen.nas / "CONFOCAL_01")
    found = look(5)
    assert (found.found, found.updated) == (len(PATHS), len(PATHS))
    assert looked_at(now, 5) == set(PATHS)
    assert not Run.objects.remembered().exists()  # each pass asks for them until they are back


def test_another_run_with_the_same_copy_is_news_of_the_first(
    seen: Lab, look: Look, root: StagingRoot, now: datetime
) -> None:
    StagingRoot.objects.filter(pk=root.pk).update(nas_layout="leaf")
    look(5)
    remembered = Run.objects.remembered().count()
    assert remembered == 0  # the copies lie elsewhere now
    seen.run(FIRST.replace("CONFOCAL_01", "CONFOCAL_02"))
    look(10)
    look(15)
    found = Run.objects.get(run_path=FIRST).facts["twin_findings"]
    assert [finding["reason"] for finding in found] == ["ambiguous_twin"]


def test_what_was_written_a_moment_ago_is_not_remembered(lab: Lab, look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unchanged, "GRAIN_SECONDS", 2.0)
    lab.run()
    look(0)
    assert not Run.objects.remembered().exists()
    monkeypatch.setattr(time, "time_ns", lambda: time.monotonic_ns() + (1 << 62))
    look(5)
    assert Run.objects.remembered().count() == 1


def test_a_pass_with_nothing_new_asks_the_same_for_few_and_for_many(lab: Lab, look: Look, root: StagingRoot) -> None:
    def questions(minutes: int) -> int:
        with CaptureQueriesContext(connection) as asked:
            look(minutes)
        return len(asked)

    counted: list[Any] = []
    for hour in range(8):
        lab.run(f"CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T{hour:02}-00")
        look(20 * hour)
        counted.append(questions(20 * hour + 5))
    assert len(set(counted[2:])) == 1, counted
