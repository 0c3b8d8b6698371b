"""Two threads remove what one removes, and count the same."""

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cleanup.storage.staging import removal, removal_tasks, run_tree
from cleanup.storage.staging.removal import Removal
from tests.storage.children import as_ordinary_user, give_away
from tests.storage.staging.trees import Open, Scene, digests_of, rewrite_in_secret, write
from tests.tools.lab import Lab

pytestmark = pytest.mark.one_engine(by="function")


@pytest.fixture(autouse=True)
def _small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal_tasks, "TASK_FILES", 3)


@pytest.fixture
def large(lab: Lab, open_directory: Open) -> Scene:
    """A flat folder, some small ones, and a third of all files under two names."""
    files = {f"flat/f{number:03}": b"%d" % number for number in range(150)}
    files |= {f"small/{number // 3}/f{number}": b"%d" % number for number in range(60)}
    run = lab.run("FLOW_01/P/Runs/Run_2026-05-01T10-00", files=files)
    rng = random.Random(7)
    for number, path in enumerate(rng.sample(sorted(files), 70)):
        folder = run / rng.choice(["flat", "small/4", "links"])
        folder.mkdir(exist_ok=True)
        os.link(run / path, folder / f"link-{number}")
    return Scene(run, open_directory(run.parent))


class Meeting:
    """Where two threads wait for one another at the first step of each, or one of them might do all the work."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self._both = threading.Barrier(2, timeout=30)

    def come(self) -> int:
        """Returns the thread's number."""
        thread = threading.get_ident()
        if thread not in self.seen:
            self.seen.add(thread)
            self._both.wait()
        return thread


def noting_threads(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    meeting, here, unlink = Meeting(), threading.get_ident(), removal._unlink

    def noted(directory: int, name: bytes) -> None:
        if threading.get_ident() != here:
            meeting.come()
        unlink(directory, name)

    monkeypatch.setattr(removal, "_unlink", noted)
    return meeting.seen


def removers_at_work() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("shared-work")]


