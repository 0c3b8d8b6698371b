"""A hold follows its run under any name."""

import importlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cleanup import clear_run
from cleanup.clears.refusal import Refused
from cleanup.lab import policy_versions
from cleanup.lab.roots import registration
from cleanup.models import Hold, LedgerEntry, Likeness, RetentionPolicy, Run, StagingRoot
from cleanup.rules.decisions import Gate
from cleanup.rules.likeness import Traits, likeness
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.facts import stored_facts
from cleanup.runs.holds import holds, in_force, keeping_holds, likenesses
from cleanup.runs.moved_or_gone import gone, moved_runs
from cleanup.runs.moved_or_gone.reregistration import RegisterOrder
from cleanup.sweeps import all_roots
from tests.tools.database import sandbox
from tests.tools.lab import METADATA, RUN_PATH, Lab, manifest_of, some_files, touch

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 6, 15, 8, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OLD = "CONFOCAL_01/PROJ-0042"
LEAF = RUN_PATH.rpartition("/")[2]
OTHER = "FLOW_01/PROJ-0007/Runs/Run_2026-04-19T08-00"


@pytest.fixture
def known(lab: Lab, root: StagingRoot, now: datetime, policy: Callable[..., Any]) -> Run:
    lab.run()
    lab.run(OTHER)
    discovery.discover(root, now=now)
    policy(mode="scheduled", retain_hours=168, rehearse=False, max_share=1.0)
    run = Run.objects.with_root().get(run_path=RUN_PATH)
    holds.hold(run, owner="ada", reason="a figure", until=now + 60 * DAY, now=now)
    return run


def rename(lab: Lab, old: str, new: str, sides: str = "both") -> None:
    for side in {"both": (lab.staging, lab.nas), "staging": (lab.staging,), "nas": (lab.nas,)}[sides]:
        (side / new).parent.mkdir(parents=True, exist_ok=True)
        (side / old).rename(side / new)


def rewrite(lab: Lab, path: str, *changes: tuple[str, str], sides: str = "both") -> None:
    for side in {"both": (lab.staging, lab.nas), "staging": (lab.staging,)}[sides]:
        for record in (side / path).rglob(f"{METADATA}/ingest.json"):
            text = record.read_text()
            for old, new in changes:
                text = text.replace(old, new)
            record.write_text(text)


def copied(lab: Lab, old: str, new: str) -> None:
    for side in (lab.staging, lab.nas):
        shutil.copytree(side / old, side / new)
        shutil.rmtree(side / old)


def project_renamed(lab: Lab) -> str:
    rename(lab, OLD, "CONFOCAL_01/PROJ-0077")
    rewrite(lab, "CONFOCAL_01/PROJ-0077", ("PROJ-0042", "PROJ-0077"))
    return RUN_PATH.replace("PROJ-0042", "PROJ-0077")


def equipment_renamed(lab: Lab) -> str:
    rename(lab, "CONFOCAL_01", "CONFOCAL_9")
    rewrite(lab, "CONFOCAL_9", ("CONFOCAL_01", "CONFOCAL_9"))
    return RUN_PATH.replace("CONFOCAL_01", "CONFOCAL_9")


def leaf_renamed(lab: Lab) -> str:
    new = f"{OLD}/Runs/Run_2026-04-17T15-00"
    rename(lab, RUN_PATH, new)
    rewrite(lab, new, (LEAF, "Run_2026-04-17T15-00"))
    return new


def merely_renamed(lab: Lab) -> str:
    rename(lab, OLD, "CONFOCAL_01/PROJ-0077", sides="staging")
    return RUN_PATH.replace("PROJ-0042", "PROJ-0077")


def copied_and_rewritten(lab: Lab) -> str:
    copied(lab, OLD, "CONFOCAL_01/PROJ-0077")
    rewrite(lab, "CONFOCAL_01/PROJ-0077", ("PROJ-0042", "PROJ-0077"))
    return RUN_PATH.replace("PROJ-0042", "PROJ-0077")


def rewritten_by_another_host(lab: Lab) -> str:
    copied(lab, OLD, "CONFOCAL_01/PROJ-0077")
    rewrite(lab, "CONFOCAL_01/PROJ-0077", ("PROJ-0042", "PROJ-0077"), ("labpc-04", "labpc-05"))
    return RUN_PATH.replace("PROJ-0042", "PROJ-0077")


