"""`manage.py worker` with real processes: no web server, no migration."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from cleanup.clears import queue
from cleanup.models import ClearAttempt, Heartbeat, Run, StagingRoot
from cleanup.monitoring import watchdog
from cleanup.runs import discovery
from tests.management.test_up import CHECKOUT, PATIENCE, kill_all, members, sessions_of, wait_for
from tests.tools.lab import Lab

pytestmark = pytest.mark.one_engine(by="function")


class Worker:
    def __init__(self, env: dict[str, str], data: Path) -> None:
        self.errors = data.parent / f"stderr-{os.urandom(4).hex()}"
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "worker", "--json"],
                cwd=CHECKOUT,
                env={**env, "EXLAB_DATA_DIR": str(data)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.sessions: set[int] = set()

    def wait_until_up(self) -> dict[int, str]:
        assert self.process.stdout is not None
        told = self.process.stdout.readline()
        assert told, self.errors.read_text()
        self.told = json.loads(told)
        children = sessions_of(self.process.pid)
        self.sessions = set(children)
        return children

    def clear_away(self) -> None:
        if self.process.poll() is None:
            self.sessions |= set(sessions_of(self.process.pid))
            self.process.kill()
        self.process.wait()
        kill_all(self.sessions)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def start(subprocess_env: dict[str, str], data: Path) -> Iterator[Callable[..., Worker]]:
    started: list[Worker] = []

    def start_one(data: Path = data, **env: str) -> Worker:
        started.append(Worker({**subprocess_env, **env}, data))
        return started[-1]

    yield start_one
    for one in started:
        one.clear_away()


def test_serves_a_host_without_a_web_server_and_ends_without_a_trace(
    start: Callable[..., Worker], data: Path, root: StagingRoot
) -> None:
    Heartbeat.objects.all().delete()
    marker = Path(root.path) / f".exlab-staging-{root.token}"
    marker.unlink()  # as of a root that a version before markers has registered
    worker = start()
    commands = sorted(command.split()[-1] for command in worker.wait_until_up().values())
    assert marker.exists()
    assert commands == ["listen", "qcluster", "qcluster", "qcluster", "watch"]
    wanted = {*watchdog.clusters(), watchdog.WATCH}
    wait_for(
        lambda: set(Heartbeat.objects.filter(host=settings.EXLAB_HOST).values_list("cluster", flat=True)) == wanted,
        "a heartbeat of each",
    )
    second = start()
    assert second.process.wait(PATIENCE) == 2
    assert (
        f"`manage.py worker` is running already on {data} (process {worker.process.pid})" in second.errors.read_text()
    )
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(PATIENCE) == 0, worker.errors.read_text()
    assert members(worker.sessions) == set()


def test_a_watchdog_that_dies_ends_the_worker(start: Callable[..., Worker]) -> None:
    worker = start()
    watch = next(pid for pid, command in worker.wait_until_up().items() if command.split()[-1] == "watch")
    os.kill(watch, signal.SIGKILL)
    assert worker.process.wait(PATIENCE) == 1
    assert "The watchdog ended by itself" in worker.errors.read_text()
    assert members(worker.sessions) == set()


def test_two_hosts_on_one_database_do_their_own_work(
    start: Callable[..., Worker], lab: Lab, root: Any, tmp_path: Path
) -> None:
    now = timezone.now()
    lab.run(verified_at=now - timedelta(days=3))
    discovery.discover(root, now=now)
    StagingRoot.objects.update(host="labpc-2")
    for host in ("labpc-1", "labpc-2"):
        (tmp_path / host).mkdir()
    workers = [start(tmp_path / host / "data", EXLAB_HOST=host) for host in ("labpc-1", "labpc-2")]
    for worker in workers:
        worker.wait_until_up()
    assert [worker.told["roots"] for worker in workers] == [[], ["lab"]]
    attempt = queue.request_clear(Run.objects.with_root().get(), actor="ada", now=timezone.now())
    assert attempt.host == "labpc-2"
    wait_for(lambda: ClearAttempt.objects.get().phase == "done", "the clear by the host that has the disk")
    assert len(list((tmp_path / "labpc-2/data/tombstones").iterdir())) == 1
    wanted = {(host, beat) for host in ("labpc-1", "labpc-2") for beat in (*watchdog.clusters(), watchdog.WATCH)}
    wait_for(lambda: wanted <= set(Heartbeat.objects.values_list("host", "cluster")), "a heartbeat of each")


def test_brings_no_database_up_to_date(start: Callable[..., Worker], tmp_path: Path) -> None:
    worker = start(DATABASE_URL=f"sqlite:///{tmp_path / 'empty.sqlite3'}")
    assert worker.process.wait(PATIENCE) == 2
    assert "manage.py migrate" in worker.errors.read_text()
