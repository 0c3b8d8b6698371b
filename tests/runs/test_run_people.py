"""Whom the records of runs name is stored by looks, and by nothing else."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cleanup.models import Person, Run, RunPerson, StagingRoot
from cleanup.runs import discovery, run_people
from cleanup.runs.looks import unchanged
from tests.tools.lab import METADATA, Lab

pytestmark = pytest.mark.django_db

PATHS = [f"CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T{hour:02}-00" for hour in range(3)]


@pytest.fixture(autouse=True)
def _files_of_yesterday(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status of the lab's files has just changed."""
    monkeypatch.setattr(unchanged, "GRAIN_SECONDS", -3600.0)


def says(run: Path, **said: Any) -> None:
    """Let `creation.json` say other people."""
    creation = run / METADATA / "creation.json"
    creation.write_text(json.dumps({**json.loads(creation.read_text()), "variables": {}, **said}))


def stored() -> dict[str, tuple[list[str] | None, set[str]]]:
    rows: dict[str, set[str]] = {}
    for row in RunPerson.objects.select_related("run", "person"):
        rows.setdefault(row.run.run_path, set()).add(row.person.folded)
    return {run.run_path: (run.people, rows.get(run.run_path, set())) for run in Run.objects.all()}


def test_a_look_stores_them_once_and_again_when_they_change(lab: Lab, root: StagingRoot, now: datetime) -> None:
    first, second, third = (lab.run(path) for path in PATHS)
    says(second, created_by="Ada  L.", operators=["ada l.", "STRASSE", "Straße"])
    (third / METADATA / "creation.json").unlink()
    discovery.discover(root, now=now)
    assert stored() == {
        PATHS[0]: (["operator"], {"operator"}),
        PATHS[1]: (["Ada L.", "ada l.", "STRASSE", "Straße"], {"ada l.", "strasse"}),
        PATHS[2]: (None, set()),
    }
    rows = set(RunPerson.objects.values_list("pk", flat=True))
    doubts = dict(Run.objects.values_list("run_path", "doubts"))
    assert discovery.discover(root, now=now + timedelta(minutes=5)).unchanged == 3
    assert set(RunPerson.objects.values_list("pk", flat=True)) == rows
    says(first, created_by="bo")
    discovery.discover(root, now=now + timedelta(minutes=10), quick=True)
    assert stored()[PATHS[0]] == (["bo"], {"bo"})
    assert Run.objects.get(run_path=PATHS[0]).doubts > doubts[PATHS[0]], "pages that are open show it"
    # What cannot be read says nothing of people.
    (first / METADATA / "creation.json").write_text("{")
    discovery.discover(root, now=now + timedelta(minutes=15))
    assert stored()[PATHS[0]] == (["bo"], {"bo"})


def test_runs_of_an_earlier_version_get_theirs_at_their_next_look(lab: Lab, root: StagingRoot, now: datetime) -> None:
    for path in PATHS:
        lab.run(path)
    discovery.discover(root, now=now)
    discovery.discover(root, now=now + timedelta(minutes=5))
    RunPerson.objects.all().delete()
    Person.objects.all().delete()
    Run.objects.update(people=None)
    discovery.discover(root, now=now + timedelta(minutes=10), quick=True)
    assert sum(people is not None for people, _rows in stored().values()) == 1, "each pass takes its share"
    for later in (15, 20):
        discovery.discover(root, now=now + timedelta(minutes=later), quick=True)
    assert {path: (["operator"], {"operator"}) for path in PATHS} == stored()
    # They are left out again by the passes that follow.
    assert Run.objects.remembered().count() == 3


def test_runs_of_a_person(lab: Lab, root: StagingRoot, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, path in enumerate(PATHS):
        says(lab.run(path), created_by=("ada", "bo", "ada")[number])
    discovery.discover(root, now=now)
    ada = list(Person.objects.filter(folded="ada").values_list("pk", flat=True))
    for few in (5_000, 1, 0):
        monkeypatch.setattr(run_people, "_FEW", few)
        found = run_people.of_people(Run.objects.all(), ada, here=True)
        assert set(found.values_list("run_path", flat=True)) == {PATHS[0], PATHS[2]}
    assert not run_people.of_people(Run.objects.all(), [], here=False).exists()
