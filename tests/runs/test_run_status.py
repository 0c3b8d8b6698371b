"""The stored status always equals the page's."""

import copy
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection

from cleanup.clears import queue
from cleanup.clears.queue import ClearRequest
from cleanup.models import ClearAttempt, Hold, Phase, Requester, RetentionPolicy, Run, Status
from cleanup.rules.gates import MAX_FAILURES
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs import discovery, run_status
from cleanup.runs.facts import stored_facts
from cleanup.runs.holds import holds
from cleanup.runs.moved_or_gone import gone, reregistration
from cleanup.web.runs.status_text import stand
from tests.tools.lab import RUN_PATH, touch

pytestmark = pytest.mark.one_engine


def attempt_of(run, phase, at, **fields):
    named = {"host": "h", "requester": Requester.OPERATOR, "actor": "mkhan", "created_at": at, "phase_at": at}
    return ClearAttempt.objects.create(run=run, phase=phase, **named, **fields)


def hold_of(run, now, **fields):
    return Hold.objects.create(run=run, owner="ada", reason="a figure", created_at=now - timedelta(days=3), **fields)


def change(run, **fields):
    Run.objects.filter(pk=run.pk).update(**fields)


@pytest.fixture
def found(lab, root, now):
    lab.run()
    discovery.discover(root, now=now - timedelta(minutes=2))
    return Run.objects.with_root().get()


@pytest.fixture
def columns(found):
    def columns():
        run = Run.objects.get(pk=found.pk)
        assert run.judged == run.doubts
        return run.tone, run.reason

    return columns


LATER, EARLIER = timedelta(minutes=1), -timedelta(minutes=5)
CASES: dict[str, tuple[Callable, Status, str]] = {
    "safe": (lambda run, now: None, Status.GO, ""),
    "not verified": (lambda run, now: change(run, state=State.SYNC_QUEUED), Status.BLOCK, Reason.INGEST_DISAGREES),
    "no facts": (lambda run, now: change(run, facts={}), Status.BLOCK, Reason.INGEST_UNREADABLE),
    "facts of another version": (lambda run, now: change(run, facts={"a": 1}), Status.BLOCK, Reason.INGEST_UNREADABLE),
    "parked": (lambda run, now: change(run, failures=MAX_FAILURES), Status.BLOCK, Reason.PARKED),
    "parked after a failure": (
        lambda run, now: (
            change(run, failures=MAX_FAILURES),
            attempt_of(run, Phase.ABORTED, now, reason=Reason.NAS_TIMEOUT),
        ),
        Status.BLOCK,
        Reason.PARKED,
    ),
    "held": (lambda run, now: hold_of(run, now, until=now + LATER), Status.WAIT, Reason.HELD),
    "a hold that is over": (lambda run, now: hold_of(run, now, until=now), Status.GO, ""),
    "a hold that was released": (
        lambda run, now: hold_of(run, now, until=now + LATER, released_at=now - LATER),
        Status.GO,
        "",
    ),
    "in the queue": (lambda run, now: attempt_of(run, Phase.QUEUED, now), Status.WORK, Reason.ALREADY_CLEARING),
    "being checked": (lambda run, now: attempt_of(run, Phase.INTENT, now), Status.WORK, Reason.ALREADY_CLEARING),
    "being removed": (
        lambda run, now: (attempt_of(run, Phase.COMMITTED, now), change(run, state=State.CLEARED, cleared_at=now)),
        Status.WORK,
        "",
    ),
    "refused since the look": (
        lambda run, now: attempt_of(run, Phase.REFUSED, now, reason=Reason.NAS_TIMEOUT),
        Status.BLOCK,
        Reason.NAS_TIMEOUT,
    ),
    "refused before the look": (
        lambda run, now: attempt_of(run, Phase.REFUSED, now + EARLIER, reason=Reason.NAS_TIMEOUT),
        Status.GO,
        "",
    ),
    "other bytes, before the look": (
        lambda run, now: attempt_of(run, Phase.REFUSED, now + EARLIER, reason=Reason.NAS_CHECKSUM_MISMATCH),
        Status.BLOCK,
        Reason.NAS_CHECKSUM_MISMATCH,
    ),
    "refused for a person's hold": (
        lambda run, now: attempt_of(run, Phase.REFUSED, now, reason=Reason.HELD, detail="by ada: a figure"),
        Status.GO,
        "",
    ),
    "refused for the hold of a file": (
        lambda run, now: attempt_of(run, Phase.REFUSED, now, reason=Reason.HELD, detail="by the file .exlab-hold"),
        Status.BLOCK,
        Reason.HELD,
    ),
    "aborted": (
        lambda run, now: attempt_of(run, Phase.ABORTED, now, reason=Reason.NAS_IO_ERROR),
        Status.BLOCK,
        Reason.NAS_IO_ERROR,
    ),
    "in conflict": (
        lambda run, now: attempt_of(run, Phase.CONFLICT, now, reason=Reason.IDENTITY_MISMATCH),
        Status.BLOCK,
        Reason.IDENTITY_MISMATCH,
    ),
    "cleared": (
        lambda run, now: (attempt_of(run, Phase.DONE, now), change(run, state=State.CLEARED, cleared_at=now)),
        Status.DONE,
        "",
    ),
    "cleared by another program": (lambda run, now: change(run, state=State.CLEARED, cleared_at=now), Status.DONE, ""),
    "cleared, with files left": (
        lambda run, now: (
            attempt_of(run, Phase.DONE, now, reason=Reason.REMOVAL_INCOMPLETE),
            change(run, state=State.CLEARED, cleared_at=now),
        ),
        Status.BLOCK,
        Reason.REMOVAL_INCOMPLETE,
    ),
    "called cleared and still here": (
        lambda run, now: change(run, state=State.CLEARED, cleared_at=now, problem=Reason.ALREADY_CLEARED),
        Status.BLOCK,
        Reason.ALREADY_CLEARED,
    ),
    "declared gone": (lambda run, now: change(run, gone_at=now), Status.DONE, ""),
}
HERE_NO_MORE = ("cleared", "cleared by another program", "cleared, with files left", "declared gone")


