"""The removal takes the planned entries, and no byte more."""

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from cleanup.storage import handles, run_paths
from cleanup.storage.staging import fences, removal, run_tree
from cleanup.storage.staging.removal import Removal
from tests.storage.children import as_ordinary_user, give_away, mount, with_own_mounts
from tests.storage.staging.trees import (
    ATTEMPT,
    Open,
    Scene,
    digests_of,
    replace_directory,
    replace_file,
    rewrite_in_secret,
    write,
)
from tests.tools.lab import Lab, census, snapshot

pytestmark = pytest.mark.one_engine(by="function")


class TestRemove:
    def test_removes_the_whole_run_and_counts_it(self, scene: Scene) -> None:
        files, _ = census(scene.run)
        scene.prepare()
        counted = run_tree.count(scene.plan)
        told: list[tuple[int, int]] = []
        removed = scene.remove(progress=lambda files, size: told.append((files, size)))
        assert removed == Removal(counted, ())
        assert removed.freed.files == files
        assert os.listdir(scene.run.parent) == []
        assert told == sorted(told)
        assert told[-1][0] == files - 1  # the record goes last, by itself

    def test_again_is_harmless_and_says_the_same(self, scene: Scene) -> None:
        scene.prepare()
        first = scene.remove()
        assert scene.remove() == first

    @pytest.mark.parametrize("stop", range(15))
    def test_broken_off_anywhere_it_can_be_taken_up_again(
        self, stop: int, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scene.prepare()
        counted = run_tree.count(scene.plan)
        unlink, done = os.unlink, []

        def unlink_some(name: bytes, *, dir_fd: int) -> None:
            if len(done) == stop:
                raise KeyboardInterrupt
            done.append(name)
            unlink(name, dir_fd=dir_fd)

        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", unlink_some)
            try:
                scene.remove()
            except KeyboardInterrupt:
                assert (scene.fence / ".exlab-wizard/ingest.json").exists()
        assert len(done) == min(stop, 13)
        assert scene.remove() == Removal(counted, ())
        assert os.listdir(scene.run.parent) == []

    def test_names_of_any_kind(self, lab: Lab, open_directory: Open) -> None:
        names = [b"\xff\xfe", b"line\nbreak", b"-rf", b"d\xff/-- /\x1b[2J", b"a" * 255]
        run = lab.run("FLOW_01/P/Runs/Run_2026-05-01T10-00", files={os.fsdecode(name): b"x" for name in names})
        scene = Scene(run, open_directory(run.parent))
        scene.prepare()
        assert scene.remove().left == ()
        os.close(scene.fenced)
        assert not scene.fence.exists()

    def test_hard_links_inside_and_outside(self, scene: Scene, tmp_path: Path) -> None:
        os.link(scene.run / "README.md", scene.run / "tiles/same")
        os.link(scene.run / "stack.ome.xml", tmp_path / "elsewhere")
        content = (tmp_path / "elsewhere").read_bytes()
        scene.prepare()
        counted = run_tree.count(scene.plan)
        assert scene.remove() == Removal(counted, ())
        assert (tmp_path / "elsewhere").read_bytes() == content
        assert counted.files == 13

    def test_both_names_of_a_file_go_while_its_bytes_are_the_proven_ones(self, scene: Scene, tmp_path: Path) -> None:
        os.link(scene.run / "README.md", scene.run / "tiles/same")
        os.link(scene.run / "stack.ome.xml", tmp_path / "elsewhere")
        proven = digests_of(scene.run)
        scene.prepare()
        (tmp_path / "elsewhere").unlink()
        assert scene.remove(proven=proven.get) == Removal(run_tree.count(scene.plan), ())
        assert not scene.fence.exists()

    @pytest.mark.parametrize("other", ["tiles/same", "../elsewhere"])
    def test_a_file_with_two_names_rewritten_in_secret_stays(self, other: str, scene: Scene) -> None:
        os.link(scene.run / "README.md", scene.run / other)
        proven = digests_of(scene.run)
        scene.prepare()
        rewrite_in_secret(scene.fence / "README.md")
        work = (scene.fence / "README.md").read_bytes()
        removed = scene.remove(proven=proven.get)
        mine = {"README.md", other} - {"../elsewhere"}
        assert {os.fsdecode(path) for path, why in removed.left if why == "changed"} == mine
        assert {(scene.fence / name).read_bytes() for name in mine} == {work}
        assert removed.freed.files == run_tree.count(scene.plan).files - 2  # it and the record

    def test_a_record_that_an_earlier_removal_took_is_not_called_left(self, scene: Scene) -> None:
        scene.prepare()
        (scene.fence / "late").write_bytes(b"late")
        assert dict(scene.remove().left)[run_tree.INGEST_PATH] == removal.KEPT_LAST
        (scene.fence / ".exlab-wizard/ingest.json").unlink()
        assert scene.remove().left == ((b"late", "not in the plan"),)
        assert (scene.fence / "late").read_bytes() == b"late"

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda path: path.open("ab").write(b"more"), id="grown"),
            pytest.param(lambda path: os.utime(path, (1, 1)), id="touched"),
            pytest.param(replace_file, id="replaced by an equal one"),
            pytest.param(lambda path: (path.unlink(), path.mkdir()), id="replaced by a directory"),
            pytest.param(lambda path: (path.unlink(), path.symlink_to("/etc/passwd")), id="replaced by a link"),
            pytest.param(lambda path: (path.unlink(), os.mkfifo(path)), id="replaced by a pipe"),
        ],
    )
    def test_a_changed_entry_stays_and_keeps_the_record(self, change: Callable[[Path], object], scene: Scene) -> None:
        scene.prepare()
        path = scene.fence / "tiles/t_0001.tif"
        size = path.stat().st_size
        change(path)
        after = path.lstat()
        removed = scene.remove()
        assert path.lstat() == after
        left = dict(removed.left)
        assert left[b"tiles/t_0001.tif"] == "changed"
        assert left[b"tiles"] == "ENOTEMPTY"
        assert run_tree.INGEST_PATH in left
        whole = run_tree.count(scene.plan)
        ingest_size = next(entry.size for entry in scene.plan if entry.path == run_tree.INGEST_PATH)
        assert removed.freed.files == whole.files - 2
        assert removed.freed.bytes == whole.bytes - size - ingest_size
        assert (scene.fence / ".exlab-wizard/ingest.json").read_bytes() == b'{"cleared":1}'

    @pytest.mark.parametrize("where", ["", "tiles/", ".exlab-wizard/", "brand new/"])
    @pytest.mark.parametrize("name", ["new.tif", ".hidden", "-rf\n"])
    def test_a_new_file_stays_is_reported_and_keeps_the_record(self, where: str, name: str, scene: Scene) -> None:
        scene.prepare()
        new = write(scene.fence / where / name, b"somebody's")
        removed = scene.remove()
        assert new.read_bytes() == b"somebody's"
        reported = " ".join(f"{run_paths.show(path)} {why}" for path, why in removed.left)
        assert where.rstrip("/") in reported
        assert "plan" in reported or "ENOTEMPTY" in reported
        assert (scene.fence / ".exlab-wizard/ingest.json").read_bytes() == b'{"cleared":1}'
        assert run_tree.INGEST_PATH in dict(removed.left)
        assert removed.freed.files == run_tree.count(scene.plan).files - 1

        new.unlink()
        if where == "brand new/":
            new.parent.rmdir()
        assert scene.remove() == Removal(run_tree.count(scene.plan), ())
        assert not scene.fence.exists()

    def test_a_replaced_directory_stays_with_everything_in_it(self, scene: Scene) -> None:
        scene.prepare()
        replace_directory(scene.fence / "tiles")
        before = snapshot(scene.fence / "tiles")
        removed = scene.remove()
        assert snapshot(scene.fence / "tiles") == before
        left = dict(removed.left)
        assert left[b"tiles"] == "another directory lies there"
        assert len([path for path in left if path.startswith(b"tiles/")]) == 4
        assert removed.freed.files == run_tree.count(scene.plan).files - 5

    @pytest.mark.parametrize("folder", ["tiles", ".exlab-wizard"])
    def test_a_link_in_a_directorys_place_is_never_followed(self, folder: str, scene: Scene, tmp_path: Path) -> None:
        scene.prepare()
        target = tmp_path / "target"
        (scene.fence / folder).rename(target)
        (scene.fence / folder).symlink_to(target)
        before = snapshot(target)
        removed = scene.remove()
        assert snapshot(target) == before
        assert (scene.fence / folder).is_symlink()
        assert any(path.startswith(folder.encode()) for path, _ in removed.left)

    def test_files_moved_about_within_the_fence_stay_and_are_not_called_freed(self, scene: Scene) -> None:
        scene.prepare()
        (scene.fence / "tiles").rename(scene.fence / "moved")
        before = snapshot(scene.fence / "moved")
        removed = scene.remove()
        assert snapshot(scene.fence / "moved") == before
        assert removed.freed.files == run_tree.count(scene.plan).files - 5
        left = dict(removed.left)
        assert left[b"moved"] == "not in the plan"
        assert left[b"tiles/t_0001.tif"] == "moved to moved/t_0001.tif"

    @pytest.mark.parametrize("folder", ["tiles", "tiles/deep/er"])
    @pytest.mark.parametrize("move", ["renamed", "taken out", "taken out behind a link", "above behind a link"])
    def test_a_folder_that_is_moved_while_its_files_go_keeps_the_rest(
        self, folder: str, move: str, scene: Scene, tmp_path: Path
    ) -> None:
        for number in range(4):
            write(scene.run / folder / f"file-{number}")
        scene.prepare()
        moved = scene.fence / ("tiles" if move == "above behind a link" else folder)
        place = moved.with_name("other") if move == "renamed" else tmp_path / "out"

        def meddle() -> None:
            moved.rename(place)
            if "link" in move:
                moved.symlink_to(place)

        with before_removal_of("file-1", meddle):
            left = dict(scene.remove().left)
        rest = place / (scene.fence / folder).relative_to(moved)
        assert {name for name in os.listdir(rest) if name.startswith("file-")} == {"file-2", "file-3"}
        if move != "renamed":
            assert {left[os.fsencode(f"{folder}/file-{number}")] for number in (2, 3)} == {"its folder was moved"}
        assert (scene.fence / ".exlab-wizard/ingest.json").exists()

    @pytest.mark.parametrize("folder", ["tiles", "tiles/deep/er"])
    def test_a_folder_that_is_mounted_on_while_its_files_go_keeps_the_rest(self, folder: str, scene: Scene) -> None:
        """Even where the mount shows the very same folder."""
        for number in range(4):
            write(scene.run / folder / f"file-{number}")
        scene.prepare()

        def mounted_on() -> Removal:
            # A descriptor from before sees no mount of this process.
            scene.parent = handles.open_root(str(scene.run.parent))
            scene.fenced = handles.open_beneath(scene.parent, fences.fence_name(ATTEMPT))
            path = scene.fence / folder
            with before_removal_of("file-1", lambda: mount("--bind", path, path)):
                return scene.remove()

        left = dict(with_own_mounts(mounted_on).left)
        assert {name for name in os.listdir(scene.fence / folder) if name.startswith("file-")} >= {"file-2", "file-3"}
        assert left[os.fsencode(f"{folder}/file-3")] == "its folder was moved"

    def test_a_mount_made_meanwhile_is_not_entered(self, scene: Scene, tmp_path: Path) -> None:
        write(tmp_path / "precious/t_0001.tif")
        scene.prepare()

        def with_a_bind_mount() -> Removal:
            mount("--bind", tmp_path / "precious", scene.fence / "tiles")
            parent = handles.open_root(str(scene.run.parent))
            fenced = handles.open_beneath(parent, fences.fence_name(ATTEMPT))
            return removal.remove(parent, fences.fence_name(ATTEMPT), fenced, scene.plan, record=scene.record or {})

        left = dict(with_own_mounts(with_a_bind_mount).left)
        assert left[b"tiles/t_0001.tif"] == "EXDEV"
        assert (tmp_path / "precious/t_0001.tif").exists()

    def test_read_only_directories_are_emptied(self, scene: Scene) -> None:
        write(scene.run / "tiles/deep/file")
        scene.prepare()
        directories = [scene.fence, *(path for path in scene.fence.rglob("*") if path.is_dir())]
        give_away(scene.run.parent, *directories)
        for directory in directories:
            directory.chmod(0o555)
        counted = run_tree.count(scene.plan)
        removed = as_ordinary_user(scene.remove)
        assert removed == Removal(counted, ())
        assert os.listdir(scene.run.parent) == []

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can make directories that belong to somebody else")
    def test_what_the_filesystem_will_not_give_up_stays_with_its_reason(self, scene: Scene) -> None:
        scene.prepare()
        give_away(scene.run.parent, scene.fence, scene.fence / ".exlab-wizard")
        (scene.fence / "tiles").chmod(0o755)
        removed = as_ordinary_user(scene.remove)
        left = dict(removed.left)
        assert left[b"tiles/t_0000.tif"] == "EACCES"
        assert left[b"tiles"] == "ENOTEMPTY"
        assert removed.freed.files == run_tree.count(scene.plan).files - 5
        assert (scene.fence / ".exlab-wizard/ingest.json").exists()

    def test_a_record_that_was_written_to_stays(self, scene: Scene) -> None:
        scene.prepare()
        record = scene.fence / ".exlab-wizard/ingest.json"
        record.write_bytes(b"somebody's")
        removed = scene.remove()
        assert removed.left == ((run_tree.INGEST_PATH, "changed"),)
        assert record.read_bytes() == b"somebody's"
        assert removed.freed.files == run_tree.count(scene.plan).files - 1

    def test_a_stranger_at_the_fences_name_stays(self, scene: Scene) -> None:
        scene.prepare()
        scene.fence.rename(scene.run.with_name("moved away"))
        scene.fence.mkdir()
        removed = scene.remove()
        assert scene.fence.is_dir()
        assert dict(removed.left) == {b".": "another directory lies at the fence"}
        assert os.listdir(scene.run.with_name("moved away")) == []

    def test_random_mischief_never_costs_an_unplanned_byte(self, lab: Lab, open_directory: Open) -> None:
        rng = random.Random(20260615)
        for number in range(25):
            files = {f"d{index % 3}/f{index}": b"%d" % index for index in range(9)}
            run = lab.run(f"FLOW_01/P/Runs/Run_2026-05-01T10-{number:02}", files=files)
            scene = Scene(run, open_directory(run.parent))
            scene.prepare()
            for _ in range(rng.randint(1, 4)):
                mischief(rng, scene.fence)
            foreign = [path for path in scene.fence.rglob("*") if path.is_file() and path.read_bytes() == b"new"]
            removed = scene.remove()
            os.close(scene.fenced)
            assert all(path.read_bytes() == b"new" for path in foreign)
            assert bool(removed.left) == scene.fence.exists()
            assert not removed.left or (scene.fence / ".exlab-wizard/ingest.json").exists()
            remaining = {identity(path.stat()) for path in scene.fence.rglob("*") if path.is_file()}
            planned = {(entry.ino, entry.size, entry.mtime_ns) for entry in scene.plan if entry.is_file}
            assert removed.freed.files <= len(planned - remaining)
            if scene.fence.exists():
                scene.fence.rename(run.with_name(f"left-{number}"))


@contextlib.contextmanager
def before_removal_of(file: str, act: Callable[[], None]) -> Iterator[None]:
    real = os.unlink

    def unlink(name: bytes, *, dir_fd: int) -> None:
        if os.fsdecode(name) == file:
            act()
        real(name, dir_fd=dir_fd)

    with mock.patch.object(os, "unlink", unlink):
        yield


def identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def mischief(rng: random.Random, fence: Path) -> None:
    data = [path for path in fence.rglob("*") if ".exlab-wizard" not in path.parts]
    path = rng.choice(data)
    deed = rng.choice(["write", "add", "rename", "remove", "link"])
    if deed == "write" and path.is_file():
        path.write_bytes(b"new")
    elif deed == "add":
        (path if path.is_dir() else path.parent).joinpath(f"n{rng.random()}").write_bytes(b"new")
    elif deed == "rename":
        path.rename(path.with_name(f"r{rng.random()}"))
    elif deed == "remove" and path.is_file():
        path.unlink()
    elif deed == "link" and path.is_file():
        os.link(path, path.with_name(f"l{rng.random()}"))
