"""A clear and a wizard that takes its lock all the time do not block each other."""

import functools
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cleanup import clear_run
from cleanup.models import Run
from cleanup.runs import discovery
from tests.tools.lab import METADATA, Lab

pytestmark = pytest.mark.django_db

LARGE_BYTES = 256 << 20
EVERY_SECONDS = 0.1
# As the library does in its versions: each takes the lock by an flock that it asks for every 50 ms.
TAKERS = {
    "touches the lock at every take": "os.utime(LOCK) if os.path.exists(LOCK) else None",
    "deletes the lock at every release": "unlinks = True",
    "makes missing folders anew": "os.makedirs(os.path.dirname(LOCK), exist_ok=True)",
}
BY_HAND = """
import fcntl, os, time
unlinks = False
class Taken:
    def __enter__(self):
        while True:
            {how}
            self.file = os.open(LOCK, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                os.close(self.file)
                time.sleep(0.05)
    def __exit__(self, *error):
        if unlinks:
            os.unlink(LOCK)
        os.close(self.file)
take = Taken
"""
BY_THE_LIBRARY = """
from filelock import FileLock
take = lambda: FileLock(LOCK)
"""
WIZARD = """
import json, os, sys, threading, time
LOCK = {record!r} + ".lock"
{taking}
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
waits = []
print("ready", flush=True)
while not ended.wait({every}):
    if not os.path.exists({record!r}):
        continue
    began = time.monotonic()
    try:
        with take():
            waits.append(time.monotonic() - began)
            open({record!r}).read()
    except FileNotFoundError:
        pass  # the run was renamed in between
print(json.dumps(waits), flush=True)
"""


@contextmanager
def wizard(run: Path, taking: str) -> Iterator[list[float]]:
    """Another process reads the record under its lock repeatedly; the list of its waits, in seconds.

    The list is filled at the end of the block.
    """
    script = WIZARD.format(record=str(run / METADATA / "ingest.json"), taking=taking, every=EVERY_SECONDS)
    waits: list[float] = []
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        yield waits
        said, _ = program.communicate("\n", timeout=60)
        waits += json.loads(said)


@functools.cache
def _digest_of_zeros() -> str:
    digest, block = hashlib.sha256(), bytes(1 << 20)
    for _ in range(LARGE_BYTES >> 20):
        digest.update(block)
    return digest.hexdigest()


@pytest.fixture
def run(lab: Lab, root: Any, now: datetime) -> Run:
    path = lab.run(files={"stack.tif": b""})
    for place in (path, lab.twin()):
        seen = (place / "stack.tif").stat()
        os.truncate(place / "stack.tif", LARGE_BYTES)
        os.utime(place / "stack.tif", ns=(seen.st_atime_ns, seen.st_mtime_ns))
        manifest = place / METADATA / "checksums.sha256"
        lines = manifest.read_text().splitlines(keepends=True)
        listed = [f"{_digest_of_zeros()}  stack.tif\n" if line.endswith(" stack.tif\n") else line for line in lines]
        manifest.write_text("".join(listed))
    discovery.discover(root, now=now)
    return Run.objects.with_root().get()


def _library() -> str:
    pytest.importorskip("filelock", reason="filelock is not installed")
    return BY_THE_LIBRARY


@pytest.mark.parametrize(
    "how", [*(pytest.param(how, marks=pytest.mark.exhaustive) for how in TAKERS), "the library that is installed"]
)
def test_a_wizard_that_takes_its_lock_all_the_while(run: Run, lab: Lab, now: datetime, how: str) -> None:
    """Takes some seconds each: half a gigabyte is read while the wizard asks ten times a second."""
    taking = BY_HAND.format(how=TAKERS[how]) if how in TAKERS else _library()
    path = lab.staging / run.run_path
    began = time.monotonic()
    with wizard(path, taking) as waits:
        files, _size = clear_run(run, now=now)
    assert files >= 5
    assert not path.exists()
    assert [entry.name for entry in path.parent.iterdir()] == []
    assert len(waits) > (time.monotonic() - began) / 2, "it hardly ever asked"
    assert max(waits) < 1
