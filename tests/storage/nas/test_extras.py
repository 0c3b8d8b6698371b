"""Other files on the NAS are listed by name at most, never read."""

import errno
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from cleanup.clears import protocol
from cleanup.models import Phase, Run
from cleanup.rules.decisions import Gate
from cleanup.rules.policies.policy import Policy
from cleanup.rules.reasons import Reason
from cleanup.runs.facts import inspection, stored_facts
from cleanup.storage import hashing
from cleanup.storage.nas.extras import Unread, in_the_way
from tests.faults import means
from tests.faults.mounts import Enter
from tests.faults.scene import is_root, set_scene
from tests.tools.lab import METADATA, Lab

pytestmark = pytest.mark.one_engine(by="function")


WANTED = [b"a/b/c.tif", b"d.tif"]


@pytest.mark.parametrize(
    ("path", "concerned"),
    [(b"a", True), (b"a/b", True), (b"a/b/c.tif", True), (b"d.tif", True), (b"@eaDir", False), (b"a/b/c", False)],
)
def test_an_unread_path_matters_on_the_way_to_a_wanted_one(path: bytes, concerned: bool) -> None:
    unread = [Unread(b"other", errno.EIO), Unread(path, errno.EACCES)]
    assert (in_the_way(unread, WANTED) is not None) == concerned
    assert in_the_way(unread, None) == unread[0]
    assert in_the_way([], None) is None


def an_unreadable_folder(twin: Path) -> None:
    """As Synology's @eaDir, or a private folder."""
    for name in ("@eaDir", "tiles/private"):
        (twin / name).mkdir()
        (twin / name / "thumb.jpg").write_bytes(b"x")
        (twin / name).chmod(0)


def an_unreadable_file(twin: Path) -> None:
    (twin / "private.txt").write_bytes(b"x")
    (twin / "private.txt").chmod(0)


def of_all_kinds(twin: Path) -> None:
    os.mkfifo(twin / "pipe")
    (twin / "loop").symlink_to("loop")
    (twin / "all").symlink_to("/")
    (twin / os.fsdecode(b"caf\xe9\n.txt")).write_bytes(b"latin")
    (twin / os.fsdecode(b"d\xff")).mkdir()


def nested_too_deeply(twin: Path) -> None:
    here = os.open(twin, os.O_RDONLY)
    for _ in range(140):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def a_folder_at_the_place_of_the_metadata(twin: Path) -> None:
    (twin / METADATA / "@eaDir").mkdir()
    (twin / METADATA / "@eaDir").chmod(0)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "more",
    [
        an_unreadable_folder,
        an_unreadable_file,
        of_all_kinds,
        nested_too_deeply,
        a_folder_at_the_place_of_the_metadata,
    ],
)
@pytest.mark.parametrize("level", ["checksum", "size"])
def test_more_on_the_nas_is_no_matter(
    lab: Lab,
    root: Any,
    now: datetime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    policy: Callable[..., Any],
    more: Callable[[Path], None],
    level: str,
) -> None:
    policy(proof=level)
    twin = lab.twin()
    scene = set_scene(lab, root, now)
    more(twin)
    try:
        with as_an_ordinary_account(monkeypatch, tmp_path):
            attempt = protocol.perform(scene.attempt(), now=now)
    finally:
        for path in twin.rglob("*"):
            if not stat.S_IMODE(path.lstat().st_mode):
                path.chmod(0o700)
    assert (attempt.phase, attempt.reason, attempt.detail) == (Phase.DONE, "", "")


def as_an_ordinary_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Read the NAS in a process without root's rights, which modes bind."""
    if not is_root():
        return nullcontext()
    if shutil.which("setpriv") is None:
        means.skip_or_fail(means.Unavailable("setpriv is not installed (Debian: util-linux)"))
    return means.reading_through(
        monkeypatch, tmp_path, "setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"
    )


@pytest.mark.django_db(transaction=True)
def test_a_folder_with_a_file_of_the_run_that_cannot_be_read_is_an_error(
    lab: Lab, root: Any, now: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = set_scene(lab, root, now)
    (scene.twin / "tiles").chmod(0)
    try:
        with as_an_ordinary_account(monkeypatch, tmp_path):
            attempt = protocol.perform(scene.attempt(), now=now)
    finally:
        (scene.twin / "tiles").chmod(0o755)
    assert (attempt.reason, attempt.detail) == (Reason.NAS_IO_ERROR, "tiles: Permission denied")
    assert scene.path.is_dir()


@pytest.mark.django_db(transaction=True)
def test_what_is_more_is_never_read(lab: Lab, root: Any, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = set_scene(lab, root, now)
    (scene.twin / "tiles/more.tif").write_bytes(b"more")
    read: list[bytes] = []
    real = hashing.hash_file

    def noted(directory: int, path: bytes, **how: Any) -> Any:
        read.append(path)
        return real(directory, path, **how)

    monkeypatch.setattr(hashing, "hash_file", noted)
    with means.reading_here(monkeypatch):
        attempt = protocol.perform(scene.attempt(), now=now)
    assert attempt.phase == Phase.DONE
    assert b"tiles/t_0001.tif" in read
    assert not [path for path in read if b"more.tif" in path]
    assert stored_facts.facts_of(scene.run).twin is not None


@pytest.mark.django_db(transaction=True)
def test_a_share_that_is_mounted_below_the_nas_root_is_named_and_what_is_said_of_it_works(
    lab: Lab, now: datetime, enter: Enter
) -> None:
    """One share for each instrument, mounted below the NAS root: the page's advice is typed, and the run goes."""
    path = lab.run()
    (lab.nas / "CONFOCAL_01").rename(lab.base / "copies")
    (lab.nas / "CONFOCAL_01").mkdir()
    enter(means.tiny_disk(lab.nas / "CONFOCAL_01", "64m"))
    shutil.copytree(lab.base / "copies", lab.nas / "CONFOCAL_01", dirs_exist_ok=True)
    call_command("add_staging_root", "lab", lab.staging, "--nas-root", lab.nas, "--allow-same-filesystem")
    call_command("discover")
    run = Run.objects.with_root().get()
    decision = inspection.quick_decision(run, Policy(), now)
    found = decision.gate(Gate.PROOF)
    assert found.reason == Reason.NAS_MOUNT_BELOW
    assert found.detail.startswith("another filesystem is mounted at CONFOCAL_01: register it (")
    words = found.detail.partition("(")[2].removesuffix(")").split()
    call_command(*words)
    assert (lab.nas / "CONFOCAL_01/.exlab-root").is_file()
    call_command("clear", run.run_path)
    assert not path.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("place", ["CONFOCAL_01/PROJ-0042", "tiles"])
def test_any_other_mount_is_named_as_what_it_is(lab: Lab, root: Any, now: datetime, enter: Enter, place: str) -> None:
    scene = set_scene(lab, root, now)
    enter(means.tiny_disk(scene.twin / place if place == "tiles" else lab.nas / place))
    attempt = protocol.perform(scene.attempt(), now=now)
    assert attempt.reason == Reason.NAS_MOUNT_BELOW
    assert f"another filesystem is mounted at {place}" in attempt.detail
    scene.run.refresh_from_db()
    assert scene.path.is_dir()
