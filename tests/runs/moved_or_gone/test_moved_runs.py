"""Runs of a folder that was renamed on staging and on the NAS."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from cleanup import clear_run
from cleanup.clears import nas_history, queue
from cleanup.clears.queue import ClearRequest
from cleanup.clears.refusal import Refused
from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, Hold, LedgerEntry, Orphan, Phase, Requester, Run, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.holds import holds
from cleanup.runs.moved_or_gone import moved_runs
from cleanup.runs.moved_or_gone.moved_runs import Move, NotMoved
from cleanup.runs.moved_or_gone.reregistration import RegisterAction, RegisterOrder, Reregistration
from cleanup.runs.orphans import orphans
from tests.faults.scene import Scene, everything, scene_of
from tests.tools.lab import METADATA, RUN_PATH, Lab, read_ingest

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

OLD, NEW = "CONFOCAL_01/PROJ-0042", "CONFOCAL_01/PROJ-0042-cortex"
NEW_PATH = RUN_PATH.replace(OLD, NEW)
SECOND = f"{OLD}/TestRuns/TestRun_2026-04-17T09-12"
MOVE = Move(OLD, NEW)


@pytest.fixture
def order(now: datetime) -> RegisterOrder:
    return RegisterOrder(now=now, actor="ada", note="a new code")


@pytest.fixture
def known(lab: Lab, root: StagingRoot, now: datetime) -> Scene:
    paths = [lab.run(path) for path in (RUN_PATH, SECOND)]
    discovery.discover(root, now=now)
    return scene_of(lab, root, now, RUN_PATH, paths[0])


def rename(lab: Lab, old: str = OLD, new: str = NEW) -> None:
    for side in (lab.staging, lab.nas):
        (side / new).parent.mkdir(parents=True, exist_ok=True)
        (side / old).rename(side / new)


def moved(known: Scene, order: RegisterOrder, move: Move = MOVE) -> list[Reregistration]:
    before = everything(known.lab)
    outcomes = moved_runs.move_runs(known.root, move, order)
    assert everything(known.lab) == before
    return outcomes


def refused(known: Scene, order: RegisterOrder, why: Reason | str) -> None:
    (outcome,) = [one for one in moved(known, order) if one.run.pk == known.run.pk]
    assert (outcome.action, outcome.finding.reason if outcome.finding else outcome.said) == (
        RegisterAction.REFUSED,
        why,
    )
    assert Run.objects.get(pk=known.run.pk).run_path == RUN_PATH
    assert not LedgerEntry.objects.filter(run=known.run).exists()


def edit(record: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(record.read_bytes())
    change(content)
    record.write_text(json.dumps(content))


def assert_moved(known: Scene) -> Run:
    run = Run.objects.with_root().get(pk=known.run.pk)
    assert (run.run_path, run.equipment, run.project) == (NEW_PATH, "CONFOCAL_01", "PROJ-0042-cortex")
    assert (run.record_path, run.identity, run.gone_at) == (RUN_PATH, known.run.identity, None)
    return run


@pytest.mark.parametrize("discovered", [False, True])
def test_a_renamed_project_has_the_same_runs(known: Scene, order: RegisterOrder, discovered: bool) -> None:
    rename(known.lab)
    later = order.now + timedelta(hours=2)
    if discovered:
        for at in (order.now, later):
            discovery.discover(known.root, now=at)
            orphans.inspect(known.root, now=at)
        assert sorted(Orphan.objects.filter(gone_at=None).values_list("kind", flat=True)) == ["missing", "missing"]
    assert [outcome.action for outcome in moved(known, order)] == [RegisterAction.REREGISTERED] * 2
    run = assert_moved(known)
    (entry,) = LedgerEntry.objects.filter(run=run)
    assert (entry.kind, entry.actor, entry.run_path, entry.bytes) == ("reregistered", "ada", NEW_PATH, 0)
    assert entry.detail == f"moved from {RUN_PATH}; the same directory; its record names {RUN_PATH}; a new code"
    discovery.discover(known.root, now=later)
    orphans.inspect(known.root, now=later)
    assert Run.objects.staged().count() == 2
    assert not Run.objects.staged().exclude(problem="").exists()
    assert not Orphan.objects.filter(gone_at=None).exists()
    assert run.events.count() == 4


def test_the_record_may_name_the_old_path_for_clear_and_tell(known: Scene, order: RegisterOrder) -> None:
    rename(known.lab)
    moved(known, order)
    run = assert_moved(known)
    assert clear_run(run, now=order.now) == (known.files, known.bytes)
    assert not (known.lab.staging / NEW_PATH).exists()
    assert nas_history.tell(now=timezone.now()) == 1
    told = read_ingest(known.lab.nas / NEW_PATH)
    assert (told["current_state"], told["run_path"]) == ("cleared", RUN_PATH)


def test_holds_attempts_and_history_stay(known: Scene, order: RegisterOrder) -> None:
    holds.hold(known.run, owner="eve", reason="thesis", now=order.now, until=order.now + timedelta(days=9))
    attempt = known.attempt()
    ClearAttempt.objects.filter(pk=attempt.pk).update(phase=Phase.REFUSED)
    rename(known.lab)
    discovery.discover(known.root, now=order.now)
    moved(known, order)
    run = assert_moved(known)
    assert (run.holds.get().owner, run.attempts.get().pk, run.events.count()) == ("eve", attempt.pk, 4)
    with pytest.raises(Refused, match="held"):
        clear_run(run, now=order.now)


def test_other_bytes_under_the_new_name_are_not_cleared(known: Scene, order: RegisterOrder) -> None:
    rename(known.lab)
    moved(known, order)
    run = assert_moved(known)
    tile = known.lab.nas / NEW_PATH / "tiles/t_0001.tif"
    tile.write_bytes(tile.read_bytes()[::-1])
    with pytest.raises(Refused) as error:
        clear_run(run, now=order.now)
    assert error.value.finding.reason is Reason.NAS_CHECKSUM_MISMATCH


def test_moved_twice_and_back(known: Scene, order: RegisterOrder) -> None:
    rename(known.lab)
    moved(known, order)
    rename(known.lab, NEW, "FLOW_01/P")
    moved(known, order, Move(NEW, "FLOW_01/P"))
    run = Run.objects.get(pk=known.run.pk)
    assert (run.equipment, run.record_path) == ("FLOW_01", RUN_PATH)
    rename(known.lab, "FLOW_01/P", OLD)
    moved(known, order, Move("FLOW_01/P", OLD))
    run = Run.objects.get(pk=known.run.pk)
    assert (run.run_path, run.record_path) == (RUN_PATH, "")
    assert clear_run(run, now=order.now) == (known.files, known.bytes)


def test_one_run_and_another_shape(known: Scene, order: RegisterOrder) -> None:
    target = f"{OLD}/Run_calibration"
    rename(known.lab, RUN_PATH, target)
    assert [one.action for one in moved(known, order, Move(RUN_PATH, target))] == [RegisterAction.REREGISTERED]
    found = discovery.discover(known.root, now=order.now)
    assert found is not None
    assert (found.found, found.problems) == (2, [])
    run = Run.objects.get(pk=known.run.pk)
    assert (run.run_path, run.leaf) == (target, "Run_calibration")
    assert clear_run(run, now=order.now) == (known.files, known.bytes)


def test_a_dry_run_changes_nothing(known: Scene, order: RegisterOrder) -> None:
    rename(known.lab)
    discovery.discover(known.root, now=order.now)
    before = list(Run.objects.order_by("pk").values())
    outcomes = moved(known, replace(order, dry_run=True))
    assert [outcome.action for outcome in outcomes] == [RegisterAction.WOULD_REREGISTER] * 2
    assert {outcome.moved_to for outcome in outcomes} == {NEW_PATH, SECOND.replace(OLD, NEW)}
    assert list(Run.objects.order_by("pk").values()) == before
    assert not LedgerEntry.objects.exists()


def test_a_copy_that_only_its_record_names(known: Scene, order: RegisterOrder, policy: Any) -> None:
    """Where the NAS has no project folders, the copy's record names the old path too."""
    copy = known.lab.nas / "CONFOCAL_01" / known.path.name
    known.twin.rename(copy)
    StagingRoot.objects.update(nas_layout="equipment/leaf")
    policy(proof="size")
    (known.lab.staging / OLD).rename(known.lab.staging / NEW)
    outcomes = moved_runs.move_runs(StagingRoot.objects.get(), MOVE, order)
    assert {outcome.action for outcome in outcomes} == {RegisterAction.REREGISTERED}
    run = assert_moved(known)
    assert clear_run(run, now=order.now) == (known.files, known.bytes)


