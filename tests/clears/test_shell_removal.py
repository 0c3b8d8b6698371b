"""Shells: folders without data that a waiting wizard makes where a run was."""

import contextlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from cleanup import clear_run
from cleanup.clears import preparation, protocol, recovery, run_action, shell_removal
from cleanup.clears.queue import AlreadyClearing
from cleanup.clears.refusal import Refused
from cleanup.models import (
    Alert,
    AlertKind,
    ClearAttempt,
    Hold,
    HoldSource,
    LedgerEntry,
    Orphan,
    Requester,
    RetentionPolicy,
    Run,
)
from cleanup.monitoring import watchdog
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.facts import stored_facts
from cleanup.runs.looks import begun
from cleanup.runs.orphans import orphans
from cleanup.storage.data_directory.datadir import DataDir
from cleanup.storage.staging import fences
from cleanup.sweeps import all_roots
from tests.faults import means
from tests.faults.means import flocked_elsewhere
from tests.faults.scene import Scene, inodes, set_scene
from tests.faults.seam import Killed, Operation, Seam
from tests.tools.command_line import Done, Manage
from tests.tools.lab import METADATA, RUN_PATH, Lab, census, snapshot

pytestmark = pytest.mark.django_db(transaction=True)

FOLDER = RUN_PATH.rpartition("/")[0]
HOURS = timedelta(hours=2)


@pytest.fixture
def scene(lab: Lab, root: Any, now: datetime) -> Scene:
    return set_scene(lab, root, now)


@pytest.fixture
def manage(db: None, capsys: pytest.CaptureFixture[str]) -> Manage:
    def run(*arguments: str) -> Done:
        status = 0
        try:
            call_command(*arguments)
        except SystemExit as ended:
            status = int(ended.code or 0)
        said = capsys.readouterr()
        return Done(status, said.out, said.err)

    return run


def make_shell(path: Path, *, record: bool = True, lock: bool = True) -> Path:
    """What a wizard leaves that takes its lock in a missing folder and writes a first record."""
    (path / METADATA).mkdir(parents=True)
    if lock:
        (path / METADATA / "ingest.json.lock").touch()
    if record:
        equipment, _project, _kind, _leaf = RUN_PATH.split("/")
        entry = {"state": "staging", "at": "2026-06-15T08:00:00Z", "host": "labpc-04"}
        words = {"schema_version": "1.1", "project_name": "Cortex Q3 Pilot", "equipment_id": equipment}
        words |= {"run_kind": "experimental", "run_path": RUN_PATH, "transport": "smb_mount"}
        said = {**words, "current_state": "staging", "history": [entry]}
        (path / METADATA / "ingest.json").write_text(json.dumps(said))
    return path


def make_occupant(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "new.tif").write_bytes(b"another program's new work")
    return path


def hold(scene: Scene) -> None:
    until = timezone.now() + HOURS
    Hold.objects.create(
        run=scene.run, source=HoldSource.PERSON, owner="bob", reason="mine", created_at=scene.now, until=until
    )


def refuse(scene: Scene, make: Callable[[], Any], *, at: tuple[Any, str] = (fences, "fence")) -> ClearAttempt:
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        stack.enter_context(means.after(patch, *at, make))
        stack.enter_context(means.after(patch, DataDir, "write_tombstone", lambda: hold(scene)))
        with pytest.raises(Refused):
            clear_run(scene.run, now=scene.now, actor="ada")
    return scene.run.attempts.get()


def aside_of(scene: Scene) -> Path:
    (aside,) = (path for path in scene.path.parent.iterdir() if ".shell" in path.name)
    return aside


def assert_back(scene: Scene) -> None:
    assert snapshot(scene.path) == scene.entries
    assert inodes(scene.path) == scene.inodes
    scene.run.refresh_from_db()
    assert scene.run.state == "sync_verified"


# A clear that does not happen


@pytest.mark.parametrize(
    "left",
    [
        "all",
        "the folder alone",
        *(pytest.param(left, marks=pytest.mark.exhaustive) for left in ("no record", "no lock")),
    ],
)
def test_a_shell_is_moved_aside_and_the_run_goes_back(scene: Scene, left: str) -> None:
    record, lock = left not in ("no record", "the folder alone"), left not in ("no lock", "the folder alone")
    attempt = refuse(scene, lambda: make_shell(scene.path, record=record, lock=lock))
    assert_back(scene)
    aside = aside_of(scene)
    assert aside.name == f".exlab-clearing-{attempt.pk.hex}.shell"
    assert (attempt.phase, attempt.reason) == ("refused", "held")
    assert aside.name in attempt.detail
    assert (aside / METADATA / "ingest.json").exists() == record
    assert not Alert.objects.filter(kind=AlertKind.CONFLICT).exists()


