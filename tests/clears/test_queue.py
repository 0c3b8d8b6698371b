"""A requested clear and its task: both or neither, once, never lost."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django_q.brokers import get_broker
from django_q.models import OrmQ
from django_q.signing import SignedPackage
from django_q.tasks import async_task

from cleanup import tasks
from cleanup.clears import queue
from cleanup.clears.queue import AlreadyClearing, enqueue_lost, request_clear
from cleanup.lab import task_queues
from cleanup.models import ClearAttempt, Heartbeat, IngestEvent, Run, StagingRoot
from tests.faults.scene import Scene, set_scene
from tests.tools.lab import Lab

pytestmark = pytest.mark.django_db


@pytest.fixture
def scene(lab: Lab, root: Any, now: datetime) -> Scene:
    return set_scene(lab, root, now)


def queued() -> list[tuple[str, str, tuple[Any, ...]]]:
    return [(task.key, task.func(), task.task["args"]) for task in OrmQ.objects.all()]


def test_the_attempt_and_its_task_are_written_together(scene: Scene, now: datetime) -> None:
    attempt = request_clear(scene.run, actor="ada", note="full", now=now)
    assert queued() == [(settings.EXLAB_CLEAR_CLUSTER, "cleanup.tasks.clear", (str(attempt.pk),))]
    attempt.refresh_from_db()
    assert (attempt.phase, attempt.requester, attempt.actor, attempt.note) == ("queued", "operator", "ada", "full")
    assert (attempt.created_at, attempt.phase_at, attempt.host) == (now, now, settings.EXLAB_HOST)
    assert attempt.task_id == OrmQ.objects.get().task_id()
    scene.assert_whole()


def test_they_vanish_together(scene: Scene, now: datetime) -> None:
    class Undone(Exception):
        pass

    with pytest.raises(Undone), transaction.atomic():
        request_clear(scene.run, actor="ada", now=now)
        raise Undone
    assert (ClearAttempt.objects.count(), OrmQ.objects.count()) == (0, 0)


def test_no_attempt_without_its_task(scene: Scene, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> str:
        raise ConnectionError("no queue")

    monkeypatch.setattr(queue, "async_task", fail)
    with pytest.raises(ConnectionError):
        request_clear(scene.run, actor="ada", now=now)
    assert not ClearAttempt.objects.exists()


def test_two_clicks_are_one_clear(scene: Scene, now: datetime) -> None:
    request_clear(scene.run, actor="ada", now=now)
    with pytest.raises(AlreadyClearing):
        request_clear(scene.run, actor="bob", now=now)
    assert (ClearAttempt.objects.get().actor, OrmQ.objects.count()) == ("ada", 1)


def test_an_attempt_belongs_to_the_host_of_its_disk(scene: Scene, now: datetime) -> None:
    StagingRoot.objects.update(host="labpc-77")
    scene.run.root.refresh_from_db()
    assert request_clear(scene.run, actor="ada", now=now).host == "labpc-77"


def test_another_error_of_the_database_is_not_taken_for_that(scene: Scene, now: datetime) -> None:
    from django.db import IntegrityError

    scene.run.root.host = None  # type: ignore[assignment]
    with pytest.raises(IntegrityError):
        request_clear(scene.run, actor="ada", now=now)


def test_the_task_clears(scene: Scene, now: datetime) -> None:
    attempt = request_clear(scene.run, actor="ada", now=now)
    assert tasks.clear(str(attempt.pk)) == f"{scene.run.run_path}: done"
    scene.assert_cleared()
    assert tasks.clear(str(attempt.pk)) == f"{scene.run.run_path}: done"  # delivered twice
    assert scene.kinds() == ["authorised", "completed"]


def test_the_task_tells_a_refusal(scene: Scene, now: datetime) -> None:
    (scene.path / "extra").write_bytes(b"x")
    attempt = request_clear(scene.run, actor="ada", now=now)
    assert tasks.clear(str(attempt.pk)) == f"{scene.run.run_path}: refused not_in_manifest"
    scene.assert_twin_untouched()
    assert (scene.path / "extra").exists()


# Lost tasks


@pytest.mark.parametrize(("minutes", "lost"), [(1, 0), (3, 1)])
def test_a_lost_task_is_queued_again(scene: Scene, now: datetime, minutes: int, lost: int) -> None:
    attempt = request_clear(scene.run, actor="ada", now=now)
    old = attempt.task_id
    OrmQ.objects.all().delete()
    at = now + timedelta(minutes=minutes)
    assert enqueue_lost(host=settings.EXLAB_HOST, now=at) == lost
    assert OrmQ.objects.count() == lost
    assert enqueue_lost(host=settings.EXLAB_HOST, now=at + timedelta(hours=1)) == (0 if lost else 1)
    attempt.refresh_from_db()
    assert attempt.task_id != old
    tasks.clear(str(attempt.pk))
    scene.assert_cleared()


def test_a_task_that_waits_is_not_lost(scene: Scene, now: datetime) -> None:
    request_clear(scene.run, actor="ada", now=now)
    async_task("cleanup.tasks.heartbeat")
    assert enqueue_lost(host=settings.EXLAB_HOST, now=now + timedelta(days=1)) == 0
    assert OrmQ.objects.count() == 2


@pytest.mark.parametrize("phase", ["intent", "committed", "done", "refused", "aborted"])
def test_only_queued_attempts_are_queued_again(scene: Scene, now: datetime, phase: str) -> None:
    request_clear(scene.run, actor="ada", now=now)
    OrmQ.objects.all().delete()
    ClearAttempt.objects.update(phase=phase)
    assert enqueue_lost(host=settings.EXLAB_HOST, now=now + timedelta(days=1)) == 0


def test_another_host_looks_after_its_own(scene: Scene, now: datetime) -> None:
    request_clear(scene.run, actor="ada", now=now)
    OrmQ.objects.all().delete()
    assert enqueue_lost(host="another-pc", now=now + timedelta(days=1)) == 0


def test_a_task_that_a_killed_worker_had_taken_is_given_back(scene: Scene, now: datetime) -> None:
    """A cluster takes tasks in advance, and the queue would lock them for a day."""
    attempt = request_clear(scene.run, actor="ada", now=now)
    other = async_task("cleanup.tasks.heartbeat")
    clearing, short = get_broker(settings.EXLAB_CLEAR_CLUSTER), get_broker()
    taken = [*clearing.dequeue(), *short.dequeue()]
    assert (len(taken), clearing.dequeue(), short.dequeue()) == (2, None, None)
    assert queue.release(settings.EXLAB_CLEAR_CLUSTER, now=timezone.now()) == 1
    ((_pk, payload),) = clearing.dequeue()
    task = SignedPackage.loads(payload)
    assert (task["id"], task["args"]) == (attempt.task_id, (str(attempt.pk),))
    assert short.dequeue() is None, f"{other} belongs to a cluster that is still up"


def test_a_task_that_no_worker_has_begun_is_given_back_after_two_minutes(scene: Scene) -> None:
    """A worker takes the row and dies; the queue alone would wait a day."""
    attempt = request_clear(scene.run, actor="ada", now=timezone.now())
    broker = get_broker(settings.EXLAB_CLEAR_CLUSTER)
    ((row, _payload),) = broker.dequeue()
    soon, late = (timezone.now() + timedelta(seconds=seconds) for seconds in (119, 125))
    assert enqueue_lost(host=settings.EXLAB_HOST, now=soon) == 0
    assert broker.dequeue() is None
    assert enqueue_lost(host=settings.EXLAB_HOST, now=late) == 1
    ((again, _payload),) = broker.dequeue()
    attempt.refresh_from_db()
    assert (again, OrmQ.objects.get().task_id()) == (row, attempt.task_id)


@pytest.mark.parametrize("phase", ["intent", "committed"])
def test_a_task_whose_attempt_has_begun_stays_with_its_worker(scene: Scene, phase: str) -> None:
    request_clear(scene.run, actor="ada", now=timezone.now())
    broker = get_broker(settings.EXLAB_CLEAR_CLUSTER)
    assert len(broker.dequeue()) == 1
    ClearAttempt.objects.update(phase=phase)
    assert enqueue_lost(host=settings.EXLAB_HOST, now=timezone.now() + timedelta(hours=20)) == 0
    assert broker.dequeue() is None


def test_a_row_locked_by_a_clock_that_was_ahead_is_given_back(scene: Scene) -> None:
    request_clear(scene.run, actor="ada", now=timezone.now())
    OrmQ.objects.update(lock=timezone.now() + timedelta(days=400))
    assert enqueue_lost(host=settings.EXLAB_HOST, now=timezone.now() + timedelta(minutes=3)) == 1
    assert len(get_broker(settings.EXLAB_CLEAR_CLUSTER).dequeue()) == 1


def test_what_was_queued_anew_a_moment_ago_is_not_queued_twice(
    scene: Scene, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two recoveries at once: the second read the attempts before the first queued them."""
    request_clear(scene.run, actor="ada", now=now)
    OrmQ.objects.all().delete()
    real = queue._rows_by_attempt
    late = now + timedelta(minutes=5)

    def another_is_faster() -> Any:
        found = real()
        monkeypatch.setattr(queue, "_rows_by_attempt", real)
        assert enqueue_lost(host=settings.EXLAB_HOST, now=late) == 1
        return found

    monkeypatch.setattr(queue, "_rows_by_attempt", another_is_faster)
    assert enqueue_lost(host=settings.EXLAB_HOST, now=late) == 0
    assert OrmQ.objects.count() == 1