# What is refused


def test_what_still_lies_at_its_old_path(known: Scene, order: RegisterOrder) -> None:
    refused(known, order, "It still lies at its old path.")
    shutil.copytree(known.lab.staging / OLD, known.lab.staging / NEW)
    discovery.discover(known.root, now=order.now)
    refused(known, order, "It still lies at its old path.")


def test_what_is_not_at_the_new_path(known: Scene, order: RegisterOrder) -> None:
    known.path.rename(known.lab.base / "away")
    refused(known, order, Reason.MISSING_DIRECTORY)


def another_history(record: dict[str, Any]) -> None:
    record["history"][0]["host"] = "elsewhere"


def a_rewritten_history(record: dict[str, Any]) -> None:
    record["history"][2]["host"] = "elsewhere"


def a_shorter_history(record: dict[str, Any]) -> None:
    record["history"].pop()
    record["current_state"] = record["history"][-1]["state"]


def the_record_of_a_third(record: dict[str, Any]) -> None:
    record["run_path"] = SECOND


REFUSED = {
    another_history: Reason.IDENTITY_MISMATCH,
    a_rewritten_history: Reason.INGEST_DISAGREES,
    a_shorter_history: Reason.INGEST_DISAGREES,
    the_record_of_a_third: Reason.INGEST_DISAGREES,
}


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
def test_another_record_under_the_new_name(
    known: Scene, order: RegisterOrder, change: Callable[[dict[str, Any]], Any]
) -> None:
    rename(known.lab)
    edit(known.lab.staging / NEW_PATH / METADATA / "ingest.json", change)
    refused(known, order, REFUSED[change])


