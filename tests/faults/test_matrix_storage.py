"""The fault matrix: full disks, failing disks, lost plans, and a database that fails at the worst moment."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError, connection, transaction

from cleanup.clears import last_checks, preparation, protocol, recovery, settlement
from cleanup.lab import policy_versions
from cleanup.lab.roots import registration
from cleanup.ledger import entries
from cleanup.models import ClearAttempt, Run
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.storage import linux
from cleanup.storage.data_directory.datadir import DataDir
from cleanup.storage.staging import fences
from tests.faults import children, means
from tests.faults.cases import (
    RECORD,
    TILE,
    Answer,
    Case,
    Stage,
    clears,
    click,
    matrix,
    page,
    puts_back,
    timed,
)
from tests.faults.scene import inodes, scene_of, states_on_disk
from tests.tools.checkout import CHECKOUT
from tests.tools.lab import RUN_PATH, Lab, census

pytestmark = pytest.mark.one_engine


CLEARING = "cleanup.clears.protocol"
FENCES, REMOVAL = "cleanup.storage.staging.fences", "cleanup.storage.staging.removal"
NO_SPACE = OSError(errno.ENOSPC, "No space left on device")
BROKEN = OSError(errno.EIO, "Input/output error")


def failing(owner: Any, name: str, error: BaseException) -> Callable[[Stage], Any]:
    return lambda stage: means.replaced(stage.monkeypatch, owner, name, means.failing(error))


# Full disks


@dataclass(frozen=True)
class TwoDisks(Lab):
    @property
    def staging(self) -> Path:
        return self.base / "disk" / "staging"


@contextmanager
def full_staging_disk(stage: Stage, *, reserve: bool) -> Iterator[None]:
    with means.tiny_disk(stage.lab.base / "disk"):
        lab = TwoDisks(stage.lab.base)
        path = lab.run(twin=False)
        root = registration.register("small", str(lab.staging), nas_path="", accept_empty=True, now=stage.now)
        type(root).objects.filter(pk=root.pk).update(nas_path=stage.root.nas_path, nas_token=stage.root.nas_token)
        root.refresh_from_db()
        # One twin is no proof for two runs, so the lab's other run of this path is of no concern any more.
        Run.objects.filter(root=stage.root, run_path=RUN_PATH).update(gone_at=stage.now)
        discovery.discover(root, now=stage.now)
        stage.scene = scene_of(lab, root, stage.now, RUN_PATH, path)
        if not reserve:
            (lab.staging / ".exlab-reserve").unlink()
        means.fill(lab.staging)
        yield


@contextmanager
def full_data_disk(stage: Stage, *, reserve: bool) -> Iterator[None]:
    place = stage.tmp_path / "data"
    with means.tiny_disk(place), means.replaced(stage.monkeypatch, settings, "EXLAB_DATA_DIR", place):
        for folder in ("locks", "plans", "tombstones"):
            (place / folder).mkdir(mode=0o700)
        if reserve:
            DataDir(str(place)).lay_reserve()
        means.fill(place)
        yield


@contextmanager
def read_only_data_directory(stage: Stage) -> Iterator[None]:
    place = stage.tmp_path / "data"
    place.mkdir(mode=0o700)
    with means.mounted("--bind", place, place), means.replaced(stage.monkeypatch, settings, "EXLAB_DATA_DIR", place):
        (place / "locks").mkdir()
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        yield


def fsync_failing_once(stage: Stage) -> Any:
    fsync, failed = os.fsync, []

    def fail_once(descriptor: int) -> None:
        if not failed:
            failed.append(descriptor)
            raise BROKEN
        fsync(descriptor)

    def arm() -> None:
        stage.monkeypatch.setattr(os, "fsync", fail_once)

    return means.after(stage.monkeypatch, DataDir, "write_plan", arm)


# The database


@contextmanager
def failing_commit(stage: Stage) -> Iterator[None]:
    """The last row of the commit cannot be written, as on a full disk."""
    original = entries.write_ledger

    def write(attempt: ClearAttempt, kind: str, *args: Any, **kwargs: Any) -> None:
        if kind == "authorised":
            raise OperationalError("the disk of the database is full")
        original(attempt, kind, *args, **kwargs)

    with means.replaced(stage.monkeypatch, entries, "write_ledger", write):
        yield


@contextmanager
def lost_answer(stage: Stage) -> Iterator[None]:
    """The commit is durable, then the connection breaks: the row decides, not the error."""
    atomic = transaction.atomic
    broken = []

    @contextmanager
    def atomic_that_breaks(*args: Any, **kwargs: Any) -> Iterator[None]:
        with atomic(*args, **kwargs):
            yield
        if broken or connection.in_atomic_block:  # what is nested is not durable yet
            return
        if stage.run.attempts.filter(phase="committed").exists():
            broken.append(True)
            raise OperationalError("server closed the connection unexpectedly")

    with means.replaced(stage.monkeypatch, transaction, "atomic", atomic_that_breaks):
        yield
    assert broken


@contextmanager
def changed_by_another_process(stage: Stage) -> Iterator[None]:
    """The run's row has changed when the commit comes; afterwards it is as before."""

    def interfere() -> None:
        Run.objects.filter(pk=stage.scene.run.pk).update(state="sync_queued")

    with means.after(stage.monkeypatch, preparation, "prepare", interfere):
        original = settlement.roll_back

        def roll_back(*args: Any, **how: Any) -> None:
            Run.objects.filter(pk=stage.scene.run.pk).update(state="sync_verified")
            original(*args, **how)

        with means.replaced(stage.monkeypatch, settlement, "roll_back", roll_back):
            yield


