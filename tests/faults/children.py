"""Starts the child processes of these tests."""

import json
import signal
import subprocess
from datetime import datetime
from typing import Any

from tests.faults.child import DIE, WAIT
from tests.tools import warm


def start(env: dict[str, str], what: str, now: datetime, *arguments: str, **more_env: str) -> subprocess.Popen[str]:
    return warm.python(
        ["-m", "tests.faults.child", what, now.isoformat(), *arguments],
        {**env, **more_env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run(env: dict[str, str], what: str, now: datetime, *arguments: str) -> Any:
    with start(env, what, now, *arguments) as child:
        said, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    return json.loads(said)


def kill_at(place: str, env: dict[str, str], what: str, now: datetime, *arguments: str) -> None:
    with start(env, what, now, *arguments, **{DIE: place}) as child:
        child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL, f"it went past {place}"


def pause_at(place: str, env: dict[str, str], what: str, now: datetime, *arguments: str) -> subprocess.Popen[str]:
    child = start(env, what, now, *arguments, **{WAIT: place})
    assert child.stdout is not None
    assert child.stdout.readline() == "here\n", f"it never came to {place}"
    return child


def resume(child: subprocess.Popen[str]) -> Any:
    with child:
        said, _ = child.communicate("go\n", timeout=60)
    assert child.returncode == 0
    return json.loads(said)
