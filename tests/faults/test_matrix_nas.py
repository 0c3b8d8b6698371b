"""The fault matrix: what the NAS must show before a byte may go, and what counts as no answer."""

import glob
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cleanup.lab import policy_versions
from cleanup.lab.nas.shared_twins import note_places
from cleanup.models import AcceptedBytes, Run, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.runs.proofs import verify_again
from cleanup.storage.root_files import markers
from cleanup.storage.staging import fences
from tests.faults import means, mounts
from tests.faults.cases import (
    ELSEWHERE,
    MANIFEST,
    OTHER_TOKEN,
    RECORD,
    TILE,
    Answer,
    Case,
    Stage,
    clears,
    click,
    discover,
    matrix,
    puts_back,
    timed,
)
from tests.faults.means import change_keeping_size_and_time, rename_aside
from tests.tools.lab import touch

pytestmark = pytest.mark.one_engine


TOKEN = ".exlab-root"
MARKER = ".exlab-staging-11111111-2222-4333-8444-555555555555"


def set_root(stage: Stage, **fields: Any) -> None:
    StagingRoot.objects.filter(pk=stage.root.pk).update(**fields)


def link_the_twin(stage: Stage) -> None:
    (stage.twin / TILE).unlink()
    os.link(stage.path / TILE, stage.twin / TILE)


def swap_for_an_empty_directory(stage: Stage) -> None:
    stage.lab.nas.rename(stage.lab.base / "the disk that is not mounted")
    stage.lab.nas.mkdir()


def other_bytes_and_newer(stage: Stage) -> None:
    change_keeping_size_and_time(stage.path / TILE)
    touch(stage.path / TILE, stage.now - timedelta(hours=1))


@contextmanager
def staging_under_another_name(stage: Stage) -> Iterator[None]:
    """The NAS root is a bind mount of the staging root: the run would prove itself."""
    shutil.rmtree(stage.lab.nas)
    stage.lab.nas.mkdir()
    set_root(stage, nas_token=stage.root.token)
    with means.mounted("--bind", stage.lab.staging, stage.lab.nas):
        yield


def twin_under_the_run(stage: Stage) -> Any:
    """Only the twin is a bind mount of the run: a mount below the NAS root is not entered."""
    return means.mounted("--bind", stage.path, stage.twin)


def another_run_with_the_same_leaf(stage: Stage) -> None:
    set_root(stage, nas_layout="leaf")
    stage.twin.rename(stage.lab.nas / stage.twin.name)
    place = {"root": stage.root, "equipment": "FLOW_01", "project": "PROJ-0060", "run_kind": "experimental"}
    run_path = f"FLOW_01/PROJ-0060/Runs/{stage.twin.name}"
    Run.objects.create(**place, run_path=run_path, leaf=stage.twin.name, state="cleared", first_seen_at=stage.now)
    note_places(StagingRoot.objects.get(pk=stage.root.pk))


def twin_of_another_run(stage: Stage) -> None:
    set_root(stage, nas_layout="leaf")
    record = stage.twin / RECORD
    record.write_text(record.read_text().replace("PROJ-0042", "PROJ-0043"))
    stage.twin.rename(stage.lab.nas / stage.twin.name)


def blocking_what_is_only_here(stage: Stage) -> Answer:
    """A pass of the schedule under a policy that blocks metadata which the NAS lacks."""
    policy_versions.add_version(
        author="admin", now=stage.now, equipment="CONFOCAL_01", mode="scheduled", retain_hours=24, only_here="block"
    )
    stage.note()
    return replace(timed(stage), shown="")  # the page speaks of what was seen before


@contextmanager
def union_as_nas(stage: Stage, *more: Path) -> Iterator[None]:
    far = stage.lab.base / "what the union shows"
    stage.lab.nas.rename(far)
    stage.lab.nas.mkdir()
    with mounts.overlay(stage.lab.nas, far, *(more or [stage.outside])):
        yield


def accepted_union(stage: Stage) -> Any:
    set_root(stage, allow_union_nas=True)
    return union_as_nas(stage)


def union_with_the_staging_disk(stage: Stage) -> Any:
    """Every flag is set, and yet the twin may be the run itself."""
    set_root(stage, allow_union_nas=True, nas_writes_through=True)
    return union_as_nas(stage, stage.lab.staging)