def test_a_shell_that_was_moved_aside_is_listed_and_removed(scene: Scene) -> None:
    refuse(scene, lambda: make_shell(scene.path))
    name = f"{FOLDER}/{aside_of(scene).name}"
    found = discovery.discover(scene.root, now=scene.now)
    assert found is not None
    assert [(path, reason) for path, reason, _ in found.problems] == [(name, Reason.SHELL_LEFT)]
    orphan = listed_shell(scene)
    assert (orphan.path, orphan.run, orphan.reason) == (name, scene.run, Reason.SHELL_LEFT)
    attempt = remove(orphan, scene.now)
    assert (attempt.phase, attempt.kind) == ("done", "shell")
    assert scene.leftovers() == []
    assert_back(scene)


def test_shells_after_one_another_get_names_of_their_own(scene: Scene) -> None:
    """The wizard makes a second shell between the move of the first and the return of the run."""
    made = iter([lambda: make_shell(scene.path)] * 2)
    with pytest.MonkeyPatch.context() as patch:
        original = fences.fence

        def fence(parent: int, leaf: bytes, name: bytes) -> None:
            original(parent, leaf, name)
            next(made, lambda: None)()

        patch.setattr(fences, "fence", fence)
        attempt = refuse(scene, lambda: None, at=(preparation, "prepare"))
    assert_back(scene)
    assert [name.partition(".shell")[2] for name in scene.leftovers()] == ["", "-2"]
    assert all(name in attempt.detail for name in scene.leftovers())


@pytest.mark.parametrize(
    "what",
    [
        "data",
        "another run's record",
        "a hold file",
        *(
            pytest.param(what, marks=pytest.mark.exhaustive)
            for what in ("a longer history", "a link", "a log", "a file")
        ),
    ],
)
def test_anything_more_is_a_conflict(scene: Scene, what: str) -> None:
    def make() -> None:
        path = make_shell(scene.path)
        record = path / METADATA / "ingest.json"
        if what == "data":
            (path / "first.tif").write_bytes(b"first")
        elif what == "a longer history":
            said = json.loads(record.read_text())
            said["history"].append({"state": "complete", "at": "2026-06-15T08:01:00Z", "host": "labpc-04"})
            record.write_text(json.dumps({**said, "current_state": "complete"}))
        elif what == "another run's record":
            record.write_text(record.read_text().replace("Run_2026-04-17", "Run_2026-04-18"))
        elif what == "a hold file":
            (path / ".exlab-hold").touch()
        elif what == "a file":
            shutil.rmtree(path / METADATA)
            (path / METADATA).write_bytes(b"a file of that name")
        elif what == "a link":
            (path / METADATA / "creation.json.lock").symlink_to("/")
        else:
            (path / METADATA / "wizard.labpc-04.log").write_text("a new run begins")

    attempt = refuse(scene, make)
    assert (attempt.phase, attempt.reason) == ("conflict", "path_occupied")
    assert scene.leftovers() == [f".exlab-clearing-{attempt.pk.hex}"]
    assert snapshot(scene.path.parent / scene.leftovers()[0]) == scene.entries
    assert (scene.path / METADATA / "ingest.json").exists() or (scene.path / METADATA).is_file()


def test_a_folder_that_was_born_before_the_fence_is_a_conflict(scene: Scene, tmp_path: Path) -> None:
    older = make_shell(scene.path.with_name("older"))
    attempt = refuse(scene, lambda: older.rename(scene.path))
    assert attempt.phase == "conflict"


def test_what_comes_while_it_is_moved_brings_it_back(scene: Scene) -> None:
    with pytest.MonkeyPatch.context() as patch:
        original, calls = fences.fence, 0

        def fence(parent: int, leaf: bytes, name: bytes) -> None:
            nonlocal calls
            original(parent, leaf, name)
            calls += 1
            if calls == 2:
                (scene.path.parent / os.fsdecode(name) / "first.tif").write_bytes(b"first")

        patch.setattr(fences, "fence", fence)
        attempt = refuse(scene, lambda: make_shell(scene.path), at=(preparation, "prepare"))
    assert attempt.phase == "conflict"
    assert (scene.path / "first.tif").read_bytes() == b"first"
    assert scene.leftovers() == [f".exlab-clearing-{attempt.pk.hex}"]


