"""The real `manage.py clear` from outside: killed, failed, frozen, or without its NAS reader.

In every case recovery leaves the run whole at its path with the same inodes, or cleared and recorded once
with true counts; nothing else changes.
"""

import contextlib
import itertools
import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections
from django.utils import timezone

from cleanup import clear_run
from cleanup.clears import nas_history, recovery
from cleanup.ledger.receipts import keys, writing
from cleanup.models import ClearAttempt, IngestEvent, LedgerEntry, Phase, Run
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from tests.faults import blackbox, report
from tests.faults.blackbox import Call, Ended, Fault, Programs, Traced
from tests.faults.scene import Scene, inodes, scene_of, states_on_disk
from tests.tools.lab import METADATA, Lab, snapshot, some_files

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("_strace")]

RUNS = "CONFOCAL_01/PROJ-0042/Runs"
NEIGHBOUR = f"{RUNS}/Run_2026-03-01T10-00"
KILL, STOP = "signal=SIGKILL", "signal=SIGSTOP"

# What each call can fail with on a real disk, or on a real connection. Sending is left out: when it alone fails, the
# database's library reads on for the server's last words, which on a connection that stands in truth never come.
ERRORS = {
    "openat": ("EACCES", "ENOSPC", "EROFS", "EDQUOT"),
    "write": ("ENOSPC", "EIO", "EDQUOT"),
    "pwrite64": ("EIO", "ENOSPC", "EDQUOT"),
    "fsync": ("EIO", "ENOSPC"),
    "fdatasync": ("EIO", "ENOSPC"),
    "rename": ("EIO", "EACCES", "EROFS", "ENOSPC"),
    "renameat": ("EIO", "EACCES", "EROFS", "EDQUOT"),
    "renameat2": ("EIO", "EACCES", "EROFS", "ENOSPC"),
    "unlink": ("EIO", "EACCES", "EROFS"),
    "unlinkat": ("EIO", "EACCES", "EROFS"),
    "mkdir": ("EACCES", "ENOSPC", "EROFS"),
    "fchmod": ("EROFS", "EIO"),
    "fchown": ("EROFS", "EDQUOT"),
    "ftruncate": ("EIO", "EROFS"),
    "fallocate": ("ENOSPC", "EIO"),
    "recvfrom": ("ECONNRESET", "ETIMEDOUT"),
}
# SQLite writes its pages by dozens of equal calls, and much of what PostgreSQL is asked and answers changes nothing:
# only some of these are tried, evenly.
STRIDES = {"pwrite64": 5, "sendto": 2, "recvfrom": 4}


def _wait_for_the_server() -> None:
    """A killed process's last statements may still be on their way through PostgreSQL; recovery comes minutes
    later.
    """
    if connection.vendor != "postgresql":
        return
    for _ in range(500):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND state <> 'idle'"
            )
            if not cursor.fetchone()[0]:
                return
        time.sleep(0.02)


