"""The fault matrix: programs that still write, and changes between the look at a run and its end."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cleanup.clears import protocol
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.holds import holds
from cleanup.storage.data_directory.datadir import DataDir
from cleanup.storage.staging import fences
from tests.faults import means
from tests.faults.cases import (
    MANIFEST,
    OTHER_TOKEN,
    RECORD,
    TILE,
    VERIFIED_AT,
    Case,
    Stage,
    cleared,
    clears,
    matrix,
    puts_back,
)
from tests.faults.means import change_keeping_size_and_time
from tests.tools.lab import METADATA, touch

pytestmark = pytest.mark.one_engine


LOCK = f"{METADATA}/ingest.json.lock"
OLD = VERIFIED_AT - timedelta(hours=1)


def add_old_file(stage: Stage, name: str) -> None:
    (stage.path / name).parent.mkdir(exist_ok=True)
    (stage.path / name).write_bytes(b"more")
    touch(stage.path / name, OLD)


def set_time(stage: Stage, **before: int) -> None:
    touch(stage.path / TILE, stage.now - timedelta(**before))


def grow(stage: Stage) -> None:
    with (stage.path / TILE).open("ab") as file:
        file.write(b"more")
    touch(stage.path / TILE, OLD)


def swap_two_files(stage: Stage) -> None:
    one, other = stage.path / TILE, stage.path / "tiles/t_0002.tif"
    times = one.stat().st_mtime_ns, other.stat().st_mtime_ns
    aside = one.rename(stage.path / "aside")
    other.rename(one)
    aside.rename(other)
    os.utime(one, ns=(times[0], times[0]))
    os.utime(other, ns=(times[1], times[1]))


def swap_the_manifest(stage: Stage, content: bytes) -> None:
    (stage.path / MANIFEST).write_bytes(content)


def lock_is_a_link(stage: Stage) -> None:
    (stage.path / LOCK).unlink()
    (stage.path / LOCK).symlink_to(stage.outside / "canary")


def writer_through_a_link(stage: Stage) -> Any:
    """A program outside writes the file under another name: its bytes are no longer those on the NAS."""
    os.link(stage.path / TILE, stage.outside / f"{stage.path.name}.tif")
    return means.opened_elsewhere(stage.outside / f"{stage.path.name}.tif", "a")


def mapped_elsewhere(stage: Stage) -> "Any":
    """A program mapped a file for writing, closed its descriptor, and writes when told to."""
    return means.running(
        "import ctypes, os, sys\n"
        f"file = os.open({str(stage.path / TILE)!r}, os.O_RDWR)\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.mmap.restype = ctypes.c_void_p\n"
        "place = libc.mmap(None, ctypes.c_size_t(4096), 3, 1, file, ctypes.c_long(0))\n"
        "os.close(file)\n"
        "print('mapped', flush=True)\n"
        "for line in sys.stdin:\n"
        "    if line.strip() != 'write':\n"
        "        break\n"
        "    ctypes.cast(place, ctypes.POINTER(ctypes.c_char))[0] = b'!'\n"
        "    print('written', flush=True)\n"
    )


@contextmanager
def mmap_writer(stage: Stage) -> Iterator[None]:
    with ExitStack() as stack:
        program: subprocess.Popen[str] = stack.enter_context(mapped_elsewhere(stage))

        def write() -> None:
            assert program.stdin is not None and program.stdout is not None
            program.stdin.write("write\n")
            program.stdin.flush()
            assert program.stdout.readline() == "written\n"
            stage.note_the_disk()

        stack.enter_context(means.before(stage.monkeypatch, fences, "fence", write))
        yield


def meanwhile(change: Callable[[Stage], Any]) -> Callable[[Stage], Any]:
    def make(stage: Stage) -> Any:
        def act() -> None:
            change(stage)
            stage.note_the_disk()

        return means.before(stage.monkeypatch, fences, "fence", act)

    return make


@contextmanager
def late_writer(stage: Stage) -> Iterator[None]:
    with ExitStack() as stack:

        def open_late() -> None:
            stack.enter_context(means.opened_elsewhere(stage.path / TILE, "a"))

        stack.enter_context(means.before(stage.monkeypatch, fences, "fence", open_late))
        yield


def changed(change: Callable[[Stage], Any]) -> Case:
    return puts_back(Reason.CHANGED_SINCE_VERIFICATION, meanwhile(change))


@contextmanager
def lock_taken_while_it_is_compared(stage: Stage) -> Iterator[None]:
    with ExitStack() as stack:

        def take() -> None:
            stack.enter_context(means.flocked_elsewhere(stage.path / LOCK))

        stack.enter_context(means.after(stage.monkeypatch, protocol, "_pass_gates", take))
        yield


@contextmanager
def lock_taken_under_the_fence(stage: Stage) -> Iterator[None]:
    with ExitStack() as stack:

        def take() -> None:
            stack.enter_context(means.flocked_elsewhere(stage.fence / LOCK))

        stack.enter_context(means.after(stage.monkeypatch, DataDir, "write_tombstone", take))
        yield


def touched_and_cleared(stage: Stage) -> None:
    """The bytes were read again and are the same: the page says so, and it is enough."""
    cleared(stage)
    (gate,) = (gate for gate in stage.run.attempts.get().decision if gate["gate"] == "unchanged")
    assert (gate["verdict"], gate["detail"]) == ("pass", f"touched, same bytes: {TILE}")


def gone(stage: Stage) -> None:
    assert not stage.path.exists()
    stage.assert_unchanged(without_the_run=True)


def at_the_last_moment(change: Callable[[Stage], Any]) -> Callable[[Stage], Any]:
    def make(stage: Stage) -> Any:
        def act() -> None:
            change(stage)
            stage.note_the_disk()

        return means.after(stage.monkeypatch, DataDir, "write_tombstone", act)

    return make


def once(change: Callable[[Stage], Any]) -> Callable[[Stage], Any]:
    made: list[Stage] = []

    def make(stage: Stage) -> None:
        if stage not in made:
            made.append(stage)
            change(stage)

    return make


def changed_late(change: Callable[[Path], Any]) -> Case:
    return puts_back(Reason.CHANGED_SINCE_VERIFICATION, at_the_last_moment(lambda stage: change(stage.fence)))


def lost_late(reason: Reason, change: Callable[[Stage], Any], **more: Any) -> Case:
    return puts_back(reason, at_the_last_moment(change), **more)


def write_through_the_fence(stage: Stage) -> Any:
    @contextmanager
    def writing() -> Iterator[None]:
        with ExitStack() as stack:

            def open_late() -> None:
                stack.enter_context(means.opened_elsewhere(stage.fence / TILE, "a"))

            stack.enter_context(means.after(stage.monkeypatch, DataDir, "write_tombstone", open_late))
            yield

    return writing()


def remake(path: Path) -> None:
    """Put the same bytes, size and times into another file, as a copying tool does."""
    shutil.copy2(path, path.with_name("copy"))
    path.with_name("copy").rename(path)


def hold(stage: Stage) -> None:
    """An operator's hold, of years: the commit asks the real clock."""
    until = stage.now + timedelta(days=3000)
    holds.hold(stage.run, owner="grace", reason="the referees ask", until=until, now=stage.now)


