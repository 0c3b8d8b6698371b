"""Within a day no more goes unasked than the share, and a go-on releases only what it showed.

Here three runs, not twenty, are never abnormal, so that archives stay small; the clear is a stand-in.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cleanup.lab import policy_versions
from cleanup.models import Run, StagingRoot, SweepBreaker
from cleanup.rules import anomalies
from cleanup.rules.anomalies import Clock
from cleanup.sweeps import breakers as sweep_breakers
from cleanup.sweeps import taking
from cleanup.sweeps.all_roots import sweep
from tests.tools.archive import archive, clears_rows
from tests.tools.database import sandbox
from tests.tools.lab import Lab

pytestmark = pytest.mark.django_db

NEVER_ABNORMAL = 3
DAY = timedelta(days=1) - timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _pattern(lab: Lab, root: StagingRoot, now: datetime) -> None:
    archive(lab, root, now, runs=0)


_steps = st.one_of(
    st.tuples(st.just("night"), st.sampled_from([0.25, 1, 6, 12, 23.75, 24, 30])),
    st.tuples(st.just("night"), st.sampled_from([0.25, 1, 6])),
    st.tuples(st.just("die"), st.integers(0, 3)),
    st.tuples(st.just("policy"), st.sampled_from([100, 168, 900])),
    st.tuples(st.just("budget"), st.sampled_from([1, 2, 3, 5])),
    st.tuples(st.just("arrive"), st.integers(1, 6)),
    st.tuples(st.just("go on"), st.booleans()),
    st.tuples(st.just("clicks"), st.integers(1, 4)),
    st.tuples(st.just("ahead"), st.sampled_from([0, 25])),
    st.tuples(st.just("rename"), st.just(0)),
)


@dataclass
class Told:
    at: datetime
    ahead: timedelta = timedelta(0)
    passes: list[tuple[datetime, int]] = field(default_factory=list)
    unasked: list[tuple[datetime, int]] = field(default_factory=list)
    shown: dict[int, set[int]] = field(default_factory=dict)
    let_go: list[tuple[int, int]] = field(default_factory=list)


class Undo(Exception):
    """Rolls back an example."""


def staged_bytes() -> int:
    return sum(Run.objects.staged().values_list("bytes", flat=True))


def observed(told: Told, take: Callable[..., Any]) -> Callable[..., Any]:
    def taken(run: Run, *arguments: Any, request: Any, dry_run: bool) -> Any:
        action = take(run, *arguments, request=request, dry_run=dry_run)
        if request.let_go is None:
            told.unasked.append((told.at, run.bytes or 0))
        else:
            told.let_go.append((request.let_go.pk, run.pk))
        return action

    return taken


def go(step: tuple[str, Any], told: Told, lab: Lab, root: StagingRoot, patch: pytest.MonkeyPatch) -> None:
    what, value = step
    add = policy_versions.add_version
    wall = told.at + told.ahead
    match what:
        case "night" | "die":
            told.at += timedelta(hours=value if what == "night" else 1)
            wall = told.at + told.ahead
            told.passes.append((told.at, staged_bytes()))
            dies = None if what == "night" else value
            patch.setattr(taking, "take", observed(told, clears_rows(until=dies)))
            clock = Clock(wall=wall, boot_id="a", boot_seconds=told.at.timestamp())
            with contextlib.suppress(SystemExit):
                sweep(now=wall, timed=True, clock=clock)
        case "policy":
            add(author="ada", now=wall, mode="scheduled", retain_hours=value, rehearse=False)
        case "budget":
            add(author="ada", now=wall, budget_runs=value, rehearse=False)
        case "arrive":
            archive(lab, root, wall + timedelta(seconds=Run.objects.count()), runs=value)
        case "clicks":
            some = list(Run.objects.staged().values_list("pk", flat=True)[:value])
            Run.objects.filter(pk__in=some).update(state="cleared")
        case "ahead":
            told.ahead = timedelta(hours=value)
        case "rename":
            StagingRoot.objects.filter(pk=root.pk).update(name=f"{root.name[:40]}x")
            root.refresh_from_db()
        case "go on":
            breaker = SweepBreaker.objects.filter(closed_at=None).select_related("root").first()
            if breaker is not None:
                question = sweep_breakers.question(breaker, now=wall)
                if value:  # something becomes due between the look and the answer
                    archive(lab, root, wall - timedelta(seconds=Run.objects.count()), runs=1)
                if sweep_breakers.go_on(breaker, actor="ada", note="", now=wall, code=question.code):
                    told.shown[breaker.pk] = set(question.shown.runs)


def check(told: Told, share: float) -> None:
    for at, _staged in told.passes:
        went = [size for when, size in told.unasked if at - DAY < when <= at]
        there = next(staged for when, staged in told.passes if at - DAY < when)
        assert len(went) <= NEVER_ABNORMAL or sum(went) <= share * there, (at, went, there)
    for breaker, run in told.let_go:
        assert run in told.shown[breaker]


def run_example(
    steps: list[tuple[str, Any]], share: float, lab: Lab, root: StagingRoot, now: datetime, patch: pytest.MonkeyPatch
) -> Told:
    told = Told(at=now)
    patch.setattr(anomalies, "MIN_RUNS", NEVER_ABNORMAL)
    try:
        with sandbox(), time_machine.travel(now, tick=False) as traveller:
            archive(lab, root, now, runs=12)
            policy_versions.add_version(
                author="ada", now=now, mode="scheduled", retain_hours=168, rehearse=False, max_share=share
            )
            for step in steps:
                go(step, told, lab, root, patch)
                traveller.move_to(told.at + told.ahead)
            check(told, share)
            raise Undo
    except Undo:
        root.refresh_from_db()
    return told


_settings = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}
_examples = {"steps": st.lists(_steps, min_size=4, max_size=9), "share": st.sampled_from([0.3, 0.5, 1.0])}


@given(**_examples)
@settings(max_examples=6, derandomize=True, phases=[Phase.generate], **_settings)  # type: ignore[arg-type]
def test_no_more_goes_unasked_in_a_day_than_the_share(
    steps: Any, share: float, lab: Lab, root: StagingRoot, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Takes 1 s: six small labs with some passes each."""
    run_example(steps, share, lab, root, now, monkeypatch)


@pytest.mark.exhaustive
@given(**_examples)
@settings(max_examples=50, **_settings)  # type: ignore[arg-type]
def test_it_never_does(
    steps: Any, share: float, lab: Lab, root: StagingRoot, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_example(steps, share, lab, root, now, monkeypatch)


NIGHTS = [("budget", 3), ("policy", 168), *[("night", 1)] * 4]


def test_the_check_notices_a_day_that_is_forgotten(
    lab: Lab, root: StagingRoot, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(run_example(NIGHTS, 0.5, lab, root, now, monkeypatch).unasked) == 6
    monkeypatch.setattr("cleanup.sweeps.day.WINDOW", timedelta(minutes=30))
    with pytest.raises(AssertionError):
        run_example(NIGHTS, 0.5, lab, root, now, monkeypatch)


def test_the_check_notices_a_go_on_for_too_much(
    lab: Lab, root: StagingRoot, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [*NIGHTS, ("go on", False), ("policy", 100), ("night", 1)]
    run_example(steps, 0.5, lab, root, now, monkeypatch)
    monkeypatch.setattr("cleanup.rules.breaker_question.Shown.covers", lambda *run: True)
    with pytest.raises(AssertionError):
        run_example([*steps[:-2], ("arrive", 6), ("budget", 5), ("night", 1)], 0.5, lab, root, now, monkeypatch)