def test_a_record_that_names_the_new_path_counts_in_the_runs_own_directory_alone(
    known: Scene, order: RegisterOrder
) -> None:
    rename(known.lab)
    there = known.lab.staging / NEW_PATH
    edit(there / METADATA / "ingest.json", lambda record: record.update(run_path=NEW_PATH))
    copy = shutil.copytree(there, known.lab.base / "copy")
    there.rename(known.lab.base / "own")
    copy.rename(there)
    refused(known, order, Reason.INGEST_DISAGREES)
    shutil.rmtree(there)
    (known.lab.base / "own").rename(there)
    moved(known, order)
    run = Run.objects.get(pk=known.run.pk)
    assert (run.run_path, run.record_path) == (NEW_PATH, "")


def test_a_copy_of_the_directory_is_taken_and_the_ledger_says_so(known: Scene, order: RegisterOrder) -> None:
    """A move to another filesystem is a copy; the clear compares its bytes."""
    rename(known.lab)
    there = known.lab.staging / NEW_PATH
    shutil.copytree(there, known.lab.base / "copy")
    shutil.rmtree(there)
    (known.lab.base / "copy").rename(there)
    moved(known, order)
    run = Run.objects.get(pk=known.run.pk)
    assert run.run_path == NEW_PATH
    assert "another directory" in LedgerEntry.objects.get(run=run).detail
    assert clear_run(run, now=order.now) == (known.files, known.bytes)