def test_while_its_lock_is_held_the_run_waits(scene: Scene) -> None:
    """Takes some seconds: the lock is asked for repeatedly."""
    with ExitStack() as stack:

        def make() -> None:
            make_shell(scene.path, record=False)
            stack.enter_context(flocked_elsewhere(scene.path / METADATA / "ingest.json.lock"))

        attempt = refuse(scene, make)
        assert attempt.phase == "intent"
        assert "lock" in attempt.detail
        settled = recovery.recover(now=scene.now)
        assert [(one.pk, finding.reason) for one, finding in settled.unsettled] == [(attempt.pk, Reason.WRITER_ACTIVE)]
        attempt.refresh_from_db()
        assert attempt.phase == "intent"
        assert snapshot(scene.path.parent / scene.leftovers()[0]) == scene.entries
    settled = recovery.recover(now=scene.now)
    assert (settled.rolled_back, settled.unsettled) == ([attempt], [])
    assert_back(scene)
    attempt.refresh_from_db()
    assert (attempt.phase, attempt.reason) == ("aborted", "interrupted")
    assert aside_of(scene).name in attempt.detail


def test_after_a_crash_recovery_moves_it_aside(scene: Scene) -> None:
    attempt = scene.attempt()
    with Seam(killed_at_the_tombstone), pytest.raises(Killed):
        protocol.perform(attempt, now=scene.now)
    make_shell(scene.path)
    settled = recovery.recover(now=scene.now)
    assert [one.pk for one in settled.rolled_back] == [attempt.pk]
    assert_back(scene)
    assert aside_of(scene).is_dir()


def test_a_recovery_that_is_killed_anywhere_is_settled_by_the_next(scene: Scene) -> None:
    """Takes some seconds: killed before each operation, with a shell at the run's path."""
    number, kept = 1, 0
    while True:
        attempt = scene.attempt()
        with Seam(killed_at_the_tombstone), pytest.raises(Killed):
            protocol.perform(attempt, now=scene.now)
        make_shell(scene.path)
        kept += 1
        with contextlib.suppress(Killed), Seam(_killed_before(number)) as seam:
            recovery.recover(now=scene.now)
        settled = recovery.recover(now=scene.now)
        assert settled.unsettled == []
        assert_back(scene)
        assert len(scene.leftovers()) == kept
        attempt.refresh_from_db()
        assert attempt.phase == "aborted"
        if not seam.dead:
            break
        number += 1
    assert number > 5


def killed_at_the_tombstone(operation: Operation, do: Callable[[], Any]) -> Any:
    if "tombstone" in str(operation):
        raise Killed
    return do()


# A conflict that stands


@pytest.fixture
def conflict(scene: Scene) -> ClearAttempt:
    attempt = refuse(scene, lambda: make_occupant(scene.path))
    Hold.objects.update(released_at=scene.now)
    assert attempt.phase == "conflict"
    return attempt


def test_a_conflict_stays_unsettled_and_is_an_alert(scene: Scene, conflict: ClearAttempt) -> None:
    alert = Alert.objects.get(kind=AlertKind.CONFLICT)
    fence = f".exlab-clearing-{conflict.pk.hex}"
    assert (alert.run, alert.reason, alert.ended_at) == (scene.run, Reason.PATH_OCCUPIED, None)
    assert fence in alert.detail
    for _ in range(2):
        settled = recovery.recover(now=scene.now)
        assert [(one.pk, finding.reason) for one, finding in settled.unsettled] == [(conflict.pk, Reason.PATH_OCCUPIED)]
        assert settled.rolled_back == []
    watchdog.watch(now=scene.now)
    assert Alert.objects.get(kind=AlertKind.CONFLICT).ended_at is None
    assert scene.kinds() == ["conflict"]


def test_recover_says_so(scene: Scene, conflict: ClearAttempt, manage: Manage) -> None:
    done = manage("recover", "--json")
    assert done.status == 1
    assert [(one["run_path"], one["reason"]) for one in done.json["unsettled"]] == [(RUN_PATH, "path_occupied")]


