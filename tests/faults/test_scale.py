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


FILES = 100_000
MEBIBYTE = 1 << 20


@pytest.mark.exhaustive
@pytest.mark.timeout(900)  # it measures memory; a machine that is busy with other things may take its time
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
    used = peak(child)
    answer = json.loads(child.communicate()[0])
    assert child.returncode == 0, answer
    assert answer["files"] == FILES + 8
    assert not path.exists()
    print(f"{used / MEBIBYTE:.0f} MiB at the most")  # noqa: T201
    assert 0 < used < 200 * MEBIBYTE, f"{used / MEBIBYTE:.0f} MiB"


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
