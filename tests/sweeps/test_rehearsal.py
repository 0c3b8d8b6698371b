"""Surprises, promotion, the way back, and the comparison with operators' clears."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection, transaction

from cleanup import clear_run
from cleanup.lab import policy_versions
from cleanup.lab.policy_versions import Superseded
from cleanup.models import (
    ClearAttempt,
    Hold,
    Outcome,
    Phase,
    Requester,
    RetentionPolicy,
    Run,
    RunWord,
    StagingRoot,
    Surprise,
    Sweep,
    SweepKind,
    SweptRun,
)
from cleanup.rules.policies.policy import Policy
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.sweeps import all_roots, rehearsal, rehearsed_runs
from cleanup.sweeps.rehearsed_runs import Became
from tests.tools.lab import RUN_PATH, Lab, touch

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

HOUR, NIGHT = timedelta(hours=1), timedelta(days=1)
OTHER = "FLOW_01/PROJ-0060/Runs/Run_2026-05-28T16-20"
THIRD = "FLOW_01/PROJ-0060/Runs/Run_2026-05-29T16-20"

RUN_PATHS = (RUN_PATH, OTHER, THIRD)
Rehearse = Callable[..., Sweep]


@pytest.fixture
def rehearsed(policy: Any) -> RetentionPolicy:
    version: RetentionPolicy = policy(mode="scheduled", retain_hours=168)
    assert version.rehearsal == "rehearsing"
    return version


@pytest.fixture
def runs(lab: Lab, root: StagingRoot, now: datetime) -> dict[str, Run]:
    for path in RUN_PATHS:
        lab.run(path)
    return look(root, now)


def look(root: StagingRoot, now: datetime) -> dict[str, Run]:
    discovery.discover(root, now=now)
    return {run.run_path: run for run in Run.objects.with_root()}


@pytest.fixture
def a_pass(root: StagingRoot) -> Rehearse:
    def add(at: datetime, *runs: Run, outcome: str = Outcome.DONE, **left_alone: Run) -> Sweep:
        newest = RetentionPolicy.objects.order_by("-version").first()
        version = newest.version if newest else 0
        sweep = Sweep.objects.create(
            root=root,
            kind=SweepKind.TIMED,
            outcome=outcome,
            host="h",
            now=at,
            started_at=at,
            policy_version=version,
            scanned=len(RUN_PATHS),
        )
        common = {"root": root, "kind": SweepKind.TIMED, "first": sweep, "last": sweep, "policy_version": version}
        for run in runs:
            said = {"action": "would_clear", "reason": Reason.REHEARSAL, "files": run.files, "bytes": run.bytes}
            SweptRun.objects.create(run=run, **said, **common)
        for reason, run in left_alone.items():
            SweptRun.objects.create(run=run, action="skipped", reason=reason, detail="seen", **common)
        return sweep

    return add


def hold(run: Run, now: datetime, until: timedelta = NIGHT) -> Hold:
    return Hold.objects.create(run=run, owner="ada", reason="needed", created_at=now, until=now + until)


def surprises(root: StagingRoot, now: datetime) -> dict[str, str]:
    return {
        run.run_path: finding.reason for run, _version, finding in rehearsed_runs.surprises_since_rehearsal(root, now)
    }


# Surprises


def test_unchanged_runs_are_no_surprise(
    root: StagingRoot, runs: dict[str, Run], rehearsed: RetentionPolicy, a_pass: Rehearse, now: datetime
) -> None:
    a_pass(now, *runs.values())
    look(root, now + HOUR)
    assert surprises(root, now + HOUR) == {}


def test_what_people_and_disks_do_to_a_run_is_a_surprise(
    lab: Lab, root: StagingRoot, runs: dict[str, Run], rehearsed: RetentionPolicy, a_pass: Rehearse, now: datetime
) -> None:
    a_pass(now, *runs.values())
    hold(runs[RUN_PATH], now)
    added = lab.staging / OTHER / "notes.txt"
    added.write_text("late")
    touch(added, now - NIGHT)
    (lab.twin(THIRD) / "README.md").unlink()
    look(root, now + HOUR)
    assert surprises(root, now + HOUR) == {
        RUN_PATH: Reason.HELD,
        OTHER: Reason.NOT_IN_MANIFEST,
        THIRD: Reason.NAS_MISSING_FILE,
    }


def test_data_written_since_is_a_surprise_and_data_touched_before_is_none(
    lab: Lab, root: StagingRoot, runs: dict[str, Run], rehearsed: RetentionPolicy, a_pass: Rehearse, now: datetime
) -> None:
    touch(lab.staging / OTHER / "README.md", now - HOUR)
    a_pass(now, runs[RUN_PATH], runs[OTHER])
    touch(lab.staging / RUN_PATH / "README.md", now + HOUR)
    look(root, now + 2 * HOUR)
    assert surprises(root, now + 2 * HOUR) == {RUN_PATH: Reason.CHANGED_SINCE_VERIFICATION}


def test_a_nas_that_is_away_is_no_surprise(
    lab: Lab, root: StagingRoot, runs: dict[str, Run], rehearsed: RetentionPolicy, a_pass: Rehearse, now: datetime
) -> None:
    a_pass(now, *runs.values())
    lab.nas.rename(lab.base / "away")
    lab.nas.mkdir()
    look(root, now + HOUR)
    assert surprises(root, now + HOUR) == {}


def test_a_run_that_a_person_cleared_proves_the_rehearsal_right(
    root: StagingRoot, runs: dict[str, Run], rehearsed: RetentionPolicy, a_pass: Rehearse, now: datetime
) -> None:
    a_pass(now, *runs.values())
    Run.objects.filter(pk=runs[RUN_PATH].pk).update(state="cleared", cleared_at=now)
    hold(runs[RUN_PATH], now)
    assert surprises(root, now + HOUR) == {}


def test_what_the_next_pass_found_is_a_surprise_even_if_it_is_over(
    root: StagingRoot, runs: dict[str, Run], rehearsed: RetentionPolicy, a_pass: Rehearse, now: datetime
) -> None:
    a_pass(now, runs[RUN_PATH], runs[OTHER])
    a_pass(now + HOUR, nas_size_mismatch=runs[RUN_PATH], nas_timeout=runs[OTHER])
    assert surprises(root, now + 2 * HOUR) == {RUN_PATH: Reason.NAS_SIZE_MISMATCH}
    a_pass(now + 2 * HOUR, runs[RUN_PATH])
    assert surprises(root, now + 3 * HOUR) == {}  # it is said again, so the rehearsal has seen it right since


def test_a_run_that_no_rehearsal_would_have_taken_is_no_surprise(
    root: StagingRoot, runs: dict[str, Run], rehearsed: RetentionPolicy, a_pass: Rehearse, now: datetime
) -> None:
    a_pass(now, runs[OTHER])
    hold(runs[RUN_PATH], now)
    assert surprises(root, now + HOUR) == {}


def test_a_surprise_is_the_affair_of_the_version_that_was_rehearsed(
    root: StagingRoot, runs: dict[str, Run], policy: Any, a_pass: Rehearse, now: datetime
) -> None:
    flow = policy(equipment="FLOW_01", mode="scheduled", retain_hours=1)
    confocal = policy(equipment="CONFOCAL_01", mode="scheduled", retain_hours=1)
    policy(project="PROJ-9999", mode="manual")
    a_pass(now, *runs.values())
    hold(runs[OTHER], now)
    found = list(rehearsed_runs.surprises_since_rehearsal(root, now))
    assert [(run.run_path, version) for run, version, _finding in found] == [(OTHER, flow.version)]
    assert rehearsed_runs.comparison(confocal, now)[0].run == runs[RUN_PATH]


def test_a_limit_is_rehearsed_only_by_the_runs_that_pressure_took(
    root: StagingRoot, runs: dict[str, Run], policy: Any, a_pass: Rehearse, now: datetime
) -> None:
    promoted = policy(mode="scheduled", retain_hours=24 * 30, min_retain_hours=1, stage="promoted")
    limit = policy(root=root, max_runs=1)
    a_pass(now, *runs.values())  # the first is two months old, the others two and a half weeks
    compared = rehearsed_runs.comparison(limit, now)
    assert {one.run.run_path for one in compared} == {OTHER, THIRD}
    assert rehearsed_runs.comparison(promoted, now) == []


def test_noting_a_surprise_twice_is_harmless(runs: dict[str, Run], rehearsed: RetentionPolicy, now: datetime) -> None:
    run = runs[RUN_PATH]
    assert rehearsal.note_surprise(run, [1, 2], Reason.HELD, "by ada", now)
    assert not rehearsal.note_surprise(run, [1, 2], Reason.HELD, "by ada", now + HOUR)
    assert rehearsal.note_surprise(run, [2, 3], Reason.HELD, "by ada", now + HOUR)
    assert sorted(Surprise.objects.values_list("policy_version", flat=True)) == [1, 2, 3]


# What only a clear finds


@pytest.mark.parametrize(
    ("phase", "reason", "surprising"),
    [
        (Phase.REFUSED, Reason.NAS_CHECKSUM_MISMATCH, True),
        (Phase.REFUSED, Reason.CHANGED_SINCE_VERIFICATION, True),
        (Phase.CONFLICT, Reason.PATH_OCCUPIED, True),
        (Phase.REFUSED, Reason.NAS_TIMEOUT, False),
        (Phase.REFUSED, Reason.STORAGE_ERROR, False),
        (Phase.ABORTED, Reason.INTERRUPTED, False),
        (Phase.DONE, "", False),
    ],
)
def test_what_a_clear_finds_is_noted_for_promoted_versions(
    runs: dict[str, Run], now: datetime, phase: str, reason: str, surprising: bool
) -> None:
    attempt = ClearAttempt.objects.create(
        run=runs[RUN_PATH],
        phase=phase,
        reason=reason,
        host="h",
        requester=Requester.SCHEDULE,
        actor="",
        created_at=now,
        phase_at=now,
    )
    assert not rehearsal.note_refusal(attempt, Policy(rehearsing=(1,), unrehearsed=(2,)), now)
    assert rehearsal.note_refusal(attempt, Policy(promoted=(3, 4)), now) is surprising
    assert sorted(Surprise.objects.values_list("policy_version", flat=True)) == ([3, 4] if surprising else [])
    # A known surprise is none again: one bad run must not send the policy back for ever.
    assert not rehearsal.note_refusal(attempt, Policy(promoted=(6,)), now + NIGHT)


@pytest.mark.parametrize(("cause", "versions"), [("max_runs", [1, 2]), ("retention+max_runs", [1]), ("retention", [1])])
def test_a_limit_goes_back_by_what_was_taken_for_it_alone(
    root: StagingRoot, runs: dict[str, Run], policy: Any, now: datetime, cause: str, versions: list[int]
) -> None:
    policy(mode="scheduled", retain_hours=168, stage="promoted")
    limit = policy(root=root, max_runs=1, stage="promoted")
    policy(root=root, equipment="CONFOCAL_01", retain_hours=1, stage="promoted")
    attempt = ClearAttempt.objects.create(
        run=runs[OTHER],
        phase=Phase.REFUSED,
        reason=Reason.NAS_CHECKSUM_MISMATCH,
        cause=cause,
        host="h",
        requester=Requester.SCHEDULE,
        actor="",
        created_at=now,
        phase_at=now,
    )
    assert rehearsal.note_refusal(attempt, RetentionPolicy.objects.effective_for(runs[OTHER]), now)
    assert sorted(Surprise.objects.values_list("policy_version", flat=True)) == versions
    sent_back = {version.scope for version in rehearsal.settle(now).sent_back}
    assert (limit.scope in sent_back) is (limit.version in versions)


# Promotion


def test_promoted_after_its_clean_nights_and_not_before(
    root: StagingRoot, runs: dict[str, Run], rehearsed: RetentionPolicy, a_pass: Rehearse, now: datetime
) -> None:
    for night in range(3):
        at = now + night * NIGHT + HOUR
        a_pass(at, *runs.values())
        assert rehearsal.settle(at) == rehearsal.Settled()
        assert rehearsal.nights_of(rehearsed, at) == night
    (promoted,) = rehearsal.settle(now + 3 * NIGHT).promoted
    assert (promoted.rehearsal, promoted.author, promoted.note) == ("promoted", "schedule", "after 3 clean nights")
    assert (promoted.version, promoted.mode, promoted.retain_hours) == (rehearsed.version + 1, "scheduled", 168)
    assert promoted.created_at == now + 3 * NIGHT
    assert RetentionPolicy.objects.effective_for(runs[RUN_PATH]).rehearsing == ()
    assert rehearsal.settle(now + 4 * NIGHT) == rehearsal.Settled()


def test_a_night_without_a_pass_or_with_a_stopped_one_shows_nothing(
    root: StagingRoot, rehearsed: RetentionPolicy, a_pass: Rehearse, now: datetime
) -> None:
    for night, outcome in enumerate((Outcome.STOPPED, Outcome.INTERRUPTED, Outcome.RUNNING)):
        a_pass(now + night * NIGHT + HOUR, outcome=outcome)
    Sweep.objects.create(
        root=root, kind=SweepKind.TYPED, outcome=Outcome.DONE, host="h", now=now, started_at=now + HOUR
    )
    assert rehearsal.nights_of(rehearsed, now + 9 * NIGHT) == 0
    assert rehearsal.settle(now + 9 * NIGHT).promoted == []


def test_passes_over_another_root_are_no_nights_of_this_one(
    root: StagingRoot, runs: dict[str, Run], policy: Any, a_pass: Rehearse, now: datetime
) -> None:
    """A lab-wide version counts the root with the fewest nights; roots without runs do not count."""
    other = StagingRoot.objects.create(name="second", host="elsewhere", path="/second")
    theirs = policy(root=other, mode="scheduled", rehearsal_nights=1)
    lab_wide = policy(mode="scheduled", rehearsal_nights=1)
    a_pass(now + HOUR)
    assert rehearsal.nights_of(theirs, now + NIGHT) == 0
    assert rehearsal.nights_of(lab_wide, now + NIGHT) == 1
    known = Run.objects.filter(pk=runs[RUN_PATH].pk).values().get()
    Run.objects.create(**{**known, "id": None, "root_id": other.pk})
    assert rehearsal.nights_of(lab_wide, now + NIGHT) == 0
    assert lab_wide not in rehearsal.settle(now + NIGHT, root).promoted
    assert RetentionPolicy.objects.count() == 2
    RunWord.objects.filter(run__root=other).delete()
    Run.objects.filter(root=other).delete()
    assert rehearsal.settle(now + NIGHT, other).promoted[0].note == "after 1 clean night"


def test_passes_over_a_disk_that_was_not_there_are_no_nights(
    root: StagingRoot, runs: dict[str, Run], rehearsed: RetentionPolicy, a_pass: Rehearse, now: datetime
) -> None:
    for night in range(4):
        a_pass(now + night * NIGHT + HOUR)
    assert rehearsal.nights_of(rehearsed, now + 4 * NIGHT) == 4
    Sweep.objects.update(reason="root_not_mounted")
    assert rehearsal.nights_of(rehearsed, now + 4 * NIGHT) == 0


def test_none_is_promoted_by_itself_that_only_a_person_may(
    policy: Any, a_pass: Rehearse, now: datetime, root: StagingRoot
) -> None:
    policy(mode="scheduled", rehearsal_nights=0)
    for night in range(10):
        a_pass(now + night * NIGHT)
    assert rehearsal.settle(now + 10 * NIGHT).promoted == []


def test_a_surprise_begins_the_nights_anew(
    root: StagingRoot, runs: dict[str, Run], rehearsed: RetentionPolicy, a_pass: Rehearse, now: datetime
) -> None:
    for hour in range(0, 24 * 6, 6):
        a_pass(now + hour * HOUR, *runs.values())
    hold(runs[RUN_PATH], now + 2 * NIGHT, until=2 * NIGHT)
    at = now + 2 * NIGHT + HOUR
    Sweep.objects.filter(started_at__gt=at).update(outcome=Outcome.RUNNING)
    assert rehearsal.settle(at).promoted == []
    (surprise,) = Surprise.objects.all()
    assert (surprise.policy_version, surprise.run, surprise.at) == (rehearsed.version, runs[RUN_PATH], at)
    Sweep.objects.update(outcome=Outcome.DONE)
    assert rehearsal.settle(at + 3 * NIGHT - HOUR).promoted == []
    assert len(rehearsal.settle(at + 3 * NIGHT).promoted) == 1


def test_a_promoted_version_goes_back_after_a_surprise_and_only_once(
    root: StagingRoot, runs: dict[str, Run], rehearsed: RetentionPolicy, a_pass: Rehearse, now: datetime
) -> None:
    promoted = rehearsal.promote(rehearsed, "ada", now, note="looks right")
    rehearsal.note_surprise(runs[OTHER], [promoted.version], Reason.NAS_CHECKSUM_MISMATCH, "a.tif", now + HOUR)
    (back,) = rehearsal.settle(now + HOUR).sent_back
    assert (back.rehearsal, back.author) == ("rehearsing", "schedule")
    assert back.note == f"{OTHER}: nas_checksum_mismatch a.tif"
    assert (back.mode, back.retain_hours) == ("scheduled", 168)
    assert rehearsal.settle(now + 2 * HOUR) == rehearsal.Settled()
    assert RetentionPolicy.objects.effective_for(runs[OTHER]).rehearsing == (back.version,)


def test_a_person_promotes_and_sends_back(rehearsed: RetentionPolicy, now: datetime) -> None:
    promoted = rehearsal.promote(rehearsed, "ada", now, note="looks right")
    assert (promoted.rehearsal, promoted.author, promoted.note) == ("promoted", "ada", "looks right")
    back = rehearsal.send_back(promoted, "bob", "not yet", now + HOUR)
    assert (back.rehearsal, back.author, back.note, back.created_at) == ("rehearsing", "bob", "not yet", now + HOUR)
    assert RetentionPolicy.objects.count() == 3


def test_only_the_version_in_force_is_promoted(rehearsed: RetentionPolicy, policy: Any, now: datetime) -> None:
    newer = policy(mode="scheduled", retain_hours=1)
    with pytest.raises(Superseded, match="followed by version 2"):
        rehearsal.promote(rehearsed, "ada", now)
    with pytest.raises(Superseded, match="followed by version 2"):
        rehearsal.send_back(_promoted(rehearsed), "ada", "", now)
    assert rehearsal.promote(newer, "ada", now).version == 3
    with pytest.raises(Superseded):
        rehearsal.promote(newer, "ada", now)
    with pytest.raises(Superseded, match="is promoted"):
        rehearsal.promote(RetentionPolicy.objects.get(version=3), "ada", now)
    assert RetentionPolicy.objects.count() == 3


def _promoted(version: RetentionPolicy) -> RetentionPolicy:
    version.rehearsal = "promoted"  # in memory alone
    return version


@pytest.mark.both_engines
def test_a_version_written_in_between_stops_a_promotion(
    rehearsed: RetentionPolicy, policy: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = policy_versions.add_version

    def another_is_faster(**fields: Any) -> RetentionPolicy:
        monkeypatch.undo()
        original(author="bob", now=now, mode="manual")
        return original(**fields)

    monkeypatch.setattr(policy_versions, "add_version", another_is_faster)
    with pytest.raises(Superseded, match="version 2 was written meanwhile"), transaction.atomic():
        rehearsal.promote(rehearsed, "ada", now)
    assert RetentionPolicy.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_one_of_many_promotions_at_once_is_first(rehearsed: RetentionPolicy, now: datetime) -> None:
    def promote(author: int) -> str:
        try:
            return str(rehearsal.promote(rehearsed, str(author), now).author)
        except Superseded:
            return "too late"
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(promote, range(4)))
    assert said.count("too late") == 3
    assert [version.version for version in RetentionPolicy.objects.order_by("version")] == [1, 2]
    assert RetentionPolicy.objects.get(version=2).author in said


@pytest.mark.django_db(transaction=True)
def test_a_number_taken_by_another_process_in_between_is_too_late(
    rehearsed: RetentionPolicy, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite lets one write at a time: nobody comes in between")
    original = RetentionPolicy.full_clean

    def another_process() -> None:
        try:
            policy_versions.add_version(author="bob", now=now, mode="manual")
        finally:
            connection.close()

    def after_another(self: RetentionPolicy, **options: Any) -> None:
        monkeypatch.setattr(RetentionPolicy, "full_clean", original)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(another_process).result(timeout=20)
        original(self, **options)

    monkeypatch.setattr(RetentionPolicy, "full_clean", after_another)
    with pytest.raises(Superseded, match="at the same moment"):
        rehearsal.promote(rehearsed, "ada", now)
    assert [version.author for version in RetentionPolicy.objects.filter(version__gt=1)] == ["bob"]


# The comparison


def test_the_comparison_says_what_became_of_every_run(
    lab: Lab, root: StagingRoot, policy: Any, a_pass: Rehearse, now: datetime
) -> None:
    paths = {
        became: f"CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-{day:02}T14-32"
        for day, became in enumerate([*Became, "nothing"], 1)
        if became is not Became.CLEARED_BY_SCHEDULE
    }
    for path in paths.values():
        lab.run(path)
    runs = look(root, now)
    version = policy(mode="scheduled", retain_hours=24)
    would = {became: runs[path] for became, path in paths.items() if became != "nothing"}
    a_pass(now, *would.values())
    a_pass(now + HOUR, would[Became.STILL_THERE])

    hold(would[Became.HELD], now)
    (lab.staging / paths[Became.CHANGED] / "notes.txt").write_text("late")
    (lab.twin(paths[Became.LOST_TWIN]) / "README.md").write_text("short")
    (lab.staging / paths[Became.GONE]).rename(lab.base / "elsewhere")
    look(root, now + 2 * HOUR)
    attempt = ClearAttempt.objects.create(
        run=would[Became.CLEARED_BY_PERSON],
        phase=Phase.DONE,
        host="h",
        requester=Requester.OPERATOR,
        actor="ada",
        created_at=now,
        phase_at=now,
    )
    Run.objects.filter(pk=attempt.run_id).update(state="cleared", cleared_at=now + HOUR)

    compared = {one.run.run_path: one for one in rehearsed_runs.comparison(version, now + 2 * HOUR)}
    assert {path: one.became for path, one in compared.items()} == {
        path: became for became, path in paths.items() if became != "nothing"
    }
    by_person = compared[paths[Became.CLEARED_BY_PERSON]]
    assert (by_person.by, by_person.at) == ("ada", now + HOUR)
    there = compared[paths[Became.STILL_THERE]]
    assert (there.said_at, there.files, there.bytes) == (now, there.run.files, there.run.bytes)
    assert compared[paths[Became.LOST_TWIN]].reason == Reason.NAS_SIZE_MISMATCH


def test_a_surprise_is_told_even_after_it_is_over(
    root: StagingRoot, runs: dict[str, Run], rehearsed: RetentionPolicy, a_pass: Rehearse, now: datetime
) -> None:
    a_pass(now, *runs.values())
    pin = hold(runs[RUN_PATH], now)
    rehearsal.settle(now + HOUR)
    Hold.objects.filter(pk=pin.pk).update(released_at=now + HOUR)
    compared = {one.run.run_path: one for one in rehearsed_runs.comparison(rehearsed, now + 2 * HOUR)}
    assert (compared[RUN_PATH].became, compared[RUN_PATH].at) == (Became.HELD, now + HOUR)
    assert compared[OTHER].became is Became.STILL_THERE


def test_the_comparison_ends_with_the_version(
    runs: dict[str, Run], rehearsed: RetentionPolicy, policy: Any, a_pass: Rehearse, now: datetime
) -> None:
    a_pass(now, runs[RUN_PATH])
    later = policy(retain_hours=24)
    a_pass(now + HOUR, runs[OTHER])
    assert [one.run for one in rehearsed_runs.comparison(rehearsed, now)] == [runs[RUN_PATH]]
    assert [one.run for one in rehearsed_runs.comparison(later, now)] == [runs[OTHER]]


# With the sweep itself


@pytest.mark.django_db(transaction=True)
def test_what_is_left_to_a_wider_scope_again_is_rehearsed_first(
    lab: Lab, root: StagingRoot, runs: dict[str, Run], policy: Any, now: datetime
) -> None:
    """The instrument's manual policy is taken back, and the lab's schedule would take its runs at once."""
    policy(mode="scheduled", retain_hours=24, max_share=1.0, stage="promoted")
    policy(mode="manual", equipment="FLOW_01")
    let_go = policy(mode="", equipment="FLOW_01")
    assert let_go.rehearsal == "rehearsing"
    all_roots.sweep(now=now, timed=True, roots=[root])
    assert {run.run_path for run in Run.objects.staged()} == {OTHER, THIRD}
    assert {one.run.run_path for one in rehearsed_runs.comparison(let_go, now)} == {OTHER, THIRD}


@pytest.mark.django_db(transaction=True)
def test_a_real_pass_rehearses_and_a_person_clears(
    root: StagingRoot, runs: dict[str, Run], rehearsed: RetentionPolicy, now: datetime
) -> None:
    swept = all_roots.sweep(now=now, timed=True, roots=[root])
    assert {(run.action, run.reason) for run in swept.runs} == {("would_clear", "rehearsal")}
    clear_run(runs[RUN_PATH], actor="ada", now=now + HOUR)
    compared = {one.run.run_path: one.became for one in rehearsed_runs.comparison(rehearsed, now + HOUR)}
    assert compared == {
        RUN_PATH: Became.CLEARED_BY_PERSON,
        OTHER: Became.STILL_THERE,
        THIRD: Became.STILL_THERE,
    }
    assert surprises(root, now + HOUR) == {}


@pytest.mark.exhaustive
@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_from_the_first_night_to_the_first_clear_and_back_to_rehearsal(
    lab: Lab, root: StagingRoot, runs: dict[str, Run], policy: Any, now: datetime
) -> None:
    """Real passes, every twelve hours: three nights of rehearsal, then due runs go, except one with a damaged
    twin.
    """
    policy(mode="scheduled", retain_hours=24, max_share=1.0)
    rotten = lab.twin(OTHER) / "README.md"
    as_it_was = rotten.stat()
    rotten.write_bytes(rotten.read_bytes()[::-1])  # the same name and size: a rehearsal cannot see it
    os.utime(rotten, ns=(as_it_was.st_atime_ns, as_it_was.st_mtime_ns))
    stages = []
    for half in range(8):
        at = now + half * NIGHT / 2
        with time_machine.travel(at, tick=False):
            look(root, at)
            all_roots.sweep(now=at, timed=True, roots=[root])
        newest = RetentionPolicy.objects.latest("version")
        stages.append((newest.rehearsal, Run.objects.filter(state="cleared").count()))
    assert stages == [("rehearsing", 0)] * 6 + [("promoted", 0), ("rehearsing", 2)]
    assert {run.run_path for run in Run.objects.staged()} == {OTHER}
    assert (lab.staging / OTHER).is_dir()
    newest = RetentionPolicy.objects.latest("version")
    assert newest.note.startswith(f"{OTHER}: nas_checksum_mismatch")
    assert [version.author for version in RetentionPolicy.objects.order_by("version")] == [
        "admin",
        "schedule",
        "schedule",
    ]
