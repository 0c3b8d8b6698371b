"""From a click on "Clear now" to a run that is gone: how long each part of the way takes, over many clicks.

    python -m bench.clicks
    python -m bench.clicks --clicks 50 --files 1000 --engine postgresql --dir /mnt/disk

A real server and a real task cluster, each in its own process, as `up` starts them. Each click clears another run,
which was proven ahead: its bytes were compared on both sides, and the proof is in the database. The copies lie on a
local disk. Beside the server, rows are read every ten milliseconds; the page asks once a second, as a row does.
"""

import argparse
import http.client
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

PORT = 8917
_EVERY = 0.01  # seconds between two looks at the rows
_ROW_EVERY = 1.0  # and between two of the page's
_PATIENCE = 60.0
_FIRST = datetime(2026, 4, 17, 14, 0, tzinfo=UTC)
PARTS = (
    "the click is answered",
    "a worker begins",
    "all checks passed: committed",
    "freed: the files are gone, the ledger says so",
    "the list knows",
    "click to freed",
    "click to a page that shows it",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.clicks", description="Measure the way of a click.")
    parser.add_argument("--clicks", type=int, default=50)
    parser.add_argument("--files", type=int, default=1_000)
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--dir", metavar="FOLDER", help="make the scratch folder here: on the filesystem to measure")
    options = parser.parse_args()
    if options.dir:
        tempfile.tempdir = str(Path(options.dir).resolve())  # before the first import that makes a folder
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    from bench.throwaway import HERE, database

    with database(options.engine):
        measure(HERE / "clicks", options)


def measure(place: Path, options: argparse.Namespace) -> None:
    """Click, and print what each part took: median, 95 of 100, and the longest."""
    place.mkdir()
    runs = _prove(place, options)
    print(f"{options.clicks} clicks, {options.files:,} files each, database {options.engine}, load {os.getloadavg()}")
    times: list[list[float]] = []
    with _processes():
        page = _Page()
        for run in runs:
            times.append(_click(page, run))
            time.sleep(random.Random(run.pk).random())  # a click comes at any moment of the worker's rounds
    print(f"{'':48} {'p50':>7} {'p95':>7} {'max':>7}  seconds")
    for name, part in zip(PARTS, zip(*times, strict=True), strict=True):
        ordered = sorted(part)
        told = (ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)], ordered[-1])
        print(f"{name:48} " + " ".join(f"{each:7.3f}" for each in told))


# Before


def _prove(place: Path, options: argparse.Namespace) -> list[Any]:
    from cleanup.lab import policy_versions
    from cleanup.lab.roots import registration
    from cleanup.models import Run
    from cleanup.runs import discovery, run_status
    from tests.tools import proven
    from tests.tools.lab import Lab

    lab, now = Lab(place / "lab"), datetime.now(UTC)
    chance = random.Random(options.files)
    files = {
        f"d{number % 10:02}/f{number:05}.dat": chance.randbytes(chance.randint(1 << 10, 4 << 10))
        for number in range(options.files)
    }
    for number in range(options.clicks):
        leaf = f"Run_{_FIRST + timedelta(minutes=number):%Y-%m-%dT%H-%M}"
        lab.run(f"BENCH_01/CLICKS/Runs/{leaf}", files=files, verified_at=now - timedelta(days=6))
    how: dict[str, Any] = {"nas_path": str(lab.nas), "allow_same_filesystem": True, "accept_empty": True}
    root = registration.register("lab", str(lab.staging), now=now, **how)
    policy_versions.add_version(author="bench", now=now, proof="checksum")
    discovery.discover(root, now=now)
    runs = list(Run.objects.with_root())
    for run in runs:
        proven.prove(run, now)
    run_status.judge_stale(now)
    subprocess.run(["sync", "-f", place], check=True)
    return runs


# The processes


