"""A NAS that changes inode numbers is settled by bytes, never by a number alone."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cleanup.clears import last_checks, nas_questions, protocol, queue, refusal
from cleanup.clears.queue import ClearRequest
from cleanup.lab.roots import opening, registration
from cleanup.models import ClearAttempt, Phase, Requester
from cleanup.rules.reasons import Reason
from cleanup.runs import discovery
from cleanup.runs.proofs import proofs
from cleanup.storage import hashing
from cleanup.storage.nas import client
from cleanup.storage.nas import protocol as nas_protocol
from cleanup.storage.staging import fences
from tests.faults import mounts
from tests.faults.drifting import Drifting
from tests.faults.means import OneReader, before, change_keeping_size_and_time, replaced
from tests.faults.mounts import Enter
from tests.faults.scene import Scene, set_scene
from tests.storage.mounts.test_inode_kinds import forget_names, need_forgetting
from tests.tools.lab import RUN_PATH, Lab

pytestmark = pytest.mark.django_db(transaction=True)
LARGE = "big.raw"


@pytest.fixture
def scene(lab: Lab, root: Any, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    files = {LARGE: os.urandom(400_000), "small.raw": b"well a1"}
    with drifting(monkeypatch):
        yield set_scene(lab, root, now, files=files)


@contextmanager
def drifting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    @contextmanager
    def reader(root: Any) -> Iterator[OneReader]:
        with Drifting(root.nas_path, root.nas_token, staging=root.token) as one:
            yield OneReader(one)

    with (
        replaced(monkeypatch, opening, "reader_for", reader),
        replaced(monkeypatch, proofs, "keeps_inodes", lambda place: False),
    ):
        yield


def clear(scene: Scene) -> ClearAttempt:
    return protocol.perform(scene.attempt(), now=scene.now)


def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    real = hashing.hash_file

    def hash_file(directory: int, path: bytes, *, drop_cache: bool = False, **how: Any) -> Any:
        if drop_cache:
            seen.append(os.fsdecode(path))
        return real(directory, path, drop_cache=drop_cache, **how)

    monkeypatch.setattr(hashing, "hash_file", hash_file)
    return seen


def test_new_numbers_and_the_same_bytes_are_cleared_at_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    read = compared(monkeypatch)
    attempt = clear(scene)
    assert (attempt.phase, attempt.reason) == (Phase.DONE, "")
    assert read.count(LARGE) == 1
    scene.assert_cleared()


def test_a_filesystem_that_keeps_its_numbers_shows_another_file_by_another_number(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    with replaced(monkeypatch, proofs, "keeps_inodes", lambda place: True):
        attempt = clear(scene)
    assert attempt.reason == Reason.NOT_COMPARED
    scene.assert_whole()


@pytest.mark.parametrize("name", ["small.raw", LARGE])
def test_other_bytes_are_found_and_the_run_stays(scene: Scene, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    twin = scene.twin / name
    with (
        before(monkeypatch, nas_questions, "compare_blocks", lambda: change_keeping_size_and_time(twin)),
        replaced(monkeypatch, nas_protocol, "TwinFile", _without_ctime),
    ):
        attempt = clear(scene)
    assert (attempt.phase, attempt.reason) == (Phase.REFUSED, Reason.NAS_CHECKSUM_MISMATCH)
    assert name in attempt.detail
    assert Path(scene.path).is_dir()
    assert scene.leftovers() == []


def _without_ctime(size: int, mtime_ns: int, ino: int, digest: bytes | None, ctime_ns: int) -> client.TwinFile:
    return _TWIN(size, mtime_ns, ino, digest, mtime_ns)


_TWIN = client.TwinFile


def test_a_file_that_was_written_anew_is_compared_whole_and_fenced_once_more(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mover puts it on another disk: other change time, same bytes."""
    twin = scene.twin / LARGE
    read = compared(monkeypatch)
    fenced: list[bytes] = []
    monkeypatch.setattr(fences, "fence", _noting(fences.fence, fenced))

    def move() -> None:
        at = twin.stat()
        twin.write_bytes(twin.read_bytes())
        os.utime(twin, ns=(at.st_atime_ns, at.st_mtime_ns))

    with before(monkeypatch, proofs, "changed_on_nas", move):
        attempt = clear(scene)
    assert (attempt.phase, attempt.reason) == (Phase.DONE, "")
    assert read.count(LARGE) == 2
    assert len(fenced) == 2


