"""The copies on the NAS, against what was proven."""

import shutil
import time
from collections.abc import Callable
from typing import Any

import pytest

from cleanup.models import Proof, Reconciliation
from cleanup.monitoring.reconciliation import reconciling
from cleanup.monitoring.reconciliation.nas import Bounds
from cleanup.rules.reasons import Reason
from tests.monitoring.reconciliation.scene import FIRST, SECOND, THIRD, Place
from tests.monitoring.reconciliation.scene import place as place
from tests.monitoring.reconciliation.scene import untouched as untouched
from tests.tools.lab import METADATA

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]


def test_a_copy_that_is_gone_is_told_for_staged_and_for_cleared_runs(
    place: Place, untouched: Callable[..., Any]
) -> None:
    place.clear(FIRST)
    for path in (FIRST, SECOND):
        shutil.move(place.lab.twin(path), place.lab.base / path.replace("/", "_"))
    with untouched():
        found = place.found()
    assert list(found) == ["nas_missing"]
    assert [each.partition(" ")[0] for each in found["nas_missing"]] == [FIRST, SECOND]
    assert str(place.lab.twin(FIRST)) in found["nas_missing"][0]


def test_files_that_are_gone_or_shorter_are_named(place: Place) -> None:
    place.clear()
    (place.lab.twin() / "tiles/t_0001.tif").unlink()
    (place.lab.twin() / "stack.ome.xml").write_text("short")
    (place.lab.twin() / "Thumbs.db").write_text("a desktop's")
    (place.lab.twin() / METADATA / "ingest.json").unlink()
    (told,) = place.found()["nas_differs"]
    files = place.run().proofs.get().files
    assert told == (
        f"{FIRST} 1 of {files} files are missing: tiles/t_0001.tif; 1 of {files} files have another size: stack.ome.xml"
    )


def test_without_a_plan_the_numbers_of_the_proof_count(place: Place) -> None:
    place.clear()
    for plan in (place.data / "plans").iterdir():
        plan.rename(place.data / plan.name)
    (place.lab.twin() / "more.txt").write_text("more is no loss")
    assert place.found() == {}
    for name in ("more.txt", "stack.ome.xml"):
        (place.lab.twin() / name).unlink()
    proof = Proof.objects.get()
    (told,) = place.found()["nas_differs"]
    assert told.startswith(f"{FIRST} proven were {proof.files:,} files, {proof.bytes:,} bytes; there are")


def test_a_nas_that_is_not_there_is_not_asked_and_nothing_is_missing(place: Place) -> None:
    place.clear(FIRST)
    place.lab.nas.rename(place.lab.base / "unplugged")
    done = place.reconcile()
    assert (done.found.listed, done.asked, done.not_asked) == ([], 0, 3)
    assert [each["reason"] for each in done.problems] == [Reason.NAS_NOT_MOUNTED]


def test_a_pass_that_may_not_ask_says_so(place: Place) -> None:
    shutil.move(place.lab.twin(THIRD), place.lab.base / "elsewhere")
    assert list(place.found()) == ["nas_missing"]
    # What was found before stays on the page until the NAS is asked again.
    done = place.reconcile(bounds=None)
    assert ([each.kind for each in done.found.listed], done.asked) == (["nas_missing"], 3)
    shutil.move(place.lab.base / "elsewhere", place.lab.twin(THIRD))
    assert place.found() == {}


def test_each_pass_goes_on_where_the_last_one_stopped(place: Place) -> None:
    shutil.move(place.lab.twin(FIRST), place.lab.base / "elsewhere")
    one = place.reconcile(bounds=Bounds.of(runs=1))
    assert (one.asked, one.waiting, [each.run_path for each in one.found.listed]) == (1, 2, [FIRST])
    two = place.reconcile(bounds=Bounds.of(runs=1))
    assert (two.asked, two.waiting, [each.run_path for each in two.found.listed]) == (1, 1, [FIRST])
    row = Reconciliation.objects.get()
    assert (row.after, row.counts, row.ended_at is not None) == (
        {str(place.root.pk): place.run(SECOND).pk},
        {"nas_missing": 1},
        True,
    )
    rest = reconciling.ask_further([place.root], Bounds.of(seconds=60))
    assert rest is not None
    assert (rest.asked, rest.waiting, [each.run_path for each in rest.found.listed]) == (2, 0, [FIRST])
    assert Reconciliation.objects.get().after == {}
    # Without bounds all are asked anew.
    assert place.reconcile().asked == 3


def test_without_time_the_first_run_waits_too(place: Place) -> None:
    done = place.reconcile(bounds=Bounds(until=time.monotonic()))
    assert (done.asked, done.waiting) == (0, 3)
    rest = reconciling.ask_further([place.root], Bounds.of(seconds=60))
    assert rest is not None
    assert (rest.asked, rest.waiting) == (3, 0)
