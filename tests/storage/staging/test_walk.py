"""The walk finds the same runs with and without other entries."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cleanup.storage.staging.walk import Measure, Shape, measure, walk
from tests.tools.lab import RUN_PATH, Lab, census, outlines

pytestmark = pytest.mark.one_engine


FOLDER = "CONFOCAL_01/PROJ-0042/Runs"


@pytest.fixture
def top(lab: Lab) -> Iterator[int]:
    descriptor = os.open(lab.staging, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def test_sees_the_same_runs_either_way(lab: Lab, top: int) -> None:
    lab.run()
    lab.run("FLOW_01/P/TestRuns/TestRun_2026-04-20T11-45-09", state="staging")
    (lab.staging / FOLDER / "scratch/Run_2026-04-17T14-32").mkdir(parents=True)
    (lab.staging / "notes.txt").write_text("1")
    (lab.staging / FOLDER / ".exlab-clearing-x").mkdir()
    (lab.staging / "LINKED").symlink_to(lab.nas)
    before = outlines(lab.base)
    everything, runs = list(walk(top)), list(walk(top, strays=False))
    assert outlines(lab.base) == before
    assert [sight for sight in everything if sight.shape is Shape.RUN] == [
        sight for sight in runs if sight.shape is Shape.RUN
    ]
    assert {(sight.shape.value, sight.path) for sight in everything} == {
        ("run", RUN_PATH),
        ("run", "FLOW_01/P/TestRuns/TestRun_2026-04-20T11-45-09"),
        ("stray", f"{FOLDER}/scratch"),
        ("stray", "notes.txt"),
        ("stray", "LINKED"),
        ("fence", f"{FOLDER}/.exlab-clearing-x"),
    }
    (scratch,) = (sight for sight in everything if sight.path.endswith("scratch"))
    assert scratch.within == (f"{FOLDER}/scratch/Run_2026-04-17T14-32".encode(),)


def test_the_search_for_runs_in_a_folder_has_an_end(lab: Lab, top: int, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = lab.staging / FOLDER / "scratch"
    (folder / "1/2/Run_2026-04-17T14-32").mkdir(parents=True)
    (folder / "1/2/3/Run_2026-04-17T14-33").mkdir(parents=True)
    (scratch,) = walk(top)
    assert [Path(os.fsdecode(path)).name for path in scratch.within] == ["Run_2026-04-17T14-32"]
    monkeypatch.setattr("cleanup.storage.staging.walk._SEARCH_NAMES", 2)
    (scratch,) = walk(top)
    assert scratch.within == ()


def test_measures_every_inode_once_and_nothing_behind_links(lab: Lab, top: int) -> None:
    path = lab.run()
    files, size = census(path)
    os.link(path / "README.md", path / "again.md")
    (path / "elsewhere").symlink_to(lab.nas)
    os.utime(path / "tiles", (4_000_000_000, 4_000_000_000))
    assert measure(top, RUN_PATH.encode()) == Measure(files, size, 4_000_000_000 * 10**9)
    less = measure(top, RUN_PATH.encode(), without=(f"{RUN_PATH}/tiles".encode(),))
    tiles, tile_bytes = census(path / "tiles")
    assert (less.files, less.bytes) == (files - tiles, size - tile_bytes)
    assert less.modified_ns is not None
    assert less.modified_ns < 4_000_000_000 * 10**9


def test_what_is_not_there_cannot_be_measured(lab: Lab, top: int) -> None:
    with pytest.raises(FileNotFoundError):
        measure(top, b"nothing")
    with pytest.raises(FileNotFoundError):
        measure(top, b"nothing/below/it")
