"""When problems began and ended, who had them, and what comes back."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User

from cleanup.lab import alerts
from cleanup.models import Alert, AlertKind, CaseNote, Heartbeat, NasBreaker, Orphan, ProblemCase, Run, StagingRoot
from cleanup.monitoring import problems, watchdog
from cleanup.monitoring.problems import ProblemKey, case_rows, cases
from cleanup.rules.reasons import Reason
from tests.tools.rows import run_row

pytestmark = pytest.mark.one_engine

HOUR, MINUTE, DAY = timedelta(hours=1), timedelta(minutes=1), timedelta(days=1)
PATH = "FLOW_01/PROJ-0060/Runs/Run_2026-05-28T16-{:02}"


@pytest.fixture(autouse=True)
def _watched(db: None, settings: Any, now: datetime) -> None:
    Heartbeat.objects.create(cluster=watchdog.WATCH, host=settings.EXLAB_HOST, at=now)


@pytest.fixture
def everyone(db: None) -> User:
    return User.objects.create_superuser("admin")


def stall(root: StagingRoot, number: int, since: datetime) -> None:
    for _each in range(number):
        run = run_row(root, PATH.format(Run.objects.count()), first_seen_at=since, identity=f"{Run.objects.count()}")
        alerts.open_alert(AlertKind.STALLED_RUN, f"run:{run.pk}", reason=Reason.STALLED, now=since, run=run)


def note(now: datetime) -> int:
    """As the task does while the watchdog runs."""
    Heartbeat.objects.update(at=now)
    return cases.note(now)


def badge(user: User, now: datetime) -> int:
    Heartbeat.objects.update(at=now)
    return problems.count(User.objects.get(pk=user.pk), now, hindrances=())


def key_of(root: StagingRoot) -> ProblemKey:
    return ProblemKey(AlertKind.STALLED_RUN, Reason.STALLED, root.pk)


def case_of(root: StagingRoot, now: datetime) -> ProblemCase:
    case = cases.case_of(key_of(root), now)
    assert case is not None
    return case


@pytest.mark.both_engines
def test_alike_ones_are_one_case_from_its_first_member_to_its_last(
    root: StagingRoot, everyone: User, now: datetime
) -> None:
    stall(root, 25, now - 3 * HOUR)
    assert badge(everyone, now) == 1
    assert note(now) == 1
    (case,) = ProblemCase.objects.all()
    assert (case.number, case.since, case.slug) == (25, now - 3 * HOUR, key_of(root).slug)
    cases.assign(case, to="admin", actor="admin", now=now)
    cases.add_note(case, text="the wizard's PC was off", actor="admin", now=now)
    assert badge(everyone, now) == 0
    Alert.objects.update(ended_at=now + HOUR)
    assert note(now + HOUR) == 0
    (ended,) = case_rows.ended(everyone, now + HOUR)
    assert (ended.lasted, ended.assigned_to, ended.last_note) == (4 * HOUR, "admin", "the wizard's PC was off")

    stall(root, 1, now + 2 * HOUR)
    note(now + 2 * HOUR)
    assert badge(everyone, now + 2 * HOUR) == 1, "it is another episode, and nobody's"
    assert not case_rows.ended(everyone, now + 92 * DAY)
    note(now + 92 * DAY)
    assert [one.ended_at for one in ProblemCase.objects.all()] == [None]
    assert not CaseNote.objects.exists()


@pytest.mark.both_engines
def test_what_is_put_off_comes_back_when_it_grows_or_its_time_is_over(
    root: StagingRoot, everyone: User, now: datetime
) -> None:
    stall(root, 3, now - HOUR)
    for grows in (False, True):
        cases.put_off(case_of(root, now), until=now + 2 * DAY, said="the end of Wednesday", actor="admin", now=now)
        note(now + DAY)
        assert badge(everyone, now + DAY) == 0
        if grows:
            stall(root, 1, now + DAY)
            note(now + DAY)
            assert badge(everyone, now + DAY) == 1
            assert CaseNote.objects.last().text == "1 more problem"  # type: ignore[union-attr]
        else:
            assert badge(everyone, now + 2 * DAY) == 1


def test_one_that_takes_anothers_place_brings_it_back_and_a_smaller_group_does_not(
    root: StagingRoot, everyone: User, now: datetime
) -> None:
    stall(root, 3, now - HOUR)
    cases.put_off(case_of(root, now), until=now + 2 * DAY, said="the end of Wednesday", actor="admin", now=now)
    first = Alert.objects.earliest("pk")
    Alert.objects.filter(pk=first.pk).update(ended_at=now)
    note(now + MINUTE)
    assert badge(everyone, now + MINUTE) == 0
    stall(root, 1, now + 2 * MINUTE)
    note(now + 2 * MINUTE)
    assert badge(everyone, now + 2 * MINUTE) == 1


def test_one_that_an_admin_must_decide_brings_it_back(root: StagingRoot, everyone: User, now: datetime) -> None:
    seen = {"first_seen_at": now, "seen_at": now, "measured_at": now, "reason": Reason.STRAY_FILE, "kind": "stray"}
    Orphan.objects.create(root=root, path="FLOW_01/x", **seen)
    case = cases.case_of(ProblemKey(problems.ProblemKind.LEFT, Reason.STRAY_FILE, root.pk), now)
    assert case is not None
    cases.put_off(case, until=now + 2 * DAY, said="the end of Wednesday", actor="admin", now=now)
    assert badge(everyone, now) == 0
    Orphan.objects.update(escalated_at=now)
    note(now + MINUTE)
    assert badge(everyone, now + MINUTE) == 1


def test_a_nas_that_is_asked_again_for_a_moment_is_the_same_trouble(
    root: StagingRoot, everyone: User, now: datetime
) -> None:
    known = {"host": root.host, "token": root.nas_token, "reason": Reason.NAS_TIMEOUT, "failures": 3, "since": now}
    breaker = NasBreaker.objects.create(open_until=now + 5 * MINUTE, **known)
    note(now)
    cases.acknowledge(ProblemCase.objects.get(), actor="admin", now=now)
    note(now + 6 * MINUTE)  # it is being asked
    NasBreaker.objects.filter(pk=breaker.pk).update(open_until=now + 12 * MINUTE)
    note(now + 7 * MINUTE)
    assert badge(everyone, now + 7 * MINUTE) == 0
    note(now + 40 * MINUTE)
    assert ProblemCase.objects.get().ended_at == now + 7 * MINUTE


def test_nothing_is_written_while_nothing_changes(root: StagingRoot, everyone: User, now: datetime) -> None:
    """Else each open page would be asked for anew each minute."""
    stall(root, 2, now - HOUR)
    note(now)
    (before,) = ProblemCase.objects.values()
    note(now + MINUTE)
    assert list(ProblemCase.objects.values()) == [before]
    note(now + 5 * MINUTE)
    assert ProblemCase.objects.get().seen_at == now + 5 * MINUTE
