"""A pass beside clears, and as the queue runs it."""

import shutil
from contextlib import ExitStack
from typing import Any
from unittest import mock

import pytest
from django.conf import settings
from django_q.models import OrmQ
from django_q.signing import SignedPackage

from cleanup import tasks
from cleanup.lab import task_queues
from cleanup.lab.roots import opening
from cleanup.models import Reconciliation, Run
from cleanup.monitoring.reconciliation import data_directory, disk, findings
from cleanup.monitoring.reconciliation.findings import LISTED, Mismatch, Mismatches, MismatchKind
from cleanup.storage.data_directory.datadir import DataDir
from tests.monitoring.reconciliation.scene import FIRST, SECOND, Place
from tests.monitoring.reconciliation.scene import place as place

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]


def test_it_waits_for_no_lock_of_a_clear_and_keeps_none(place: Place) -> None:
    place.clear(SECOND)
    taken: list[str] = []
    lock = DataDir.lock

    def note(self: DataDir, name: str, **how: Any) -> Any:
        taken.append(name)
        return lock(self, name, **how)

    with ExitStack() as held:
        for name in (*map(str, Run.objects.values_list("pk", flat=True)), f"discovery-{place.root.pk}"):
            assert held.enter_context(opening.data_dir().lock(name))
        with mock.patch.object(DataDir, "lock", note):
            assert place.reconcile().found.listed == []
    assert taken == ["reconciliation"]
    with opening.data_dir().lock("reconciliation"):
        assert place.clear(FIRST).state == "cleared"


def test_the_timed_task_asks_in_turns(place: Place) -> None:
    """The first turn has no time, the second has; each is one task on the cluster of long work."""
    shutil.move(place.lab.twin(), place.lab.base / "elsewhere")
    row = next(row for row in task_queues.SCHEDULES if row[1] == "cleanup.tasks.reconcile")
    assert row[2:] == (7 * 24 * 60, settings.EXLAB_CLEAR_CLUSTER)
    with mock.patch.object(tasks, "ASKED_AT_ONCE", 0.0):
        said = tasks.reconcile()
    assert said == "0 mismatches, 3 runs, 0 copies asked for, 3 waiting"
    (queued,) = OrmQ.objects.all()
    task = SignedPackage.loads(queued.payload)
    assert queued.key == settings.EXLAB_CLEAR_CLUSTER
    assert (task["func"], task["args"]) == ("cleanup.tasks.reconcile_further", (tasks.ASKED_SECONDS,))
    assert tasks.reconcile_further(*task["args"]) == "1 mismatches, 3 runs, 3 copies asked for, 0 waiting"
    assert OrmQ.objects.count() == 1
    assert Reconciliation.objects.get().counts == {"nas_missing": 1}


def test_the_last_turn_leaves_the_rest_to_the_next_week(place: Place) -> None:
    with mock.patch.object(tasks, "ASKED_AT_ONCE", 0.0), mock.patch.object(tasks, "ASKED_SECONDS", 0.0):
        assert tasks.reconcile().endswith("3 waiting")
    assert not OrmQ.objects.exists()
    with opening.data_dir().lock("reconciliation"):
        assert tasks.reconcile() == "another reconciliation is under way"


def test_one_bad_place_does_not_hide_the_others(place: Place) -> None:
    shutil.move(place.lab.twin(), place.lab.base / "elsewhere")
    with (
        mock.patch.object(disk, "look", side_effect=KeyError),
        mock.patch.object(data_directory, "look", side_effect=PermissionError),
    ):
        done = place.reconcile()
    assert [each.kind for each in done.found.listed] == ["nas_missing"]
    assert done.problems == [
        {"root": "", "reason": "look_failed", "detail": "PermissionError"},
        {"root": "lab", "reason": "look_failed", "detail": "KeyError"},
    ]


def test_of_each_kind_the_first_ones_are_kept() -> None:
    found = Mismatches()
    for number in range(LISTED + 5):
        found.add(Mismatch(MismatchKind.ORPHAN, "lab", f"{number:04}"))
    found.add(Mismatch(MismatchKind.NAS_MISSING, "lab", "A"))
    kept = findings.from_json(dict(found.counts), [each.as_json() for each in found.in_order])
    assert (kept.counts, len(kept.listed)) == ({"orphan": LISTED + 5, "nas_missing": 1}, LISTED + 1)
    assert kept.in_order[0].kind is MismatchKind.NAS_MISSING
    assert Mismatch(MismatchKind.UNKNOWN_RUN, "a lab").command == "discover --root 'a lab'"