@dataclass
class Box:
    lab: Lab
    root: Any
    programs: Programs
    env: dict[str, str]
    at_once: int = 4
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _unused: list[str] = field(default_factory=list)

    def new_run(self) -> Scene:
        if not self._unused:
            self._build_some()
        connections.close_all()  # so that the process is alone with its database, as the only one of a lab may be
        run_path = self._unused.pop()
        return scene_of(self.lab, self.root, timezone.now(), run_path, self.lab.staging / run_path)

    def _build_some(self) -> None:
        now = timezone.now()
        for number in itertools.islice(self._numbers, self.at_once):
            run_path = f"{RUNS}/Run_2026-04-{1 + number // 1440:02}T{number // 60 % 24:02}-{number % 60:02}"
            verified_at = now.replace(microsecond=0) - timedelta(hours=30)
            self.lab.run(run_path, verified_at=verified_at, files=some_files(2))
            self._unused.append(run_path)
        discovery.discover(self.root, now=now)

    def start(self, scene: Scene, fault: Fault | None, **how: Any) -> Traced:
        return self.programs.start("clear", scene.run.run_path, "--json", fault=fault, **how)

    def calls(self) -> list[Call]:
        """The calls of a clear that is not a lab's first, which alone makes the folders of the data directory."""
        for _ in range(2):
            scene = self.new_run()
            ended = self.start(scene, None, ignore_writers=True).ended()
            assert ended.status == 0, ended.err
            self.settle(scene, ended)
            assert scene.run.state == "cleared"
            self.take_away(scene)
        return blackbox.changing(ended.trace)

    def strike(self, fault: Fault) -> Ended:
        scene = self.new_run()
        others = self.others(scene)
        traced = self.start(scene, fault, ignore_writers=True)
        try:
            ended = traced.ended()
            self.settle(scene, ended)
            assert self.others(scene) == others
        except Exception as error:
            error.add_note(f"{fault}\n{traced.story()}")
            raise
        finally:
            self.take_away(scene)
        return ended

    def settle(self, scene: Scene, ended: Ended) -> None:
        _wait_for_the_server()
        assert recover(scene).unsettled == []
        nas_history.tell(now=later(), runs=[scene.run])
        scene.run.refresh_from_db()
        cleared = scene.run.state == "cleared"
        if ended.status == 0:
            assert cleared
        assert_twin(scene, cleared=cleared)
        scene = replace(scene, twin_entries=snapshot(scene.twin))
        scene.assert_cleared() if cleared else scene.assert_whole()
        assert_kept(scene)
        assert scene.run.active_attempt is None
        known, lying = records(), self.everything()
        again = recover(scene)
        assert (again.rolled_back, again.rolled_forward, again.unsettled) == ([], [], [])
        assert nas_history.tell(now=later(), runs=[scene.run]) == 0
        assert (records(), self.everything()) == (known, lying)

    def others(self, scene: Scene) -> Any:
        """The lab without one run, its twin, what holds the run, and the reserve, which may be laid anew."""
        mine = (scene.run.run_path, f"{RUNS}/.exlab-clearing-")
        changing = (".", RUNS, ".exlab-reserve")
        return [
            {name: seen for name, seen in found.items() if name not in changing and not name.startswith(mine)}
            for found in (snapshot(self.lab.staging), inodes(self.lab.staging), snapshot(self.lab.nas))
        ]

    def everything(self) -> Any:
        return snapshot(self.lab.staging), inodes(self.lab.staging), snapshot(self.lab.nas)

    def take_away(self, scene: Scene) -> None:
        for path in (scene.path, scene.twin):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(path)
        for left in scene.path.parent.glob(".exlab-clearing-*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


@pytest.fixture
def box(lab: Lab, root: Any, subprocess_env: dict[str, str], tmp_path: Path) -> Iterator[Box]:
    said = tmp_path / "said"
    said.mkdir()
    lab.run(NEIGHBOUR, files=some_files(1))
    lab.run("FLOW_01/PROJ-0060/Runs/Run_2026-03-02T10-00", files=some_files(1), state="complete")
    keys.current(now=timezone.now())  # only the first receipt would make it: its calls would come in one program alone
    with Programs({**subprocess_env, "EXLAB_NAS_TIMEOUT": "2"}, said) as programs:
        yield Box(lab, root, programs, subprocess_env)


def later() -> datetime:
    """Late enough to take up an attempt that was killed while queued, and to tell of a clear again."""
    return timezone.now() + timedelta(days=2)


def recover(scene: Scene) -> recovery.Recovered:
    recovered = recovery.recover(now=later(), runs=[scene.run])
    writing.write_due(now=later(), runs=[scene.run])  # takes the place of a receipt that was cut off
    return recovered


def records() -> list[Any]:
    return [list(model.objects.order_by("pk").values()) for model in (ClearAttempt, LedgerEntry, IngestEvent, Run)]


def assert_twin(scene: Scene, *, cleared: bool) -> None:
    """The twin is unchanged except for a record that tells of a clear, and whole receipts beside it."""
    found = snapshot(scene.twin)
    names = {
        name for name in found.keys() | scene.twin_entries.keys() if found.get(name) != scene.twin_entries.get(name)
    }
    laid = {name for name in names if name.startswith(f"{METADATA}/receipts")}
    assert names - laid - {METADATA} == ({f"{METADATA}/ingest.json"} if cleared else set())
    assert not laid & scene.twin_entries.keys() and (cleared or not laid)
    for sums in scene.twin.glob(f"{METADATA}/receipts/checksums*.sha256"):
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", sums.name], cwd=sums.parent, check=True)
    states = ["staging", "complete", "sync_queued", "sync_verified"]
    assert states_on_disk(scene.twin) == ([*states, "cleared"] if cleared else states)


def assert_kept(scene: Scene) -> None:
    """Only attempts that cleared something have a plan and a tombstone, which ends with `cleared`."""
    data = Path(settings.EXLAB_DATA_DIR)
    assert list(data.rglob("*.part")) == []
    for attempt in scene.run.attempts.all():
        done = attempt.phase == Phase.DONE
        tombstone = data / "tombstones" / f"{attempt.pk.hex}.tar.gz"
        assert tombstone.exists() == done
        assert (data / "plans" / attempt.pk.hex).exists() == done
        if done:
            with tarfile.open(tombstone) as archive:
                record = archive.extractfile("ingest.json")
                assert record is not None
                assert json.load(record)["current_state"] == "cleared"


def explore(box: Box, kind: str, faults: Iterable[Fault]) -> None:
    faults = list(faults)
    missed, wrong = [], []
    for fault in faults:
        try:
            if not box.strike(fault).hit:
                missed.append(fault)
        except Exception as error:
            wrong.append(error)
    report.explored(kind, len(faults), len(wrong))
    if wrong:
        raise ExceptionGroup(f"{len(wrong)} of {len(faults)}: {kind}", wrong)
    assert 10 * len(missed) <= len(faults), f"{len(missed)} of {len(faults)} faults did not strike: {missed}"


def some_of(calls: Iterable[Call], strides: dict[str, int]) -> list[Call]:
    return [call for call in calls if call.number % strides.get(call.syscall, 1) == 0]


def effective(calls: Iterable[Call]) -> list[Call]:
    return [call for call in calls if not call.result.startswith("-1")]


def errors_of(call: Call, number: int) -> list[str]:
    errors = ERRORS.get(call.syscall, ())
    return [f"error={errors[(call.number + turn) % len(errors)]}" for turn in range(min(number, len(errors)))]


def the_commit(calls: list[Call]) -> Call:
    published = next(place for place, call in enumerate(calls) if call.syscall == "renameat")
    return next(call for call in reversed(calls[:published]) if call.syscall in ("fdatasync", "sendto"))


def at(call: Call, what: str, *, on: bool = False) -> Fault:
    return Fault(call.syscall, what, f"{call.number}{'+' if on else ''}")


# A few points each time


def test_killed_at_chosen_calls(box: Box) -> None:
    calls = box.calls()
    chosen = [
        the_commit(calls),
        next(call for call in calls if call.syscall == "renameat"),
        [call for call in calls if call.syscall == "unlinkat"][-2],
    ]
    explore(box, "process killed", [at(call, KILL) for call in chosen])


@pytest.mark.one_engine
def test_failing_at_chosen_calls(box: Box) -> None:
    fails = [
        Fault("renameat2", "error=EIO", "1"),
        Fault("unlinkat", "error=EACCES", "4"),
    ]
    explore(box, "system call fails once", fails)


@pytest.mark.one_engine
def test_frozen_amid_the_removal_it_is_left_alone(box: Box) -> None:
    _freeze(box, Fault("unlinkat", STOP, "3"))


def _freeze(box: Box, fault: Fault) -> None:
    """Stop a clear, check that recovery touches nothing meanwhile, and let it go on to a full and true end."""
    scene = box.new_run()
    frozen = box.start(scene, fault)
    frozen.wait_until_stopped()
    known, lying = records(), box.everything()
    ours = recover(scene)
    assert (ours.rolled_back, ours.rolled_forward, ours.unsettled) == ([], [], [])
    theirs = box.programs.run("recover", "--json")
    assert theirs.status == 0, theirs.err
    assert not any(json.loads(theirs.out).values()), theirs.out
    assert (records(), box.everything()) == (known, lying)
    connections.close_all()
    frozen.go_on()
    ended = frozen.ended()
    assert ended.status == 0, ended.err
    answer = json.loads(ended.out)
    assert (answer["cleared"], answer["files"], answer["bytes_freed"]) == (1, scene.files, scene.bytes)
    box.settle(scene, ended)
    box.take_away(scene)
    report.explored("process frozen", 1, 0)


@pytest.mark.one_engine
def test_a_clear_refuses_when_its_nas_reader_is_killed(box: Box) -> None:
    _lose_the_reader(box, KILL, "1", "nas_io_error")


def _lose_the_reader(box: Box, what: str, when: str, reason: str) -> None:
    scene = box.new_run()
    others = box.others(scene)
    fault = Fault("getdents64", what, when, paths=(str(scene.twin), str(scene.twin / "tiles")), children=True)
    ended = box.start(scene, fault).ended()
    assert ended.hit, ended.trace
    assert ended.status == 1
    (answer,) = json.loads(ended.out)["runs"]
    assert (answer["action"], answer["reason"]) == ("refused", reason)
    box.settle(scene, ended)
    scene.assert_whole()
    assert box.others(scene) == others
    assert scene.kinds() == ["refused"]
    report.explored("NAS reader lost", 1, 0)


@pytest.mark.exhaustive
@pytest.mark.one_engine
def test_the_command_itself_killed_before_the_fence(box: Box, tmp_path: Path) -> None:
    """From the start of Python, not as a fork that has loaded everything."""
    scene = box.new_run()
    trace = tmp_path / "trace"
    command = [
        *("strace", "-o", str(trace), "-e", "trace=renameat2", "-e", "inject=renameat2:signal=SIGKILL:when=1"),
        *(sys.executable, "manage.py", "clear", scene.run.run_path),
    ]
    done = subprocess.run(
        command, cwd=blackbox.CHECKOUT, env=box.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode not in (0, 1), done.stderr
    assert "killed by SIGKILL" in trace.read_text()
    box.settle(scene, Ended(done.returncode, done.stdout, done.stderr, ""))
    assert scene.kinds() == ["aborted"]
    clear_run(scene.run, now=timezone.now())
    scene.assert_cleared()
    report.explored("process killed", 1, 0)


# A database server that takes its time


@contextlib.contextmanager
def slow_commits() -> Iterator[None]:
    """The server takes 1 s for each transaction that commits a clear, even if its client is gone."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$"
        )
        cursor.execute(
            "CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON cleanup_ledgerentry DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW WHEN (NEW.kind = 'authorised') EXECUTE FUNCTION take_time()"
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION take_time CASCADE")


@pytest.fixture
def _on_a_server() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite's commit is the process's own work and ends with it")


@pytest.mark.exhaustive
@pytest.mark.usefixtures("_on_a_server")
def test_a_commit_that_outlives_its_client_is_not_undone(box: Box) -> None:
    """The client is killed; the server commits a little later."""
    committing = the_commit(box.calls())
    with slow_commits():
        scene = box.new_run()
        frozen = box.start(scene, at(committing, STOP), ignore_writers=True)
        frozen.wait_until_stopped()
        frozen.kill()
        box.settle(scene, frozen.ended())
    assert scene.run.state == "cleared"


@pytest.mark.exhaustive
@pytest.mark.usefixtures("_on_a_server")
def test_a_commit_whose_answer_is_lost_is_not_undone(box: Box) -> None:
    """The client loses its connection; the server commits a little later."""
    calls = box.calls()
    awaited = next(call for call in calls[calls.index(the_commit(calls)) :] if call.syscall == "poll")
    with slow_commits():
        assert box.strike(at(awaited, "error=ENOTCONN")).hit


# All of them


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_killed_at_every_call(box: Box) -> None:
    calls = effective(box.calls())
    box.at_once = 20
    explore(box, "process killed", [at(call, KILL) for call in some_of(calls, STRIDES)])


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_failing_once_at_every_call(box: Box) -> None:
    calls = some_of(box.calls(), STRIDES)
    box.at_once = 20
    faults = [at(call, error) for call in calls for error in errors_of(call, 1 if call.syscall in STRIDES else 2)]
    explore(box, "system call fails once", faults)


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_failing_from_some_call_on(box: Box) -> None:
    calls = some_of(box.calls(), {"pwrite64": 10, "recvfrom": 4, "unlinkat": 2})
    faults = [at(call, error, on=True) for call in calls for error in errors_of(call, 1)]
    explore(box, "system call fails on", faults)


@pytest.mark.exhaustive
def test_a_plan_that_cannot_be_made_durable_is_taken_away_again(box: Box) -> None:
    calls = box.calls()
    moved = next(place for place, call in enumerate(calls) if call.syscall == "rename" and "/plans/" in call.arguments)
    folder = next(call for call in calls[moved:] if call.syscall == "fsync")
    assert box.strike(at(folder, "error=EIO")).hit
    attempt = ClearAttempt.objects.get(reason=Reason.STORAGE_ERROR)
    assert not (Path(settings.EXLAB_DATA_DIR) / "plans" / attempt.pk.hex).exists()


@pytest.mark.exhaustive
@pytest.mark.timeout(300)
def test_frozen_at_many_calls(box: Box) -> None:
    calls = effective(box.calls())
    wanted = {("renameat2", 1), ("fsync", 1), ("fsync", 4), ("fsync", 6), ("renameat", 1), ("unlinkat", 1)}
    chosen = [call for call in calls if (call.syscall, call.number) in wanted]
    for call in [*chosen, the_commit(calls), [call for call in calls if call.syscall == "unlinkat"][-1]]:
        _freeze(box, at(call, STOP))


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("what", "when", "reason"),
    [
        (KILL, "3", "nas_io_error"),
        (KILL, "6", "nas_io_error"),
        (STOP, "1", "nas_slow"),
        (STOP, "5", "nas_slow"),
        ("error=EIO", "1", "nas_io_error"),
        ("error=ESTALE", "5", "nas_io_error"),
        (KILL, "9", "nas_io_error"),
        (STOP, "10", "nas_slow"),
        ("error=EIO", "11", "nas_io_error"),
    ],
)
def test_a_clear_refuses_when_its_nas_reader_is_lost(box: Box, what: str, when: str, reason: str) -> None:
    _lose_the_reader(box, what, when, reason)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("syscall", "what"),
    [
        ("renameat", KILL),
        ("renameat", "error=EROFS"),
        ("fsync", KILL),
        ("fsync", "error=EIO"),
        ("openat", KILL),
        ("openat", "error=ENOSPC"),
    ],
)
def test_a_clear_stands_when_its_twin_cannot_be_told(box: Box, syscall: str, what: str) -> None:
    """The record on the NAS is the old one or the new one, and becomes the new one."""
    scene = box.new_run()
    others = box.others(scene)
    fault = Fault(syscall, what, "1", paths=(str(scene.twin / METADATA),), children=True)
    ended = box.start(scene, fault).ended()
    assert ended.hit, ended.trace
    assert ended.status == 0
    assert len(states_on_disk(scene.twin)) in (4, 5)
    box.settle(scene, ended)
    assert box.others(scene) == others
    report.explored("NAS reader lost", 1, 0)
