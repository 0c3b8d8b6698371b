"""The only write on the NAS, also with a crash or fault at any step."""

import errno
import fcntl
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cleanup.storage import handles, run_paths
from cleanup.storage.nas import record as nas_record
from cleanup.storage.nas.record import NotTold
from cleanup.storage.staging.records import ingest_json as ingest
from tests.storage.children import as_ordinary_user, give_away, mount, with_own_mounts
from tests.tools.lab import METADATA, RUN_PATH, Lab, Seen, snapshot

pytestmark = pytest.mark.one_engine(by="function")


ATTEMPT = "0123456789abcdef0123456789abcdef"
DRAFT = f".exlab-telling-{ATTEMPT}"
CLEARED = {"state": "cleared", "at": "2026-06-15T08:00:00Z", "host": "labpc-04"}
RECORD = f"{METADATA}/ingest.json"
# What a change of one file in the metadata folder changes of its surroundings.
TOUCHED = {METADATA, RECORD}


@dataclass
class Copy:
    nas: Path
    path: Path
    history: list[dict[str, Any]]

    @property
    def record(self) -> Path:
        return self.path / RECORD

    @property
    def folder(self) -> Path:
        return self.path / METADATA

    def tell(self, run_path: str = RUN_PATH) -> bool:
        with handles.opened(handles.open_root(str(self.nas))) as root:
            return self.tell_beneath(root, run_path)

    def tell_beneath(self, root: int, run_path: str = RUN_PATH) -> bool:
        return nas_record.tell(root, run_path, run_path, self.history, ATTEMPT)

    def refusal(self, run_path: str = RUN_PATH) -> tuple[str, str]:
        with handles.opened(handles.open_root(str(self.nas))) as root:
            return self.refusal_beneath(root, run_path)

    def refusal_beneath(self, root: int, run_path: str = RUN_PATH) -> tuple[str, str]:
        with pytest.raises(NotTold) as refused:
            self.tell_beneath(root, run_path)
        assert refused.value.problem.detail.isprintable()
        return refused.value.problem.reason, refused.value.problem.detail

    def refusal_of_an_ordinary_user(self) -> tuple[str, str]:
        with handles.opened(handles.open_root(str(self.nas))) as root:  # which only root can reach by its path
            return as_ordinary_user(lambda: self.refusal_beneath(root))

    def untouched(self) -> dict[str, Seen]:
        mine = {f"{RUN_PATH}/{name}" for name in TOUCHED}
        return {name: seen for name, seen in snapshot(self.nas).items() if name not in mine}

    def read(self) -> dict[str, Any]:
        return json.loads(self.record.read_bytes())

    def write(self, **changes: Any) -> None:
        self.record.write_text(json.dumps(self.read() | changes))


@pytest.fixture
def copy(lab: Lab) -> Copy:
    lab.run()
    lab.run("CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-18T09-10")
    path = lab.twin()
    history = json.loads((path / RECORD).read_bytes())["history"]
    return Copy(lab.nas, path, [*history, CLEARED])


# Writes


def test_appends_what_the_twin_lacks_and_touches_nothing_else(copy: Copy) -> None:
    before, old = copy.untouched(), copy.read()
    assert copy.tell() is True
    assert copy.read() == old | {"history": [*old["history"], CLEARED], "current_state": "cleared"}
    assert copy.untouched() == before
    assert ingest.parse(copy.record.read_bytes(), run_paths.parse_run_path(RUN_PATH)).current_state == "cleared"


def test_a_second_time_writes_nothing(copy: Copy) -> None:
    copy.tell()
    told, inode = snapshot(copy.nas), copy.record.stat().st_ino
    assert copy.tell() is False
    assert (snapshot(copy.nas), copy.record.stat().st_ino) == (told, inode)


@pytest.mark.parametrize("state", ["staging", "complete", "sync_queued"])
def test_a_twin_that_was_copied_earlier_gets_all_that_follows(lab: Lab, state: str) -> None:
    run = lab.run(twin_state=state)
    history = json.loads((run / RECORD).read_bytes())["history"]
    copy = Copy(lab.nas, lab.twin(), [*history, CLEARED])
    assert copy.tell() is True
    assert copy.read()["history"] == [*history, CLEARED]


