"""The timed tasks, and the real task clusters."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone
from django_q.models import OrmQ, Schedule, Task

from cleanup import tasks
from cleanup.clears import queue as clear_queue
from cleanup.lab import task_queues
from cleanup.models import ClearAttempt, Heartbeat
from cleanup.runs import discovery
from tests.faults.scene import Scene, scene_of
from tests.tools.checkout import CHECKOUT
from tests.tools.lab import RUN_PATH, Lab

NAMES = {name for name, *_rest in task_queues.SCHEDULES}
LONG = {"cleanup.tasks.sweep", "cleanup.tasks.heartbeat", "cleanup.tasks.reconcile"}

pytestmark = pytest.mark.django_db


def rows() -> list[Any]:
    return list(Schedule.objects.order_by("pk").values("pk", "name", "func", "minutes", "cluster", "next_run"))


def test_they_exist_after_migrate() -> None:
    assert set(Schedule.objects.values_list("name", flat=True)) == NAMES
    assert Schedule.objects.count() == len(NAMES)
    what = dict(Schedule.objects.values_list("func", "minutes"))
    assert what == {
        "cleanup.tasks.heartbeat": 1,
        "cleanup.tasks.prove": 1,
        "cleanup.tasks.recover": 1,
        "cleanup.tasks.begin_batches": 1,
        "cleanup.tasks.judge": 1,
        "cleanup.tasks.discover": 5,
        "cleanup.tasks.remind": 60,
        "cleanup.tasks.summarise": 60,
        "cleanup.tasks.announce": 5,
        "cleanup.tasks.watch_disks": 5,
        "cleanup.tasks.note_problems": 1,
        "cleanup.tasks.anchor": 1440,
        "cleanup.tasks.sweep": 60,
        "cleanup.tasks.reconcile": 7 * 24 * 60,
    }
    assert set(Schedule.objects.values_list("schedule_type", "repeats")) == {(Schedule.MINUTES, -1)}
    for func in what:
        assert callable(getattr(tasks, func.rpartition(".")[2]))


def test_long_work_runs_on_a_cluster_of_its_own() -> None:
    long = Schedule.objects.filter(cluster=settings.EXLAB_CLEAR_CLUSTER)
    assert set(long.values_list("func", flat=True)) == LONG
    assert settings.EXLAB_CLEAR_CLUSTER in settings.Q_CLUSTER["ALT_CLUSTERS"]
    ahead = Schedule.objects.filter(cluster=settings.EXLAB_PROVE_CLUSTER)
    assert set(ahead.values_list("func", flat=True)) == {"cleanup.tasks.prove", "cleanup.tasks.heartbeat"}
    assert settings.EXLAB_PROVE_CLUSTER in settings.Q_CLUSTER["ALT_CLUSTERS"]


def test_twice_is_harmless() -> None:
    before = rows()
    call_command("migrate", verbosity=0)
    task_queues.create()
    assert rows() == before


def test_doubles_and_old_ones_of_ours_go_and_others_stay() -> None:
    before = rows()
    for name in NAMES:
        Schedule.objects.create(name=name, func="cleanup.tasks.sweep", schedule_type=Schedule.ONCE)
    Schedule.objects.create(name="cleanup of an older version", func="cleanup.tasks.gone")
    other = Schedule.objects.create(name="somebody's own", func="math.sqrt")
    task_queues.create()
    assert rows()[:-1] == before
    assert Schedule.objects.filter(pk=other.pk).exists()


def test_what_was_changed_by_hand_is_put_right_and_keeps_its_next_run() -> None:
    soon = timezone.now() + timedelta(minutes=17)
    Schedule.objects.filter(name="cleanup sweep").update(func="os.abort", cluster=None, next_run=soon, repeats=3)
    task_queues.create()
    sweep = Schedule.objects.get(name="cleanup sweep")
    assert (sweep.func, sweep.cluster, sweep.repeats) == ("cleanup.tasks.sweep", settings.EXLAB_CLEAR_CLUSTER, -1)
    assert sweep.next_run == soon


@pytest.mark.parametrize("ahead", [timedelta(days=400), timedelta(minutes=62), None])
def test_what_a_clock_ahead_has_put_off_is_pulled_in(ahead: timedelta | None) -> None:
    now = timezone.now()
    Schedule.objects.filter(name="cleanup sweep").update(next_run=now + ahead if ahead else None)
    task_queues.create()
    assert Schedule.objects.get(name="cleanup sweep").next_run < now + timedelta(minutes=1)


# A host with a worker


def test_a_host_that_is_served_apart_has_rows_and_queues_of_its_own() -> None:
    common = rows()
    clear = settings.EXLAB_CLEAR_CLUSTER
    for host in ("labpc-1", "labpc-2", "labpc-1"):
        task_queues.serve_apart(host)
    assert rows()[: len(common)] == common
    assert Schedule.objects.count() == 3 * len(NAMES)
    assert task_queues.queue_of(clear, "labpc-1") == f"{clear}@labpc-1"
    assert task_queues.queue_of(clear, "labpc-3") == clear
    own = task_queues.rows_of("labpc-2")
    assert set(own.values_list("name", flat=True)) == NAMES
    prove = settings.EXLAB_PROVE_CLUSTER
    assert set(own.values_list("cluster", flat=True)) == {f"{name}@labpc-2" for name in ("exlab", clear, prove)}
    assert set(own.filter(cluster=f"{clear}@labpc-2").values_list("func", flat=True)) == LONG
    assert set(task_queues.rows_of("labpc-3").values_list("pk", flat=True)) == {row["pk"] for row in common}


def test_neither_migrate_nor_up_on_another_host_takes_them_away() -> None:
    task_queues.serve_apart("labpc-1")
    before = rows()
    task_queues.create()
    task_queues.serve_in_common("labpc-2")
    assert rows() == before
    task_queues.serve_in_common("labpc-1")
    assert Schedule.objects.count() == len(NAMES)
    assert task_queues.queue_of(settings.EXLAB_CLEAR_CLUSTER, "labpc-1") == settings.EXLAB_CLEAR_CLUSTER


def test_doubles_of_its_own_go_and_its_next_run_stays() -> None:
    task_queues.serve_apart("labpc-1")
    before = rows()
    Schedule.objects.create(name="cleanup sweep", func="os.abort", cluster="exlab@labpc-1")
    task_queues.serve_apart("labpc-1")
    assert rows() == before


def test_a_host_with_a_long_name_has_a_queue_too() -> None:
    host = "h" * 255
    task_queues.serve_apart(host)
    queue = task_queues.queue_of(settings.EXLAB_CLEAR_CLUSTER, host)
    assert "@" in queue
    assert len(queue) <= 100
    assert queue != task_queues.queue_of(settings.EXLAB_CLEAR_CLUSTER, "h" * 254)


# Real clusters

# What each cluster of a host has in its environment.
EACH: list[dict[str, str]] = [
    {},
    {"Q_CLUSTER_NAME": settings.EXLAB_CLEAR_CLUSTER},
    {"Q_CLUSTER_NAME": settings.EXLAB_PROVE_CLUSTER},
]


@contextmanager
def clusters(env: dict[str, str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The task clusters as in `manage.py up`; stopped by SIGTERM, then by force."""
    processes = [
        subprocess.Popen(
            [sys.executable, "manage.py", "qcluster"],
            cwd=CHECKOUT,
            env={**env, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for more in EACH
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def tick(env: dict[str, str]) -> None:
    script = "import django; django.setup(); from django_q.scheduler import scheduler; scheduler()"
    for more in EACH:
        subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, env={**env, **more}, check=True, timeout=60)


def wait_until(condition: Callable[[], Any], seconds: float, processes: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert all(process.poll() is None for process in processes), "a cluster ended by itself"
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.02)


@pytest.fixture
def scene(lab: Lab, root: Any) -> Scene:
    now = timezone.now()
    path = lab.run(verified_at=now - timedelta(days=3))
    discovery.discover(root, now=now)
    return scene_of(lab, root, now, RUN_PATH, path)


@pytest.mark.django_db(transaction=True)
def test_real_clusters_beat_and_clear(scene: Scene, subprocess_env: dict[str, str]) -> None:
    task_queues.create()
    Schedule.objects.update(next_run=timezone.now() - timedelta(seconds=1))
    tick(subprocess_env)
    with clusters(subprocess_env) as processes:
        # Once more, after the clear, it would tell the NAS, and here that is to be as it was.
        wait_until(lambda: Task.objects.filter(func="cleanup.tasks.recover", success=True).exists(), 60, processes)
        Schedule.objects.filter(func="cleanup.tasks.recover").update(next_run=timezone.now() + timedelta(hours=1))
        attempt = clear_queue.request_clear(scene.run, actor="ada", now=timezone.now())
        wait_until(lambda: ClearAttempt.objects.get(pk=attempt.pk).phase == "done", 60, processes)
        wait_until(lambda: Heartbeat.objects.count() == 3, 60, processes)
        wait_until(lambda: not OrmQ.objects.exists(), 30, processes)
    scene.assert_cleared()
    assert set(Heartbeat.objects.values_list("cluster", flat=True)) == {
        settings.Q_CLUSTER["name"],
        settings.EXLAB_CLEAR_CLUSTER,
        settings.EXLAB_PROVE_CLUSTER,
    }
    beats: list[datetime] = list(Heartbeat.objects.values_list("at", flat=True))
    assert all(timezone.now() - beat < timedelta(minutes=2) for beat in beats)
    assert scene.kinds() == ["authorised", "completed"]
    assert {task.func for task in Task.objects.filter(success=True)} == {
        "cleanup.tasks.clear",
        *(func for _name, func, *_rest in task_queues.SCHEDULES),
    }
    assert not Task.objects.filter(success=False).exists()
    assert [process.returncode for process in processes] == [0, 0, 0]
