"""The fence and the published record."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cleanup.storage import handles
from cleanup.storage.staging import fences
from tests.storage.children import as_ordinary_user, give_away
from tests.storage.staging.trees import ATTEMPT, FENCE, Open, Scene, write
from tests.tools.lab import snapshot

pytestmark = pytest.mark.one_engine(by="function")


class TestFence:
    def test_moves_the_very_directory_aside_and_back(self, scene: Scene) -> None:
        before, inode = snapshot(scene.run), scene.run.stat().st_ino
        scene.to_fence()
        assert not scene.run.exists()
        assert scene.fence.stat().st_ino == inode
        fences.put_back(scene.parent, fences.fence_name(ATTEMPT), scene.run.name.encode())
        assert not scene.fence.exists()
        assert snapshot(scene.run) == before

    @pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere")])
    def test_replaces_nothing_at_the_fence(self, make: Callable[[Path], None], scene: Scene) -> None:
        make(scene.fence)
        inode = scene.fence.lstat().st_ino
        with pytest.raises(FileExistsError):
            fences.fence(scene.parent, scene.run.name.encode(), fences.fence_name(ATTEMPT))
        assert scene.run.is_dir()
        assert scene.fence.lstat().st_ino == inode

    @pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere")])
    def test_replaces_nothing_at_the_runs_path(self, make: Callable[[Path], None], scene: Scene) -> None:
        scene.to_fence()
        make(scene.run)
        inode = scene.run.lstat().st_ino
        with pytest.raises(FileExistsError):
            fences.put_back(scene.parent, fences.fence_name(ATTEMPT), scene.run.name.encode())
        assert scene.fence.is_dir()
        assert scene.run.lstat().st_ino == inode

    def test_a_missing_run_or_fence_is_told(self, scene: Scene) -> None:
        with pytest.raises(FileNotFoundError):
            fences.fence(scene.parent, b"Run_2000-01-01T00-00", fences.fence_name(ATTEMPT))
        with pytest.raises(FileNotFoundError):
            fences.put_back(scene.parent, fences.fence_name(ATTEMPT), scene.run.name.encode())

    def test_look_alikes_are_listed(self, scene: Scene) -> None:
        scene.to_fence()
        write(scene.run.with_name(f"{FENCE}.ingest.json"))
        write(scene.run.with_name(".exlab-clearing-"))
        (scene.run.with_name(".exlab-clearing-mine")).mkdir()
        assert sorted(fences.found_in(scene.parent)) == [
            b".exlab-clearing-",
            FENCE.encode(),
            FENCE.encode() + b".ingest.json",
            b".exlab-clearing-mine",
        ]


class TestPrepareAndPublish:
    @pytest.mark.parametrize("mode", [0o600, 0o644, 0o640, 0o400])
    def test_has_the_mode_and_owner_of_the_old_one(self, mode: int, scene: Scene) -> None:
        old = scene.run / ".exlab-wizard/ingest.json"
        old.chmod(mode)
        give_away(old)
        like = old.stat()
        found = fences.prepare_record(scene.parent, fences.prepared_name(ATTEMPT), b"new", like)
        written = scene.run.with_name(f"{FENCE}.ingest.json")
        status = written.stat()
        assert (status.st_mode, status.st_uid, status.st_gid) == (like.st_mode, like.st_uid, like.st_gid)
        assert found == {"ino": status.st_ino, "size": 3, "mtime_ns": status.st_mtime_ns}
        assert written.read_bytes() == b"new"

    def test_replaces_nothing(self, scene: Scene) -> None:
        taken = write(scene.run.with_name(f"{FENCE}.ingest.json"), b"somebody's")
        with pytest.raises(FileExistsError):
            fences.prepare_record(scene.parent, fences.prepared_name(ATTEMPT), b"new", scene.run.stat())
        assert taken.read_bytes() == b"somebody's"

    def test_follows_no_link(self, scene: Scene, tmp_path: Path) -> None:
        scene.run.with_name(f"{FENCE}.ingest.json").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(FileExistsError):
            fences.prepare_record(scene.parent, fences.prepared_name(ATTEMPT), b"new", scene.run.stat())
        assert not (tmp_path / "elsewhere").exists()

    def test_can_be_taken_away_twice(self, scene: Scene) -> None:
        fences.prepare_record(scene.parent, fences.prepared_name(ATTEMPT), b"new", scene.run.stat())
        fences.discard_prepared(scene.parent, fences.prepared_name(ATTEMPT))
        fences.discard_prepared(scene.parent, fences.prepared_name(ATTEMPT))
        assert os.listdir(scene.run.parent) == [scene.run.name]

    def test_publish_moves_it_into_the_run_and_may_come_twice(self, scene: Scene) -> None:
        scene.prepare()
        record = scene.fence / ".exlab-wizard/ingest.json"
        assert record.read_bytes() == b'{"cleared":1}'
        assert record.stat().st_ino == scene.record["ino"]
        fences.publish(scene.parent, fences.prepared_name(ATTEMPT), scene.fenced)
        assert record.read_bytes() == b'{"cleared":1}'
        assert os.listdir(scene.run.parent) == [FENCE]

    def test_publish_into_a_read_only_folder(self, scene: Scene) -> None:
        scene.to_fence()
        folder = scene.fence / ".exlab-wizard"
        fences.prepare_record(scene.parent, fences.prepared_name(ATTEMPT), b"new", (folder / "ingest.json").stat())
        folder.chmod(0o500)
        give_away(scene.run.parent, folder)
        scene.fence.chmod(0o755)
        as_ordinary_user(lambda: fences.publish(scene.parent, fences.prepared_name(ATTEMPT), scene.fenced))
        assert (folder / "ingest.json").read_bytes() == b"new"

    def test_publish_again_when_the_removal_has_come_to_the_folder_itself(self, scene: Scene) -> None:
        (scene.run.parent / "empty").mkdir()
        with handles.opened(handles.open_beneath(scene.parent, b"empty")) as fenced:
            fences.publish(scene.parent, fences.prepared_name(ATTEMPT), fenced)
        assert os.listdir(scene.run.parent / "empty") == []

    def test_publish_follows_no_link(self, scene: Scene, tmp_path: Path) -> None:
        scene.to_fence()
        fences.prepare_record(scene.parent, fences.prepared_name(ATTEMPT), b"new", scene.fence.stat())
        (scene.fence / ".exlab-wizard").rename(tmp_path / "elsewhere")
        before = snapshot(tmp_path / "elsewhere")
        (scene.fence / ".exlab-wizard").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OSError, match=r"symbolic|Not a directory"):
            fences.publish(scene.parent, fences.prepared_name(ATTEMPT), scene.fenced)
        assert snapshot(tmp_path / "elsewhere") == before


def test_the_probe_leaves_nothing_behind_even_twice(tmp_path: Path, open_directory: Open) -> None:
    root = open_directory(tmp_path)
    fences.probe(root)
    fences.probe(root)
    assert os.listdir(tmp_path) == []
