"""The demo: what it shows, and that it tells the truth."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core.management import call_command
from django.utils import timezone

from cleanup import clear_run, demo
from cleanup.clears import receipt_delivery
from cleanup.clears.run_action import Action
from cleanup.demo import building, clock, demo_plan, past
from cleanup.lab.roots import disk_usage
from cleanup.ledger import book, entries, verification
from cleanup.models import (
    ClearAttempt,
    DiskUsage,
    LedgerEntry,
    LedgerKind,
    OrphanKind,
    Requester,
    RetentionPolicy,
    Run,
    StagingRoot,
)
from cleanup.monitoring.reconciliation import reconciling
from cleanup.monitoring.reconciliation.nas import Bounds
from cleanup.rules.decisions import Decision
from cleanup.rules.reasons import Reason
from cleanup.runs.facts import stored_facts
from cleanup.runs.holds import reminders
from cleanup.runs.orphans import orphans
from cleanup.sweeps import all_roots
from tests.tools import sites
from tests.tools.checkout import CHECKOUT
from tests.tools.lab import Lab, outlines

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine(by="function")]


@pytest.fixture
def moment() -> datetime:
    """Close to the real time, which the clear's entries carry."""
    return datetime.now(UTC)


_made: list[demo.Demo] = []


@pytest.fixture
def made(db: None, settings: Any, moment: datetime, tmp_path_factory: pytest.TempPathFactory) -> demo.Demo:
    def data_of(lab: Lab) -> Path:
        return lab.base / "data"

    def build(lab: Lab) -> None:
        settings.EXLAB_DATA_DIR = data_of(lab)
        settings.EXLAB_DATA_DIR.mkdir(mode=0o700)
        _made[:] = [demo.make(moment, share=0.02, most_past=2)]

    settings.EXLAB_DATA_DIR = data_of(sites.lay("demo", build, tmp_path_factory, lasts=60))
    return _made[0]


def decisions(moment: datetime) -> dict[str, Decision]:
    policies = RetentionPolicy.objects.scoped()
    runs = Run.objects.staged().with_root()
    return {run.run_path: stored_facts.decision(run, policies, moment) for run in runs}


def test_shows_every_state_and_every_kind_of_verdict(made: demo.Demo, moment: datetime) -> None:
    states = Counter(Run.objects.values_list("state", flat=True))
    assert 50 <= sum(states.values()) <= 60
    assert Run.objects.values("equipment").distinct().count() == 6
    assert states.keys() >= {"staging", "complete", "sync_queued", "sync_verified", "cleared", ""}
    assert states["cleared"] == 3 + 5 + 1  # the last one by another program
    taken = decisions(moment)
    clearable = [path for path, decision in taken.items() if decision.clearable]
    assert len(clearable) >= 15
    reasons = {result.reason for decision in taken.values() for result in decision.gates if result.reason}
    assert reasons >= {
        Reason.POLICY_MANUAL,
        Reason.RETENTION_NOT_ELAPSED,
        Reason.NOT_IN_MANIFEST,
        Reason.NAS_MISSING_FILE,
        Reason.NAS_SIZE_MISMATCH,
        Reason.INGEST_UNREADABLE,
        Reason.INGEST_SCHEMA_UNSUPPORTED,
        Reason.CHANGED_SINCE_VERIFICATION,
        Reason.NOT_QUIET,
        Reason.NOT_SYNC_VERIFIED,
    }


def test_shows_each_kind_of_orphan_and_a_hold_that_ends_soon(made: demo.Demo, moment: datetime) -> None:
    # A folder without a record gets its row at once, so it is unknown for a moment only.
    assert {orphan.kind for orphan in orphans.listed()} == set(OrphanKind) - {OrphanKind.UNKNOWN}
    (reminder,) = reminders.reminders(moment)
    assert (reminder.reason, reminder.hold.owner) == (Reason.HOLD_ENDING, "operator")


def test_cleared_through_the_product(made: demo.Demo) -> None:
    totals = LedgerEntry.objects.totals()
    assert totals["runs"] == 3 + 5
    assert totals["bytes"] > 100_000
    for run in Run.objects.filter(state="cleared", problem=""):
        assert not (made.base / "staging" / run.run_path / ".exlab-wizard/ingest.json").exists()
        assert (made.base / "nas" / run.run_path).is_dir()


def test_does_not_clear_itself_empty(made: demo.Demo, moment: datetime) -> None:
    """By its schedule; an operator's own sweep may take what the rehearsed policy says."""
    today = all_roots.sweep(now=moment, dry_run=True, timed=True)
    assert today.freeing == []
    assert today.count(Action.WOULD_CLEAR) >= 2  # only rehearsed
    in_a_week = all_roots.sweep(now=moment + timedelta(days=7), dry_run=True, timed=True)
    assert len(in_a_week.freeing) <= 3


