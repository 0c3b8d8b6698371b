"""Why a run was not cleared at an instant."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from cleanup.models import ClearAttempt, Outcome, Run, StagingRoot, Sweep, SweepKind, SweptRun
from cleanup.rules.reasons import Reason
from cleanup.sweeps import history
from tests.tools.rows import run_row

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


@pytest.fixture
def run(root: StagingRoot, now: datetime) -> Run:
    path = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-32"
    return run_row(root, path, first_seen_at=now - timedelta(days=30), identity="1:-:-", state="sync_verified")


@pytest.fixture
def swept(root: StagingRoot, now: datetime) -> Callable[..., Sweep]:
    def add(ago: timedelta, kind: str = SweepKind.TIMED, **fields: Any) -> Sweep:
        at = now - ago
        values = {"root": root, "host": "h", "outcome": Outcome.DONE, "now": at, "started_at": at, **fields}
        return Sweep.objects.create(kind=kind, **values)

    return add


def say(run: Run, first: Sweep, last: Sweep | None = None, **fields: Any) -> SweptRun:
    values = {"action": "skipped", "reason": Reason.RETENTION_NOT_ELAPSED, **fields}
    return SweptRun.objects.create(run=run, root=first.root, kind=first.kind, first=first, last=last or first, **values)


def reasons(run: Run, at: datetime) -> list[tuple[Sweep | None, str | None]]:
    found = history.answer(run, at)
    assert [answer.kind for answer in found] == list(SweepKind)
    return [(answer.sweep, answer.said.reason if answer.said else None) for answer in found]


NOTHING = (None, None)


def test_no_pass_had_looked_by_then(run, now):
    assert reasons(run, now) == [NOTHING] * 3


def test_one_row_answers_for_every_pass_between_its_first_and_its_last(run, swept, now):
    first, second, third = swept(9 * HOUR), swept(6 * HOUR), swept(3 * HOUR)
    say(run, first, third)
    for at, sweep in ((9, first), (7, first), (6, second), (4, second), (3, third), (0, third)):
        assert reasons(run, now - at * HOUR) == [(sweep, Reason.RETENTION_NOT_ELAPSED), NOTHING, NOTHING]
    assert reasons(run, now - 10 * HOUR) == [NOTHING] * 3


def test_the_answer_is_that_of_the_latest_pass_by_then_not_of_a_later_one(run, swept, now):
    first, second = swept(9 * HOUR), swept(3 * HOUR)
    say(run, first)
    say(run, second, reason=Reason.NAS_TIMEOUT)
    assert reasons(run, now - 4 * HOUR)[0] == (first, Reason.RETENTION_NOT_ELAPSED)
    assert reasons(run, now)[0] == (second, Reason.NAS_TIMEOUT)


def test_kinds_of_passes_do_not_answer_for_one_another(run, swept, now):
    timed, typed, timed_again = swept(9 * HOUR), swept(6 * HOUR, SweepKind.TYPED), swept(5 * HOUR)
    dry = swept(3 * HOUR, SweepKind.DRY_RUN, now=now + timedelta(days=400))
    say(run, timed, timed_again, reason=Reason.REHEARSAL, action="would_clear")
    say(run, dry, reason="retention", action="would_clear")
    assert reasons(run, now) == [(timed_again, Reason.REHEARSAL), (typed, None), (dry, "retention")]


def test_a_pass_that_said_nothing_of_the_run_hides_what_earlier_ones_said(run, swept, now):
    first, second = swept(9 * HOUR), swept(3 * HOUR, outcome=Outcome.INTERRUPTED)
    say(run, first)
    assert reasons(run, now)[0] == (second, None)
    assert history.silence(run, second) == "The pass was interrupted before it came to this run."


def test_other_roots_and_other_runs_do_not_answer(run, swept, root, now):
    other = StagingRoot.objects.create(name="other", host="h", path="/other")
    elsewhere = swept(HOUR, root=other)
    neighbour = Run.objects.get(pk=run.pk)
    neighbour.pk, neighbour.run_path, neighbour._state.adding = None, "CONFOCAL_01/PROJ-0042/Runs/Run_x", True
    neighbour.save()
    here = swept(2 * HOUR)
    say(neighbour, here)
    assert elsewhere.pk != here.pk
    assert reasons(run, now)[0] == (here, None)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"first_seen_at": 1}, "The run was not known yet."),
        ({"cleared_at": 4}, "The run had been cleared before."),
        ({"gone_at": 4}, "The run had been declared gone before."),
        ({}, "The pass did not come to this run."),
    ],
)
def test_silence_has_its_reason(run, swept, now, fields, words):
    for name, hours in fields.items():
        setattr(run, name, now - hours * HOUR)
    assert history.silence(run, swept(3 * HOUR)) == words


def test_a_run_that_the_pass_itself_cleared_had_not_been_cleared_before(run, swept, now):
    """The run's record keeps whole seconds, so a pass within that second seems later."""
    sweep = swept(HOUR, outcome=Outcome.INTERRUPTED, started_at=now + timedelta(seconds=0.7))
    run.cleared_at = now
    run.save()
    attempt = {"run": run, "host": "h", "requester": "schedule", "actor": "", "phase": "done", "phase_at": now}
    made = ClearAttempt.objects.create(**attempt, created_at=now + timedelta(seconds=0.1))
    assert history.silence(run, sweep) == "The run had been cleared before."
    made.delete()
    ClearAttempt.objects.create(**attempt, created_at=now + timedelta(seconds=0.8))
    assert history.silence(run, sweep) == "The pass was interrupted before it came to this run."