def test_once_a_person_has_moved_one_away_it_ends(scene: Scene, conflict: ClearAttempt) -> None:
    scene.path.rename(scene.lab.base / "away")
    settled = recovery.recover(now=scene.now)
    assert (settled.unsettled, [one.pk for one in settled.rolled_back]) == ([], [conflict.pk])
    assert_back(scene)
    assert Alert.objects.get(kind=AlertKind.CONFLICT).ended_at is not None
    assert clear_run(scene.run, now=scene.now, actor="ada") == (scene.files, scene.bytes)


def test_a_conflict_with_a_shell_ends_by_itself(scene: Scene, conflict: ClearAttempt) -> None:
    shutil.rmtree(scene.path)
    make_shell(scene.path)
    recovery.recover(now=scene.now)
    assert_back(scene)


def test_no_clear_is_offered_or_done(scene: Scene, conflict: ClearAttempt, policy: Callable[..., Any]) -> None:
    policy(mode="scheduled", retain_hours=0, rehearse=False)
    discovery.discover(scene.root, now=scene.now)
    run = Run.objects.with_root().get()
    decision = stored_facts.decision(run, RetentionPolicy.objects.scoped(), scene.now)
    assert not decision.worth_trying
    assert (refusal := decision.main_refusal(operator=True)) is not None
    assert (refusal.reason, refusal.detail) == (Reason.PATH_OCCUPIED, conflict.detail)
    run.refresh_from_db()
    assert (run.problem, run.identity) == ("path_occupied", scene.run.identity)
    with pytest.raises(Refused) as refused:
        clear_run(run, now=scene.now, actor="ada")
    assert refused.value.finding.reason is Reason.PATH_OCCUPIED
    swept = all_roots.sweep(now=scene.now)
    assert [(one.action, one.reason) for one in swept.runs] == [(run_action.Action.SKIPPED, Reason.PATH_OCCUPIED)]
    assert (scene.path / "new.tif").exists()


def test_discovery_takes_nothing_for_the_run(scene: Scene, conflict: ClearAttempt) -> None:
    shutil.rmtree(scene.path)
    shutil.copytree(scene.path.parent / f".exlab-clearing-{conflict.pk.hex}", scene.path)
    events = scene.run.events.count()
    found = discovery.discover(scene.root, now=scene.now)
    assert found is not None
    assert [(path, reason) for path, reason, _ in found.problems] == [(RUN_PATH, Reason.PATH_OCCUPIED)]
    run = Run.objects.get()
    assert (run.identity, run.state, run.events.count()) == (scene.run.identity, "sync_verified", events)


# At the path of a run that was cleared


def clear(scene: Scene) -> None:
    clear_run(scene.run, now=scene.now, actor="ada")


def listed_shell(scene: Scene) -> Orphan:
    orphans.inspect(scene.root, now=scene.now)
    orphans.inspect(scene.root, now=scene.now + HOURS)
    return orphans.listed().get()


def remove(orphan: Orphan, now: datetime) -> ClearAttempt:
    attempt = shell_removal.request_removal(orphan, actor="bob", now=now)
    return shell_removal.perform(attempt, now=now)


@pytest.fixture
def left(scene: Scene) -> Path:
    clear(scene)
    return make_shell(scene.path)


def test_it_is_called_what_it_is(scene: Scene, left: Path) -> None:
    found = discovery.discover(scene.root, now=scene.now)
    assert found is not None
    assert [(path, reason) for path, reason, _ in found.problems] == [(RUN_PATH, Reason.SHELL_LEFT)]
    assert (found.new, Run.objects.count()) == (0, 1)
    orphan = listed_shell(scene)
    assert (orphan.kind, orphan.reason, orphan.run, orphan.path) == (
        "shell",
        Reason.SHELL_LEFT,
        scene.run,
        RUN_PATH,
    )
    assert (orphan.files, orphan.bytes) == census(left)
    watched = watchdog.watch(now=scene.now + timedelta(days=30))
    assert AlertKind.STALLED_RUN not in {alert.kind for alert in watched.alerts}
    assert watched.failed == []


