"""The digest of a run's tree changes with whatever another look would see."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cleanup.storage import handles
from cleanup.storage.staging import tree_digest
from tests.tools.lab import METADATA, RUN_PATH, Lab

pytestmark = pytest.mark.one_engine


def of(run: Path) -> str:
    with handles.opened(os.open(run.parent, handles.DIRECTORY)) as parent:
        return tree_digest.of_run(parent, os.fsencode(run.name), tree_digest.of_parent(parent)).sha


def again(path: Path, data: bytes) -> None:
    """Other bytes of the same length, and the old times."""
    status = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def swap(one: Path, other: Path) -> None:
    one.rename(one.with_name("between"))
    other.rename(one)
    one.with_name("between").rename(other)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file": lambda run: (run / "new").touch(),
    "a file below": lambda run: (run / "tiles/new").touch(),
    "a folder": lambda run: (run / "empty").mkdir(),
    "a file goes": lambda run: (run / "README.md").unlink(),
    "other bytes, same size and time": lambda run: again(run / "run_complete", b"DONE\n"),
    "a time": lambda run: os.utime(run / "README.md", (1, 1)),
    "rights of a file": lambda run: (run / "README.md").chmod(0o400),
    "rights of a folder": lambda run: (run / "tiles").chmod(0o500),
    "another link": lambda run: os.link(run / "README.md", run.parent / "elsewhere"),
    "two files change their names": lambda run: swap(run / "tiles/t_0000.tif", run / "tiles/t_0001.tif"),
    "two folders change their names": lambda run: swap(run / "one", run / "two"),
    "a link in place of a file": lambda run: ((run / "README.md").unlink(), (run / "README.md").symlink_to("x")),
    "the record": lambda run: again(run / METADATA / "ingest.json", (run / METADATA / "ingest.json").read_bytes()),
    "a lock": lambda run: (run / METADATA / "sync_state.json.lock").touch(),
    "an attribute": lambda run: os.setxattr(run / "README.md", "user.note", b"x"),
    "the folder of the runs": lambda run: run.parent.chmod(0o500),
    "a copy of the run in its place": lambda run: (
        shutil.copytree(run, run.with_name("copy")),
        run.rename(run.with_name("old")),
        run.with_name("copy").rename(run),
    ),
}


@pytest.fixture
def run(lab: Lab) -> Path:
    run = lab.run()
    for name in ("one", "two"):
        (run / name).mkdir()
        (run / name / "same").touch()
    return run


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_changes_it(run: Path, change: Callable[[Path], object]) -> None:
    before = of(run)
    assert of(run) == before
    (run.parent / "Run_2026-01-01T00-00").mkdir()  # another run is no change of this one
    assert of(run) == before
    try:
        change(run)
    except OSError as error:
        pytest.skip(f"not on this filesystem: {error}")
    assert of(run) != before


def test_it_follows_no_link(lab: Lab, run: Path) -> None:
    run.rename(lab.base / "away")
    run.symlink_to(lab.base / "away")
    with pytest.raises(NotADirectoryError):
        of(lab.staging / RUN_PATH)
