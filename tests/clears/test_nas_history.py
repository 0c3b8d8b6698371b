"""Writing a clear's entry on the NAS; nothing depends on it."""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

from cleanup import clear_run, tasks
from cleanup.clears import nas_history
from cleanup.lab.nas import nas_outbox
from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, NasBreaker, Run, StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import handles
from cleanup.storage.nas import client, reader_process
from tests.faults.scene import Scene, set_scene
from tests.tools.checkout import CHECKOUT
from tests.tools.lab import METADATA, RUN_PATH, Lab, Seen, read_ingest, snapshot

OTHER_RUN = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-18T09-10"
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
HISTORY = ["staging", "complete", "sync_queued", "sync_verified", "cleared"]

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]


@dataclass(frozen=True)
class Cleared:
    lab: Lab
    root: Any
    now: datetime
    attempt: ClearAttempt
    twin: Path

    @property
    def record(self) -> Path:
        return self.twin / METADATA / "ingest.json"


def set_cleared(lab: Lab, root: Any, now: datetime, run_path: str = RUN_PATH) -> Cleared:
    """Write only the end of a clear: a whole one takes longer than these tests."""
    staged = lab.run(run_path)
    equipment, project, _folder, leaf = run_path.split("/")
    run = Run.objects.create(
        root=root,
        run_path=run_path,
        equipment=equipment,
        project=project,
        leaf=leaf,
        run_kind="experimental",
        state="cleared",
        first_seen_at=now,
    )
    attempt = ClearAttempt.objects.create(
        run=run,
        phase="done",
        host=root.host,
        requester="operator",
        actor="ada",
        created_at=now,
        phase_at=now,
        tell_after=now,
    )
    keep_tombstone(attempt, staged)
    shutil.rmtree(staged)
    return Cleared(lab, root, now, attempt, lab.twin(run_path))


def keep_tombstone(attempt: ClearAttempt, staged: Path) -> None:
    record = read_ingest(staged)
    record["history"].append({"state": "cleared", "at": "2026-06-15T08:00:00Z", "host": "labpc-04"})
    record["current_state"] = "cleared"
    with handles.opened(handles.open_root(str(staged))) as run:
        opening.data_dir().write_tombstone(attempt.pk.hex, run, {}, json.dumps(record).encode())


@pytest.fixture
def cleared(lab: Lab, root: Any, now: datetime) -> Cleared:
    return set_cleared(lab, root, now)


@pytest.fixture
def two(cleared: Cleared) -> list[Cleared]:
    return [cleared, set_cleared(cleared.lab, cleared.root, cleared.now, OTHER_RUN)]


@pytest.fixture
def scene(lab: Lab, root: Any, now: datetime) -> Scene:
    return set_scene(lab, root, now)


def states(twin_path: Path) -> list[str]:
    return [entry["state"] for entry in read_ingest(twin_path)["history"]]


def but_the_record(lab: Lab) -> dict[str, Seen]:
    mine = {f"{RUN_PATH}/{METADATA}", f"{RUN_PATH}/{METADATA}/ingest.json"}
    return {name: seen for name, seen in snapshot(lab.nas).items() if name not in mine}


def story(cleared: Cleared) -> tuple[Any, Any, int, str]:
    """(told_at, tell_after, tries, reason)"""
    attempt = cleared.attempt
    attempt.refresh_from_db()
    return attempt.told_at, attempt.tell_after, attempt.tell_tries, attempt.tell_reason


# What comes of it


def test_a_clear_itself_writes_nothing_on_the_nas_and_the_telling_writes_what_it_published(scene: Scene) -> None:
    before = snapshot(scene.lab.nas)
    clear_run(scene.run, now=scene.now, actor="ada")
    attempt = scene.run.attempts.get()
    assert (attempt.told_at, attempt.tell_tries, attempt.tell_reason) == (None, 0, "")
    assert snapshot(scene.lab.nas) == before
    rest = but_the_record(scene.lab)
    assert nas_history.tell(now=attempt.tell_after) == 1
    assert read_ingest(scene.twin) == json.loads(opening.data_dir().read_record(attempt.pk.hex))
    assert states(scene.twin) == HISTORY
    assert but_the_record(scene.lab) == rest


