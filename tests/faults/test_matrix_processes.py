"""The fault matrix: two workers at once, tasks that come twice or late, and abandoned attempts."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from django.conf import settings

from cleanup.clears import protocol, queue, recovery, refusal
from cleanup.lab import policy_versions, task_queues
from cleanup.models import ClearAttempt
from cleanup.rules.decisions import Gate
from cleanup.rules.reasons import Reason
from cleanup.runs.facts import inspection, stored_facts
from tests.faults import children, means
from tests.faults.cases import (
    Answer,
    Case,
    Stage,
    cleared,
    discover,
    matrix,
    page,
)
from tests.faults.scene import inodes
from tests.tools.lab import METADATA, RUN_PATH, read_ingest

pytestmark = pytest.mark.one_engine


CLEARING = "cleanup.clears.protocol"
FENCES, REMOVAL = "cleanup.storage.staging.fences", "cleanup.storage.staging.removal"


def told(stage: Stage, attempt: ClearAttempt) -> Answer:
    attempt.refresh_from_db()
    return Answer(attempt.phase, attempt.reason, page(stage))


def clicked_already(stage: Stage) -> None:
    queue.request_clear(stage.run, actor="bob", now=stage.now)


def untouched(stage: Stage) -> None:
    stage.assert_unchanged()
    assert stage.scene.kinds() == []
    assert stage.run.attempts.get().phase == "queued"


def untouched_but_told(stage: Stage) -> None:
    stage.assert_unchanged()
    assert stage.scene.kinds() == ["refused"]


def locked_elsewhere(stage: Stage) -> Any:
    (stage.data / "locks").mkdir(exist_ok=True)
    return means.flocked_elsewhere(stage.data / "locks" / str(stage.scene.run.pk))


def delivered_twice(stage: Stage) -> Answer:
    attempt = stage.scene.attempt()
    for _ in range(2):
        protocol.perform(ClearAttempt.objects.get(pk=attempt.pk), now=stage.now)
    return told(stage, attempt)


def of_another_host(stage: Stage) -> Answer:
    attempt = stage.scene.attempt()
    with means.replaced(stage.monkeypatch, settings, "EXLAB_HOST", "another-pc"):
        protocol.perform(attempt, now=stage.now)
        recovery.recover(now=stage.now)
    return told(stage, attempt)


def two_at_once(stage: Stage) -> Answer:
    attempt = stage.scene.attempt()
    before = stage.disk()
    holder = children.pause_at(f"{CLEARING}:_pass_gates:before:1", stage.env, "clear", stage.now, str(attempt.pk))
    assert children.run(stage.env, "clear", stage.now, str(attempt.pk)) == ["intent", 0, 0]
    assert children.run(stage.env, "recover", stage.now) == [0, 0, 0]
    with pytest.raises(refusal.Refused) as refused:
        protocol.clear_run(stage.run, now=stage.now)
    assert refused.value.finding.reason is Reason.ALREADY_CLEARING
    assert stage.disk() == before
    assert children.resume(holder) == ["done", stage.scene.files, stage.scene.bytes]
    return told(stage, attempt)


def thawed_late(stage: Stage, place: str) -> Answer:
    """A process is frozen in the middle, the others wait, and days later it goes on."""
    attempt = stage.scene.attempt()
    holder = children.pause_at(place, stage.env, "clear", stage.now, str(attempt.pk))
    os.kill(holder.pid, signal.SIGSTOP)
    before = stage.disk()
    try:
        assert children.run(stage.env, "recover", stage.now) == [0, 0, 0]
        assert stage.disk() == before
    finally:
        os.kill(holder.pid, signal.SIGCONT)
    assert children.resume(holder) == ["done", stage.scene.files, stage.scene.bytes]
    return told(stage, attempt)


def killed_and_recovered(stage: Stage) -> Answer:
    attempt = stage.scene.attempt()
    children.kill_at(f"{REMOVAL}:_unlink_planned:after:3", stage.env, "clear", stage.now, str(attempt.pk))
    recovery.recover(now=stage.now)
    return told(stage, attempt)


def killed_and_swept(stage: Stage) -> Answer:
    """The next pass of the schedule undoes the interrupted clear, and clears the run itself."""
    attempt = stage.scene.attempt()
    children.kill_at(f"{FENCES}:fence:after:1", stage.env, "clear", stage.now, str(attempt.pk))
    scope = {"equipment": "CONFOCAL_01", "project": "PROJ-0042"}
    policy_versions.add_version(author="admin", now=stage.now, mode="scheduled", retain_hours=0, **scope)
    swept = children.run(stage.env, "sweep", stage.now)
    assert [RUN_PATH, "cleared", "retention"] in swept, swept
    return told(stage, attempt)


def cleared_by_the_other(stage: Stage) -> None:
    assert stage.scene.kinds() == ["aborted", "authorised", "completed"]
    assert not stage.path.exists()
    stage.scene.assert_freed(stage.scene.files, stage.scene.bytes)


def never_performed(stage: Stage) -> Answer:
    """A sweep was killed between its request and its first step, so no task will come for it."""
    attempt = stage.scene.attempt()
    recovery.recover(now=stage.now + task_queues.LOST_AFTER * 2)
    return told(stage, attempt)


def only_told(stage: Stage) -> None:
    stage.assert_unchanged()
    assert stage.scene.kinds() == ["aborted"]


# What discovery finds


def leave_a_fence(stage: Stage) -> Answer:
    """The database was restored from an older backup: the run lies whole under a fence's name."""
    stage.path.rename(stage.parent / (".exlab-clearing-" + "0" * 32))
    stage.note()
    found = [problem for problem in discover(stage).problems if ".exlab-clearing-" in problem[0]]
    assert len(found) == 1
    return Answer("reported", found[0][1], found[0][1].sentence)