@contextmanager
def _processes() -> Iterator[None]:
    from django.conf import settings
    from django.db import connection

    from tests.tools import engines

    environment = {**os.environ, "DATABASE_URL": engines.url_of(connection.settings_dict)}
    manage = [sys.executable, str(settings.BASE_DIR / "manage.py")]
    subprocess.run([*manage, "collectstatic", "--noinput", "-v0"], env=environment, check=True)
    serving = [sys.executable, "-m", "gunicorn", "--config", "python:exlab.serving", "--bind", f"127.0.0.1:{PORT}"]
    with ExitStack() as stack:
        stack.enter_context(_started([*serving, "exlab.wsgi"], environment, settings.BASE_DIR))
        for name in ("exlab", settings.EXLAB_CLEAR_CLUSTER):
            own = {**environment, "Q_CLUSTER_NAME": name}
            stack.enter_context(_started([*manage, "qcluster"], own, settings.BASE_DIR))
        time.sleep(5)
        yield


@contextmanager
def _started(command: list[str], environment: dict[str, str], folder: Path) -> Iterator[None]:
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


# The click


class _Page:
    """A signed-in browser, as far as a row of the list needs it."""

    def __init__(self) -> None:
        from django.contrib.auth.models import User
        from django.test import Client

        client = Client()
        client.force_login(User.objects.create_superuser("bench"))
        self._cookies = {"sessionid": client.cookies["sessionid"].value}
        self.get("/runs/")

    def get(self, address: str, **more: str) -> str:
        return self._ask("GET", address, None, more)

    def post(self, address: str, fields: dict[str, str]) -> str:
        token = {"X-CSRFToken": self._cookies["csrftoken"], "Content-Type": "application/x-www-form-urlencoded"}
        return self._ask("POST", address, urlencode(fields), token)

    def _ask(self, method: str, address: str, body: str | None, more: dict[str, str]) -> str:
        asked = http.client.HTTPConnection("127.0.0.1", PORT, timeout=_PATIENCE)
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        asked.request(method, address, body, {"Cookie": cookies, "HX-Request": "true", **more})
        answer = asked.getresponse()
        text = answer.read().decode()
        assert answer.status == 200, f"{method} {address}: {answer.status}\n{text[:500]}"
        for cookie in answer.headers.get_all("Set-Cookie") or ():
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name] = value
        asked.close()
        return text


def _click(page: _Page, run: Any) -> list[float]:
    from cleanup.models import ClearAttempt, Phase, Run

    dialog = page.get(f"/runs/{run.pk}/clear/")
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', dialog))
    begun = time.monotonic()
    page.post(f"/runs/{run.pk}/clear/", {**fields, "note": "", "typed": ""})
    answered = time.monotonic()
    phases = ClearAttempt.objects.filter(run=run)

    def reached(*wanted: str) -> Callable[[], bool]:
        return lambda: phases.values_list("phase", flat=True).get() in wanted

    ended = (Phase.DONE, *ClearAttempt.FAILED)
    worked = _wait(reached(Phase.INTENT, Phase.COMMITTED, *ended))
    committed = _wait(reached(Phase.COMMITTED, *ended))
    freed = _wait(reached(*ended))
    attempt = phases.get()
    assert attempt.phase == Phase.DONE, (attempt.reason, attempt.detail)
    judged = _wait(lambda: not Run.objects.values_list("here", flat=True).get(pk=run.pk))
    shown = answered
    while shown < freed:  # the page has asked in between, at its own pace
        shown += _ROW_EVERY
    time.sleep(max(0.0, shown - time.monotonic()))
    row = page.get(f"/runs/{run.pk}/row/")
    seen = time.monotonic()
    assert "Cleared, " in row, row
    parts = [answered - begun, worked - answered, committed - worked, freed - committed, judged - freed]
    return [*parts, freed - begun, seen - begun]


def _wait(is_so: Callable[[], bool]) -> float:
    until = time.monotonic() + _PATIENCE
    while not is_so():
        assert time.monotonic() < until, "it takes too long"
        time.sleep(_EVERY)
    return time.monotonic()


if __name__ == "__main__":
    main()