def test_a_run_that_is_known_at_the_new_path(known: Scene, order: RegisterOrder) -> None:
    other = known.lab.run(NEW_PATH)
    discovery.discover(known.root, now=order.now)
    other.rename(known.lab.base / "away")
    known.path.rename(other)
    refused(known, order, Reason.IDENTITY_MISMATCH)


def test_two_runs_with_the_same_short_history(lab: Lab, root: StagingRoot, now: datetime, order: RegisterOrder) -> None:
    """Begun in the same second: the paths in their records tell them apart."""
    paths = [lab.run(path, state="staging") for path in (RUN_PATH, NEW_PATH)]
    discovery.discover(root, now=now)
    known = scene_of(lab, root, now, RUN_PATH, paths[0])
    paths[0].rename(lab.base / "away")
    refused(known, order, Reason.INGEST_DISAGREES)


def test_what_people_did_with_the_duplicate_stands_in_the_way(known: Scene, order: RegisterOrder) -> None:
    rename(known.lab)
    discovery.discover(known.root, now=order.now)
    duplicate = Run.objects.with_root().get(run_path=NEW_PATH)
    holds.hold(duplicate, owner="eve", reason="why twice?", now=order.now, until=order.now + timedelta(days=9))
    refused(known, order, Reason.HELD)
    Hold.objects.update(released_at=order.now, released_by="eve")
    attempt = queue.new_attempt(duplicate, ClearRequest(requester=Requester.OPERATOR, actor="eve"), now=order.now)
    refused(known, order, Reason.ALREADY_CLEARING)
    ClearAttempt.objects.filter(pk=attempt.pk).update(phase=Phase.REFUSED)
    refused(known, order, "Another run is known at the new path, and a clear of it was tried.")


def test_a_clear_that_is_under_way(known: Scene, order: RegisterOrder) -> None:
    rename(known.lab)
    known.attempt()
    refused(known, order, Reason.ALREADY_CLEARING)
    ClearAttempt.objects.update(phase=Phase.REFUSED)
    with opening.data_dir().lock(str(known.run.pk)):
        refused(known, order, Reason.ALREADY_CLEARING)


@pytest.mark.parametrize("moved_too", [False, True])
def test_a_run_in_its_fence(known: Scene, order: RegisterOrder, moved_too: bool) -> None:
    attempt = known.attempt()
    ClearAttempt.objects.filter(pk=attempt.pk).update(phase=Phase.CONFLICT)
    known.path.rename(known.path.with_name(f".exlab-clearing-{attempt.pk.hex}"))
    if moved_too:
        rename(known.lab)
        shutil.copytree(known.lab.nas / NEW_PATH, known.lab.staging / NEW_PATH)
    refused(known, order, Reason.PATH_OCCUPIED)


@pytest.mark.parametrize("new", ["CONFOCAL_01", "..", "/etc", ".hidden/P", f"{NEW}/Runs"])
def test_names_where_no_run_can_lie(known: Scene, order: RegisterOrder, new: str) -> None:
    outcomes = moved(known, order, Move(OLD, new))
    assert {one.finding.reason for one in outcomes if one.finding} == {Reason.UNSAFE_PATH}


def test_what_is_no_move(known: Scene, order: RegisterOrder) -> None:
    for old, new in (("", NEW), (OLD, " / "), (OLD, f"{OLD}/")):
        with pytest.raises(NotMoved):
            moved_runs.read_move(old, new)
    with pytest.raises(NotMoved, match="No staged run"):
        moved(known, order, Move("CONFOCAL_01/PROJ", NEW))


def test_a_cleared_run_is_no_concern_of_a_move(known: Scene, order: RegisterOrder) -> None:
    assert clear_run(known.run, now=order.now)
    rename(known.lab)
    assert [one.run.run_path for one in moved(known, order)] == [SECOND.replace(OLD, NEW)]