@pytest.mark.exhaustive
def test_two_thousand_that_wait_for_half_an_hour_have_one_row_each(scene: Scene, now: datetime) -> None:
    """Two workers, many deaths; takes 5 s for 20,000 looks at rows."""
    first = request_clear(scene.run, actor="ada", now=now)
    run = Run.objects.get()
    runs = Run.objects.bulk_create(
        [_copy(run, id=None, run_path=f"{run.run_path}-{number}") for number in range(1999)], batch_size=100
    )
    attempts = ClearAttempt.objects.bulk_create(
        [_copy(first, id=uuid4(), run=other, task_id="") for other in runs], batch_size=100
    )
    with time_machine.travel(now, tick=False) as clock:
        OrmQ.objects.update(lock=now)
        queue.enqueue(attempts)
        rows = set(OrmQ.objects.values_list("pk", flat=True))
        broker = get_broker(settings.EXLAB_CLEAR_CLUSTER)
        given_back = 0
        for _look in range(10):
            clock.shift(timedelta(minutes=3))
            assert len([broker.dequeue() for _row in range(4)]) == 4  # and nothing more is heard of them
            given_back += enqueue_lost(host=settings.EXLAB_HOST, now=timezone.now())
            assert set(OrmQ.objects.values_list("pk", flat=True)) == rows
    assert given_back == 9 * 4
    waiting = {(row.task["args"][0], row.task_id()) for row in OrmQ.objects.all()}
    assert waiting == {(str(key), task) for key, task in ClearAttempt.objects.values_list("pk", "task_id")}
    assert len(waiting) == 2000


