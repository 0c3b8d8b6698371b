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


@pytest.mark.exhaustive
@pytest.mark.timeout(5400)  # it measures memory; a machine that is busy with other things may take its time
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("files", "level", "most"), [(100_000, "checksum", 120), (1_000_000, "size", 200), (1_000_000, "checksum", 240)]
)
def test_a_run_of_very_many_files_is_cleared_in_little_memory(
    lab: Lab, root: Any, policy: Any, now: datetime, subprocess_env: dict[str, str], files: int, level: str, most: int
) -> None:
    """A million files take minutes; most are empty, so that they fit in a disk in memory."""
    policy(proof=level)
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
    print(f"{used / MEBIBYTE:.0f} MiB at the most")  # noqa: T201
    assert 0 < used < most * MEBIBYTE, f"{used / MEBIBYTE:.0f} MiB"


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
