"""A batch that waits begins once, with the runs that were shown, after rights and checks were asked anew."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone
from django_q.models import OrmQ

from cleanup import tasks
from cleanup.clears import batches, preview, queue, waiting_batches
from cleanup.lab import database_clock, readiness
from cleanup.models import ClearAttempt, ClearBatch, LedgerEntry, Run, StagingRoot, WaitingRun
from cleanup.monitoring import problems
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from tests.clears.test_batches import BIG, MIDDLE, SMALL, Room, build, enter, hold, run_tasks
from tests.tools import sites

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def room(db: None, now: datetime, tmp_path_factory: pytest.TempPathFactory) -> Room:
    return enter(sites.lay("room", lambda lab: build(lab, now), tmp_path_factory), now)


@pytest.fixture
def waiting(room: Room) -> ClearBatch:
    return room.place(room.look(), starts_at=room.now + HOUR)


def left_out(batch: ClearBatch) -> dict[str, str]:
    return dict(batch.waiting_runs.exclude(left_out="").values_list("run__run_path", "left_out"))


def attempted(batch: ClearBatch) -> set[str]:
    return set(batch.attempts.values_list("run__run_path", flat=True))


def test_until_its_time_nothing_is_asked_for_and_nothing_is_hindered(room: Room, waiting: ClearBatch) -> None:
    assert waiting.waits
    assert (waiting.waiting_runs.count(), ClearAttempt.objects.count(), OrmQ.objects.count()) == (3, 0, 0)
    assert waiting_batches.begin_due(room.now + HOUR - MINUTE) == 0
    assert not room.look().staying
    hold(room, BIG)  # a person may lay a hold meanwhile


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_engines
def test_at_its_time_it_clears_the_runs_in_the_name_of_who_asked(room: Room, waiting: ClearBatch) -> None:
    assert waiting_batches.begin_due(room.now + HOUR) == 1
    assert waiting_batches.begin_due(room.now + HOUR) == 0
    waiting.refresh_from_db()
    assert (waiting.waits, waiting.began_at, left_out(waiting)) == (False, room.now + HOUR, {})
    assert run_tasks() == [BIG, MIDDLE, SMALL]
    assert room.paths() == set()
    assert set(LedgerEntry.objects.freeing().values_list("actor", flat=True)) == {"ada"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.both_engines
def test_two_hosts_begin_it_once(room: Room, waiting: ClearBatch) -> None:
    barrier = Barrier(2)

    def begin(_host: int) -> int:
        try:
            barrier.wait(20)
            return waiting_batches.begin_due(room.now + HOUR)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(begin, range(2))) == [0, 1]
    assert (ClearAttempt.objects.count(), OrmQ.objects.count()) == (3, 3)


def test_what_has_changed_since_stays_and_says_so(room: Room, waiting: ClearBatch) -> None:
    hold(room, BIG)
    Run.objects.filter(run_path=MIDDLE).update(bytes=1)
    assert waiting_batches.begin_due(room.now + HOUR) == 1
    assert attempted(waiting) == {SMALL}
    assert left_out(waiting) == {BIG: Reason.HELD, MIDDLE: waiting_batches.CHANGED}


def leave(room: Room) -> None:
    User.objects.filter(username="ada").update(is_active=False)


def lose_the_right(room: Room) -> None:
    room.operator.groups.clear()


def go_for_good(room: Room) -> None:
    User.objects.filter(username="ada").delete()


@pytest.mark.parametrize("happen", [leave, lose_the_right, go_for_good])
def test_who_may_not_clear_any_more_clears_nothing(
    room: Room, waiting: ClearBatch, happen: Callable[[Room], None]
) -> None:
    happen(room)
    assert waiting_batches.begin_due(room.now + HOUR) == 1
    assert attempted(waiting) == set()
    assert set(left_out(waiting).values()) == {preview.NOT_PERMITTED}


def test_a_crash_while_it_begins_leaves_it_waiting(
    room: Room, waiting: ClearBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any, **_kwargs: Any) -> str:
        raise ConnectionError("no queue")

    with monkeypatch.context() as broken:
        broken.setattr(queue, "async_task", fail)
        with pytest.raises(ConnectionError):
            waiting_batches.begin_due(room.now + HOUR)
    waiting.refresh_from_db()
    assert waiting.waits
    assert waiting_batches.begin_due(room.now + HOUR + MINUTE) == 1
    assert len(attempted(waiting)) == 3


def test_it_waits_on_while_nothing_can_be_cleared_there(
    room: Room, waiting: ClearBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    StagingRoot.objects.update(problem=Reason.ROOT_NOT_MOUNTED)
    assert waiting_batches.begin_due(room.now + HOUR) == 0
    assert waiting_batches.trouble_of(waiting) == ["lab"]
    StagingRoot.objects.update(problem="")
    with monkeypatch.context() as hindered:
        hindered.setattr(readiness, "hindrances", lambda: (Finding(Reason.DATABASE_NOT_DURABLE),))
        assert waiting_batches.begin_due(room.now + 2 * HOUR) == 0
    assert waiting_batches.begin_due(room.now + 6 * HOUR) == 1


def test_six_hours_late_it_is_called_off_by_itself_and_the_person_is_told(
    room: Room, waiting: ClearBatch, mailoutbox: list[Any], settings: Any
) -> None:
    settings.EXLAB_EMAIL = "smtp://mail.example"
    User.objects.filter(username="ada").update(email="ada@lab.example")
    late = room.now + 7 * HOUR
    assert waiting_batches.begin_due(late) == 0
    assert waiting_batches.call_off_late(late - MINUTE) == 0
    assert waiting_batches.call_off_late(late) == 1
    assert waiting_batches.call_off_late(late) == waiting_batches.begin_due(late) == 0
    waiting.refresh_from_db()
    assert waiting.is_called_off_by_itself
    assert (ClearAttempt.objects.count(), room.paths()) == (0, {BIG, MIDDLE, SMALL})
    (mail,) = mailoutbox
    assert (mail.to, mail.subject) == (["ada@lab.example"], "Not cleared: 3 runs")
    told = list(batches.forgotten(room.operator, late))
    assert told == [waiting]
    said = [one.detail for group in problems.listed(room.operator, late, hindrances=()) for one in group.problems]
    assert any("ada, to begin at" in detail for detail in said)
    assert not batches.forgotten(room.operator, late + waiting_batches.TOLD_FOR).exists()


def test_called_off_by_a_person_it_never_begins(room: Room, waiting: ClearBatch) -> None:
    assert batches.stop(waiting, actor="bob", now=room.now) == 3
    waiting.refresh_from_db()
    assert (waiting.is_called_off, waiting.stopped_by, waiting.is_called_off_by_itself) == (True, "bob", False)
    assert waiting_batches.begin_due(room.now + HOUR) == 0
    assert not batches.forgotten(room.operator, room.now + HOUR).exists()
    assert not WaitingRun.objects.exclude(left_out="").exists()


@pytest.mark.both_engines
def test_the_task_goes_by_the_clock_of_the_database(room: Room, waiting: ClearBatch) -> None:
    assert abs(database_clock.read() - timezone.now()) < 2 * MINUTE
    ClearBatch.objects.update(starts_at=database_clock.read() + MINUTE)
    assert tasks.begin_batches() == "0 batches begun, 0 called off"
    ClearBatch.objects.update(starts_at=database_clock.read() - MINUTE)
    assert tasks.begin_batches() == "1 batches begun, 0 called off"