def away_for_good(stage: Stage) -> Answer:
    """Neither the commit nor the look at it afterwards reaches the database: recovery decides later."""
    gone = means.failing(OperationalError("no connection"))
    with ExitStack() as stack:
        stack.enter_context(means.replaced(stage.monkeypatch, protocol, "_write_commit", gone))
        stack.enter_context(means.replaced(stage.monkeypatch, settlement, "settle_phase", gone))
        with pytest.raises(OperationalError):
            protocol.clear_run(Run.objects.with_root().filter(pk=stage.scene.run.pk)[0], now=stage.now)
    assert inodes(stage.fence) == stage.scene.inodes
    return recovered(stage)


@contextmanager
def volatile_database(stage: Stage) -> Iterator[None]:
    """A real database setting with which a commit may be lost."""
    sqlite = connection.vendor == "sqlite"
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous=OFF" if sqlite else "SET synchronous_commit = off")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA synchronous=FULL" if sqlite else "SET synchronous_commit = on")


# After a crash


def recovered(stage: Stage) -> Answer:
    settled = recovery.recover(now=stage.now)
    attempt = stage.run.attempts.get()
    for unsettled, finding in settled.unsettled:
        assert unsettled.pk == attempt.pk
        return Answer("unsettled", finding.reason, page(stage))
    return Answer(attempt.phase, attempt.reason, page(stage))


def crash(stage: Stage, place: str) -> ClearAttempt:
    attempt = stage.scene.attempt()
    children.kill_at(place, stage.env, "clear", stage.now, str(attempt.pk))
    return attempt


def crashed_at(place: str) -> Callable[[Stage], None]:
    return lambda stage: crash(stage, place) and None


def lose_the_plan(stage: Stage, content: bytes | None) -> None:
    plan = stage.data / "plans" / crash(stage, f"{FENCES}:publish:after:1").pk.hex
    if content is None:
        plan.unlink()
    else:
        plan.write_bytes(content)


def hide_the_prepared_record(stage: Stage) -> None:
    crash(stage, f"{CLEARING}:_commit:after:1")
    (prepared,) = stage.parent.glob(".exlab-clearing-*.ingest.json")
    prepared.rename(stage.outside / "lost")


def swap_the_fence(stage: Stage) -> None:
    crash(stage, f"{CLEARING}:_commit:after:1")
    fence = stage.fence
    fence.rename(stage.outside / "hidden")
    shutil.copytree(stage.outside / "hidden", fence)


def unplug(stage: Stage) -> None:
    crash(stage, f"{CLEARING}:_commit:after:1")
    stage.lab.staging.rename(stage.lab.base / "unplugged")


def nothing_more_is_removed(stage: Stage) -> None:
    """The clear is recorded and cannot be completed: what is there stays, and no byte is claimed."""
    before = stage.disk()
    recovery.recover(now=stage.now + timedelta(hours=1))
    assert stage.disk() == before
    assert (stage.run.state, stage.scene.kinds()) == ("cleared", ["authorised"])
    stage.scene.assert_freed(0, 0)


def rolled_back(stage: Stage) -> None:
    stage.scene.assert_whole()
    stage.assert_unchanged(fenced=True, without_the_run=True)
    assert stage.scene.kinds() == ["aborted"]


# The run's path is taken


@contextmanager
def occupied(stage: Stage) -> Iterator[None]:
    def occupy() -> None:
        stage.path.mkdir()
        (stage.path / "new.tif").write_bytes(b"new work")
        (stage.fence / "late").touch()

    with means.after(stage.monkeypatch, fences, "fence", occupy):
        yield


def click_and_recover(stage: Stage) -> Answer:
    assert click(stage).action == "failed"
    return recovered(stage)