def test_one_click_removes_it(scene: Scene, left: Path) -> None:
    freed = LedgerEntry.objects.all().totals()
    before = {path.name: path.read_bytes() for path in (left / METADATA).iterdir()}
    files, size = census(left)
    attempt = remove(listed_shell(scene), scene.now)
    assert (attempt.phase, attempt.kind, attempt.run, attempt.reason) == ("done", "shell", scene.run, "")
    assert (attempt.freed_files, attempt.freed_bytes, attempt.requester) == (files, size, Requester.OPERATOR)
    assert not left.exists()
    assert scene.leftovers() == []
    assert scene.kinds() == ["authorised", "completed", "shell"]
    row = scene.run.ledger.get(kind="shell")
    assert (row.attempt, row.actor, row.files, row.bytes, row.reason) == (attempt, "bob", files, size, "")
    assert LedgerEntry.objects.all().totals() == freed
    with tarfile.open(DataDir(os.environ["EXLAB_DATA_DIR"]).tombstone_path(attempt.pk.hex)) as archive:
        kept = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    assert {f"metadata/{name}": content for name, content in before.items()}.items() <= kept.items()
    assert json.loads(kept["tombstone.json"])["path"] == RUN_PATH
    assert not orphans.listed().exists()
    scene.run.refresh_from_db()
    assert scene.run.state == "cleared"
    assert clear_run(scene.run, now=scene.now) == (0, 0)


def test_it_is_asked_for_once(scene: Scene, left: Path) -> None:
    orphan = listed_shell(scene)
    shell_removal.request_removal(orphan, actor="bob", now=scene.now)
    with pytest.raises(AlreadyClearing):
        shell_removal.request_removal(orphan, actor="bob", now=scene.now)


@pytest.mark.parametrize(
    "more",
    ["data", *(pytest.param(more, marks=pytest.mark.exhaustive) for more in ("creation.json", "a longer history"))],
)
def test_a_shell_that_got_more_stays(scene: Scene, left: Path, more: str) -> None:
    orphan = listed_shell(scene)
    if more == "data":
        (left / "first.tif").write_bytes(b"first")
    elif more == "creation.json":
        (left / METADATA / "creation.json").write_text("{}")
    else:
        said = json.loads((left / METADATA / "ingest.json").read_text())
        said["history"].append({"state": "complete", "at": "2026-06-15T08:01:00Z", "host": "labpc-04"})
        (left / METADATA / "ingest.json").write_text(json.dumps({**said, "current_state": "complete"}))
    before = snapshot(left)
    attempt = remove(orphan, scene.now)
    assert (attempt.phase, attempt.reason) == ("refused", Reason.NOT_A_SHELL)
    assert snapshot(left) == before
    assert scene.leftovers() == []
    assert scene.run.ledger.get(kind="shell").reason == Reason.NOT_A_SHELL
    discovery.discover(scene.root, now=scene.now)
    assert Run.objects.staged().filter(run_path=RUN_PATH).exists()


def test_a_shell_whose_lock_is_held_stays(scene: Scene, left: Path) -> None:
    """Takes 1 s: the lock is asked for repeatedly."""
    orphan = listed_shell(scene)
    with flocked_elsewhere(left / METADATA / "ingest.json.lock"):
        attempt = remove(orphan, scene.now)
    assert (attempt.phase, attempt.reason) == ("refused", Reason.WRITER_ACTIVE)
    assert left.is_dir()


def test_what_comes_under_the_fence_brings_it_back(scene: Scene, left: Path) -> None:
    orphan = listed_shell(scene)
    with pytest.MonkeyPatch.context() as patch:

        def write() -> None:
            (fence,) = (path for path in left.parent.iterdir() if path.name.startswith(".exlab-clearing-"))
            (fence / "first.tif").write_bytes(b"first")

        with means.after(patch, fences, "fence", write):
            attempt = remove(orphan, scene.now)
    assert (attempt.phase, attempt.reason) == ("refused", Reason.NOT_A_SHELL)
    assert (left / "first.tif").read_bytes() == b"first"
    assert scene.leftovers() == []


def test_a_new_run_at_a_cleared_path_is_none(scene: Scene) -> None:
    """The wizard's real new runs hold more from the first moment on."""
    clear(scene)
    scene.lab.run(files={}, state="staging")
    found = discovery.discover(scene.root, now=scene.now)
    assert found is not None
    assert found.new == 1


