"""A run on storage of its own is refused at first, and settled if already committed."""

import errno
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from cleanup.clears import protocol, queue, record_inside, recovery
from cleanup.clears.queue import ClearRequest
from cleanup.lab.roots import registration
from cleanup.models import Phase, Requester, Run
from cleanup.rules.reasons import Reason
from cleanup.storage import handles, linux
from cleanup.storage.linux import QuotaProject
from cleanup.storage.staging import fences, own_storage, removal
from tests.faults import mounts
from tests.faults.mounts import Enter
from tests.faults.scene import Scene, set_scene
from tests.tools.lab import METADATA, RUN_PATH, Lab

pytestmark = pytest.mark.django_db(transaction=True)
LATER = timedelta(minutes=5)


@pytest.fixture
def subvolume(tmp_path: Path, enter: Enter, now: datetime) -> Scene:
    enter(mounts.disk(tmp_path / "image", tmp_path / "disk", "btrfs", "128M"))
    lab = Lab(tmp_path / "disk/lab")
    root = registration.register(
        "lab", str(lab.staging), nas_path=str(lab.nas), allow_same_filesystem=True, accept_empty=True, now=now
    )
    (lab.staging / RUN_PATH).parent.mkdir(parents=True)
    mounts.subvolume(lab.staging / RUN_PATH)
    return set_scene(lab, root, now)


def test_a_subvolume_is_refused_with_that_reason(subvolume: Scene) -> None:
    attempt = protocol.perform(subvolume.attempt(), now=subvolume.now)
    assert (attempt.phase, attempt.reason) == (Phase.REFUSED, Reason.OWN_STORAGE)
    assert "subvolume" in attempt.detail
    assert Run.objects.get().problem == Reason.OWN_STORAGE
    subvolume.assert_whole()


def test_what_an_earlier_version_has_committed_is_rolled_forward(subvolume: Scene) -> None:
    """The record could not be renamed into the subvolume: committed in its fence, with nothing removed."""
    stuck = OSError(errno.EXDEV, "Invalid cross-device link")
    with (
        mock.patch.object(own_storage, "objection", return_value=None),
        mock.patch.object(record_inside, "_write_inside", side_effect=stuck),
        pytest.raises(OSError, match="cross-device"),
    ):
        protocol.perform(subvolume.attempt(), now=subvolume.now)
    fence, _prepared = subvolume.leftovers()
    assert (subvolume.path.parent / fence / "tiles").is_dir()
    recovered = recovery.recover(now=subvolume.now + LATER)
    assert (len(recovered.rolled_forward), recovered.unsettled) == (1, [])
    subvolume.assert_cleared()


def of(number: int, *, inherits: bool) -> QuotaProject:
    return QuotaProject(number, inherits=inherits)


@pytest.mark.parametrize(
    ("above", "run", "metadata", "detail"),
    [
        (of(0, inherits=False), of(7, inherits=False), of(7, inherits=False), "is 7, that of its fo"),
        (of(5, inherits=True), of(0, inherits=False), of(0, inherits=False), "is 0, that of its fo"),
        (of(0, inherits=False), of(0, inherits=False), of(7, inherits=True), ".exlab-wizard is 7"),
        (of(5, inherits=False), of(5, inherits=True), of(5, inherits=True), ".exlab-wizard is 5"),
        (of(5, inherits=True), of(5, inherits=True), of(5, inherits=True), ""),
        (None, None, None, ""),
    ],
)
def test_a_quota_project_of_its_own(
    lab: Lab,
    root: Any,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    above: QuotaProject | None,
    run: QuotaProject | None,
    metadata: QuotaProject | None,
    detail: str,
) -> None:
    """Planted: a kernel without quotas mounts no filesystem with projects."""
    scene = set_scene(lab, root, now)
    projects = {
        scene.path.parent.stat().st_ino: above,
        scene.path.stat().st_ino: run,
        (scene.path / METADATA).stat().st_ino: metadata,
    }
    monkeypatch.setattr(linux, "project", lambda descriptor: projects[linux.status(descriptor).ino])
    attempt = protocol.perform(scene.attempt(), now=now)
    assert attempt.reason == (Reason.OWN_STORAGE if detail else "")
    assert detail in attempt.detail
    if detail:
        scene.assert_whole()


def test_the_kernel_is_asked_for_the_project_of_a_real_folder(tmp_path: Path) -> None:
    with handles.opened(handles.open_root(str(tmp_path))) as descriptor:
        assert linux.project(descriptor) in (None, QuotaProject(0, inherits=False))
    with open("/proc/self/status") as file:
        assert linux.project(file.fileno()) is None


