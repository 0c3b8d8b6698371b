"""No arrangement of mounts lets a run vouch for itself: real mounts over the NAS root, and each sign alone.

Mounting takes time: each test costs 0.5 s to 2 s.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime
from typing import Any

import pytest

from cleanup.clears import last_checks, protocol, refusal
from cleanup.models import ClearAttempt, Run, StagingRoot
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.storage.nas import client
from cleanup.storage.staging import fences
from tests.faults import means, mounts, unions
from tests.faults.means import Unavailable, skip_or_fail
from tests.faults.scene import Scene, inodes, is_root, scene_of
from tests.faults.unions import ARRANGEMENTS, SIGNS
from tests.tools.lab import RUN_PATH, Lab, snapshot

pytestmark = [pytest.mark.django_db, pytest.mark.skipif(not is_root(), reason="only root may mount")]

# A real sshfs takes a second. The plain run has one of each kind of question about it.
_SSHFS_LATER = {"not allowed", "markers", "names beside the twin", "no sign"}


def marks_of(name: str, what: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.exhaustive] if name == "sshfs" and what in _SSHFS_LATER else []


PROVES_NOTHING = {
    Reason.NAS_IS_STAGING,
    Reason.NAS_SAME_FILESYSTEM,
    Reason.NAS_IO_ERROR,
    Reason.NAS_MISSING_FILE,
}


@pytest.fixture
def staged(lab: Lab, root: StagingRoot, now: datetime) -> Iterator[Callable[..., Scene]]:
    with ExitStack() as stack:

        def arrange(name: str, *, before: Callable[[], Any] = lambda: None) -> Scene:
            (lab.staging / "CONFOCAL_01").mkdir(exist_ok=True)
            StagingRoot.objects.update(allow_union_nas=True, nas_writes_through=True)
            try:
                stack.enter_context(ARRANGEMENTS[name](lab, root))
            except Unavailable as missing:
                skip_or_fail(missing)
            before()
            path = lab.run(twin=False)
            root.refresh_from_db()
            discovery.discover(root, now=now)
            return scene_of(lab, root, now, RUN_PATH, path)

        yield arrange


def expect_refused(scene: Scene) -> Reason:
    before, was = snapshot(scene.path), inodes(scene.path)
    run = Run.objects.with_root().get(pk=scene.run.pk)
    with pytest.raises(refusal.Refused) as refused:
        protocol.clear_run(run, now=scene.now)
    assert snapshot(scene.path) == before
    assert inodes(scene.path) == was
    assert scene.leftovers() == []
    return refused.value.finding.reason


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        pytest.param(name, allowed, marks=marks_of(name, "not allowed" if not allowed else ""), id=f"{name}-{words}")
        for name in ARRANGEMENTS
        for allowed, words in ((True, "allowed"), (False, "not allowed"))
    ],
)
def test_the_staging_disk_in_the_place_of_the_nas(staged: Callable[..., Scene], name: str, allowed: bool) -> None:
    scene = staged(name)
    StagingRoot.objects.update(allow_same_filesystem=allowed)
    assert expect_refused(scene) in PROVES_NOTHING


@pytest.mark.parametrize("name", ["union by rclone", "union by mergerfs", "union with a folder", "overlay"])
def test_the_marker_was_deleted_by_hand(staged: Callable[..., Scene], lab: Lab, name: str) -> None:
    """From the union, as the advice for a mirror says; the clear lays it again, and a cache hides that."""

    def delete() -> None:
        for marker in [*lab.nas.glob(".exlab-staging-*"), *lab.staging.glob(".exlab-staging-*")]:
            marker.unlink(missing_ok=True)
        list(lab.nas.iterdir())

    assert expect_refused(staged(name, before=delete)) in PROVES_NOTHING


# Which sign alone tells of which arrangement. A union that keeps names shows no new
# ones, and an overlay still opens a file whose name is gone. Where a folder is bound, its inodes tell first.
ALONE = {
    "union by rclone": {"markers", "what lies beneath", "files opened anew"},
    "union by mergerfs": set(SIGNS),
    "union with a folder": set(SIGNS) - {"markers"},
    "overlay": {"markers", "what lies beneath", "names beside the twin", "a challenge in the twin"},
    "bindfs": set(SIGNS),
    "sshfs": {"markers", "names beside the twin", "files opened anew"},
}


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        pytest.param(name, sign, marks=marks_of(name, sign))
        for name, signs in sorted(ALONE.items())
        for sign in sorted(signs)
    ],
)
def test_each_sign_tells_alone(
    staged: Callable[..., Scene], name: str, sign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = staged(name)
    with means.reading_here(monkeypatch), unions.without(*SIGNS.keys() - {sign}):
        assert expect_refused(scene) in PROVES_NOTHING


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks_of(name, "no sign")) for name in sorted(ALONE)])
def test_without_any_sign_the_only_copy_would_go(
    staged: Callable[..., Scene], lab: Lab, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counter-check: only the signs keep the run."""
    scene = staged(name)
    run = Run.objects.with_root().get(pk=scene.run.pk)
    # Only the last look, which lists the twin once more, may notice that it went with the run; a cache hides that.
    with means.reading_here(monkeypatch), unions.without(*SIGNS):
        monkeypatch.setattr(last_checks, "expect_twin", lambda *args: None)
        assert protocol.clear_run(run, now=scene.now) == (scene.files, scene.bytes)
    assert not [path for top in (lab.staging, unions.archive_of(lab)) for path in top.rglob("*.tif")]