def hold_and_release(stage: Stage) -> None:
    hold(stage)
    assert holds.release_run(stage.run, actor="ada", now=stage.now)


def hold_that_is_over(stage: Stage) -> None:
    begun = stage.now - timedelta(days=2)
    holds.hold(stage.run, owner="grace", reason="for a day", until=begun + timedelta(days=1), now=begun)


def hold_by_file(folder: Path) -> None:
    (folder / ".exlab-hold").write_text("please keep")


def hold_by_file_and_take_away(stage: Stage) -> None:
    """Discovery has seen the hold file, and not yet that it is gone."""
    hold_by_file(stage.path)
    with means.reading_here(stage.monkeypatch):
        discovery.discover(stage.root, now=stage.now)
    (stage.path / ".exlab-hold").unlink()


CASES = {
    # files that came, went or changed
    "an old file more": Case(Reason.NOT_IN_MANIFEST, lambda s: add_old_file(s, "tiles/extra.tif"), swept=True),
    "a hidden file more": Case(Reason.NOT_IN_MANIFEST, lambda s: add_old_file(s, ".hidden")),
    "a metadata folder deeper down": Case(
        Reason.NOT_IN_MANIFEST, lambda s: add_old_file(s, f"tiles/{METADATA}/ingest.json")
    ),
    "a file more, at record": Case(
        Reason.NOT_IN_MANIFEST, lambda s: add_old_file(s, "tiles/extra.tif"), level="record"
    ),
    "a late file": Case(Reason.NOT_IN_MANIFEST, lambda s: (s.path / "late.tif").write_bytes(b"late")),
    "a file gone": Case(Reason.MISSING_FILE, lambda s: (s.path / TILE).unlink(), swept=True),
    "all data gone": Case(
        Reason.MISSING_FILE,
        lambda s: (shutil.rmtree(s.path / "tiles"), [path.unlink() for path in s.path.iterdir() if path.is_file()]),
    ),
    "a file renamed": Case(Reason.NOT_IN_MANIFEST, lambda s: (s.path / TILE).rename(s.path / "tiles/renamed.tif")),
    "a file grown": Case(Reason.NAS_SIZE_MISMATCH, grow),
    "a file rewritten, size and time kept": Case(
        Reason.NAS_CHECKSUM_MISMATCH, lambda s: change_keeping_size_and_time(s.path / TILE)
    ),
    "two files swapped": Case(Reason.NAS_CHECKSUM_MISMATCH, swap_two_files),
    "newer, at size": Case(Reason.CHANGED_SINCE_VERIFICATION, lambda s: set_time(s, hours=1), level="size", swept=True),
    "newer, at record": Case(Reason.CHANGED_SINCE_VERIFICATION, lambda s: set_time(s, hours=1), level="record"),
    "written a moment ago": Case(Reason.NOT_QUIET, lambda s: set_time(s, minutes=9, seconds=59), swept=True),
    "written this instant": Case(Reason.NOT_QUIET, lambda s: set_time(s, seconds=0)),
    # the manifest
    "manifest missing": Case(Reason.MANIFEST_MISSING, lambda s: (s.path / MANIFEST).unlink(), swept=True),
    "manifest empty": Case(Reason.MANIFEST_EMPTY, lambda s: swap_the_manifest(s, b"\n"), swept=True),
    "manifest of metadata alone": Case(
        Reason.NOT_IN_MANIFEST, lambda s: swap_the_manifest(s, b"0" * 64 + b"  .exlab-wizard/ingest.json\n")
    ),
    "manifest broken": Case(Reason.MANIFEST_UNREADABLE, lambda s: swap_the_manifest(s, b"no sum\n"), swept=True),
    "manifest climbs": Case(
        Reason.MANIFEST_UNREADABLE, lambda s: swap_the_manifest(s, b"0" * 64 + b"  ../other/file\n")
    ),
    "manifest names an absolute path": Case(
        Reason.MANIFEST_UNREADABLE, lambda s: swap_the_manifest(s, b"0" * 64 + b"  /etc/passwd\n")
    ),
    "manifest contradicts itself": Case(
        Reason.MANIFEST_UNREADABLE, lambda s: swap_the_manifest(s, b"0" * 64 + b"  a\n" + b"1" * 64 + b"  ./a\n")
    ),
    "manifest is a link": Case(
        Reason.UNSAFE_PATH,
        lambda s: ((s.path / MANIFEST).rename(s.outside / "sums"), (s.path / MANIFEST).symlink_to(s.outside / "sums")),
    ),
    # the metadata folder
    "unknown metadata": Case(
        Reason.UNEXPECTED_METADATA, lambda s: (s.path / METADATA / "notes.txt").write_text("mine"), swept=True
    ),
    "a folder among the metadata": Case(
        Reason.UNEXPECTED_METADATA, lambda s: (s.path / METADATA / "wizard.x.log").mkdir()
    ),
    "too much metadata": Case(
        Reason.UNEXPECTED_METADATA, lambda s: (s.path / METADATA / "wizard.a.log").write_bytes(b"x" * (4 << 20))
    ),
    # holds
    "a hold": Case(Reason.HELD, hold, swept=True),
    "a hold file": Case(Reason.HELD, lambda s: hold_by_file(s.path), swept=True),
    "a hold file that cannot be read": Case(Reason.HELD, lambda s: (s.path / ".exlab-hold").touch(mode=0)),
    "a hold that is a folder": Case(Reason.HELD, lambda s: (s.path / ".exlab-hold/deeper").mkdir(parents=True)),
    "a hold that is a link": Case(Reason.HELD, lambda s: (s.path / ".exlab-hold").symlink_to(s.outside / "canary")),
    "a hold that is a pipe": Case(Reason.HELD, lambda s: os.mkfifo(s.path / ".exlab-hold")),
    "a hold file, at record": Case(Reason.HELD, lambda s: hold_by_file(s.path), level="record"),
    "meanwhile: a hold": puts_back(Reason.HELD, meanwhile(hold)),
    "meanwhile: a hold file": puts_back(Reason.HELD, meanwhile(lambda s: hold_by_file(s.path))),
    "meanwhile: a hold that is a link": puts_back(
        Reason.HELD, meanwhile(lambda s: (s.path / ".exlab-hold").symlink_to("/"))
    ),
    "last: a hold": puts_back(Reason.HELD, at_the_last_moment(hold), swept=True),
    "last: a hold file": puts_back(Reason.HELD, at_the_last_moment(lambda s: hold_by_file(s.fence)), swept=True),
    "a hold file deeper down": Case(Reason.NOT_IN_MANIFEST, lambda s: add_old_file(s, "tiles/.exlab-hold")),
    "a hold released": clears(hold_and_release),
    "a hold that is over": clears(hold_that_is_over),
    "a hold file taken away": clears(hold_by_file_and_take_away),
    "a hold file of before the verification taken away": clears(
        lambda s: (s.path / ".exlab-hold").unlink(),
        built={"files": {TILE: b"tile", ".exlab-hold": b"please keep"}},
        swept=True,
    ),
    # other programs
    "a file deleted while open, on NFS": Case(
        Reason.WRITER_ACTIVE, lambda s: add_old_file(s, "tiles/.nfs00000000018a2c4f00000001")
    ),
    "a program appends": Case(Reason.WRITER_ACTIVE, lambda s: means.opened_elsewhere(s.path / TILE, "a"), by_hand=True),
    "a program has a file open for update": Case(
        Reason.WRITER_ACTIVE, lambda s: means.opened_elsewhere(s.path / TILE, "r+"), swept=True
    ),
    "a program writes its log": Case(
        Reason.WRITER_ACTIVE, lambda s: means.opened_elsewhere(s.path / METADATA / "wizard.labpc-04.log", "a")
    ),
    "the wizard holds its lock": Case(
        Reason.WRITER_ACTIVE, lambda s: means.flocked_elsewhere(s.path / LOCK), swept=True
    ),
    "the wizard holds the lock of another record": Case(
        Reason.WRITER_ACTIVE, lambda s: means.flocked_elsewhere(s.path / METADATA / "creation.json.lock")
    ),
    "meanwhile: the wizard takes its lock": Case(Reason.WRITER_ACTIVE, lock_taken_while_it_is_compared),
    "last: the wizard takes its lock": puts_back(Reason.WRITER_ACTIVE, lock_taken_under_the_fence),
    "a program holds the run's own lock": Case(Reason.WRITER_ACTIVE, lambda s: means.flocked_elsewhere(s.path)),
    "the lock file is a link": Case(Reason.UNSAFE_PATH, lock_is_a_link),
    # while the clear is at it
    "meanwhile: a new file": changed(lambda s: (s.path / "tiles/late.tif").write_bytes(b"late")),
    "meanwhile: a new folder": changed(lambda s: (s.path / "late").mkdir()),
    "meanwhile: a file gone": changed(lambda s: (s.path / TILE).unlink()),
    "meanwhile: a file rewritten": changed(lambda s: change_keeping_size_and_time(s.path / TILE)),
    "meanwhile: a file touched": changed(lambda s: touch(s.path / TILE, OLD)),
    "meanwhile: a file made anew": changed(
        lambda s: (shutil.copy2(s.path / TILE, s.path / "copy"), (s.path / "copy").rename(s.path / TILE))
    ),
    "meanwhile: a link": changed(lambda s: (s.path / "late").symlink_to("/")),
    "meanwhile: a fifo": changed(lambda s: os.mkfifo(s.path / "late")),
    "meanwhile: the record rewritten": changed(lambda s: change_keeping_size_and_time(s.path / RECORD)),
    "meanwhile: the manifest rewritten": changed(lambda s: change_keeping_size_and_time(s.path / MANIFEST)),
    "meanwhile: a lock": changed(lambda s: (s.path / METADATA / "late.lock").touch()),
    "meanwhile: a writer": puts_back(Reason.WRITER_ACTIVE, late_writer),
    "meanwhile: through mapped memory": puts_back(Reason.CHANGED_SINCE_VERIFICATION, mmap_writer),
    # at the last moment before the commit
    "last: a new file": changed_late(lambda run: (run / "tiles/late.tif").write_bytes(b"late")),
    "last: a file gone": changed_late(lambda run: (run / TILE).unlink()),
    "last: a file rewritten": changed_late(lambda run: change_keeping_size_and_time(run / TILE)),
    "last: a file made anew": changed_late(lambda run: remake(run / TILE)),
    "last: the record rewritten": changed_late(lambda run: change_keeping_size_and_time(run / RECORD)),
    "last: a writer": puts_back(Reason.WRITER_ACTIVE, write_through_the_fence),
    "last: a file gone on the nas": lost_late(Reason.NAS_MISSING_FILE, lambda s: (s.twin / TILE).unlink(), swept=True),
    "last: a file gone on the nas, at size": lost_late(
        Reason.NAS_MISSING_FILE, lambda s: (s.twin / TILE).unlink(), level="size"
    ),
    "last: a file shorter on the nas": lost_late(Reason.NOT_COMPARED, lambda s: os.truncate(s.twin / TILE, 9)),
    "last: a file made anew on the nas": lost_late(Reason.NOT_COMPARED, lambda s: remake(s.twin / TILE)),
    "last: a file touched on the nas": lost_late(Reason.NOT_COMPARED, lambda s: touch(s.twin / TILE, OLD)),
    "last: a file rewritten in place on the nas": lost_late(
        Reason.NAS_CHECKSUM_MISMATCH, lambda s: change_keeping_size_and_time(s.twin / TILE)
    ),
    "last: another mode on the nas": Case(
        None, at_the_last_moment(once(lambda s: (s.twin / TILE).chmod(0o640))), "cleared", gone
    ),
    "last: the run gone on the nas": lost_late(Reason.NAS_MISSING_FILE, lambda s: s.twin.rename(s.outside / "twin")),
    "last: the nas unplugged": lost_late(Reason.NAS_NOT_MOUNTED, lambda s: s.lab.nas.rename(s.lab.base / "unplugged")),
    "last: another nas": lost_late(
        Reason.NAS_IDENTITY_MISMATCH, lambda s: (s.lab.nas / ".exlab-root").write_text(OTHER_TOKEN)
    ),
    # what is no obstacle
    "last: more files on the nas": Case(
        None, at_the_last_moment(lambda s: (s.twin / "more.tif").write_bytes(b"more")), "cleared", gone
    ),
    "touched, same bytes": Case(None, lambda s: set_time(s, hours=1), "cleared", touched_and_cleared, swept=True),
    "written ten minutes ago": clears(lambda s: set_time(s, minutes=10)),
    "a writer by another name": Case(Reason.WRITER_ACTIVE, writer_through_a_link),
    "a reader": clears(lambda s: means.opened_elsewhere(s.path / TILE, "r")),
    "a writer elsewhere": clears(lambda s: means.opened_elsewhere(s.outside / "canary", "a")),
    "no lock file": clears(lambda s: (s.path / LOCK).unlink()),
    "a record just written": clears(lambda s: (s.path / RECORD).touch()),
    "another folder's time": clears(lambda s: touch(s.path / "tiles", s.now)),
    "an empty folder": clears(lambda s: (s.path / "empty/er").mkdir(parents=True)),
}


RARE = {
    "a hold file that cannot be read",
    "a hold that is a folder",
    "a hold that is a pipe",
    "a hold file, at record",
    "meanwhile: a hold that is a link",
    "a hold that is over",
    "meanwhile: a link",
    "two files swapped",
    "manifest contradicts itself",
    "a folder among the metadata",
    "no lock file",
    "last: the record rewritten",
    "last: another nas",
    "a hidden file more",
    "all data gone",
    "newer, at record",
    "written this instant",
    "manifest names an absolute path",
    "a program writes its log",
    "meanwhile: a new folder",
    "meanwhile: a file touched",
    "meanwhile: a fifo",
    "meanwhile: a file made anew",
    "meanwhile: the manifest rewritten",
    "meanwhile: a lock",
    "last: a file gone on the nas, at size",
    "last: a file touched on the nas",
    "last: the nas unplugged",
    "another folder's time",
    "a writer elsewhere",
    "an empty folder",
}


@matrix("freshness", CASES, rare=RARE)
def test_freshness(play: Callable[..., None], case: Case, asker: str) -> None:
    play(case, asker)