@pytest.mark.parametrize("case", CASES)
def test_the_columns_say_what_the_page_says(found, now, case):
    happen, tone, reason = CASES[case]
    happen(found, now)
    run_status.judge_runs([found.pk], now)
    run = Run.objects.with_root().get()
    attempt = run.attempts.order_by("-created_at").first()
    standing = stand(run, attempt, run_status.judge_now(run, attempt, RetentionPolicy.objects.scoped(), now), now)
    assert (run.tone, run.reason) == (tone, reason)
    assert standing.tone is Status(run.tone)
    assert run.here is (case not in HERE_NO_MORE)
    assert run.allocated_bytes == (run.facts or {}).get("allocated_bytes")


def test_a_run_that_was_just_written_waits_and_says_until_when(lab, root, now):
    run_dir = lab.run()
    touch(run_dir / "stack.ome.xml", now - timedelta(minutes=4))
    discovery.discover(root, now=now)
    run = Run.objects.get()
    assert (run.tone, run.reason) == (Status.WAIT, Reason.NOT_QUIET)
    assert run.judge_after == now + timedelta(minutes=6)
    assert run_status.judge_stale(now + timedelta(minutes=6) - timedelta(seconds=1)) == 0
    assert run_status.judge_stale(now + timedelta(minutes=6)) == 1
    run.refresh_from_db()
    assert (run.tone, run.reason) == (Status.BLOCK, Reason.CHANGED_SINCE_VERIFICATION)
    assert run.judge_after is None


def test_a_hold_ends_by_time_alone(found, columns, now):
    holds.hold(found, owner="ada", reason="a figure", until=now + timedelta(days=2), now=now)
    run_status.judge_stale(now)
    assert columns() == (Status.WAIT, Reason.HELD)
    assert Run.objects.get().opens_at == now + timedelta(days=2)
    assert run_status.judge_stale(now + timedelta(days=1)) == 0
    assert run_status.judge_stale(now + timedelta(days=2)) == 1
    assert columns() == (Status.GO, "")