def click_before_a_union(stage: Stage) -> Answer:
    """The union exists only between the fence and the commit, and is gone at the next look."""
    with (
        ExitStack() as stack,
        means.after(
            stage.monkeypatch,
            fences,
            "prepare_record",
            lambda: stack.enter_context(mounts.overlay(stage.lab.nas, stage.lab.nas, stage.outside)),
        ),
    ):
        return click(stage)


def note(stage: Stage, marker: Path) -> None:
    marker.touch()
    stage.note_the_disk()


def marker_that_does_not_stay(stage: Stage) -> Any:
    """The staging disk loses the marker at once: planted, because only a faulty cache does that."""
    (stage.lab.staging / f".exlab-staging-{stage.root.token}").unlink()
    return means.replaced(stage.monkeypatch, markers, "lay_marker", lambda directory, name: None)


def marker_that_is_not_listed(stage: Stage) -> Any:
    return means.replaced(stage.monkeypatch, markers, "names_in", lambda directory: [])


def a_marker_without_an_id(stage: Stage) -> Answer:
    """Said once for all runs, and no obstacle."""
    (stage.twin / ".exlab-staging-notes").touch()
    (stage.lab.nas / ".exlab-staging-").touch()
    told = [problem for problem in discover(stage).problems if problem[1] is Reason.MARKER_MALFORMED]
    assert told == [("", Reason.MARKER_MALFORMED, name) for name in (".exlab-staging-", ".exlab-staging-notes")]
    return Answer("reported", told[0][1], told[0][1].sentence)


def told_and_cleared(stage: Stage) -> None:
    assert click(stage).action == "cleared"


@contextmanager
def accepted_on_two_disks(stage: Stage, **forged: str) -> Iterator[None]:
    far = stage.tmp_path / "far"
    with means.tiny_disk(far, "16m"):
        subprocess.run(["cp", "-a", f"{stage.lab.nas}/.", far], check=True)
        with means.mounted("--bind", far, stage.lab.nas):
            set_root(stage, allow_same_filesystem=False)
            (stage.path / MANIFEST).unlink()
            check = verify_again.request(stage.run, actor="eve", now=stage.now)
            verify_again.perform(check, now=stage.now)
            verify_again.accept(check, actor="eve", note="compared by hand", now=stage.now)
            AcceptedBytes.objects.update(**forged)
            discover(stage)
            yield


def timed_by_a_schedule(stage: Stage) -> Answer:
    policy_versions.add_version(
        author="admin",
        now=stage.now,
        mode="scheduled",
        retain_hours=0,
        equipment="CONFOCAL_01",
        project="PROJ-0042",
        stage="off",
    )
    stage.note()
    return timed(stage)


def failing_at(path: Callable[[Stage], Path], calls: str, fault: str) -> Callable[[Stage], Any]:
    return lambda stage: means.nas_failing(stage.monkeypatch, stage.tmp_path, path(stage), calls, fault)


def nas_root(stage: Stage) -> Path:
    return stage.lab.nas


def twin(stage: Stage) -> Path:
    return stage.twin


def tile(stage: Stage) -> Path:
    return stage.twin / TILE


@contextmanager
def silent(stage: Stage, *wrapper: str) -> Iterator[None]:
    """The reader process hangs, as on a dead mount; it dies when the clear gives it up."""
    with ExitStack() as stack:
        stack.enter_context(means.reading_through(stage.monkeypatch, stage.tmp_path, *wrapper))
        stack.enter_context(means.impatient(stage.monkeypatch, 0.3))
        yield


def stopped(stage: Stage) -> Any:
    return silent(stage, "/bin/sh", "-c", "kill -STOP $$")


@contextmanager
def slow_file(stage: Stage) -> Iterator[None]:
    with ExitStack() as stack:
        hang = failing_at(tile, "read", "delay_enter=20000000:when=1")
        stack.enter_context(hang(stage))
        stack.enter_context(means.impatient(stage.monkeypatch, 1.5))
        yield


def dying(stage: Stage) -> Any:
    return means.reading_through(stage.monkeypatch, stage.tmp_path, "/bin/sh", "-c", "kill -KILL $$")


def opened_files() -> Iterator[str]:
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        with suppress(OSError):
            yield os.readlink(link)


