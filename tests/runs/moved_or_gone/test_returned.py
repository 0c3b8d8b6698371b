"""Runs that were cleared and copied back."""

import json
import os
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine

from cleanup import clear_run
from cleanup.clears import nas_history
from cleanup.clears.refusal import Refused
from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, LedgerEntry, Run, StagingRoot
from cleanup.rules.decisions import Gate
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.facts import stored_facts
from cleanup.runs.moved_or_gone import reregistration
from cleanup.runs.moved_or_gone.reregistration import RegisterOrder
from cleanup.runs.set_aside import set_aside
from cleanup.storage.staging import records
from cleanup.sweeps import all_roots
from tests.tools.lab import METADATA, RUN_PATH, Lab, read_ingest, read_sync_state, snapshot, touch

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
HISTORY = ["staging", "complete", "sync_queued", "sync_verified", "cleared"]


def first_clear(lab: Lab, root: StagingRoot, now: datetime, *, told: bool = True, record: str = "ingest") -> Run:
    lab.run(record=record)
    discovery.discover(root, now=now)
    run = Run.objects.get()
    clear_run(run, now=now, actor="ada")
    assert not (lab.staging / RUN_PATH).exists()
    if told:
        assert nas_history.tell(now=now + 400 * DAY) == 1
    return Run.objects.get()


def copy_back(lab: Lab) -> Path:
    path = lab.staging / RUN_PATH
    shutil.copytree(lab.twin(), path)
    return path


def come_back(lab: Lab, root: StagingRoot, at: datetime) -> Run:
    copy_back(lab)
    found = discovery.discover(root, now=at)
    assert found is not None and found.problems == []
    return Run.objects.with_root().staged().get()


def record_of(run: Path) -> bytes:
    return (run / METADATA / "ingest.json").read_bytes()


@pytest.mark.both_engines
@pytest.mark.parametrize("told", [True, False])
def test_it_is_cleared_again_and_its_history_gets_no_second_end(
    lab: Lab, root: StagingRoot, now: datetime, told: bool
) -> None:
    former = first_clear(lab, root, now, told=told)
    run = come_back(lab, root, now + DAY)
    assert (run.returned_from, run.returned_at, run.state) == (former, now + DAY, "sync_verified")
    published = opening.data_dir().read_record(former.attempts.get().pk.hex)
    twin = snapshot(lab.twin())
    clear_run(run, now=now + DAY, actor="ben", note="not needed any more")
    assert not (lab.staging / RUN_PATH).exists()
    run.refresh_from_db()
    assert run.state == "cleared" and former.cleared_at is not None and run.cleared_at is not None
    assert run.cleared_at > former.cleared_at
    events = [run.events.order_by("position"), former.events.order_by("position")]
    ours, theirs = ([(event.state, event.digest) for event in each] for each in events)
    assert [state for state, _ in ours] == HISTORY and ours == theirs
    attempt = run.attempts.get()
    assert opening.data_dir().read_record(attempt.pk.hex) == published
    kinds = LedgerEntry.objects.filter(run=run).order_by("pk").values_list("kind", "actor")
    assert list(kinds) == [("authorised", "ben"), ("completed", "ben")]
    assert nas_history.tell(now=now + 400 * DAY) == (1 if told else 2)
    if told:
        assert snapshot(lab.twin()) == twin  # it says so already
    assert [entry["state"] for entry in read_ingest(lab.twin())["history"]] == HISTORY


def test_the_record_stays_byte_for_byte_where_it_says_cleared_already(
    lab: Lab, root: StagingRoot, now: datetime
) -> None:
    """Even with other formatting."""
    first_clear(lab, root, now)
    path = copy_back(lab)
    (path / METADATA / "ingest.json").write_text(json.dumps(read_ingest(path), indent=2))
    discovery.discover(root, now=now + DAY)
    before, run = record_of(path), Run.objects.staged().get()
    clear_run(run, now=now + DAY)
    assert opening.data_dir().read_record(run.attempts.get().pk.hex) == before