def test_what_was_told_is_written_down(cleared: Cleared) -> None:
    assert nas_history.tell(now=cleared.now) == 1
    assert story(cleared) == (cleared.now, None, 0, "")
    assert cleared.attempt.tell_detail == ""
    assert states(cleared.twin) == HISTORY


def test_a_second_pass_has_nothing_to_do(cleared: Cleared) -> None:
    nas_history.tell(now=cleared.now)
    before = snapshot(cleared.lab.nas)
    assert nas_history.tell(now=cleared.now + DAY) == 0
    assert snapshot(cleared.lab.nas) == before
    assert story(cleared)[0] == cleared.now


def test_a_process_killed_after_the_write_finds_it_told_the_next_time(cleared: Cleared) -> None:
    nas_history.tell(now=cleared.now)
    inode = cleared.record.stat().st_ino
    ClearAttempt.objects.update(told_at=None, tell_after=cleared.now)  # as it was before
    assert nas_history.tell(now=cleared.now + MINUTE) == 1
    assert story(cleared) == (cleared.now + MINUTE, None, 0, "")
    assert cleared.record.stat().st_ino == inode


def test_nothing_is_told_before_it_is_due(cleared: Cleared) -> None:
    assert nas_history.tell(now=cleared.now - timedelta(seconds=1)) == 0
    ClearAttempt.objects.update(tell_after=None)
    assert nas_history.tell(now=cleared.now + DAY) == 0
    assert states(cleared.twin) == HISTORY[:4]


def test_only_the_runs_that_are_asked_for(two: list[Cleared]) -> None:
    first, second = two
    assert nas_history.tell(now=first.now, runs=[second.attempt.run]) == 1
    assert (states(first.twin), states(second.twin)) == (HISTORY[:4], HISTORY)
    assert nas_history.tell(now=first.now) == 1
    assert states(first.twin) == HISTORY


def test_another_host_tells_of_its_own(cleared: Cleared) -> None:
    StagingRoot.objects.update(host="labpc-99")
    assert nas_history.tell(now=cleared.now) == 0
    assert story(cleared)[0] is None


def test_only_of_a_clear_that_is_done(cleared: Cleared) -> None:
    for phase in ("queued", "intent", "committed", "refused", "aborted", "conflict"):
        ClearAttempt.objects.update(phase=phase)
        assert nas_history.tell(now=cleared.now) == 0
    assert states(cleared.twin) == HISTORY[:4]


def test_a_clear_that_left_files_behind_is_told_as_well(cleared: Cleared) -> None:
    ClearAttempt.objects.update(reason=Reason.REMOVAL_INCOMPLETE)
    assert nas_history.tell(now=cleared.now) == 1
    assert states(cleared.twin) == HISTORY


def test_a_due_date_left_over_from_before_is_not_asked_for_ever(cleared: Cleared) -> None:
    nas_history.tell(now=cleared.now)
    ClearAttempt.objects.update(tell_after=cleared.now)
    assert nas_history.tell(now=cleared.now) == 0


# What will not change


def no_nas(cleared: Cleared) -> None:
    StagingRoot.objects.update(nas_path="", nas_token="")


def no_twin(cleared: Cleared) -> None:
    cleared.twin.rename(cleared.lab.base / "moved")


def no_record(cleared: Cleared) -> None:
    cleared.record.unlink()


def another_history(cleared: Cleared) -> None:
    cleared.record.write_bytes(cleared.record.read_bytes().replace(b"labpc-04", b"labpc-05"))


def no_json(cleared: Cleared) -> None:
    cleared.record.write_bytes(b"{")


def no_tombstone(cleared: Cleared) -> None:
    os.unlink(opening.data_dir().tombstone_path(cleared.attempt.pk.hex))


