"""What a run of very many files costs, measured on the real command."""

import contextlib
import json
import re
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cleanup.runs import discovery
from tests.tools.checkout import CHECKOUT
from tests.tools.lab import RUN_PATH, Lab

pytestmark = pytest.mark.one_engine(by="function")


MEBIBYTE = 1 << 20
MOST = 130 * MEBIBYTE


@pytest.mark.exhaustive
@pytest.mark.django_db(transaction=True)
def test_a_run_of_a_hundred_thousand_files_is_cleared_in_little_memory(
    lab: Lab, root: Any, policy: Any, now: datetime, subprocess_env: dict[str, str]
) -> None:
    """Takes a minute. `bench/memory.py` measures a million files."""
    files = 100_000
    policy(proof="checksum")
    path = lab.run(
        files={
            f"plate_{number // 1000:04}/well_{number:07}.bin": b"" if number % 20 else b"%d" % number
            for number in range(files)
        }
    )
    discovery.discover(root, now=now)
    child = subprocess.Popen(
        [sys.executable, "manage.py", "clear", RUN_PATH, "--json"],
        cwd=CHECKOUT,
        env=subprocess_env,
        stdout=subprocess.PIPE,
    )
    used = peak(child)
    answer = json.loads(child.communicate()[0])
    assert child.returncode == 0, answer
    assert answer["files"] == files + 8
    assert not path.exists()
    assert 0 < used < MOST, f"{used / MEBIBYTE:.0f} MiB"


def peak(child: "subprocess.Popen[bytes]") -> int:
    """The peak memory of a process in bytes, polled until it ends.

    Its resource usage begins with the memory of the process that started it.
    """
    held = 0
    while child.poll() is None:
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{child.pid}/status").read_text()
            found = re.search(r"VmHWM:\s+(\d+) kB", status)
            held = max(held, int(found[1]) * 1024) if found else held
        time.sleep(0.02)
    return held
