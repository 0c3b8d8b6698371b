"""A breaker's question, the forecast, a policy's preview and the pass itself agree, after any policy changes."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cleanup.clears.run_action import Action, RunAction
from cleanup.lab import policy_versions
from cleanup.models import DiskUsage, Outcome, RetentionPolicy, Run, StagingRoot, Sweep, SweepBreaker
from cleanup.rules import anomalies
from cleanup.rules.anomalies import Clock
from cleanup.rules.policies.policy import Stage
from cleanup.rules.reasons import Reason
from cleanup.runs.facts import stored_facts
from cleanup.sweeps import breakers as sweep_breakers
from cleanup.sweeps import one_root, outlook, policy_preview, rehearsal, taking
from cleanup.sweeps.all_roots import sweep
from tests.tools.archive import archive, clears_rows
from tests.tools.database import sandbox
from tests.tools.lab import Lab

pytestmark = pytest.mark.django_db

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NEVER_ABNORMAL = 3


@pytest.fixture(autouse=True)
def _pattern(lab: Lab, root: StagingRoot, now: datetime) -> None:
    archive(lab, root, now, runs=0)


_hours = st.sampled_from([0, 20, 72, 168, 2000])
_version = st.fixed_dictionaries(
    {
        "where": st.sampled_from(["lab", "root", "FLOW_01", "CONFOCAL_01"]),
        "stage": st.sampled_from([None, None, "promote", Stage.OFF]),
    },
    optional={
        "mode": st.sampled_from(["scheduled", "scheduled", "manual"]),
        "retain_hours": _hours,
        "min_retain_hours": st.sampled_from([0, 20]),
        "max_bytes": st.sampled_from([1_000, 4_000, 9_000]),
        "max_runs": st.sampled_from([1, 5, 11]),
        "free": st.sampled_from([(5_000, 9_000), (2_000, 20_000), (500, 3_000)]),
        "budget_runs": st.sampled_from([1, 2, 4]),
        "budget_bytes": st.sampled_from([1_500, 3_000]),
        "max_share": st.sampled_from([0.3, 0.5, 1.0]),
    },
)
_examples = {
    "versions": st.lists(_version, min_size=1, max_size=5),
    "free": st.sampled_from([1_000, 4_000, 30_000]),
    "goes_on": st.booleans(),
}
_settings = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


class Undo(Exception):
    """Rolls back an example."""


def asked(said: dict[str, Any], root: StagingRoot) -> tuple[dict[str, Any], Any]:
    """The fields of a version with its scope, such that it can be written; and its stage."""
    fields = dict(said)
    where, stage = fields.pop("where"), fields.pop("stage")
    if free := fields.pop("free", None):
        fields |= {"free_start_bytes": free[0], "free_stop_bytes": free[1]}
    narrow = where not in ("lab", "root")
    limits = ("max_bytes", "max_runs", "free_start_bytes", "free_stop_bytes")
    bounds = ("budget_runs", "budget_bytes", "max_share")
    for name in (*(limits if where != "root" else ()), *(bounds if narrow else ())):
        fields.pop(name, None)
    before = RetentionPolicy.objects.filter(
        root=root if where == "root" else None, equipment=where if narrow else ""
    ).order_by("-version")
    hours = fields.get("retain_hours", getattr(before.first(), "retain_hours", None))
    floor = fields.get("min_retain_hours", getattr(before.first(), "min_retain_hours", None))
    if hours is not None and floor is not None and floor > hours:
        fields["min_retain_hours"] = hours
    scope: dict[str, Any] = {"root": root if where == "root" else None, "equipment": where if narrow else ""}
    return {**scope, **fields, "rehearse": False if stage is Stage.OFF else None}, stage


def write(said: dict[str, Any], root: StagingRoot, now: datetime) -> None:
    version, stage = asked(said, root)
    written = policy_versions.add_version(author="ada", now=now, **version)
    if stage == "promote" and written.rehearsal == Stage.REHEARSING:
        rehearsal.promote(written, "ada", now)


def frees(freed: list[int]) -> Any:
    """The stand-in for a clear, on a disk that frees what a run holds."""
    clear = clears_rows()

    def take(run: Run, *arguments: Any, **more: Any) -> RunAction:
        allocated = stored_facts.facts_of(run).allocated_bytes or 0
        freed.append(allocated)
        return replace(clear(run, *arguments, **more), allocated=allocated)

    return take


def go(now: datetime) -> set[int]:
    told = sweep(now=now, timed=True, clock=Clock(wall=now, boot_id="a", boot_seconds=now.timestamp()))
    gone = {run.run_path for run in told.runs if run.action is Action.CLEARED}
    return set(Run.objects.filter(run_path__in=gone).values_list("pk", flat=True))


def stopped(at: datetime) -> bool:
    return Sweep.objects.filter(now=at).get().outcome == Outcome.STOPPED


def check(root: StagingRoot, first: datetime, *, goes_on: bool) -> None:
    instants = [first, first + HOUR]
    shown = set(outlook.would_take(root, first).runs)
    told = policy_preview.outlooks(root, instants, lambda _at: RetentionPolicy.objects.scoped())
    assert {run.pk for run in told[0].going} == shown
    took = go(first)
    assert stopped(first) == bool(told[0].sights)
    if told[0].sights:
        assert not took
        breaker = SweepBreaker.objects.get(closed_at=None)
        assert set(breaker.lets_go.runs) == shown
        assert not sweep_breakers.question(breaker, now=first).more
        if goes_on:
            assert sweep_breakers.go_on(breaker, actor="ada", note="", now=first)
            again = policy_preview.outlooks(root, [first + HOUR], lambda _at: RetentionPolicy.objects.scoped())
            took = go(first + HOUR)
            assert stopped(first + HOUR) == bool(again[0].sights)
            assert shown <= took or again[0].sights or RetentionPolicy.objects.count() == 0
            if not again[0].sights:
                assert took == {run.pk for run in again[0].going}
        return
    assert took == shown
    second = go(instants[1])
    assert stopped(instants[1]) == bool(told[1].sights)
    assert second == (set() if told[1].sights else {run.pk for run in told[1].going})


def check_preview(said: dict[str, Any], root: StagingRoot, now: datetime) -> None:
    """What a draft's preview shows of the first pass that clears by it, and what this pass does."""
    version, _stage = asked(said, root)
    before = RetentionPolicy.objects.newest_of(root=version["root"], equipment=version["equipment"], project="")
    drafted = policy_versions.draft(before, author="ada", now=now, **version)
    shown = policy_preview.preview(drafted, now)
    written = policy_versions.add_version(author="ada", now=now, **version)
    assert (shown.promoted is not None) == (written.rehearsal == Stage.REHEARSING)
    if shown.promoted is not None:
        rehearsal.promote(written, "ada", now)
    scope = drafted.as_value().scope
    told = sweep(now=now, timed=True, clock=Clock(wall=now, boot_id="a", boot_seconds=now.timestamp()))
    of_scope = {run.run_path for run in Run.objects.with_root() if scope.covers(run.scope)}
    gone = {run.run_path for run in told.runs if run.action is Action.CLEARED} & of_scope
    left = {run.run_path for run in told.runs if run.reason == Reason.BUDGET_EXHAUSTED} & of_scope
    assert {run.run_path for run in shown.first.cleared} == gone
    assert stopped(now) == bool(shown.first.sights)
    if shown.first.sights:
        breaker = SweepBreaker.objects.get(closed_at=None)
        assert breaker.detail in " ".join(shown.first.sights).replace(f"{root.name}: ", "")
        kept = set(Run.objects.filter(pk__in=list(breaker.lets_go.runs)).values_list("run_path", flat=True))
        assert {run.run_path for run in shown.first.stopped} == kept & of_scope
    else:
        assert not shown.first.stopped
        assert {run.run_path for run in shown.first.left_over} == left


