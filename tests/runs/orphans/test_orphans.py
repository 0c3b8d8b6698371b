"""Orphans are found, measured, escalated, and never removed."""

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cleanup import tasks
from cleanup.lab.roots import opening, registration
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import Alert, ClearAttempt, LedgerEntry, Orphan, Phase, Run, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery, rows
from cleanup.runs.holds import holds
from cleanup.runs.moved_or_gone.gone import NotGone, mark_gone
from cleanup.runs.orphans import orphan_inspection, orphan_rows, orphans
from cleanup.runs.orphans.orphan_rows import GRACE
from cleanup.runs.orphans.orphans import MAX_AGE, Inspected, adopt, inspect, listed, look_again
from cleanup.storage.staging import run_tree
from cleanup.storage.staging.hold_file import HoldFile
from cleanup.storage.staging.walk import Measure, measure
from tests.faults import means
from tests.faults.scene import everything, set_scene
from tests.tools.lab import METADATA, RUN_PATH, Lab, census, outlines

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

FOLDER = "CONFOCAL_01/PROJ-0042/Runs"
OTHER = f"{FOLDER}/Run_2026-05-01T10-00"
NOBODYS_FENCE = f"{FOLDER}/.exlab-clearing-{'a' * 32}"
SECOND = timedelta(seconds=1)


@pytest.fixture
def old(now: datetime) -> datetime:
    return now - timedelta(days=3)


