"""Retention counts from the later of the recorded verification and the first sight here."""

import json
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
import time_machine
from django.core.management import call_command
from django.test import Client

from cleanup.lab import other_clocks, policy_versions
from cleanup.models import RetentionPolicy, Run, StagingRoot
from cleanup.monitoring import watchdog
from cleanup.rules.anomalies import Clock
from cleanup.rules.clocks import Other, OtherClocks
from cleanup.rules.decisions import Gate, GateResult
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.facts import inspection, stored_facts
from cleanup.sweeps import all_roots, policy_preview
from tests.tools.lab import METADATA, RUN_PATH, Lab, touch

pytestmark = pytest.mark.django_db

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def scheduled(policy: Any) -> None:
    policy(mode="scheduled", retain_hours=168, rehearse=False, max_share=1.0)


def grow(lab: Lab, root: StagingRoot, verified_at: datetime, *, seen: datetime, then: datetime) -> Run:
    path = lab.run(verified_at=verified_at)
    record = path / METADATA / "ingest.json"
    whole = json.loads(record.read_bytes())
    written = record.stat().st_mtime
    record.write_text(json.dumps({**whole, "history": whole["history"][:2], "current_state": "complete"}))
    discovery.discover(root, now=seen)
    record.write_text(json.dumps(whole))
    touch(record, datetime.fromtimestamp(written, tz=seen.tzinfo))
    discovery.discover(root, now=then)
    return Run.objects.with_root().get()


def kept(run: Run, at: datetime) -> GateResult:
    policies = RetentionPolicy.objects.scoped()
    run = Run.objects.with_root().get(pk=run.pk)
    stored = stored_facts.decision(run, policies, at).gate(Gate.RETENTION)
    policy = RetentionPolicy.objects.effective_for(run)
    assert inspection.quick_decision(run, policy, at).gate(Gate.RETENTION) == stored
    return stored


@pytest.mark.parametrize("timed", [True, False])
def test_a_clock_thirty_days_behind_gives_nothing_away(
    lab: Lab, root: StagingRoot, now: datetime, scheduled: None, timed: bool
) -> None:
    run = grow(lab, root, now - 30 * DAY, seen=now - 3 * HOUR, then=now)
    gate = kept(run, now)
    assert (gate.reason, gate.opens_at) == (Reason.RETENTION_NOT_ELAPSED, now + 7 * DAY)
    assert gate.detail == (
        "kept 168 h after our own first sight of it: verified on 2026-05-16 08:00 UTC by the instrument's clock, first "
        "seen verified here on 2026-06-15 08:00 UTC: counted from 2026-06-15 08:00 UTC"
    )
    for at, there in ((now + timedelta(minutes=3), True), (now + 7 * DAY - HOUR, True), (now + 7 * DAY, False)):
        all_roots.sweep(now=at, timed=timed, roots=[root])
        assert (lab.staging / RUN_PATH).exists() is there