def run_example(
    versions: list[dict[str, Any]],
    free: int,
    lab: Lab,
    root: StagingRoot,
    now: datetime,
    patch: pytest.MonkeyPatch,
    *,
    goes_on: bool,
    previewed: dict[str, Any] | None = None,
) -> None:
    patch.setattr(anomalies, "MIN_RUNS", NEVER_ABNORMAL)
    freed: list[int] = []
    patch.setattr(taking, "take", frees(freed))
    try:
        with sandbox(), time_machine.travel(now, tick=False) as traveller:
            archive(lab, root, now - DAY, runs=5, days=10)
            archive(lab, root, now - DAY + HOUR, runs=4, equipment="CONFOCAL_01", days=3)
            archive(lab, root, now - 2 * HOUR, runs=3, days=0.75)
            Run.objects.exclude(bytes=0).update(here=True)
            patch.setattr(one_root.RootSweep, "_free_bytes", lambda _self: free + sum(freed))
            DiskUsage.objects.create(root=root, at=now, free_bytes=free, total_bytes=100_000)
            for number, said in enumerate(versions):
                write(said, root, now - 3 * DAY + number * HOUR)
            traveller.move_to(now)
            if previewed is None:
                check(root, now, goes_on=goes_on)
            else:
                check_preview(previewed, root, now)
            raise Undo
    except Undo:
        root.refresh_from_db()