def test_a_second_doubt_is_the_last(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def doubt(*args: Any, **how: Any) -> None:
        raise refusal.Doubted(protocol.Finding(Reason.NOT_COMPARED, "once more"))

    monkeypatch.setattr(last_checks, "_expect_same_bytes", doubt)
    attempt = clear(scene)
    assert (attempt.phase, attempt.detail) == (Phase.REFUSED, "once more")
    assert attempt.ledger.filter(kind="refused").count() == 1
    scene.assert_whole()


def _noting(act: Callable[..., Any], seen: list[bytes]) -> Callable[..., Any]:
    def noted(parent: int, leaf: bytes, name: bytes) -> None:
        seen.append(name)
        act(parent, leaf, name)

    return noted


@pytest.mark.exhaustive
def test_sshfs_whose_names_are_forgotten_under_the_fence(
    lab: Lab, now: datetime, db: None, tmp_path: Path, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Takes 2 s: a server and its mount."""
    need_forgetting()
    far = tmp_path / "far"
    far.mkdir()
    path = lab.run(files={LARGE: os.urandom(300_000)})
    (lab.nas / "CONFOCAL_01").rename(far / "CONFOCAL_01")
    (far / ".exlab-root").write_text("11111111-2222-4333-8444-555555555555\n")
    enter(mounts.sshfs(lab.nas, far))
    root = registration.register("lab", str(lab.staging), nas_path=str(lab.nas), allow_same_filesystem=True, now=now)
    discovery.discover(root, now=now)
    run = root.runs.get(run_path=RUN_PATH)
    numbers = {file: (lab.twin() / file).stat().st_ino for file in (LARGE, "README.md")}
    attempt = queue.new_attempt(run, ClearRequest(requester=Requester.OPERATOR, actor="ada"), now=now)
    with before(monkeypatch, fences, "fence", forget_names):
        attempt = protocol.perform(attempt, now=now)
    assert numbers != {file: (lab.twin() / file).stat().st_ino for file in numbers}
    assert (attempt.phase, attempt.reason, attempt.detail) == (Phase.DONE, "", "")
    assert not path.exists()


@pytest.mark.parametrize("level", ["checksum", "size"])
def test_other_bytes_under_a_new_number_that_stays_are_refused_and_not_fenced_again(
    lab: Lab, root: Any, now: datetime, monkeypatch: pytest.MonkeyPatch, policy: Callable[..., Any], level: str
) -> None:
    """The file was replaced once, with equal size and time: the first proof no longer counts."""
    policy(proof=level)
    scene = set_scene(lab, root, now, files={LARGE: os.urandom(400_000), "small.raw": b"well a1"})
    twin = scene.twin / LARGE
    fenced: list[bytes] = []
    monkeypatch.setattr(fences, "fence", _noting(fences.fence, fenced))

    def put_another() -> None:
        at, other = twin.stat(), twin.with_name("other")
        other.write_bytes(os.urandom(at.st_size))
        os.utime(other, ns=(at.st_atime_ns, at.st_mtime_ns))
        other.rename(twin)

    with (
        replaced(monkeypatch, proofs, "keeps_inodes", lambda place: False),
        before(monkeypatch, proofs, "changed_on_nas", put_another),
    ):
        attempt = clear(scene)
    assert (attempt.phase, attempt.reason) == (Phase.REFUSED, Reason.NAS_CHECKSUM_MISMATCH)
    assert attempt.proof is None
    assert len(fenced) == 1
    assert Path(scene.path).is_dir()
    assert scene.leftovers() == []
