"""A retired root is not looked at, swept or cleared; it keeps its runs, and can be taken up again."""

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User

from cleanup import clear_run, tasks
from cleanup.clears.refusal import Refused
from cleanup.lab.roots import opening, root_lock
from cleanup.lab.roots.registration import RegistrationError, register
from cleanup.models import ClearAttempt, LedgerEntry, RootNote, Run, StagingRoot
from cleanup.monitoring import problems, watchdog
from cleanup.runs import discovery, run_status
from cleanup.runs.moved_or_gone import reregistration, retirement
from cleanup.runs.moved_or_gone.reregistration import RegisterOrder
from cleanup.sweeps import all_roots
from tests.tools.lab import RUN_PATH, Lab, snapshot
from tests.tools.rows import clear_rows

pytestmark = pytest.mark.django_db


@pytest.fixture
def known(lab: Lab, root: StagingRoot, now: datetime) -> Run:
    lab.run()
    discovery.discover(root, now=now)
    return Run.objects.get()


@pytest.fixture
def order(now: datetime) -> RegisterOrder:
    return RegisterOrder(now=now, actor="ada", note="the disk is taken out")


def retired(root: StagingRoot, order: RegisterOrder) -> StagingRoot:
    assert retirement.retire(root, order) == 1
    return StagingRoot.objects.get(pk=root.pk)


def test_nothing_is_done_on_it_any_more(
    lab: Lab, root: StagingRoot, known: Run, order: RegisterOrder, policy, now: datetime
) -> None:
    assert known.here
    policy(mode="scheduled", retain_hours=0, rehearse=False)
    before = snapshot(lab.staging)
    after = retired(root, order)
    run = Run.objects.get()
    assert (run.here, run.state, after.retired_at) == (False, "sync_verified", now)
    assert run_status.judge_now(run, None, [], now).status.reason == "root_not_mounted"
    with pytest.raises(opening.Unreachable, match="it was retired on 2026-06-15"), opening.open_root(after):
        pass
    with pytest.raises(Refused):
        clear_run(Run.objects.with_root().get(), now=now, actor="ada")
    with root_lock.claim(root) as claimed:  # as a sweep that read its roots before
        assert not claimed
    assert all_roots.sweep(now=now + timedelta(days=9)).scanned == 0
    assert tasks.discover() == ""
    assert snapshot(lab.staging) == before
    note = RootNote.objects.first()
    assert note is not None
    assert (note.event, note.author, note.note) == ("retired", "ada", "the disk is taken out")


def test_no_page_and_no_alarm_asks_for_it(root: StagingRoot, known: Run, order: RegisterOrder, now: datetime) -> None:
    retired(root, order)
    assert watchdog.silent_watches(now) == []
    boss = User.objects.create_superuser("boss")
    assert not problems.roots_in_trouble(boss)
    assert problems.count(boss, now) == 0


def test_not_while_a_clear_or_a_sweep_is_under_way(
    root: StagingRoot, known: Run, order: RegisterOrder, now: datetime
) -> None:
    attempt = ClearAttempt.objects.create(run=known, host=root.host, requester="operator", created_at=now, phase_at=now)
    with pytest.raises(RegistrationError, match="1 clears of lab have not come to their end"):
        retirement.retire(root, order)
    ClearAttempt.objects.filter(pk=attempt.pk).update(phase="aborted")
    with root_lock.claim(root) as claimed:
        assert claimed
        with pytest.raises(RegistrationError, match="Automatic clearing is at work"):
            retirement.retire(root, order)
    assert StagingRoot.objects.get().retired_at is None
    assert not RootNote.objects.filter(event="retired")
    retired(root, order)
    assert retirement.retire(root, order) == 1  # twice is harmless
    assert RootNote.objects.filter(event="retired").count() == 1


def test_the_past_stays_and_it_is_taken_up_again(
    lab: Lab, root: StagingRoot, known: Run, order: RegisterOrder, now: datetime
) -> None:
    after = retired(root, order)
    with pytest.raises(RegistrationError, match="lab is retired"):
        register("lab", str(lab.staging), now=now)
    with pytest.raises(RegistrationError, match="with its runs"):
        reregistration.reregister_root(after, order, with_runs=False)
    reregistration.reregister_root(StagingRoot.objects.get(), order)
    again = StagingRoot.objects.get()
    assert (again.retired_at, again.problem) == (None, "")
    note = RootNote.objects.first()
    assert note is not None and (note.event, note.note) == ("came", "it was taken up again")
    discovery.discover(again, now=now)
    assert Run.objects.get().here
    assert not LedgerEntry.objects.filter(run=known, kind="marked_gone")


def test_cleared_runs_of_it_stay_in_the_past(
    root: StagingRoot, known: Run, order: RegisterOrder, now: datetime
) -> None:
    Run.objects.filter(pk=known.pk).update(state="cleared", cleared_at=now, here=False)
    clear_rows(known, now, files=3, size=30, actor="ada")
    assert retirement.retire(root, order) == 0
    assert Run.objects.get().state == "cleared"
    assert LedgerEntry.objects.filter(run=known).exists()
    assert Run.objects.get().run_path == RUN_PATH


def test_a_look_that_waited_for_its_turn_finds_it_retired(
    lab: Lab, root: StagingRoot, known: Run, order: RegisterOrder, now: datetime
) -> None:
    retired(StagingRoot.objects.get(), order)
    lab.run("CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-18T09-10")
    discovery.discover(root, now=now + timedelta(minutes=1))  # `root` was read before
    assert (Run.objects.count(), StagingRoot.objects.get().problem) == (1, "root_not_mounted")
