"""A policy's preview equals the next timed pass."""

from datetime import timedelta

import pytest

from cleanup.clears.run_action import Action
from cleanup.lab import policy_versions
from cleanup.models import DiskUsage, RetentionPolicy, Run, Sweep, SweepBreaker
from cleanup.runs import discovery
from cleanup.runs.holds import holds
from cleanup.sweeps import all_roots, breakers, policy_preview
from cleanup.sweeps.sweep_forecast import size_of
from tests.tools.lab import touch

pytestmark = pytest.mark.one_engine


HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OLD = "FLOW_01/PROJ-0060/TestRuns/TestRun_2026-05-01T08-00"
YOUNG = "FLOW_01/PROJ-0060/TestRuns/TestRun_2026-06-14T20-00"
REAL = "FLOW_01/PROJ-0060/Runs/Run_2026-05-02T08-00"
OTHER = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-05-03T08-00"
HELD = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-05-04T08-00"
EXTRA = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-05-05T08-00"
TOUCHED = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-05-06T08-00"


@pytest.fixture
def runs(lab, root, now):
    for path in (OLD, REAL, OTHER, HELD, EXTRA, TOUCHED):
        lab.run(path)
    lab.run(YOUNG, verified_at=now - 10 * HOUR)
    (lab.staging / EXTRA / "late.txt").write_text("late")
    touch(lab.staging / EXTRA / "late.txt", now - 30 * DAY)
    touch(lab.staging / TOUCHED / "stack.ome.xml", now - DAY)
    discovery.discover(root, now=now - HOUR)
    found = {run.run_path: run for run in Run.objects.with_root()}
    holds.hold(found[HELD], owner="ada", reason="needed", until=now + DAY, now=now)
    return found


@pytest.fixture
def look(now):
    def look(*, root=None, rehearse=False, **fields):
        scope = {name: fields.get(name, "") for name in ("equipment", "project", "run_kind")}
        before = RetentionPolicy.objects.filter(root=root, **scope).order_by("-version").first()
        drafted = policy_versions.draft(before, root=root, author="ada", now=now, rehearse=rehearse, **fields)
        return policy_preview.preview(drafted, now)

    return look


def paths(runs):
    return {run.run_path for run in runs}


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": "scheduled", "retain_hours": 24},
        pytest.param({"mode": "scheduled", "retain_hours": 6}, marks=pytest.mark.exhaustive),
        {"mode": "scheduled", "retain_hours": 10},  # the boundary counts as due
        {"mode": "scheduled", "retain_hours": 24, "equipment": "FLOW_01", "run_kind": "test"},
        {"mode": "scheduled", "retain_hours": 24, "budget_runs": 2},
        pytest.param({"mode": "scheduled", "retain_hours": 24, "proof": "size"}, marks=pytest.mark.exhaustive),
        {"mode": "scheduled", "retain_hours": 5000, "min_retain_hours": 0, "max_runs": 5, "of_root": True},
        {"mode": "manual", "retain_hours": 1},
    ],
    ids=lambda fields: "-".join(map(str, fields.values())),
)
def test_the_preview_is_what_the_next_timed_pass_does(runs, root, look, now, fields):
    fields = dict(fields)
    scope = {"root": root} if fields.pop("of_root", False) else {}
    shown = look(**scope, **fields)
    policy_versions.add_version(author="ada", now=now - 2 * DAY, rehearse=False, **scope, **fields)
    swept = all_roots.sweep(now=now, timed=True, actor="")
    cleared = {run.run_path for run in swept.runs if run.action == Action.CLEARED}
    assert paths(shown.then.going) == cleared
    assert size_of(shown.then.going) == swept.bytes_freed
    if fields["mode"] == "scheduled":
        assert cleared
    assert {HELD, EXTRA}.isdisjoint(cleared)


def test_it_is_compared_with_what_goes_as_things_are(runs, policy, look):
    policy(mode="scheduled", retain_hours=1000, rehearse=False)
    shown = look(retain_hours=24)
    assert paths(shown.today.going) == {OLD, REAL, OTHER}
    assert paths(shown.then.going) == {OLD, REAL, OTHER, TOUCHED}
    assert paths(shown.new) == {TOUCHED}
    assert shown.kept == []
    shown = look(mode="manual")
    assert shown.nothing_by_itself
    assert paths(shown.kept) == {OLD, REAL, OTHER}


