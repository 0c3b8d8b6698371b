"""What is forked from a process that waits is a child like any other: its streams, its environment, its end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cleanup.storage.nas import client
from tests.faults.child import DIE
from tests.tools import warm


def status_of(pid: int) -> list[str]:
    """Parent, process group and session of a process, and what comes after them."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1:]


def test_the_reader_of_the_nas_is_our_own_child_in_a_session_of_its_own() -> None:
    child = client.subprocess.Popen([*warm.NAS_READER, "/nowhere", ""], stdin=-1, stdout=-1, start_new_session=True)
    parent, group, session, *_ = status_of(child.pid)
    assert (int(parent), int(group), int(session)) == (os.getpid(), child.pid, child.pid)
    said, _ = child.communicate(b'{"run_path": "x", "with_bytes": false}\n', timeout=20)
    assert b"nas_not_mounted" in said
    assert child.returncode == 0


def test_one_that_is_killed_says_by_which_signal() -> None:
    child = client.subprocess.Popen([*warm.NAS_READER, "/nowhere", ""], stdin=-1, stdout=-1, start_new_session=True)
    child.kill()
    assert child.wait(20) == -signal.SIGKILL
    child.communicate()


def test_any_other_reader_is_started_as_it_says() -> None:
    child = client.subprocess.Popen(["/bin/echo", "another"], stdout=-1)
    assert child.communicate() == (b"another\n", None)


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
