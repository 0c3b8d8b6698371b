"""Runs with `sync_state.json`, alone or beside `ingest.json`."""

import fcntl
import html
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from cleanup.clears import nas_history, protocol, recovery, refusal
from cleanup.lab.roots import opening
from cleanup.models import Alert, IngestEvent, Orphan, RecordSight, RetentionPolicy, Run
from cleanup.monitoring import watchdog
from cleanup.rules.decisions import Decision, Gate
from cleanup.rules.policies.policy import ProofLevel
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.facts import inspection, stored_facts
from cleanup.runs.moved_or_gone import reregistration
from cleanup.runs.orphans import orphans
from cleanup.storage.staging import removal
from cleanup.web.runs import timeline
from tests.tools.lab import (
    METADATA,
    RUN_PATH,
    Lab,
    census,
    read_ingest,
    read_sync_state,
    snapshot,
    touch,
    write_sync_state,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine]
VERIFIED_AT = datetime(2026, 4, 17, 16, 15, 43, tzinfo=UTC)
TILE = "tiles/t_0001.tif"


def discover(root: Any, now: datetime) -> discovery.Discovered:
    found = discovery.discover(root, now=now)
    assert found is not None
    return found


def stored(run: Run, now: datetime) -> Decision:
    return stored_facts.decision(run, RetentionPolicy.objects.scoped(), now)


def only_run() -> Run:
    return Run.objects.with_root().get()


