"""Attacks that once worked: a lost byte, a wrong count, or a hidden run."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.db.models import Q
from django.utils import timezone

from cleanup import clear_run
from cleanup.clears import nas_history, preparation, protocol, recovery, settlement
from cleanup.clears.queue import ClearRequest
from cleanup.clears.refusal import Refused
from cleanup.lab.roots import opening, registration
from cleanup.models import ClearAttempt, LedgerEntry, NasBreaker, Phase, Requester, Run
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery, rows
from cleanup.runs.orphans import stray_fences
from cleanup.storage import handles, linux
from cleanup.storage.root_files import tokens
from cleanup.storage.staging import fences
from tests.faults import children, means
from tests.faults.scene import Scene, inodes, is_root, scene_of, set_scene
from tests.tools.lab import METADATA, RUN_PATH, Lab, census, snapshot

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_engine]

CLEARING = "cleanup.clears.protocol"
FENCES, REMOVAL = "cleanup.storage.staging.fences", "cleanup.storage.staging.removal"


@pytest.fixture
def scene(lab: Lab, root: Any, now: datetime) -> Scene:
    return set_scene(lab, root, now)


class Died(BaseException):
    """The process ends here: no handler catches this, so nothing is put back or written down."""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with means.reading_here(monkeypatch):
        yield


@pytest.fixture
def crash(scene: Scene, subprocess_env: dict[str, str]) -> Callable[[str], ClearAttempt]:
    def clear_and_die(place: str) -> ClearAttempt:
        attempt = scene.attempt()
        children.kill_at(place, subprocess_env, "clear", scene.now, str(attempt.pk))
        attempt.refresh_from_db()
        return attempt

    return clear_and_die


def test_a_run_put_into_safety_while_its_bytes_are_compared_is_not_followed_there(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Comparing takes hours: meanwhile the run is moved away and other work put at its path."""
    safe = tmp_path / "kept by hand"
    fence = fences.fence

    def swap_and_fence(*args: Any) -> None:
        scene.path.rename(safe)
        scene.path.mkdir()
        (scene.path / "new work").write_bytes(b"without any twin")
        fence(*args)

    monkeypatch.setattr(fences, "fence", swap_and_fence)
    with pytest.raises(Refused):
        clear_run(scene.run, now=scene.now)
    assert inodes(safe) == scene.inodes
    assert (scene.path / "new work").read_bytes() == b"without any twin"
    assert scene.leftovers() == []
    assert scene.kinds() == ["refused"]


