"""What the staged tree sees, moves aside, removes, and always leaves alone."""

import os
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cleanup
from cleanup.storage import handles, linux
from cleanup.storage.staging import run_tree
from cleanup.storage.staging.run_tree import Count, Entry, freed_bytes_and_count
from tests.storage.children import NOBODY, as_ordinary_user, give_away, mount, with_own_mounts
from tests.storage.staging.trees import (
    Open,
    Scene,
    odd,
    problems,
    replace_directory,
    replace_file,
    rewrite_in_secret,
    scan,
    told,
    write,
)
from tests.tools.lab import Lab, census

pytestmark = pytest.mark.one_engine(by="function")


class TestScan:
    def test_sees_every_file_and_directory_as_it_is(self, lab: Lab) -> None:
        run = lab.run()
        seen = scan(run)
        assert seen.problems == ()
        assert seen.ino == run.stat().st_ino
        expected = {os.fsencode(path.relative_to(run)): path.lstat() for path in run.rglob("*")}
        assert {entry.path for entry in seen.entries} == set(expected)
        for entry in seen.entries:
            status = expected[entry.path]
            assert entry.is_file == stat.S_ISREG(status.st_mode)
            assert (entry.ino, entry.mtime_ns, entry.ctime_ns) == (
                status.st_ino,
                status.st_mtime_ns,
                status.st_ctime_ns,
            )
            if entry.is_file:
                assert (entry.size, entry.allocated, entry.nlink) == (status.st_size, status.st_blocks * 512, 1)

    def test_tells_data_from_metadata(self, lab: Lab) -> None:
        seen = scan(lab.run(files={"deep/.exlab-wizard/ingest.json": b"{}", ".exlab-wizard-2": b""}))
        data = {entry.path for entry in seen.data_files}
        assert data == {b"deep/.exlab-wizard/ingest.json", b".exlab-wizard-2", b"README.md", b"run_complete"}
        assert {entry.path for entry in seen.metadata_files} == {
            entry.path for entry in seen.entries if entry.path.startswith(b".exlab-wizard/")
        }

    def test_any_name_a_filesystem_holds(self, tmp_path: Path) -> None:
        names = {b"\xff\xfe", b"line\nbreak", b"-rf", b" ", b"\x1b[2J", b"back\\slash", b"..."}
        for name in names:
            odd(tmp_path, name).write_bytes(b"x")
        seen = scan(tmp_path)
        assert {entry.path for entry in seen.entries} == names
        assert seen.problems == ()

    @pytest.mark.parametrize("target", ["/etc/passwd", "/", "..", "nowhere", "file"])
    def test_a_symbolic_link_is_unsafe_and_never_followed(self, target: str, tmp_path: Path) -> None:
        write(tmp_path / "file")
        (tmp_path / "link").symlink_to(target)
        assert problems(tmp_path) == [("unsafe_path", "link is a symbolic link")]
        assert [entry.path for entry in scan(tmp_path).entries] == [b"file"]

    def test_special_files_are_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        os.mkfifo(tmp_path / "fifo")
        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")
        if os.geteuid() == 0:
            os.mknod(tmp_path / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        names = sorted(path.name for path in tmp_path.iterdir())
        assert len(names) >= 2
        assert problems(tmp_path) == [("special_file", name) for name in names]

    def test_a_mount_is_told_and_not_entered(self, tmp_path: Path) -> None:
        write(tmp_path / "elsewhere/precious")
        write(tmp_path / "elsewhere.txt")
        (tmp_path / "run/mounted").mkdir(parents=True)
        write(tmp_path / "run/mounted.txt")

        def on_bind_mounts() -> tuple[list[tuple[str, str]], list[bytes]]:
            mount("--bind", tmp_path / "elsewhere", tmp_path / "run/mounted")
            mount("--bind", tmp_path / "elsewhere.txt", tmp_path / "run/mounted.txt")
            return problems(tmp_path / "run"), [entry.path for entry in scan(tmp_path / "run").entries]

        found, entries = with_own_mounts(on_bind_mounts)
        assert found == [("mount_inside", "mounted"), ("mount_inside", "mounted.txt")]
        assert entries == []

    def test_another_device_behind_a_directory_is_a_mount_however_it_got_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A subvolume has inode numbers of its own, and openat2 sees no mount there.
        write(tmp_path / "subvolume/file")
        read = linux.status_reader()

        def with_subvolume(directory: int, name: bytes) -> linux.FileStatus:
            found = read(directory, name)
            return found._replace(device_minor=found.device_minor + 1) if name == b"subvolume" else found

        monkeypatch.setattr(linux, "status_reader", lambda: with_subvolume)
        assert problems(tmp_path) == [("mount_inside", "subvolume")]

    def test_depth_ends_where_it_is_still_safe(self, tmp_path: Path) -> None:
        for levels in (run_tree.MAX_DEPTH - 1, run_tree.MAX_DEPTH):
            run = tmp_path / str(levels)
            write(run / ("d/" * levels + "file"))
            assert bool(problems(run)) == (levels == run_tree.MAX_DEPTH)
        assert problems(run)[0][0] == "tree_too_deep"
        assert problems(run)[0][1].endswith("is 128 levels deep")

    def test_a_tree_beyond_every_path_is_told_and_not_passed_over(self, tmp_path: Path) -> None:
        directory = os.open(tmp_path, os.O_RDONLY)
        for _ in range(40):
            os.mkdir("n" * 200, dir_fd=directory)
            below = os.open("n" * 200, os.O_RDONLY, dir_fd=directory)
            os.close(directory)
            directory = below
        os.close(directory)
        try:
            assert [reason for reason, _ in problems(tmp_path)] == ["tree_too_deep"]
        finally:
            subprocess.run(["rm", "-rf", tmp_path / ("n" * 200)], check=True)  # or pytest stumbles over it

    def test_an_unreadable_file_is_told(self, tmp_path: Path) -> None:
        write(tmp_path / "secret")
        write(tmp_path / "plain")
        give_away(tmp_path / "secret", tmp_path / "plain", tmp_path)
        (tmp_path / "secret").chmod(0)
        run = handles.open_root(str(tmp_path))
        with handles.opened(run):
            seen = as_ordinary_user(lambda: run_tree.scan(run))
        assert told(seen) == [("permission_denied", "secret may not be read")]

    def test_an_unreadable_directory_is_told(self, tmp_path: Path) -> None:
        for mode, name in ((0o000, "closed"), (0o300, "unlisted"), (0o400, "unentered")):
            write(tmp_path / name / "file")
            give_away(tmp_path / name / "file", tmp_path / name)
            (tmp_path / name).chmod(mode)
        give_away(tmp_path)
        run = handles.open_root(str(tmp_path))
        try:
            seen = as_ordinary_user(lambda: run_tree.scan(run))
        finally:
            os.close(run)
            for name in ("closed", "unlisted", "unentered"):
                (tmp_path / name).chmod(0o700)
        assert sorted(problem.reason for problem in seen.problems) == ["permission_denied"] * 3
        assert sorted(problem.detail for problem in seen.problems) == [
            "closed: Permission denied",
            "unentered: Permission denied",
            "unlisted: Permission denied",
        ]

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can make directories that belong to somebody else")
    @pytest.mark.parametrize(
        ("owner", "mode", "details"),
        [
            (0, 0o755, ["folder may not be emptied"]),
            (0, 0o777, []),
            (0, 0o1777, ["folder/file may not be removed"]),
            (NOBODY, 0o555, []),
            (NOBODY, 0o1555, []),
        ],
    )
    def test_what_this_user_could_not_remove_is_told(
        self, owner: int, mode: int, details: list[str], tmp_path: Path, open_directory: Open
    ) -> None:
        write(tmp_path / "folder/file")
        os.chown(tmp_path / "folder", owner, owner)
        (tmp_path / "folder").chmod(mode)
        give_away(tmp_path)
        run = open_directory(tmp_path)
        seen = as_ordinary_user(lambda: run_tree.scan(run))
        assert told(seen) == [("permission_denied", detail) for detail in details]

    def test_what_not_even_root_could_remove_is_told(self, tmp_path: Path) -> None:
        write(tmp_path / "file")
        write(tmp_path / "folder/file")
        fixed = [tmp_path / "file", tmp_path / "folder"]
        done = subprocess.run(["chattr", "+i", *fixed], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"nothing can be made immutable here: {done.stderr.strip()}")
        try:
            assert problems(tmp_path) == [
                ("permission_denied", "file may not be removed"),
                ("permission_denied", "folder may not be removed"),
                ("permission_denied", "folder may not be emptied"),
            ]
            assert freed_bytes_and_count(tmp_path) == (2, 2)
        finally:
            subprocess.run(["chattr", "-i", *fixed], check=True)

    def test_leaves_no_descriptor_open(self, lab: Lab) -> None:
        run = lab.run()
        (run / "link").symlink_to("nowhere")
        before = len(os.listdir("/proc/self/fd"))
        scan(run)
        assert len(os.listdir("/proc/self/fd")) == before


class TestHoldFile:
    """Any entry `.exlab-hold` at a run's top holds it, and is neither data nor a problem."""

    @staticmethod
    def lay(run: Path, kind: str) -> None:
        path = run / ".exlab-hold"
        if kind == "file":
            path.write_text("mine")
        elif kind == "unreadable file":
            path.write_text("mine")
            path.chmod(0)
        elif kind == "directory":
            (path / "deeper").mkdir(parents=True)
            (path / "deeper/link").symlink_to("/")
            (path / "note").write_text("mine")
        elif kind == "link":
            path.symlink_to("/etc/passwd")
        elif kind == "dangling link":
            path.symlink_to("nowhere")
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            # A socket's path must be short: bind it from within its folder.
            here = os.open(run, os.O_RDONLY)
            with handles.opened(here), socket.socket(socket.AF_UNIX) as made:
                made.bind(f"/proc/self/fd/{here}/.exlab-hold")

    @pytest.mark.parametrize(
        "kind", ["file", "unreadable file", "directory", "link", "dangling link", "fifo", "socket"]
    )
    def test_anything_of_that_name_holds_and_is_no_data(self, lab: Lab, kind: str) -> None:
        run = lab.run()
        before = scan(run)
        assert not before.is_held
        self.lay(run, kind)
        seen = scan(run)
        assert (seen.is_held, seen.problems) == (True, ())
        assert [entry.path for entry in seen.data_files] == [entry.path for entry in before.data_files]
        assert seen.metadata_files == before.metadata_files

    def test_an_undecidable_hold_is_a_problem(self, tmp_path: Path) -> None:
        """An empty run that may be listed and not entered: only the hold file's name can fail."""
        give_away(tmp_path)
        descriptor = handles.open_root(str(tmp_path))
        tmp_path.chmod(0o400)
        try:
            with handles.opened(descriptor):
                seen = as_ordinary_user(lambda: run_tree.scan(descriptor))
        finally:
            tmp_path.chmod(0o700)
        assert not seen.is_held
        assert ("permission_denied", ".exlab-hold: Permission denied") in [
            (one.reason, one.detail) for one in seen.problems
        ]

    def test_its_bytes_count_as_any_files_do(self, lab: Lab) -> None:
        run = lab.run()
        files, size = freed_bytes_and_count(run)
        self.lay(run, "file")
        assert freed_bytes_and_count(run) == (files + 1, size + 4)

    def test_one_deeper_down_or_with_more_to_its_name_is_data(self, lab: Lab) -> None:
        run = lab.run(files={"tiles/.exlab-hold": b"1", ".exlab-hold.txt": b"2", ".exlab-holds": b"3"})
        seen = scan(run)
        assert not seen.is_held
        assert {b"tiles/.exlab-hold", b".exlab-hold.txt", b".exlab-holds"} <= {entry.path for entry in seen.data_files}


class TestLocks:
    """Versions of the wizard's lock library touch a lock at every take, or delete it at every release."""

    def change(self, run: Path) -> None:
        folder = run / ".exlab-wizard"
        (folder / "ingest.json.lock").unlink()
        os.utime(folder / "creation.json.lock", (1, 1))
        (folder / "sync_state.json.lock").touch()

    def test_they_count_in_no_comparison(self, lab: Lab) -> None:
        run = lab.run()
        before = scan(run)
        self.change(run)
        after = scan(run)
        assert run_tree.differences(before.entries, after.entries, strict=True) == []
        assert [entry for entry in before.compared if entry.is_file] == [
            entry for entry in after.compared if entry.is_file
        ]
        assert len(before.entries) == len(before.compared) + 2

    def test_one_with_content_is_a_file_like_others(self, lab: Lab) -> None:
        run = lab.run()
        before = scan(run)
        (run / ".exlab-wizard/ingest.json.lock").write_bytes(b"1")
        assert run_tree.differences(before.entries, scan(run).entries) == [".exlab-wizard/ingest.json.lock is new"]

    @pytest.mark.parametrize("name", ["ingest.json.lock", "tiles/ingest.json.lock", "tiles/.exlab-wizard/a.json.lock"])
    def test_only_those_in_the_folder_of_the_run(self, lab: Lab, name: str) -> None:
        run = lab.run()
        before = scan(run)
        write(run / name, b"")
        assert f"{name} is new" in run_tree.differences(before.entries, scan(run).entries)


class TestCount:
    def test_counts_files_with_the_metadata_folder_and_no_directory(self, lab: Lab) -> None:
        run = lab.run()
        counted = run_tree.count(scan(run).entries)
        assert (counted.files, counted.bytes) == census(run)
        assert counted.allocated == sum(p.stat().st_blocks * 512 for p in run.rglob("*") if p.is_file())

    def test_hard_links_inside_count_once_and_free_their_blocks(self, tmp_path: Path) -> None:
        file = write(tmp_path / "a/file", b"x" * 10_000)
        (tmp_path / "b").mkdir()
        os.link(file, tmp_path / "b/same")
        assert run_tree.count(scan(tmp_path).entries) == Count(1, 10_000, file.stat().st_blocks * 512)

    def test_a_link_elsewhere_keeps_the_blocks(self, tmp_path: Path) -> None:
        file = write(tmp_path / "run/file", b"x" * 10_000)
        os.link(file, tmp_path / "run/same")
        os.link(file, tmp_path / "elsewhere")
        assert run_tree.count(scan(tmp_path / "run").entries) == Count(1, 10_000, 0)

    def test_freed_is_the_plan_less_what_remains(self, tmp_path: Path) -> None:
        kept, linked = write(tmp_path / "kept", b"x" * 100), write(tmp_path / "linked", b"x" * 5000)
        os.link(linked, tmp_path / "linked too")
        write(tmp_path / "gone", b"x" * 300)
        entries = scan(tmp_path).entries
        gone_blocks = (tmp_path / "gone").stat().st_blocks * 512
        assert run_tree.freed(entries, {b"kept", b"linked"}) == Count(1, 300, gone_blocks)
        both = gone_blocks + linked.stat().st_blocks * 512
        assert run_tree.freed(entries, {b"kept"}) == Count(2, 5300, both)
        assert run_tree.freed(entries, {entry.path for entry in entries}) == Count()
        assert run_tree.freed(entries, {b".", b"something else"}) == run_tree.count(entries)
        assert kept.exists()

    @given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), max_size=8), st.integers(0, 255))
    def test_what_is_freed_and_what_remains_make_the_whole(self, inodes: list[tuple[int, int]], chosen: int) -> None:
        entries = [
            Entry(b"%d" % number, True, ino, nlink=9, size=ino * 10, allocated=512, mtime_ns=0, ctime_ns=0)
            for number, (ino, _) in enumerate(inodes)
        ]
        left = {entry.path for number, entry in enumerate(entries) if chosen >> number & 1}
        freed, remaining = run_tree.freed(entries, left), {entry.ino for entry in entries if entry.path in left}
        assert freed.files + len(remaining) == len({entry.ino for entry in entries})
        assert freed.bytes + sum(ino * 10 for ino in remaining) == run_tree.count(entries).bytes


