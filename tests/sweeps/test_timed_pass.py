"""The unattended timed pass over days."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from cleanup import clear_run, tasks
from cleanup.models import RetentionPolicy, Run, StagingRoot, Surprise, Sweep
from cleanup.rules.anomalies import Clock
from cleanup.runs import discovery
from cleanup.runs.holds import holds
from cleanup.sweeps import breakers
from tests.faults.scene import Scene, scene_of
from tests.tools.lab import Lab

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

PATHS = [f"FLOW_01/PROJ-0001/Runs/Run_2026-06-1{day}T10-00" for day in range(3)]
OLD, LATER, LAST = PATHS


@pytest.fixture
def clock(now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The lab's time, set by the test.

    The time since boot cannot be set and would reveal the jumps, so it is not asked.
    """
    monkeypatch.setattr(breakers, "read_clock", lambda now: Clock(wall=now))
    with time_machine.travel(now, tick=True) as traveller:
        yield traveller


@pytest.fixture
def scenes(clock: Any, lab: Lab, root: StagingRoot, now: datetime) -> dict[str, Scene]:
    made = {
        run_path: lab.run(run_path, files={"a.bin": b"x" * 900}, verified_at=now + timedelta(days=day - 2))
        for day, run_path in enumerate(PATHS)
    }
    discovery.discover(root, now=now)
    return {run_path: scene_of(lab, root, now, run_path, path) for run_path, path in made.items()}


def night(clock: Any, *, hours: float = 12) -> str:
    clock.shift(timedelta(hours=hours))
    tasks.discover()
    return tasks.sweep()


def stages() -> list[tuple[int, str, str]]:
    return list(RetentionPolicy.objects.order_by("version").values_list("version", "rehearsal", "author"))


def staged() -> list[str]:
    return list(Run.objects.staged().order_by("run_path").values_list("run_path", flat=True))


@pytest.mark.both_engines
def test_a_new_scheduled_policy_clears_after_its_clean_nights(
    scenes: dict[str, Scene], clock: Any, policy: Callable[..., Any]
) -> None:
    policy(mode="scheduled", retain_hours=48, proof="size")
    assert stages() == [(1, "rehearsing", "admin")]
    for _half_day in range(6):
        assert "cleared 0" in night(clock)
        assert staged() == PATHS
    night(clock, hours=1)
    assert stages()[-1] == (2, "promoted", "schedule")
    assert RetentionPolicy.objects.latest("version").note == "after 3 clean nights"
    night(clock, hours=1)
    assert LATER not in staged()
    assert OLD not in staged()
    scenes[OLD].assert_cleared()
    assert Run.objects.get(run_path=OLD).attempts.get().policy_version == 2


def test_without_rehearsal_it_clears_at_once(scenes: dict[str, Scene], clock: Any, policy: Callable[..., Any]) -> None:
    policy(mode="scheduled", retain_hours=48, proof="size", rehearse=False)
    assert "cleared 1" in night(clock, hours=0.1)
    assert staged() == [LATER, LAST]


@pytest.mark.exhaustive
def test_a_hold_is_a_surprise_and_the_nights_begin_anew(
    scenes: dict[str, Scene], clock: Any, policy: Callable[..., Any]
) -> None:
    policy(mode="scheduled", retain_hours=24, proof="size")
    night(clock)
    until = timezone.now() + timedelta(days=90)
    holds.hold(scenes[OLD].run, owner="ada", reason="still being read", until=until, now=timezone.now())
    for _half_day in range(6):
        night(clock)
    assert Surprise.objects.get().reason == "held"
    assert stages() == [(1, "rehearsing", "admin")]
    for _half_day in range(2):
        night(clock)
    assert stages()[-1] == (2, "promoted", "schedule")
    night(clock, hours=1)
    assert staged() == [OLD]


def test_a_clear_that_finds_other_bytes_sends_the_policy_back(
    scenes: dict[str, Scene], clock: Any, policy: Callable[..., Any]
) -> None:
    policy(mode="scheduled", retain_hours=47, stage="promoted")
    victim = scenes[OLD].twin / "a.bin"
    victim.write_bytes(bytes(victim.stat().st_size))
    night(clock)
    assert Surprise.objects.get().reason == "nas_checksum_mismatch"
    version = RetentionPolicy.objects.latest("version")
    assert (version.rehearsal, version.author) == ("rehearsing", "schedule")
    assert OLD in version.note
    night(clock, hours=24)
    assert staged() == PATHS, "LATER is due by now, and only rehearsed"
    assert Sweep.objects.latest("pk").would_clear == 1  # of OLD is known that its bytes differ


@pytest.mark.exhaustive
def test_what_a_person_clears_meanwhile_is_no_surprise(
    scenes: dict[str, Scene], clock: Any, policy: Callable[..., Any]
) -> None:
    policy(mode="scheduled", retain_hours=24, proof="size", rehearsal_nights=1)
    night(clock)
    clear_run(scenes[OLD].run, actor="ada", now=timezone.now())
    night(clock)
    night(clock, hours=1)
    assert not Surprise.objects.exists()
    assert stages()[-1] == (2, "promoted", "schedule")