@pytest.mark.parametrize("proof", [False, True])
def test_they_take_everything_once_and_count_it(proof: bool, large: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    proven = digests_of(large.run)
    large.prepare()
    counted = run_tree.count(large.plan)
    names = len([entry for entry in large.plan if entry.is_file])
    seen, told, here = noting_threads(monkeypatch), list[tuple[int, int, int]](), threading.get_ident()
    at_the_end: list[tuple[list[threading.Thread], int, list[Path]]] = []

    def before_the_record() -> None:
        left = [path for path in large.fence.rglob("*") if ".exlab-wizard" not in path.parts]
        at_the_end.append((removers_at_work(), threading.get_ident(), left))

    removed = large.remove(
        removers=2,
        proven=proven.get if proof else lambda path: None,
        progress=lambda files, size: told.append((files, size, threading.get_ident())),
        before_the_record=before_the_record,
    )
    assert removed == Removal(counted, ())
    assert counted.files == names - 70
    assert at_the_end == [([], here, [])]
    assert len(seen) == 2
    assert told == sorted(told)
    assert {thread for _, _, thread in told} == {here}
    assert told[-1][0] == names - 1  # the record goes last, by itself
    assert os.listdir(large.run.parent) == []


def test_what_has_changed_stays_and_is_counted_alike(lab: Lab, open_directory: Open, large: Scene) -> None:
    proven = digests_of(large.run)
    large.prepare()
    flat = large.fence / "flat"
    pairs: dict[int, list[Path]] = {}
    for path in large.fence.rglob("*"):
        if path.is_file():
            pairs.setdefault(path.stat().st_ino, []).append(path)
    twice = next(paths for paths in pairs.values() if len(paths) == 2)
    rewrite_in_secret(twice[0])
    alone = next(paths[0] for paths in pairs.values() if len(paths) == 1 and paths[0].parent == flat)
    alone.write_bytes(b"work of today")
    write(flat / "new", b"somebody's")
    removed = large.remove(removers=2, proven=proven.get)
    stay = {os.fsencode(path.relative_to(large.fence)) for path in (*twice, alone)}
    assert {path for path, why in removed.left if why == "changed"} == stay
    rest = {path for path in large.fence.rglob("*") if path.is_file() and ".exlab-wizard" not in path.parts}
    assert rest == {*twice, alone, flat / "new"}
    assert removed.freed.files == run_tree.count(large.plan).files - 3  # both of these, and the record


@pytest.mark.parametrize("number", [0, 90, 200])
def test_a_death_in_one_of_them_stops_both_and_the_rest_is_taken_up_again(
    number: int, large: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    large.prepare()
    counted, before = run_tree.count(large.plan), {entry.path for entry in large.plan if entry.is_file}
    unlink, turn, gone = os.unlink, threading.Lock(), list[bytes]()

    def unlink_some(name: bytes, *, dir_fd: int) -> None:
        with turn:
            if len(gone) == number:
                raise KeyboardInterrupt
            unlink(name, dir_fd=dir_fd)
            gone.append(name)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlink_some)
        with pytest.raises(KeyboardInterrupt):
            large.remove(removers=2)
    assert removers_at_work() == []
    assert len(gone) == number
    left = {os.fsencode(path.relative_to(large.fence)) for path in large.fence.rglob("*") if path.is_file()}
    assert left < before or number == 0
    assert len(left) == len(before) - number
    assert large.remove(removers=2) == Removal(counted, ())
    assert os.listdir(large.run.parent) == []


def test_what_the_callers_callback_raises_stops_both(large: Scene) -> None:
    large.prepare()
    counted = run_tree.count(large.plan)

    def fail(files: int, size: int) -> None:
        raise ConnectionError("the database is gone")

    with pytest.raises(ConnectionError):
        large.remove(removers=2, progress=fail)
    assert removers_at_work() == []
    assert large.remove(removers=2) == Removal(counted, ())


def test_a_read_only_flat_folder_is_emptied_by_both_at_once(large: Scene) -> None:
    """Each of them may find it read-only and make it writable."""
    large.prepare()
    directories = [large.fence, *(path for path in large.fence.rglob("*") if path.is_dir())]
    give_away(large.run.parent, *directories)
    counted = run_tree.count(large.plan)
    for directory in directories:
        directory.chmod(0o555)
    assert as_ordinary_user(lambda: large.remove(removers=2)) == Removal(counted, ())
    assert os.listdir(large.run.parent) == []


def test_a_folder_that_another_thread_has_just_made_writable(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mocked: the other thread comes between a refusal and the look at the folder's mode."""
    scene.prepare()
    counted, refused = run_tree.count(scene.plan), list[bytes]()
    unlink = os.unlink

    def refuse_once(name: bytes, *, dir_fd: int) -> None:
        if name not in refused:
            refused.append(name)
            raise PermissionError(13, "read-only until a moment ago")
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuse_once)
    assert scene.remove() == Removal(counted, ())


@pytest.mark.parametrize(("entries", "many"), [(10, False), (100_000, True)])
def test_only_a_large_run_gets_several(entries: int, many: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "_MOST_REMOVERS", 4)
    assert removal.removers_for(entries) == (4 if many else 1)


def test_links_are_settled_by_one_thread(large: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    large.prepare()
    meeting, threads = Meeting(), dict[int, set[int]]()
    check: Callable[..., Any] = removal._unlink_planned

    def noted(directory: int, entry: run_tree.Entry, proven: removal.Proven) -> str:
        threads.setdefault(entry.ino, set()).add(meeting.come())
        return str(check(directory, entry, proven))

    monkeypatch.setattr(removal, "_unlink_planned", noted)
    assert large.remove(removers=2).left == ()
    assert len(meeting.seen) == 2
    assert {len(found) for found in threads.values()} == {1}
