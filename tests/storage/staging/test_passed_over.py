"""A bounded search finds runs in folders that are skipped for their names."""

import html
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from cleanup.models import Orphan, OrphanKind, Run, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.orphans import orphans
from cleanup.storage.staging import passed_over
from cleanup.storage.staging.walk import Shape, walk
from tests.tools.lab import RUN_PATH, Lab, outlines

pytestmark = pytest.mark.one_engine(by="function")


PROJECT = "PROJ-0042"
LEAF = "Run_2026-04-17T14-32"


@pytest.fixture
def top(lab: Lab) -> Iterator[int]:
    descriptor = os.open(lab.staging, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def lay_run(folder: Path, record: str = "ingest.json") -> None:
    (folder / ".exlab-wizard").mkdir(parents=True)
    (folder / ".exlab-wizard" / record).write_text("{}")
    (folder / "data.tif").write_bytes(b"12345")


def passed_over_in(top: int) -> dict[str, str]:
    found = {}
    for strays in (True, False):
        sights = [sight for sight in walk(top, strays=strays) if sight.shape is Shape.PASSED_OVER]
        found = {sight.path: sight.problem.detail for sight in sights if sight.problem}
    return found


@pytest.mark.parametrize(
    ("folder", "run"),
    [
        (".CONFOCAL", f".CONFOCAL/{PROJECT}/Runs/{LEAF}"),
        (".CONFOCAL", f".CONFOCAL/{PROJECT}/Run_calibration"),
        ("$RECYCLE.BIN", f"$RECYCLE.BIN/{PROJECT}/Runs/{LEAF}"),
        ("lost+found", "lost+found/#4711/TestRuns/TestRun_2026-04-17T14-32"),
        (f"CONFOCAL_01/.{PROJECT}", f"CONFOCAL_01/.{PROJECT}/Runs/{LEAF}"),
        (f"CONFOCAL_01/{PROJECT}/.Runs", f"CONFOCAL_01/{PROJECT}/.Runs/{LEAF}"),
        (f"CONFOCAL_01/{PROJECT}/.{LEAF}", f"CONFOCAL_01/{PROJECT}/.{LEAF}"),
        (f"CONFOCAL_01/{PROJECT}/Runs/.{LEAF}", f"CONFOCAL_01/{PROJECT}/Runs/.{LEAF}"),
    ],
)
def test_a_folder_that_looks_like_one_with_runs_is_told(lab: Lab, top: int, folder: str, run: str) -> None:
    lay_run(lab.staging / run)
    lay_run(lab.staging / "CONFOCAL_01" / PROJECT / "Runs" / LEAF, "sync_state.json")
    before = outlines(lab.base)
    ((told, detail),) = passed_over_in(top).items()
    assert outlines(lab.base) == before
    assert told == folder
    assert detail.endswith(f"in it lies {run.removeprefix(f'{Path(folder).parent}/')}")
    assert detail.startswith(
        "its name begins with a dot" if "/." in f"/{folder}" else "its name is one that filesystems"
    )


@pytest.mark.parametrize(
    "run",
    [
        f".CONFOCAL/{LEAF}",  # one step too few
        f".CONFOCAL/old/{PROJECT}/Runs/{LEAF}",  # one too many, as in a copy of everything
        f".zfs/{PROJECT}/Runs/{LEAF}",
        f".exlab-set-aside/{PROJECT}/Runs/{LEAF}",
        f"CONFOCAL_01/{PROJECT}/Runs/.exlab-set-aside",
        f"CONFOCAL_01/{PROJECT}/.exlab-wizard",
    ],
)
def test_other_hidden_folders_are_nothing(lab: Lab, top: int, run: str) -> None:
    lay_run(lab.staging / run)
    (lab.staging / ".cache" / PROJECT / "Runs" / LEAF).mkdir(parents=True)
    assert passed_over_in(top) == {}


def test_no_link_is_followed(lab: Lab, top: int) -> None:
    lay_run(lab.base / "elsewhere" / PROJECT / "Runs" / LEAF)
    (lab.staging / ".linked").symlink_to(lab.base / "elsewhere")
    (lab.staging / ".half").mkdir()
    (lab.staging / ".half" / PROJECT).symlink_to(lab.base / "elsewhere" / PROJECT)
    assert passed_over_in(top) == {}


def test_a_walk_looks_at_a_limited_number_of_names(lab: Lab, top: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (".A", ".B"):
        for number in range(30):
            (lab.staging / name / "x" / str(number)).mkdir(parents=True)
    lay_run(lab.staging / ".C" / PROJECT / "Runs" / LEAF)
    assert set(passed_over_in(top)) == {".C"}
    monkeypatch.setattr(passed_over, "MOST_NAMES", 40)
    assert passed_over_in(top) == {}
    monkeypatch.setattr(passed_over, "MOST_NAMES_OF_ONE", 10)
    assert set(passed_over_in(top)) == {".C"}, "a large one must not hide the next"


@pytest.mark.django_db
def test_discovery_says_it_and_the_page_of_problems_lists_it(
    lab: Lab, root: StagingRoot, now: datetime, admin_client: Client
) -> None:
    lab.run()
    lay_run(lab.staging / ".CONFOCAL" / PROJECT / "Runs" / LEAF)
    found = discovery.discover(root, now=now)
    assert found is not None
    told = f"its name begins with a dot; in it lies .CONFOCAL/{PROJECT}/Runs/{LEAF}"
    assert found.problems == [(".CONFOCAL", Reason.PASSED_OVER, told)]
    assert list(Run.objects.values_list("run_path", flat=True)) == [RUN_PATH]
    orphans.inspect(root, now=now)  # at once: the instrument may go on writing there for ever
    (orphan,) = orphans.listed()
    assert (orphan.path, orphan.kind, orphan.reason) == (".CONFOCAL", OrphanKind.MISPLACED, Reason.PASSED_OVER)
    assert (orphan.files, orphan.bytes, orphan.detail) == (2, 7, told)
    page = admin_client.get(reverse("problem-list")).content.decode()
    assert "<code>.CONFOCAL</code>" in page
    assert html.escape(Reason.PASSED_OVER.sentence) in page
    assert "its name begins with a dot" in page
    (lab.staging / ".CONFOCAL").rename(lab.base / "away")
    orphans.inspect(root, now=now)
    assert not Orphan.objects.filter(gone_at=None).exists()