def damaged_tombstone(cleared: Cleared) -> None:
    path = opening.data_dir().tombstone_path(cleared.attempt.pk.hex)
    os.truncate(path, os.path.getsize(path) // 2)


def another_runs_tombstone(cleared: Cleared) -> None:
    other = set_cleared(cleared.lab, cleared.root, cleared.now, OTHER_RUN)
    path = opening.data_dir().tombstone_path
    shutil.copy(path(other.attempt.pk.hex), path(cleared.attempt.pk.hex))
    ClearAttempt.objects.filter(pk=other.attempt.pk).update(tell_after=None)


def tombstone_without_the_end(cleared: Cleared) -> None:
    with handles.opened(handles.open_root(str(cleared.twin))) as run:
        name = cleared.attempt.pk.hex
        opening.data_dir().write_tombstone(name, run, {}, cleared.record.read_bytes())


@pytest.mark.parametrize(
    ("break_it", "reason", "detail"),
    [
        (no_nas, "nas_not_configured", ""),
        (no_twin, "nas_missing_file", "the NAS holds no such run"),
        (no_record, "nas_missing_file", "no ingest.json on the NAS"),
        (another_history, "ingest_disagrees", "history entry 1 on the NAS is not the one that was here"),
        (no_json, "ingest_unreadable", "on the NAS: no valid JSON"),
        (no_tombstone, "tombstone_missing", "no final record in it: "),
        (damaged_tombstone, "tombstone_missing", "no final record in it: "),
        (another_runs_tombstone, "ingest_disagrees", "in the tombstone: run_path is "),
        (tombstone_without_the_end, "ingest_disagrees", "the tombstone's record ends with sync_verified"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_is_given_up_for_good_and_says_why(
    cleared: Cleared, break_it: Callable[[Cleared], None], reason: str, detail: str
) -> None:
    break_it(cleared)
    before = snapshot(cleared.lab.nas)
    assert nas_history.tell(now=cleared.now) == 0
    assert story(cleared) == (None, None, 1, reason)
    assert cleared.attempt.tell_detail.startswith(detail)
    assert nas_history.tell(now=cleared.now + 30 * DAY) == 0
    assert story(cleared)[2] == 1
    assert snapshot(cleared.lab.nas) == before


# What may pass


def unmounted(cleared: Cleared) -> Callable[[], object]:
    right, elsewhere = cleared.lab.nas, cleared.lab.base / "unmounted"
    right.rename(elsewhere)
    right.mkdir()

    def mount_again() -> None:
        right.rmdir()
        elsewhere.rename(right)

    return mount_again


def another_nas(cleared: Cleared) -> Callable[[], object]:
    token = cleared.lab.nas / ".exlab-root"
    right = token.read_text()
    token.write_text("11111111-2222-3333-4444-555555555555")
    return lambda: token.write_text(right)


def locked(cleared: Cleared) -> Callable[[], object]:
    lock = os.open(cleared.twin / METADATA / "ingest.json.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lambda: os.close(lock)


def linked(cleared: Cleared) -> Callable[[], object]:
    folder, elsewhere = cleared.twin / METADATA, cleared.lab.base / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)

    def right_again() -> None:
        folder.unlink()
        elsewhere.rename(folder)

    return right_again


@pytest.mark.parametrize(
    ("hinder", "reason", "pause"),
    [
        (unmounted, "nas_not_mounted", MINUTE),
        (another_nas, "nas_identity_mismatch", MINUTE),
        (locked, "writer_active", MINUTE),
        (linked, "unsafe_path", DAY),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_is_tried_again_and_then_told(
    cleared: Cleared, hinder: Callable[[Cleared], Callable[[], object]], reason: str, pause: timedelta
) -> None:
    make_right = hinder(cleared)
    assert nas_history.tell(now=cleared.now) == 0
    assert story(cleared) == (None, cleared.now + pause, 1, reason)
    assert nas_history.tell(now=cleared.now + pause / 2) == 0
    assert story(cleared)[2] == 1
    make_right()
    assert nas_history.tell(now=cleared.now + pause) == 1
    assert story(cleared) == (cleared.now + pause, None, 1, "")
    assert states(cleared.twin) == HISTORY


def test_a_nas_that_may_not_be_written_is_tried_once_a_day(cleared: Cleared, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = client.NasError(Finding(Reason.NAS_NOT_WRITABLE, "on the NAS: Read-only file system"))
    monkeypatch.setattr(client.NasReader, "tell", mock.Mock(side_effect=refused))
    assert nas_history.tell(now=cleared.now) == 0
    assert story(cleared) == (None, cleared.now + DAY, 1, "nas_not_writable")
    assert cleared.attempt.tell_detail == "on the NAS: Read-only file system"


def test_the_pauses_double_up_to_a_day(cleared: Cleared) -> None:
    another_nas(cleared)
    at, seen = cleared.now, []
    for _ in range(3):
        nas_history.tell(now=at)
        after = story(cleared)[1]
        seen.append((after - at) / MINUTE)
        at = after
    assert seen == [1, 2, 4]
    pauses = [nas_outbox.pause_after(tries, Reason.NAS_TIMEOUT) / MINUTE for tries in (4, 11, 12, 13, 10**6)]
    assert pauses == [8, 1024, 1440, 1440, 1440]


# A NAS that hangs


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch, settings: Any) -> list[int]:
    settings.EXLAB_NAS_TIMEOUT = 0.3
    asked: list[int] = []
    send = reader_process.ReaderProcess._send

    def stop_and_send(reader: reader_process.ReaderProcess, pipe: int, data: bytes) -> None:
        assert reader._child is not None
        os.kill(reader._child.pid, signal.SIGSTOP)
        asked.append(reader._child.pid)
        send(reader, pipe, data)

    monkeypatch.setattr(reader_process.ReaderProcess, "_send", stop_and_send)
    return asked


def test_a_nas_that_hangs_is_asked_once_in_a_pass(
    two: list[Cleared], hanging: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nas_outbox, "_PASS_SECONDS", 0.2)  # over by the time when it is given up
    final_history = mock.Mock(wraps=nas_history.final_history)
    monkeypatch.setattr(nas_history, "final_history", final_history)
    started = time.monotonic()
    assert nas_history.tell(now=two[0].now) == 0
    assert time.monotonic() - started < 5
    # The process that was to tell, and the one that asks whether the NAS itself answers.
    assert (len(hanging), final_history.call_count) == (2, 1)
    assert {story(one) for one in two} == {(None, two[0].now + MINUTE, 1, "nas_timeout")}


def test_a_long_history_does_not_block_on_a_hanging_reader(cleared: Cleared, hanging: list[int]) -> None:
    with client.NasReader(str(cleared.lab.nas), cleared.root.nas_token, timeout=0.3) as reader:
        started = time.monotonic()
        with pytest.raises(client.NasError, match="nas_timeout"):
            reader.tell(RUN_PATH, RUN_PATH, [{"state": "cleared", "note": "n" * 1_000_000}], "0" * 32)
        assert time.monotonic() - started < 5


def test_a_history_longer_than_a_pipe_holds_gets_through(cleared: Cleared) -> None:
    record = read_ingest(cleared.twin)
    record["history"][1]["note"] = "n" * 200_000
    cleared.record.write_text(json.dumps(record))
    keep_tombstone(cleared.attempt, cleared.twin)
    assert nas_history.tell(now=cleared.now) == 1
    assert states(cleared.twin) == HISTORY
    assert read_ingest(cleared.twin)["history"][1] == record["history"][1]


def test_a_nas_whose_breaker_is_open_is_not_asked_and_that_is_no_try(cleared: Cleared, hanging: list[int]) -> None:
    until = timezone.now() + timedelta(minutes=5)
    NasBreaker.objects.create(
        host=settings.EXLAB_HOST,
        token=cleared.root.nas_token,
        failures=1,
        open_until=until,
        reason="nas_timeout",
        detail="silent for 60 s",
    )
    assert nas_history.tell(now=cleared.now) == 0
    told_at, after, tries, reason = story(cleared)
    assert (told_at, tries, reason, hanging) == (None, 0, "nas_timeout", [])
    assert cleared.now + timedelta(minutes=4) < after <= cleared.now + timedelta(minutes=5)
    assert cleared.attempt.tell_detail == "silent for 60 s"


def test_a_nas_whose_breaker_was_open_is_asked_again(cleared: Cleared) -> None:
    until = timezone.now() - timedelta(seconds=1)
    NasBreaker.objects.create(
        host=settings.EXLAB_HOST, token=cleared.root.nas_token, failures=1, open_until=until, reason="nas_timeout"
    )
    assert nas_history.tell(now=cleared.now) == 1


def test_a_pass_that_takes_long_leaves_the_rest_for_the_next(
    two: list[Cleared], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(nas_outbox, "_PASS_SECONDS", 0.0)
        assert nas_history.tell(now=two[0].now) == 0
    assert {story(one) for one in two} == {(None, two[0].now, 0, "")}
    assert nas_history.tell(now=two[0].now) == 2


def test_while_another_process_is_at_it_nothing_is_asked(cleared: Cleared) -> None:
    with opening.data_dir().lock("telling") as ours:
        assert ours
        assert nas_history.tell(now=cleared.now) == 0
    assert story(cleared) == (None, cleared.now, 0, "")
    assert nas_history.tell(now=cleared.now) == 1


# Nothing depends on it


def test_one_that_fails_unexpectedly_does_not_keep_the_others(
    two: list[Cleared], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    final_history = nas_history.final_history

    def fail(attempt: ClearAttempt) -> list[dict[str, Any]]:
        if attempt.pk == two[0].attempt.pk:
            raise ZeroDivisionError
        return final_history(attempt)

    monkeypatch.setattr(nas_history, "final_history", fail)
    assert nas_history.tell(now=two[0].now) == 1
    assert story(two[0]) == (None, two[0].now + MINUTE, 1, "look_failed")
    assert story(two[1])[0] == two[0].now
    assert "ZeroDivisionError" in caplog.text


def break_telling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nas_outbox, "_deliver_all", mock.Mock(side_effect=ZeroDivisionError))


def test_the_minutely_task_tells_and_does_not_fail_for_it(cleared: Cleared, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "rolled back 0, rolled forward 0, unsettled 0, queued again 0, told the NAS of"
    assert tasks.recover() == f"{said} 1"
    assert states(cleared.twin) == HISTORY
    break_telling(monkeypatch)
    assert tasks.recover() == f"{said} 0"


def test_recover_says_how_many_were_told(
    cleared: Cleared, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call_command("recover", "--json")
    assert json.loads(capsys.readouterr().out)["told"] == 1
    break_telling(monkeypatch)
    call_command("recover", "--json")
    assert json.loads(capsys.readouterr().out)["told"] == 0


@pytest.mark.parametrize("command", [("clear", RUN_PATH), ("sweep",)], ids=lambda command: command[0])
@pytest.mark.django_db(transaction=True)
def test_a_command_that_clears_tells_at_its_end(
    scene: Scene, policy: Callable[..., Any], command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    policy(mode="scheduled", retain_hours=1)
    before = but_the_record(scene.lab)
    call_command(*command, "--dry-run", "--json")
    assert states(scene.twin) == HISTORY[:4]
    capsys.readouterr()
    call_command(*command, "--json")
    assert json.loads(capsys.readouterr().out)["cleared"] == 1
    assert states(scene.twin) == HISTORY
    after, receipts = but_the_record(scene.lab), f"{RUN_PATH}/{METADATA}/receipts"
    assert {name: seen for name, seen in after.items() if name in before} == before
    assert len(after.keys() - before.keys()) == 4 and all(name.startswith(receipts) for name in after.keys() - before)
    assert scene.run.attempts.get(phase="done").told_at is not None


@pytest.mark.parametrize("command", [("clear", RUN_PATH), ("sweep",)], ids=lambda command: command[0])
@pytest.mark.django_db(transaction=True)
def test_a_command_that_clears_does_not_fail_for_telling(
    scene: Scene, policy: Callable[..., Any], command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy(mode="scheduled", retain_hours=1)
    break_telling(monkeypatch)
    call_command(*command)
    scene.assert_cleared()


@pytest.mark.django_db(transaction=True)
def test_two_tellers_at_once_tell_it_once(cleared: Cleared, subprocess_env: dict[str, str]) -> None:
    before = but_the_record(cleared.lab)
    tellers = [
        subprocess.Popen(
            [sys.executable, "manage.py", "recover", "--json"],
            cwd=CHECKOUT,
            env=subprocess_env,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    told = [json.loads(teller.communicate(timeout=60)[0])["told"] for teller in tellers]
    assert sum(told) == 1
    assert states(cleared.twin) == HISTORY
    assert but_the_record(cleared.lab) == before


def test_a_tombstone_that_cannot_be_opened_just_now_is_asked_for_again(cleared: Cleared) -> None:
    with mock.patch("tarfile.open", side_effect=OSError(errno.EDQUOT, "Disk quota exceeded")):
        assert nas_history.tell(now=cleared.now) == 0
    attempt = ClearAttempt.objects.get(pk=cleared.attempt.pk)
    assert (attempt.tell_reason, attempt.told_at) == ("look_failed", None)
    assert attempt.tell_after is not None
    assert nas_history.tell(now=attempt.tell_after) == 1