def hidden_but_whole(stage: Stage) -> None:
    hidden = stage.parent / (".exlab-clearing-" + "0" * 32)
    assert inodes(hidden) == stage.scene.inodes
    for _ in range(2):
        recovery.recover(now=stage.now)
        assert inodes(hidden) == stage.scene.inodes


@contextmanager
def blind(stage: Stage) -> Iterator[None]:
    """The product itself fails while it looks at a run."""
    fault = means.failing(RuntimeError("a fault of our own"))
    with means.replaced(stage.monkeypatch, inspection, "quick_look", fault):
        yield


def fail_to_look(stage: Stage) -> Answer:
    with blind(stage):
        problems = [problem for problem in discover(stage).problems if problem[0] == RUN_PATH]
    assert len(problems) == 1
    return Answer("reported", problems[0][1], problems[0][1].sentence)


def gate_on_page(stage: Stage, gate: Gate) -> Answer:
    decision = stored_facts.decision(stage.run, [], stage.now)
    assert not decision.worth_trying
    return Answer("shown", decision.gate(gate).reason or "", page(stage))


def never_looked_at(stage: Stage) -> Answer:
    """The first look at a new run failed: its row has no facts."""
    other = RUN_PATH.replace("14-32", "23-59")
    stage.lab.run(other)
    with blind(stage):
        discover(stage)
    stage.scene = replace(stage.scene, run=type(stage.run).objects.with_root().get(run_path=other))
    stage.note()
    return gate_on_page(stage, Gate.PATH)


def verified_unseen(stage: Stage) -> Answer:
    """The record now says verified; the look that should have compared it failed."""
    record = read_ingest(stage.path)
    record["history"].append({"state": "sync_verified", "at": "2026-04-17T16:15:43Z", "host": "labpc-04"})
    record["current_state"] = "sync_verified"
    (stage.path / METADATA / "ingest.json").write_text(json.dumps(record))
    with blind(stage):
        discover(stage)
    assert stage.run.state == "sync_verified"
    stage.note()
    return gate_on_page(stage, Gate.PROOF)


def nothing_happened(stage: Stage) -> None:
    stage.assert_unchanged()
    assert stage.scene.kinds() == []


CASES = {
    "an operator has clicked already": Case(Reason.ALREADY_CLEARING, clicked_already, then=untouched, swept=True),
    "the run is locked elsewhere": Case(
        Reason.ALREADY_CLEARING, locked_elsewhere, then=untouched_but_told, alone=True, swept=True
    ),
    "the task comes twice": Case(None, action="done", then=cleared, act=delivered_twice),
    "the task comes to another host": Case(None, action="queued", then=untouched, act=of_another_host),
    "two at once": Case(None, action="done", then=cleared, act=two_at_once, alone=True),
    "frozen before the fence": Case(
        None, action="done", then=cleared, act=lambda s: thawed_late(s, f"{FENCES}:fence:before:1"), alone=True
    ),
    "frozen before the commit": Case(
        None, action="done", then=cleared, act=lambda s: thawed_late(s, f"{CLEARING}:_commit:before:1"), alone=True
    ),
    "frozen in the removal": Case(
        None,
        action="done",
        then=cleared,
        act=lambda s: thawed_late(s, f"{REMOVAL}:_unlink_planned:after:2"),
        alone=True,
    ),
    "killed in the removal": Case(None, action="done", then=cleared, act=killed_and_recovered, alone=True),
    "killed, and swept by the next": Case(
        Reason.INTERRUPTED, action="aborted", then=cleared_by_the_other, act=killed_and_swept, alone=True
    ),
    "its task never comes": Case(Reason.INTERRUPTED, action="aborted", then=only_told, act=never_performed),
    "a fence of no attempt of ours": Case(
        Reason.STRAY_FENCE, action="reported", then=hidden_but_whole, act=leave_a_fence
    ),
    "the look fails": Case(Reason.LOOK_FAILED, action="reported", then=nothing_happened, act=fail_to_look),
    "no look yet": Case(Reason.NOT_LOOKED_AT, action="shown", then=nothing_happened, act=never_looked_at),
    "verified, and not compared yet": Case(
        Reason.NOT_COMPARED,
        action="shown",
        then=nothing_happened,
        act=verified_unseen,
        built={"state": "sync_queued"},
    ),
}


RARE = {
    "frozen before the fence",
    "frozen in the removal",
}


@matrix("processes", CASES, rare=RARE)
def test_processes(play: Callable[..., None], case: Case, asker: str) -> None:
    play(case, asker, own_reader=True)