def put(path: Path, at: datetime, files: dict[str, bytes] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if files is None:
        path.write_bytes(b"12345")
    else:
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        path.mkdir(exist_ok=True)
    return date(path, at)


def date(path: Path, at: datetime) -> Path:
    for entry in [path, *path.rglob("*")]:
        os.utime(entry, (at.timestamp(), at.timestamp()), follow_symlinks=False)
    return path


def look(root: StagingRoot, now: datetime, **options: Any) -> Inspected:
    before = outlines(Path(root.path))
    done = inspect(root, now=now, **options)
    assert outlines(Path(root.path)) == before
    assert done is not None
    return done


def both(root: StagingRoot, now: datetime) -> Inspected:
    assert discovery.discover(root, now=now) is not None
    return look(root, now)


def kinds() -> dict[str, tuple[str, str]]:
    return {orphan.path: (orphan.kind, orphan.reason) for orphan in listed()}


def without_record(lab: Lab, at: datetime, run_path: str = RUN_PATH) -> Path:
    run = lab.run(run_path, twin=False)
    (run / METADATA / "ingest.json").unlink()
    return date(run, at)


# Every kind


def test_a_clean_root_has_none(lab: Lab, root: StagingRoot, now: datetime) -> None:
    lab.run()
    (lab.staging / "lost+found").mkdir()
    (lab.staging / "CONFOCAL_01/.Trash/x").mkdir(parents=True)
    done = both(root, now)
    assert (done.listed, done.waiting, done.problem) == (0, 0, None)
    assert not Orphan.objects.exists()


@pytest.mark.parametrize("spoil", ["gone", "broken", "fifo"])
def test_a_run_without_a_readable_record(lab: Lab, root: StagingRoot, now: datetime, old: datetime, spoil: str) -> None:
    path = without_record(lab, old)
    if spoil == "broken":
        (path / METADATA / "ingest.json").write_text("{")
    elif spoil == "fifo":
        os.mkfifo(path / METADATA / "ingest.json")
    date(path, old)
    both(root, now)
    assert kinds() == {RUN_PATH: ("no_record", Reason.INGEST_UNREADABLE)}
    orphan = listed().get()
    assert (orphan.files, orphan.bytes) == census(path)
    assert (orphan.modified_at, orphan.first_seen_at, orphan.seen_at, orphan.measured_at) == (old, now, now, now)
    assert orphan.run == Run.objects.get()


def test_a_later_schema_is_no_orphan(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    path = lab.run()
    record = path / METADATA / "ingest.json"
    record.write_bytes(record.read_bytes().replace(b'"1.1"', b'"2.0"'))
    date(path, old)
    both(root, now)
    assert Run.objects.get().problem == Reason.INGEST_SCHEMA_UNSUPPORTED
    assert not Orphan.objects.exists()


def test_a_directory_that_the_database_does_not_know(
    lab: Lab, root: StagingRoot, now: datetime, old: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = date(lab.run(), old)

    def fail(*args: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(rows, "row_for", fail)
        both(root, now)
        assert kinds() == {}
        both(root, now + SECOND)
    assert kinds() == {RUN_PATH: ("unknown", Reason.UNKNOWN_DIRECTORY)}
    assert (listed().get().files, listed().get().bytes) == census(path)
    both(root, now + 2 * SECOND)
    assert kinds() == {}
    assert Orphan.objects.get().gone_at == now + 2 * SECOND


def test_a_run_before_any_discovery(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    date(lab.run(), old)
    look(root, now)
    assert kinds() == {RUN_PATH: ("unknown", Reason.UNKNOWN_DIRECTORY)}


def test_a_row_whose_directory_is_gone(lab: Lab, root: StagingRoot, now: datetime) -> None:
    path = lab.run()
    files, size = census(path)
    both(root, now)
    path.rename(lab.base / "away")
    both(root, now + SECOND)
    assert kinds() == {}
    both(root, now + GRACE)
    assert kinds() == {}
    both(root, now + SECOND + GRACE)
    assert kinds() == {RUN_PATH: ("missing", Reason.MISSING_DIRECTORY)}
    orphan = listed().get()
    assert (orphan.run, orphan.files, orphan.bytes) == (Run.objects.get(), files, size)
    assert (orphan.modified_at, orphan.first_seen_at) == (None, now + SECOND)
    (lab.base / "away").rename(path)
    both(root, now + 2 * GRACE)
    assert (kinds(), Orphan.objects.get().gone_at) == ({}, now + 2 * GRACE)


@pytest.mark.parametrize("level", ["CONFOCAL_01", "CONFOCAL_01/PROJ-0042", FOLDER])
def test_a_whole_folder_is_gone(lab: Lab, root: StagingRoot, now: datetime, level: str) -> None:
    lab.run()
    both(root, now)
    (lab.staging / level).rename(lab.base / "away")
    both(root, now)
    both(root, now + GRACE)
    assert kinds() == {RUN_PATH: ("missing", Reason.MISSING_DIRECTORY)}


def test_what_came_or_went_has_an_hour_of_its_own(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    path = without_record(lab, old)
    both(root, now)
    assert kinds()[RUN_PATH][0] == "no_record"
    path.rename(lab.base / "away")
    both(root, now + SECOND)
    assert kinds() == {}
    both(root, now + SECOND + GRACE)
    assert kinds()[RUN_PATH][0] == "missing"


def test_leftovers_of_abandoned_clears(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    date(lab.run(), old)
    prepared = f"{FOLDER}/.exlab-clearing-{'b' * 32}.ingest.json"
    higher = "CONFOCAL_01/.exlab-clearing-x"
    reserve = f"{FOLDER}/.exlab-reserve"
    put(lab.staging / NOBODYS_FENCE, old, {"data": b"12"})
    for name in (prepared, higher, reserve):
        put(lab.staging / name, old)
    both(root, now)
    assert kinds() == {
        NOBODYS_FENCE: ("leftover", Reason.STRAY_FENCE),
        prepared: ("leftover", Reason.STRAY_FENCE),
        higher: ("leftover", Reason.STRAY_FENCE),
        reserve: ("leftover", Reason.STRAY_FILE),
    }
    assert listed().get(path=NOBODYS_FENCE).bytes == 2


@pytest.mark.parametrize("phase", [Phase.INTENT, Phase.CONFLICT])
def test_a_clear_that_recovery_will_settle_leaves_none(
    lab: Lab, root: StagingRoot, now: datetime, old: datetime, phase: Phase
) -> None:
    scene = set_scene(lab, root, now)
    attempt = scene.attempt()
    ClearAttempt.objects.filter(pk=attempt.pk).update(phase=phase)
    fence = scene.path.with_name(f".exlab-clearing-{attempt.pk.hex}")
    scene.path.rename(fence)
    date(fence, old)
    for at in (now, now + 2 * GRACE):
        both(root, at)
        assert not Orphan.objects.exists()


def test_a_run_in_its_own_abandoned_fence_is_not_missing(
    lab: Lab, root: StagingRoot, now: datetime, old: datetime
) -> None:
    scene = set_scene(lab, root, now)
    attempt = scene.attempt()
    ClearAttempt.objects.filter(pk=attempt.pk).update(phase=Phase.ABORTED)
    fence = scene.path.with_name(f".exlab-clearing-{attempt.pk.hex}")
    date(scene.path.rename(fence), old)
    both(root, now)
    both(root, now + GRACE)
    assert [kind for kind, _reason in kinds().values()] == ["leftover"]
    with pytest.raises(NotGone) as refused:
        mark_gone(scene.run, actor="ada", reason="gone", now=now)
    assert refused.value.finding is not None
    assert refused.value.finding.reason is Reason.STRAY_FENCE


MISPLACED = (
    "Run_2026-04-17T14-32",
    "CONFOCAL_01/Run_2026-04-17T14-32",
    "CONFOCAL_01/PROJ-0042/TestRun_2026-04-17T14-32",
    "CONFOCAL_01/PROJ-0042/Runs/TestRun_2026-04-17T14-32",
    "CONFOCAL_01/PROJ-0042/TestRuns/Run_2026-04-17T14-32",
    "CONFOCAL_01/PROJ-0042/old/Run_2026-04-17T14-32",
    "CONFOCAL_01/PROJ-0042/old/Runs/Run_2026-04-17T14-33",
    "CONFOCAL_01/PROJ-0042/Runs/old/Run_2026-04-17T14-32-05",
)


def test_runs_in_the_wrong_place(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    for path in MISPLACED:
        put(lab.staging / path, old, {"data/x": b"123", "y": b"4"})
    both(root, now)
    assert kinds() == dict.fromkeys(MISPLACED, ("misplaced", Reason.MISPLACED_RUN))
    assert {(orphan.files, orphan.bytes) for orphan in listed()} == {(2, 4)}


def test_a_folder_is_listed_without_the_runs_in_it(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    folder = lab.staging / "CONFOCAL_01/PROJ-0042/old"
    put(folder, old, {"Run_2026-04-17T14-32/data": b"123456", "notes.txt": b"12"})
    both(root, now)
    found = {orphan.path.rpartition("/")[2]: (orphan.kind, orphan.files, orphan.bytes) for orphan in listed()}
    assert found == {"old": ("stray", 1, 2), "Run_2026-04-17T14-32": ("misplaced", 1, 6)}


def test_stray_files_and_folders(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    date(lab.run(), old)
    files = ("notes.txt", "CONFOCAL_01/a", "CONFOCAL_01/PROJ-0042/b", f"{FOLDER}/c", OTHER)
    folders = ("CONFOCAL_01/PROJ-0042/Calibration", f"{FOLDER}/scratch", f"{FOLDER}/Run_2026-04-17")
    for path in files:
        put(lab.staging / path, old)
    for path in folders:
        put(lab.staging / path, old, {"x/y": b"1234567"})
    put(lab.staging / "CONFOCAL_01/PROJ-0042/empty", old, {})
    both(root, now)
    strays = {*files, *folders, "CONFOCAL_01/PROJ-0042/empty"}
    assert kinds() == dict.fromkeys(strays, ("stray", Reason.STRAY_FILE))
    assert {(orphan.files, orphan.bytes) for orphan in listed().filter(path__in=files)} == {(1, 5)}
    assert {(orphan.files, orphan.bytes) for orphan in listed().filter(path__in=folders)} == {(1, 7)}
    assert [(o.files, o.bytes) for o in listed().filter(path__endswith="empty")] == [(0, 0)]


def test_links_are_listed_and_never_followed(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    outside = put(lab.base / "outside", old, {"big": b"x" * 1000})
    (lab.staging / FOLDER).mkdir(parents=True)
    for path in ("LINKED_01", "CONFOCAL_01/linked", "CONFOCAL_01/PROJ-0042/TestRuns", OTHER, f"{FOLDER}/other"):
        (lab.staging / path).symlink_to(outside)
        os.utime(lab.staging / path, (old.timestamp(), old.timestamp()), follow_symlinks=False)
    scratch = put(lab.staging / FOLDER / "scratch", old, {"x": b"12"})
    (scratch / "link").symlink_to(outside)
    (scratch / "loop").symlink_to(scratch)
    date(scratch, old)
    before = everything(lab)
    both(root, now)
    assert everything(lab) == before
    assert {orphan.bytes for orphan in listed().exclude(path__endswith="scratch")} == {0}
    assert (listed().count(), listed().get(path__endswith="scratch").bytes) == (6, 2)


def test_a_run_that_a_link_replaced_is_no_orphan(lab: Lab, root: StagingRoot, now: datetime) -> None:
    path = lab.run()
    both(root, now)
    path.rename(lab.base / "away")
    path.symlink_to(lab.base / "away")
    both(root, now)
    both(root, now + 2 * GRACE)
    assert Run.objects.get().problem == Reason.UNSAFE_PATH
    assert kinds() == {}


def test_names_of_every_kind(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    names = (b"a\nline", b" space", b"latin-\xf8", "right\u202eto left".encode())
    for name in names:
        put(lab.staging / os.fsdecode(name), old, {"x": b"1"})
        put(lab.staging / FOLDER / os.fsdecode(name), old, {"x": b"1"})
    both(root, now)
    assert listed().count() == 2 * len(names)
    assert all(orphan.path.isprintable() and orphan.kind == "stray" for orphan in listed())


def test_names_that_read_alike_are_two(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    put(lab.staging / "a\nb", old)
    put(lab.staging / "a\\nb", old)
    look(root, now)
    look(root, now)
    assert (listed().count(), Orphan.objects.count()) == (2, 2)


# Grace


@pytest.mark.parametrize(
    "make",
    [
        lambda lab, at: without_record(lab, at),
        lambda lab, at: put(lab.staging / "notes.txt", at),
        lambda lab, at: put(lab.staging / MISPLACED[1], at, {"x": b"1"}),
        lambda lab, at: put(lab.staging / NOBODYS_FENCE, at, {"x": b"1"}),
    ],
    ids=["no record", "stray", "misplaced", "leftover"],
)
def test_an_hour_of_grace_to_the_second(
    lab: Lab, root: StagingRoot, now: datetime, make: Callable[[Lab, datetime], Path]
) -> None:
    make(lab, now)
    for at in (now, now + GRACE - SECOND):
        done = both(root, at)
        assert (done.listed, done.waiting, kinds()) == (0, 1, {})
    done = both(root, now + GRACE)
    assert (done.listed, done.waiting) == (1, 0)


def test_what_is_old_is_listed_at_first_sight(lab: Lab, root: StagingRoot, now: datetime) -> None:
    put(lab.staging / "notes.txt", now - GRACE)
    assert look(root, now).listed == 1


def test_the_newest_file_deep_inside_counts(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    scratch = put(lab.staging / FOLDER / "scratch", old, {"a/b/c": b"1"})
    fresh = now - GRACE + SECOND
    os.utime(scratch / "a/b/c", (fresh.timestamp(), fresh.timestamp()))
    assert look(root, now).listed == 0
    os.utime(scratch / "a/b/c", ((fresh + SECOND).timestamp(),) * 2)  # written again in the meantime
    assert look(root, now + SECOND).listed == 0
    assert look(root, now + 2 * SECOND).listed == 1


def test_a_time_to_come_counts_from_the_first_sight(lab: Lab, root: StagingRoot, now: datetime) -> None:
    put(lab.staging / "notes.txt", now + timedelta(days=400))
    assert look(root, now).listed == 0
    assert look(root, now + GRACE - SECOND).listed == 0
    assert look(root, now + GRACE).listed == 1
    assert listed().get().modified_at == now + timedelta(days=400)


def test_an_absurd_time_is_no_fault(lab: Lab, root: StagingRoot, now: datetime) -> None:
    path = put(lab.staging / "notes.txt", now)
    os.utime(path, (2**33, 2**33))
    look(root, now)
    assert look(root, now + GRACE).listed == 1


def test_one_that_is_written_to_again_is_given_another_hour(lab: Lab, root: StagingRoot, now: datetime) -> None:
    path = put(lab.staging / "notes.txt", now - GRACE)
    assert look(root, now).listed == 1
    date(path, now + SECOND)
    assert look(root, now + 2 * SECOND).listed == 0
    assert look(root, now + SECOND + GRACE).listed == 1
    assert Orphan.objects.get().first_seen_at == now


# Measuring


def test_a_second_pass_changes_nothing_and_measures_nothing(
    lab: Lab, root: StagingRoot, now: datetime, old: datetime
) -> None:
    put(lab.staging / "notes.txt", old)
    put(lab.staging / FOLDER / "scratch", old, {"x": b"1"})
    assert look(root, now).measured == 2
    before = list(Orphan.objects.values())
    assert look(root, now + SECOND).measured == 0
    assert [{**row, "seen_at": now} for row in Orphan.objects.values()] == before
    assert set(Orphan.objects.values_list("seen_at", flat=True)) == {now + SECOND}


def test_measured_again_after_a_day(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    scratch = put(lab.staging / FOLDER / "scratch", old, {"a/x": b"1"})
    look(root, now)
    (scratch / "a/y").write_bytes(b"23")
    date(scratch, old)
    day = timedelta(days=1)
    look(root, now + day - SECOND)
    assert listed().get().bytes == 1
    look(root, now + day)
    assert (listed().get().files, listed().get().bytes) == (2, 3)


def test_without_time_the_rest_is_measured_next_time(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    for number in range(3):
        put(lab.staging / f"notes-{number}", old)
    done = look(root, now, seconds=0)
    assert (done.measured, done.postponed, done.listed, done.waiting) == (0, 3, 0, 3)
    assert look(root, now + SECOND).listed == 3


def test_what_vanishes_while_it_is_measured_is_none(
    lab: Lab, root: StagingRoot, now: datetime, old: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(lab.staging / FOLDER / "scratch", old, {"x": b"1"})
    put(lab.staging / "notes.txt", old)
    measure = orphan_rows.measure

    def vanish(root: int, raw: bytes, **options: Any) -> Any:
        if raw.endswith(b"scratch"):
            (lab.staging / FOLDER / "scratch").rename(lab.base / "away")
        return measure(root, raw, **options)

    monkeypatch.setattr(orphan_rows, "measure", vanish)
    done = inspect(root, now=now)
    assert done is not None
    assert (done.listed, list(kinds())) == (1, ["notes.txt"])


@pytest.mark.parametrize("fault", [OSError(5, "Input/output error"), RuntimeError("a fault of ours")])
def test_one_that_cannot_be_measured_does_not_hide_the_others(
    lab: Lab,
    root: StagingRoot,
    now: datetime,
    old: datetime,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: Exception,
) -> None:
    put(lab.staging / "a.txt", old)
    put(lab.staging / "b.txt", old)
    measure = orphan_rows.measure

    def fail(root: int, raw: bytes, **options: Any) -> Any:
        if raw == b"a.txt":
            raise fault
        return measure(root, raw, **options)

    monkeypatch.setattr(orphan_rows, "measure", fail)
    assert look(root, now).listed == 2
    failed = listed().get(path="a.txt")
    assert (failed.files, failed.bytes, failed.modified_at) == (None, None, old)
    assert failed.detail
    logged = [record for record in caplog.records if record.exc_info]
    assert len(logged) == isinstance(fault, RuntimeError)


def test_a_folder_that_may_not_be_read(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    scratch = put(lab.staging / FOLDER / "scratch", old, {"x": b"1", "closed/y": b"2"})
    (scratch / "closed").chmod(0)
    try:
        look(root, now)
        all_powerful = os.access(scratch / "closed", os.R_OK)
    finally:
        (scratch / "closed").chmod(0o755)
    orphan = listed().get()
    assert (orphan.files, orphan.bytes) == ((2, 2) if all_powerful else (None, None))
    assert bool(orphan.detail) is not all_powerful


def test_a_tree_too_deep_to_be_seen_through(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    scratch = put(lab.staging / FOLDER / "scratch", old, {})
    (scratch / ("d/" * 200)).mkdir(parents=True)
    date(scratch, old)
    look(root, now)
    orphan = listed().get()
    assert (orphan.files, orphan.bytes) == (None, None)
    assert "levels deep" in orphan.detail


def test_a_crowd_of_files_is_listed_together(
    lab: Lab, root: StagingRoot, now: datetime, old: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphan_inspection, "MAX_STRAY_FILES", 3)
    for number in range(10):
        put(lab.staging / FOLDER / f"frame-{number}", old)
    look(root, now)
    assert len(kinds()) == 4
    rest = listed().get(path=f"{FOLDER}/…")
    assert (rest.files, rest.bytes, rest.detail) == (7, 35, "7 more files of this folder")
    assert sum(orphan.bytes or 0 for orphan in listed()) == 50


def test_a_mount_is_not_entered(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    scratch = put(lab.staging / FOLDER / "scratch", old, {})
    (lab.staging / "DISK_02").mkdir()
    try:
        with means.tiny_disk(scratch), means.tiny_disk(lab.staging / "DISK_02"):
            put(scratch / "inside", old)
            date(scratch, old)
            look(root, now)
    except means.Unavailable as missing:
        means.skip_or_fail(missing)
    assert [(o.path, o.files, o.bytes, o.detail) for o in listed()] == [
        (f"{FOLDER}/scratch", None, None, "Invalid cross-device link")
    ]


# What cannot be asked


@pytest.mark.parametrize("harm", ["no token", "another token", "not mounted", "another host"])
def test_without_its_token_a_root_changes_no_row(
    lab: Lab, root: StagingRoot, now: datetime, old: datetime, settings: Any, harm: str
) -> None:
    path = lab.run()
    put(lab.staging / "notes.txt", old)
    put(lab.staging / "soon.txt", now)
    both(root, now)
    path.rename(lab.base / "away")
    both(root, now)
    before = list(Orphan.objects.values())
    token = lab.staging / ".exlab-root"
    if harm == "no token":
        token.rename(lab.base / "token")
    elif harm == "another token":
        token.write_text("11111111-2222-3333-4444-555555555555")
    elif harm == "not mounted":
        lab.staging.rename(lab.base / "unmounted")
        lab.staging.mkdir()
    else:
        settings.EXLAB_HOST = "another-pc"
    done = look(root, now + 2 * MAX_AGE)
    assert done.problem is not None
    assert done.problem.reason is Reason.ROOT_NOT_MOUNTED
    assert list(Orphan.objects.values()) == before
    assert not Alert.objects.exists()
    with pytest.raises(NotGone):
        mark_gone(Run.objects.with_root().get(), actor="ada", reason="gone", now=now)


def test_what_lies_behind_a_closed_door_is_neither_gone_nor_missing(
    lab: Lab, root: StagingRoot, now: datetime, old: datetime
) -> None:
    """A project that became a link cannot be entered: its runs are not missing, its orphans not gone."""
    lab.run()
    put(lab.staging / FOLDER / "notes.txt", old)
    both(root, now)
    project = lab.staging / "CONFOCAL_01"
    project.rename(lab.base / "elsewhere")
    project.symlink_to(lab.base / "elsewhere")
    for at in (now + SECOND, now + SECOND + GRACE):
        both(root, at)
    assert not Orphan.objects.filter(kind="missing").exists()


def test_a_folder_that_cannot_be_listed_keeps_its_rows(
    lab: Lab, root: StagingRoot, now: datetime, old: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.run()
    put(lab.staging / FOLDER / "notes.txt", old)
    both(root, now)
    names = run_tree.sorted_names

    def fail(where: int) -> list[bytes]:
        if os.readlink(f"/proc/self/fd/{where}").endswith(FOLDER):
            raise OSError(5, "Input/output error")
        return names(where)

    monkeypatch.setattr(run_tree, "sorted_names", fail)
    for at in (now + SECOND, now + SECOND + GRACE):
        done = both(root, at)
        assert done.kept == 1
    assert list(kinds()) == [f"{FOLDER}/notes.txt"]


def test_runs_with_an_active_attempt_are_left_to_it(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    scene = set_scene(lab, root, now)
    attempt = scene.attempt()
    scene.path.rename(lab.base / "away")
    look(root, now)
    look(root, now + GRACE)
    assert not Orphan.objects.exists()
    with pytest.raises(NotGone) as refused:
        mark_gone(scene.run, actor="ada", reason="gone", now=now)
    assert refused.value.finding is not None
    assert refused.value.finding.reason is Reason.ALREADY_CLEARING
    ClearAttempt.objects.filter(pk=attempt.pk).update(phase=Phase.ABORTED)
    look(root, now + GRACE)
    assert Orphan.objects.get().kind == "missing"


def test_one_pass_at_a_time(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    put(lab.staging / "notes.txt", old)
    with opening.data_dir().lock(f"orphans-{root.pk}") as free:
        assert free
        assert inspect(root, now=now, wait=False) is None
    assert not Orphan.objects.exists()


def test_a_fifo_is_never_waited_for(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    (lab.staging / FOLDER / "scratch").mkdir(parents=True)
    os.mkfifo(lab.staging / FOLDER / "scratch/pipe")
    os.mkfifo(lab.staging / FOLDER / "pipe")
    date(lab.staging / FOLDER, old)
    late: list[str] = []
    alarm = threading.Timer(60, lambda: late.append("hangs"))
    alarm.start()
    look(root, now)
    alarm.cancel()
    assert not late
    assert [(orphan.files, orphan.bytes) for orphan in listed()] == [(0, 0), (0, 0)]


# The ceiling


def test_thirty_days_and_the_admin_is_told(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    path = put(lab.staging / "notes.txt", old)
    for at in (now, now + MAX_AGE):
        assert look(root, at).escalated == 0
    assert not Alert.objects.exists()
    late = now + MAX_AGE + SECOND
    assert look(root, late).escalated == 1
    alert = Alert.objects.get()
    assert (alert.kind, alert.subject, alert.root) == ("orphan", f"orphans:{root.pk}", root)
    assert (alert.reason, alert.since, alert.ended_at) == (Reason.ORPHANS_ESCALATED, late, None)
    assert "1 known for more than 30 days" in alert.detail
    look(root, late + SECOND)
    assert Orphan.objects.get().escalated_at == late
    assert path.exists()
    path.rename(lab.base / "away")
    look(root, late + 2 * SECOND)
    assert Alert.objects.get().ended_at == late + 2 * SECOND


@pytest.mark.parametrize(("disk", "limit"), [(2_000_000_000_000, 100_000_000_000), (100_000_000_000, 10_000_000_000)])
def test_the_ceiling_is_the_lower_of_two(
    lab: Lab, root: StagingRoot, monkeypatch: pytest.MonkeyPatch, disk: int, limit: int
) -> None:
    """Mocked: no disk of this size is available."""
    monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_blocks=disk // 1000, f_frsize=1000))
    with opening.open_root(root) as descriptor:
        assert orphans.ceiling(descriptor) == limit


def test_too_much_together_and_the_admin_is_told(
    lab: Lab, root: StagingRoot, now: datetime, old: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.run()
    both(root, now)
    (lab.staging / RUN_PATH).rename(lab.base / "away")  # what is not there fills no disk
    put(lab.staging / "a.txt", old)
    put(lab.staging / "b.txt", old)
    monkeypatch.setattr(orphans, "MAX_BYTES", 10)
    look(root, now)
    look(root, now + GRACE)
    assert (listed().count(), listed().exclude(escalated_at=None).count()) == (3, 0)
    put(lab.staging / "c.txt", old)
    look(root, now + GRACE)
    assert sorted(listed().exclude(escalated_at=None).values_list("path", flat=True)) == ["a.txt", "b.txt", "c.txt"]
    assert "together" in Alert.objects.get().detail
    (lab.staging / "c.txt").unlink()
    look(root, now + GRACE + SECOND)
    assert not listed().exclude(escalated_at=None).exists()
    assert Alert.objects.get().ended_at == now + GRACE + SECOND


def test_none_is_ever_removed(lab: Lab, root: StagingRoot, now: datetime, old: datetime, policy: Any) -> None:
    policy(mode="scheduled", retain_hours=0, proof="record", rehearse=False)
    without_record(lab, old)
    put(lab.staging / NOBODYS_FENCE, old, {"x": b"1"})
    put(lab.staging / "notes.txt", old)
    for path in MISPLACED:
        put(lab.staging / path, old, {"x": b"1"})
    before = everything(lab)
    for days in (0, 1, 31, 365):
        both(root, now + timedelta(days=days))
    tasks.discover()
    tasks.sweep()
    tasks.recover()
    assert everything(lab) == before
    assert listed().exclude(escalated_at=None).count() == len(MISPLACED) + 3


# Next steps


def test_looking_again_adopts_what_has_its_record_by_now(
    lab: Lab, root: StagingRoot, now: datetime, old: datetime
) -> None:
    path = lab.run()
    record = (path / METADATA / "ingest.json").read_bytes()
    (path / METADATA / "ingest.json").unlink()
    date(path, old)
    both(root, now)
    assert adopt(listed().get(), now=now + SECOND) is None
    assert kinds()[RUN_PATH][0] == "no_record"
    (path / METADATA / "ingest.json").write_bytes(record)
    run = adopt(listed().get(), now=now + SECOND)
    assert run is not None
    assert (run.run_path, run.state, run.problem) == (RUN_PATH, "sync_verified", "")
    assert kinds() == {}


def test_looking_again_adopts_an_unknown_directory(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    date(lab.run(), old)
    look(root, now)
    run = adopt(listed().get(), now=now)
    assert run is not None
    assert (run.state, kinds()) == ("sync_verified", {})


def test_looking_again_measures_again(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    scratch = put(lab.staging / FOLDER / "scratch", old, {"a/x": b"1"})
    look(root, now)
    (scratch / "a/y").write_bytes(b"23")
    date(scratch, old)
    orphan = look_again(listed().get(), now=now + SECOND)
    assert orphan is not None
    assert (orphan.bytes, orphan.measured_at, orphan.gone_at) == (3, now + SECOND, None)
    scratch.rename(lab.base / "away")
    orphan = look_again(orphan, now=now + 2 * SECOND)
    assert orphan is not None
    assert orphan.gone_at == now + 2 * SECOND


def test_looking_again_during_another_look(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    put(lab.staging / "notes.txt", old)
    without_record(lab, old)
    both(root, now)
    for lock, path in (("orphans", "notes.txt"), ("orphans", RUN_PATH), ("discovery", RUN_PATH)):
        with opening.data_dir().lock(f"{lock}-{root.pk}"):
            assert look_again(listed().get(path=path), now=now) is None


def test_looking_again_where_the_root_is_not_there(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    put(lab.staging / "notes.txt", old)
    without_record(lab, old)
    both(root, now)
    (lab.staging / ".exlab-root").unlink()
    for orphan in listed():
        with pytest.raises(Unreachable):
            look_again(orphan, now=now)


def test_marked_as_gone_by_hand(lab: Lab, root: StagingRoot, now: datetime) -> None:
    path = lab.run()
    both(root, now)
    path.rename(lab.base / "away")
    both(root, now)
    both(root, now + GRACE)
    run = Run.objects.with_root().get()
    mark_gone(run, actor="ada", reason=" moved to the archive ", now=now + GRACE)
    row = Run.objects.get()
    assert (row.gone_at, row.state, row.cleared_at) == (now + GRACE, "sync_verified", None)
    entry = LedgerEntry.objects.get()
    assert (entry.kind, entry.attempt, entry.actor, entry.reason) == ("marked_gone", None, "ada", "missing_directory")
    assert (entry.files, entry.bytes, entry.allocated_bytes) == (0, 0, 0)
    assert entry.detail.endswith("moved to the archive")
    assert run.identity in entry.detail
    assert (kinds(), Orphan.objects.get().gone_at) == ({}, now + GRACE)
    assert LedgerEntry.objects.totals()["runs"] == 0
    both(root, now + 3 * GRACE)
    assert kinds() == {}
    with pytest.raises(NotGone):
        mark_gone(run, actor="ada", reason="again", now=now)
    (lab.base / "away").rename(path)
    both(root, now + 4 * GRACE)
    again = Run.objects.staged().get()
    assert (again.pk != run.pk, again.run_path, again.state) == (True, RUN_PATH, "sync_verified")
    assert not again.holds.exists()


def test_a_run_that_comes_back_is_held_as_it_was(lab: Lab, root: StagingRoot, now: datetime) -> None:
    """Released and past holds are not renewed, and a hold file counts by itself."""
    path, away, until = lab.run(), lab.base / "away", now + timedelta(days=30)
    both(root, now)
    run = Run.objects.with_root().get()
    holds.hold(run, owner="ada", reason="paper", until=until, now=now)
    holds.hold(run, owner="eve", reason="paper", until=until, now=now)
    holds.hold(run, owner="bob", reason="short", until=now + SECOND, now=now)
    holds.release(holds.hold(run, owner="cy", reason="released", until=until, now=now), actor="cy", now=now)
    holds.note_file(run, HoldFile("mine", "lab"), now=now)
    for hours, owners in ((1, {"ada", "eve"}), (2, {"ada"})):
        at = now + hours * GRACE
        path.rename(away)
        mark_gone(run, actor="ada", reason="moved", now=at)
        away.rename(path)
        both(root, at)
        run = Run.objects.staged().with_root().get()
        assert {hold.owner for hold in run.holds.in_force(at)} == owners
        assert set(run.holds.values_list("source", "until", "released_at")) == {("person", until, None)}
        holds.release(run.holds.filter(owner="eve").first() or run.holds.get(), actor="ada", now=at)


def test_what_is_there_is_not_marked_as_gone(lab: Lab, root: StagingRoot, now: datetime) -> None:
    path = lab.run()
    both(root, now)
    run = Run.objects.with_root().get()
    with pytest.raises(NotGone) as refused:
        mark_gone(run, actor="ada", reason="gone", now=now)
    assert refused.value.finding is None
    with pytest.raises(ValueError, match="reason"):
        mark_gone(run, actor="ada", reason="  ", now=now)
    path.rename(lab.base / "away")
    path.symlink_to(lab.base / "away")  # cannot be entered, so it is unknown
    with pytest.raises(NotGone) as refused:
        mark_gone(run, actor="ada", reason="gone", now=now)
    assert refused.value.finding is not None
    assert refused.value.finding.reason is Reason.UNSAFE_PATH
    with opening.data_dir().lock(str(run.pk)), pytest.raises(NotGone):
        mark_gone(run, actor="ada", reason="gone", now=now)
    assert (Run.objects.get().gone_at, LedgerEntry.objects.exists()) == (None, False)


def test_a_cleared_run_is_not_marked_as_gone(lab: Lab, root: StagingRoot, now: datetime) -> None:
    from cleanup import clear_run

    scene = set_scene(lab, root, now)
    clear_run(scene.run, now=now)
    with pytest.raises(NotGone) as refused:
        mark_gone(scene.run, actor="ada", reason="gone", now=now)
    assert refused.value.finding is not None
    assert refused.value.finding.reason is Reason.ALREADY_CLEARED


# The task


def test_the_task_looks_after_each_discovery(lab: Lab, root: StagingRoot) -> None:
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    put(lab.staging / "notes.txt", long_ago)
    tasks.discover()
    assert list(kinds()) == ["notes.txt"]


def test_one_root_that_cannot_be_looked_at_does_not_hide_the_others(
    lab: Lab, root: StagingRoot, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (lab.base / "before").mkdir()
    registration.register("before", str(lab.base / "before"), now=datetime(2020, 1, 1, tzinfo=UTC))
    put(lab.staging / "notes.txt", datetime(2020, 1, 1, tzinfo=UTC))

    def fail(root: StagingRoot, **options: Any) -> Any:
        if root.name == "before":
            raise RuntimeError("a fault of our own")
        return inspect(root, **options)

    monkeypatch.setattr(orphans, "inspect", fail)
    assert tasks.discover() == "before: RuntimeError, see the log, lab: 0 found and 1 orphans"
    assert list(kinds()) == ["notes.txt"]
    assert "a fault of our own" in caplog.text


def test_holes_beyond_all_counting_hide_nothing(lab: Lab, root: StagingRoot, now: datetime, old: datetime) -> None:
    """Each file's size is allowed; their sum exceeds the column."""
    huge = Measure(3, 3 * (1 << 62), int(old.timestamp() * 1e9))
    put(lab.staging / "aaa/a", old)
    put(lab.staging / "zzz.txt", old)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            orphan_rows, "measure", lambda top, raw, **more: huge if raw == b"aaa/a" else measure(top, raw, **more)
        )
        look(root, now)
    assert set(kinds()) == {"aaa/a", "zzz.txt"}
    row = Orphan.objects.get(path="aaa/a")
    assert (row.files, row.bytes) == (3, None)
    assert row.detail == "its files say that they are larger than can be counted"


def test_one_that_cannot_be_written_down_does_not_hide_the_others(
    lab: Lab, root: StagingRoot, now: datetime, old: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("aaa.txt", "zzz.txt"):
        put(lab.staging / name, old)
    look(root, now)
    take = orphan_rows._take_measure

    def fail(orphan: Orphan, *args: Any) -> None:
        if orphan.path == "aaa.txt":
            raise RuntimeError("a fault of our own")
        take(orphan, *args)

    monkeypatch.setattr(orphan_rows, "_take_measure", fail)
    put(lab.staging / "zzz.txt", now - timedelta(days=1)).write_bytes(b"more")
    date(lab.staging / "zzz.txt", now - timedelta(days=1))
    look(root, now + timedelta(days=2))
    assert set(kinds()) == {"aaa.txt", "zzz.txt"}
    assert Orphan.objects.get(path="zzz.txt").bytes == 4
