"""`manage.py listen` as a process of its own."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from cleanup.models import Run, StagingRoot
from tests.management.test_up import wait_for
from tests.tools.checkout import CHECKOUT
from tests.tools.lab import RUN_PATH, Lab

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.exhaustive]

FIRST = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-06-02T13-00"
PROMISED_SECONDS = 5.0


@pytest.fixture
def listening(lab: Lab, root: StagingRoot, subprocess_env: dict[str, str]) -> Iterator[None]:
    """The process, once it has looked at the disk for the first time."""
    lab.run(FIRST, state="staging")
    words = [sys.executable, "manage.py", "listen"]
    with subprocess.Popen(words, cwd=CHECKOUT, env=subprocess_env, stderr=subprocess.PIPE) as process:
        try:
            wait_for(Run.objects.filter(run_path=FIRST).exclude(looked_at=None).exists, "the first run")
            yield
        finally:
            process.terminate()
            assert process.wait(30) == 0


def test_a_new_run_and_a_changed_one_are_known_within_five_seconds(listening: None, lab: Lab) -> None:
    """Takes some six seconds on each engine: the start of Django, and two waits. It is tried three times if busy."""
    seconds = []
    for number in range(3):
        run_path = RUN_PATH[:-2] + f"{number:02}"
        lab.run(run_path, state="complete")
        begun = time.monotonic()
        wait_for(Run.objects.filter(run_path=run_path, state="complete").exists, "the new run")
        seconds.append(time.monotonic() - begun)
        if seconds[-1] < PROMISED_SECONDS:
            return
    pytest.fail(f"it took {seconds}")