def changed_meanwhile(lab: Lab) -> str:
    new = project_renamed(lab)
    data = {"README.md": (lab.staging / new / "README.md").read_bytes(), "run_complete": b"done\n"} | some_files()
    for side in (lab.staging, lab.nas):
        (side / new / "more.bin").write_bytes(b"more")
        touch(side / new / "more.bin", datetime.fromisoformat("2026-04-17T15:00:00+00:00"))
        (side / new / METADATA / "checksums.sha256").write_bytes(manifest_of(data | {"more.bin": b"more"}))
    return new


def a_copy_of_it(lab: Lab) -> str:
    new = RUN_PATH.replace("PROJ-0042", "PROJ-0077")
    for side in (lab.staging, lab.nas):
        shutil.copytree(side / RUN_PATH, side / new)
    rewrite(lab, new, ("PROJ-0042", "PROJ-0077"))
    return new


KINDS = [project_renamed, copied_and_rewritten, merely_renamed, changed_meanwhile]
MORE_KINDS = [
    pytest.param(kind, marks=pytest.mark.exhaustive)
    for kind in (equipment_renamed, leaf_renamed, rewritten_by_another_host, a_copy_of_it)
]


def run_at(path: str) -> Run:
    return Run.objects.with_root().staged().get(run_path=path)


@pytest.mark.parametrize("kind", [*KINDS, *MORE_KINDS], ids=lambda kind: kind.__name__)
def test_a_held_run_stays_held(
    lab: Lab, root: StagingRoot, known: Run, now: datetime, kind: Callable[[Lab], str]
) -> None:
    path = kind(lab)
    discovery.discover(root, now=now + HOUR)
    found = run_at(path)
    gate = stored_facts.decision(found, RetentionPolicy.objects.scoped(), now + HOUR).gate(Gate.HOLD)
    assert (gate.reason, gate.opens_at) == (Reason.HELD, now + 60 * DAY)
    assert f"by ada: a figure (laid on {RUN_PATH}, which may be this run: " in gate.detail
    assert "release that hold, or say on this run's page that it is not the same run" in gate.detail
    for timed in (True, False):
        all_roots.sweep(now=now + 2 * HOUR, timed=timed, roots=[root])
    with pytest.raises(Refused):
        clear_run(found, now=now + 2 * HOUR, actor="bob")
    assert (lab.staging / path / "README.md").exists()
    assert not (lab.staging / OTHER).exists()


@pytest.mark.parametrize(
    "kind",
    [project_renamed, pytest.param(rewritten_by_another_host, marks=pytest.mark.exhaustive)],
    ids=lambda kind: kind.__name__,
)
def test_the_end_of_the_hold_is_the_end_for_the_renamed_run(
    lab: Lab, root: StagingRoot, known: Run, now: datetime, kind: Callable[[Lab], str]
) -> None:
    path = kind(lab)
    discovery.discover(root, now=now + HOUR)
    assert holds.release_run(run_at(path), actor="ada", now=now + HOUR)
    assert not Hold.objects.in_force(now + HOUR).exists()
    all_roots.sweep(now=now + 2 * HOUR, roots=[root])
    assert not (lab.staging / path).exists()


def test_only_the_record_is_written_anew(lab: Lab, root: StagingRoot, known: Run, now: datetime) -> None:
    rewrite(lab, RUN_PATH, ("labpc-04", "labpc-05"))
    discovery.discover(root, now=now + HOUR)
    assert Run.objects.staged().count() == 2
    with pytest.raises(Refused):
        clear_run(known, now=now + HOUR, actor="bob")


def test_first_one_side_then_the_other(lab: Lab, root: StagingRoot, known: Run, now: datetime) -> None:
    new = RUN_PATH.replace("PROJ-0042", "PROJ-0077")
    steps: tuple[Callable[[], None], ...] = (
        lambda: rename(lab, OLD, "CONFOCAL_01/PROJ-0077", sides="nas"),
        lambda: rename(lab, OLD, "CONFOCAL_01/PROJ-0077", sides="staging"),
        lambda: rewrite(lab, new, ("PROJ-0042", "PROJ-0077")),
    )
    for number, step in enumerate(steps, start=1):
        step()
        discovery.discover(root, now=now + number * HOUR)
        all_roots.sweep(now=now + number * HOUR, roots=[root])
    assert stored_facts.decision(run_at(new), [], now + 4 * HOUR).gate(Gate.HOLD).reason is Reason.HELD
    assert (lab.staging / new).exists()


