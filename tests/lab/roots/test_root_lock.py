"""One sweep at a time on a root; no claim outlives its holder."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from cleanup.clears.run_action import Action
from cleanup.lab.roots import opening, root_lock
from cleanup.models import Sweep
from cleanup.runs import discovery
from cleanup.sweeps.all_roots import sweep
from tests.tools.lab import RUN_PATH, Lab

pytestmark = pytest.mark.django_db(transaction=True)

HOLDER = """
    import os, sys, time
    import django
    django.setup()
    from cleanup import claiming
    from cleanup.models import StagingRoot
    with claiming.claim(StagingRoot.objects.get()) as held:
        print("held" if held else "busy", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def holder(root: Any, subprocess_env: dict[str, str]) -> Any:
    """A process that claims the root and sleeps; `holder(data_dir)` returns it once it has printed the result."""
    started: list[subprocess.Popen[str]] = []

    def start(**environment: str) -> tuple[subprocess.Popen[str], str]:
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(HOLDER)],
            env={**subprocess_env, "DJANGO_SETTINGS_MODULE": "exlab.settings", **environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(child)
        assert child.stdout is not None
        return child, child.stdout.readline().strip()

    yield start
    for child in started:
        child.kill()
        child.wait()


def held(root: Any) -> bool:
    with root_lock.claim(root) as claimed:
        return claimed


def test_a_claim_ends_with_its_block(root: Any) -> None:
    assert held(root)
    assert held(root)


def test_a_killed_holder_leaves_nothing_behind(holder: Any, root: Any) -> None:
    child, said = holder()
    assert said == "held"
    assert not held(root)
    child.send_signal(signal.SIGKILL)
    child.wait()
    deadline = time.monotonic() + 20  # a PostgreSQL notices a dead client within moments
    while not held(root):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_process_with_another_data_directory_is_noticed(holder: Any, root: Any, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    _child, said = holder(EXLAB_DATA_DIR=str(tmp_path / "other"))
    assert said == "held"
    assert not held(root)


@pytest.mark.skipif("postgresql" not in connection.vendor, reason="SQLite serves one host; its locks are the disk's")
def test_another_host_is_noticed(holder: Any, root: Any, tmp_path: Path) -> None:
    """It shares only the database, neither a data directory nor a visible lock."""
    (tmp_path / "other").mkdir()
    _child, said = holder(EXLAB_DATA_DIR=str(tmp_path / "other"), EXLAB_HOST="another-host")
    assert said == "held"
    assert not held(root)


def test_a_root_that_is_not_mounted_can_be_claimed(root: Any, lab: Lab) -> None:
    lab.staging.rename(lab.base / "away")
    assert held(root)


def test_a_sweep_that_comes_second_does_nothing_and_says_so(
    holder: Any, lab: Lab, root: Any, now: datetime, policy: Callable[..., Any]
) -> None:
    lab.run()
    discovery.discover(root, now=now)
    policy(mode="scheduled", retain_hours=0)
    _child, said = holder()
    assert said == "held"
    swept = sweep(now=now)
    assert [(problem.root, problem.reason) for problem in swept.problems] == [("lab", "sweep_running")]
    assert (swept.runs, Sweep.objects.count()) == ([], 0)
    shown = sweep(now=now, dry_run=True)  # looking is free
    assert [(run.run_path, run.action) for run in shown.runs] == [(RUN_PATH, Action.WOULD_CLEAR)]


def test_the_claim_is_no_lock_of_a_run(root: Any, lab: Lab, now: datetime) -> None:
    lab.run()
    discovery.discover(root, now=now)
    with root_lock.claim(root) as claimed, opening.open_root(root) as descriptor:
        assert claimed
        with opening.open_run(descriptor, RUN_PATH) as opened:
            assert os.fstat(opened.run)