@pytest.mark.parametrize("met", ["by the wrong clock", "before it went back"])
def test_what_our_own_clock_saw_while_it_was_years_behind_is_not_old_when_it_is_right_again(
    lab: Lab, root: StagingRoot, now: datetime, scheduled: None, met: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk's host is the instrument's PC: record and first sight share one clock, which a NAS corrects."""

    def look_about(wall: datetime, boot: str) -> None:
        clock = Clock(wall=wall, boot_id=boot, boot_seconds=(wall - now).total_seconds() + 1e9)
        all_roots.sweep(now=wall, timed=True, roots=[root], clock=clock)

    look_about(now - 2 * HOUR, "a")
    wrong = now - 2000 * DAY
    seen = now - HOUR if met == "before it went back" else wrong
    grow(lab, root, wrong - HOUR, seen=seen, then=wrong + timedelta(minutes=5))
    others = (Other(name="the NAS", at=now),)
    monkeypatch.setattr(other_clocks, "ask", lambda: OtherClocks(others=others))
    look_about(now, "b")
    assert (lab.staging / RUN_PATH).exists()
    gate = kept(Run.objects.get(), now)
    assert gate.reason is Reason.RETENTION_NOT_ELAPSED
    assert gate.opens_at is not None
    assert gate.opens_at >= now - 2 * HOUR + 7 * DAY


def test_a_history_that_was_old_when_we_met_it_counts_as_recorded(
    lab: Lab, root: StagingRoot, now: datetime, scheduled: None
) -> None:
    lab.run(verified_at=now - 30 * DAY)
    discovery.discover(root, now=now)
    run = Run.objects.with_root().get()
    assert stored_facts.facts_of(run).kept_from is None
    assert kept(run, now).reason is None
    all_roots.sweep(now=now, timed=True)
    assert not (lab.staging / RUN_PATH).exists()


def test_a_clock_that_is_right_costs_the_time_until_we_looked(
    lab: Lab, root: StagingRoot, now: datetime, scheduled: None
) -> None:
    run = grow(lab, root, now - timedelta(minutes=4), seen=now - HOUR, then=now)
    assert kept(run, now).opens_at == now + 7 * DAY


def test_a_clock_that_is_ahead_counts_as_recorded(lab: Lab, root: StagingRoot, now: datetime, scheduled: None) -> None:
    run = grow(lab, root, now + 2 * DAY, seen=now - HOUR, then=now)
    gate = kept(run, now + 3 * DAY)
    assert (gate.opens_at, gate.detail) == (now + 9 * DAY, "kept 168 h after the verification")


def test_a_run_first_seen_without_a_record_counts_from_our_sight(
    lab: Lab, root: StagingRoot, now: datetime, scheduled: None
) -> None:
    """Its record was just being written: the directory alone is an earlier state."""
    path = lab.run(verified_at=now - 30 * DAY)
    record = path / METADATA / "ingest.json"
    whole = record.read_bytes()
    record.write_bytes(whole[:20])
    discovery.discover(root, now=now - HOUR)
    record.write_bytes(whole)
    discovery.discover(root, now=now)
    assert kept(Run.objects.get(), now).opens_at == now + 7 * DAY


def test_a_renamed_run_keeps_its_first_sight_and_gets_no_second_one(
    lab: Lab, root: StagingRoot, now: datetime, scheduled: None
) -> None:
    """At the new path it is verified for long: the first sight at the old path counts."""
    grow(lab, root, now - 30 * DAY, seen=now - 3 * HOUR, then=now)
    new = RUN_PATH.replace("PROJ-0042", "PROJ-0077")
    for side in (lab.staging, lab.nas):
        (side / "CONFOCAL_01/PROJ-0042").rename(side / "CONFOCAL_01/PROJ-0077")
        record = side / new / METADATA / "ingest.json"
        record.write_text(record.read_text().replace("PROJ-0042", "PROJ-0077"))
    discovery.discover(root, now=now + 2 * DAY)
    assert kept(Run.objects.get(run_path=new), now + 2 * DAY).opens_at == now + 7 * DAY


def test_a_run_renamed_before_it_was_verified_counts_from_our_sight(
    lab: Lab, root: StagingRoot, now: datetime, scheduled: None
) -> None:
    path = lab.run(verified_at=now - 30 * DAY)
    record = path / METADATA / "ingest.json"
    whole = json.loads(record.read_bytes())
    record.write_text(json.dumps({**whole, "history": whole["history"][:2], "current_state": "complete"}))
    discovery.discover(root, now=now - 3 * HOUR)
    record.write_text(json.dumps(whole).replace("PROJ-0042", "PROJ-0077"))
    new = RUN_PATH.replace("PROJ-0042", "PROJ-0077")
    (lab.staging / new).parent.mkdir(parents=True)
    path.rename(lab.staging / new)
    discovery.discover(root, now=now)
    assert kept(Run.objects.get(run_path=new), now).opens_at == now + 7 * DAY


def test_every_prediction_counts_from_the_same_moment(
    lab: Lab, root: StagingRoot, now: datetime, scheduled: None, admin_client: Client
) -> None:
    run = grow(lab, root, now - 30 * DAY, seen=now - 3 * HOUR, then=now)
    due = now + 7 * DAY
    for at, going in ((due - HOUR, []), (due, [RUN_PATH])):
        drafted = policy_versions.draft(
            RetentionPolicy.objects.get(),
            root=None,
            author="ada",
            now=at,
            rehearse=False,
            mode="scheduled",
            retain_hours=168,
        )
        assert [each.run_path for each in policy_preview.preview(drafted, at).then.going] == going
        assert [each.run_path for each in all_roots.sweep(now=at, dry_run=True).freeing] == going
        with time_machine.travel(at, tick=False):
            out = StringIO()
            call_command("evaluate", RUN_PATH, "--json", stdout=out)
            (told,) = json.loads(out.getvalue())["runs"]
            (gate,) = [each for each in told["gates"] if each["gate"] == "retention"]
            assert gate["verdict"] == ("pass" if going else "wait")
    assert datetime.fromisoformat(gate["opens_at"] or due.isoformat()) == due
    text = admin_client.get(f"/runs/{run.pk}/").content.decode()
    assert "2026-06-15 08:00:00 UTC" in text
    assert "first seen verified here then; “verified” is what the instrument's clock said" in text.replace(
        "&#x27;", "'"
    )


def test_under_pressure_too(lab: Lab, root: StagingRoot, now: datetime, policy: Any) -> None:
    policy(mode="scheduled", retain_hours=168, min_retain_hours=24, rehearse=False)
    policy(root=root, max_runs=0, rehearse=False)
    grow(lab, root, now - 30 * DAY, seen=now - 3 * HOUR, then=now)
    for at, there in ((now + DAY - HOUR, True), (now + DAY, False)):
        all_roots.sweep(now=at, roots=[root])
        assert (lab.staging / RUN_PATH).exists() is there


@pytest.mark.parametrize(("hours", "stalled"), [(22, False), (24, True)])
def test_a_clock_behind_makes_no_run_stalled_at_once(
    lab: Lab, root: StagingRoot, now: datetime, hours: int, stalled: bool
) -> None:
    """Its earlier state was seen here, so the later one cannot be older."""
    path = lab.run(state="complete", verified_at=now - 30 * DAY)
    record = path / METADATA / "ingest.json"
    whole = json.loads(record.read_bytes())
    record.write_text(json.dumps({**whole, "history": whole["history"][:1], "current_state": "staging"}))
    discovery.discover(root, now=now - HOUR)
    record.write_text(json.dumps(whole))
    discovery.discover(root, now=now)
    watched = watchdog.watch(now=now + hours * HOUR)
    assert (Reason.STALLED in {alert.reason for alert in watched.alerts}) is stalled
