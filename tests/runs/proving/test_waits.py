"""When the prover reads nothing: others need the disk, or it is not the hour."""

import os
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone

from cleanup.clears import queue
from cleanup.clears.queue import ClearRequest
from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, Proof, ProvingLease, ProvingRun, Requester, Run, StagingRoot
from cleanup.runs.proving import prover, waits
from cleanup.runs.proving.waits import DiskWatch, Stopped, Wait
from cleanup.storage import disk_activity
from cleanup.storage.data_directory import kept_digests
from cleanup.storage.disk_activity import IoPressure
from tests.runs.proving.test_prover import RUNS, Place, after, files
from tests.runs.proving.test_prover import _others_may_be_busy as _others_may_be_busy
from tests.runs.proving.test_prover import place as place
from tests.tools.lab import RUN_PATH

pytestmark = pytest.mark.django_db(transaction=True)

AT = datetime(2026, 6, 15, 20, 30, tzinfo=UTC)  # 22:30 in Zurich


@pytest.mark.parametrize(
    ("start", "end", "is_open", "next_hour"),
    [
        (None, None, True, AT),
        ((22, 0), (6, 0), True, AT),
        ((23, 0), (6, 0), False, AT + timedelta(minutes=30)),
        ((1, 0), (6, 0), False, AT + timedelta(hours=2, minutes=30)),
        ((20, 0), (22, 30), False, AT + timedelta(hours=21, minutes=30)),
        ((22, 30), (22, 31), True, AT),
        ((5, 0), (5, 0), True, AT),
    ],
)
def test_hours_are_those_of_the_lab(start: Any, end: Any, is_open: bool, next_hour: datetime) -> None:
    root = StagingRoot(prove_from=start and time(*start), prove_until=end and time(*end))
    with timezone.override("Europe/Zurich"):
        assert (waits.is_open(root, AT), waits.opens_at(root, AT)) == (is_open, next_hour)


def test_outside_its_hours_nothing_is_read_and_the_row_says_until_when(place: Place) -> None:
    place.add()
    place.look()
    later = timezone.localtime() + timedelta(hours=3)
    StagingRoot.objects.update(prove_from=later.time(), prove_until=(later + timedelta(hours=1)).time())
    assert prover.prove_due() == [f"{RUN_PATH}: outside_hours"]
    row = ProvingRun.objects.get()
    assert (row.phase, row.reason, Proof.objects.count()) == ("waiting", "outside_hours", 0)
    assert abs(row.expected_at - later) < timedelta(minutes=1)


def test_nothing_is_read_beside_a_run_that_is_being_written(place: Place) -> None:
    place.add()
    new = place.lab.run(f"{RUNS}/Run_2026-05-01T10-00", state="staging")
    (new / "stack.ome.xml").touch()
    place.look()
    assert prover.prove_due() == [f"{RUN_PATH}: instrument_writes"]
    for file in new.rglob("*"):
        if file.is_file():
            write_time(file, timezone.now() - timedelta(minutes=6))
    place.look()
    assert prover.prove_due() == [f"{RUN_PATH}: proven"]


def write_time(file: Path, at: datetime) -> None:
    os.utime(file, (at.timestamp(), at.timestamp()))