def test_what_was_freed_is_counted_once_however_late_recovery_looks(
    scene: Scene, crash: Callable[[str], ClearAttempt], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One recovery has read the attempt and waits while another finishes it with something left."""
    crash(f"{FENCES}:publish:after:1")
    (fence,) = scene.path.parent.glob(".exlab-clearing-*")
    (fence / "late").write_bytes(b"late")
    settle = recovery._settle
    others: list[ClearAttempt] = []

    def settle_late(attempt: ClearAttempt, *rest: Any) -> None:
        if not others:
            others.append(attempt)
            recovery.recover(now=scene.now)
        settle(attempt, *rest)

    monkeypatch.setattr(recovery, "_settle", settle_late)
    recovery.recover(now=scene.now)
    assert census(fence)[0] == 2
    record = scene.entries[f"{METADATA}/ingest.json"].size
    scene.assert_freed(scene.files - 1, scene.bytes - record)


def test_a_project_folder_renamed_after_the_commit_is_not_taken_for_a_finished_clear(
    scene: Scene, crash: Callable[[str], ClearAttempt]
) -> None:
    crash(f"{CLEARING}:_commit:after:1")
    project = scene.path.parent.parent
    project.rename(project.with_name("PROJ-0042-old"))
    settled = recovery.recover(now=scene.now)
    assert scene.kinds() == ["authorised"]
    assert [finding.reason for _attempt, finding in settled.unsettled] == [Reason.MISSING_DIRECTORY]
    assert Reason.MISSING_DIRECTORY.sentence in scene.run.attempts.get().detail  # and the pages tell it
    project.with_name("PROJ-0042-old").rename(project)
    recovery.recover(now=scene.now)
    scene.assert_cleared()


def test_a_project_folder_renamed_before_the_commit_does_not_hide_the_run(
    scene: Scene, crash: Callable[[str], ClearAttempt]
) -> None:
    attempt = crash(f"{FENCES}:fence:after:1")
    project = scene.path.parent.parent
    project.rename(project.with_name("PROJ-0042-old"))
    recovery.recover(now=scene.now)
    project.with_name("PROJ-0042-old").rename(project)
    recovery.recover(now=scene.now)
    attempt.refresh_from_db()
    assert attempt.phase == "aborted"
    scene.assert_whole()


def test_what_a_person_takes_out_of_a_fence_is_not_claimed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish = fences.publish

    def change_and_publish(*args: Any) -> None:
        publish(*args)
        (fence,) = scene.path.parent.glob(".exlab-clearing-*")
        for tile in (fence / "tiles").iterdir():
            tile.write_bytes(b"changed")

    with monkeypatch.context() as patch:
        patch.setattr(fences, "publish", change_and_publish)
        freed = clear_run(scene.run, now=scene.now)
    (fence,) = scene.path.parent.glob(".exlab-clearing-*")
    fence.rename(tmp_path / "rescued")
    recovery.recover(now=scene.now)
    scene.assert_freed(*freed)


def test_a_fence_of_an_unknown_attempt_is_reported(scene: Scene, root: Any) -> None:
    """The database was restored from an older backup: the run lies whole under a fence's name."""
    fence = scene.path.with_name(".exlab-clearing-" + "0" * 32)
    scene.path.rename(fence)
    found = discovery.discover(root, now=scene.now)
    assert found is not None
    assert (f"CONFOCAL_01/PROJ-0042/Runs/{fence.name}", Reason.STRAY_FENCE, "") in found.problems
    assert inodes(fence) == scene.inodes


def fence_of(scene: Scene) -> Path:
    (fence,) = (name for name in scene.leftovers() if not name.endswith(".json"))
    return scene.path.with_name(fence)


def die_after(monkeypatch: pytest.MonkeyPatch, scene: Scene, owner: Any, name: str) -> ClearAttempt:
    with means.after(monkeypatch, owner, name, means.failing(Died())), pytest.raises(Died):
        clear_run(scene.run, now=scene.now)
    return scene.run.attempts.get()


def recovered(scene: Scene) -> list[str]:
    recovery.recover(now=scene.now)
    return [finding.reason for _attempt, finding in recovery.recover(now=scene.now).unsettled]


def seen_by_discovery(root: Any, now: datetime) -> list[tuple[str, Reason]]:
    found = discovery.discover(root, now=now)
    assert found is not None
    return [(where, reason) for where, reason, _detail in found.problems]


# A file with two names: removing one changes its ctime, so ctime alone must not decide

TWO_NAMES = ("tiles/t_0000.tif", "tiles/t_0000 again.tif")
NEW_WORK = b"NEW WORK" * 512


@pytest.fixture
def linked(lab: Lab, root: Any, now: datetime, quick: None) -> Scene:
    path = lab.run(files=dict.fromkeys(TWO_NAMES, b"one tile" * 512))
    first, second = (path / name for name in TWO_NAMES)
    second.unlink()
    os.link(first, second)
    discovery.discover(root, now=now)
    return scene_of(lab, root, now, RUN_PATH, path)


def write_in_secret(path: Path) -> None:
    seen = path.stat()
    path.write_bytes(NEW_WORK)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (seen.st_size, seen.st_mtime_ns)


def test_a_file_with_two_names_is_cleared_like_any_other(linked: Scene) -> None:
    files, _size = clear_run(linked.run, now=linked.now)
    assert files == linked.files - 1  # one inode, counted once
    assert linked.run.attempts.get().reason == ""
    assert not linked.path.exists() and linked.leftovers() == []


@pytest.mark.parametrize("level", ["checksum", "record"])
def test_a_file_with_two_names_rewritten_after_the_comparison_stops_the_clear(
    linked: Scene, level: str, policy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy(mode="manual", proof=level)
    with (
        means.before(monkeypatch, protocol, "_fence_and_prepare", lambda: write_in_secret(linked.path / TWO_NAMES[0])),
        pytest.raises(Refused) as refused,
    ):
        clear_run(linked.run, now=linked.now)
    assert refused.value.finding.reason is Reason.CHANGED_SINCE_VERIFICATION
    assert inodes(linked.path) == linked.inodes
    assert {(linked.path / name).read_bytes() for name in TWO_NAMES} == {NEW_WORK}
    assert linked.leftovers() == []
    assert linked.kinds() == ["refused"]


def test_a_file_with_two_names_rewritten_after_the_commit_stays_and_is_named(
    linked: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    with means.before(
        monkeypatch, settlement, "roll_forward", lambda: write_in_secret(fence_of(linked) / TWO_NAMES[0])
    ):
        clear_run(linked.run, now=linked.now)
    recovery.recover(now=linked.now)
    fence = fence_of(linked)
    assert {(fence / name).read_bytes() for name in TWO_NAMES} == {NEW_WORK}
    attempt = linked.run.attempts.get()
    assert (attempt.phase, attempt.reason) == (Phase.DONE, Reason.REMOVAL_INCOMPLETE)
    for name in TWO_NAMES:
        assert f"{name}: changed" in attempt.detail
    assert attempt.freed_files == attempt.planned_files - 2  # the record stays with it


# One bad folder on the NAS is not the end of the NAS

BAD = [f"FLOW_01/BAD/Runs/Run_2026-04-0{day}T10-00" for day in (1, 2, 3)]
GOOD = "FLOW_01/GOOD/Runs/Run_2026-04-04T10-00"


@pytest.fixture
def four(lab: Lab, root: Any) -> Path:
    for run_path in [*BAD, GOOD]:
        lab.run(run_path, files={"data": b"data"})
    return lab.nas / "FLOW_01/BAD"


def reading_as_one_who_may_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AbstractContextManager[None]:
    """Root may read everything, unless its process has given up that right."""
    if not is_root():
        return nullcontext()
    if shutil.which("setpriv") is None:
        raise means.Unavailable("setpriv is not installed, which takes a right from a process of root")
    return means.reading_through(
        monkeypatch, tmp_path, "setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"
    )


def closed_to_us(folder: Path) -> None:
    folder.chmod(0)


def behind_a_link(folder: Path) -> None:
    folder.symlink_to(means.rename_aside(folder).name)


@pytest.mark.parametrize("spoil", [closed_to_us, behind_a_link])
def test_three_twins_out_of_reach_do_not_close_the_nas_for_the_fourth(
    four: Path,
    root: Any,
    now: datetime,
    spoil: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    spoil(four)
    try:
        with reading_as_one_who_may_not(monkeypatch, tmp_path):
            discovery.discover(root, now=now)
            refused = [run.facts["proof"]["findings"][0]["reason"] for run in Run.objects.filter(run_path__in=BAD)]
            assert refused == [Reason.NAS_IO_ERROR] * 3
            assert not NasBreaker.objects.filter(failures__gt=0).exists()
            assert clear_run(Run.objects.get(run_path=GOOD), now=now)[0] > 0
    except means.Unavailable as missing:
        means.skip_or_fail(missing)
    finally:
        four.chmod(0o700)


def test_input_output_errors_of_one_twin_do_not_close_a_nas_that_answers(
    scene: Scene, root: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    try:
        with means.nas_failing(monkeypatch, tmp_path, scene.twin, "statx", "error=EIO"):
            for _ in range(3):
                discovery.discover(root, now=scene.now)
            with pytest.raises(Refused) as refused:
                clear_run(scene.run, now=scene.now)
    except means.Unavailable as missing:
        means.skip_or_fail(missing)
    assert refused.value.finding.reason is Reason.NAS_IO_ERROR
    assert not NasBreaker.objects.filter(failures__gt=0).exists()
    scene.assert_whole()


@pytest.mark.usefixtures("four")
def test_three_twins_that_cannot_be_told_do_not_close_the_nas_for_the_fourth(
    lab: Lab, root: Any, now: datetime
) -> None:
    discovery.discover(root, now=now)
    for run in Run.objects.filter(run_path__in=BAD):
        (lab.twin(run.run_path) / METADATA / "ingest.json.lock").mkdir()
        clear_run(run, now=now)
    assert nas_history.tell(now=timezone.now() + timedelta(minutes=1)) == 0
    assert ClearAttempt.objects.filter(tell_tries=1).count() == 3
    assert not NasBreaker.objects.filter(failures__gt=0).exists()
    assert clear_run(Run.objects.get(run_path=GOOD), now=now)[0] > 0


def test_what_another_host_sees_of_a_nas_is_no_matter(scene: Scene) -> None:
    NasBreaker.objects.create(
        host="another",
        token=scene.root.nas_token,
        failures=3,
        open_until=timezone.now() + timedelta(minutes=5),
        reason=Reason.NAS_TIMEOUT,
        detail="silent for 60 s",
    )
    clear_run(scene.run, now=scene.now)
    scene.assert_cleared()
    assert NasBreaker.objects.get().failures == 3


# The way to the run changes while it is cleared


def test_a_commit_that_fails_while_the_roots_token_is_away_leaves_nothing_in_the_fence(
    scene: Scene, quick: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token, away = scene.lab.staging / os.fsdecode(tokens.TOKEN), tmp_path / "away"

    def fail(*_args: Any) -> None:
        token.rename(away)
        raise OperationalError("database is locked")

    with means.replaced(monkeypatch, protocol, "_write_commit", fail), pytest.raises(Refused) as refused:
        clear_run(scene.run, now=scene.now)
    assert refused.value.finding.reason is Reason.DATABASE_ERROR
    scene.assert_whole()
    assert scene.run.attempts.get().phase == Phase.REFUSED
    away.rename(token)
    assert recovered(scene) == []
    clear_run(scene.run, now=scene.now)
    scene.assert_cleared()


def out_of_the_root(scene: Scene, tmp_path: Path) -> Path:
    project = scene.path.parent.parent
    return project.rename(tmp_path / project.name)


def renamed(scene: Scene, tmp_path: Path) -> Path:
    project = scene.path.parent.parent
    moved = project.rename(project.with_name("PARKED"))
    scene.path.parent.mkdir(parents=True)
    return moved


@pytest.mark.parametrize("move", [out_of_the_root, renamed])
def test_a_folder_moved_away_before_the_commit_keeps_its_run(
    scene: Scene,
    quick: None,
    move: Callable[[Scene, Path], Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    moved: list[Path] = []
    with means.after(monkeypatch, preparation, "prepare", lambda: moved.append(move(scene, tmp_path))):
        attempt = protocol.attempt_now(
            scene.run, ClearRequest(requester=Requester.OPERATOR, actor="ada"), now=scene.now
        )
    assert (attempt.phase, attempt.reason) == (Phase.REFUSED, Reason.MISSING_DIRECTORY)
    assert scene.kinds() == ["refused"]
    (folder,) = moved
    run = folder / "Runs" / scene.path.name
    assert [entry.name for entry in run.parent.iterdir()] == [run.name]
    assert snapshot(run) == scene.entries
    assert inodes(run) == scene.inodes


def test_a_conflict_that_a_person_resolves_ends_with_the_run_back(
    scene: Scene, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = die_after(monkeypatch, scene, fences, "fence")
    scene.path.mkdir()
    (scene.path / "new work").write_bytes(b"without any twin")
    assert recovered(scene) == [Reason.PATH_OCCUPIED]
    attempt.refresh_from_db()
    assert (attempt.phase, attempt.reason) == (Phase.CONFLICT, Reason.PATH_OCCUPIED)
    assert inodes(fence_of(scene)) == scene.inodes
    elsewhere = means.rename_aside(scene.path)
    assert recovered(scene) == []
    attempt.refresh_from_db()
    assert attempt.phase == Phase.ABORTED
    scene.assert_whole()
    assert (elsewhere / "new work").read_bytes() == b"without any twin"
    assert scene.kinds() == ["conflict", "aborted"]


# Abandoned fences


def into_a_parked_project(scene: Scene, _other: Lab) -> Path:
    parked = scene.lab.staging / "CONFOCAL_01/PARKED/Runs"
    parked.mkdir(parents=True)
    return parked


def into_another_root(_scene: Scene, other: Lab) -> Path:
    same = other.staging / Path(RUN_PATH).parent
    same.mkdir(parents=True)
    return same


@pytest.mark.parametrize("elsewhere", [into_a_parked_project, into_another_root])
def test_a_fence_moved_elsewhere_is_reported_though_its_attempt_is_known(
    scene: Scene,
    root: Any,
    quick: None,
    elsewhere: Callable[[Scene, Lab], Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    other = Lab(tmp_path / "other")
    other_root = registration.register(
        "other",
        str(other.staging),
        nas_path=str(scene.lab.nas),
        allow_same_filesystem=True,
        accept_empty=True,
        now=scene.now,
    )
    attempt = die_after(monkeypatch, scene, protocol, "_commit")
    fence = fence_of(scene)
    assert seen_by_discovery(root, scene.now) == []  # where it is expected it is no stray
    moved = fence.rename(elsewhere(scene, other) / fence.name)
    before = snapshot(moved)
    recovery.recover(now=scene.now)
    problems = seen_by_discovery(root, scene.now) + seen_by_discovery(other_root, scene.now)
    top = other.staging if other.staging in moved.parents else scene.lab.staging
    assert (str(moved.relative_to(top)), Reason.STRAY_FENCE) in problems
    assert snapshot(moved) == before
    attempt.refresh_from_db()
    assert (attempt.freed_files, attempt.freed_bytes) == (0, 0)
    scene.assert_freed(0, 0)


def leave_incomplete(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Clear the run while a file `late` is written into its fence, which is returned; `late` and the record stay."""
    with means.after(monkeypatch, fences, "publish", lambda: (fence_of(scene) / "late").write_bytes(b"late")):
        clear_run(scene.run, now=scene.now)
    assert scene.run.attempts.get().incomplete
    return fence_of(scene)


def story_of(scene: Scene) -> list[tuple[str, int, int]]:
    return list(scene.run.ledger.order_by("pk").values_list("kind", "files", "bytes"))


@pytest.mark.parametrize("content", ["README.md", "an empty folder/"])
def test_a_new_folder_with_the_inode_of_a_fence_is_left_alone(
    scene: Scene, quick: None, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk gives the inode of a removed folder to the next new one: only the birth time differs."""
    fence = leave_incomplete(scene, monkeypatch)
    with handles.opened(handles.open_root(str(fence))) as descriptor:
        status = linux.status(descriptor)
    if status.birth_ns is None:
        pytest.skip("this filesystem does not tell when a folder was made")
    shutil.rmtree(fence / METADATA)
    (fence / "late").unlink()
    _ino, _birth, entry = scene.run.identity.split(":")
    Run.objects.filter(pk=scene.run.pk).update(identity=f"{status.ino}:{status.birth_ns - 1}:{entry}")
    (fence / content).mkdir() if content.endswith("/") else (fence / content).write_bytes(b"somebody's")
    before, story = snapshot(fence), story_of(scene)
    assert recovered(scene) == [Reason.IDENTITY_MISMATCH]
    assert snapshot(fence) == before
    assert story_of(scene) == story


def test_files_added_to_a_fence_make_no_count_smaller(
    scene: Scene, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fence = leave_incomplete(scene, monkeypatch)
    story = story_of(scene)
    (fence / "README.md").write_bytes(b"somebody's")
    (fence / "tiles").mkdir()
    (fence / "tiles/t_0000.tif").write_bytes(b"somebody's")
    assert recovered(scene) == []
    assert {(fence / name).read_bytes() for name in ("README.md", "tiles/t_0000.tif")} == {b"somebody's"}
    assert story_of(scene) == story
    assert not LedgerEntry.objects.filter(Q(files__lt=0) | Q(bytes__lt=0) | Q(allocated_bytes__lt=0)).exists()
    shutil.rmtree(fence)  # they take everything away, the record too
    assert recovered(scene) == []
    assert story_of(scene)[:-1] == story
    record = scene.entries[f"{METADATA}/ingest.json"].size
    scene.assert_freed(scene.files - 1, scene.bytes - record)


def test_a_fence_that_vanishes_while_discovery_looks_is_not_called_incomplete(
    scene: Scene, root: Any, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fence = leave_incomplete(scene, monkeypatch)
    asked = []

    def settle_and_ask(*sight: Any) -> bool:
        """The walk has seen the fence; its clear ends before discovery asks whose it is."""
        (fence / "late").unlink()
        recovery.recover(now=scene.now)
        asked.append(is_stray_fence(*sight))
        return asked[-1]

    is_stray_fence = stray_fences.is_stray_fence
    with means.replaced(monkeypatch, stray_fences, "is_stray_fence", settle_and_ask):
        assert seen_by_discovery(root, scene.now) == []
    assert asked == [False]
    scene.assert_cleared()


# Runs that another program has called cleared


def test_a_run_called_cleared_by_another_program_is_forgotten_once_its_files_are_gone(
    lab: Lab, root: Any, now: datetime, quick: None
) -> None:
    path = lab.run(state="cleared")
    assert seen_by_discovery(root, now) == [(RUN_PATH, Reason.ALREADY_CLEARED)]
    run = Run.objects.get()
    assert run.problem == Reason.ALREADY_CLEARED
    path.rename(aside := lab.base / "aside")
    assert seen_by_discovery(root, now) == []
    run.refresh_from_db()
    assert run.problem == ""
    aside.rename(path)
    assert seen_by_discovery(root, now) == [(RUN_PATH, Reason.ALREADY_CLEARED)]  # and told again when they come back
    run.refresh_from_db()
    assert run.problem == Reason.ALREADY_CLEARED


def test_a_run_cleared_while_discovery_looks_at_it_is_not_told_to_lie_there(
    scene: Scene, root: Any, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with means.before(monkeypatch, rows, "row_for", lambda: clear_run(scene.run, now=scene.now)):
        assert seen_by_discovery(root, scene.now) == []
    scene.assert_cleared()
    assert scene.run.problem == ""


def test_without_the_tombstone_a_file_with_two_names_that_has_changed_stays(
    linked: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_and_write() -> None:
        attempt = linked.run.attempts.get()
        Path(opening.data_dir().tombstone_path(attempt.pk.hex)).unlink()
        write_in_secret(fence_of(linked) / TWO_NAMES[0])

    with means.before(monkeypatch, settlement, "roll_forward", lose_and_write):
        clear_run(linked.run, now=linked.now)
    assert {(fence_of(linked) / name).read_bytes() for name in TWO_NAMES} == {NEW_WORK}


def test_a_run_called_cleared_by_another_program_is_forgotten_although_a_new_one_lies_at_its_path(
    lab: Lab, root: Any, now: datetime, quick: None
) -> None:
    path = lab.run(state="cleared")
    discovery.discover(root, now=now)
    path.rename(path.with_name(".aside"))
    lab.twin().rename(lab.base / "old twin")
    lab.run()
    discovery.discover(root, now=now)
    assert list(Run.objects.order_by("pk").values_list("state", "problem")) == [("cleared", ""), ("sync_verified", "")]
