"""What a promotion covers: new roots, changed policies, set clocks."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.core.management import call_command

from cleanup.clears.report import ClearReport
from cleanup.lab import policy_versions
from cleanup.lab.policy_versions import Superseded
from cleanup.lab.roots import first_nights, registration
from cleanup.models import (
    ClearAttempt,
    LedgerEntry,
    RetentionPolicy,
    RootNote,
    Run,
    StagingRoot,
    Surprise,
    Sweep,
    SweepKind,
    SweptRun,
)
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.moved_or_gone import reregistration
from cleanup.sweeps import all_roots, rehearsal
from tests.tools.lab import Lab

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

HOUR, NIGHT = timedelta(hours=1), timedelta(days=1)
WEEK = 168


def old(lab: Lab, number: int, age: timedelta, now: datetime, *, equipment: str = "FLOW_01") -> str:
    at = now - age
    path = f"{equipment}/PROJ-0001/Runs/Run_{at - 2 * HOUR:%Y-%m-%dT%H-%M}-{number:02}"
    lab.run(path, files={"a.bin": b"%d" % number}, verified_at=at)
    return path


@pytest.fixture
def first(lab: Lab, root: StagingRoot, now: datetime) -> dict[int, str]:
    paths = {days: old(lab, days, days * NIGHT + HOUR, now) for days in (3, 6, 8, 12, 20)}
    discovery.discover(root, now=now)
    return paths


@pytest.fixture
def write(now: datetime) -> Callable[..., RetentionPolicy]:
    def add(*, at: datetime = now, **fields: Any) -> RetentionPolicy:
        return policy_versions.add_version(author="ada", now=at, **fields)

    return add


@pytest.fixture
def promoted(first: dict[int, str], write: Any, now: datetime) -> RetentionPolicy:
    return rehearsal.promote(write(mode="scheduled", retain_hours=WEEK, proof="size"), "ada", now)


def night(at: datetime) -> ClearReport:
    with time_machine.travel(at, tick=False):
        for each in StagingRoot.objects.all():
            discovery.discover(each, now=at)
        return all_roots.sweep(now=at, timed=True)


def went(swept: ClearReport) -> set[str]:
    return {run.run_path for run in swept.runs if run.action == "cleared"}


def rehearsed(swept: ClearReport) -> set[str]:
    return {run.run_path for run in swept.runs if run.reason == Reason.REHEARSAL}


def stages() -> list[tuple[int, str]]:
    return list(RetentionPolicy.objects.order_by("version").values_list("version", "rehearsal"))


def second_pc(lab: Lab, now: datetime, name: str = "second") -> tuple[StagingRoot, Lab]:
    other = Lab(lab.base / name)
    root = registration.register(
        name, str(other.staging), nas_path=str(other.nas), allow_same_filesystem=True, accept_empty=True, now=now
    )
    return root, other


# Roots


@pytest.mark.both_engines
@pytest.mark.exhaustive
@pytest.mark.parametrize("runs", [5, pytest.param(300, marks=pytest.mark.timeout(900))])
def test_an_archive_goes_when_its_first_nights_are_over(
    lab: Lab, root: StagingRoot, write: Any, now: datetime, runs: int
) -> None:
    """Takes one to four minutes with 300 runs."""
    for number in range(runs):
        old(lab, number % 100, timedelta(days=10 + 3 * number), now)
    write(mode="scheduled", retain_hours=WEEK, proof="size")
    for passed in range(3):
        swept = night(now + passed * NIGHT + HOUR)
        assert went(swept) == set()
        assert len(rehearsed(swept)) == runs
    assert stages() == [(1, "rehearsing")]
    night(now + 3 * NIGHT)
    assert stages() == [(1, "rehearsing"), (2, "promoted")]
    assert not first_nights.waiting(now + 3 * NIGHT), "these nights were the root's own"
    swept = night(now + 3 * NIGHT + HOUR)
    assert len(went(swept)) == runs or swept.count("skipped") == runs  # type: ignore[arg-type]
    assert bool(went(swept)) is (runs <= 20), "of a whole archive the breaker asks first"


@pytest.mark.both_engines
def test_a_second_pc_rehearses_its_own_first_nights(
    lab: Lab, first: dict[int, str], promoted: RetentionPolicy, now: datetime
) -> None:
    """Four nights over two small roots: takes 2 s."""
    second, other = second_pc(lab, now)
    theirs = {old(other, number, timedelta(days=30 + number), now, equipment="FLOW_02") for number in range(2)}
    swept = night(now + HOUR)
    assert went(swept) == {first[8], first[12], first[20]}, "the first PC's still go"
    assert rehearsed(swept) == theirs
    for passed in (1, 2):
        swept = night(now + passed * NIGHT + HOUR)
        assert not went(swept).intersection(theirs)
        assert rehearsed(swept) == theirs
    (waiting,) = first_nights.waiting(now + 3 * NIGHT - HOUR)
    assert (waiting.root, waiting.versions, waiting.nights, waiting.wanted) == (second, (promoted.version,), 2, 3)
    night(now + 3 * NIGHT)
    assert not first_nights.waiting(now + 3 * NIGHT)
    assert RootNote.objects.latest("pk").note == "after 3 clean nights"
    assert stages() == [(1, "rehearsing"), (2, "promoted")], "nothing of the policy has changed"
    assert theirs <= went(night(now + 3 * NIGHT + HOUR))


@pytest.mark.exhaustive
def test_a_surprise_there_begins_its_nights_anew_and_is_no_affair_of_the_first_pc(
    lab: Lab, first: dict[int, str], promoted: RetentionPolicy, now: datetime
) -> None:
    second, other = second_pc(lab, now)
    path = old(other, 1, 30 * NIGHT, now, equipment="FLOW_02")
    night(now + HOUR)
    (other.twin(path) / "a.bin").unlink()
    for passed in (0.5, 1, 2, 2.6):
        night(now + passed * NIGHT + HOUR)
    assert RootNote.objects.filter(root=second, event="surprise").count() == 1
    assert not Surprise.objects.exists()
    assert stages()[-1] == (2, "promoted")
    (waiting,) = first_nights.waiting(now + 2.6 * NIGHT + HOUR)
    assert waiting.nights == 2, "since the surprise"


@pytest.mark.exhaustive
def test_a_person_ends_the_first_nights_and_only_once(
    lab: Lab, first: dict[int, str], promoted: RetentionPolicy, now: datetime
) -> None:
    second, other = second_pc(lab, now)
    path = old(other, 1, 30 * NIGHT, now, equipment="FLOW_02")
    night(now + HOUR)
    rehearsal.promote_root(second, "ada", now + HOUR, note="looks right")
    with pytest.raises(Superseded, match="is not in its first nights"):
        rehearsal.promote_root(second, "bob", now + HOUR)
    note = RootNote.objects.filter(root=second).latest("pk")
    assert (note.event, note.author, note.note) == ("over", "ada", "looks right")
    assert went(night(now + 2 * HOUR)) == {path}


def test_promoting_another_version_with_the_root_in_sight_covers_it(
    lab: Lab, first: dict[int, str], promoted: RetentionPolicy, write: Any, now: datetime
) -> None:
    _second, other = second_pc(lab, now)
    path = old(other, 1, 30 * NIGHT, now, equipment="FLOW_02")
    flow = write(equipment="FLOW_02", mode="scheduled", retain_hours=WEEK, proof="size")
    night(now + HOUR)
    rehearsal.promote(flow, "ada", now + HOUR)
    assert path in went(night(now + 2 * HOUR)), "of that instrument all is said by its own policy"
    assert first_nights.waiting(now + 2 * HOUR), "and of others nothing is approved there"


def test_one_that_had_no_runs_while_a_version_earned_its_nights_is_not_covered(
    lab: Lab, first: dict[int, str], write: Any, now: datetime
) -> None:
    _second, other = second_pc(lab, now)
    write(mode="scheduled", retain_hours=WEEK, proof="size", rehearsal_nights=1)
    for passed in (0, 1):
        night(now + passed * NIGHT + HOUR)
    assert stages()[-1] == (2, "promoted")
    path = old(other, 1, 30 * NIGHT, now, equipment="FLOW_02")
    swept = night(now + 2 * NIGHT)
    assert path in rehearsed(swept)
    assert first[8] in went(swept)


def test_a_root_from_before_all_that_was_written_down_is_covered(
    first: dict[int, str], root: StagingRoot, write: Any, now: datetime
) -> None:
    write(mode="scheduled", retain_hours=WEEK, proof="size", stage="promoted")
    assert went(night(now + HOUR)) == {first[8], first[12], first[20]}
    assert list(RootNote.objects.values_list("root", "event", "policy_version")) == [(root.pk, "came", 0)]


def test_what_makes_a_root_new(lab: Lab, root: StagingRoot, promoted: RetentionPolicy, now: datetime) -> None:
    """Registering the same place again does not; another NAS does, and another place even with the token."""

    def notes() -> list[str]:
        return list(RootNote.objects.filter(root=root).order_by("pk").values_list("note", flat=True))

    known = {"nas_path": str(lab.nas), "allow_same_filesystem": True}
    registration.register("lab", str(lab.staging), **known, now=now + HOUR)
    assert notes() == ["it was registered"]
    own = lab.base / "nas-of-flow"
    own.mkdir()
    (own / "seen").write_text("")
    registration.register("lab", str(lab.staging), **known, instrument_nas={"FLOW_01": str(own)}, now=now + HOUR)
    assert notes() == ["it was registered", "its NAS is another one"]
    lab.staging.rename(lab.base / "elsewhere")
    order = reregistration.RegisterOrder(now=now + HOUR, actor="ada")
    reregistration.reregister_root(StagingRoot.objects.get(), order, path=str(lab.base / "elsewhere"))
    assert notes()[2:] == ["it was registered in another place"]
    reregistration.reregister_root(StagingRoot.objects.get(), order)
    assert len(notes()) == 3
    assert first_nights.waiting(now + HOUR)[0].root == root


def test_registration_says_so(
    lab: Lab, first: dict[int, str], promoted: RetentionPolicy, capsys: pytest.CaptureFixture[str]
) -> None:
    (lab.base / "second").mkdir()
    (lab.base / "second" / "seen").write_text("")
    call_command("add_staging_root", "second", str(lab.base / "second"), as_json := "--json")
    said = json.loads(capsys.readouterr().out)["first_nights"]
    assert (said["root"], said["versions"], said["nights"], said["wanted"]) == ("second", [2], 0, 3)
    call_command("add_staging_root", "second", str(lab.base / "second"))
    assert (
        "second is new: until 3 clean nights are over, the schedule takes nothing there by policy version"
        in capsys.readouterr().out
    )
    call_command("show_policy", as_json)
    assert json.loads(capsys.readouterr().out)["first_nights"][0]["root"] == "second"
    call_command("promote", "--first-nights", "second")
    assert "second: its first nights are over" in capsys.readouterr().out
    call_command("promote", "--first-nights", "second")
    assert capsys.readouterr().out == "nothing to do: second is not in its first nights\n"
    call_command("add_staging_root", "second", str(lab.base / "second"), as_json)
    assert json.loads(capsys.readouterr().out)["first_nights"] is None


# Changes of a promoted policy


@pytest.mark.both_engines
def test_what_is_approved_still_goes_while_fewer_hours_are_rehearsed(
    first: dict[int, str], promoted: RetentionPolicy, write: Any, now: datetime
) -> None:
    edited = write(retain_hours=144)
    assert edited.rehearsal == "rehearsing"
    swept = night(now + HOUR)
    assert went(swept) == {first[8], first[12], first[20]}
    assert rehearsed(swept) == {first[6]}
    attempt = ClearAttempt.objects.get(run__run_path=first[20])
    assert attempt.decided_by["retain_hours"]["version"] == promoted.version
    assert LedgerEntry.objects.filter(attempt=attempt, kind="completed").exists()
    rows = {row.run.run_path: row for row in SweptRun.objects.select_related("run")}
    assert rows[first[20]].decided_by["retain_hours"] == attempt.decided_by["retain_hours"]
    assert rows[first[6]].decided_by["retain_hours"]["version"] == edited.version
    rehearsal.promote(edited, "ada", now + HOUR)
    assert went(night(now + 2 * HOUR)) == {first[6]}


@pytest.mark.exhaustive
def test_more_hours_hold_at_once(first: dict[int, str], promoted: RetentionPolicy, write: Any, now: datetime) -> None:
    assert write(retain_hours=240).rehearsal == "promoted"
    assert went(night(now + HOUR)) == {first[12], first[20]}


@pytest.mark.exhaustive
def test_one_edit_upon_another(first: dict[int, str], promoted: RetentionPolicy, write: Any, now: datetime) -> None:
    assert write(retain_hours=48).rehearsal == "rehearsing"
    assert write(retain_hours=100).rehearsal == "rehearsing"
    assert write(retain_hours=400).rehearsal == "promoted", "against what is approved it only keeps longer"
    assert went(night(now + HOUR)) == {first[20]}
    assert write(retain_hours=48, at=now + HOUR).rehearsal == "rehearsing"
    assert went(night(now + 2 * HOUR)) == set()


def test_what_is_stricter_in_one_way_and_freer_in_another_takes_no_more_than_both(
    first: dict[int, str], promoted: RetentionPolicy, write: Any, now: datetime
) -> None:
    assert write(retain_hours=300, proof="record").rehearsal == "rehearsing"
    assert went(night(now + HOUR)) == {first[20]}
    assert ClearAttempt.objects.get().decided_by["proof"]["value"] == "size"


def test_manual_holds_at_once_and_the_way_back_is_rehearsed(
    first: dict[int, str], promoted: RetentionPolicy, write: Any, now: datetime
) -> None:
    assert write(mode="manual").rehearsal == "promoted"
    assert went(night(now + HOUR)) == set()
    assert write(mode="scheduled").rehearsal == "rehearsing"
    assert went(night(now + 2 * HOUR)) == set()


def test_a_scope_that_only_keeps_longer_needs_no_rehearsal(
    lab: Lab, first: dict[int, str], promoted: RetentionPolicy, write: Any, now: datetime
) -> None:
    other = old(lab, 40, 40 * NIGHT, now, equipment="CONFOCAL_01")
    assert write(equipment="FLOW_01", retain_hours=400).rehearsal == "promoted"
    assert went(night(now + HOUR)) == {first[20], other}


def test_a_scope_that_keeps_shorter_is_rehearsed_and_the_wider_one_decides_meanwhile(
    lab: Lab, first: dict[int, str], promoted: RetentionPolicy, write: Any, now: datetime
) -> None:
    narrow = write(equipment="FLOW_01", retain_hours=48)
    assert narrow.rehearsal == "rehearsing"
    swept = night(now + HOUR)
    assert went(swept) == {first[8], first[12], first[20]}
    assert rehearsed(swept) == {first[3], first[6]}
    rehearsal.promote(narrow, "ada", now + HOUR)
    assert write(equipment="FLOW_01", retain_hours=None).rehearsal == "promoted", "the lab's week only keeps longer"
    assert went(night(now + 2 * HOUR)) == set()


def test_what_was_sent_back_lets_nothing_go(
    first: dict[int, str], promoted: RetentionPolicy, write: Any, now: datetime
) -> None:
    rehearsal.send_back(promoted, "ada", "not yet", now)
    assert went(night(now + HOUR)) == set()
    assert write(retain_hours=240).rehearsal == "rehearsing", "there is nothing against which it keeps longer"
    assert went(night(now + 2 * HOUR)) == set()


def test_a_surprise_under_the_approved_version_stops_it_while_another_is_rehearsed(
    lab: Lab, first: dict[int, str], promoted: RetentionPolicy, write: Any, now: datetime
) -> None:
    write(retain_hours=144)
    rehearsal.note_surprise(
        Run.objects.get(run_path=first[20]), [promoted.version], Reason.NAS_CHECKSUM_MISMATCH, "a.bin", now
    )
    assert went(night(now + HOUR)) == set()


def test_a_limit_that_is_tightened_takes_by_the_approved_one_meanwhile(
    first: dict[int, str], root: StagingRoot, write: Any, now: datetime
) -> None:
    write(mode="scheduled", retain_hours=24 * 90, min_retain_hours=1, proof="size", stage="promoted")
    write(root=root, max_runs=4, stage="promoted")
    assert write(root=root, max_runs=2).rehearsal == "rehearsing"
    swept = night(now + HOUR)
    assert went(swept) == {first[20]}, "five are one more than four"
    assert rehearsed(swept) == {first[12], first[8]}, "and three more than two"
    assert not Sweep.objects.filter(kind=SweepKind.TIMED).latest("pk").pressure["meanwhile"]["runs_over"]


@pytest.mark.exhaustive
def test_a_budget_is_the_smaller_one_meanwhile(
    first: dict[int, str], promoted: RetentionPolicy, write: Any, now: datetime
) -> None:
    write(retain_hours=144, budget_runs=1)
    assert went(night(now + HOUR)) == {first[20]}
    write(budget_runs=2)
    assert went(night(now + 2 * HOUR)) == {first[12], first[8]}, "of the approved one and the newest"


def test_a_person_is_not_held_up(first: dict[int, str], promoted: RetentionPolicy, write: Any, now: datetime) -> None:
    write(retain_hours=144)
    with time_machine.travel(now + HOUR, tick=False):
        assert went(all_roots.sweep(now=now + HOUR)) == {first[6], first[8], first[12], first[20]}


def test_the_run_says_which_version_decides(
    first: dict[int, str],
    promoted: RetentionPolicy,
    write: Any,
    now: datetime,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from cleanup.rules.decisions import Gate, Verdict
    from cleanup.runs.facts import stored_facts

    write(retain_hours=120)
    run = Run.objects.with_root().get(run_path=first[6])
    gate = stored_facts.decision(run, RetentionPolicy.objects.scoped(), now).gate(Gate.RETENTION)
    assert (gate.verdict, gate.reason) == (Verdict.WAIT, Reason.REHEARSAL)
    assert gate.detail == "policy version 3; until it is promoted version 2 decides: kept 168 h"
    assert gate.opens_at == run.verified_at + timedelta(hours=WEEK)
    call_command("show_policy", run.run_path)
    assert "rehearsed with version 3: until it is promoted the run is kept 7 days" in capsys.readouterr().out
