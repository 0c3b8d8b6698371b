"""A database restored from an older backup gets back what tombstones surely tell, and nothing else."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.utils import timezone

from cleanup.clears import nas_history, protocol, queue
from cleanup.clears.queue import ClearRequest
from cleanup.ledger import chain
from cleanup.models import LedgerEntry, LedgerHead, LedgerLink, Requester, Run
from cleanup.monitoring.reconciliation import recovering
from cleanup.monitoring.reconciliation.evidence import DoubtedClear
from cleanup.monitoring.reconciliation.findings import MismatchKind
from cleanup.storage.data_directory.datadir import DataDir
from tests.faults import children
from tests.monitoring.reconciliation.scene import FIRST, SECOND, Place
from tests.monitoring.reconciliation.scene import place as place
from tests.monitoring.reconciliation.scene import untouched as untouched
from tests.tools.baseline import Baseline
from tests.tools.lab import Lab

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine]

HISTORY = ["staging", "complete", "sync_queued", "sync_verified", "cleared"]


class Killed(BaseException):
    """The process ends here."""


def rows() -> list[Any]:
    runs = list(Run.objects.order_by("pk").values_list("pk", "run_path", "state", "cleared_by", "gone_at"))
    return [*runs, *LedgerEntry.objects.order_by("pk").values_list("pk", "kind", "run_path")]


def expect_whole_chain() -> None:
    head = LedgerHead.objects.get()
    digest = chain.beginning(head.installation, began_after=head.began_after, unvouched=head.unvouched)
    for link in LedgerLink.objects.order_by("position").select_related("entry"):
        digest = chain.link_digest(digest, chain.content_digest(link.entry))
        assert link.sha256 == digest
    assert head.sha256 == digest


def expect_recovered(run: Run) -> None:
    assert (run.state, run.cleared_by, run.problem) == ("cleared", "", "")
    assert list(run.events.order_by("position").values_list("state", flat=True)) == HISTORY
    assert run.cleared_at == run.events.get(state="cleared").at
    row = run.ledger.get(kind="recovered")
    assert (row.actor, row.requester, row.proof_level) == ("mkhan", "operator", "checksum")
    assert (row.files > 0, row.bytes > 0, len(row.plan_sha256)) == (True, True, 64)
    assert row.detail.startswith("recovered from the tombstone of ")
    assert str(run.root.nas_path) in row.detail


@pytest.mark.both_engines
def test_the_history_comes_back(place: Place, untouched: Callable[..., Any]) -> None:
    """Takes a clear and several looks: two seconds."""
    place.clear(SECOND)
    backup = Baseline()
    cleared = place.clear(FIRST)
    backup.restore()
    before = rows()
    with untouched():
        shown = place.found()
        assert list(shown) == ["lost_clear"]
        assert shown["lost_clear"][0].startswith(f"{FIRST} cleared at ")
        assert rows() == before
        done = place.reconcile(apply=True)
    assert [run.run_path for run in done.recovered] == [FIRST]
    assert not done.found.listed
    run = place.run(FIRST)
    expect_recovered(run)
    assert run.cleared_at == cleared.cleared_at
    assert not run.here
    expect_whole_chain()
    after = rows()
    with untouched():
        again = place.reconcile(apply=True)
        place.discover()
    assert (again.recovered, again.found.listed, rows()) == ([], [], after)
    # What is freed counts only what the ledger itself has seen.
    assert LedgerEntry.objects.totals()["runs"] == 1


@pytest.mark.both_engines
def test_a_run_that_the_backup_did_not_know_gets_a_row(place: Place) -> None:
    fourth = "FLOW_01/PROJ-0060/Runs/Run_2026-04-20T16-20"
    backup = Baseline()
    place.lab.run(fourth)
    place.discover()
    place.clear(fourth)
    backup.restore()
    assert place.reconcile(apply=True).recovered
    run = place.run(fourth)
    expect_recovered(run)
    assert (run.equipment, run.project, run.leaf) == ("FLOW_01", "PROJ-0060", "Run_2026-04-20T16-20")
    place.discover()
    assert Run.objects.filter(run_path=fourth).count() == 1
    # The number of its former row is on a lock: that says, too, that the database was older.
    assert set(place.found()) <= {"locks_unknown"}


def test_what_discovery_took_for_the_wizards_clear_is_ours_again(place: Place) -> None:
    """Where the NAS was told of the clear, the record there says cleared."""
    backup = Baseline()
    place.clear()
    nas_history.tell(now=timezone.now())
    backup.restore()
    place.discover()
    assert place.run().cleared_by == "wizard"
    assert list(place.found()) == ["lost_clear"]
    place.reconcile(apply=True)
    expect_recovered(place.run())


def test_a_record_without_a_history_comes_back_too(lab: Lab, place: Place) -> None:
    newer = "FLOW_01/PROJ-0060/Runs/Run_2026-04-20T16-20"
    lab.run(newer, record="sync_state")
    place.discover()
    backup = Baseline()
    cleared = place.clear(newer)
    event = cleared.events.get()
    backup.restore()
    place.reconcile(apply=True)
    run = place.run(newer)
    assert (run.state, run.cleared_at, run.cleared_by) == ("cleared", cleared.cleared_at, "")
    assert (run.events.get().digest, run.events.get().at) == (event.digest, event.at)
    assert place.found() == {}


@pytest.mark.parametrize("fillers", [0, 50], ids=["its number is free", "its number is taken"])
def test_a_run_that_was_cleared_came_back_and_was_cleared_again(place: Place, fillers: int) -> None:
    """While its copy lies there, the first clear is in doubt; then both come back. Takes two clears: two seconds."""
    backup = Baseline()
    first = place.clear()
    there = Baseline()
    for number in range(fillers):
        (place.lab.base / f"filler-{number}").mkdir()
    shutil.copytree(place.lab.twin(), place.lab.staging / FIRST)
    backup.restore()
    assert list(place.found(apply=True)) == ["doubted_clear"]
    there.restore()
    place.discover()
    returned_at = timezone.now() + timedelta(hours=1)
    protocol.clear_run(place.run(), now=returned_at, actor="mkhan")
    backup.restore()
    dry = [each.detail for each in place.reconcile(bounds=None).found.listed if each.kind == "lost_clear"]
    done = place.reconcile(apply=True)
    assert [run.run_path for run in done.recovered] == [FIRST, FIRST]
    assert len(dry) == 2, "both are told before, although the second waits for the first"
    runs = list(Run.objects.filter(run_path=FIRST).order_by("pk"))
    assert runs[0].pk == first.pk
    assert {run.state for run in runs} == {"cleared"}
    # The copy may have got the free number of the first folder: then both are told of one row.
    assert LedgerEntry.objects.filter(kind="recovered", run__in=runs).count() == 2
    assert not any(each.kind.is_serious for each in place.reconcile(apply=True).found.listed)


# In doubt


def kill(place: Place, at: str) -> None:
    with mock.patch.object(protocol, at, side_effect=Killed), pytest.raises(Killed):
        place.clear()


def in_its_fence(place: Place) -> None:
    kill(place, "_commit")


def half_undone(place: Place) -> None:
    """It lies at its path again, and the process ended before plan and tombstone went."""
    with (
        mock.patch.object(DataDir, "discard", side_effect=Killed),
        mock.patch.object(protocol.last_checks, "expect_planned", side_effect=OSError(5, "EIO")),
        pytest.raises(Killed),
    ):
        place.clear()


def undone_but_for_the_tombstone(place: Place) -> None:
    half_undone(place)
    for plan in (place.data / "plans").iterdir():
        plan.unlink()
    shutil.move(place.lab.staging / FIRST, place.lab.base / "elsewhere")


def undone_and_renamed(place: Place) -> None:
    half_undone(place)
    (place.lab.staging / FIRST).rename(place.beside() / "Run_2026-04-17T14-33")


def undone_and_in_a_later_fence(place: Place) -> None:
    half_undone(place)
    attempt = place.run().active_attempt
    assert attempt is not None
    attempt.advance(["intent"], "aborted", now=timezone.now())
    kill(place, "_commit")


def with_its_folder_gone(place: Place) -> None:
    place.clear()
    place.clear(SECOND)
    place.beside().rename(place.lab.base / "moved")


def in_another_shape(place: Place) -> None:
    place.clear()
    (place.lab.staging / FIRST).mkdir()


def unreadable(place: Place) -> None:
    place.clear()
    for tombstone in (place.data / "tombstones").iterdir():
        tombstone.write_bytes(tombstone.read_bytes()[:100])


DOUBTS = [
    (in_its_fence, "the run lies in its fence"),
    (half_undone, "something lies at the run's path"),
    (undone_but_for_the_tombstone, "the plan is gone, so the attempt may have been undone"),
    (undone_and_renamed, "the run's own folder lies beside its path as Run_2026-04-17T14-33"),
    (undone_and_in_a_later_fence, "the run's own folder lies beside its path as .exlab-clearing-"),
    (with_its_folder_gone, "the folder in which it lay cannot be opened"),
    (in_another_shape, "something lies at the run's path"),
    (unreadable, "it cannot be read"),
]


@pytest.mark.parametrize(("prepare", "words"), DOUBTS, ids=lambda each: getattr(each, "__name__", ""))
def test_what_may_be_no_clear_is_only_told(
    place: Place, untouched: Callable[..., Any], prepare: Callable[[Place], None], words: str
) -> None:
    backup = Baseline()
    prepare(place)
    backup.restore()
    before = rows()
    with untouched():
        done = place.reconcile(apply=True)
    told = [each.detail for each in done.found.listed if each.kind == "doubted_clear"]
    assert any(words in detail for detail in told), told
    assert not [each for each in done.found.listed if each.kind == "lost_clear"]
    assert (done.recovered, rows()) == ([], before)


@pytest.mark.parametrize(
    "at",
    [
        "cleanup.clears.protocol:_commit:before:1",
        "cleanup.ledger.entries:write_ledger:after:1",
        "cleanup.clears.protocol:_commit:after:1",
        "cleanup.storage.staging.removal:_unlink_planned:after:5",
    ],
)
def test_a_killed_clear_is_told_and_all_of_it_stays(
    place: Place, untouched: Callable[..., Any], subprocess_env: dict[str, str], at: str
) -> None:
    """Kills a process, before the commit and after it, and restores the backup: a second each."""
    backup = Baseline()
    attempt = queue.new_attempt(
        place.run(), ClearRequest(requester=Requester.OPERATOR, actor="mkhan"), now=timezone.now()
    )
    env = {**subprocess_env, "EXLAB_DATA_DIR": str(place.data)}
    children.kill_at(at, env, "clear", timezone.now(), str(attempt.pk))
    assert (place.data / "tombstones" / f"{attempt.pk.hex}.tar.gz").exists()
    backup.restore()
    before = rows()
    with untouched():
        done = place.reconcile(apply=True)
    kinds = {each.kind: each.detail for each in done.found.listed}
    assert {"doubted_clear", "stray_fence"} <= set(kinds)
    assert "lies in its fence" in kinds[MismatchKind.DOUBTED_CLEAR]
    assert (done.recovered, rows()) == ([], before)


def seen_since(run: Run) -> None:
    """A tombstone from before the last look: the run stood at its path after that attempt."""
    Run.objects.filter(pk=run.pk).update(looked_at=timezone.now())


def marked_gone(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(gone_at=timezone.now())


def another_folder(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(identity="1:2:" + "0" * 32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (seen_since, "the run was seen on the disk after that"),
        (marked_gone, "marked the run as gone"),
        (another_folder, "the database knows another run at its path"),
    ],
)
def test_rows_that_tell_another_story_stay(place: Place, change: Callable[[Run], None], words: str) -> None:
    backup = Baseline()
    place.clear()
    backup.restore()
    change(place.run())
    before = rows()
    done = place.reconcile(apply=True)
    assert [words in each.detail for each in done.found.listed if each.kind == "doubted_clear"] == [True]
    assert (done.recovered, rows()) == ([], before)


@pytest.mark.both_engines
def test_two_who_recover_write_one_row(place: Place) -> None:
    backup = Baseline()
    place.clear()
    backup.restore()
    judged = {}

    def keep(lost: Any, *, now: Any) -> Run:
        judged["lost"] = lost
        return original(lost, now=now)

    original = recovering.recover
    with mock.patch.object(recovering, "recover", keep):
        place.reconcile(apply=True)
    with pytest.raises(DoubtedClear, match="already"):
        recovering.recover(judged["lost"], now=timezone.now())
    assert place.run().ledger.count() == 1