def test_renamed_twice_with_other_files_in_between(lab: Lab, root: StagingRoot, known: Run, now: datetime) -> None:
    changed_meanwhile(lab)
    discovery.discover(root, now=now + HOUR)
    copied(lab, "CONFOCAL_01/PROJ-0077", "CONFOCAL_9/PROJ-0099")
    rewrite(lab, "CONFOCAL_9", ("PROJ-0077", "PROJ-0099"), ("CONFOCAL_01", "CONFOCAL_9"), ("labpc-04", "labpc-05"))
    discovery.discover(root, now=now + 2 * HOUR)
    all_roots.sweep(now=now + 3 * HOUR, roots=[root])
    path = f"CONFOCAL_9/PROJ-0099/Runs/{LEAF}"
    assert stored_facts.decision(run_at(path), [], now + 3 * HOUR).gate(Gate.HOLD).reason is Reason.HELD
    assert (lab.staging / path).exists()


def test_moved_to_another_root_of_the_same_host(
    lab: Lab, root: StagingRoot, known: Run, now: datetime, tmp_path: Path
) -> None:
    second = Lab(tmp_path / "second")
    given = {"nas_path": str(second.nas), "allow_same_filesystem": True, "accept_empty": True, "now": now}
    other = registration.register("second", str(second.staging), **given)
    new = RUN_PATH.replace("PROJ-0042", "PROJ-0077")
    for old_side, new_side in ((lab.staging, second.staging), (lab.nas, second.nas)):
        (new_side / new).parent.mkdir(parents=True)
        shutil.move(old_side / RUN_PATH, new_side / new)
    rewrite(second, new, ("PROJ-0042", "PROJ-0077"))
    discovery.discover(other, now=now + HOUR)
    discovery.discover(root, now=now + HOUR)
    all_roots.sweep(now=now + 2 * HOUR)
    assert stored_facts.decision(run_at(new), [], now + 2 * HOUR).gate(Gate.HOLD).reason is Reason.HELD
    assert (second.staging / new).exists()


def test_a_hold_that_is_laid_extended_or_released_later_counts_at_once(
    lab: Lab, root: StagingRoot, known: Run, now: datetime
) -> None:
    new = project_renamed(lab)
    discovery.discover(root, now=now + HOUR)
    (hold,) = Hold.objects.all()
    assert holds.extend(hold, until=now + 90 * DAY, actor="ada", now=now + HOUR)
    gate = stored_facts.decision(run_at(new), [], now + HOUR).gate(Gate.HOLD)
    assert gate.opens_at == now + 90 * DAY
    assert run_at(new).judged < run_at(new).doubts
    assert holds.release(hold, actor="ada", now=now + HOUR)
    assert stored_facts.decision(run_at(new), [], now + HOUR).gate(Gate.HOLD).reason is None
    holds.hold(Run.objects.get(pk=known.pk), owner="eve", reason="again", until=now + 9 * DAY, now=now + HOUR)
    with pytest.raises(Refused, match="held"):
        clear_run(run_at(new), now=now + 2 * HOUR, actor="bob")


def test_marking_the_old_row_as_gone_releases_nothing(lab: Lab, root: StagingRoot, known: Run, now: datetime) -> None:
    new = project_renamed(lab)
    discovery.discover(root, now=now + HOUR)
    gone.mark_gone(Run.objects.with_root().get(pk=known.pk), actor="bob", reason="renamed", now=now + HOUR)
    discovery.discover(root, now=now + 2 * HOUR)
    all_roots.sweep(now=now + 3 * HOUR, roots=[root])
    assert (lab.staging / new).exists()
    assert [hold.run_id for hold in in_force.in_force(now + 3 * HOUR)] == [known.pk]