# Every change that affects a run's status updates it.


def test_a_hold_and_its_release(found, columns, now):
    hold = holds.hold(found, owner="ada", reason="a figure", until=now + timedelta(days=2), now=now)
    run_status.judge_stale(now)
    assert columns() == (Status.WAIT, Reason.HELD)
    holds.release(hold, actor="ada", now=now)
    run_status.judge_stale(now)
    assert columns() == (Status.GO, "")


def test_the_hold_of_a_file(found, columns, lab, root, now):
    (lab.staging / RUN_PATH / ".exlab-hold").write_text("mine")
    discovery.discover(root, now=now)
    assert columns() == (Status.WAIT, Reason.HELD)
    (lab.staging / RUN_PATH / ".exlab-hold").unlink()
    discovery.discover(root, now=now)
    assert columns() == (Status.GO, "")


def test_the_phases_of_an_attempt(found, columns, now):
    attempt = queue.new_attempt(found, ClearRequest(requester=Requester.OPERATOR, actor="mkhan"), now=now)
    run_status.judge_stale(now)
    assert columns() == (Status.WORK, Reason.ALREADY_CLEARING)
    attempt.advance([Phase.QUEUED], Phase.INTENT, now=now)
    run_status.judge_stale(now)
    assert columns() == (Status.WORK, Reason.ALREADY_CLEARING)
    attempt.advance([Phase.INTENT], Phase.REFUSED, now=now, reason=Reason.NAS_TIMEOUT)
    run_status.judge_stale(now)
    assert columns() == (Status.BLOCK, Reason.NAS_TIMEOUT)


def test_a_newer_look_takes_a_refusal_back(found, columns, root, now):
    attempt = attempt_of(found, Phase.INTENT, now)
    attempt.advance([Phase.INTENT], Phase.REFUSED, now=now, reason=Reason.NAS_TIMEOUT)
    run_status.judge_stale(now)
    assert columns() == (Status.BLOCK, Reason.NAS_TIMEOUT)
    discovery.discover(root, now=now + LATER)
    assert columns() == (Status.GO, "")


def test_what_discovery_sees(found, columns, lab, root, now):
    late = lab.staging / RUN_PATH / "late.txt"
    late.write_text("late")
    touch(late, found.verified_at - timedelta(hours=1))
    discovery.discover(root, now=now)
    assert columns() == (Status.BLOCK, Reason.NOT_IN_MANIFEST)
    late.unlink()
    discovery.discover(root, now=now + LATER)
    assert columns() == (Status.GO, "")


def test_a_policy_that_asks_for_another_proof(found, columns, lab, root, policy, now):
    (lab.twin() / "stack.ome.xml").unlink()
    discovery.discover(root, now=now)
    assert columns() == (Status.BLOCK, Reason.NAS_MISSING_FILE)
    policy(proof="record")
    assert run_status.unjudged() == 1
    run_status.judge_stale(now)
    assert columns() == (Status.GO, "")
    policy(proof="record", equipment="ANOTHER")
    assert run_status.unjudged() == 0


def test_a_run_that_is_declared_gone(found, lab, root, now):
    (lab.staging / RUN_PATH).rename(lab.base / "elsewhere")
    discovery.discover(root, now=now)
    assert Run.objects.get().here
    gone.mark_gone(Run.objects.with_root().get(), actor="ada", reason="taken away", now=now)
    run_status.judge_stale(now)
    run = Run.objects.get()
    assert (run.tone, run.here) == (Status.DONE, False)


def test_a_run_that_is_registered_again(found, columns, lab, root, now):
    path = lab.staging / RUN_PATH
    copied = lab.base / "copied"
    path.rename(copied)
    path.mkdir()
    for entry in copied.iterdir():
        entry.rename(path / entry.name)
    discovery.discover(root, now=now)
    assert columns() == (Status.BLOCK, Reason.IDENTITY_MISMATCH)
    order = reregistration.RegisterOrder(actor="ada", note="restored", now=now)
    reregistration.reregister_runs([Run.objects.with_root().get()], order)
    assert run_status.unjudged() == 1
    discovery.discover(root, now=now + LATER)
    assert columns() == (Status.GO, "")