def test_what_is_rehearsed_first_holds_up_nothing_that_is_approved(runs, policy, look):
    policy(mode="scheduled", retain_hours=1000, stage="promoted")
    shown = look(retain_hours=24, rehearse=True)
    assert shown.rehearses
    assert shown.nights == 3
    assert paths(shown.then.going) == {OLD, REAL, OTHER}, "the approved version takes them meanwhile"
    assert paths(shown.then.rehearsed) == {TOUCHED}
    assert shown.held_up == []
    assert not look(retain_hours=2000, rehearse=True).rehearses  # it can only keep more


def test_a_version_in_rehearsal_leaves_a_field_to_a_wider_one(runs, policy, look):
    policy(mode="scheduled", retain_hours=24, rehearse=False)
    policy(equipment="FLOW_01", mode="manual", stage="promoted")
    shown = look(equipment="FLOW_01", mode="", rehearse=True)
    assert paths(shown.then.rehearsed) == {OLD, REAL}
    assert shown.then.going == []


def test_only_runs_of_the_scope_are_told_but_a_budget_counts_them_all(runs, policy, look):
    policy(mode="scheduled", retain_hours=24, budget_runs=2, rehearse=False)
    shown = look(equipment="CONFOCAL_01", retain_hours=48)
    assert shown.then.going == []
    assert paths(shown.then.left_over) == {OTHER, TOUCHED}


def test_free_space_is_what_was_measured_last(runs, root, look, now):
    fields = {"root": root, "mode": "scheduled", "retain_hours": 5000, "min_retain_hours": 24}
    fields |= {"free_start_bytes": 10**9, "free_stop_bytes": 10**9 + 1}
    assert look(**fields).then.going == []
    DiskUsage.objects.create(root=root, at=now, total_bytes=10**10, free_bytes=10**8)
    assert paths(look(**fields).then.going) == {OLD, REAL, OTHER, TOUCHED}


def test_a_breaker_is_foretold(runs, root, look, now):
    run = runs[OLD]
    for number in range(25):
        run.pk, run.run_path, run.identity = None, f"{OLD}-{number}", f"{number}"
        run._state.adding = True
        run.save()
    shown = look(mode="scheduled", retain_hours=24)
    assert any("more than 50%" in sight for sight in shown.then.sights)
    assert look(mode="scheduled", retain_hours=24, max_share=1).then.sights != shown.then.sights
    sweep = Sweep.objects.create(root=root, kind="timed", host="h", now=now, started_at=now)
    breakers.open_breaker(sweep, breakers.sights_of(SweepBreaker(saw={"sights": [_sight()]})), now=now)
    assert look(mode="scheduled", retain_hours=24).stopped == [root]


def _sight():
    return {"kind": "share", "detail": "much", "runs": 1, "bytes": 1, "version": 0}


def test_the_digest_stands_for_what_goes_and_for_what_is_written(runs, look, policy, now):
    shown = look(mode="scheduled", retain_hours=24)
    assert look(mode="scheduled", retain_hours=24).digest == shown.digest
    assert look(mode="scheduled", retain_hours=25).digest != shown.digest
    assert look(mode="scheduled", retain_hours=24, rehearse=True).digest != shown.digest
    policy(equipment="NOWHERE", mode="manual")
    assert look(mode="scheduled", retain_hours=24).digest == shown.digest
    holds.hold(runs[OLD], owner="ada", reason="needed", until=now + DAY, now=now)
    assert look(mode="scheduled", retain_hours=24).digest != shown.digest


def test_more_runs_than_are_weighed_are_said_to_be_more(runs, look, monkeypatch):
    monkeypatch.setattr(policy_preview, "LOOKED_AT", 2)
    shown = look(mode="scheduled", retain_hours=24)
    assert shown.cut
    assert len(shown.then.going) == 2
    shown = look(mode="scheduled", retain_hours=24, equipment="FLOW_01", run_kind="test")
    assert not shown.cut
    assert paths(shown.then.going) == {OLD}


def test_nothing_is_written_and_no_more_is_asked_for_more_runs(runs, look, django_assert_max_num_queries):
    with django_assert_max_num_queries(48):  # two of them ask what went in the last 24 hours
        look(mode="scheduled", retain_hours=24)
    assert not RetentionPolicy.objects.exists()