def test_silence_of_a_pass_that_is_under_way(run, swept):
    assert "not yet" in history.silence(run, swept(HOUR, outcome=Outcome.RUNNING, ended_at=None))


def test_two_queries_however_many_passes(run, swept, now, django_assert_num_queries):
    sweeps = [swept(hours * HOUR, kind) for hours in range(30, 0, -1) for kind in SweepKind]
    for kind in range(3):
        say(run, sweeps[kind], sweeps[-3 + kind])
    with django_assert_num_queries(2):
        assert all(answer.said for answer in history.answer(run, now))


def test_a_pass_with_all_it_said(run, swept):
    first, second, third = swept(9 * HOUR), swept(6 * HOUR), swept(3 * HOUR)
    row = say(run, first, second)
    later = say(run, third)
    assert [list(history.said_by(sweep)) for sweep in (first, second, third)] == [[row], [row], [later]]
    assert list(history.all_said(run, third.started_at)) == [later, row]
    assert list(history.all_said(run, second.started_at)) == [row]


@pytest.mark.parametrize(
    ("day", "clock", "moment"),
    [
        ("2026-06-09", "", datetime(2026, 6, 9, 21, 59, 59, 999_999, tzinfo=UTC)),
        ("2026-06-09", "08:30", datetime(2026, 6, 9, 6, 30, tzinfo=UTC)),
        ("2026-06-09T08:30", "", datetime(2026, 6, 9, 6, 30, tzinfo=UTC)),
        ("2026-06-09T08:30:00Z", "", datetime(2026, 6, 9, 8, 30, tzinfo=UTC)),
        ("0001-01-01", "", datetime(1970, 1, 2, tzinfo=UTC)),
        ("9999-12-31", "23:59", datetime(9990, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59-23:00", "", datetime(9990, 1, 1, tzinfo=UTC)),
        ("last Tuesday", "", None),
        ("2026-02-30", "", None),
        ("2026-06-09", "25:00", None),
        ("", "", None),
        ("9" * 5000, "", None),
    ],
)
def test_what_a_person_means_by_a_date(day, clock, moment):
    with timezone.override("Europe/Zurich"):
        assert history.moment_of(day, clock) == moment