@given(**_examples)
@settings(max_examples=8, derandomize=True, phases=[Phase.generate], **_settings)  # type: ignore[arg-type]
def test_question_forecast_and_pass_agree(
    versions: Any,
    free: int,
    goes_on: bool,
    lab: Lab,
    root: StagingRoot,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Takes 1 s: eight small labs."""
    run_example(versions, free, lab, root, now, monkeypatch, goes_on=goes_on)


@given(previewed=_version, **{**_examples, "versions": st.lists(_version, max_size=3)})
@settings(max_examples=12, derandomize=True, phases=[Phase.generate], **_settings)  # type: ignore[arg-type]
def test_a_preview_shows_what_breakers_and_budgets_stop_as_the_pass_does(
    versions: Any,
    previewed: Any,
    free: int,
    goes_on: bool,
    lab: Lab,
    root: StagingRoot,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Takes 2 s: twelve small labs. A draft that is rehearsed first is promoted before the pass."""
    run_example(versions, free, lab, root, now, monkeypatch, goes_on=goes_on, previewed=previewed)


def test_a_promotion_is_that_of_the_draft_and_not_of_the_version_before(
    lab: Lab, root: StagingRoot, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version before is rehearsed, too, and takes other runs. A search found it."""
    before = {"where": "lab", "stage": None, "mode": "scheduled"}
    draft = {**before, "max_runs": 1, "budget_runs": 1, "min_retain_hours": 0, "retain_hours": 0}
    run_example([before, before], 1000, lab, root, now, monkeypatch, goes_on=False, previewed=draft)


@pytest.mark.exhaustive
@given(previewed=_version, **{**_examples, "versions": st.lists(_version, max_size=3)})
@settings(max_examples=100, **_settings)  # type: ignore[arg-type]
def test_a_preview_always_does(
    versions: Any,
    previewed: Any,
    free: int,
    goes_on: bool,
    lab: Lab,
    root: StagingRoot,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_example(versions, free, lab, root, now, monkeypatch, goes_on=goes_on, previewed=previewed)


@pytest.mark.exhaustive
@given(**_examples)
@settings(max_examples=40, **_settings)  # type: ignore[arg-type]
def test_they_always_do(
    versions: Any,
    free: int,
    goes_on: bool,
    lab: Lab,
    root: StagingRoot,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_example(versions, free, lab, root, now, monkeypatch, goes_on=goes_on)
