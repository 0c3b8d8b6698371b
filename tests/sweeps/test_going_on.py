"""A go-on covers only the runs that its question showed."""

import io
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.core.management import call_command

from cleanup.clears.report import ClearReport
from cleanup.clears.run_action import Action
from cleanup.models import ClearAttempt, Hold, Run, StagingRoot, Sweep, SweepBreaker
from cleanup.rules.anomalies import Anomaly, AnomalyKind, Clock
from cleanup.rules.breaker_question import Shown
from cleanup.sweeps import breakers, taking
from cleanup.sweeps.all_roots import sweep
from cleanup.sweeps.breakers import GoOnAnswer
from cleanup.sweeps.day import Recently
from tests.tools.archive import archive, clears_rows
from tests.tools.lab import Lab

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "take", clears_rows())


@pytest.fixture
def night(now: datetime, root: StagingRoot) -> Callable[..., ClearReport]:
    def go(hours: float) -> ClearReport:
        with time_machine.travel(now + hours * HOUR, tick=False):
            return sweep(now=now + hours * HOUR, timed=True)

    return go


@pytest.fixture
def stopped(lab: Lab, root: StagingRoot, now: datetime, night: Any, policy: Any) -> SweepBreaker:
    archive(lab, root, now, runs=30, equipment="FLOW_01")
    policy(mode="scheduled", retain_hours=168, equipment="FLOW_01", rehearse=False)
    assert night(0).count(Action.CLEARED) == 0
    return SweepBreaker.objects.get()


@pytest.fixture
def others(lab: Lab, root: StagingRoot, now: datetime, policy: Any) -> Callable[[], list[Run]]:
    def come() -> list[Run]:
        policy(mode="scheduled", retain_hours=168, equipment="CONFOCAL_01", rehearse=False)
        return archive(lab, root, now, runs=30, equipment="CONFOCAL_01")

    return come


def answer(breaker: SweepBreaker, at: datetime, **options: Any) -> GoOnAnswer:
    return breakers.answer(breaker, actor="ada", note="", now=at, **options)


def went(swept: ClearReport) -> set[str]:
    return {run.run_path.split("/")[0] for run in swept.runs if run.action is Action.CLEARED}


# What it covers


def test_the_question_shows_the_runs_and_the_versions(stopped: SweepBreaker) -> None:
    shown = stopped.lets_go
    assert set(shown.runs) == set(Run.objects.staged().values_list("pk", flat=True))
    assert (shown.bytes, shown.versions) == (30_000, (1,))


def test_it_lets_go_what_was_shown_once_and_says_so(
    stopped: SweepBreaker, root: StagingRoot, now: datetime, night: Any
) -> None:
    assert answer(stopped, now) is GoOnAnswer.GONE_ON
    assert night(1).count(Action.CLEARED) == 30
    stopped.refresh_from_db()
    assert stopped.used == Sweep.objects.latest("pk")
    assert set(ClearAttempt.objects.values_list("let_go", flat=True)) == {stopped.pk}
    # A person was asked: nothing went unasked.
    assert Recently(root, Clock(wall=now + 2 * HOUR), but=None).look().runs == 0


def test_thirty_runs_of_one_instrument_are_no_thirty_of_another(
    stopped: SweepBreaker, now: datetime, night: Any, policy: Any, others: Any
) -> None:
    assert answer(stopped, now) is GoOnAnswer.GONE_ON
    policy(mode="manual", equipment="FLOW_01", rehearse=False)
    others()
    assert went(night(1)) == set()
    asked = SweepBreaker.objects.get(closed_at=None)
    assert asked.lets_go.versions == (3,)
    paths = Run.objects.filter(pk__in=asked.lets_go.runs).values_list("equipment", flat=True)
    assert (len(paths), set(paths)) == (30, {"CONFOCAL_01"})


def test_what_was_shown_goes_and_what_was_not_is_asked_about(
    stopped: SweepBreaker, now: datetime, night: Any, others: Any
) -> None:
    assert answer(stopped, now) is GoOnAnswer.GONE_ON
    others()
    swept = night(1)
    assert (swept.count(Action.CLEARED), went(swept)) == (30, {"FLOW_01"})
    assert {run.reason for run in swept.runs} == {"retention", "breaker_open"}
    assert len(SweepBreaker.objects.get(closed_at=None).lets_go.runs) == 30


def test_few_others_go_beside_it(stopped: SweepBreaker, lab: Lab, root: Any, now: datetime, night: Any) -> None:
    assert answer(stopped, now) is GoOnAnswer.GONE_ON
    archive(lab, root, now + HOUR, runs=5)
    assert night(1).count(Action.CLEARED) == 35
    assert ClearAttempt.objects.filter(let_go=None).count() == 5


def test_what_was_shown_comes_before_what_a_budget_leaves_over(
    stopped: SweepBreaker, lab: Lab, root: Any, now: datetime, night: Any, policy: Any
) -> None:
    assert answer(stopped, now) is GoOnAnswer.GONE_ON
    archive(lab, root, now + HOUR, runs=5, days=900)
    policy(budget_runs=30)
    night(1)
    assert ClearAttempt.objects.filter(let_go=stopped).count() == 30