def test_a_shell_that_an_earlier_version_took_for_a_run(scene: Scene, left: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(begun, "_is_none", lambda *given: False)
        discovery.discover(scene.root, now=scene.now)
    assert Run.objects.staged().filter(run_path=RUN_PATH, state="staging").exists()
    discovery.discover(scene.root, now=scene.now)
    assert listed_shell(scene).kind == "shell"
    watched = watchdog.watch(now=scene.now + timedelta(days=30))
    assert AlertKind.STALLED_RUN not in {alert.kind for alert in watched.alerts}


def test_a_shell_beside_a_fence_of_which_nothing_is_known(lab: Lab, root: Any, now: datetime) -> None:
    """After a restore of the database, the record tells which run is fenced."""
    path = lab.run()
    fence = path.rename(path.with_name(f".exlab-clearing-{'a' * 32}"))
    make_shell(path)
    found = discovery.discover(root, now=now)
    assert found is not None
    assert {reason for _path, reason, _detail in found.problems} == {Reason.STRAY_FENCE, Reason.SHELL_LEFT}
    assert not Run.objects.exists()
    for at in (now, now + HOURS):
        orphans.inspect(root, now=at)
    orphan = orphans.listed().get(kind="shell")
    assert (orphan.path, orphan.run) == (RUN_PATH, None)
    assert fence.name in orphan.detail
    assert orphans.next_step(orphan) is orphans.NextStep.LOOK_AGAIN
    with pytest.raises(ValueError, match="no shell of a known run"):
        shell_removal.request_removal(orphan, actor="bob", now=now)


# Killed at every step of its removal


def operations(scene: Scene, orphan: Orphan) -> list[Operation]:
    attempt = shell_removal.request_removal(orphan, actor="bob", now=scene.now)
    with Seam() as seam:
        shell_removal.perform(attempt, now=scene.now)
    return seam.operations


@pytest.mark.parametrize(
    "meddled", [pytest.param(False, id="alone"), pytest.param(True, id="data comes", marks=pytest.mark.exhaustive)]
)
def test_a_crash_at_every_operation(scene: Scene, left: Path, meddled: bool) -> None:
    """Takes some seconds: a removal is killed before each operation, and recovery settles it."""
    orphan = listed_shell(scene)
    steps = operations(scene, orphan)
    assert len(steps) > 15
    assert not left.exists()
    for step in steps:
        shell = make_shell(left)
        Orphan.objects.filter(pk=orphan.pk).update(gone_at=None)
        orphan.refresh_from_db()
        before, rows = snapshot(shell), scene.run.ledger.filter(kind="shell").count()
        fresh = shell_removal.request_removal(orphan, actor="bob", now=scene.now)
        with Seam(_killed_before(step.number)), pytest.raises(Killed):
            shell_removal.perform(fresh, now=scene.now)
        fresh.refresh_from_db()
        committed = fresh.phase == "committed"
        if meddled:
            place = next((path for path in (shell, fence_of(shell, fresh)) if path.is_dir()), None)
            if place is not None:
                (place / "first.tif").write_bytes(b"first")
        recovery.recover(now=scene.now)
        fresh.refresh_from_db()
        assert not fresh.is_active or fresh.phase == "queued", step
        if fresh.phase == "queued":  # killed before it was claimed; its task comes again
            fresh = shell_removal.perform(fresh, now=scene.now)
        rest = [path for path in (shell, *shell.parent.iterdir()) if (path / "first.tif").exists()]
        if meddled and rest:
            assert (rest[0] / "first.tif").read_bytes() == b"first"
        elif fresh.phase == "done":
            assert not shell.exists(), step
            assert scene.leftovers() == [], step
            assert scene.run.ledger.filter(kind="shell", reason="").count() > rows or rows, step
        else:
            assert not committed, step
            assert snapshot(shell) == before, step
            assert scene.leftovers() == [], step
        assert LedgerEntry.objects.filter(kind="completed").count() == 1
        recovery.recover(now=scene.now)
        for path in [shell, *(shell.parent / name for name in scene.leftovers())]:
            if path.exists():
                shutil.rmtree(path)
        assert scene.run.active_attempt is None


def fence_of(shell: Path, attempt: ClearAttempt) -> Path:
    return shell.parent / f".exlab-clearing-{attempt.pk.hex}"


def _killed_before(number: int) -> Callable[[Operation, Callable[[], Any]], Any]:
    def act(operation: Operation, do: Callable[[], Any]) -> Any:
        if operation.number == number:
            raise Killed
        return do()

    return act