class TestFreedBytesAndCount:
    def test_stands_under_its_own_name_at_the_top(self) -> None:
        assert cleanup.freed_bytes_and_count is freed_bytes_and_count

    def test_counts_a_whole_run(self, lab: Lab) -> None:
        run = lab.run()
        assert freed_bytes_and_count(run) == freed_bytes_and_count(str(run)) == census(run)
        assert census(run)[0] == 13

    def test_what_is_not_there_is_nothing(self, tmp_path: Path) -> None:
        write(tmp_path / "file")
        for path in ("nowhere", "nowhere/at/all", "file", "file/below"):
            assert freed_bytes_and_count(tmp_path / path) == (0, 0)
        assert freed_bytes_and_count("") == (0, 0)

    def test_directories_alone_are_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "a/b/c").mkdir(parents=True)
        assert freed_bytes_and_count(tmp_path) == (0, 0)

    @pytest.mark.parametrize("slashes", ["", "/", "//"])
    def test_a_link_is_nothing_however_it_is_written(self, slashes: str, tmp_path: Path) -> None:
        write(tmp_path / "real/file")
        (tmp_path / "link").symlink_to("real")
        assert freed_bytes_and_count(f"{tmp_path}/link{slashes}") == (0, 0)
        assert freed_bytes_and_count(f"{tmp_path}/real{slashes}") == (1, 1)

    def test_follows_no_link_inside(self, tmp_path: Path) -> None:
        write(tmp_path / "elsewhere/big", b"x" * 1000)
        write(tmp_path / "run/file", b"x")
        (tmp_path / "run/link").symlink_to("../elsewhere")
        (tmp_path / "run/loop").symlink_to(".")
        (tmp_path / "run/big").symlink_to("../elsewhere/big")
        assert freed_bytes_and_count(tmp_path / "run") == (1, 1)

    def test_counts_an_inode_once_and_nested_metadata_too(self, tmp_path: Path) -> None:
        file = write(tmp_path / ".exlab-wizard/ingest.json", b"xyz")
        write(tmp_path / "a/b/.exlab-wizard/ingest.json", b"x")
        os.link(file, tmp_path / "a/same")
        assert freed_bytes_and_count(tmp_path) == (2, 4)

    def test_sparse_files_count_their_size(self, tmp_path: Path) -> None:
        with (tmp_path / "sparse").open("wb") as file:
            file.truncate(1 << 40)
        assert freed_bytes_and_count(tmp_path) == (1, 1 << 40)

    def test_raises_rather_than_leave_something_out(self, tmp_path: Path) -> None:
        write(tmp_path / "deep" / ("d/" * 130 + "file"))
        with pytest.raises(OSError, match="levels deep"):
            freed_bytes_and_count(tmp_path / "deep")

    @pytest.mark.parametrize("name", ["closed", "closed may not be emptied"])
    def test_raises_for_an_unreadable_folder(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path / name / "file")
        (tmp_path / name).chmod(0)
        give_away(tmp_path)
        monkeypatch.chdir(tmp_path)
        try:
            with pytest.raises(OSError, match=f"cannot be counted: {name}: Permission denied"):
                as_ordinary_user(lambda: freed_bytes_and_count("."))
        finally:
            (tmp_path / name).chmod(0o700)

    def test_counts_what_may_be_read_but_not_removed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path / "fixed/file")
        (tmp_path / "fixed").chmod(0o555)
        tmp_path.chmod(0o755)
        monkeypatch.chdir(tmp_path)
        assert as_ordinary_user(lambda: freed_bytes_and_count(".")) == (1, 1)
        (tmp_path / "fixed").chmod(0o755)


