"""A new or changed run is in the database within seconds, without a pass."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cleanup.models import Run, StagingRoot
from cleanup.runs import discovery
from cleanup.runs.listening import disk_listener, due_paths, watched_root
from cleanup.runs.listening.disk_listener import DiskListener
from cleanup.storage import inotify
from cleanup.storage.inotify import FolderChange, FolderEvent, FolderWatches
from tests.tools.lab import METADATA, RUN_PATH, Lab

pytestmark = pytest.mark.django_db

OTHER = "FLOW_01/PROJ-0060/Runs/Run_2026-06-01T13-00"
NEXT = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-06-02T13-00"
PATIENCE = 60.0  # this machine may be busy; the listener's own waits are counted below

Made = Callable[[], DiskListener]


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def make(asked: list[str]) -> Iterator[Made]:
    with FolderWatches() as watches:
        yield lambda: DiskListener(lambda: asked.append("a pass"), watches)


@pytest.fixture(params=["told", "polled"])
def listener(request: Any, make: Made, lab: Lab, root: StagingRoot, monkeypatch: pytest.MonkeyPatch) -> DiskListener:
    """One that knows a lab of one run, by the kernel's word or by polling."""
    monkeypatch.setattr(due_paths, "COLLECTED_SECONDS", 0.1)
    if request.param == "polled":
        monkeypatch.setattr(watched_root, "hears", lambda root: False)
        monkeypatch.setattr(disk_listener, "_POLL_SECONDS", 0.2)
    lab.run(state="staging")
    discovery.discover(root, now=root.created_at)
    listener = make()
    listener.step()
    return listener


def until(listener: DiskListener, holds: Callable[[], bool]) -> None:
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < PATIENCE
        listener.step()


def is_known(path: str) -> bool:
    return Run.objects.filter(run_path=path).exclude(looked_at=None).exclude(state="").exists()


def problem_of(path: str) -> str:
    return Run.objects.get(run_path=path).problem


def test_runs_that_come_change_and_go_are_seen(listener: DiskListener, lab: Lab, tmp_path: Path) -> None:
    """Takes two seconds: a run is looked at again after a pause."""
    lab.run(NEXT, state="complete")  # in a folder that is known
    until(listener, lambda: is_known(NEXT))
    lab.run(OTHER, state="complete")  # of an instrument that is new
    until(listener, lambda: is_known(OTHER))
    later = Lab(tmp_path / "later").run(state="complete")
    shutil.copy2(later / METADATA / "ingest.json", lab.staging / RUN_PATH / METADATA / "ingest.json")
    until(listener, lambda: Run.objects.get(run_path=RUN_PATH).state == "complete")
    shutil.rmtree(lab.staging / NEXT)
    until(listener, lambda: problem_of(NEXT) == "missing_directory")


def test_it_waits_at_most_five_seconds_by_its_own_clock() -> None:
    collected = disk_listener._SOON_SECONDS + due_paths.COLLECTED_SECONDS + 0.5
    assert max(collected, collected + disk_listener._POLL_SECONDS) < 5


def test_events_that_were_lost_ask_for_a_pass(make: Made, root: StagingRoot, asked: list[str]) -> None:
    listener = make()
    listener._hear(FolderEvent(-1, FolderChange.LOST, b""), 0.0)
    assert asked == ["a pass"]


def test_without_watches_it_polls(make: Made, lab: Lab, root: StagingRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(self: FolderWatches, directory: int) -> int:
        raise inotify.NoMoreWatches(28, "No space left on device")

    monkeypatch.setattr(FolderWatches, "add", none_left)
    listener = make()
    listener.step()
    assert [known.polled for known in listener.roots.values()] == [True]


@pytest.mark.exhaustive
def test_a_root_that_goes_and_comes_back_is_listened_to_again(
    listener: DiskListener, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Takes two seconds."""
    monkeypatch.setattr(disk_listener, "_SURVEY_SECONDS", 0.5)
    away = lab.staging.with_name("away")
    lab.staging.rename(away)
    shutil.copytree(away, lab.staging, symlinks=True)
    shutil.rmtree(away)
    lab.run(NEXT, state="complete")
    until(listener, lambda: is_known(NEXT))


@pytest.mark.one_engine
def test_a_watch_keeps_no_disk_from_being_unmounted(tmp_path: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], check=False, capture_output=True).returncode:
        pytest.skip("only root can mount")
    with FolderWatches() as watches:
        descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
        watch = watches.add(descriptor)
        os.close(descriptor)
        (tmp_path / "a").mkdir()
        assert [(event.watch, event.name) for event in watches.read(5)] == [(watch, b"a")]
        subprocess.run(["umount", str(tmp_path)], check=True)
        assert [event.change for event in watches.read(5)] == [FolderChange.UNMOUNT, FolderChange.ENDED]


def test_a_root_that_was_never_looked_at_has_a_pass_at_once(make: Made, lab: Lab, root: Any, asked: list[str]) -> None:
    """Pages promise its first look within a minute, which is as long as a new root may wait for the listener."""
    lab.run(state="staging")
    listener = make()
    listener.step()
    listener.step()
    assert asked == ["a pass"]
    discovery.discover(root, now=root.created_at)
    make().step()
    assert asked == ["a pass"]
    assert disk_listener._SURVEY_SECONDS <= 60