@pytest.mark.parametrize("told", [True, False])
def test_the_schedule_keeps_it_from_when_it_was_seen_again(
    lab: Lab, root: StagingRoot, now: datetime, policy: Callable[..., Any], told: bool
) -> None:
    policy(mode="scheduled", retain_hours=24, stage="off")
    first_clear(lab, root, now, told=told)
    run = come_back(lab, root, now)
    (soon,) = all_roots.sweep(now=now + HOUR, timed=False, roots=[root], actor="ada").runs
    assert (soon.action, soon.reason) == ("skipped", Reason.RETENTION_NOT_ELAPSED)
    decision = stored_facts.decision(run, [], now)
    assert decision.gate(Gate.STATE).reason is None
    assert "after its files were seen here again" in soon.detail
    discovery.discover(root, now=now + DAY)
    assert Run.objects.staged().get().returned_at == now  # the first sight here
    (later,) = all_roots.sweep(now=now + DAY, timed=False, roots=[root], actor="ada").runs
    assert later.action == "cleared"


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("record", ["ingest", "sync_state"])
def test_one_that_was_seen_before_its_record_had_been_copied_is_one_too(
    lab: Lab, root: StagingRoot, now: datetime, policy: Callable[..., Any], told: bool, record: str
) -> None:
    """Copying takes hours, discovery comes in between, and the folder of the records may be the last."""
    policy(mode="scheduled", retain_hours=24, stage="off")
    former = first_clear(lab, root, now, told=told, record=record)
    path = copy_back(lab)
    if record == "sync_state":
        for name, said in read_sync_state(lab.twin())["files"].items():
            os.utime(path / name, ns=(0, said["synced_signature"][1]))
    (path / METADATA).rename(path.parent / "later")
    discovery.discover(root, now=now)
    (path.parent / "later").rename(path / METADATA)
    discovery.discover(root, now=now + DAY)
    run = Run.objects.staged().get()
    assert (run.returned_from, run.returned_at, run.state) == (former, now + DAY, "sync_verified")
    (soon,) = all_roots.sweep(now=now + DAY + HOUR, timed=False, roots=[root], actor="ada").runs
    assert (soon.action, soon.reason) == ("skipped", Reason.RETENTION_NOT_ELAPSED)
    clear_run(run, now=now + DAY)
    ends = [run.events.filter(state="cleared"), former.events.filter(state="cleared")]
    assert len({event.digest for events in ends for event in events}) == 1


def test_one_that_was_copied_back_anew_is_kept_from_then_on(
    lab: Lab, root: StagingRoot, now: datetime, policy: Callable[..., Any]
) -> None:
    policy(mode="scheduled", retain_hours=24, stage="off")
    first_clear(lab, root, now)
    come_back(lab, root, now + DAY)
    (lab.staging / RUN_PATH).rename(lab.staging.parent / "away")
    discovery.discover(root, now=now + 2 * DAY)
    copy_back(lab)
    (outcome,) = reregistration.reregister_runs(
        [Run.objects.with_root().staged().get()], RegisterOrder(now + 30 * DAY, "ada")
    )
    assert outcome.action == "reregistered"
    discovery.discover(root, now=now + 30 * DAY)
    (soon,) = all_roots.sweep(now=now + 30 * DAY + HOUR, timed=False, roots=[root], actor="ada").runs
    assert (soon.action, soon.reason) == ("skipped", Reason.RETENTION_NOT_ELAPSED)


def test_it_may_come_back_as_often_as_it_likes(lab: Lab, root: StagingRoot, now: datetime) -> None:
    first_clear(lab, root, now)
    for times in range(1, 3):
        run = come_back(lab, root, now + times * DAY)
        clear_run(run, now=now + times * DAY)
    first, second, third = Run.objects.order_by("pk")
    assert (second.returned_from, third.returned_from) == (first, second)
    assert ClearAttempt.objects.filter(phase="done").count() == 3
    assert all(run.events.filter(state="cleared").count() == 1 for run in (first, second, third))