# Two at once


@pytest.mark.both_engines
def test_a_doubt_that_is_raised_during_a_judgement_is_not_lost(found, columns, now, monkeypatch):
    decide = stored_facts.decision

    def meanwhile(run, *args, **kwargs):
        decision = decide(run, *args, **kwargs)
        holds.hold(found, owner="ada", reason="a figure", until=now + timedelta(days=2), now=now)
        monkeypatch.setattr(stored_facts, "decision", decide)
        return decision

    Run.objects.doubt()
    monkeypatch.setattr(stored_facts, "decision", meanwhile)
    run_status.judge_stale(now, limit=1)
    assert Run.objects.get().tone == Status.GO
    assert run_status.unjudged() == 1
    run_status.judge_stale(now)
    assert columns() == (Status.WAIT, Reason.HELD)


def test_a_judgement_that_knew_less_does_not_count(found, columns, now, monkeypatch):
    decide = stored_facts.decision

    def meanwhile(run, *args, **kwargs):
        decision = decide(run, *args, **kwargs)
        monkeypatch.setattr(stored_facts, "decision", decide)
        holds.hold(found, owner="ada", reason="a figure", until=now + timedelta(days=2), now=now)
        run_status.judge_stale(now)
        return decision

    monkeypatch.setattr(stored_facts, "decision", meanwhile)
    assert run_status.judge_runs([found.pk], now) == 0
    assert columns() == (Status.WAIT, Reason.HELD)


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_two_judges_at_once_come_to_the_same(found, more, now):
    more(60)
    Run.objects.doubt()
    faults = []

    def judge():
        try:
            for _ in range(3):
                run_status.judge_stale(now)
        except Exception as fault:
            faults.append(fault)
        finally:
            connection.close()

    judges = [threading.Thread(target=judge) for _ in range(2)]
    for one in judges:
        one.start()
    for one in judges:
        one.join(60)
    assert faults == []
    run_status.judge_stale(now)
    assert run_status.unjudged() == 0
    assert set(Run.objects.values_list("tone", flat=True)) == {Status.GO}


# Cost


@pytest.fixture
def more(found):
    def add(number):
        rows = []
        for index in range(number):
            run = copy.copy(found)
            run.pk, run._state = None, copy.copy(run._state)
            run._state.adding = True
            run.run_path = f"CONFOCAL_01/PROJ-0042/Runs/Run_{index:05}"
            run.identity = f"{index}:-:-"
            run.doubts, run.judged = 1, 0
            rows.append(run)
        Run.objects.bulk_create(rows)

    return add


def test_few_statements_for_many_runs(found, more, now, django_assert_max_num_queries):
    more(400)
    with django_assert_max_num_queries(13):
        assert run_status.judge_stale(now) == 400
    assert Run.objects.filter(tone=Status.GO, judged=1).count() == 400


def test_no_more_than_were_asked_for(found, more, now):
    more(30)
    assert run_status.judge_stale(now, limit=20) == 20
    assert run_status.unjudged() == 10
    assert run_status.unjudged(limit=3) == 3
    assert run_status.judge_stale(now, limit=20) == 10


def test_it_is_remembered_since_when_a_run_stands_as_it_does(lab, root, now):
    path = lab.run()
    discovery.discover(root, now=now)
    run = Run.objects.get()
    assert (run.tone, run.stood_since) == (Status.GO, now)
    (path / "late.txt").write_text("late")
    touch(path / "late.txt", now - timedelta(days=1))
    for hours in (1, 2):
        discovery.discover(root, now=now + timedelta(hours=hours))
        run.refresh_from_db()
        assert (run.tone, run.stood_since) == (Status.BLOCK, now + timedelta(hours=1))