def test_keeps_every_other_key_of_the_twins_record_as_it_is(copy: Copy) -> None:
    copy.write(project_name="Über\u2028änderung", added={"by": ["the NAS", 1.5, None]}, schema_version="1.7")
    old = copy.read()
    copy.tell()
    changed = copy.read()
    assert {key for key in changed if changed[key] != old[key]} == {"history", "current_state"}
    assert list(changed) == list(old)


def test_an_entry_is_the_same_however_it_is_formatted(copy: Copy) -> None:
    copy.record.write_text(json.dumps(copy.read(), indent=4, sort_keys=True))
    assert copy.tell() is True


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
def test_keeps_mode_and_owner(copy: Copy, mode: int) -> None:
    copy.record.chmod(mode)
    before = copy.record.stat()
    if os.geteuid() == 0:
        os.chown(copy.record, 65534, 65533)
        before = copy.record.stat()
    copy.tell()
    after = copy.record.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_another_name_of_the_old_record_stays_what_it_was(copy: Copy, tmp_path: Path) -> None:
    """As a snapshot by hard links has it."""
    (tmp_path / "snapshot.json").hardlink_to(copy.record)
    old = copy.record.read_bytes()
    copy.tell()
    assert (tmp_path / "snapshot.json").read_bytes() == old
    assert copy.read()["current_state"] == "cleared"


# Refusals


def rewritten(copy: Copy) -> None:
    history = copy.read()["history"]
    history[1]["host"] = "somebody-else"
    copy.write(history=history)


def longer(copy: Copy) -> None:
    copy.write(history=[*copy.history, {**CLEARED, "at": "2026-06-16T08:00:00Z"}], current_state="cleared")


def cleared_by_another(copy: Copy) -> None:
    copy.write(history=[*copy.read()["history"], {**CLEARED, "host": "labpc-05"}], current_state="cleared")


def one_is_missing(copy: Copy) -> None:
    history = copy.read()["history"]
    copy.write(history=[history[0], *history[2:]])


def another_run(copy: Copy) -> None:
    copy.write(run_path="CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-18T09-10")


def says_something_else(copy: Copy) -> None:
    copy.write(current_state="cleared")


def linked(copy: Copy) -> None:
    copy.record.rename(copy.nas / "ingest.json")
    copy.record.symlink_to(copy.nas / "ingest.json")


def a_fifo(copy: Copy) -> None:
    copy.record.unlink()
    os.mkfifo(copy.record)


def a_directory(copy: Copy) -> None:
    copy.record.unlink()
    copy.record.mkdir()


def huge(copy: Copy) -> None:
    with copy.record.open("ab") as file:
        file.truncate(ingest.MAX_BYTES + 1)


def no_json(copy: Copy) -> None:
    copy.record.write_bytes(copy.record.read_bytes()[:-7])


def newer_schema(copy: Copy) -> None:
    copy.write(schema_version="2.0")


def gone(copy: Copy) -> None:
    copy.record.unlink()


def without_metadata(copy: Copy) -> None:
    copy.folder.rename(copy.nas / "metadata")


def without_run(copy: Copy) -> None:
    copy.path.rename(copy.nas / "elsewhere")


def linked_folder(copy: Copy) -> None:
    copy.folder.rename(copy.nas / "metadata")
    copy.folder.symlink_to(copy.nas / "metadata")


def linked_run(copy: Copy) -> None:
    copy.path.rename(copy.nas / "elsewhere")
    copy.path.symlink_to(copy.nas / "elsewhere")


def linked_lock(copy: Copy) -> None:
    (copy.folder / "ingest.json.lock").symlink_to(copy.record)


def fifo_lock(copy: Copy) -> None:
    os.mkfifo(copy.folder / "ingest.json.lock")


def linked_draft(copy: Copy) -> None:
    (copy.folder / DRAFT).symlink_to(copy.path / "README.md")


def second_name_for_draft(copy: Copy) -> None:
    (copy.folder / DRAFT).hardlink_to(copy.path / "README.md")