@pytest.mark.parametrize("told", [True, False])
def test_a_run_of_the_newer_wizard_comes_back_as_well(lab: Lab, root: StagingRoot, now: datetime, told: bool) -> None:
    former = first_clear(lab, root, now, told=told, record="sync_state")
    copy_back(lab)
    for name, said in read_sync_state(lab.twin())["files"].items():  # the wizard's copies keep the times of the files
        os.utime(lab.staging / RUN_PATH / name, ns=(0, said["synced_signature"][1]))
    discovery.discover(root, now=now + DAY)
    run = Run.objects.staged().get()
    assert (run.returned_from, run.state) == (former, "sync_verified")
    published = opening.data_dir().read_record(former.attempts.get().pk.hex, file="sync_state.json")
    clear_run(run, now=now + DAY)
    again = opening.data_dir().read_record(run.attempts.get().pk.hex, file="sync_state.json")
    assert records.SYNC_STATE.parse(again).cleared_at == records.SYNC_STATE.parse(published).cleared_at


def test_what_the_wizard_verified_anew_gets_an_end_of_its_own(lab: Lab, root: StagingRoot, now: datetime) -> None:
    first_clear(lab, root, now, told=False)
    path = copy_back(lab)
    record = read_ingest(path)
    whole, record["history"], record["current_state"] = record["history"], record["history"][:2], "complete"
    (path / METADATA / "ingest.json").write_text(json.dumps(record))
    discovery.discover(root, now=now + DAY)
    run = Run.objects.staged().get()
    assert (run.returned_at, run.state) == (now + DAY, "complete")
    record["history"] += [entry | {"at": "2026-06-17T09:00:00Z"} for entry in whole[2:4]]
    record["current_state"] = "sync_verified"
    (path / METADATA / "ingest.json").write_text(json.dumps(record))
    discovery.discover(root, now=now + 3 * DAY)
    with time_machine.travel(now + 3 * DAY, tick=True):
        clear_run(run, now=now + 3 * DAY)
    run.refresh_from_db()
    assert run.returned_from is not None
    mine, theirs = (each.events.get(state="cleared").digest for each in (run, run.returned_from))
    assert mine != theirs


def test_one_that_goes_away_again_was_not_cleared_by_the_wizard(lab: Lab, root: StagingRoot, now: datetime) -> None:
    """Its record on the NAS says `cleared`, but by this program, before it came back."""
    first_clear(lab, root, now)
    run = come_back(lab, root, now + DAY)
    (lab.staging / RUN_PATH).rename(lab.base / "somewhere")
    found = discovery.discover(root, now=now + 2 * DAY)
    assert found is not None and [problem[1] for problem in found.problems] == [Reason.MISSING_DIRECTORY]
    run.refresh_from_db()
    assert (run.state, run.cleared_by) == ("sync_verified", "")


def test_a_history_that_ends_otherwise_is_no_copy_of_ours(lab: Lab, root: StagingRoot, now: datetime) -> None:
    """One byte of the entry is enough: then another program wrote it for unknown reasons."""
    first_clear(lab, root, now)
    path = copy_back(lab)
    record = read_ingest(path)
    record["history"][-1]["host"] = "elsewhere"
    (path / METADATA / "ingest.json").write_text(json.dumps(record))
    found = discovery.discover(root, now=now + DAY)
    assert found is not None and [problem[1] for problem in found.problems] == [Reason.ALREADY_CLEARED]
    assert not Run.objects.staged().exists() and not Run.objects.exclude(returned_at=None).exists()


def test_what_another_program_cleared_stays_its_affair(lab: Lab, root: StagingRoot, now: datetime) -> None:
    lab.run(state="cleared")
    discovery.discover(root, now=now)
    Run.objects.update(identity="1:1:" + Run.objects.get().origin)  # the folder was another one
    discovery.discover(root, now=now + DAY)
    assert not Run.objects.exclude(returned_at=None).exists()
    assert not Run.objects.staged().exists()


