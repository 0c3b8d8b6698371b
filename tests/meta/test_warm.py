"""A warm fork is a process like any other."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cleanup.storage.nas import reader_process
from tests.faults.child import DIE
from tests.tools import warm


def test_the_reader_of_the_nas_is_a_process_in_a_session_of_its_own() -> None:
    child = reader_process.start(["/nowhere", ""])
    group, session = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[2:4]
    assert (int(group), int(session)) == (child.pid, child.pid)
    said, _ = child.communicate(b'{"run_path": "x", "with_bytes": false}\n', timeout=20)
    assert b"nas_not_mounted" in said
    assert child.returncode == 0
    assert not Path(f"/proc/{child.pid}").exists()


def test_one_that_is_killed_says_by_which_signal() -> None:
    child = reader_process.start(["/nowhere", ""])
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(timeout=0.1)
    assert child.poll() is None
    child.kill()
    assert child.wait(20) == -signal.SIGKILL
    child.communicate()


def test_each_learns_its_own_end() -> None:
    children = [reader_process.start(["/nowhere", ""]) for _ in range(3)]
    children[1].kill()
    assert children[1].wait(20) == -signal.SIGKILL
    assert [child.communicate(b"", timeout=20) for child in children] == [(b"", None)] * 3
    assert [child.returncode for child in children] == [0, -signal.SIGKILL, 0]


def test_another_interpreter_is_started_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho another\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    assert reader_process.start(["/nowhere", ""]).communicate() == (b"another\n", None)


@pytest.mark.parametrize(("command", "status"), [("--version", 0), ("no_such_command", 1)])
def test_a_command_ends_and_speaks_as_it_would(subprocess_env: dict[str, str], command: str, status: int) -> None:
    child = warm.python(["manage.py", command], subprocess_env, stdout=-1, stderr=-1, text=True)
    alone = [sys.executable, "manage.py", command]
    cold = subprocess.run(alone, cwd=warm.CHECKOUT, env=subprocess_env, capture_output=True, text=True, check=False)
    assert (*child.communicate(timeout=60), child.returncode) == (cold.stdout, cold.stderr, cold.returncode)
    assert child.returncode == status


def test_what_one_child_is_told_the_next_does_not_hear(subprocess_env: dict[str, str]) -> None:
    command = ["-m", "tests.faults.child", "recover", "2026-06-15T08:00:00+00:00"]
    for told, ended in ({DIE: "cleanup.clears.recovery:recover:before:1"}, -signal.SIGKILL), ({}, 0):
        child = warm.python(command, {**subprocess_env, **told}, stdout=-1)
        child.communicate(timeout=60)
        assert child.returncode == ended, told
