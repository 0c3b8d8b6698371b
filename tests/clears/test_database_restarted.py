"""A real cluster clears a batch while PostgreSQL ends its sessions or is killed: each run goes once."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import DatabaseError, connection
from django.utils import timezone
from django_q.models import OrmQ

from cleanup.clears import batches, preview, queue, recovery, retries
from cleanup.clears.preview import RequestedRuns
from cleanup.clears.progress import measure
from cleanup.models import ClearBatch, LedgerEntry, LedgerKind, Phase, Run
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from tests.clears.test_batches import operator
from tests.management.test_up import CHECKOUT
from tests.tools import engines
from tests.tools.lab import Lab, census, snapshot

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(600),
]

PATIENCE_SECONDS = 120


class Cluster:
    """The real cluster that clears, started again when it dies, as `up` and `worker` do."""

    def __init__(self, env: dict[str, str], said: Path) -> None:
        self._env = {**env, "Q_CLUSTER_NAME": settings.EXLAB_CLEAR_CLUSTER}
        self._said = said
        self.deaths = -1
        self.start()

    def start(self) -> None:
        self.deaths += 1
        queue.release(settings.EXLAB_CLEAR_CLUSTER, now=timezone.now())
        with self._said.open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "qcluster"],
                cwd=CHECKOUT,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def look_after(self) -> None:
        if self.process.poll() is not None:
            self.end()
            self.start()

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def cluster(subprocess_env: dict[str, str], tmp_path: Path) -> Iterator[Callable[[], Cluster]]:
    with ExitStack() as stack:

        def start() -> Cluster:
            made = Cluster(subprocess_env, tmp_path / "cluster.log")
            stack.callback(made.end)
            return made

        yield start


@pytest.fixture
def own_server() -> None:
    if not engines.can_kill_server():
        pytest.skip("It takes a PostgreSQL server of the tests' own: run it with -n 2 --dist each.")


def terminate() -> None:
    with connection.cursor() as cursor:
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        cursor.execute(f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {others}")


def kill() -> None:
    engines.kill_server()
    connection.close()


def place(lab: Lab, root: Any, runs: int) -> tuple[ClearBatch, dict[str, tuple[int, int]]]:
    now = timezone.now()
    sizes = {}
    for number in range(runs):
        name = f"CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-{number:02}"
        files = {f"{part:02}.tif": bytes([number]) * 20_000 for part in range(20)}
        sizes[name] = census(lab.run(name, files=files, verified_at=now - timedelta(days=3)))
    discovery.discover(root, now=now)
    user = operator("ada")
    asked = RequestedRuns.of(Run.objects.values_list("pk", flat=True))
    shown = preview.preview(user, asked, now)
    who = User.objects.get(pk=user.pk)
    batch = batches.place(who, asked, digest=shown.digest, key=uuid4(), typed=shown.number, now=now)
    return batch, sizes


def recover() -> None:
    recovery.recover(now=timezone.now())
    queue.enqueue_lost(host=settings.EXLAB_HOST, now=timezone.now() + timedelta(minutes=3))
    retries.ask(now=timezone.now())


def assert_one_row_each() -> None:
    rows = Counter(row.task["args"][0] for row in OrmQ.objects.all() if row.func() == "cleanup.tasks.clear")
    assert not [key for key, number in rows.items() if number > 1]


def finish(batch: ClearBatch, cluster: Cluster) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while measure(batch, timezone.now()).open:
        assert time.monotonic() < deadline, list(
            batch.attempts.values_list("run__run_path", "phase", "reason", "tries")
        )
        cluster.look_after()
        recover()
        assert_one_row_each()
        time.sleep(0.05)


def begun(batch: ClearBatch, number: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(DatabaseError):
            waiting = batch.attempts.filter(phase=Phase.QUEUED).count()
            if batch.attempts.exclude(phase=Phase.QUEUED).count() >= number or not waiting:
                return
        time.sleep(0.02)


def assert_each_went_once(lab: Lab, batch: ClearBatch, sizes: dict[str, tuple[int, int]], twins: Any) -> None:
    told = measure(batch, timezone.now())
    assert (told.runs, told.cleared, told.stayed, told.withdrawn) == (len(sizes), len(sizes), 0, 0)
    assert not [name for name in sizes if (lab.staging / name).exists()]
    left = [path.name for path in lab.staging.rglob(".exlab-clearing-*")]
    assert left == []
    for kind in (LedgerKind.AUTHORISED, LedgerKind.COMPLETED):
        rows = LedgerEntry.objects.filter(kind=kind).values_list("run_path", "files", "bytes")
        assert sorted(rows) == sorted((name, *size) for name, size in sizes.items())
    for run in Run.objects.all():
        tries = list(run.attempts.order_by("tries"))
        assert [attempt.tries for attempt in tries] == list(range(len(tries)))
        ended = [attempt.reason for attempt in tries[:-1]]
        assert set(ended) <= {Reason.INTERRUPTED, Reason.DATABASE_ERROR}
        assert run.failures == len(ended)
    assert {name for name in snapshot(lab.nas) if not name.startswith(".exlab-ledger-")} == twins.keys()


def test_sessions_that_are_ended_amid_a_batch(
    own_server: None, cluster: Callable[[], Cluster], lab: Lab, root: Any
) -> None:
    """Takes 10 s, most of it while the cluster reconnects."""
    batch, sizes = place(lab, root, 8)
    twins = snapshot(lab.nas)
    working = cluster()
    begun(batch, 1)
    for _round in range(2):
        terminate()
        time.sleep(0.2)
    finish(batch, working)
    assert_each_went_once(lab, batch, sizes, twins)


@pytest.mark.exhaustive
@pytest.mark.parametrize("trouble", [terminate, kill], ids=["ended", "killed"])
@pytest.mark.parametrize("number", range(3))
def test_rounds_of_trouble_amid_a_batch(
    own_server: None, cluster: Callable[[], Cluster], lab: Lab, root: Any, trouble: Callable[[], None], number: int
) -> None:
    """Three times, each at another moment; takes a minute or two."""
    batch, sizes = place(lab, root, 24)
    twins = snapshot(lab.nas)
    working = cluster()
    for round in range(3):
        begun(batch, 1 + 6 * round + number)
        trouble()
        working.look_after()
        recover()
    finish(batch, working)
    assert_each_went_once(lab, batch, sizes, twins)
