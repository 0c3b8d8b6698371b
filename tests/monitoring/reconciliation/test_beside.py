"""A folder with the number of the run's own is not the run for that alone."""

import os
from pathlib import Path

import pytest

from cleanup.monitoring.reconciliation import beside
from cleanup.storage import handles, linux, run_paths
from cleanup.storage.staging import records
from tests.monitoring.reconciliation.scene import FIRST, THIRD
from tests.storage.children import mount, with_own_mounts
from tests.tools.lab import Lab

pytestmark = pytest.mark.one_engine(by="function")

AT = run_paths.parse_run_path(FIRST)
YOUNG = 1  # the run had left long before any folder here was made
UNKNOWN = 0


def said(folder: Path, origin: str, left_ns: int) -> str:
    identity = f"{folder.stat().st_ino}:-:{origin}"
    with handles.opened(handles.open_root(str(folder.parent))) as parent:
        return beside.own_folder(parent, AT, identity, left_ns)


@pytest.fixture
def folder(lab: Lab) -> Path:
    """The run itself, under another name."""
    lab.run(FIRST)
    return (lab.staging / FIRST).rename((lab.staging / FIRST).with_name("Run_2026-04-17T14-33"))


def origin_of(folder: Path) -> str:
    with handles.opened(handles.open_root(str(folder))) as run:
        return records.read(run, AT).origin


def test_a_folder_that_is_older_is_the_run(folder: Path) -> None:
    with handles.opened(handles.open_root(str(folder))) as run:
        after = linux.status(run).birth_ns
    if after is None:
        pytest.skip("this filesystem tells no time of birth")
    assert said(folder, "-", after + 1) == "the run's own folder lies beside its path as Run_2026-04-17T14-33"
    assert said(folder, origin_of(folder), YOUNG) == "", "a number that was given away anew"


def test_without_a_time_of_birth_the_record_tells(folder: Path) -> None:
    assert said(folder, origin_of(folder), UNKNOWN).startswith("the run's own folder lies beside")
    assert said(folder, "another", UNKNOWN) == "", "another run's record"
    assert said(folder, "-", UNKNOWN).endswith("perhaps it is the run")
    for file in (folder / ".exlab-wizard").iterdir():
        file.unlink()
    assert said(folder, "another", UNKNOWN).endswith(
        "lies beside its path as Run_2026-04-17T14-33: perhaps it is the run"
    )


def test_a_record_at_its_own_place_is_read(lab: Lab) -> None:
    """Of another run beside it, whose record names its own folder."""
    lab.run(THIRD)
    assert said(lab.staging / THIRD, "another", UNKNOWN).endswith("perhaps it is the run"), "it lies in another project"
    other = FIRST.replace("14-32", "18-00")
    lab.run(other)
    assert said(lab.staging / other, "another", UNKNOWN) == ""


def test_an_overlay_lists_other_numbers_than_it_has(tmp_path: Path) -> None:
    """Its layers lie on two filesystems. Own mounts."""
    lower, upper, seen = (tmp_path / name for name in ("lower", "upper", "seen"))

    def look() -> tuple[bool, str]:
        for each in (lower, upper, seen):
            each.mkdir()
        for layer in (lower, upper):
            mount("-t", "tmpfs", "tmpfs", layer)
        for made in (lower / "Run_A", lower / "Run_B", upper / "upper", upper / "work"):
            made.mkdir()
        layers = f"xino=off,lowerdir={lower},upperdir={upper / 'upper'},workdir={upper / 'work'}"
        mount("-t", "overlay", "overlay", "-o", layers, seen)
        with os.scandir(seen) as entries:
            same = all(entry.inode() == entry.stat().st_ino for entry in entries)
        return same, said(seen / "Run_A", "-", UNKNOWN)

    same, told = with_own_mounts(look)
    assert (same, told.endswith("lies beside its path as Run_A: perhaps it is the run")) == (False, True)


def test_a_file_of_the_number_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert said(tmp_path / "file", "-", UNKNOWN) == ""
