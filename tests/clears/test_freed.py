"""The space that clears free is reported, and sweeps under pressure use it.

On real filesystems, which only root can mount; a mount takes 0.5 s.
"""

import os
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from cleanup import clear_run
from cleanup.clears import clear_now, freed, progress, recovery, settlement
from cleanup.clears.report import ClearReport
from cleanup.clears.run_action import Action
from cleanup.lab.roots import disk_usage, opening, registration
from cleanup.ledger import book
from cleanup.management.base import sweep_as_json, sweep_as_text
from cleanup.models import Alert, ClearAttempt, ClearBatch, DiskUsage, LedgerEntry, Run, StagingRoot, Sweep, SweptRun
from cleanup.rules import freed as rules
from cleanup.rules.freed import Unmeasured
from cleanup.runs import discovery
from cleanup.storage import freed_space, removal_counts
from cleanup.storage.mounts.places import filesystem_of
from cleanup.storage.staging import removal, run_tree
from cleanup.sweeps import all_roots
from tests.faults import mounts
from tests.faults.mounts import Enter
from tests.tools.lab import Lab
from tests.tools.rows import clear_rows, run_row

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

MIB = 1 << 20
BIG = 10 * MIB
NAMES = [f"CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-{day}T14-32" for day in range(10, 15)]