def test_the_held_run_comes_back_after_another_one_lay_and_went_at_its_path(
    lab: Lab, root: StagingRoot, known: Run, now: datetime
) -> None:
    rename(lab, RUN_PATH, "aside")
    discovery.discover(root, now=now + HOUR)
    gone.mark_gone(Run.objects.with_root().get(pk=known.pk), actor="bob", reason="taken", now=now + HOUR)
    lab.run(RUN_PATH, files={"other.bin": b"other"}, verified_at=now - 20 * DAY)
    discovery.discover(root, now=now + 2 * HOUR)
    assert [hold.owner for hold in holds.release_run(run_at(RUN_PATH), actor="bob", now=now + 2 * HOUR)] == ["ada"]
    clear_run(run_at(RUN_PATH), now=now + 3 * HOUR, actor="bob")
    for side in (lab.staging, lab.nas):
        shutil.rmtree(side / RUN_PATH, ignore_errors=True)
    rename(lab, "aside", RUN_PATH)
    discovery.discover(root, now=now + 4 * HOUR)
    all_roots.sweep(now=now + 5 * HOUR, roots=[root])
    assert (lab.staging / RUN_PATH).exists()
    assert keeping_holds.holding(run_at(RUN_PATH), Hold.objects.in_force(now + 5 * HOUR)).get().run == known


def test_two_runs_that_changed_their_places(lab: Lab, root: StagingRoot, known: Run, now: datetime) -> None:
    rename(lab, RUN_PATH, "CONFOCAL_01/aside")
    rename(lab, OTHER, RUN_PATH)
    rename(lab, "CONFOCAL_01/aside", OTHER)
    rewrite(lab, OTHER, (RUN_PATH, OTHER), ("CONFOCAL_01", "FLOW_01"))
    rewrite(lab, RUN_PATH, (OTHER, RUN_PATH), ("FLOW_01", "CONFOCAL_01"))
    discovery.discover(root, now=now + HOUR)
    all_roots.sweep(now=now + 2 * HOUR, roots=[root])
    assert (lab.staging / OTHER).exists()


def test_a_clear_looks_once_more_for_whom_the_run_may_be(
    lab: Lab, root: StagingRoot, known: Run, now: datetime
) -> None:
    """As if it came to its path after the last discovery: the commit still knows of it."""
    new = project_renamed(lab)
    discovery.discover(root, now=now + HOUR)
    Likeness.objects.all().delete()
    Run.objects.update(traits="")
    Hold.objects.update(until=now + 3000 * DAY)  # the commit asks the clock
    with pytest.raises(Refused, match=r"by ada: a figure \(laid on"):
        clear_run(run_at(new), now=now + 2 * HOUR, actor="bob")
    assert (lab.staging / new / "README.md").exists()


def test_a_run_that_was_renamed_between_an_upgrade_and_the_first_look(
    lab: Lab, root: StagingRoot, known: Run, now: datetime
) -> None:
    """Old rows know their manifests only from the stored facts; all else is in columns."""
    Run.objects.update(traits="", manifest_sha256="")
    importlib.import_module("cleanup.migrations.0021_holds").keep_manifests(apps, None)
    copied(lab, RUN_PATH, "FLOW_9/PROJ-0077/Runs/Run_2026-05-01T08-00")
    new = "FLOW_9/PROJ-0077/Runs/Run_2026-05-01T08-00"
    rewrite(
        lab,
        new,
        (RUN_PATH, new),
        ("CONFOCAL_01", "FLOW_9"),
        ("labpc-04", "labpc-05"),
        ("2026-04-17T14", "2026-04-17T13"),
    )
    discovery.discover(root, now=now + HOUR)
    assert [each.because for each in keeping_holds.holds_of(run_at(new))] == ["the same manifest"]


# Decisions of a person


def test_a_person_says_that_it_is_not_the_same_run_and_no_look_says_otherwise(
    lab: Lab, root: StagingRoot, known: Run, now: datetime
) -> None:
    new = a_copy_of_it(lab)
    discovery.discover(root, now=now + HOUR)
    copy = run_at(new)
    assert likenesses.deny(copy, [known.pk], actor="ada", note="a copy to play with", now=now + HOUR) == 1
    assert likenesses.deny(copy, [known.pk], actor="ada", note="again", now=now + HOUR) == 0
    entry = LedgerEntry.objects.get(run=copy)
    assert entry.actor == "ada"
    assert entry.detail == f"not the same run as {RUN_PATH} (the same manifest); a copy to play with"
    Run.objects.update(traits="")
    discovery.discover(root, now=now + 2 * HOUR)
    assert not Likeness.objects.standing().exists()
    all_roots.sweep(now=now + 3 * HOUR, roots=[root])
    assert ((lab.staging / new).exists(), (lab.staging / RUN_PATH).exists()) == (False, True)


