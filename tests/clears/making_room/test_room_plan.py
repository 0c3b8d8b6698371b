"""The plan for room, the time that it takes, and what else would give space."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cleanup.clears.making_room import clear_time, other_runs, room_plan
from cleanup.clears.making_room.other_runs import Opening, RoomWay, StayingSum
from cleanup.clears.making_room.room_plan import DiskRoom, RoomOrder
from cleanup.models import DiskUsage, Run, StagingRoot, Status
from cleanup.rules.clear_pace import ClearPace
from cleanup.rules.reasons import Reason
from cleanup.rules.remedies import REMEDIES, Where
from cleanup.text.room import way_words
from tests.tools.rows import clear_rows, run_row

pytestmark = pytest.mark.django_db

GB = 10**9


@pytest.fixture
def disk(db: None, now: datetime) -> StagingRoot:
    return StagingRoot.objects.create(name="lab", host="lab-pc", path="/srv/lab", discovered_at=now)


def lay(root: StagingRoot, now: datetime, number: int, gives: int | None, **fields: Any) -> Run:
    """A staged run, the lower its number the older."""
    values: dict[str, Any] = {"tone": Status.GO, "state": "sync_verified", "files": 3, "bytes": gives}
    values |= {"verified_at": now - timedelta(days=100 - number), "allocated_bytes": gives, "doubts": 0}
    path = f"FLOW_01/PROJ-1/Runs/Run_2026-01-01T10-{number:02}"
    return run_row(root, path, first_seen_at=now, **{**values, **fields})


def gives(root: StagingRoot, wanted: int, order: RoomOrder, **more: Any) -> list[int]:
    how: dict[str, Any] = {"disk": DiskRoom(free_bytes=0), **more}
    plan = room_plan.make_plan(room_plan.safe_here(root), root, wanted, order=order, **how)
    return [run.allocated_bytes or 0 for run in plan.runs]


def test_safe_runs_go_by_age_or_size_until_enough_is_free(disk: StagingRoot, now: datetime) -> None:
    for number, size in enumerate((20 * GB, 30 * GB, 100 * GB)):
        lay(disk, now, number, size)
    lay(disk, now, 10, 500 * GB, tone=Status.BLOCK, reason=Reason.MISSING_FILE)
    lay(disk, now, 11, 500 * GB, here=False)
    lay(disk, now, 12, None, bytes=GB)
    lay(StagingRoot.objects.create(name="other", host="lab-pc", path="/srv/other"), now, 13, 500 * GB)
    assert gives(disk, 50 * GB, RoomOrder.OLDEST) == [20 * GB, 30 * GB]
    assert gives(disk, 50 * GB, RoomOrder.LARGEST) == [100 * GB]
    assert gives(disk, 50 * GB, RoomOrder.OLDEST, disk=DiskRoom(free_bytes=45 * GB)) == [20 * GB]
    assert gives(disk, 50 * GB, RoomOrder.OLDEST, disk=DiskRoom(free_bytes=50 * GB)) == []
    plan = room_plan.make_plan(
        room_plan.safe_here(disk), disk, 400 * GB, order=RoomOrder.OLDEST, disk=DiskRoom(free_bytes=10 * GB)
    )
    assert (plan.choice.missing, plan.choice.gives, plan.choice.short) == (390 * GB, 150 * GB, 240 * GB)
    assert (plan.enough, plan.unknown, plan.more, plan.free_after) == (False, 1, False, 160 * GB)


def test_a_choice_reads_a_bounded_number_of_runs_by_an_index(
    disk: StagingRoot, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        lay(disk, now, number, GB * (number + 1))
    monkeypatch.setattr(room_plan, "LOOKED_AT", 4)
    for order in RoomOrder:
        with CaptureQueriesContext(connection) as asked:
            plan = room_plan.make_plan(
                room_plan.safe_here(disk), disk, 100 * GB, order=order, disk=DiskRoom(free_bytes=0)
            )
        (query,) = asked.captured_queries
        assert "LIMIT 5" in query["sql"]
        assert (plan.looked_at, plan.more) == (4, True)
        if connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
                steps = " ".join(row[3] for row in cursor.fetchall())
            assert "TEMP B-TREE" not in steps, steps


def test_the_disk_is_the_one_measured_last(disk: StagingRoot, now: datetime) -> None:
    assert room_plan.room_of(disk) == DiskRoom()
    for hours, free in ((2, 5), (1, 7)):
        DiskUsage.objects.create(root=disk, at=now - timedelta(hours=hours), total_bytes=10, free_bytes=free)
    assert room_plan.room_of(disk).free_bytes == 7


def test_the_time_comes_from_the_clears_of_the_same_disk(disk: StagingRoot, now: datetime) -> None:
    other = StagingRoot.objects.create(name="other", host="other-pc", path="/srv/other")
    for number, (root, seconds) in enumerate(((disk, 10), (disk, 10), (other, 1000))):
        run = lay(root, now, number, GB, here=False, state="cleared")
        # All three were asked for at once: the second waited for the first.
        ended = now + timedelta(seconds=seconds * (number + 1 if root == disk else 1))
        clear_rows(run, now, files=3, size=GB, compared_bytes=2 * GB, progress_at=ended)
    paces = clear_time.paces()
    assert paces["lab"] == ClearPace(compared=GB / 10)
    assert paces["other"] == ClearPace()
    work = [lay(disk, now, 20, 30 * GB)]
    assert clear_time.time_of_runs(work, paces["lab"], now) == timedelta(seconds=301)
    assert clear_time.time_of_runs(work, paces["other"], now) is None


def test_what_stays_is_grouped_by_the_way_out_the_most_first(disk: StagingRoot, now: datetime) -> None:
    tomorrow = now + timedelta(days=1)
    blocked = {"tone": Status.BLOCK}
    lay(disk, now, 1, 5 * GB, reason=Reason.MANIFEST_MISSING, **blocked)
    lay(disk, now, 2, 6 * GB, reason=Reason.MISSING_FILE, **blocked)
    lay(disk, now, 3, 90 * GB, tone=Status.WAIT, reason=Reason.HELD, opens_at=tomorrow)
    lay(disk, now, 4, 4 * GB, tone=Status.WAIT, reason=Reason.NAS_SLOW, opens_at=tomorrow)
    lay(disk, now, 5, 3 * GB, tone=Status.WAIT, reason=Reason.NOT_SYNC_VERIFIED)
    lay(disk, now, 6, 1000 * GB)  # safe: no way out is needed
    ways = other_runs.ways_on(Run.objects.all(), disk, now)
    assert [(way_words(way), way.gives // GB) for way in ways] == [
        ("End the hold of this run", 90),
        ("Verify these 2 runs again", 11),
        ("May go tomorrow by itself", 4),
        ("Wait for the data wizard: it has not verified this run", 3),
    ]
    assert [way.opening for way in ways] == [Opening.NEVER, Opening.NEVER, Opening.TOMORROW, Opening.NEVER]
    assert ways[0].where is Where.HOLDS


def test_every_way_out_has_words() -> None:
    for remedy in REMEDIES.values():
        for button in ("", *remedy.buttons):
            for number in (1, 2):
                one = StayingSum(tone=Status.BLOCK, reason="", opening=Opening.NEVER, runs=number, gives=1, key=1)
                words = way_words(RoomWay(where=remedy.where, button=button, opening=Opening.NEVER, sums=(one,)))
                assert words and "{" not in words