Staged = Callable[..., StagingRoot]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait 10 s for an idle disk; measure from 10 MiB on instead of 100 MB."""
    monkeypatch.setattr(freed_space, "_SETTLED_SECONDS", 0.05)
    monkeypatch.setattr(freed, "_SHORT_PATIENCE_SECONDS", 30)
    monkeypatch.setattr(rules, "TELLING_BYTES", BIG)


@pytest.fixture
def staged(lab: Lab, enter: Enter, now: datetime, tmp_path: Path) -> Staged:
    """A staging disk with this many runs of 10 MiB: `staged("btrfs", runs=2)`."""

    def stage(kind: str, *, runs: int = 1, snapshot: bool = False, more: dict[str, bytes] | None = None) -> StagingRoot:
        top = tmp_path / "disk"
        enter(mounts.disk(tmp_path / "disk.img", top, kind, "256M"))
        (top / "staging").mkdir()
        lab.staging.rmdir()
        lab.staging.symlink_to(top / "staging")
        for number, name in enumerate(NAMES[:runs]):
            lab.run(
                name,
                files={"big.tif": os.urandom(BIG), **(more or {})},
                verified_at=now - timedelta(hours=100 - number),
            )
        os.sync()
        if snapshot:
            take_snapshot(top)
        given = {"nas_path": str(lab.nas), "allow_same_filesystem": True, "now": now}
        root = registration.register("lab", str(top / "staging"), **given)
        discovery.discover(root, now=now)
        return root

    return stage


def take_snapshot(top: Path) -> None:
    subprocess.run(["btrfs", "subvolume", "snapshot", "-r", top, top / "kept"], check=True, capture_output=True)
    os.sync()


def drop_snapshot(top: Path) -> None:
    subprocess.run(["btrfs", "subvolume", "delete", "--commit-after", top / "kept"], check=True, capture_output=True)
    subprocess.run(["btrfs", "subvolume", "sync", top], check=True, capture_output=True)
    subprocess.run(["btrfs", "filesystem", "sync", top], check=True, capture_output=True)


def cleared(now: datetime, name: str = NAMES[0]) -> ClearAttempt:
    run = Run.objects.get(run_path=name)
    clear_run(run, now=now, actor="ada")
    return ClearAttempt.objects.get(run=run)


# One clear


def test_on_ext4_the_disk_gives_back_what_was_removed(staged: Staged, now: datetime) -> None:
    root = staged("ext4")
    attempt = cleared(now)
    assert attempt.measured_bytes == pytest.approx(attempt.freed_allocated_bytes, rel=0.01)
    entry = LedgerEntry.objects.get(kind="completed")
    assert (entry.measured_bytes, entry.unmeasured) == (attempt.measured_bytes, "")
    assert LedgerEntry.objects.get(kind="authorised").measured_bytes is None
    usage = DiskUsage.objects.filter(root=root).latest("at")
    assert usage.free_bytes == pytest.approx(attempt.disk_free_after, abs=MIB)
    assert attempt.disk_free_after - attempt.disk_free_before == attempt.measured_bytes


def test_what_a_snapshot_holds_is_told_everywhere(staged: Staged, now: datetime, admin_client: Client) -> None:
    staged("btrfs", snapshot=True)
    swept = clear_now.clear(Run.objects.with_root(), now=now, actor="ada")
    attempt = ClearAttempt.objects.get()
    assert (attempt.measured_bytes, attempt.unmeasured) == (0, "")
    assert LedgerEntry.objects.get(kind="completed").measured_bytes == 0
    words = "10.5 MB removed, 0 B freed: a snapshot may still hold them"
    assert words in sweep_as_text(swept)
    answer = sweep_as_json(swept)
    size = attempt.freed_allocated_bytes
    assert (answer["allocated_bytes"], answer["measured_bytes"], answer["measured_of_bytes"]) == (size, 0, size)
    (run,) = answer["runs"]
    assert (run["allocated_bytes"], run["measured_bytes"], run["unmeasured"]) == (size, 0, None)
    for page in (f"/runs/{attempt.run_id}/", f"/runs/{attempt.run_id}/receipt/"):
        assert words in admin_client.get(page).content.decode()
    assert LedgerEntry.objects.measured() == {"measured_bytes": 0, "measured_of_bytes": size}


def test_a_removal_at_the_same_time_makes_it_not_measurable(
    staged: Staged, now: datetime, admin_client: Client
) -> None:
    root = staged("ext4")
    descriptor = os.open(root.path, os.O_RDONLY)
    counter = opening.data_dir().removals(removal_counts.counter_of(filesystem_of(descriptor)))
    os.close(descriptor)
    with removal_counts.counted(counter):
        attempt = cleared(now)
    assert (attempt.measured_bytes, attempt.unmeasured) == (None, Unmeasured.OVERLAPPED)
    page = admin_client.get(f"/runs/{attempt.run_id}/receipt/").content.decode()
    assert "not measurable: another run was removed on this disk at the same time" in page


def test_a_disk_that_cannot_be_measured_is_cleared_all_the_same(
    lab: Lab, root: StagingRoot, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.run(NAMES[0])
    discovery.discover(root, now=now)

    def fail(descriptor: int) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(freed_space, "fill_of", fail)
    monkeypatch.setattr(disk_usage, "fill_of", fail)
    attempt = cleared(now)
    assert (attempt.phase, attempt.unmeasured) == ("done", Unmeasured.UNKNOWN)


def test_rows_from_before_it_was_measured_say_nothing(root: StagingRoot, now: datetime, admin_client: Client) -> None:
    run = run_row(root, NAMES[0], first_seen_at=now, state="cleared", cleared_at=now)
    clear_rows(run, now, files=3, size=10**9, freed_allocated_bytes=10**9)
    for page in (f"/runs/{run.pk}/", f"/runs/{run.pk}/receipt/"):
        text = admin_client.get(page).content.decode()
        assert "measurable" not in text
        assert "GB removed, " not in text
    assert LedgerEntry.objects.measured() == {"measured_bytes": 0, "measured_of_bytes": 0}


# After a crash


class Crash(Exception):
    """The clearing process dies here."""


def crash(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, at: int = 1) -> None:
    calls = 0
    original = getattr(owner, name)

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            raise Crash
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, dying)


@pytest.mark.parametrize(
    ("place", "measured"),
    [
        ((removal, "remove", 1), True),  # before the first unlink: recovery makes the whole removal
        ((removal, "_unlink_batch", 2), False),  # between two of them
        ((settlement, "finish", 1), False),  # after the last one
    ],
    ids=["before", "amid", "after"],
)
def test_after_a_crash_only_a_whole_removal_is_measured(
    staged: Staged, lab: Lab, now: datetime, monkeypatch: pytest.MonkeyPatch, place: Any, measured: bool
) -> None:
    staged("ext4")
    owner, name, at = place
    with monkeypatch.context() as patch:
        crash(patch, owner, name, at=at)
        with pytest.raises(Crash):
            cleared(now)
    recovery.recover(now=timezone.now())
    attempt = ClearAttempt.objects.get()
    assert attempt.phase == "done"
    if measured:
        assert attempt.measured_bytes == pytest.approx(attempt.freed_allocated_bytes, rel=0.01)
    else:
        assert (attempt.measured_bytes, attempt.unmeasured) == (None, Unmeasured.INTERRUPTED)
    entry = LedgerEntry.objects.get(kind="completed")
    assert (entry.measured_bytes, entry.unmeasured) == (attempt.measured_bytes, attempt.unmeasured)


def test_two_steps_of_one_clear_add_up(staged: Staged, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be removed at first; mocked, since a real one is refused beforehand."""
    staged("ext4", more={"other.tif": os.urandom(BIG)})
    unlink = removal._unlink_planned

    def busy(directory: int, entry: run_tree.Entry, proven: removal.Proven) -> str:
        return "EBUSY" if entry.path == b"other.tif" else unlink(directory, entry, proven)

    with monkeypatch.context() as patch:
        patch.setattr(removal, "_unlink_planned", busy)
        assert cleared(now).incomplete
    recovery.recover(now=timezone.now())
    attempt = ClearAttempt.objects.get()
    steps = dict(LedgerEntry.objects.freeing().values_list("kind", "measured_bytes"))
    assert steps["partial"] == pytest.approx(BIG, rel=0.02)
    assert steps["completed"] == pytest.approx(BIG, rel=0.02)
    assert attempt.measured_bytes == sum(steps.values())
    assert attempt.disk_free_after - attempt.disk_free_before == pytest.approx(2 * BIG, rel=0.02)