def test_releasing_the_copy_does_not_release_the_run(
    lab: Lab, root: StagingRoot, known: Run, now: datetime, capsys: pytest.CaptureFixture[str]
) -> None:
    new = a_copy_of_it(lab)
    discovery.discover(root, now=now + HOUR)
    Hold.objects.update(until=now + 3000 * DAY)  # the command asks the clock
    assert holds.release_run(run_at(new), actor="bob", now=now + HOUR) == []
    with pytest.raises(SystemExit):
        call_command("release", new)
    assert f"{new} is still held by ada: a figure (laid on {RUN_PATH}, which may be this run" in capsys.readouterr().out


def test_what_the_page_shows_and_does(
    lab: Lab, root: StagingRoot, known: Run, now: datetime, admin_client: Any
) -> None:
    new = project_renamed(lab)
    discovery.discover(root, now=now + HOUR)
    found = run_at(new)
    Hold.objects.update(until=now + 3000 * DAY)  # the page asks the clock
    text = admin_client.get(f"/runs/{found.pk}/").content.decode()
    assert "which may be this run: the same folder, by inode and time of birth" in text
    assert "It is not the held run…" in text
    ask = admin_client.get(f"/runs/{found.pk}/not-the-same/")
    assert RUN_PATH in ask.content.decode()
    posted = {"note": "made from the same template", "seen": ask.context["seen"]}
    admin_client.post(f"/runs/{found.pk}/not-the-same/", posted)
    assert keeping_holds.holds_of(run_at(new)) == ()
    assert "It is not the held run…" not in admin_client.get(f"/runs/{found.pk}/").content.decode()


def test_releasing_it_on_the_renamed_runs_page_leads_back_there(
    lab: Lab, root: StagingRoot, known: Run, now: datetime, admin_client: Any
) -> None:
    new = project_renamed(lab)
    discovery.discover(root, now=now + HOUR)
    Hold.objects.update(until=now + 3000 * DAY)
    found, hold = run_at(new), Hold.objects.get()
    answer = admin_client.post(f"/holds/{hold.pk}/release/", {"back": str(found.pk)})
    assert answer.url == f"/runs/{found.pk}/"
    assert keeping_holds.holds_of(run_at(new)) == ()


def test_the_run_that_a_person_has_moved_keeps_its_hold_once(
    lab: Lab, root: StagingRoot, known: Run, now: datetime
) -> None:
    rename(lab, OLD, "CONFOCAL_01/PROJ-0077")
    discovery.discover(root, now=now + HOUR)
    moved_runs.move_runs(
        root, moved_runs.Move(OLD, "CONFOCAL_01/PROJ-0077"), RegisterOrder(now=now + HOUR, actor="ada")
    )
    discovery.discover(root, now=now + 2 * HOUR)
    found = run_at(RUN_PATH.replace("PROJ-0042", "PROJ-0077"))
    assert (found.pk, [each.laid_on for each in keeping_holds.holds_of(found)]) == (known.pk, [""])


def test_no_acceptance_and_no_other_mark_is_carried_over(
    lab: Lab, root: StagingRoot, known: Run, now: datetime
) -> None:
    """Accepted bytes belong to one folder and its twin: only what keeps a run follows it."""
    new = project_renamed(lab)
    discovery.discover(root, now=now + HOUR)
    found = run_at(new)
    assert not found.accepted_bytes.exists()
    assert stored_facts.accepted(found) is None


# What is not kept


def test_runs_that_merely_began_in_the_same_second_are_not_alike(
    lab: Lab, root: StagingRoot, now: datetime, policy: Callable[..., Any]
) -> None:
    """Ten instruments of one host started together; one of their runs is held."""
    at = now - 30 * DAY
    paths = [f"EQ_{number}/PROJ-0042/Runs/{LEAF}" for number in range(3)]
    for path in paths:
        lab.run(path, verified_at=at)
    discovery.discover(root, now=now)
    holds.hold(Run.objects.get(run_path=paths[0]), owner="ada", reason="x", until=now + DAY, now=now)
    policy(mode="scheduled", retain_hours=168, rehearse=False, max_share=1.0)
    all_roots.sweep(now=now + HOUR, roots=[root])
    assert [(lab.staging / path).exists() for path in paths] == [True, False, False]
    assert not Likeness.objects.exists()