def test_a_run_that_is_another_than_was_shown_stays(
    stopped: SweepBreaker, now: datetime, night: Any, policy: Any
) -> None:
    assert answer(stopped, now) is GoOnAnswer.GONE_ON
    first, second, third, *_rest = Run.objects.staged().order_by("verified_at")
    Run.objects.filter(pk=first.pk).update(bytes=2_000_000)  # half of all, now
    Run.objects.filter(pk=second.pk).update(identity="another")
    Hold.objects.create(run=third, owner="eve", reason="mine", created_at=now, until=now + 99 * HOUR)
    night(1)
    assert not Run.objects.filter(pk=third.pk, state="cleared").exists()
    assert ClearAttempt.objects.filter(let_go=stopped).count() == 27


def test_it_ends_after_a_day(stopped: SweepBreaker, now: datetime, night: Any) -> None:
    assert answer(stopped, now) is GoOnAnswer.GONE_ON
    assert night(25).count(Action.CLEARED) == 0
    assert SweepBreaker.objects.filter(closed_at=None).count() == 1


# What was seen since


def test_a_run_that_is_due_since_is_shown_first(
    stopped: SweepBreaker, lab: Lab, root: Any, now: datetime, night: Any
) -> None:
    archive(lab, root, now + HOUR, runs=1)
    old_tab = stopped.code
    assert answer(stopped, now) is GoOnAnswer.SEEN_MORE
    stopped.refresh_from_db()
    assert len(stopped.lets_go.runs) == 31
    assert stopped.detail.endswith(" Since then: a pass would take 31 runs (31.0 kB) by policy version 1.")
    assert answer(stopped, now, code=old_tab) is GoOnAnswer.SEEN_MORE
    assert SweepBreaker.objects.get().closed_at is None
    assert answer(stopped, now) is GoOnAnswer.GONE_ON
    assert answer(stopped, now) is GoOnAnswer.ALREADY
    assert night(1).count(Action.CLEARED) == 31


def test_a_policy_that_was_edited_since_is_shown_first(stopped: SweepBreaker, now: datetime, policy: Any) -> None:
    policy(mode="scheduled", retain_hours=167, equipment="FLOW_01", rehearse=False)
    assert answer(stopped, now) is GoOnAnswer.SEEN_MORE
    stopped.refresh_from_db()
    assert stopped.lets_go.versions == (2,)


def test_what_stays_by_now_is_no_more_than_was_shown(stopped: SweepBreaker, now: datetime, night: Any) -> None:
    held = Run.objects.staged().earliest("verified_at")
    Hold.objects.create(run=held, owner="eve", reason="mine", created_at=now, until=now + 99 * HOUR)
    assert answer(stopped, now) is GoOnAnswer.GONE_ON
    assert night(1).count(Action.CLEARED) == 29


def test_another_thing_that_was_seen_since_is_shown_first(stopped: SweepBreaker, now: datetime) -> None:
    known = stopped.code
    breakers.open_breaker(
        stopped.sweep, [Anomaly(kind=AnomalyKind.FAILURES, detail="3 clears in a row have failed.")], now=now
    )
    assert answer(stopped, now, code=known) is GoOnAnswer.SEEN_MORE


def test_a_breaker_of_an_earlier_program_has_shown_nothing(stopped: SweepBreaker, now: datetime, night: Any) -> None:
    SweepBreaker.objects.update(shown={})
    stopped.refresh_from_db()
    assert answer(stopped, now) is GoOnAnswer.SEEN_MORE
    SweepBreaker.objects.update(closed_at=now, shown={})  # it was let go on before the update
    assert night(1).count(Action.CLEARED) == 0


def test_clears_that_fail_are_no_question_about_runs(stopped: SweepBreaker, now: datetime) -> None:
    sights = {"sights": [Anomaly(kind=AnomalyKind.FAILURES, detail="They fail.").as_json()]}
    SweepBreaker.objects.update(saw=sights, kind="failures", shown=Shown().as_json())
    stopped.refresh_from_db()
    assert answer(stopped, now) is GoOnAnswer.GONE_ON


# The command


def call(*arguments: str, status: int = 0) -> str:
    out = io.StringIO()
    if not status:
        call_command(*arguments, stdout=out)
    else:
        with pytest.raises(SystemExit) as ended:
            call_command(*arguments, stdout=out)
        assert ended.value.code == status
    return out.getvalue().strip()


def test_the_command_refuses_shows_and_takes_the_second_answer(
    stopped: SweepBreaker, lab: Lab, root: Any, now: datetime
) -> None:
    with time_machine.travel(now, tick=False):
        shown = json.loads(call("go_on", "--show", "--json"))["breakers"][0]
        assert (len(shown["runs"]), shown["bytes"], shown["policy_versions"]) == (30, 30_000, [1])
        (late,) = archive(lab, root, now + HOUR, runs=1)
        said = call("go_on", "--code", shown["code"], status=1)
        assert "lab: nothing goes on, for by now this is not what was shown." in said
        assert f"  {late.run_path}\n" in said
        report = json.loads(call("go_on", "--code", shown["code"], "--json", status=1))
        assert (report["breakers"], len(report["refused"][0]["runs"])) == ([], 31)
        assert call("go_on").endswith("For 31 runs (31.0 kB) by policy version 1.")
        assert call("go_on") == "No breaker is open."
