"""An unlisted file is moved out of a run, kept beside it, and can be put back."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from cleanup import clear_run
from cleanup.clears import recovery
from cleanup.clears.queue import ClearRequest
from cleanup.lab.roots import opening
from cleanup.models import AsideState, LedgerEntry, Requester, Run, SetAside, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.holds import holds
from cleanup.runs.moved_or_gone import moved_runs
from cleanup.runs.moved_or_gone.moved_runs import Move
from cleanup.runs.moved_or_gone.reregistration import RegisterOrder
from cleanup.runs.orphans import orphans
from cleanup.runs.set_aside import set_aside, set_aside_recovery
from cleanup.runs.set_aside.set_aside import NotSetAside
from cleanup.storage.staging import desktop_files
from tests.tools.lab import (
    METADATA,
    RUN_PATH,
    Lab,
    census,
    read_sync_state,
    snapshot,
    some_files,
    touch,
    write_sync_state,
)

pytestmark = [pytest.mark.django_db, pytest.mark.one_engine]

FILE = b"tiles/extra.tif"
FOLDER = "CONFOCAL_01/PROJ-0042/Runs/.exlab-set-aside"


@pytest.fixture
def path(lab: Lab, root: StagingRoot, now: datetime) -> Path:
    path = lab.run()
    add(path, FILE, now)
    discovery.discover(root, now=now)
    return path


def add(path: Path, name: bytes, now: datetime, content: bytes = b"more", age: timedelta = timedelta(days=1)) -> Path:
    file = path / os.fsdecode(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    touch(file, now - age)
    return file


def the_run() -> Run:
    return Run.objects.with_root().get()


def aside(path: Path, name: bytes = FILE) -> Path:
    return path.parent / ".exlab-set-aside" / path.name / os.fsdecode(name)


def move(now: datetime, *names: bytes, **more: Any) -> list[SetAside]:
    return set_aside.set_aside(the_run(), names or [FILE], actor="ada", reason="a screenshot", now=now, **more)


def refused(now: datetime, *names: bytes) -> NotSetAside:
    with pytest.raises(NotSetAside) as caught:
        move(now, *names)
    assert not SetAside.objects.exclude(state=AsideState.ABORTED) and not LedgerEntry.objects.all()
    return caught.value


@pytest.mark.both_engines
def test_the_file_goes_beside_the_run_and_the_run_can_be_cleared(path: Path, root: StagingRoot, now: datetime) -> None:
    before, ino = snapshot(path), (path / "tiles/extra.tif").stat().st_ino
    (row,) = move(now)
    assert aside(path).read_bytes() == b"more" and aside(path).stat().st_ino == ino
    after = snapshot(path)
    assert {name for name, thing in before.items() if after.get(name) != thing} == {"tiles", "tiles/extra.tif"}
    assert (row.state, row.path, row.size, row.actor, row.note) == ("done", "tiles/extra.tif", 4, "ada", "a screenshot")
    (entry,) = LedgerEntry.objects.all()
    assert (entry.kind, entry.attempt, entry.actor, entry.files) == ("set_aside", None, "ada", 0)
    assert "tiles/extra.tif" in entry.detail and entry.detail.endswith("; a screenshot")
    discovery.discover(root, now=now + timedelta(minutes=1))
    counted = census(path)
    assert clear_run(the_run(), now=now) == counted
    assert aside(path).read_bytes() == b"more"


@pytest.mark.both_engines
def test_put_back_it_lies_where_it_was(path: Path, now: datetime) -> None:
    before = snapshot(path)
    (row,) = move(now)
    set_aside.put_back(row, actor="eve", reason="it was wanted")
    after = snapshot(path)
    assert {name for name in before if after.get(name) != before[name]} <= {"tiles"}
    assert not (path.parent / ".exlab-set-aside").exists()
    assert (row.state, row.undone_by, row.undone_note) == ("undone", "eve", "it was wanted")
    assert {(entry.kind, entry.actor) for entry in LedgerEntry.objects.all()} == {
        ("set_aside", "ada"),
        ("put_back", "eve"),
    }
    with pytest.raises(NotSetAside, match="not set aside any more"):
        set_aside.put_back(row, actor="eve", reason="twice")
    assert [row.state for row in move(now)] == ["done"]


def test_all_that_were_shown_go_at_once(path: Path, now: datetime) -> None:
    add(path, b"deep/er/two.tif", now)
    add(path, "\udcff weiß\n.tif".encode("utf-8", "surrogateescape"), now)
    seen = set_aside.digest(set_aside.extras(the_run()))
    rows = set_aside.set_aside(the_run(), None, actor="ada", reason="old", now=now, seen=seen)
    assert len(rows) == 3 and all(aside(path, row.name).exists() for row in rows)
    assert not set_aside.extras(the_run())
    for row in rows:
        set_aside.put_back(row, actor="ada", reason="back")
    assert set_aside.digest(set_aside.extras(the_run())) == seen
    add(path, b"another.tif", now)
    with pytest.raises(NotSetAside, match="have changed since they were shown"):
        set_aside.set_aside(the_run(), None, actor="ada", reason="old", now=now, seen=seen)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (b"tiles/t_0000.tif", "its manifest lists it"),
        (b"tiles/none.tif", "no file of the run"),
        (b"tiles", "no file of the run"),
        (b"../Run_2026-04-17T14-32/tiles/extra.tif", "no file of the run"),
        (METADATA.encode() + b"/ingest.json", "no data file"),
        (b"Thumbs.db", "goes with it"),
        (b"tiles/.nfs00000000018a2c4f00000001", "still open"),
    ],
)
def test_no_other_file_is_set_aside(path: Path, now: datetime, name: bytes, said: str) -> None:
    add(path, b"Thumbs.db", now)
    add(path, b"tiles/.nfs00000000018a2c4f00000001", now)
    before = snapshot(path.parent)
    assert said in str(refused(now, FILE, name))
    assert snapshot(path.parent) == before


@pytest.mark.parametrize(
    ("written", "here", "said"),
    [
        ("tiles\\Zü.tif", "tiles/Zü.tif", "with backslashes"),
        ("Zü.tif", "Zu\u0308.tif", "in another Unicode form"),
        ("ZÜ.TIF", "Zü.tif", "in another case"),
        ("old/Zü.tif", "Zü.tif", "with another folder before them"),
    ],
)
def test_a_file_whose_name_the_manifest_writes_otherwise_belongs_to_the_run(
    path: Path, root: StagingRoot, now: datetime, written: str, here: str, said: str
) -> None:
    listed = path / METADATA / "checksums.sha256"
    add(path, here.encode(), now, b"measured")
    listed.write_text(listed.read_text() + f"{hashlib.sha256(b'measured').hexdigest()}  {written}\n")
    before = snapshot(path.parent)
    assert said in str(refused(now)) and said in str(refused(now, here.encode()))
    assert snapshot(path.parent) == before


def test_one_of_a_desktop_that_is_too_large_is(path: Path, now: datetime) -> None:
    add(path, b"Thumbs.db", now, bytes(desktop_files.MAX_FILE_BYTES + 1))
    move(now, b"Thumbs.db")
    assert aside(path, b"Thumbs.db").exists()


def test_what_one_record_lists_alone_belongs_to_the_run(lab: Lab, root: StagingRoot, now: datetime) -> None:
    path = lab.run(files=some_files(), record="sync_state")
    add(path, FILE, now)
    add(path, b"later.tif", now)
    said = read_sync_state(path)
    said["files"]["later.tif"] = {}
    write_sync_state(path, said)
    discovery.discover(root, now=now)
    assert "its manifest lists it" in str(refused(now, b"later.tif"))
    move(now)
    assert aside(path).exists()


def hold(path: Path, now: datetime) -> None:
    holds.hold(the_run(), owner="bob", until=now + timedelta(days=9), reason="mine", now=now)


WITHHELD: dict[str, tuple[Reason, Callable[[Path, datetime], object]]] = {
    "a hold": (Reason.HELD, hold),
    "a hold file": (Reason.HELD, lambda path, now: (path / ".exlab-hold").touch()),
    "written lately": (
        Reason.NOT_QUIET,
        lambda path, now: touch(path / "tiles/extra.tif", now - timedelta(minutes=9)),
    ),
    "no manifest": (Reason.MANIFEST_MISSING, lambda path, now: (path / METADATA / "checksums.sha256").unlink()),
    "no record": (Reason.INGEST_UNREADABLE, lambda path, now: (path / METADATA / "ingest.json").write_text("{")),
}


@pytest.mark.parametrize("what", WITHHELD)
def test_a_run_that_is_not_at_rest_stays_as_it_is(path: Path, now: datetime, what: str) -> None:
    reason, disturb = WITHHELD[what]
    disturb(path, now)
    before = snapshot(path.parent)
    finding = refused(now).finding
    assert finding is not None and finding.reason is reason
    assert snapshot(path.parent) == before


def test_a_program_that_writes_in_the_run_stops_it(path: Path, now: datetime) -> None:
    from tests.faults import means

    with means.opened_elsewhere(path / "tiles/extra.tif", "a"):
        assert refused(now).finding.reason is Reason.WRITER_ACTIVE  # type: ignore[union-attr]


def test_a_clear_under_way_stops_it(path: Path, now: datetime) -> None:
    from cleanup.clears import queue

    attempt = queue.new_attempt(the_run(), ClearRequest(requester=Requester.OPERATOR, actor="bob"), now=now)
    assert refused(now).finding.reason is Reason.ALREADY_CLEARING  # type: ignore[union-attr]
    attempt.advance(["queued"], "aborted", now=now)
    with opening.data_dir().lock(str(the_run().pk)):
        assert refused(now).finding.reason is Reason.ALREADY_CLEARING  # type: ignore[union-attr]


def test_nothing_is_replaced_on_either_side(path: Path, now: datetime) -> None:
    aside(path).parent.mkdir(parents=True)
    aside(path).write_bytes(b"another")
    assert "lies there" in str(refused(now))
    assert (path / "tiles/extra.tif").read_bytes() == b"more" and aside(path).read_bytes() == b"another"
    aside(path).unlink()
    (row,) = move(now)
    add(path, FILE, now, b"new one")
    with pytest.raises(NotSetAside, match="lies there"):
        set_aside.put_back(row, actor="ada", reason="back")
    assert (path / "tiles/extra.tif").read_bytes() == b"new one" and aside(path).read_bytes() == b"more"
    row.refresh_from_db()
    assert row.state == AsideState.DONE
    with pytest.raises(NotSetAside, match="Take that away first"):
        move(now)


def test_a_link_in_its_place_is_not_followed(path: Path, lab: Lab, now: datetime) -> None:
    (path.parent / ".exlab-set-aside").symlink_to(lab.nas)
    before = snapshot(lab.nas)
    assert "stays where it is" in str(refused(now))
    assert snapshot(lab.nas) == before


def test_it_stays_listed_until_it_is_taken_away(path: Path, root: StagingRoot, now: datetime) -> None:
    (row,) = move(now)
    assert set_aside_recovery.look(root, now=now) == 0
    assert set_aside_recovery.where(row).endswith(".exlab-set-aside/Run_2026-04-17T14-32/tiles/extra.tif")
    (path.parent).rename(path.parent.with_name("elsewhere"))  # there is no telling
    assert set_aside_recovery.look(root, now=now) == 0
    path.parent.with_name("elsewhere").rename(path.parent)
    aside(path).unlink()
    assert set_aside_recovery.look(root, now=now + timedelta(hours=1)) == 1
    row.refresh_from_db()
    assert (row.state, row.state_at) == ("taken", now + timedelta(hours=1))


def test_nothing_is_put_back_into_a_cleared_run(path: Path, root: StagingRoot, now: datetime) -> None:
    (row,) = move(now)
    discovery.discover(root, now=now + timedelta(minutes=1))
    clear_run(the_run(), now=now)
    with pytest.raises(NotSetAside, match="cleared"):
        set_aside.put_back(row, actor="ada", reason="back")
    assert aside(path).exists() and set_aside_recovery.look(root, now=now) == 0


def test_discovery_and_orphans_pass_it_over_on_both_sides(
    lab: Lab, path: Path, root: StagingRoot, now: datetime
) -> None:
    add(lab.staging, b"notes.txt", now)
    move(now)
    mirrored = lab.twin().parent / ".exlab-set-aside" / path.name
    (mirrored / "tiles").mkdir(parents=True)
    (mirrored / "tiles/extra.tif").write_bytes(b"more")
    found = discovery.discover(root, now=now + timedelta(hours=3))
    orphans.inspect(root, now=now + timedelta(hours=3))
    orphans.inspect(root, now=now + timedelta(hours=6))
    assert found is not None and (found.found, found.problems) == (1, [])
    assert [orphan.path for orphan in orphans.listed()] == ["notes.txt"]
    assert clear_run(the_run(), now=now)[0] > 0


def test_what_another_database_set_aside_is_an_orphan(lab: Lab, path: Path, root: StagingRoot, now: datetime) -> None:
    folder = path.parent / ".exlab-set-aside"
    (folder / "Run_2026-01-01T00-00").mkdir(parents=True)
    add(folder / "Run_2026-01-01T00-00", b"late.tif", now)
    move(now)
    for hours in (3, 6):
        orphans.inspect(root, now=now + timedelta(hours=hours))
    (orphan,) = orphans.listed()
    assert (orphan.path, orphan.files, orphan.bytes) == (f"{FOLDER}/Run_2026-01-01T00-00", 1, 4)
    assert "database knows nothing" in orphan.detail


def test_recovery_says_what_it_settled(path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    class Died(BaseException):
        pass

    def die(*args: object) -> None:
        raise Died

    monkeypatch.setattr(set_aside_recovery, "settle", die)
    with pytest.raises(Died):
        move(now)
    assert aside(path).exists() and SetAside.objects.get().state == AsideState.INTENT
    monkeypatch.undo()
    out = StringIO()
    call_command("recover", "--json", stdout=out)
    (told,) = json.loads(out.getvalue())["set_aside"]
    assert told == {"run_path": RUN_PATH, "file": "tiles/extra.tif", "state": "done"}
    assert [entry.kind for entry in LedgerEntry.objects.all()] == ["set_aside"]
    assert not recovery.recover(now=now).set_aside


def test_a_row_that_cannot_be_settled_stops_no_recovery(
    path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise ZeroDivisionError

    move(now)
    SetAside.objects.update(state=AsideState.INTENT)
    with monkeypatch.context() as broken:
        broken.setattr(set_aside_recovery, "settle", fail)
        assert recovery.recover(now=now).set_aside == []
    assert [row.state for row in recovery.recover(now=now).set_aside] == [AsideState.DONE]


@pytest.mark.parametrize(("reason", "said"), [(" ", "must be given"), ("x" * 501, "at most 500 characters")])
def test_a_reason_must_be_given_and_fit(path: Path, now: datetime, reason: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        set_aside.set_aside(the_run(), [FILE], actor="ada", reason=reason, now=now)
    assert not SetAside.objects.exists()


def look_on(root: StagingRoot, now: datetime) -> list[str]:
    set_aside_recovery.look(root, now=now)
    for hours in (3, 6):
        orphans.inspect(root, now=now + timedelta(hours=hours))
    return [orphan.path for orphan in orphans.listed()]


def rename(lab: Lab, old: str, new: str) -> None:
    for side in (lab.staging, lab.nas):
        (side / new).parent.mkdir(parents=True, exist_ok=True)
        (side / old).rename(side / new)


def test_what_was_moved_with_its_folder_stays_listed_though_another_folder_takes_the_old_name(
    lab: Lab, path: Path, root: StagingRoot, now: datetime
) -> None:
    (row,) = move(now)
    old, new = "CONFOCAL_01/PROJ-0042", "CONFOCAL_01/PROJ-0042-cortex"
    rename(lab, old, new)
    moved_runs.move_runs(root, Move(old, new), RegisterOrder(now=now, actor="ada", note="a new code"))
    (lab.staging / old / "Runs").mkdir(parents=True)
    assert look_on(root, now) == []
    row.refresh_from_db()
    assert row.state == AsideState.DONE and set_aside_recovery.where(row).startswith(f"{new}/Runs/.exlab-set-aside/")
    set_aside.put_back(row, actor="ada", reason="back")
    assert (lab.staging / RUN_PATH.replace(old, new) / "tiles/extra.tif").read_bytes() == b"more"


def test_a_run_that_moved_away_alone_gets_its_file_back(lab: Lab, path: Path, root: StagingRoot, now: datetime) -> None:
    (row,) = move(now)
    new = RUN_PATH.replace("PROJ-0042", "PROJ-0043")
    rename(lab, RUN_PATH, new)
    moved_runs.move_runs(root, Move(RUN_PATH, new), RegisterOrder(now=now, actor="ada", note="another project"))
    assert set_aside_recovery.look(root, now=now) == 0 and "PROJ-0042" in set_aside_recovery.where(row)
    set_aside.put_back(row, actor="eve", reason="back")
    assert (row.state, (lab.staging / new / "tiles/extra.tif").read_bytes()) == ("undone", b"more")
    assert LedgerEntry.objects.filter(kind="put_back", actor="eve").count() == 1


def test_what_was_called_taken_and_lies_there_again_is_listed_again(
    path: Path, root: StagingRoot, now: datetime
) -> None:
    (row,) = move(now)
    folder = path.parent / ".exlab-set-aside"
    folder.rename(path.parent / "elsewhere")
    assert set_aside_recovery.look(root, now=now) == 1
    (path.parent / "elsewhere").rename(folder)
    assert set_aside_recovery.look(root, now=now) == 0
    row.refresh_from_db()
    assert row.state == AsideState.DONE
    set_aside.put_back(row, actor="ada", reason="back")


def test_a_row_that_is_over_hides_no_file(path: Path, root: StagingRoot, now: datetime) -> None:
    move(now)
    aside(path).unlink()
    assert set_aside_recovery.look(root, now=now) == 1
    add(path.parent / ".exlab-set-aside" / path.name, b"tiles/extra.tif", now, b"another one")
    add(path.parent / ".exlab-set-aside" / path.name, b"notes.txt", now)
    assert look_on(root, now) == [f"{FOLDER}/{path.name}"]
    assert "nothing: notes.txt, tiles/extra.tif" in orphans.listed()[0].detail


def test_a_copy_in_its_old_place_does_not_make_it_forgotten(
    path: Path, root: StagingRoot, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies after the rename, and a person copies the file back with its time: the inode tells."""

    class Died(BaseException):
        pass

    def die(*args: object) -> None:
        raise Died

    monkeypatch.setattr(set_aside_recovery, "settle", die)
    with pytest.raises(Died):
        move(now)
    monkeypatch.undo()
    shutil.copy2(aside(path), path / "tiles/extra.tif")
    (row,) = recovery.recover(now=now).set_aside
    assert row.state == AsideState.DONE and (path / "tiles/extra.tif").exists()
    assert look_on(root, now) == []


def test_recovery_leaves_alone_what_another_worker_has_settled(
    path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = move(now)
    set_aside.put_back(first, actor="ada", reason="back")
    move(now)
    stale = SetAside.objects.filter(pk=first.pk)
    monkeypatch.setattr(type(SetAside.objects.all()), "under_way", lambda rows: stale)
    assert set_aside_recovery.recover(now=now) == []
    assert sorted(SetAside.objects.values_list("state", flat=True)) == ["done", "undone"]
