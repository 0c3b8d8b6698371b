"""Clears are tried again once for each fault, and never after a withdrawal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_q.models import OrmQ

from cleanup import tasks
from cleanup.clears import batches, protocol, queue, recovery, retries, settlement
from cleanup.clears.progress import measure
from cleanup.lab import policy_versions
from cleanup.models import ClearAttempt, ClearBatch, LedgerEntry, NasBreaker, Phase, RetentionPolicy, Run
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.runs.facts import inspection
from cleanup.runs.holds import holds
from cleanup.sweeps import all_roots
from tests.clears.test_batches import BIG, MIDDLE, SMALL, Room, build, enter, phases, run_tasks
from tests.faults.scene import everything
from tests.tools import sites
from tests.tools.lab import Lab

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine]

MINUTE = timedelta(minutes=1)


@contextmanager
def away(where: Room) -> Iterator[None]:
    aside = where.lab.nas.with_name("nas-aside")
    where.lab.nas.rename(aside)
    where.lab.nas.mkdir()
    try:
        yield
    finally:
        where.lab.nas.rmdir()
        aside.rename(where.lab.nas)


def refuse(lab: Lab, now: datetime) -> None:
    build(lab, now)
    room = enter(lab, now)
    batch = room.batch()
    with away(room):
        assert run_tasks() == [BIG, MIDDLE, SMALL]
        assert {attempt.reason for attempt in batch.attempts.all()} == {Reason.NAS_NOT_MOUNTED}
        ClearBatch.objects.update(created_at=timezone.now())
        assert retries.ask(now=timezone.now() + 2 * MINUTE) == 0, "the NAS does not answer yet"
        assert not OrmQ.objects.exists()


@pytest.fixture
def room(request: pytest.FixtureRequest, db: None, now: datetime, tmp_path_factory: pytest.TempPathFactory) -> Room:
    if "refused" in request.fixturenames:  # by the real clock, which tests read as well
        return enter(sites.lay("refused", lambda lab: refuse(lab, now), tmp_path_factory, lasts=10), now)
    return enter(sites.lay("room", lambda lab: build(lab, now), tmp_path_factory), now)


@pytest.fixture
def refused(room: Room) -> ClearBatch:
    return ClearBatch.objects.get()


def later(**span: float) -> datetime:
    return timezone.now() + timedelta(**span)


def interrupt(attempt: ClearAttempt) -> ClearAttempt:
    assert protocol._claim(attempt)
    OrmQ.objects.all().delete()
    recovery.recover(now=timezone.now())
    attempt.refresh_from_db()
    return attempt


# What the NAS refused in a batch


@pytest.mark.both_engines
def test_what_the_nas_refused_goes_when_it_answers(room: Room, refused: ClearBatch) -> None:
    before = everything(room.lab)
    told = measure(refused, timezone.now())
    assert (told.open, told.again, told.stayed, told.cleared, told.reasons) == (True, 3, 0, 0, ())
    assert retries.ask(now=later(seconds=30)) == 0, "it is left alone for a minute"
    assert retries.ask(now=later(minutes=2)) == 3
    assert retries.ask(now=later(minutes=2)) == 0, "twice is once"
    assert everything(room.lab) == before
    assert run_tasks() == [BIG, MIDDLE, SMALL]
    assert room.paths() == set()
    told = measure(refused, later(minutes=3))
    assert (told.open, told.runs, told.cleared, told.again, told.stayed) == (False, 3, 3, 0, 0)
    assert told.total_bytes == sum(run.bytes or 0 for run in Run.objects.all())
    assert told.freed_bytes == LedgerEntry.objects.totals()["bytes"]
    for attempt in refused.attempts.exclude(repeats=None):
        assert attempt.repeats is not None
        assert (attempt.actor, attempt.run_id, attempt.tries) == ("ada", attempt.repeats.run_id, 1)
    assert set(Run.objects.values_list("failures", flat=True)) == {0}


def test_a_nas_that_refuses_the_same_again_is_asked_less_and_less(room: Room, refused: ClearBatch) -> None:
    pauses = []
    for tried in range(3):
        assert retries.ask(now=later(hours=1)) == 3
        with away(room):
            run_tasks()
        newest = refused.attempts.filter(tries=tried + 1).latest("phase_at")
        assert newest.again_after is not None
        pauses.append(round((newest.again_after - newest.phase_at) / MINUTE))
    assert pauses == [2, 4, 8]
    assert measure(refused, timezone.now()).again == 3


def test_a_twin_that_is_slow_comes_last_and_later(room: Room, refused: ClearBatch) -> None:
    slow = refused.attempts.get(run__run_path=BIG)
    ClearAttempt.objects.filter(pk=slow.pk).update(reason=Reason.NAS_SLOW)
    assert retries.ask(now=later(minutes=2)) == 3
    queued = [ClearAttempt.objects.get(pk=row.task["args"][0]) for row in OrmQ.objects.order_by("pk")]
    assert [attempt.run.run_path for attempt in queued] == [MIDDLE, SMALL, BIG]
    (last,) = (attempt for attempt in queued if attempt.run_id == slow.run_id)
    assert protocol._claim(last)
    now = timezone.now()
    settlement.finish_without_clear(last, Phase.REFUSED, Finding(Reason.NAS_SLOW, "stack.tif"), now=now)
    last.refresh_from_db()
    assert last.again_after == now + timedelta(hours=1)


def test_a_nas_behind_its_breaker_is_not_asked(
    room: Room,
    refused: ClearBatch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    until = later(minutes=5)
    why = {"failures": 1, "reason": Reason.NAS_TIMEOUT, "open_until": until}
    breaker, _new = NasBreaker.objects.update_or_create(
        host=settings.EXLAB_HOST, token=room.root.nas_token, defaults=why
    )
    assert retries.ask(now=later(minutes=2)) == 0
    NasBreaker.objects.update(open_until=later(seconds=-1))
    assert retries.ask(now=later(minutes=2)) == 3
    breaker.refresh_from_db()
    assert (breaker.failures, breaker.open_until) == (0, None)


def test_not_after_a_stop(room: Room, refused: ClearBatch) -> None:
    assert batches.stop(refused, actor="bob", now=timezone.now()) == 3
    assert retries.ask(now=later(minutes=2)) == 0
    told = measure(refused, timezone.now())
    assert (told.open, told.again, told.stayed, told.reasons) == (False, 0, 3, ((Reason.NAS_NOT_MOUNTED, 3),))
    assert len(room.paths()) == 3


def test_not_while_it_is_paused(room: Room, refused: ClearBatch) -> None:
    assert batches.pause(refused, actor="bob", now=timezone.now())
    assert retries.ask(now=later(minutes=2)) == 0
    assert measure(ClearBatch.objects.get(), timezone.now()).paused
    assert batches.resume(refused, now=later(minutes=3))
    assert not OrmQ.objects.exists()
    assert retries.ask(now=later(minutes=4)) == 3


def test_nothing_begins_that_was_queued_before_a_pause(room: Room, refused: ClearBatch) -> None:
    assert retries.ask(now=later(minutes=2)) == 3
    batches.pause(refused, actor="bob", now=timezone.now())
    assert run_tasks() == []
    assert batches.stop(refused, actor="bob", now=timezone.now()) == 3
    assert len(room.paths()) == 3


def lose_the_right(room: Room) -> None:
    room.operator.groups.clear()


def leave(room: Room) -> None:
    User.objects.filter(pk=room.operator.pk).update(is_active=False)


def hold(room: Room) -> None:
    for run in Run.objects.all():
        holds.hold(run, owner="bob", until=later(days=2), reason="figure", now=timezone.now())


def hold_and_release(room: Room) -> None:
    hold(room)
    for run in Run.objects.all():
        holds.release_run(run, actor="bob", now=timezone.now())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lose_the_right, "ada may not clear it any more"),
        (leave, "ada may not clear it any more"),
        (hold, "a hold was laid since it was asked for"),
        (hold_and_release, "a hold was laid since it was asked for"),
    ],
)
@pytest.mark.parametrize("queued", [False, True], ids=["while it waits", "when it is queued"])
def test_not_without_the_right_and_not_after_a_hold(
    room: Room,
    refused: ClearBatch,
    change: Callable[[Room], None],
    said: str,
    *,
    queued: bool,
) -> None:
    if queued:
        assert retries.ask(now=later(minutes=2)) == 3
    change(room)
    assert retries.ask(now=later(minutes=2)) == 0
    run_tasks()
    assert len(room.paths()) == 3
    told = measure(refused, timezone.now())
    assert (told.open, told.again, told.withdrawn, told.stayed) == (False, 0, 3 * queued, 3 * (not queued))
    for attempt in refused.attempts.last_tries():
        assert said in attempt.detail
        assert retries.ask(now=later(hours=20)) == 0
    assert set(Run.objects.values_list("failures", flat=True)) == {0}


def test_not_a_day_after_it_was_asked_for(room: Room, refused: ClearBatch) -> None:
    with away(room):
        assert retries.ask(now=later(hours=23)) == 0
        assert measure(refused, timezone.now()).again == 3
        assert retries.ask(now=later(hours=24)) == 0
    assert retries.ask(now=later(minutes=2)) == 0
    assert {attempt.detail.rpartition("; ")[2] for attempt in refused.attempts.all()} == {
        "not tried again: a day has passed"
    }


def test_not_a_day_after_the_request_though_it_was_queued_before(room: Room, refused: ClearBatch) -> None:
    """A batch may be paused for days; after a day the operator has to ask again."""
    assert retries.ask(now=later(minutes=2)) == 3
    assert batches.pause(refused, actor="bob", now=timezone.now())
    ClearBatch.objects.update(created_at=later(hours=-24))
    assert batches.resume(refused, now=timezone.now())
    run_tasks()
    assert len(room.paths()) == 3
    assert {attempt.reason for attempt in refused.attempts.last_tries()} == {Reason.WITHDRAWN}
    assert all("a day has passed" in attempt.detail for attempt in refused.attempts.last_tries())


def test_not_what_was_asked_for_anew(room: Room, refused: ClearBatch) -> None:
    newer = room.place(room.look(at=later(minutes=1)))
    assert retries.ask(now=later(minutes=2)) == 0, "another attempt is under way"
    assert run_tasks() == [BIG, MIDDLE, SMALL]
    assert retries.ask(now=later(minutes=2)) == 0
    assert set(phases(newer).values()) == {"done"}
    assert measure(refused, timezone.now()).stayed == 3


def test_a_refusal_of_the_run_itself_is_final(room: Room) -> None:
    batch = room.batch()
    (room.lab.twin(BIG) / "stack.tif").unlink()
    run_tasks()
    assert phases(batch) == {BIG: "refused", MIDDLE: "done", SMALL: "done"}
    assert retries.ask(now=later(minutes=2)) == 0
    assert not ClearAttempt.objects.waiting_for_another_try().exists()


def test_the_promised_proof_holds_for_every_try(room: Room) -> None:
    """A try uses the policy in force then and records its version; the request was made under an older one."""
    batch = room.batch()
    asked = batch.attempts.first().asked_version  # type: ignore[union-attr]
    with away(room):
        policy_versions.add_version(author="admin", now=room.now, proof="record")
        run_tasks()
    ClearBatch.objects.update(created_at=timezone.now())
    ClearAttempt.objects.update(policy_version=RetentionPolicy.objects.latest("version").version)
    assert retries.ask(now=later(minutes=2)) == 3
    run_tasks()
    tries = batch.attempts.filter(tries=1)
    assert {(one.phase, one.proof.level if one.proof else "", one.asked_version) for one in tries} == {
        ("done", "checksum", asked)
    }


def test_the_page_of_the_batch_says_so(room: Room, refused: ClearBatch) -> None:
    client = Client()
    client.force_login(room.operator)
    page = client.get(reverse("batch", args=[refused.pk])).content.decode()
    assert page.count("To be tried again") == 3
    assert "3 runs are tried again when the NAS answers" in page
    assert 'id="batch-stop"' in page
    retries.ask(now=later(minutes=2))
    run_tasks()
    page = client.get(reverse("batch", args=[refused.pk])).content.decode()
    assert page.count('class="mark pass">Cleared') == 3
    assert "Ended: a batch of 3 runs" in page
    for name in ("batch-list", "overview"):
        assert client.get(reverse(name)).status_code == 200


# What a fault has interrupted


def test_an_interrupted_attempt_is_tried_three_times_more(room: Room) -> None:
    batch = room.batch()
    ClearBatch.objects.update(created_at=timezone.now())
    attempt = batch.attempts.get(run__run_path=BIG)
    batches.pause(batch, actor="ada", now=timezone.now())
    ClearAttempt.objects.exclude(pk=attempt.pk).delete()
    batches.resume(batch, now=timezone.now())
    for tried in range(3):
        assert interrupt(attempt).phase == Phase.ABORTED
        assert retries.ask(now=timezone.now()) == 1
        assert OrmQ.objects.count() == 1
        attempt = attempt.repeated_by
        assert (attempt.batch_id, attempt.tries, attempt.interruptions) == (batch.pk, tried + 1, tried + 1)
        assert Run.objects.get(pk=attempt.run_id).failures == tried + 1, "each counts towards parking"
    interrupt(attempt)
    assert retries.ask(now=later(hours=1)) == 0
    told = measure(batch, timezone.now())
    assert (told.runs, told.stayed, told.reasons) == (1, 1, ((Reason.INTERRUPTED, 1),))
    assert BIG in room.paths()


def test_not_what_was_interrupted_when_its_batch_had_been_stopped(room: Room) -> None:
    batch = room.batch()
    ClearBatch.objects.update(created_at=timezone.now())
    first = batch.attempts.get(run__run_path=BIG)
    assert protocol._claim(first)
    assert batches.stop(batch, actor="bob", now=timezone.now()) == 2
    recovery.recover(now=timezone.now())
    told = measure(batch, timezone.now())
    assert (told.open, told.again, told.stayed, told.withdrawn) == (False, 0, 1, 2)
    assert retries.ask(now=later(minutes=2)) == 0


def test_one_alone_is_tried_again_as_well(room: Room) -> None:
    run = Run.objects.with_root().get(run_path=SMALL)
    interrupt(queue.request_clear(run, actor="ada", note="full", now=timezone.now()))
    assert tasks.recover().count("tried again 1") == 1
    assert run_tasks() == [SMALL]
    assert ClearAttempt.objects.get(phase="done").note == "full"
    assert room.paths() == {BIG, MIDDLE}


def test_a_commit_that_the_database_refused_is_tried_again(
    room: Room,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = room.batch()
    ClearBatch.objects.update(created_at=timezone.now())

    def gone(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("server closed the connection unexpectedly")

    with monkeypatch.context() as patched:
        patched.setattr(protocol, "_write_commit", gone)
        run_tasks()
    assert {attempt.reason for attempt in batch.attempts.all()} == {Reason.DATABASE_ERROR}
    assert retries.ask(now=later(seconds=1)) == 3
    assert run_tasks() == [BIG, MIDDLE, SMALL]
    assert measure(batch, timezone.now()).cleared == 3


def test_an_interrupted_sweep_comes_back_by_itself(room: Room, policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    policy(mode="scheduled", retain_hours=0, rehearse=False)

    def die(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(inspection, "look", die)
        all_roots.sweep(now=room.now)
    recovery.recover(now=timezone.now())
    assert ClearAttempt.objects.get().reason == Reason.INTERRUPTED
    assert retries.ask(now=later(minutes=2)) == 0


def test_another_hosts_attempts_are_left_to_it(room: Room, refused: ClearBatch) -> None:
    ClearAttempt.objects.update(host="another-pc")
    assert retries.ask(now=later(minutes=2)) == 0
    assert ClearAttempt.objects.waiting_for_another_try().count() == 3