REFUSED: list[tuple[Callable[[Copy], None], str, str]] = [
    (rewritten, "ingest_disagrees", "history entry 2 on the NAS is not the one that was here"),
    (longer, "ingest_disagrees", "the history on the NAS has 6 entries, the one here 5"),
    (cleared_by_another, "ingest_disagrees", "history entry 5 on the NAS is not the one that was here"),
    (one_is_missing, "ingest_disagrees", "history entry 2 on the NAS is not the one that was here"),
    (another_run, "ingest_disagrees", "on the NAS: run_path is "),
    (says_something_else, "ingest_disagrees", "on the NAS: current_state is cleared"),
    (linked, "unsafe_path", "on the NAS: "),
    (a_fifo, "special_file", "ingest.json on the NAS is no plain file"),
    (a_directory, "special_file", "ingest.json on the NAS is no plain file"),
    (huge, "ingest_unreadable", "on the NAS: larger than "),
    (no_json, "ingest_unreadable", "on the NAS: no valid JSON"),
    (newer_schema, "ingest_schema_unsupported", "on the NAS: schema version 2.0"),
    (gone, "nas_missing_file", "no ingest.json on the NAS"),
    (without_metadata, "nas_missing_file", "no .exlab-wizard folder on the NAS"),
    (without_run, "nas_missing_file", "the NAS holds no such run"),
    (linked_folder, "unsafe_path", "on the NAS: "),
    (linked_run, "unsafe_path", "on the NAS: "),
    (linked_lock, "unsafe_path", "on the NAS: "),
    (fifo_lock, "special_file", "ingest.json.lock on the NAS is no plain file"),
    (linked_draft, "unsafe_path", "on the NAS: "),
    (second_name_for_draft, "unsafe_path", f"{DRAFT} on the NAS is not our own"),
]