def test_leaves_the_policies_of_a_real_lab_alone(made: demo.Demo) -> None:
    root = StagingRoot.objects.get(name="demo")
    assert all(policy.root_id == root.pk for policy in RetentionPolicy.objects.all())


def test_every_byte_is_real(made: demo.Demo) -> None:
    """No file is sparse, and two files are not alike."""
    found = [path for path in (made.base / "staging").rglob("*") if path.suffix in (".tif", ".mrc", ".raw", ".csv")]
    assert len(found) > 200
    for path in found:
        status = path.lstat()
        assert status.st_blocks * 512 >= status.st_size > 0, path
    spectra = [path.read_bytes() for path in found if path.suffix == ".raw"]
    assert len(set(spectra)) == len(spectra)


@pytest.mark.parametrize(("free", "share"), [(1 << 40, 1.0), (1 << 30, 0.9), (200 << 20, 0.2), (0, 0.01)])
def test_takes_at_most_a_quarter_of_what_is_free(free: int, share: float) -> None:
    assert 0 < building.share_for(free) <= share
    assert free == 0 or building.share_for(free) * building.full_size() <= free
    assert 250_000_000 < building.full_size() < 350_000_000


def test_rows_and_receipts_say_that_it_is_the_demo(made: demo.Demo, settings: Any) -> None:
    rows = list(LedgerEntry.objects.exclude(run=None))
    assert {row.root_name for row in rows} == {"demo"}
    assert {row.actor for row in rows} == {"demo", ""}
    kept = [path for path in settings.EXLAB_DATA_DIR.rglob("receipt-*-1.json") if made.base not in path.parents]
    laid = list((made.base / "nas").rglob("receipt-*-1.json"))
    assert len(kept) == len(laid) == 3 + 5
    receipts = [json.loads(path.read_bytes())["receipt"] for path in kept]
    assert {said["run"]["root"] for said in receipts} == {"demo"}
    notes = {said["clear"]["note"] for said in receipts}
    assert past.NOTE in notes
    assert all(notes)


def test_the_past_lies_in_the_past_and_the_chain_is_whole(made: demo.Demo, moment: datetime) -> None:
    at = list(LedgerEntry.objects.order_by("pk").values_list("at", flat=True))
    assert at == sorted(at)
    assert at[0] < moment - timedelta(days=35)
    assert verification.verify().bad is None
    cleared = Run.objects.filter(state="cleared").exclude(cleared_at__gt=moment - timedelta(days=21))
    assert cleared.count() == 5
    assert all(run.first_seen_at < run.cleared_at for run in cleared)


def test_the_real_clock_tells_the_time_again(made: demo.Demo) -> None:
    assert abs(timezone.now() - datetime.now(UTC)) < timedelta(seconds=1)
    with pytest.raises(ZeroDivisionError), clock.set_back(datetime(2020, 1, 1, tzinfo=UTC)):
        assert timezone.now().year == 2020
        raise ZeroDivisionError
    assert abs(timezone.now() - datetime.now(UTC)) < timedelta(seconds=1)


def test_each_run_says_who_made_it(made: demo.Demo) -> None:
    people = {json.loads(path.read_bytes())["created_by"] for path in (made.base / "staging").rglob("creation.json")}
    assert people == {"jlee", "operator", "mkeller", "asmith"}


def test_the_disk_fills_and_its_size_is_that_of_the_real_one(made: demo.Demo, moment: datetime) -> None:
    root = StagingRoot.objects.get()
    real = os.statvfs(made.base)
    samples = list(DiskUsage.objects.order_by("at"))
    assert {sample.total_bytes for sample in samples} == {real.f_frsize * real.f_blocks}
    assert all(0 <= sample.free_bytes <= sample.total_bytes for sample in samples)
    assert len({sample.at.date() for sample in samples}) >= 89
    found = disk_usage.outlook(root, moment)
    assert found is not None
    assert found.is_filling


def test_one_instrument_has_a_green_light(made: demo.Demo, moment: datetime) -> None:
    taken = decisions(moment)
    verdicts = {path: decision.clearable for path, decision in taken.items() if path.startswith("MASS_SPEC_01/")}
    assert len(verdicts) == 3
    assert all(verdicts.values())


def test_a_lab_with_a_ledger_of_its_own_gets_no_past(tmp_path: Path, settings: Any, moment: datetime) -> None:
    settings.EXLAB_DATA_DIR = tmp_path
    book.write(entries.entry_of_itself(LedgerKind.KEY, moment, requester=Requester.OPERATOR, detail="a key"))
    demo.make(moment, share=0.001)
    assert not LedgerEntry.objects.filter(at__lt=moment).exists()