class TestDifferences:
    def test_the_same_tree_has_none(self, scene: Scene) -> None:
        before = scan(scene.run).entries
        scene.to_fence()
        assert run_tree.differences(before, scan(scene.fence).entries) == []

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda run: (run / "README.md").unlink(), ["README.md is gone"]),
            (lambda run: write(run / "new\n"), [r"new\n is new"]),
            (lambda run: (run / "README.md").open("ab").write(b"more"), ["README.md has changed"]),
            (lambda run: os.utime(run / "README.md", (1, 1)), ["README.md has changed"]),
            (lambda run: (run / "README.md").chmod(0o600), ["README.md has changed"]),
            (lambda run: replace_file(run / "README.md"), ["README.md has changed"]),
            (lambda run: (run / "README.md").rename(run / "other"), ["README.md is gone", "other is new"]),
            (lambda run: replace_directory(run / "empty"), ["empty has changed"]),
            (lambda run: os.utime(run / "tiles", (1, 1)), []),
            (lambda run: (run / "tiles").chmod(0o700), []),
        ],
    )
    def test_every_change_is_said(self, change: Callable[[Path], object], words: list[str], scene: Scene) -> None:
        (scene.run / "empty").mkdir()
        before = scan(scene.run).entries
        change(scene.run)
        assert run_tree.differences(before, scan(scene.run).entries) == words

    def test_another_link_that_goes_is_no_change_but_one_that_comes_is(self, scene: Scene, tmp_path: Path) -> None:
        os.link(scene.run / "README.md", tmp_path / "same")
        before = scan(scene.run).entries
        (tmp_path / "same").unlink()
        assert run_tree.differences(before, scan(scene.run).entries) == []
        before = scan(scene.run).entries
        os.link(scene.run / "README.md", tmp_path / "same")
        assert run_tree.differences(before, scan(scene.run).entries) == ["README.md has changed"]

    def test_before_the_commit_not_even_another_link_may_go(self, scene: Scene, tmp_path: Path) -> None:
        os.link(scene.run / "README.md", tmp_path / "same")
        before = scan(scene.run).entries
        assert run_tree.differences(before, scan(scene.run).entries, strict=True) == []
        (tmp_path / "same").unlink()
        assert run_tree.differences(before, scan(scene.run).entries, strict=True) == ["README.md has changed"]

    def test_before_the_commit_a_file_with_two_names_cannot_be_rewritten_in_secret(self, scene: Scene) -> None:
        os.link(scene.run / "README.md", scene.run / "tiles/same")
        before = scan(scene.run).entries
        rewrite_in_secret(scene.run / "README.md")
        changes = ["README.md has changed", "tiles/same has changed"]
        assert run_tree.differences(before, scan(scene.run).entries, strict=True) == changes

    def test_before_the_commit_a_directory_is_known_by_its_inode_too(self, scene: Scene) -> None:
        before = scan(scene.run).entries
        os.utime(scene.run / "tiles", (1, 1))
        assert run_tree.differences(before, scan(scene.run).entries, strict=True) == []