def _copy(row: Any, **changes: Any) -> Any:
    fields = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    made = type(row)(**fields)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_a_clear_goes_to_the_queue_of_the_host_that_has_the_disk(scene: Scene, now: datetime) -> None:
    task_queues.serve_apart("labpc-77")
    StagingRoot.objects.update(host="labpc-77")
    scene.run.root.refresh_from_db()
    attempt = request_clear(scene.run, actor="ada", now=now)
    assert [task.key for task in OrmQ.objects.all()] == [f"{settings.EXLAB_CLEAR_CLUSTER}@labpc-77"]
    late = now + timedelta(days=1)
    assert enqueue_lost(host="labpc-77", now=late) == 0
    task_queues.serve_in_common("labpc-77")
    assert enqueue_lost(host="labpc-77", now=late) == 1, "nobody reads that queue any more"
    # Moved, not doubled: an attempt never has two rows.
    assert [task.key for task in OrmQ.objects.all()] == [settings.EXLAB_CLEAR_CLUSTER]
    attempt.refresh_from_db()
    assert enqueue_lost(host="labpc-77", now=late) == 0


# The other tasks


def test_the_tasks_say_what_they_did(scene: Scene, lab: Lab, now: datetime, policy: Any) -> None:
    policy(mode="scheduled", retain_hours=0, rehearse=False)
    assert tasks.discover() == "lab: 1 found"
    assert tasks.sweep() == "scanned 1, candidates 1, cleared 1"
    scene.assert_cleared()
    said = tasks.recover()
    assert said == "rolled back 0, rolled forward 0, unsettled 0, queued again 0, told the NAS of 1"
    assert IngestEvent.objects.filter(state="cleared").count() == 1


def test_tasks_leave_the_roots_of_other_hosts(scene: Scene, policy: Any) -> None:
    policy(mode="scheduled", retain_hours=0)
    StagingRoot.objects.update(host="another-pc")
    assert tasks.discover() == ""
    assert tasks.sweep() == "scanned 0, candidates 0, cleared 0"
    scene.assert_whole()


def test_a_heartbeat_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks.heartbeat()
    first = Heartbeat.objects.get().at
    tasks.heartbeat()
    assert Heartbeat.objects.get().at > first
