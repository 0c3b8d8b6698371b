"""The fault matrix: what the NAS must show before a byte may go, and what counts as no answer at all."""

import glob
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from cleanup.models import StagingRoot
from cleanup.policy.reasons import Reason
from tests.faults import means
from tests.faults.cases import ELSEWHERE, MANIFEST, OTHER_TOKEN, TILE, Case, Stage, clears, matrix
from tests.faults.means import change_keeping_size_and_time, rename_aside
from tests.lab import touch

TOKEN = ".exlab-root"


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
    """Only the twin is a bind mount, of the run itself: a mount below the NAS root is not entered."""
    return means.mounted("--bind", stage.path, stage.twin)


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
    """The reading process hangs, as on a mount whose server is gone; it dies when the clear gives it up."""
    with ExitStack() as stack:
        stack.enter_context(means.reading_through(stage.monkeypatch, stage.tmp_path, *wrapper))
        stack.enter_context(means.impatient(stage.monkeypatch, 0.3))
        yield


def stopped(stage: Stage) -> Any:
    return silent(stage, "/bin/sh", "-c", "kill -STOP $$")


@contextmanager
def hanging_in_the_kernel(stage: Stage) -> Iterator[None]:
    with ExitStack() as stack:
        hang = failing_at(tile, "readv", "delay_enter=20000000:when=1")
        stack.enter_context(hang(stage))
        stack.enter_context(means.impatient(stage.monkeypatch, 0.6))
        yield


def dying(stage: Stage) -> Any:
    return means.reading_through(stage.monkeypatch, stage.tmp_path, "/bin/sh", "-c", "kill -KILL $$")


def opened_files() -> Iterator[str]:
    """What every process has open, as far as it can be seen."""
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        with suppress(OSError):
            yield os.readlink(link)


@contextmanager
def rewritten_while_it_is_read(stage: Stage) -> Iterator[None]:
    """Somebody writes the file on the NAS anew between its first byte and its last."""
    gone = threading.Event()

    def rewrite() -> None:
        while not gone.wait(0.01):
            if str(tile(stage)) in opened_files():
                tile(stage).write_bytes(tile(stage).read_bytes())
                stage.note_the_disk()
                return

    writer = threading.Thread(target=rewrite)
    with failing_at(tile, "readv", "delay_exit=2000000:when=1")(stage):
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
    "nas is the staging disk under another name": Case(Reason.NAS_SAME_FILESYSTEM, staging_under_another_name),
    "the twin is the run under another name": Case(Reason.NAS_IO_ERROR, twin_under_the_run),
    "the twin of a file is the very same file": Case(Reason.NAS_SAME_FILESYSTEM, link_the_twin),
    "the twin of a file is the very same file, at size": Case(Reason.NAS_SAME_FILESYSTEM, link_the_twin, level="size"),
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
    # no answer
    "input/output error on the root": Case(Reason.NAS_IO_ERROR, failing_at(nas_root, "openat", "error=EIO")),
    "stale handle on the root": Case(Reason.NAS_IO_ERROR, failing_at(nas_root, "openat", "error=ESTALE")),
    "not connected": Case(Reason.NAS_IO_ERROR, failing_at(nas_root, "openat", "error=ENOTCONN")),
    "no access to the root": Case(Reason.NAS_IO_ERROR, failing_at(nas_root, "openat", "error=EACCES")),
    "the host is down": Case(Reason.NAS_IO_ERROR, failing_at(nas_root, "openat", "error=EHOSTDOWN")),
    "stale handle on the token": Case(Reason.NAS_IO_ERROR, failing_at(nas_root, "openat2", "error=ESTALE:when=1")),
    "no access to the run": Case(Reason.NAS_IO_ERROR, failing_at(nas_root, "openat2", "error=EACCES:when=2")),
    "stale handle while listing": Case(Reason.NAS_IO_ERROR, failing_at(twin, "getdents64", "error=ESTALE")),
    "input/output error on an entry": Case(Reason.NAS_IO_ERROR, failing_at(twin, "statx", "error=EIO")),
    "input/output error while reading": Case(Reason.NAS_IO_ERROR, failing_at(tile, "readv", "error=EIO"), swept=True),
    "a file is written while it is read": Case(Reason.NAS_IO_ERROR, rewritten_while_it_is_read, by_hand=True),
    "the reading process dies": Case(Reason.NAS_IO_ERROR, dying),
    "the reading process is stopped": Case(Reason.NAS_TIMEOUT, stopped),
    "the mount hangs while reading": Case(Reason.NAS_TIMEOUT, hanging_in_the_kernel),
    # what is no obstacle
    "more files on the nas": clears(lambda s: (s.twin / "tiles/more.tif").write_bytes(b"more")),
    "a link beside the files": clears(lambda s: (s.twin / "tiles/link").symlink_to("/")),
    "other times on the nas": clears(lambda s: touch(s.twin / TILE, s.now)),
    "no metadata on the nas": clears(lambda s: shutil.rmtree(s.twin / ".exlab-wizard")),
    "another bit on the nas, at size": clears(lambda s: change_keeping_size_and_time(s.twin / TILE), level="size"),
    "no nas at all, at record": clears(lambda s: shutil.rmtree(s.lab.nas), level="record"),
    "trouble on the nas elsewhere": clears(lambda s: shutil.rmtree(s.lab.twin(ELSEWHERE))),
}


RARE = {
    "nas is gone",
    "the run is a link",
    "stale handle while listing",
    "the mount hangs while reading",
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