def edit(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = read_sync_state(run)
    change(record)
    write_sync_state(run, record)
    touch(run / METADATA / "sync_state.json", VERIFIED_AT)


def pin(record: dict[str, Any]) -> None:
    record["files"][TILE]["keep_local"] = True


def pruned(run: Path, at: datetime, said: str = "cleaned") -> None:
    creation = run / METADATA / "creation.json"
    creation.write_text(json.dumps(json.loads(creation.read_bytes()) | {"sync_status": said}))
    touch(creation, at)
    for path in sorted(run.rglob("*"), reverse=True):
        if METADATA not in path.parts:
            path.rmdir() if path.is_dir() else path.unlink()


@pytest.fixture(params=["sync_state", "both"])
def record(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestDiscovery:
    def test_a_verified_run_has_no_history_and_one_sight(self, lab: Lab, root: Any, now: datetime) -> None:
        lab.run(record="sync_state")
        assert discover(root, now).problems == []
        run = only_run()
        assert (run.state, run.verified_at, run.record_format) == ("sync_verified", VERIFIED_AT, "sync_state")
        assert not run.events.exists()
        (sight,) = run.record_sights.all()
        assert (sight.verified_at, sight.first_seen_at) == (VERIFIED_AT, now)
        assert stored(run, now).clearable

    def test_nothing_is_new_the_second_time(self, lab: Lab, root: Any, now: datetime) -> None:
        lab.run(record="sync_state")
        discover(root, now)
        again = discover(root, now + timedelta(minutes=5))
        assert (again.new, again.updated, again.unchanged) == (0, 0, 1)
        assert RecordSight.objects.count() == 1

    @pytest.mark.parametrize("state", ["staging", "sync_queued"])
    def test_states_before_the_verification(self, lab: Lab, root: Any, now: datetime, state: str) -> None:
        lab.run(record="sync_state", state=state)
        discover(root, now)
        run = only_run()
        assert (run.state, run.verified_at) == (state, None)
        assert stored(run, now).gate(Gate.STATE).reason is Reason.NOT_SYNC_VERIFIED

    @pytest.mark.both_engines
    def test_the_state_falls_back_when_a_file_comes_and_rises_again(self, lab: Lab, root: Any, now: datetime) -> None:
        path = lab.run(record="sync_state")
        discover(root, now)
        (path / "late.tif").write_bytes(b"one more")
        os.utime(path / "late.tif", (now.timestamp() - 3600,) * 2)
        later = now + timedelta(hours=1)
        assert discover(root, later).updated == 1
        run = only_run()
        assert (run.state, run.verified_at) == ("sync_queued", None)
        gate = stored(run, later).gate(Gate.STATE)
        assert (gate.reason, "late.tif" in gate.detail) == (Reason.NOT_SYNC_VERIFIED, True)
        status = (path / "late.tif").stat()
        entry = {"synced_signature": [8, status.st_mtime_ns], "verified_at": "2026-06-15T08:30:00Z"}
        edit(path, lambda record: record["files"].update({"late.tif": entry}))
        discover(root, later)
        run = only_run()
        assert (run.state, run.verified_at) == ("sync_verified", datetime(2026, 6, 15, 8, 30, tzinfo=UTC))
        assert RecordSight.objects.count() == 2
        assert not IngestEvent.objects.exists()

    def test_a_file_with_another_time_is_not_verified(self, lab: Lab, root: Any, now: datetime) -> None:
        path = lab.run(record="sync_state")
        os.utime(path / TILE, ns=(0, (path / TILE).stat().st_mtime_ns + 1))
        discover(root, now)
        run = only_run()
        assert run.state == "sync_queued"
        assert f"changed since their copying: 1 file: {TILE}" in stored(run, now).gate(Gate.STATE).detail

    def test_a_listed_file_that_is_gone_blocks(self, lab: Lab, root: Any, now: datetime) -> None:
        path = lab.run(record="sync_state")
        (path / TILE).unlink()
        discover(root, now)
        gate = stored(only_run(), now).gate(Gate.UNCHANGED)
        assert (gate.reason, TILE in gate.detail) == (Reason.MISSING_FILE, True)

    def test_pins_are_a_hold(self, lab: Lab, root: Any, now: datetime, record: str) -> None:
        path = lab.run(record=record)
        edit(path, pin)
        discover(root, now)
        gate = stored(only_run(), now).gate(Gate.HOLD)
        assert (gate.reason, TILE in gate.detail) == (Reason.HELD, True)
        with pytest.raises(refusal.Refused) as refused:
            protocol.clear_run(only_run(), now=now)
        assert refused.value.finding.reason is Reason.HELD

    @pytest.mark.both_engines
    def test_a_run_that_the_wizard_cleared_is_no_orphan(self, lab: Lab, root: Any, now: datetime, record: str) -> None:
        path = lab.run(record=record, state="cleared")
        before = snapshot(path)
        for at in (now, now + timedelta(days=2)):
            assert discover(root, at).problems == []
            inspected = orphans.inspect(root, now=at)
            assert inspected is not None
            assert inspected.listed == 0
        run = only_run()
        assert (run.state, run.cleared_by, run.problem) == ("cleared", "wizard", "")
        assert run.cleared_at == VERIFIED_AT + timedelta(hours=30)
        assert not run.events.filter(state="cleared").exists()
        assert not Orphan.objects.exists()
        assert snapshot(path) == before
        assert (run.tone, run.here) == (4, False)

    def test_the_wizards_clear_of_a_known_run_is_taken_over(
        self, lab: Lab, root: Any, now: datetime, record: str
    ) -> None:
        path = lab.run(record=record)
        discover(root, now)
        edit(path, lambda record: record.update(cleared_at="2026-06-15T09:00:00Z"))
        for name in read_sync_state(path)["files"]:
            (path / name).unlink()
        (path / "tiles").rmdir()
        discover(root, now + timedelta(hours=2))
        run = only_run()
        assert (run.state, run.cleared_by) == ("cleared", "wizard")
        assert run.cleared_at == datetime(2026, 6, 15, 9, tzinfo=UTC)

    @pytest.mark.parametrize("same", [True, False], ids=["the same files", "other files"])
    def test_a_run_that_is_gone_is_cleared_where_its_copy_says_so(
        self, lab: Lab, root: Any, now: datetime, same: bool
    ) -> None:
        path = lab.run(record="sync_state")
        discover(root, now)
        shutil.move(path, lab.base / "gone")

        def change(record: dict[str, Any]) -> None:
            record["cleared_at"] = "2026-06-15T09:00:00Z"
            if not same:
                del record["files"][TILE]

        edit(lab.twin(), change)
        discover(root, now + timedelta(hours=2))
        run = only_run()
        assert (run.state, run.cleared_by) == (("cleared", "wizard") if same else ("sync_verified", ""))

    def test_cleared_with_data_is_told_as_what_it_is(self, lab: Lab, root: Any, now: datetime, record: str) -> None:
        path = lab.run(record=record)
        edit(path, lambda record: (record.update(cleared_at="2026-04-20T10:00:00Z"), pin(record)))
        for name in set(read_sync_state(path)["files"]) - {TILE}:
            (path / name).unlink()
        found = discover(root, now)
        assert found.problems[0][:2] == (RUN_PATH, Reason.ALREADY_CLEARED)
        run = only_run()
        assert (run.cleared_at, run.problem, run.here) == (None, "already_cleared", True)
        decision = stored(run, now)
        gate = decision.gate(Gate.STATE)
        assert (gate.reason, TILE in gate.detail) == (Reason.ALREADY_CLEARED, True)
        assert decision.gate(Gate.HOLD).reason is Reason.HELD
        with pytest.raises(refusal.Refused):
            protocol.clear_run(run, now=now)
        assert (path / TILE).exists()

    def test_a_run_that_the_wizard_pruned_is_cleared_by_it(self, lab: Lab, root: Any, now: datetime) -> None:
        """Its `nas_cleanup` says so in `creation.json` alone; data that comes back is reported."""
        path = lab.run()
        discover(root, now)
        pruned(path, now)
        before = snapshot(path)
        for at in (now + timedelta(hours=1), now + timedelta(days=2)):
            assert discover(root, at).problems == []
        run = only_run()
        assert (run.state, run.cleared_by, run.cleared_at, run.problem) == ("cleared", "wizard", now, "")
        assert not run.events.filter(state="cleared").exists()
        assert snapshot(path) == before
        (path / "stack.ome.xml").write_bytes(b"again")
        discover(root, now + timedelta(days=3))
        run = only_run()
        assert (run.state, run.cleared_by, run.cleared_at) == ("sync_verified", "", None)
        assert stored(run, now + timedelta(days=3)).gate(Gate.UNCHANGED).reason is Reason.MISSING_FILE

    @pytest.mark.parametrize("how", ["a file is left", "not verified yet", "a pipe is left", "it says nothing of it"])
    def test_a_run_of_which_more_is_there_was_not_pruned(self, lab: Lab, root: Any, now: datetime, how: str) -> None:
        path = lab.run(state="sync_queued" if how == "not verified yet" else "sync_verified")
        pruned(path, now, said="synced" if how == "it says nothing of it" else "cleaned")
        if how == "a file is left":
            (path / "stack.ome.xml").write_bytes(b"left")
        if how == "a pipe is left":
            os.mkfifo(path / "pipe")
        discover(root, now)
        run = only_run()
        assert (run.state == "cleared", run.cleared_by) == (False, "")
        assert not stored(run, now).clearable

    @pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/elsewhere")])
    def test_what_is_no_file_is_not_taken_for_nothing(
        self, lab: Lab, root: Any, now: datetime, record: str, make: Callable[[Path], object]
    ) -> None:
        make(lab.run(record=record, state="cleared") / "left")
        assert discover(root, now).problems
        run = only_run()
        assert (run.cleared_by, run.here) == ("", True)
        assert run.state != "cleared"

    def test_a_clear_that_both_records_tell_is_one(self, lab: Lab, root: Any, now: datetime) -> None:
        path = lab.run(record="both", state="cleared")
        said = read_ingest(path)
        said["history"].append({"state": "cleared", "at": "2026-04-20T10:00:00Z", "host": "labpc-04"})
        (path / METADATA / "ingest.json").write_text(json.dumps(said | {"current_state": "cleared"}))
        for _ in range(2):
            assert discover(root, now).problems == []
        run = only_run()
        assert (run.state, run.cleared_by, run.problem) == ("cleared", "wizard", "")

    @pytest.mark.both_engines
    def test_files_that_come_after_the_wizards_clear_bring_the_run_back(
        self, lab: Lab, root: Any, now: datetime, record: str
    ) -> None:
        path = lab.run(record=record, state="cleared")
        discover(root, now)
        (path / "more.tif").write_bytes(b"more")
        assert discover(root, now).problems[0][1] is Reason.ALREADY_CLEARED
        edit(path, lambda record: record.pop("cleared_at"))
        discover(root, now)
        run = only_run()
        state = "sync_queued" if record == "sync_state" else "sync_verified"
        assert (run.state, run.cleared_by, run.cleared_at) == (state, "", None)
        assert not stored(run, now).clearable

    def test_another_creation_is_another_run(self, lab: Lab, root: Any, now: datetime) -> None:
        path = lab.run(record="sync_state")
        discover(root, now)
        creation = path / METADATA / "creation.json"
        said = json.loads(creation.read_text())
        creation.write_text(json.dumps(said | {"sync_status": "synced"}))
        discover(root, now)
        assert stored(only_run(), now).clearable, "the wizard keeps its status there"
        creation.write_text(json.dumps(said | {"created_at": "2026-05-01T00:00:00Z"}))
        discover(root, now)
        assert stored(only_run(), now).gate(Gate.PATH).reason is Reason.IDENTITY_MISMATCH

    def test_a_run_whose_history_vanishes_is_believed_no_more(self, lab: Lab, root: Any, now: datetime) -> None:
        path = lab.run(record="both")
        discover(root, now)
        (path / METADATA / "ingest.json").unlink()
        found = discover(root, now)
        assert found.problems[0][1] is Reason.INGEST_DISAGREES
        run = only_run()
        assert (run.state, run.record_format) == ("sync_verified", "ingest")
        assert not stored(run, now).clearable

    def test_a_run_may_get_a_history_later(self, lab: Lab, root: Any, now: datetime) -> None:
        path = lab.run(record="both")
        ingest = path / METADATA / "ingest.json"
        aside = lab.base / "ingest.json"
        ingest.rename(aside)
        discover(root, now)
        assert only_run().record_format == "sync_state"
        aside.rename(ingest)
        assert discover(root, now).problems == []
        run = only_run()
        assert (run.record_format, run.events.count()) == ("ingest", 4)
        assert stored(run, now).clearable

    def test_with_both_an_open_file_blocks(self, lab: Lab, root: Any, now: datetime) -> None:
        path = lab.run(record="both")
        edit(path, lambda record: record["files"][TILE].pop("verified_at"))
        discover(root, now)
        gate = stored(only_run(), now).gate(Gate.UNCHANGED)
        assert (gate.reason, gate.detail) == (Reason.SYNC_STATE_DIFFERS, f"not verified: 1 file: {TILE}")

    def test_bad_records_are_listed_with_their_reason(self, lab: Lab, root: Any, now: datetime, record: str) -> None:
        path = lab.run(record=record)
        edit(path, lambda record: record["files"].update({"../else": {"synced_signature": [1, 1]}}))
        assert [problem[:2] for problem in discover(root, now).problems] == [(RUN_PATH, Reason.INGEST_UNREADABLE)]
        later = datetime.now(UTC) + timedelta(hours=2)
        assert orphans.inspect(root, now=later) is not None
        inspected = orphans.inspect(root, now=later + timedelta(hours=2))
        assert inspected is not None
        assert inspected.listed == 1
        assert not stored(only_run(), now).clearable


class TestRetention:
    def scheduled(self, policy: Callable[..., Any], hours: float) -> None:
        policy(mode="scheduled", retain_hours=hours, rehearsal_nights=0)

    def test_it_runs_from_the_first_sight(self, lab: Lab, root: Any, now: datetime, policy: Callable[..., Any]) -> None:
        self.scheduled(policy, 24)
        lab.run(record="sync_state")
        discover(root, now)
        gate = stored(only_run(), now).gate(Gate.RETENTION)
        assert (gate.reason, gate.opens_at) == (Reason.RETENTION_NOT_ELAPSED, now + timedelta(hours=24))
        assert "first seen" in gate.detail
        assert stored(only_run(), now + timedelta(hours=24)).gate(Gate.RETENTION).reason is not (
            Reason.RETENTION_NOT_ELAPSED
        )

    def test_it_runs_from_the_verification_where_that_is_later(
        self, lab: Lab, root: Any, now: datetime, policy: Callable[..., Any]
    ) -> None:
        self.scheduled(policy, 24)
        at = now + timedelta(minutes=3)
        lab.run(record="sync_state", verified_at=at)
        discover(root, now)
        assert stored(only_run(), now).gate(Gate.RETENTION).opens_at == at + timedelta(hours=24)

    def test_a_verification_in_the_future_waits(self, lab: Lab, root: Any, now: datetime) -> None:
        lab.run(record="sync_state", verified_at=now + timedelta(hours=1))
        discover(root, now)
        gate = stored(only_run(), now).gate(Gate.CLOCK)
        assert (gate.reason, gate.opens_at) == (Reason.CLOCK_UNTRUSTED, now + timedelta(hours=1))

    def test_an_edited_record_that_was_not_seen_yet_is_kept_from_now(
        self, lab: Lab, root: Any, now: datetime, policy: Callable[..., Any]
    ) -> None:
        self.scheduled(policy, 1)
        path = lab.run(record="sync_state")
        discover(root, now - timedelta(days=2))
        edit(path, lambda record: record["files"][TILE].update(verified_at="2026-04-17T16:15:44Z"))
        decision = inspection.quick_decision(only_run(), RetentionPolicy.objects.effective_for(only_run()), now)
        assert decision.gate(Gate.RETENTION).opens_at == now + timedelta(hours=1)


class TestClear:
    @pytest.mark.both_engines
    @pytest.mark.parametrize("level", list(ProofLevel))
    def test_clears_and_keeps_the_record(
        self, lab: Lab, root: Any, now: datetime, policy: Callable[..., Any], level: ProofLevel
    ) -> None:
        policy(proof=level)
        path = lab.run(record="sync_state")
        discover(root, now)
        counted = census(path)
        before = (path / METADATA / "sync_state.json").read_bytes()
        assert protocol.clear_run(only_run(), now=now) == counted
        assert not path.exists()
        run = only_run()
        assert (run.state, run.cleared_by) == ("cleared", "")
        (event,) = run.events.all()
        assert (event.position, event.state, event.at) == (0, "cleared", run.cleared_at)
        attempt = run.attempts.get()
        with tarfile.open(opening.data_dir().tombstone_path(attempt.pk.hex)) as kept:
            names = set(kept.getnames())
            assert kept.extractfile("metadata/sync_state.json").read() == before  # type: ignore[union-attr]
            final = json.load(kept.extractfile("sync_state.json"))  # type: ignore[arg-type]
        assert ("checksums.sha256" in names) == (level is ProofLevel.CHECKSUM)
        assert final == json.loads(before) | {"cleared_at": event.at_text}
        assert nas_history.tell(now=now + timedelta(days=400)) == 1
        assert read_sync_state(lab.twin()) == final
        assert discover(root, now).problems == []
        assert Run.objects.count() == 1

    @pytest.mark.both_engines
    def test_with_both_the_history_says_it(self, lab: Lab, root: Any, now: datetime) -> None:
        path = lab.run(record="both")
        discover(root, now)
        counted = census(path)
        said = read_sync_state(path)
        assert protocol.clear_run(only_run(), now=now) == counted
        assert not path.exists()
        assert [event.state for event in only_run().events.all()][-2:] == ["sync_verified", "cleared"]
        assert nas_history.tell(now=now + timedelta(days=400)) == 1
        assert read_ingest(lab.twin())["current_state"] == "cleared"
        assert read_sync_state(lab.twin()) == said

    def test_the_record_says_cleared_before_the_first_file_goes_and_goes_last(
        self, lab: Lab, root: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = lab.run(record="sync_state")
        discover(root, now)
        seen: list[tuple[int, bool]] = []
        fence = removal._unlink_planned

        def watched(directory: int, entry: Any, proven: Any) -> str:
            (fenced,) = path.parent.glob(".exlab-clearing-*")
            left = [item for item in fenced.rglob("*") if item.is_file()]
            seen.append((len(left), "cleared_at" in read_sync_state(fenced)))
            return fence(directory, entry, proven)

        monkeypatch.setattr(removal, "_unlink_planned", watched)
        files, _size = census(path)
        protocol.clear_run(only_run(), now=now)
        assert seen
        assert all(said for _left, said in seen)
        assert seen[0][0] == files
        assert seen[-1][0] >= 2, "the record is there while the last of the other files goes"

    @pytest.mark.parametrize("change", ["bytes", "size", "gone"])
    def test_a_copy_that_differs_refuses(self, lab: Lab, root: Any, now: datetime, change: str) -> None:
        path = lab.run(record="sync_state")
        discover(root, now)
        twin = lab.twin() / TILE
        at = twin.stat().st_mtime_ns
        if change == "bytes":
            twin.write_bytes(bytes(twin.stat().st_size))
        elif change == "size":
            twin.write_bytes(b"short")
        else:
            twin.unlink()
        if change != "gone":
            os.utime(twin, ns=(at, at))
        before = snapshot(path)
        with pytest.raises(refusal.Refused) as refused:
            protocol.clear_run(only_run(), now=now)
        wanted = {"bytes": "nas_checksum_mismatch", "size": "nas_size_mismatch", "gone": "nas_missing_file"}
        assert refused.value.finding.reason == wanted[change]
        assert snapshot(path) == before

    @pytest.mark.parametrize("level", list(ProofLevel))
    def test_a_file_with_another_time_refuses_at_every_level(
        self, lab: Lab, root: Any, now: datetime, policy: Callable[..., Any], level: ProofLevel
    ) -> None:
        policy(proof=level)
        path = lab.run(record="sync_state")
        discover(root, now)
        os.utime(path / TILE, ns=(0, 0))
        with pytest.raises(refusal.Refused) as refused:
            protocol.clear_run(only_run(), now=now)
        assert refused.value.finding.reason is Reason.NOT_SYNC_VERIFIED
        assert TILE in refused.value.finding.detail

    def test_with_a_manifest_the_bytes_must_be_the_manifests(self, lab: Lab, root: Any, now: datetime) -> None:
        path = lab.run(record="both")
        (path / METADATA / "ingest.json").unlink()
        listed = path / METADATA / "checksums.sha256"
        listed.write_text(listed.read_text().replace("a", "b", 1))
        discover(root, now)
        with pytest.raises(refusal.Refused) as refused:
            protocol.clear_run(only_run(), now=now)
        assert refused.value.finding.reason is Reason.NAS_CHECKSUM_MISMATCH

    def test_the_wizards_lock_on_the_record_refuses(self, lab: Lab, root: Any, now: datetime) -> None:
        """Takes 1 s: the lock is asked for repeatedly."""
        path = lab.run(record="sync_state")
        discover(root, now)
        with (path / METADATA / "sync_state.json.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(refusal.Refused) as refused:
                protocol.clear_run(only_run(), now=now)
        assert refused.value.finding.reason is Reason.WRITER_ACTIVE
        assert path.exists()

    def test_a_file_made_removable_after_the_commit_goes_by_its_proven_bytes(
        self, lab: Lab, root: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = lab.run(record="sync_state")
        discover(root, now)
        unlink = removal._unlink_planned
        monkeypatch.setattr(
            removal,
            "_unlink_planned",
            lambda directory, entry, proven: (
                "EPERM" if entry.path == TILE.encode() else unlink(directory, entry, proven)
            ),
        )
        protocol.clear_run(only_run(), now=now)
        monkeypatch.undo()
        run = only_run()
        assert run.attempts.get().reason == Reason.REMOVAL_INCOMPLETE
        (fence,) = path.parent.glob(".exlab-clearing-*")
        assert "cleared_at" in read_sync_state(fence)
        (fence / TILE).chmod(0o640)
        recovery.recover(now=now)
        assert not fence.exists()
        assert run.attempts.get().reason == ""


class TestTwin:
    def cleared(self, lab: Lab, root: Any, now: datetime) -> None:
        lab.run(record="sync_state")
        discover(root, now)
        protocol.clear_run(only_run(), now=now)

    def test_another_list_of_files_is_left_alone(self, lab: Lab, root: Any, now: datetime) -> None:
        self.cleared(lab, root, now)
        edit(lab.twin(), lambda record: record["files"].pop(TILE))
        before = snapshot(lab.twin())
        assert nas_history.tell(now=now + timedelta(days=400)) == 0
        attempt = only_run().attempts.get()
        assert (attempt.tell_reason, attempt.tell_after) == (Reason.INGEST_DISAGREES, None)
        assert snapshot(lab.twin()) == before

    def test_a_pin_there_stays(self, lab: Lab, root: Any, now: datetime) -> None:
        self.cleared(lab, root, now)
        edit(lab.twin(), pin)
        assert nas_history.tell(now=now + timedelta(days=400)) == 1
        said = read_sync_state(lab.twin())
        assert "cleared_at" in said
        assert said["files"][TILE]["keep_local"] is True

    def test_a_twin_without_a_record_is_told_so(self, lab: Lab, root: Any, now: datetime) -> None:
        self.cleared(lab, root, now)
        (lab.twin() / METADATA / "sync_state.json").unlink()
        assert nas_history.tell(now=now + timedelta(days=400)) == 0
        attempt = only_run().attempts.get()
        assert (attempt.tell_reason, attempt.tell_detail) == ("nas_missing_file", "no sync_state.json on the NAS")


class TestReregistering:
    def order(self, now: datetime) -> reregistration.RegisterOrder:
        return reregistration.RegisterOrder(now=now, actor="ada", note="restored")

    def test_a_restored_run_is_known_by_its_creation(self, lab: Lab, root: Any, now: datetime) -> None:
        path = lab.run(record="sync_state")
        discover(root, now)
        kept = lab.base / "kept"
        shutil.copytree(path, kept)
        path.rename(lab.base / "old")
        kept.rename(path)
        (outcome,) = reregistration.reregister_runs([only_run()], self.order(now))
        assert outcome.action is reregistration.RegisterAction.REREGISTERED
        discover(root, now)
        assert stored(only_run(), now).clearable

    def test_another_run_is_not(self, lab: Lab, root: Any, now: datetime) -> None:
        path = lab.run(record="sync_state")
        discover(root, now)
        path.rename(lab.base / "old")
        lab.run(record="sync_state", project_name="Another", twin=False)
        (outcome,) = reregistration.reregister_runs([only_run()], self.order(now))
        assert outcome.finding is not None
        assert (outcome.action, outcome.finding.reason) == (
            reregistration.RegisterAction.REFUSED,
            Reason.IDENTITY_MISMATCH,
        )


def test_facts_that_were_stored_before_still_thaw(lab: Lab, root: Any, now: datetime) -> None:
    lab.run()
    discover(root, now)
    run = only_run()
    for name in ("kept_from", "unverified", "kept_local"):
        del run.facts[name]
    facts = stored_facts.thaw(run.facts)
    assert (facts.kept_from, facts.unverified, facts.kept_local) == (None, "", "")
    assert stored_facts.thaw(stored_facts.freeze(replace(facts, kept_from=now))).kept_from == now


class TestOtherLayouts:
    """If the path does not identify the copy, `creation.json` does: `sync_state.json` names no run."""

    def moved(self, lab: Lab, root: Any, policy: Callable[..., Any]) -> None:
        policy(proof="size")
        lab.run(record="sync_state")
        lab.twin().rename(lab.nas / lab.twin().name)
        root.nas_layout = "leaf"
        root.save()

    def test_the_copy_is_known_by_its_creation(
        self, lab: Lab, root: Any, now: datetime, policy: Callable[..., Any]
    ) -> None:
        self.moved(lab, root, policy)
        discover(root, now)
        assert stored(only_run(), now).clearable

    def test_the_copy_of_another_run_is_none(
        self, lab: Lab, root: Any, now: datetime, policy: Callable[..., Any]
    ) -> None:
        self.moved(lab, root, policy)
        (lab.nas / lab.twin().name / METADATA / "creation.json").write_text('{"created_at": "another"}')
        discover(root, now)
        assert stored(only_run(), now).gate(Gate.PROOF).reason is Reason.TWIN_UNNAMED


class TestPages:
    def page(self, run: Run) -> str:
        client = Client()
        client.force_login(User.objects.get_or_create(username="viewer", is_superuser=True)[0])
        answer = client.get(f"/runs/{run.pk}/")
        assert answer.status_code == 200
        return html.unescape(answer.content.decode())

    def test_what_is_not_verified_is_named(self, lab: Lab, root: Any, now: datetime) -> None:
        path = lab.run(record="sync_state")
        edit(path, lambda record: record["files"][TILE].pop("verified_at"))
        discover(root, now)
        said = self.page(only_run())
        assert "Not verified yet" in said
        assert f"Not verified: 1 file: {TILE}" in said

    def test_a_pin_is_a_hold_that_the_wizard_ends(self, lab: Lab, root: Any, now: datetime) -> None:
        edit(lab.run(record="sync_state"), pin)
        discover(root, now)
        said = self.page(only_run())
        assert "sync_state.json pins 1 file" in said
        assert "It ends when these files are pinned no more in the data wizard." in said

    def test_a_clear_by_the_wizard_is_called_so(self, lab: Lab, root: Any, now: datetime, record: str) -> None:
        lab.run(record=record, state="cleared")
        discover(root, now)
        assert "Cleared by the wizard" in self.page(only_run())

    def test_our_own_clear_stands_in_the_life_once(self, lab: Lab, root: Any, now: datetime) -> None:
        lab.run(record="sync_state")
        discover(root, now)
        protocol.clear_run(only_run(), now=now)
        run = only_run()
        assert "Cleared by the wizard" not in self.page(run)
        life = timeline.life_of(run, now, whole=True)
        titles = [moment.title for moment in life.latest if moment.source == "record"]
        assert sorted(titles) == ["The record lists the files so", "cleared"]


def test_a_run_that_waits_for_its_next_files_is_stalled_from_its_last_record_on(
    lab: Lab, root: Any, now: datetime
) -> None:
    path = lab.run(record="sync_state", state="sync_queued")
    discover(root, now - timedelta(days=30))
    edit(path, lambda record: record["files"][TILE].update(verified_at="2026-06-15T07:00:00Z"))
    discover(root, now - timedelta(hours=1))
    watchdog.watch(now=now, listening_since=now)
    assert not Alert.objects.filter(kind="stalled_run").exists()
    watchdog.watch(now=now + timedelta(days=2), listening_since=now)
    assert Alert.objects.filter(kind="stalled_run").exists()