# Batches, and how full the disk is


def test_a_batch_says_how_full_the_disk_was_before_and_after(
    root: StagingRoot, now: datetime, admin_client: Client
) -> None:
    user = User.objects.get(username="admin")
    batch = ClearBatch.objects.create(actor=user.username, digest="d", created_at=now)
    disk = {"disk_bytes": 1000 * MIB, "batch": batch, "unmeasured": ""}
    for number, (before, after, measured) in enumerate(((0, 330, 330 * MIB), (330, 660, None))):
        run = run_row(root, NAMES[number], first_seen_at=now, state="cleared", cleared_at=now)
        clear_rows(
            run,
            now + timedelta(minutes=number),
            files=1,
            size=330 * MIB,
            freed_allocated_bytes=330 * MIB,
            measured_bytes=measured,
            disk_free_before=before * MIB,
            disk_free_after=after * MIB,
            **{**disk, "unmeasured": "" if measured else "overlapped"},
        )
    found = progress.measure(batch, now)
    assert found.given_back == "346.0 MB removed, 346.0 MB freed"
    assert found.unmeasured == 1
    page = admin_client.get(f"/batches/{batch.pk}/").content.decode()
    assert "100 % → 34 %" in page
    assert "346.0 MB removed, 346.0 MB freed" in page


def test_the_disk_is_measured_when_a_root_is_registered_and_when_it_is_discovered(
    lab: Lab, now: datetime, db: None
) -> None:
    from django.core.management import call_command

    (lab.staging / "CONFOCAL_01").mkdir()
    (lab.nas / "CONFOCAL_01").mkdir()
    given = {"nas_root": [str(lab.nas)], "allow_same_filesystem": True, "verbosity": 0}
    call_command("add_staging_root", "lab", str(lab.staging), **given)
    assert DiskUsage.objects.count() == 1
    call_command("discover", verbosity=0)
    assert DiskUsage.objects.count() == 2


# Under pressure


@pytest.fixture
def pressed(staged: Staged, policy: Callable[..., Any]) -> Callable[..., StagingRoot]:
    def press(*, due: int = 0, runs: int = 5, snapshot: bool = True, **limits: Any) -> StagingRoot:
        root = staged("btrfs", runs=runs, snapshot=snapshot)
        hours = 100.5 - due
        policy(
            root=root, mode="scheduled", retain_hours=hours, min_retain_hours=1, proof="size",
            **(limits or {"max_bytes": 2 * MIB}),
        )  # fmt: skip
        return root

    return press


def gone(swept: ClearReport) -> list[str]:
    return [run.run_path for run in swept.runs if run.action is Action.CLEARED]