@pytest.mark.parametrize("interrupted", [False, True])
def test_beside_a_lab_it_gets_no_past(
    interrupted: bool, tmp_path: Path, settings: Any, moment: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to two seconds each; also where the lab came between an interrupted start and the next one."""
    settings.EXLAB_DATA_DIR = tmp_path
    if interrupted:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(past, "move_in", _stop)
            demo.make(moment, share=0.001, most_past=1)
    StagingRoot.objects.create(name="lab", host=settings.EXLAB_HOST, path="/srv/lab", token="t")
    demo.make(moment, share=0.001, most_past=1)
    assert not LedgerEntry.objects.filter(at__lt=moment).exists()
    assert LedgerEntry.objects.totals()["runs"] == 3
    assert demo_plan.progress(tmp_path / "demo").today


def test_the_users_may_sign_in_and_do_what_their_names_say(made: demo.Demo) -> None:
    assert set(made.passwords) == {"admin", "operator", "viewer", "auditor"}
    users = {name: authenticate(username=name, password=password) for name, password in made.passwords.items()}
    assert all(users.values())
    assert users["admin"].is_superuser
    assert users["operator"].has_perm("cleanup.clear_run")
    assert users["viewer"].has_perm("cleanup.view_run")
    assert not users["viewer"].has_perm("cleanup.clear_run")
    assert users["auditor"].has_perm("cleanup.audit")
    assert not (users["auditor"].has_perm("cleanup.view_run") or users["viewer"].has_perm("cleanup.audit"))
    assert not any(password in path.read_text() for password in made.passwords.values() for path in notes_of(made))


def notes_of(made: demo.Demo) -> list[Path]:
    return [path for path in made.base.iterdir() if path.is_file()]


def test_the_second_time_nothing_is_made_again(made: demo.Demo, moment: datetime) -> None:
    before, rows = outlines(made.base / "staging"), Run.objects.count()
    policies, ledger = RetentionPolicy.objects.count(), LedgerEntry.objects.count()
    again = demo.make(moment + timedelta(hours=1))
    assert again == replace(made, passwords={})
    assert again.accounts == ["admin", "operator", "viewer", "auditor"]
    assert outlines(made.base / "staging") == before
    assert Run.objects.count() == rows
    assert RetentionPolicy.objects.count() == policies
    assert LedgerEntry.objects.count() == ledger
    assert User.objects.count() == 4


def test_an_interrupted_build_is_not_taken_for_a_lab(
    tmp_path: Path, settings: Any, moment: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.EXLAB_DATA_DIR = tmp_path
    with monkeypatch.context() as patch:
        patch.setattr(demo_plan, "_PLAN", "no such folder/plan.json")
        with pytest.raises(FileNotFoundError):
            demo.make(moment, share=0.001, most_past=0)
    assert not (tmp_path / "demo").exists()
    with monkeypatch.context() as patch:
        patch.setattr(past, "move_in", _stop)
        with pytest.raises(KeyboardInterrupt):
            demo.make(moment, share=0.001, most_past=1)
    assert (tmp_path / "demo").exists()
    # The passwords were never told: the next start says how to get new ones.
    made = demo.make(moment)
    assert (made.passwords, set(made.accounts)) == ({}, {"admin", "operator", "viewer", "auditor"})
    assert LedgerEntry.objects.totals()["runs"] == 3 + 2


def _stop(*_args: object) -> None:
    raise KeyboardInterrupt


def _reconcile_finds_only_what_was_planted() -> None:
    done = reconciling.reconcile(list(StagingRoot.objects.all()), now=timezone.now(), bounds=Bounds.of(runs=None))
    assert done is not None
    assert (done.problems, done.not_asked) == ([], 0)
    planted = {"nas_missing", "cleared_but_there", "missing", "shell", "orphan"}
    assert {str(each.kind) for each in done.found.listed} == planted


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_the_whole_demo_can_be_cleared_and_everything_agrees_afterwards(
    tmp_path: Path, settings: Any, moment: datetime
) -> None:
    """All of the past and all files: about half a minute."""
    settings.EXLAB_DATA_DIR = tmp_path
    made = demo.make(moment)
    safe = [path for path, decision in decisions(moment).items() if decision.clearable]
    paused = ClearAttempt.objects.filter(phase__in=ClearAttempt.ACTIVE).values("run")
    for run in Run.objects.staged().with_root().filter(run_path__in=safe).exclude(pk__in=paused):
        assert clear_run(run, actor="operator", now=timezone.now())[1] > 0
    receipt_delivery.tell_and_deliver(now=timezone.now())
    assert verification.verify().bad is None
    call_command("verify_ledger")
    _reconcile_finds_only_what_was_planted()
    receipts = [path for path in tmp_path.rglob("receipt-*.json") if made.base not in path.parents]
    assert len(receipts) > 35 + len(safe)
    key = next(tmp_path.rglob("key-*.pem"))
    for receipt in receipts:
        command = [sys.executable, "-I", CHECKOUT / "docs/check_receipt.py", receipt, "--key", key]
        subprocess.run(command, check=True, capture_output=True)
    before, rows = outlines(made.base / "staging"), LedgerEntry.objects.count()
    demo.make(timezone.now())
    assert (outlines(made.base / "staging"), LedgerEntry.objects.count()) == (before, rows)