def both_are_kept(stage: Stage) -> None:
    assert stage.scene.inodes.items() <= inodes(stage.fence).items()
    assert (stage.path / "new.tif").read_bytes() == b"new work"
    assert stage.scene.kinds() == ["conflict"]
    assert (stage.run.state, stage.scene.states()[-1]) == ("sync_verified", "sync_verified")
    recovery.recover(now=stage.now + timedelta(hours=1))
    assert stage.scene.inodes.items() <= inodes(stage.fence).items()


# What cannot be removed


def arrives_late(stage: Stage) -> Any:
    def arrive() -> None:
        (stage.fence / "tiles/late.tif").write_bytes(b"late")
        means.change_keeping_size_and_time(stage.fence / TILE)

    return means.after(stage.monkeypatch, fences, "publish", arrive)


def what_is_not_in_the_plan_stays(stage: Stage) -> None:
    scene, fence = stage.scene, stage.fence
    assert sorted(str(path.relative_to(fence)) for path in fence.rglob("*") if path.is_file()) == [
        RECORD,
        "tiles/late.tif",
        TILE,
    ]
    assert states_on_disk(fence)[-1] == "cleared"
    attempt = stage.run.attempts.get()
    assert (attempt.phase, attempt.detail[: attempt.detail.index("(")]) == ("done", f"2 of {scene.files} files left ")
    assert scene.kinds() == ["authorised", "partial"]
    freed = scene.files - 2, scene.bytes - scene.entries[TILE].size - scene.entries[RECORD].size
    scene.assert_freed(*freed)
    stage.assert_unchanged(without_the_run=True)
    recovery.recover(now=stage.now + timedelta(hours=1))
    assert census(fence)[0] == 3
    assert scene.kinds() == ["authorised", "partial"]


@contextmanager
def stubborn(stage: Stage) -> Iterator[None]:
    """After the commit a folder becomes immutable: the kernel refuses every removal in it."""
    means.need_root("may set file attributes")
    folder = stage.path / "tiles"
    if not (means.set_flag(folder, "+i") and means.set_flag(folder, "-i")):
        raise means.Unavailable("this filesystem knows no immutable files")
    try:
        with means.after(stage.monkeypatch, fences, "publish", lambda: means.set_flag(stage.fence / "tiles", "+i")):
            yield
    finally:
        for place in stage.parent.glob("*/tiles"):
            means.set_flag(place, "-i")


def what_cannot_go_is_counted(stage: Stage) -> None:
    scene, fence = stage.scene, stage.fence
    left = census(fence / "tiles")
    scene.assert_freed(scene.files - left[0] - 1, scene.bytes - left[1] - scene.entries[RECORD].size)
    assert "tiles: EPERM" in stage.run.attempts.get().detail
    assert means.set_flag(fence / "tiles", "-i")
    recovery.recover(now=stage.now)
    scene.assert_cleared()
    assert scene.kinds() == ["authorised", "partial", "completed"]


# Failures that come again


def fail_three_times(stage: Stage) -> None:
    with failing(DataDir, "write_plan", NO_SPACE)(stage):
        for _ in range(3):
            assert click(stage).reason == Reason.STORAGE_ERROR


def parked(stage: Stage) -> None:
    stage.assert_unchanged()
    assert stage.scene.kinds() == ["refused"] * 3
    assert click(stage).action == "cleared"
    assert not stage.path.exists()


def sweep_scheduled(stage: Stage) -> Answer:

    scope = {"equipment": "CONFOCAL_01", "project": "PROJ-0042"}
    policy_versions.add_version(author="admin", now=stage.now, mode="scheduled", retain_hours=0, **scope)
    stage.note()
    return timed(stage)


def without_openat2(stage: Stage) -> Answer:
    """A kernel before 5.6 lacks the call that keeps a clear on its way. The run is a separate process."""
    strace = shutil.which("strace")
    if strace is None:
        raise means.Unavailable("strace is not installed, which makes a call of the kernel fail")
    attempt = stage.scene.attempt()
    command = [strace, "-qq", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "inject=openat2:error=ENOSYS"]
    child = [sys.executable, "-m", "tests.faults.child", "clear", stage.now.isoformat(), str(attempt.pk)]
    done = subprocess.run(
        [*command, *child], env=stage.env, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout) == ["refused", 0, 0]
    attempt.refresh_from_db()
    return Answer("refused", attempt.reason, page(stage))