def test_a_pass_takes_no_further_run_for_space_once_one_freed_nothing(
    pressed: Callable[..., StagingRoot], now: datetime, admin_client: Client
) -> None:
    root = pressed()
    swept = all_roots.sweep(now=now)
    assert gone(swept) == NAMES[:1]
    (problem,) = swept.problems
    assert (problem.reason, problem.detail) == ("clearing_frees_nothing", "Lately: 10.5 MB removed, 0 B freed")
    alert = Alert.objects.get(kind="pressure", ended_at=None)
    assert (alert.root, alert.reason, alert.detail) == (root, problem.reason, problem.detail)
    record = Sweep.objects.get()
    assert (record.outcome, record.reason, record.detail) == ("done", problem.reason, problem.detail)
    assert record.pressure["freed"]["measured"] == 0
    assert {row.reason for row in SweptRun.objects.exclude(action="cleared")} == {"clearing_frees_nothing"}
    page = admin_client.get(f"/sweeps/{record.pk}/").content.decode()
    assert "10.5 MB removed, 0 B freed: a snapshot may still hold them" in page


def test_nor_does_any_later_pass_until_space_comes_free(
    pressed: Callable[..., StagingRoot], now: datetime, tmp_path: Path
) -> None:
    pressed()
    assert gone(all_roots.sweep(now=now)) == NAMES[:1]
    for dry_run in (True, False):
        later = all_roots.sweep(now=now, dry_run=dry_run)
        assert [run.action for run in later.runs] == ["skipped"] * 4
    drop_snapshot(tmp_path / "disk")
    assert gone(all_roots.sweep(now=now)) == NAMES[1:]
    assert not Alert.objects.filter(kind="pressure", reason="clearing_frees_nothing", ended_at=None).exists()


def test_what_is_due_by_time_goes_all_the_same(pressed: Callable[..., StagingRoot], now: datetime) -> None:
    pressed(due=3)
    assert gone(all_roots.sweep(now=now)) == NAMES[:3]
    assert gone(all_roots.sweep(now=now + timedelta(hours=1))) == NAMES[3:4]  # due by now


def test_the_number_of_runs_is_another_matter(pressed: Callable[..., StagingRoot], now: datetime) -> None:
    pressed(max_runs=2, max_bytes=2 * MIB)
    assert gone(all_roots.sweep(now=now)) == NAMES[:3]


def test_where_clearing_frees_space_as_many_go_as_are_needed(
    pressed: Callable[..., StagingRoot], now: datetime
) -> None:
    pressed(snapshot=False)
    swept = all_roots.sweep(now=now)
    assert gone(swept) == NAMES
    assert swept.problems == []


def test_free_space_that_did_not_come_is_still_wanted(
    pressed: Callable[..., StagingRoot], now: datetime, policy: Callable[..., Any], tmp_path: Path
) -> None:
    root = pressed(runs=2, max_runs=10)
    found = os.statvfs(tmp_path / "disk")
    free = found.f_bavail * found.f_frsize
    policy(root=root, free_start_bytes=free + MIB, free_stop_bytes=free + 2 * MIB)
    assert gone(all_roots.sweep(now=now)) == NAMES[:1]
    pressure = Sweep.objects.get().pressure
    assert pressure["wanted"]["free_wanted"] == pytest.approx(2 * MIB, abs=MIB // 2)
    assert pressure["left"]["free_wanted"] == pressure["wanted"]["free_wanted"]
    assert Alert.objects.get(ended_at=None).reason == "clearing_frees_nothing"
    assert gone(all_roots.sweep(now=now)) == []


def test_a_clear_by_hand_that_frees_space_lets_sweeps_go_on(root: StagingRoot, now: datetime) -> None:
    def clear(number: int, measured: int) -> None:
        run = run_row(root, NAMES[number], first_seen_at=now, state="cleared", cleared_at=now)
        attempt = clear_rows(run, now, files=1, size=BIG, disk_free_after=0)
        columns = {"attempt": attempt, "allocated_bytes": BIG, "measured_bytes": measured, "host": "h", "actor": "ada"}
        at = now + timedelta(minutes=number)
        book.write(
            LedgerEntry(at=at, kind="partial", run=run, root_name=root.name, policy_version=0, files=1, **columns)
        )

    clear(0, 0)
    assert not freed.Lately.of(root, now, free_bytes=0).helps()
    assert freed.Lately.of(root, now, free_bytes=2 * MIB).helps()  # so much has come free since
    assert freed.Lately.of(root, now + timedelta(days=8), free_bytes=0).helps()
    clear(1, BIG)
    assert freed.Lately.of(root, now, free_bytes=0).helps()
