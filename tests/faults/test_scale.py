"""A run of very many files: what it costs, measured on the real command."""

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cleanup import discovery
from tests.lab import RUN_PATH, Lab

CHECKOUT = Path(__file__).resolve().parent.parent.parent
FILES = 100_000
MEBIBYTE = 1 << 20


@pytest.mark.exhaustive
@pytest.mark.django_db(transaction=True)
def test_a_run_of_100_000_files_is_cleared_in_less_than_200_mib(
    lab: Lab, root: Any, now: datetime, subprocess_env: dict[str, str]
) -> None:
    path = lab.run(files={f"plate_{number // 1000:03}/well_{number:06}.bin": b"%d" % number for number in range(FILES)})
    discovery.discover(root, now=now)
    child = subprocess.Popen(
        [sys.executable, "manage.py", "clear", RUN_PATH, "--json"],
        cwd=CHECKOUT,
        env=subprocess_env,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    answer = json.loads(child.stdout.read())
    child.stdout.close()
    _pid, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, answer
    assert answer["files"] == FILES + 7
    assert not path.exists()
    print(f"{used.ru_maxrss / 1024:.0f} MiB at the most")  # noqa: T201
    assert used.ru_maxrss * 1024 < 200 * MEBIBYTE, f"{used.ru_maxrss / 1024:.0f} MiB"