CASES = {
    # full disks
    "a full staging disk": clears(lambda s: full_staging_disk(s, reserve=True), by_hand=True),
    "a full staging disk without its reserve": puts_back(
        Reason.STORAGE_ERROR, lambda s: full_staging_disk(s, reserve=False), by_hand=True
    ),
    "a full data disk": clears(lambda s: full_data_disk(s, reserve=True), by_hand=True),
    "a full data disk without its reserve": Case(Reason.STORAGE_ERROR, lambda s: full_data_disk(s, reserve=False)),
    # failing disks
    "the plan cannot be written": Case(Reason.STORAGE_ERROR, failing(DataDir, "write_plan", BROKEN), swept=True),
    "the fence cannot be made": puts_back(Reason.STORAGE_ERROR, failing(fences, "fence", BROKEN)),
    "the fence cannot be made durable": puts_back(Reason.STORAGE_ERROR, fsync_failing_once, by_hand=True),
    "the data directory is read-only": Case(
        Reason.STORAGE_ERROR,
        read_only_data_directory,
        act=click,
    ),
    "the name of the fence is taken": puts_back(
        Reason.STORAGE_ERROR, failing(fences, "fence", FileExistsError(errno.EEXIST, "File exists"))
    ),
    "the record cannot be prepared": puts_back(Reason.STORAGE_ERROR, failing(fences, "prepare_record", BROKEN)),
    "the tombstone cannot be written": puts_back(Reason.STORAGE_ERROR, failing(DataDir, "write_tombstone", NO_SPACE)),
    "the fenced run cannot be read": puts_back(Reason.STORAGE_ERROR, failing(last_checks, "expect_planned", BROKEN)),
    # the database
    "the commit fails": puts_back(Reason.DATABASE_ERROR, failing_commit, alone=True, swept=True),
    "another process changes the run": puts_back(Reason.DATABASE_ERROR, changed_by_another_process, alone=True),
    "the answer to the commit is lost": clears(lost_answer, alone=True, by_hand=True),
    "the database stays away": Case(
        Reason.INTERRUPTED, action="aborted", then=rolled_back, act=away_for_good, alone=True
    ),
    "the database may forget": Case(Reason.DATABASE_NOT_DURABLE, volatile_database, alone=True, swept=True),
    # the host
    "a kernel without openat2": Case(
        Reason.CLEARING_UNSUPPORTED,
        act=without_openat2,
        alone=True,
    ),
    "a filesystem that cannot rename without replacing": puts_back(
        Reason.CLEARING_UNSUPPORTED, failing(fences, "fence", OSError(errno.EINVAL, "Invalid argument"))
    ),
    "a C library without renameat2": Case(
        Reason.CLEARING_UNSUPPORTED,
        lambda s: means.replaced(s.monkeypatch, linux, "missing_calls", lambda: ["renameat2"]),
    ),
    # killed on the way
    "killed before the commit": Case(
        Reason.INTERRUPTED,
        crashed_at(f"{CLEARING}:_commit:before:1"),
        "aborted",
        rolled_back,
        act=recovered,
        alone=True,
    ),
    "killed, and the plan gone": Case(
        Reason.PLAN_MISSING,
        lambda s: lose_the_plan(s, None),
        "unsettled",
        nothing_more_is_removed,
        act=recovered,
        alone=True,
    ),
    "killed, and the plan another": Case(
        Reason.PLAN_MISSING,
        lambda s: lose_the_plan(s, b"{}\n"),
        "unsettled",
        nothing_more_is_removed,
        act=recovered,
        alone=True,
    ),
    "killed, and the prepared record gone": Case(
        Reason.INGEST_DISAGREES,
        hide_the_prepared_record,
        "unsettled",
        nothing_more_is_removed,
        act=recovered,
        alone=True,
    ),
    "killed, and another directory at the fence": Case(
        Reason.IDENTITY_MISMATCH, swap_the_fence, "unsettled", nothing_more_is_removed, act=recovered, alone=True
    ),
    "killed, and the disk unplugged": Case(
        Reason.ROOT_NOT_MOUNTED, unplug, "unsettled", nothing_more_is_removed, act=recovered, alone=True
    ),
    # what stays
    "the run's path is taken": Case(Reason.PATH_OCCUPIED, occupied, "unsettled", both_are_kept, act=click_and_recover),
    "files come after the commit": Case(
        Reason.REMOVAL_INCOMPLETE, arrives_late, "partial", what_is_not_in_the_plan_stays, swept=True
    ),
    "a folder becomes immutable after the commit": Case(
        Reason.REMOVAL_INCOMPLETE, stubborn, "partial", what_cannot_go_is_counted
    ),
    # again and again
    "three failures in a row": Case(Reason.PARKED, fail_three_times, "skipped", parked, act=sweep_scheduled),
}


RARE = {
    "a kernel without openat2",
    "three failures in a row",
    "killed, and the plan another",
    "killed, and the disk unplugged",
    "the name of the fence is taken",
    "killed, and another directory at the fence",
    "killed, and the prepared record gone",
}


@matrix("storage", CASES, rare=RARE)
def test_storage(play: Callable[..., None], case: Case, asker: str) -> None:
    play(case, asker)
