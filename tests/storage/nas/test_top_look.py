"""A look at a folder that a person names, by a real child process."""

import os
import uuid
from pathlib import Path

import pytest

from cleanup.storage.nas import top_look
from cleanup.storage.root_files import markers
from tests.tools.lab import RUN_PATH, Lab, snapshot

pytestmark = pytest.mark.one_engine


def test_it_tells_what_is_there_and_changes_nothing(lab: Lab) -> None:
    lab.run()
    token = str(uuid.uuid4())
    (lab.staging / ".exlab-root").write_text(token)
    before = snapshot(lab.base)
    seen = top_look.ask(str(lab.staging), seconds=30, count=True, twins=[RUN_PATH, "no/such/folder", "../staging"])
    assert snapshot(lab.base) == before
    assert (seen.problem, seen.real, seen.is_directory, seen.empty) == ("", str(lab.staging), True, False)
    assert (seen.readable, seen.writable, seen.token) == (True, True, token)
    assert (seen.runs, seen.more_runs, seen.instruments) == (1, False, ("CONFOCAL_01",))
    assert seen.present == (RUN_PATH,)
    assert 0 < seen.free_bytes <= seen.total_bytes
    assert seen.place["device"] == os.stat(lab.staging).st_dev


def test_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "here")
    (tmp_path / "here" / ".exlab-root").write_text("no uuid")
    assert top_look.look(str(tmp_path / "none"), twins=[], count=False).missing
    assert not top_look.look(str(tmp_path / "file"), twins=[], count=False).is_directory
    seen = top_look.look(str(tmp_path / "link"), twins=[], count=True)
    assert (seen.real, seen.bad_token, seen.runs) == (str(tmp_path / "here"), True, 0)


def test_a_staging_disk_shows(lab: Lab) -> None:
    (lab.nas / os.fsdecode(markers.staging_marker(str(uuid.uuid4())))).touch()
    assert "exlab-staging" in top_look.look(str(lab.nas), twins=[], count=False).shows_staging


def test_one_that_gives_no_answer_is_left(tmp_path: Path) -> None:
    seen = top_look.ask(str(tmp_path), seconds=0.0)
    assert seen.hung and "no answer within 0 s" in seen.problem