@pytest.mark.parametrize("damage", ["staged", "twin"])
def test_its_bytes_are_compared_like_any_others(lab: Lab, root: StagingRoot, now: datetime, damage: str) -> None:
    first_clear(lab, root, now)
    run = come_back(lab, root, now + DAY)
    place = lab.staging / RUN_PATH if damage == "staged" else lab.twin()
    name = place / "tiles/t_0001.tif"
    seen = name.stat()
    name.write_bytes(bytes(seen.st_size))
    os.utime(name, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    with pytest.raises(Refused) as refused:
        clear_run(run, now=now + DAY)
    assert refused.value.finding.reason is Reason.NAS_CHECKSUM_MISMATCH
    assert (lab.staging / RUN_PATH / "tiles/t_0001.tif").exists()


@pytest.mark.parametrize("level", ["record", "size"])
@pytest.mark.parametrize("damage", ["staged", "twin", "gone"])
def test_its_bytes_are_compared_under_any_policy(
    lab: Lab, root: StagingRoot, now: datetime, policy: Callable[..., Any], damage: str, level: str
) -> None:
    """The wizard's verified runs are cleared; files put there since have no record."""
    policy(mode="scheduled", retain_hours=24, stage="off", proof=level)
    first_clear(lab, root, now)
    run = come_back(lab, root, now + DAY)
    if damage == "gone":
        lab.twin().rename(lab.twin().with_name("elsewhere"))
    else:
        side = lab.staging / RUN_PATH if damage == "staged" else lab.twin()
        name = side / "tiles/t_0001.tif"
        seen = name.stat()
        name.write_bytes(bytes(seen.st_size))
        os.utime(name, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    reason = Reason.NAS_MISSING_FILE if damage == "gone" else Reason.NAS_CHECKSUM_MISMATCH
    with pytest.raises(Refused) as refused:
        clear_run(run, now=now + 3 * DAY)
    assert refused.value.finding.reason is reason
    (swept,) = all_roots.sweep(now=now + 3 * DAY, timed=False, roots=[root], actor="ada").runs
    assert (swept.action, swept.reason) == ("skipped", reason)
    assert (lab.staging / RUN_PATH / "tiles/t_0001.tif").exists()


@pytest.mark.parametrize("level", ["record", "size"])
def test_its_proof_says_that_every_byte_was_compared(
    lab: Lab, root: StagingRoot, now: datetime, policy: Callable[..., Any], level: str
) -> None:
    policy(mode="scheduled", retain_hours=24, stage="off", proof=level)
    first_clear(lab, root, now)
    run = come_back(lab, root, now + DAY)
    clear_run(run, now=now + DAY)
    proof = run.attempts.get().proof
    assert proof is not None and proof.level == "checksum"


def test_what_a_clear_could_not_remove_is_no_copy(lab: Lab, root: StagingRoot, now: datetime) -> None:
    former = first_clear(lab, root, now)
    former.attempts.update(reason=Reason.REMOVAL_INCOMPLETE)
    copy_back(lab)
    discovery.discover(root, now=now + DAY)
    assert not Run.objects.exclude(returned_at=None).exists()


def test_what_an_earlier_version_took_for_a_leftover_comes_back_too(lab: Lab, root: StagingRoot, now: datetime) -> None:
    former = first_clear(lab, root, now)
    run = come_back(lab, root, now + DAY)
    told = former.events.get(state="cleared")
    run.events.create(
        position=4,
        state="cleared",
        at=told.at,
        at_text=told.at_text,
        host=told.host,
        digest=told.digest,
        first_seen_at=now,
    )
    Run.objects.filter(pk=run.pk).update(
        state="cleared",
        cleared_by="wizard",
        cleared_at=told.at,
        problem="already_cleared",
        returned_at=None,
        returned_from=None,
    )
    found = discovery.discover(root, now=now + 2 * DAY)
    assert found is not None and found.problems == []
    assert Run.objects.staged().get().returned_from == former
    assert not Run.objects.filter(problem="already_cleared").exists()


@pytest.mark.parametrize("record", ["ingest", "sync_state"])
def test_a_file_that_came_along_can_be_set_aside(lab: Lab, root: StagingRoot, now: datetime, record: str) -> None:
    first_clear(lab, root, now, record=record)
    extra = copy_back(lab) / "notes.txt"
    extra.write_text("of the analysis")
    touch(extra, now - HOUR)
    discovery.discover(root, now=now + DAY)
    run = Run.objects.with_root().staged().get()
    set_aside.set_aside(run, [b"notes.txt"], actor="ada", reason="mine", now=now + DAY)
    assert extra.parent.with_name(".exlab-set-aside").joinpath(extra.parent.name, "notes.txt").exists()
    assert set_aside.extras(run) == [] and not extra.exists()
