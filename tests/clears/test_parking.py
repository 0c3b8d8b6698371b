"""A run is parked after three failed clears, until its facts change."""

from datetime import timedelta
from typing import Any

import pytest

from cleanup import clear_run
from cleanup.clears import protocol, recovery
from cleanup.clears.queue import ClearRequest, new_attempt
from cleanup.clears.refusal import Refused
from cleanup.models import Phase, Requester, Run
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.storage.data_directory.datadir import DataDir
from cleanup.sweeps import all_roots
from tests.faults.scene import Scene, set_scene
from tests.tools.lab import METADATA, Lab

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine]


@pytest.fixture
def scene(lab: Lab, root: Any, now: Any, policy: Any) -> Scene:
    policy(mode="scheduled", retain_hours=0)
    return set_scene(lab, root, now)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    def no_space(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DataDir, "write_plan", no_space)
    return monkeypatch


def failures(scene: Scene) -> int:
    return Run.objects.get(pk=scene.run.pk).failures


def sweep(scene: Scene) -> tuple[str, str]:
    (run,) = all_roots.sweep(now=scene.now).runs
    return run.action, run.reason


def test_the_schedule_leaves_a_run_alone_after_three_failures(scene: Scene, full: pytest.MonkeyPatch) -> None:
    assert [sweep(scene)[1] for _ in range(3)] == ["storage_error"] * 3
    assert sweep(scene) == ("skipped", "parked")
    assert sweep(scene) == ("skipped", "parked")
    assert scene.run.attempts.count() == 3
    assert failures(scene) == 3
    scene.assert_whole()


def test_a_refused_gate_is_no_failure(scene: Scene) -> None:
    (scene.twin / "run_complete").unlink()
    for _ in range(4):
        with pytest.raises(Refused):
            clear_run(scene.run, now=scene.now)
    assert failures(scene) == 0


def test_an_operator_may_try_again_and_succeed(scene: Scene, full: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        sweep(scene)
    full.undo()
    assert sweep(scene) == ("skipped", "parked")  # nothing about the run has changed
    assert clear_run(scene.run, now=scene.now) == (scene.files, scene.bytes)


def test_it_comes_back_when_its_facts_change(scene: Scene, full: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        sweep(scene)
    discovery.discover(scene.root, now=scene.now + timedelta(hours=1))
    assert failures(scene) == 3  # looked at again, and nothing is new
    full.undo()
    log = scene.path / METADATA / "wizard.labpc-04.log"
    log.write_text(log.read_text() + "one line more\n")
    discovery.discover(scene.root, now=scene.now + timedelta(hours=2))
    assert failures(scene) == 0
    assert sweep(scene)[0] == "cleared"


def test_a_run_that_kills_its_worker_is_parked_too(scene: Scene) -> None:
    """The queue would repeat such a task for ever; the product's own rows count the attempts."""
    for _ in range(3):
        attempt = new_attempt(scene.run, ClearRequest(requester=Requester.SCHEDULE, actor=""), now=scene.now)
        assert protocol._claim(attempt)
        recovery.recover(now=scene.now)
        attempt.refresh_from_db()
        assert attempt.phase == Phase.ABORTED
    assert failures(scene) == 3
    assert sweep(scene) == ("skipped", "parked")


def test_a_failed_commit_counts(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError

    def fail(*args: Any) -> None:
        raise OperationalError("the disk of the database is full")

    monkeypatch.setattr(protocol, "_write_commit", fail)
    with pytest.raises(Refused) as refused:
        clear_run(scene.run, now=scene.now)
    assert refused.value.finding.reason is Reason.DATABASE_ERROR
    assert failures(scene) == 1


def test_the_gate_says_how_the_last_attempt_failed(scene: Scene, full: pytest.MonkeyPatch) -> None:
    from cleanup.models import RetentionPolicy
    from cleanup.rules.decisions import Gate
    from cleanup.runs.facts import stored_facts

    for _ in range(3):
        sweep(scene)
    run = Run.objects.with_root().get()
    result = stored_facts.decision(run, RetentionPolicy.objects.scoped(), scene.now).gate(Gate.ATTEMPTS)
    assert result.reason is Reason.PARKED
    assert Reason.STORAGE_ERROR.sentence in result.detail
    assert "No space left on device" in result.detail
