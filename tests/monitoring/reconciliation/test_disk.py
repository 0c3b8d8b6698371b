"""What lies on a staging disk, against the rows."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.utils import timezone

from cleanup.clears import protocol
from cleanup.models import ClearAttempt, Run
from cleanup.rules.reasons import Reason
from cleanup.runs.orphans import orphans
from tests.monitoring.reconciliation.scene import FIRST, SECOND, THIRD, Place
from tests.monitoring.reconciliation.scene import place as place
from tests.monitoring.reconciliation.scene import untouched as untouched
from tests.tools.lab import METADATA, date_everything

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

NEW = "CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-30T09-00"


class Killed(BaseException):
    """The process ends here."""


def test_nothing_is_found_in_a_healthy_lab(place: Place, untouched: Callable[..., Any]) -> None:
    place.clear(SECOND)
    with untouched():
        first = place.reconcile()
        second = place.reconcile()
    assert (first.found.listed, first.found.counts.total(), first.problems) == ([], 0, [])
    assert (first.runs, first.asked, first.not_asked, first.waiting) == (2, 3, 0, 0)
    assert (second.runs, second.asked, second.found.listed) == (2, 3, [])


def test_a_cleared_run_whose_own_folder_is_there(place: Place) -> None:
    run = place.run()
    place.clear()
    there = place.beside() / run.leaf
    there.mkdir()
    (there / "data.bin").write_text("1")
    Run.objects.filter(pk=run.pk).update(identity=f"{there.stat().st_ino}:-:-")
    assert place.found(bounds=None) == {"cleared_but_there": [f"{FIRST} it is the very folder that was cleared"]}


def test_a_run_that_came_back_is_for_discovery(place: Place) -> None:
    place.clear()
    shutil.copytree(place.lab.twin(), place.lab.staging / FIRST)
    long_ago = timezone.now() - timedelta(days=2)
    date_everything(place.lab.staging / FIRST, long_ago, long_ago)
    assert place.found(bounds=None) == {"unknown_run": [FIRST]}
    place.discover()
    assert place.found(bounds=None) == {}


@pytest.mark.parametrize(("age", "told"), [(timedelta(hours=2), True), (timedelta(minutes=5), False)])
def test_an_unknown_run_is_told_once_discovery_could_have_taken_it(place: Place, age: timedelta, told: bool) -> None:
    written = timezone.now() - age
    date_everything(place.lab.run(NEW, state="staging"), written, written)
    assert (place.found(bounds=None) == {"unknown_run": [NEW]}) is told


def test_a_missing_run_is_told_until_it_is_marked_as_gone(place: Place, untouched: Callable[..., Any]) -> None:
    shutil.move(place.lab.staging / THIRD, place.lab.base / "elsewhere")
    with untouched():
        assert place.found() == {"missing": [f"{THIRD} its state is sync_verified"]}
    Run.objects.filter(run_path=THIRD).update(gone_at=timezone.now())
    assert place.found() == {}


def test_a_disk_that_is_not_there_loses_no_run(place: Place) -> None:
    place.lab.staging.rename(place.lab.base / "unplugged")
    done = place.reconcile(bounds=None)
    assert (done.found.listed, [each["reason"] for each in done.problems]) == ([], [Reason.ROOT_NOT_MOUNTED])


def test_a_fence_that_a_done_clear_has_left(place: Place) -> None:
    place.clear()
    attempt = ClearAttempt.objects.get()
    name = f".exlab-clearing-{attempt.pk.hex}"
    (place.beside() / name).mkdir()
    assert list(place.found(bounds=None)) == ["fence_stayed"]
    attempt.refresh_from_db()
    assert attempt.reason == ""  # only discovery hands it over to the recovery
    other = place.lab.staging / "FLOW_01/PROJ-0060/Runs" / name
    (place.beside() / name).rename(other)
    (told,) = place.found(bounds=None)["stray_fence"]
    assert told.endswith("it lies in another folder than its run")


@pytest.mark.parametrize("suffix", ["", ".ingest.json"])
def test_a_fence_of_an_unknown_clear(place: Place, suffix: str) -> None:
    name = f".exlab-clearing-{'5' * 32}{suffix}"
    (place.beside() / name).mkdir()
    folder = FIRST.rpartition("/")[0]
    assert place.found(bounds=None) == {"stray_fence": [f"{folder}/{name} the database knows no such clear"]}


def test_what_a_clear_has_under_way_is_no_finding(place: Place) -> None:
    """A killed clear is the recovery's; so is one in conflict."""
    with mock.patch.object(protocol, "_commit", side_effect=Killed), pytest.raises(Killed):
        place.clear()
    assert place.found(bounds=None) == {}
    ClearAttempt.objects.update(phase="conflict")
    assert place.found(bounds=None) == {}
    ClearAttempt.objects.update(phase="aborted", phase_at=timezone.now() - timedelta(hours=1))
    found = place.found(bounds=None)
    assert [each.rpartition(" ")[2] for each in found["stray_fence"]] == ["aborted", "aborted"]
    assert list(found["tombstone_left"]) and list(found["plan_left"])
    assert "missing" not in found  # it lies in its fence


def test_a_shell_of_the_wizard(place: Place) -> None:
    place.clear()
    folder: Path = place.lab.staging / FIRST / METADATA
    folder.mkdir(parents=True)
    (folder / "creation.json.lock").touch()
    assert list(place.found(bounds=None)) == ["shell"]


def test_what_discovery_lists_as_orphans(place: Place) -> None:
    (place.lab.staging / "notes.txt").write_text("1")
    long_ago = timezone.now() - timedelta(days=3)
    date_everything(place.lab.staging / "notes.txt", long_ago, long_ago)
    orphans.inspect(place.root, now=timezone.now())
    (told,) = place.found(bounds=None)["orphan"]
    assert told.startswith("notes.txt ")