# A cache that shows removed files


@pytest.fixture
def honest(lab: Lab, root: StagingRoot, now: datetime) -> Iterator[Callable[..., Scene]]:
    with ExitStack() as stack:

        def arrange(mount: Callable[[Lab], AbstractContextManager[None]]) -> Scene:
            StagingRoot.objects.update(allow_union_nas=True, nas_writes_through=True)
            path = lab.run()
            lab.nas.rename(unions.archive_of(lab))
            lab.nas.mkdir()
            try:
                stack.enter_context(mount(lab))
            except Unavailable as missing:
                skip_or_fail(missing)
            discovery.discover(root, now=now)
            return scene_of(lab, root, now, RUN_PATH, path)

        yield arrange


@pytest.fixture
def cached(honest: Callable[..., Scene]) -> Scene:
    return honest(lambda lab: unions.rclone(lab, f"type = alias\nremote = {unions.archive_of(lab)}"))


def test_an_honest_nas_behind_a_cache_is_no_obstacle(cached: Scene, lab: Lab) -> None:
    assert protocol.clear_run(cached.run, now=cached.now) == (cached.files, cached.bytes)
    attempt = ClearAttempt.objects.get()
    assert (attempt.step, attempt.phase) == ("reopening", "done")


@pytest.mark.parametrize("level", ["checksum", "size"])
def test_a_name_is_shown_whose_bytes_are_gone(
    cached: Scene, lab: Lab, policy: Callable[..., Any], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removed on the NAS between the proof and the commit: no listing through the cache tells."""
    policy(proof=level)
    gone = unions.archive_of(lab) / RUN_PATH / "tiles"
    with means.after(monkeypatch, fences, "fence", lambda: shutil.rmtree(gone)):
        assert expect_refused(cached) in {Reason.NAS_IO_ERROR, Reason.NAS_MISSING_FILE}
    assert (lab.twin() / "tiles/t_0001.tif").exists()  # as the cache has it


def test_a_name_is_shown_that_has_other_bytes_by_now(
    honest: Callable[..., Scene], lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Size and time are unchanged: no listing tells."""
    scene = honest(lambda lab: mounts.served(lab.nas, "bindfs", unions.archive_of(lab), lab.nas))
    tile = unions.archive_of(lab) / RUN_PATH / "tiles/t_0001.tif"
    with means.after(monkeypatch, fences, "fence", lambda: means.change_keeping_size_and_time(tile)):
        assert expect_refused(scene) is Reason.NAS_CHECKSUM_MISMATCH


def test_at_record_the_nas_is_not_asked(
    staged: Callable[..., Scene], policy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy says so, and page and receipt too: no look, no challenge."""
    scene = staged("bind")
    policy(proof="record")
    run = Run.objects.with_root().get(pk=scene.run.pk)
    monkeypatch.setattr(client.NasReader, "_start", means.failing(AssertionError("it was asked")))
    assert protocol.clear_run(run, now=scene.now) == (scene.files, scene.bytes)