def test_a_project_that_is_set_after_the_gates_refuses_and_puts_back(
    lab: Lab, root: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The filesystem's own answer when a run is renamed out of its project."""
    scene = set_scene(lab, root, now)
    failing = mock.Mock(side_effect=OSError(errno.EXDEV, "Invalid cross-device link"))
    monkeypatch.setattr(fences, "fence", failing)
    attempt = protocol.perform(scene.attempt(), now=now)
    assert (attempt.phase, attempt.reason) == (Phase.REFUSED, Reason.OWN_STORAGE)
    assert Run.objects.get().failures == 0
    scene.assert_whole()


def test_a_record_that_cannot_be_renamed_into_the_run_is_written_there(
    lab: Lab, root: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project that was set after the last look, or a union of disks: the clear goes on."""
    scene = set_scene(lab, root, now)
    monkeypatch.setattr(fences, "publish", mock.Mock(side_effect=OSError(errno.EXDEV, "Invalid cross-device link")))
    (scene.path / METADATA).chmod(0o500)
    seen: dict[str, Any] = {}
    real = removal.remove

    def look_before(parent: int, name: bytes, fenced: int, *args: Any, **how: Any) -> Any:
        (fence,) = (path for path in scene.path.parent.iterdir() if path.name == name.decode())
        seen["states"] = (fence / METADATA / "ingest.json").read_text().count('"state":"cleared"')
        seen["mode"] = (fence / METADATA / "ingest.json").stat().st_mode & 0o777
        return real(parent, name, fenced, *args, **how)

    monkeypatch.setattr(removal, "remove", look_before)
    attempt = queue.new_attempt(scene.run, ClearRequest(requester=Requester.OPERATOR, actor="ada"), now=now)
    protocol.perform(attempt, now=now)
    assert seen == {"states": 1, "mode": 0o600}
    scene.assert_cleared()


class TestRegistration:
    def refused(self, path: Path, **how: Any) -> None:
        with pytest.raises(registration.RegistrationError):
            registration.register("other", str(path), now=datetime.fromisoformat("2026-06-15T08:00Z"), **how)

    def names(self, *places: Path) -> list[list[str]]:
        return [sorted(path.name for path in place.iterdir()) for place in places]

    def test_a_nas_that_is_a_staging_disk(self, lab: Lab, root: Any, tmp_path: Path) -> None:
        staging, nas = tmp_path / "second", tmp_path / "copied"
        for place in (staging, nas):
            (place / "CONFOCAL_01").mkdir(parents=True)
        (nas / ".exlab-root").write_text(root.token)
        before = self.names(staging, nas)
        self.refused(staging, nas_path=str(nas), allow_same_filesystem=True)
        assert self.names(staging, nas) == before

    @pytest.mark.parametrize("what", ["text", "folder"])
    def test_a_token_of_the_nas_that_cannot_be_read(self, root: Any, tmp_path: Path, what: str) -> None:
        staging, nas = tmp_path / "second", tmp_path / "other"
        for place in (staging, nas):
            (place / "CONFOCAL_01").mkdir(parents=True)
        (nas / ".exlab-root").mkdir() if what == "folder" else (nas / ".exlab-root").write_text("no id")
        before = self.names(staging, nas)
        self.refused(staging, nas_path=str(nas), allow_same_filesystem=True)
        assert self.names(staging, nas) == before

    def test_what_was_there_stays(self, root: Any, tmp_path: Path) -> None:
        staging, nas = tmp_path / "second", tmp_path / "other"
        for place in (staging, nas):
            (place / "CONFOCAL_01").mkdir(parents=True)
        token = "11111111-2222-3333-4444-555555555555\n"
        (staging / ".exlab-root").write_text(token)
        (nas / ".exlab-root").write_text("no id")
        self.refused(staging, nas_path=str(nas), allow_same_filesystem=True)
        assert (staging / ".exlab-root").read_text() == token
        assert self.names(staging) == [[".exlab-root", "CONFOCAL_01"]]

    def test_a_name_that_the_database_refuses(
        self, lab: Lab, root: Any, tmp_path: Path, policy: Callable[..., Any]
    ) -> None:
        staging = tmp_path / "second"
        (staging / "CONFOCAL_01").mkdir(parents=True)
        with (
            mock.patch.object(registration.StagingRoot, "full_clean", side_effect=ValueError("planted")),
            pytest.raises(ValueError, match="planted"),
        ):
            registration.register("other", str(staging), now=datetime.fromisoformat("2026-06-15T08:00Z"))
        assert self.names(staging) == [["CONFOCAL_01"]]