@pytest.mark.exhaustive
def test_what_many_runs_share_makes_only_a_held_one_alike(
    lab: Lab, root: StagingRoot, now: datetime, policy: Callable[..., Any]
) -> None:
    """All records say the same second. Some runs are removed by hand, one of them held; others come."""
    at = now - 30 * DAY
    old = [f"EQ_1/P-1/Runs/Run_2026-04-{day:02}T08-00" for day in range(1, 27)]
    for path in old:
        lab.run(path, files={"a.bin": path.encode()}, verified_at=at)
    discovery.discover(root, now=now)
    holds.hold(Run.objects.get(run_path=old[0]), owner="ada", reason="x", until=now + 9 * DAY, now=now)
    for path in old[:3]:
        shutil.rmtree(lab.staging / path)
    discovery.discover(root, now=now + HOUR)
    new = [f"EQ_1/P-1/Runs/Run_2026-05-{day:02}T08-00" for day in (1, 2)]
    for path in new:
        lab.run(path, files={"a.bin": path.encode()}, verified_at=at)
    discovery.discover(root, now=now + 2 * HOUR)
    linked = Likeness.objects.filter(run__run_path__in=new).values_list("other__run_path", flat=True)
    assert set(linked) - set(new) == {old[0]}
    policy(mode="scheduled", retain_hours=168, rehearse=False, max_share=1.0)
    all_roots.sweep(now=now + 3 * HOUR, roots=[root])
    assert [path for path in new if not (lab.staging / path).exists()] == []


def test_nothing_is_alike_in_a_lab_in_which_nothing_moved(
    lab: Lab, root: StagingRoot, known: Run, now: datetime
) -> None:
    for hours in (1, 2):
        discovery.discover(root, now=now + hours * HOUR)
    assert not Likeness.objects.exists()


def traits(**fields: Any) -> Traits:
    at = datetime.fromisoformat("2026-04-17T16:00:00+00:00")
    known = {"root": 1, "inode": "5", "birth": "7", "origin": "a", "manifest": "m", "verified_at": at}
    return Traits(**{**known, "equipment": "E", "project": "P", "kind": "experimental", "leaf": LEAF, **fields})


NOTHING = {
    "inode": "9",
    "birth": "9",
    "origin": "b",
    "manifest": "n",
    "verified_at": None,
    "leaf": "Run_2026-01-01T00-00",
}


@pytest.mark.parametrize(
    ("fields", "there", "away"),
    [
        ({}, False, False),
        ({"inode": "5", "birth": "7"}, True, True),
        ({"inode": "5", "birth": "-"}, False, True),
        ({"inode": "5", "birth": "-", "root": 2}, False, False),
        ({"origin": "a"}, False, True),
        ({"origin": "-"}, False, False),
        ({"manifest": "m"}, False, True),
        ({"manifest": "m", "leaf": LEAF}, True, True),
        ({"manifest": "m", "origin": "a"}, True, True),
        ({"leaf": LEAF}, False, True),
        ({"leaf": LEAF, "kind": "test"}, False, False),
        ({"leaf": LEAF, "equipment": "F"}, False, True),
        ({"leaf": LEAF, "equipment": "F", "project": "Q"}, False, False),
        ({"verified_at": traits().verified_at}, False, True),
        ({"origin": "a", "leaf": LEAF, "verified_at": traits().verified_at, "manifest": ""}, True, True),
        ({"origin": "a", "leaf": LEAF, "verified_at": traits().verified_at}, False, True),
    ],
)
def test_the_signs_by_which_two_runs_are_alike(fields: dict[str, Any], there: bool, away: bool) -> None:
    """A run still in place has only copies; for one that is away, any one sign is enough."""
    ours, theirs = traits(**{**NOTHING, **fields}), traits()
    assert bool(likeness(ours, theirs, away=False)) is there
    assert bool(likeness(ours, theirs, away=True)) is away
    if there or away:
        assert set(ours.keys) & set(theirs.keys)


# Any renames


STEPS = ("project", "equipment", "leaf", "copy", "record", "nas", "discover", "discover", "sweep", "gone", "reregister")


