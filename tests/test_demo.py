"""The demonstration lab."""

import stat
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User

from cleanup import demo
from cleanup.clears.run_action import Action
from cleanup.models import LedgerEntry, RetentionPolicy, Run, StagingRoot
from cleanup.rules.decisions import Decision
from cleanup.rules.reasons import Reason
from cleanup.runs.facts import stored_facts
from cleanup.runs.holds import reminders
from cleanup.runs.orphans import orphans
from cleanup.sweeps import all_roots
from tests.tools import sites
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
        _made[:] = [demo.make(moment)]

    settings.EXLAB_DATA_DIR = data_of(sites.lay("demo", build, tmp_path_factory, lasts=60))
    return _made[0]


def decisions(moment: datetime) -> dict[str, Decision]:
    policies = RetentionPolicy.objects.scoped()
    runs = Run.objects.staged().with_root()
    return {run.run_path: stored_facts.decision(run, policies, moment) for run in runs}


def test_shows_every_state_and_every_kind_of_verdict(made: demo.Demo, moment: datetime) -> None:
    states = Counter(Run.objects.values_list("state", flat=True))
    assert 38 <= sum(states.values()) <= 45
    assert Run.objects.values("equipment").distinct().count() == 5
    assert states.keys() >= {"staging", "complete", "sync_queued", "sync_verified", "cleared", ""}
    assert states["cleared"] == 3
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


def test_shows_an_orphan_and_a_hold_that_ends_soon(made: demo.Demo, moment: datetime) -> None:
    assert {orphan.kind for orphan in orphans.listed()} == {"stray", "no_record"}
    (reminder,) = reminders.reminders(moment)
    assert (reminder.reason, reminder.hold.owner) == (Reason.HOLD_ENDING, "operator")


def test_cleared_through_the_product(made: demo.Demo) -> None:
    totals = LedgerEntry.objects.totals()
    assert totals["runs"] == 3
    assert totals["bytes"] > 1_000_000
    for run in Run.objects.filter(state="cleared"):
        assert not (made.base / "staging" / run.run_path).exists()
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


def test_costs_little_room(made: demo.Demo) -> None:
    size = sum(path.lstat().st_blocks * 512 for path in made.base.rglob("*"))
    assert size < 50_000_000
    assert sum(run.bytes or 0 for run in Run.objects.staged()) > 1_000_000_000


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
    assert stat.S_IMODE((made.base / "passwords.txt").stat().st_mode) == 0o600


def test_the_second_time_nothing_is_made_again(made: demo.Demo, moment: datetime) -> None:
    before, rows = outlines(made.base / "staging"), Run.objects.count()
    policies, ledger = RetentionPolicy.objects.count(), LedgerEntry.objects.count()
    again = demo.make(moment + timedelta(hours=1))
    assert again == made
    assert outlines(made.base / "staging") == before
    assert Run.objects.count() == rows
    assert RetentionPolicy.objects.count() == policies
    assert LedgerEntry.objects.count() == ledger
    assert User.objects.count() == 4


def test_passwords_are_random_and_a_user_who_was_there_keeps_his_own(tmp_path: Path, settings: Any) -> None:
    User.objects.create_user("admin", password="before")
    users = demo._users(tmp_path)
    assert set(users) == {"operator", "viewer", "auditor"}
    assert authenticate(username="admin", password="before")
    (tmp_path / "other").mkdir()
    User.objects.exclude(username="admin").delete()
    assert demo._users(tmp_path / "other") != users


def test_an_interrupted_build_is_not_taken_for_a_lab(
    tmp_path: Path, settings: Any, moment: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.EXLAB_DATA_DIR = tmp_path
    with monkeypatch.context() as patch:
        patch.setattr(demo, "_note", lambda base: base / "no such folder" / "note")
        with pytest.raises(FileNotFoundError):
            demo.make(moment)
    assert not (tmp_path / "demo").exists()
    assert set(demo.make(moment).passwords) == {"admin", "operator", "viewer", "auditor"}
