"""A process that reads a NAS serves one run after another, and each question opens the NAS root anew."""

import contextlib
import os
import signal
from typing import Any

import pytest

from cleanup.lab.nas import kept_readers
from cleanup.lab.roots import opening
from cleanup.models import NasBreaker, Run
from cleanup.storage.nas import client
from cleanup.storage.nas.reader_process import ReaderProcess
from tests.faults.scene import set_scene
from tests.tools.lab import Lab

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]


@pytest.fixture
def run(lab: Lab, root: Any, now: Any) -> Run:
    return set_scene(lab, root, now).run


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The processes that were started so far."""
    pids: list[int] = []
    real = ReaderProcess._start

    def start(reader: ReaderProcess) -> Any:
        child = real(reader)
        pids.append(child.pid)
        return child

    monkeypatch.setattr(ReaderProcess, "_start", start)
    return pids


def ask(run: Run) -> list[str]:
    with opening.reader_for(run.root) as readers:
        return readers.of(run).present([run.run_path])


def is_living(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return os.path.exists(f"/proc/{pid}")


def test_one_process_serves_run_after_run_and_ends_with_the_last(run: Run, started: list[int]) -> None:
    with kept_readers.keeping():
        assert ask(run) == ask(run) == [run.run_path]
        with kept_readers.keeping():
            assert ask(run) == [run.run_path]
        assert len(started) == 1
        assert is_living(started[0])
    assert not is_living(started[0])
    ask(run)
    assert len(started) == 2


def test_two_at_once_have_a_process_each(run: Run, started: list[int]) -> None:
    with kept_readers.keeping(), opening.reader_for(run.root) as readers:
        assert readers.of(run).present([run.run_path]) == ask(run)
        assert len(started) == 2


def test_it_waits_for_the_next_task(run: Run, started: list[int]) -> None:
    for _ in range(2):
        with kept_readers.keeping_on():
            assert ask(run) == [run.run_path]
    assert len(started) == 1
    kept_readers.end()
    assert not is_living(started[0])


def test_a_nas_that_went_is_missed_and_one_that_came_back_is_found(run: Run, lab: Lab, started: list[int]) -> None:
    with kept_readers.keeping():
        ask(run)
        away = lab.nas.rename(lab.base / "away")
        lab.nas.mkdir()
        with pytest.raises(client.NasError, match="no token"):
            ask(run)
        lab.nas.rmdir()
        away.rename(lab.nas)
        assert ask(run) == [run.run_path]
        assert len(started) == 1


def test_one_that_died_in_between_is_no_failure_of_the_nas(run: Run, started: list[int]) -> None:
    with kept_readers.keeping():
        ask(run)
        os.kill(started[0], signal.SIGKILL)
        while is_living(started[0]):
            pass
        assert ask(run) == [run.run_path]
        assert len(started) == 2
    assert not NasBreaker.objects.filter(failures__gt=0).exists()


def test_one_that_was_left_in_an_answer_is_not_kept(run: Run, started: list[int]) -> None:
    with kept_readers.keeping():
        with pytest.raises(KeyboardInterrupt), opening.reader_for(run.root) as readers:
            reader: Any = readers.of(run)
            reader._reader._ask({"present": [run.run_path]})
            raise KeyboardInterrupt
        assert ask(run) == [run.run_path]
        assert len(started) == 2