@contextmanager
def rewritten_while_it_is_read(stage: Stage) -> Iterator[None]:
    gone = threading.Event()

    def rewrite() -> None:
        while not gone.wait(0.01):
            if str(tile(stage)) in opened_files():
                tile(stage).write_bytes(tile(stage).read_bytes())
                stage.note_the_disk()
                return

    writer = threading.Thread(target=rewrite)
    with failing_at(tile, "read", "delay_exit=2000000:when=1")(stage):
        writer.start()
        try:
            yield
        finally:
            gone.set()
            writer.join()


CASES = {
    # which NAS
    "no nas": Case(Reason.NAS_NOT_CONFIGURED, lambda s: set_root(s, nas_path="", nas_token=""), swept=True),
    "nas token missing": Case(Reason.NAS_NOT_MOUNTED, lambda s: rename_aside(s.lab.nas / TOKEN), swept=True),
    "nas token missing, at size": Case(Reason.NAS_NOT_MOUNTED, lambda s: rename_aside(s.lab.nas / TOKEN), level="size"),
    "nas token never laid": Case(Reason.NAS_NOT_MOUNTED, lambda s: set_root(s, nas_token="")),
    "nas is an empty directory": Case(Reason.NAS_NOT_MOUNTED, swap_for_an_empty_directory),
    "nas is gone": Case(Reason.NAS_NOT_MOUNTED, lambda s: rename_aside(s.lab.nas)),
    "another nas": Case(Reason.NAS_IDENTITY_MISMATCH, lambda s: (s.lab.nas / TOKEN).write_text(OTHER_TOKEN)),
    "nas token without an id": Case(Reason.NAS_IDENTITY_MISMATCH, lambda s: (s.lab.nas / TOKEN).write_text("?")),
    "nas is a link": Case(Reason.NAS_IO_ERROR, lambda s: s.lab.nas.symlink_to(rename_aside(s.lab.nas).name)),
    "same filesystem": Case(Reason.NAS_SAME_FILESYSTEM, lambda s: set_root(s, allow_same_filesystem=False)),
    "nas is a union": Case(Reason.NAS_MOUNT_NOT_ACCEPTED, union_as_nas, swept=True),
    "nas is a union, at size": Case(Reason.NAS_MOUNT_NOT_ACCEPTED, union_as_nas, level="size"),
    "nas is a union since a moment ago": puts_back(
        Reason.NAS_MOUNT_NOT_ACCEPTED, lambda s: None, act=click_before_a_union
    ),
    "nas is a union with the staging disk": Case(Reason.NAS_IS_STAGING, union_with_the_staging_disk),
    "nas is the staging disk under another name": Case(Reason.NAS_IS_STAGING, staging_under_another_name),
    "a staging marker at its top": Case(Reason.NAS_IS_STAGING, lambda s: (s.lab.nas / MARKER).touch(), swept=True),
    "a staging marker on the way": Case(Reason.NAS_IS_STAGING, lambda s: (s.twin.parents[2] / MARKER).touch()),
    "a staging marker above it": Case(Reason.NAS_IS_STAGING, lambda s: (s.lab.base / MARKER).touch()),
    "a staging marker in the twin": Case(Reason.NAS_IS_STAGING, lambda s: (s.twin / "tiles" / MARKER).touch()),
    "a staging marker in the twin's metadata": Case(
        Reason.NAS_IS_STAGING, lambda s: (s.twin / ".exlab-wizard" / MARKER).touch()
    ),
    "a staging marker, at size": Case(Reason.NAS_IS_STAGING, lambda s: (s.twin / MARKER).touch(), level="size"),
    "a staging marker that came during the clear": puts_back(
        Reason.NAS_IS_STAGING,
        lambda s: means.after(s.monkeypatch, fences, "fence", lambda: note(s, s.lab.nas / MARKER)),
    ),
    "the nas's marker on staging": Case(
        Reason.NAS_IS_STAGING, lambda s: (s.path.parents[1] / f".exlab-nas-{s.root.nas_token}").touch()
    ),
    "the nas's token on staging": Case(
        Reason.NAS_IS_STAGING, lambda s: (s.path.parents[2] / TOKEN).write_text(s.root.nas_token)
    ),
    "a marker that is not seen on staging": Case(Reason.MARKER_NOT_SEEN, marker_that_does_not_stay),
    "a marker that is not listed on staging": Case(Reason.MARKER_NOT_SEEN, marker_that_is_not_listed),
    "a marker without an id": Case(
        Reason.MARKER_MALFORMED, action="reported", then=told_and_cleared, act=a_marker_without_an_id
    ),
    "the twin is the run under another name": Case(Reason.NAS_MOUNT_BELOW, twin_under_the_run),
    "the twin of a file is the very same file": Case(Reason.NAS_SAME_FILESYSTEM, link_the_twin),
    "the twin of a file is the very same file, at size": Case(Reason.NAS_SAME_FILESYSTEM, link_the_twin, level="size"),
    # what an admin has accepted in place of the manifest
    "accepted bytes, and the schedule": Case(
        Reason.ACCEPTED_BYTES,
        accepted_on_two_disks,
        action="skipped",
        then=lambda s: s.assert_unchanged(),
        act=timed_by_a_schedule,
    ),
    "other bytes than those accepted": Case(
        Reason.ACCEPTANCE_VOID,
        lambda s: accepted_on_two_disks(s, digest="0" * 64),
        then=lambda s: s.assert_unchanged(),
        act=click,
    ),
    # what it holds
    "the run is missing": Case(Reason.NAS_MISSING_FILE, lambda s: rename_aside(s.twin)),
    "the run is a link": Case(Reason.NAS_IO_ERROR, lambda s: s.twin.symlink_to(rename_aside(s.twin).name)),
    "the run is a link back to staging": Case(
        Reason.NAS_IO_ERROR, lambda s: (rename_aside(s.twin), s.twin.symlink_to(s.path))
    ),
    "the run is a file": Case(Reason.NAS_IO_ERROR, lambda s: (rename_aside(s.twin), s.twin.write_bytes(b"?"))),
    "a file is missing": Case(Reason.NAS_MISSING_FILE, lambda s: (s.twin / TILE).unlink(), swept=True),
    "a file is missing, at size": Case(Reason.NAS_MISSING_FILE, lambda s: (s.twin / TILE).unlink(), level="size"),
    "all files are missing": Case(Reason.NAS_MISSING_FILE, lambda s: (shutil.rmtree(s.twin), s.twin.mkdir())),
    "a file has another case": Case(
        Reason.NAS_MISSING_FILE, lambda s: (s.twin / TILE).rename(s.twin / "tiles/T_0001.TIF")
    ),
    "a file is a link": Case(
        Reason.NAS_MISSING_FILE, lambda s: (s.twin / TILE).symlink_to(rename_aside(s.twin / TILE).name)
    ),
    "a file is a folder": Case(Reason.NAS_MISSING_FILE, lambda s: ((s.twin / TILE).unlink(), (s.twin / TILE).mkdir())),
    "a file is a fifo": Case(Reason.NAS_MISSING_FILE, lambda s: ((s.twin / TILE).unlink(), os.mkfifo(s.twin / TILE))),
    "a file is shorter": Case(Reason.NAS_SIZE_MISMATCH, lambda s: os.truncate(s.twin / TILE, 100), swept=True),
    "a file is shorter, at size": Case(
        Reason.NAS_SIZE_MISMATCH, lambda s: os.truncate(s.twin / TILE, 100), level="size"
    ),
    "a file is longer": Case(Reason.NAS_SIZE_MISMATCH, lambda s: os.truncate(s.twin / TILE, 1 << 20)),
    "a file is empty": Case(Reason.NAS_SIZE_MISMATCH, lambda s: os.truncate(s.twin / TILE, 0)),
    # its bytes
    "one bit on the nas": Case(
        Reason.NAS_CHECKSUM_MISMATCH, lambda s: change_keeping_size_and_time(s.twin / TILE), swept=True
    ),
    "one bit in staging": Case(Reason.NAS_CHECKSUM_MISMATCH, lambda s: change_keeping_size_and_time(s.path / TILE)),
    "the same bit on both": Case(
        Reason.NAS_CHECKSUM_MISMATCH,
        lambda s: (change_keeping_size_and_time(s.path / TILE), change_keeping_size_and_time(s.twin / TILE)),
    ),
    # Both gates block; that the bytes differ tells more than that the file is newer.
    "other bytes in a newer file": Case(Reason.NAS_CHECKSUM_MISMATCH, other_bytes_and_newer),
    "another checksum in the manifest": Case(
        Reason.NAS_CHECKSUM_MISMATCH,
        lambda s: (s.path / MANIFEST).write_bytes(b"0" * 64 + (s.path / MANIFEST).read_bytes()[64:]),
    ),
    # another layout
    "another run has the same twin": Case(Reason.AMBIGUOUS_TWIN, another_run_with_the_same_leaf, swept=True),
    "another run has the same twin, at record": Case(
        Reason.AMBIGUOUS_TWIN, another_run_with_the_same_leaf, level="record"
    ),
    "the twin names another run, at size": Case(Reason.TWIN_UNNAMED, twin_of_another_run, level="size"),
    "a share below the NAS root": Case(
        Reason.NAS_MOUNT_BELOW, lambda s: means.mounted("-t", "tmpfs", "tmpfs", s.lab.nas / "CONFOCAL_01")
    ),
    # no answer
    "input/output error on the root": Case(Reason.NAS_IO_ERROR, failing_at(nas_root, "openat", "error=EIO")),
    "stale handle on the root": Case(Reason.NAS_IO_ERROR, failing_at(nas_root, "openat", "error=ESTALE")),
    "not connected": Case(Reason.NAS_IO_ERROR, failing_at(nas_root, "openat", "error=ENOTCONN")),
    "no access to the root": Case(Reason.NAS_IO_ERROR, failing_at(nas_root, "openat", "error=EACCES")),
    "the host is down": Case(Reason.NAS_IO_ERROR, failing_at(nas_root, "openat", "error=EHOSTDOWN")),
    "stale handle on the token": Case(Reason.NAS_IO_ERROR, failing_at(nas_root, "openat2", "error=ESTALE:when=1")),
    # After the token and the four folders on the way, which are asked for markers.
    "no access to the run": Case(Reason.NAS_IO_ERROR, failing_at(nas_root, "openat2", "error=EACCES:when=6")),
    "stale handle while listing": Case(Reason.NAS_IO_ERROR, failing_at(twin, "getdents64", "error=ESTALE")),
    "input/output error on an entry": Case(Reason.NAS_IO_ERROR, failing_at(twin, "statx", "error=EIO")),
    "input/output error while reading": Case(Reason.NAS_IO_ERROR, failing_at(tile, "read", "error=EIO"), swept=True),
    "a file is written while it is read": Case(Reason.NAS_IO_ERROR, rewritten_while_it_is_read, by_hand=True),
    "the reading process dies": Case(Reason.NAS_IO_ERROR, dying),
    "the reading process is stopped": Case(Reason.NAS_TIMEOUT, stopped),
    # The second process, which asks for the NAS's own token, is answered.
    "one file of the twin is slow": Case(Reason.NAS_SLOW, slow_file),
    # what is no obstacle
    "a union that was accepted": clears(accepted_union),
    "an empty folder that the nas lacks": Case(
        Reason.ONLY_HERE, lambda s: (s.path / "tiles/empty").mkdir(), act=blocking_what_is_only_here, action="skipped"
    ),
    "more files on the nas": clears(lambda s: (s.twin / "tiles/more.tif").write_bytes(b"more")),
    "a link beside the files": clears(lambda s: (s.twin / "tiles/link").symlink_to("/")),
    "other times on the nas": clears(lambda s: touch(s.twin / TILE, s.now)),
    "no metadata on the nas": clears(lambda s: shutil.rmtree(s.twin / ".exlab-wizard")),
    "another bit on the nas, at size": clears(lambda s: change_keeping_size_and_time(s.twin / TILE), level="size"),
    "no nas at all, at record": clears(lambda s: shutil.rmtree(s.lab.nas), level="record"),
    "trouble on the nas elsewhere": clears(lambda s: shutil.rmtree(s.lab.twin(ELSEWHERE))),
}


RARE = {
    "a file is written while it is read",
    "one file of the twin is slow",
    "nas is a union, at size",
    "a staging marker in the twin's metadata",
    "a staging marker, at size",
    "nas is gone",
    "the run is a link",
    "stale handle while listing",
    "a file is a fifo",
    "nas token missing, at size",
    "nas token without an id",
    "the run is a file",
    "a file is missing, at size",
    "all files are missing",
    "a file is a folder",
    "a file is shorter, at size",
    "a file is longer",
    "a file is empty",
    "not connected",
    "stale handle on the root",
    "no access to the root",
    "the host is down",
    "no access to the run",
    "trouble on the nas elsewhere",
    "other times on the nas",
    "a link beside the files",
    "stale handle on the token",
}


@matrix("nas", CASES, rare=RARE)
def test_nas(play: Callable[..., None], case: Case, asker: str) -> None:
    play(case, asker, own_reader=True)