def test_a_clear_on_the_same_nas_comes_first(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prover stops in the middle of a run for the clear of another one, and keeps what it has read."""
    place.add(files=files())
    place.add("Run_2026-04-18T10-00", files={"a": b"a"})
    place.look()
    other = place.run("Run_2026-04-18T10-00")

    def clear(beat: Any) -> None:
        if not ClearAttempt.objects.exists():
            request = ClearRequest(requester=Requester.OPERATOR, actor="ada")
            queue.new_attempt(other, request, now=timezone.now()).advance(["queued"], "intent", now=timezone.now())
        beat.look()

    with after(monkeypatch, clear):
        assert prover.prove_due() == [f"{RUN_PATH}: clear_under_way"]
    row = ProvingRun.objects.get(run__leaf="Run_2026-04-17T14-32")
    assert (row.phase, row.reason) == ("waiting", "clear_under_way")
    assert kept_digests.kept_runs(opening.data_dir()) == [row.pk]
    ClearAttempt.objects.update(phase_at=timezone.now() - timedelta(hours=1))
    assert prover.prove_due()[0] == f"{RUN_PATH}: proven", "one that stands still keeps nothing waiting"
    assert ProvingLease.objects.get().holder == ""


def test_too_slow_a_limit_puts_a_large_run_off(place: Place) -> None:
    place.add()
    place.look()
    StagingRoot.objects.update(prove_bytes_per_second=1)
    Run.objects.update(bytes=10**9)
    assert prover.prove_due() == [f"{RUN_PATH}: limit_too_low"]
    assert (ProvingRun.objects.get().phase, prover.prove_due()) == ("put_off", [])


# What the kernel tells


def test_writes_and_pressure_are_read_as_the_kernel_tells_them(tmp_path: Path) -> None:
    stats = tmp_path / "diskstats"
    stats.write_text(
        "   8       0 sda 1 2 3 4 5 6 700 8 0 9 10\n 259       1 nvme0n1p1 1 2 3 4 5 6 2048 8 0 9 10 11 12 13 14\n"
    )
    assert disk_activity.written_bytes(0x10301, diskstats=str(stats)) == 2048 * 512
    assert disk_activity.written_bytes(0x800, diskstats=str(stats)) == 700 * 512
    assert disk_activity.written_bytes(0x801, diskstats=str(stats)) is None
    assert disk_activity.written_bytes(0x801, diskstats=str(tmp_path / "none")) is None
    pressure = tmp_path / "io"
    pressure.write_text("some avg10=3.34 avg60=5.56 avg300=4.54 total=1050603282\nfull avg10=0.10 avg60=0 total=1\n")
    assert disk_activity.io_pressure(str(pressure)) == IoPressure(3.34, 1050603282)
    for text in ("", "some avg10=x total=1\n", "full avg10=1 total=1\n"):
        pressure.write_text(text)
        assert disk_activity.io_pressure(str(pressure)) is None
    assert disk_activity.io_pressure(str(tmp_path / "none")) is None


def test_a_disk_that_others_write_to_and_one_that_stalls_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's counts are made up: nothing real stalls a disk in a test."""
    now = SimpleNamespace(written=0, pressure=IoPressure(0.0, 0), clock=100.0)

    def sleep(seconds: float) -> None:
        now.clock += seconds
        now.pressure = IoPressure(now.pressure.avg10, now.pressure.total + now.stalls * int(seconds * 1_000_000) // 100)

    now.stalls = 90
    monkeypatch.setattr(waits, "STALLED_PERCENT", 20.0)
    monkeypatch.setattr(waits.time, "monotonic", lambda: now.clock)
    monkeypatch.setattr(waits.time, "sleep", sleep)
    monkeypatch.setattr(disk_activity, "written_bytes", lambda device: now.written)
    monkeypatch.setattr(disk_activity, "io_pressure", lambda: now.pressure)
    disk = DiskWatch(1)
    assert not disk.is_written_to()
    now.clock, now.written = now.clock + 10, 39 << 20
    assert not disk.is_written_to()
    now.clock, now.written = now.clock + 10, now.written + (41 << 20)
    assert disk.is_written_to()
    assert not waits.is_stalled()
    now.pressure = IoPressure(21.0, 0)
    assert waits.is_stalled()
    assert round(waits.stalled_percent(2.0)) == 90, "while nothing is read here, others wait"
    now.stalls = 1
    assert round(waits.stalled_percent(2.0)) == 1, "it was the prover itself that waited"
    assert Stopped(Wait.PRESSURE).wait == "disk_busy"