@pytest.mark.parametrize(("attack", "reason", "detail"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_writes_nothing_where(copy: Copy, attack: Callable[[Copy], None], reason: str, detail: str) -> None:
    attack(copy)
    before = snapshot(copy.nas)
    said = copy.refusal()
    assert (said[0], said[1][: len(detail)]) == (reason, detail)
    assert snapshot(copy.nas) == before


@pytest.mark.parametrize("run_path", ["..", "../../staging", "/etc", "CONFOCAL_01", "a/b/Runs/../../../x"])
def test_writes_nothing_beside_the_path_of_a_run(copy: Copy, run_path: str) -> None:
    before = snapshot(copy.nas)
    assert copy.refusal(run_path)[0] == "unsafe_path"
    assert snapshot(copy.nas) == before


def test_writes_no_history_that_does_not_end_with_cleared(copy: Copy) -> None:
    before = snapshot(copy.nas)
    copy.history[-1] = {**CLEARED, "state": "sync_verified"}
    assert copy.refusal() == (
        "ingest_disagrees",
        "on the NAS: current_state is cleared, the history ends with sync_verified",
    )
    assert snapshot(copy.nas) == before


def test_writes_nothing_behind_a_mount(copy: Copy, tmp_path: Path) -> None:
    def on_a_bind_mount() -> tuple[str, str]:
        mount("--bind", copy.folder, copy.folder)
        return copy.refusal()

    reason, _detail = with_own_mounts(on_a_bind_mount)
    assert reason == "mount_inside"


def test_a_read_only_nas_is_told_of_and_nothing_stays(copy: Copy) -> None:
    before = snapshot(copy.nas)

    def read_only() -> tuple[str, str]:
        mount("--bind", copy.nas, copy.nas)
        mount("-o", "remount,bind,ro", copy.nas)
        return copy.refusal()

    assert with_own_mounts(read_only) == ("nas_not_writable", f"on the NAS: {os.strerror(errno.EROFS)}")
    assert snapshot(copy.nas) == before


def test_a_folder_that_may_not_be_written_is_left_as_it_is(copy: Copy) -> None:
    give_away(copy.folder, copy.record)
    copy.folder.chmod(0o500)
    before = snapshot(copy.folder)
    assert copy.refusal_of_an_ordinary_user() == ("nas_not_writable", f"on the NAS: {os.strerror(errno.EACCES)}")
    assert snapshot(copy.folder) == before
    copy.folder.chmod(0o700)


def test_a_record_with_another_owner_is_never_taken_over(copy: Copy) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to somebody else, and then stop being root")
    copy.record.chmod(0o666)
    give_away(copy.folder)
    before = snapshot(copy.folder)
    reason, _detail = copy.refusal_of_an_ordinary_user()
    assert reason == "nas_not_writable"
    assert snapshot(copy.folder).keys() == before.keys()
    assert copy.record.stat().st_uid == 0
    assert copy.read()["current_state"] == "sync_verified"


# Other writers


def test_waits_for_the_wizard(copy: Copy) -> None:
    lock = copy.folder / "ingest.json.lock"
    lock.touch()
    before = snapshot(copy.nas)
    with lock.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert copy.refusal() == ("writer_active", "the record on the NAS is locked")
        assert snapshot(copy.nas) == before
    assert copy.tell() is True
    assert lock.stat().st_size == 0


def test_holds_the_wizards_lock_while_it_writes(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = copy.folder / "ingest.json.lock"
    lock.touch()
    held: list[bool] = []

    def write(descriptor: int, data: bytes) -> None:
        with lock.open() as wizard:
            try:
                fcntl.flock(wizard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(True)
        os.write(descriptor, data)

    monkeypatch.setattr(handles, "write_all", write)
    assert copy.tell() is True
    assert held == [True]


def in_place(copy: Copy) -> None:
    status = copy.record.stat()
    copy.record.write_bytes(copy.record.read_bytes().replace(b"labpc-04", b"labpc-99"))
    os.utime(copy.record, ns=(status.st_atime_ns, status.st_mtime_ns))  # as on a filesystem with a coarse clock


def by_rename(copy: Copy) -> None:
    (copy.folder / "new").write_bytes(copy.record.read_bytes())
    (copy.folder / "new").rename(copy.record)


@pytest.mark.parametrize("change", [in_place, by_rename])
def test_never_replaces_another_record_than_the_one_it_read(
    copy: Copy, change: Callable[[Copy], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_alike = nas_record._make_alike

    def changed_meanwhile(descriptor: int, like: os.stat_result) -> None:
        make_alike(descriptor, like)
        change(copy)
        monkeypatch.undo()

    monkeypatch.setattr(nas_record, "_make_alike", changed_meanwhile)
    assert copy.refusal() == ("writer_active", "the record on the NAS was changed at this moment")
    assert copy.read()["current_state"] == "sync_verified"
    assert not (copy.folder / DRAFT).exists()


def test_two_at_once_do_it_once_and_neither_publishes_the_others_half(copy: Copy) -> None:
    met: list[tuple[str, str]] = []

    def write(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[:40])
        met.append(copy.refusal())
        os.write(descriptor, data[40:])

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(handles, "write_all", write)
        assert copy.tell() is True
    assert met == [("writer_active", "the record on the NAS is locked")]
    assert copy.read()["history"] == copy.history
    assert not (copy.folder / DRAFT).exists()


def test_a_draft_that_was_taken_for_a_leftover_is_not_published(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    flocked = handles.flocked

    def late(descriptor: int) -> Any:
        (copy.folder / DRAFT).unlink()
        (copy.folder / DRAFT).write_bytes(b"theirs")
        return flocked(descriptor)

    monkeypatch.setattr(handles, "flocked", late)
    assert copy.refusal() == ("writer_active", "the record on the NAS is locked")
    assert copy.read()["current_state"] == "sync_verified"
    assert (copy.folder / DRAFT).read_bytes() == b"theirs"


# Killed, or failed by the disk, at every step

STEPS = ("open", "write", "fchown", "fchmod", "fsync", "stat", "rename", "unlink")


class Stopped(Exception):
    """The step was never reached."""


@contextmanager
def interposed(step: int, act: Callable[[], None], *, after: bool) -> Iterator[list[int]]:
    """Act before or after one system call that `twin` makes by `os`."""
    count = [0]

    class Meddling:
        def __getattr__(self, name: str) -> Any:
            original = getattr(os, name)
            if name not in STEPS:
                return original

            def call(*args: Any, **kwargs: Any) -> Any:
                count[0] += 1
                now = count[0] == step
                if now and not after:
                    act()
                result = original(*args, **kwargs)
                if now and after:
                    act()
                return result

            return call

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(nas_record, "os", Meddling())
        yield count


def steps_of(copy: Copy) -> int:
    with interposed(0, lambda: None, after=False) as count:
        copy.tell()
    return count[0]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_at(copy: Copy, step: int, *, after: bool) -> None:
    child = os.fork()
    if child == 0:
        with suppress(BaseException), interposed(step, die, after=after):
            copy.tell()
        os._exit(0)
    _pid, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"it went past step {step}"


def restore(copy: Copy, record: bytes) -> None:
    copy.record.unlink()
    copy.record.write_bytes(record)
    copy.record.chmod(0o600)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_step_the_record_is_whole_and_the_next_try_completes(copy: Copy, after: bool) -> None:
    before, old = copy.untouched(), copy.record.read_bytes()
    steps = steps_of(copy)
    new = copy.record.read_bytes()
    left: list[bool] = []
    for step in range(1, steps + 1):
        restore(copy, old)
        dies_at(copy, step, after=after)
        assert copy.record.read_bytes() in (old, new)
        assert {name for name in os.listdir(copy.folder) if name.startswith(".exlab")} <= {DRAFT}
        left.append((copy.folder / DRAFT).exists())
        copy.tell()
        assert copy.record.read_bytes() == new
        assert not (copy.folder / DRAFT).exists()
        assert copy.untouched() == before
    assert {True, False} <= set(left)  # both kinds of leftovers were met


def test_is_durable_in_the_right_order(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def sync(descriptor: int) -> None:
        done.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))}")
        fsync(descriptor)

    def move(source: bytes, target: bytes, **directories: int) -> None:
        done.append(f"{source.decode()} to {target.decode()}")
        rename(source, target, **directories)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", move)
    copy.tell()
    assert done == [f"sync {DRAFT}", f"{DRAFT} to ingest.json", f"sync {METADATA}"]
    copy.tell()  # an earlier try may have been cut off before its last step
    assert done[3:] == ["sync ingest.json", f"sync {METADATA}"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "storage_error"),
        (errno.EDQUOT, "storage_error"),
        (errno.EROFS, "nas_not_writable"),
        (errno.EIO, "nas_io_error"),
        (errno.ESTALE, "nas_io_error"),
    ],
)
def test_failed_by_the_disk_at_any_step_nothing_of_ours_stays(copy: Copy, code: int, reason: str) -> None:
    before, old = copy.untouched(), copy.record.read_bytes()
    steps = steps_of(copy)
    new = copy.record.read_bytes()

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    for step in range(1, steps + 1):
        restore(copy, old)
        with interposed(step, fail, after=False):
            assert copy.refusal() == (reason, f"on the NAS: {os.strerror(code)}")
        assert copy.record.read_bytes() in (old, new)
        assert not (copy.folder / DRAFT).exists()
        assert copy.untouched() == before
        copy.tell()  # and the next try succeeds
        assert copy.record.read_bytes() == new


def test_a_draft_is_taken_away_even_where_there_is_nothing_to_tell(copy: Copy) -> None:
    copy.tell()
    (copy.folder / DRAFT).write_bytes(b"half a rec")
    assert copy.tell() is False
    assert not (copy.folder / DRAFT).exists()


def test_the_draft_of_another_attempt_is_not_ours_to_take(copy: Copy) -> None:
    other = copy.folder / f".exlab-telling-{'f' * 32}"
    other.write_bytes(b"theirs")
    copy.tell()
    assert other.read_bytes() == b"theirs"


def test_a_filesystem_that_cannot_sync_a_folder_is_no_failure(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def only_files(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    assert copy.tell() is True


def test_a_filesystem_without_locks_is_told_of_and_nothing_stays(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    before = copy.untouched(), copy.record.read_bytes()

    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert copy.refusal() == ("nas_io_error", f"on the NAS: {os.strerror(errno.ENOLCK)}")
    assert (copy.untouched(), copy.record.read_bytes()) == before


def test_leaves_nothing_open(copy: Copy) -> None:
    before = len(os.listdir("/proc/self/fd"))
    copy.tell()
    copy.tell()
    rewritten(copy)
    copy.refusal()
    assert len(os.listdir("/proc/self/fd")) == before