def test_the_guess_names_the_folder_that_was_renamed(known: Scene, order: RegisterOrder) -> None:
    assert moved_runs.guess(known.run) is None
    rename(known.lab)
    discovery.discover(known.root, now=order.now)
    assert moved_runs.guess(known.run) == MOVE


# The command


def manage(*arguments: str) -> tuple[int, Any]:
    out = StringIO()
    try:
        call_command("reregister", *arguments, "--json", stdout=out)
    except SystemExit as ended:
        return int(str(ended.code)), json.loads(out.getvalue())
    return 0, json.loads(out.getvalue())


def test_the_command(known: Scene) -> None:
    rename(known.lab)
    (known.lab.staging / SECOND.replace(OLD, NEW)).rename(known.lab.base / "away")
    status, said = manage("--moved", f"{OLD}/", NEW, "--dry-run")
    assert (status, said["reregistered"], said["refused"], said["problem"]) == (1, 1, 1, None)
    assert Run.objects.get(pk=known.run.pk).run_path == RUN_PATH
    status, said = manage("--moved", OLD, NEW, "--reason", "a typo")
    assert (status, said["reregistered"], said["refused"]) == (1, 1, 1)
    first = said["runs"][0]
    assert (first["action"], first["run_path"], first["moved_to"]) == ("reregistered", RUN_PATH, NEW_PATH)
    assert said["runs"][1]["reason"] == "missing_directory"
    assert_moved(known)
    (known.lab.base / "away").rename(known.lab.staging / SECOND.replace(OLD, NEW))
    assert manage("--moved", OLD, NEW)[1]["reregistered"] == 1
    for bad in (("--moved", OLD, NEW), ("--moved", NEW, NEW), ("--moved", OLD, NEW, "--replaced")):
        with pytest.raises(CommandError):
            manage(*bad)


def found_anew(known: Scene, order: RegisterOrder) -> Run:
    rename(known.lab)
    discovery.discover(known.root, now=order.now)
    return Run.objects.with_root().get(run_path=NEW_PATH)


def test_a_run_that_was_found_anew_is_known_by_its_directory(known: Scene, order: RegisterOrder) -> None:
    run = found_anew(known, order)
    before = everything(known.lab)
    (outcome,) = moved_runs.reregister_runs([run], replace(order, dry_run=True))
    assert (outcome.action, outcome.run, outcome.moved_to) == (RegisterAction.WOULD_REREGISTER, known.run, NEW_PATH)
    (outcome,) = moved_runs.reregister_runs([run], order)
    assert (outcome.action, outcome.moved_from, outcome.moved_to) == (RegisterAction.REREGISTERED, RUN_PATH, NEW_PATH)
    assert everything(known.lab) == before
    assert_moved(known)
    run.refresh_from_db()
    assert run.gone_at == order.now
    assert clear_run(Run.objects.get(pk=known.run.pk), now=order.now) == (known.files, known.bytes)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda path: (path / "tiles/t_0001.tif").unlink(), "It holds"),
        (
            lambda path: edit(
                path / METADATA / "ingest.json", lambda record: record["history"][1].update(host="x" * 99)
            ),
            "not the one that is known",
        ),
        (
            lambda path: edit(
                path / METADATA / "ingest.json", lambda record: record["history"][0].update(host="labpc-0" + "4" * 9)
            ),
            "begins otherwise",
        ),
    ],
    ids=["fewer bytes", "a changed history", "another history"],
)
def test_only_with_all_that_was_known_of_it(
    known: Scene, order: RegisterOrder, change: Callable[[Path], Any], why: str
) -> None:
    run = found_anew(known, order)
    change(known.lab.staging / NEW_PATH)
    (outcome,) = moved_runs.reregister_runs([run], order)
    said = outcome.said or (outcome.finding.detail if outcome.finding else "")
    assert outcome.action is RegisterAction.REFUSED and why in said
    assert Run.objects.get(pk=known.run.pk).run_path == RUN_PATH