def apply(step: str, lab: Lab, root: StagingRoot, place: list[str], number: int, at: datetime) -> None:
    before = "/".join(place)
    if step == "discover":
        discovery.discover(root, now=at)
    elif step == "sweep":
        all_roots.sweep(now=at, timed=bool(number % 2), roots=[root])
    elif step == "record":
        for side in (lab.staging, lab.nas):
            for record in (side / before).glob(f"{METADATA}/ingest.json"):
                content = json.loads(record.read_text())
                record.write_text(json.dumps({**content, "run_path": before, "equipment_id": place[0]}))
    elif step == "nas":
        if not (lab.nas / before).exists():
            shutil.copytree(lab.staging / before, lab.nas / before)
    elif step == "gone":
        for run in Run.objects.staged().with_root().filter(problem=Reason.MISSING_DIRECTORY):
            gone.mark_gone(run, actor="bob", reason="not there", now=at)
    elif step == "reregister":
        moved_runs.reregister_runs(list(Run.objects.staged().with_root()), RegisterOrder(now=at, actor="bob"))
    else:
        part = {"equipment": 0, "project": 1, "copy": 1, "leaf": 3}[step]
        place[part] = f"Run_2026-05-01T10-{number:02}" if part == 3 else f"NEW-{number}"
        after = "/".join(place)
        (lab.staging / after).parent.mkdir(parents=True, exist_ok=True)
        if step == "copy":
            shutil.copytree(lab.staging / before, lab.staging / after)
            shutil.rmtree(lab.staging / before)
        else:
            (lab.staging / before).rename(lab.staging / after)
        if number % 3 and (lab.nas / before).exists():
            (lab.nas / after).parent.mkdir(parents=True, exist_ok=True)
            (lab.nas / before).rename(lab.nas / after)


class Undo(Exception):
    """Rolls back an example's rows."""


def check(base: Path, steps: list[str], hours: float) -> None:
    lab = Lab(base)
    given = {"nas_path": str(lab.nas), "allow_same_filesystem": True, "accept_empty": True, "now": NOW}
    root = registration.register("lab", str(lab.staging), **given)
    lab.run()
    discovery.discover(root, now=NOW)
    policy_versions.add_version(
        author="admin", now=NOW, mode="scheduled", retain_hours=hours, proof="size", rehearse=False
    )
    holds.hold(Run.objects.get(), owner="ada", reason="needed", until=NOW + 60 * DAY, now=NOW)
    place, at = RUN_PATH.split("/"), NOW
    for number, step in enumerate((*steps, "record", "discover", "sweep", "sweep"), start=1):
        at += HOUR
        apply(step, lab, root, place, number, at)
        assert (lab.staging / "/".join(place) / "tiles/t_0001.tif").exists(), f"it went at step {number}, {step}"
    assert not LedgerEntry.objects.filter(kind="authorised").exists()


def run_example(base: Path, steps: list[str], hours: float) -> None:
    try:
        with sandbox():
            check(base, steps, hours)
            raise Undo
    except Undo:
        shutil.rmtree(base)


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Path]:
    return (tmp_path / str(number) for number in itertools.count())


_steps = st.lists(st.sampled_from(STEPS), min_size=1, max_size=5)
_hours = st.sampled_from([0, 1, 168])
_settings = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


@given(steps=_steps, hours=_hours)
@settings(max_examples=4, derandomize=True, phases=[Phase.generate], **_settings)  # type: ignore[arg-type]
def test_no_held_run_goes_whatever_is_renamed(places: Iterator[Path], steps: list[str], hours: float) -> None:
    """Takes 1 s: each example has a disk, three looks and two passes."""
    run_example(next(places), steps, hours)


@pytest.mark.exhaustive
@pytest.mark.timeout(300)
@given(steps=_steps, hours=_hours)
@settings(max_examples=40, **_settings)  # type: ignore[arg-type]
def test_no_held_run_ever_goes(places: Iterator[Path], steps: list[str], hours: float) -> None:
    """Takes less than a minute."""
    run_example(next(places), steps, hours)


def test_the_check_notices_a_held_run_that_goes(places: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run_example(next(places), ["project", "nas", "record"], 1)
    monkeypatch.setattr(likenesses, "note", lambda *args, **more: None)
    with pytest.raises(AssertionError, match="it went at step"):
        run_example(next(places), ["project", "nas", "record"], 1)
