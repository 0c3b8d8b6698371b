"""The staged tree: what is seen in it, counted, moved aside, and removed, and what is left alone whatever happens."""

import errno
import hashlib
import os
import random
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cleanup
from cleanup.storage import handles, linux, reserve, run_paths, tokens
from cleanup.storage.errors import Problem
from cleanup.storage.staging import fences, removal, run_tree, unexpected
from cleanup.storage.staging.removal import Removal
from cleanup.storage.staging.run_tree import Count, Entry, freed_bytes_and_count
from tests.storage.children import NOBODY, as_ordinary_user, give_away, mount, with_own_mounts
from tests.tools.lab import Lab, census, linked_lock, snapshot

pytestmark = pytest.mark.one_engine(by="function")


Open = Callable[[Path], int]
ATTEMPT = "0123456789abcdef0123456789abcdef"
FENCE = f".exlab-clearing-{ATTEMPT}"
NOW_NS = 1_781_510_400_000_000_000  # 2026-06-15 08:00 UTC
HOUR_NS = 3600 * 1_000_000_000


def scan(path: Path) -> run_tree.Scan:
    with handles.opened(handles.open_root(str(path))) as descriptor:
        return run_tree.scan(descriptor)


def problems(path: Path) -> list[tuple[str, str]]:
    return [tuple(problem) for problem in scan(path).problems]


def write(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def odd(path: Path, name: bytes) -> Path:
    return Path(os.fsdecode(os.fsencode(path) + b"/" + name))


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
        status = linux.status

        def with_subvolume(directory: int, name: bytes = b"") -> linux.FileStatus:
            found = status(directory, name)
            return replace(found, device=found.device + 1) if name == b"subvolume" else found

        monkeypatch.setattr(linux, "status", with_subvolume)
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
        assert [tuple(problem) for problem in seen.problems] == [("permission_denied", "secret may not be read")]

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
        ("owner", "mode", "told"),
        [
            (0, 0o755, ["folder may not be emptied"]),
            (0, 0o777, []),
            (0, 0o1777, ["folder/file may not be removed"]),
            (NOBODY, 0o555, []),
            (NOBODY, 0o1555, []),
        ],
    )
    def test_what_this_user_could_not_remove_is_told(
        self, owner: int, mode: int, told: list[str], tmp_path: Path, open_directory: Open
    ) -> None:
        write(tmp_path / "folder/file")
        os.chown(tmp_path / "folder", owner, owner)
        (tmp_path / "folder").chmod(mode)
        give_away(tmp_path)
        run = open_directory(tmp_path)
        seen = as_ordinary_user(lambda: run_tree.scan(run))
        assert [tuple(problem) for problem in seen.problems] == [("permission_denied", detail) for detail in told]

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
    """Whatever lies at a run's top as `.exlab-hold` holds it, and is neither data nor a problem."""

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
            # A socket's path is short: bound where it lies, whatever the length of the way there.
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

    def test_where_nobody_can_tell_whether_it_is_held_that_is_a_problem(self, tmp_path: Path) -> None:
        """An empty run that may be listed and not entered: no name to stumble over but that of the hold file."""
        give_away(tmp_path)
        descriptor = handles.open_root(str(tmp_path))
        tmp_path.chmod(0o400)
        try:
            with handles.opened(descriptor):
                seen = as_ordinary_user(lambda: run_tree.scan(descriptor))
        finally:
            tmp_path.chmod(0o700)
        assert not seen.is_held
        assert ("permission_denied", ".exlab-hold: Permission denied") in [tuple(one) for one in seen.problems]

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


class TestUnexpectedMetadata:
    def test_the_wizards_own_files_are_known(self, lab: Lab) -> None:
        run = lab.run()
        for name in ("readme_fields.json", "readme_fields.json.lock", "sync_state.json", "sync_state.json.lock"):
            write(run / ".exlab-wizard" / name)
        for name in ("wizard.another-host.log", "wizard.another-host.log.1", "wizard.labpc-04.log.12"):
            write(run / ".exlab-wizard" / name)
        assert unexpected.problems(scan(run), NOW_NS) == []

    @pytest.mark.parametrize(
        "name",
        [
            "notes.txt",
            "ingest.json.bak",
            "Ingest.json",
            "ingest.json\n",
            "wizard.log",
            "wizard.labpc-04.log.old",
            "notes.json.lock",
            "ingest.json.lock.lock",
            "ingest.json.tmp",
            "ingest.json.a1b2c3d4.tmp~",
            "folder/ingest.json",
            "wizard.x/a.log",
        ],
    )
    def test_anything_else_is_not(self, name: str, lab: Lab) -> None:
        run = lab.run()
        write(run / ".exlab-wizard" / name)
        found = unexpected.problems(scan(run), NOW_NS)
        assert found
        assert {problem.reason for problem in found} == {"unexpected_metadata"}

    @pytest.mark.parametrize(("age", "reason"), [(HOUR_NS - 1, ["writer_active"]), (HOUR_NS, [])])
    @pytest.mark.parametrize("of", ["ingest.json", "checksums.sha256"])
    def test_a_draft_is_left_over_once_it_is_an_hour_old(self, lab: Lab, of: str, age: int, reason: list[str]) -> None:
        run = lab.run()
        draft = write(run / f".exlab-wizard/{of}.k3_x9a0b.tmp", b"{")
        os.utime(draft, ns=(NOW_NS - age, NOW_NS - age))
        assert [problem.reason for problem in unexpected.problems(scan(run), NOW_NS)] == reason

    @pytest.mark.parametrize(("age", "reason"), [(HOUR_NS - 1, {"writer_active"}), (HOUR_NS, set())])
    def test_a_linked_lock_is_left_over_once_it_is_an_hour_old(self, lab: Lab, age: int, reason: set[str]) -> None:
        run = lab.run()
        link = linked_lock(run)
        for path in (link, *link.parents[:3]):
            os.utime(path, ns=(NOW_NS - age, NOW_NS - age))
        assert {problem.reason for problem in unexpected.problems(scan(run), NOW_NS)} == reason

    @pytest.mark.parametrize("more", ["notes.txt", "0123456789abcdef/notes.txt", "0123456789abcdef/lock.db", "lock.db"])
    def test_anything_else_beside_a_linked_lock_is_not(self, lab: Lab, more: str) -> None:
        run = lab.run()
        link = linked_lock(run)
        other = write(link.parents[2] / more)
        for path in (link, *link.parents[:3], other, other.parent):
            os.utime(path, (1, 1))
        found = unexpected.problems(scan(run), NOW_NS)
        assert [problem.detail for problem in found] == [str(other.relative_to(run))]

    def test_a_linked_lock_with_bytes_in_it_is_not(self, lab: Lab) -> None:
        run = lab.run()
        link = linked_lock(run)
        link.write_bytes(b"SQLite format 3")
        for path in (link, *link.parents[:3]):
            os.utime(path, (1, 1))
        assert {problem.reason for problem in unexpected.problems(scan(run), NOW_NS)} == {"unexpected_metadata"}

    def test_a_folder_named_like_a_known_file_is_not(self, lab: Lab) -> None:
        run = lab.run()
        (run / ".exlab-wizard/wizard.x.log").mkdir()
        assert unexpected.problems(scan(run), NOW_NS) == [Problem("unexpected_metadata", ".exlab-wizard/wizard.x.log")]

    def test_there_may_be_four_mebibytes_apart_from_the_manifest(self, lab: Lab) -> None:
        run = lab.run()
        metadata = run / ".exlab-wizard"
        os.truncate(metadata / "checksums.sha256", 1 << 30)
        others = sum(path.stat().st_size for path in metadata.iterdir() if path.name != "checksums.sha256")
        with (metadata / "wizard.big.log").open("wb") as log:
            log.truncate(unexpected.MAX_METADATA_BYTES - others)
        assert unexpected.problems(scan(run), NOW_NS) == []
        os.truncate(metadata / "wizard.big.log", unexpected.MAX_METADATA_BYTES - others + 1)
        assert [problem.reason for problem in unexpected.problems(scan(run), NOW_NS)] == ["unexpected_metadata"]


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


@dataclass
class Scene:
    """A run with its parent open, and everything it takes to clear it."""

    run: Path
    parent: int
    plan: tuple[Entry, ...] = ()
    record: dict[str, int] | None = None
    fenced: int = -1

    @property
    def fence(self) -> Path:
        return self.run.with_name(FENCE)

    def prepare(self) -> None:
        """Plan, fence, prepare and publish, as a clear does before its first removal."""
        self.plan = scan(self.run).entries
        self.to_fence()
        self.record = fences.prepare_record(
            self.parent,
            fences.prepared_name(ATTEMPT),
            b'{"cleared":1}',
            (self.fence / ".exlab-wizard/ingest.json").stat(),
        )
        fences.publish(self.parent, fences.prepared_name(ATTEMPT), self.fenced)

    def to_fence(self) -> None:
        fences.fence(self.parent, self.run.name.encode(), fences.fence_name(ATTEMPT))
        self.fenced = handles.open_beneath(self.parent, fences.fence_name(ATTEMPT))

    def remove(self, **options: object) -> Removal:
        assert self.record is not None
        return removal.remove(
            self.parent,
            fences.fence_name(ATTEMPT),
            self.fenced,
            self.plan,
            record=self.record,
            **options,  # type: ignore[arg-type]
        )


@pytest.fixture
def scene(lab: Lab, open_directory: Open) -> Iterator[Scene]:
    run = lab.run()
    scene = Scene(run, open_directory(run.parent))
    yield scene
    if scene.fenced >= 0:
        os.close(scene.fenced)


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
        assert sorted(fences.names_in(scene.parent)) == [
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


def replace_file(path: Path) -> None:
    """Put another file with the same bytes and times in the place of one."""
    status = path.stat()
    twin = path.with_name("twin")
    twin.write_bytes(path.read_bytes())
    os.utime(twin, ns=(status.st_atime_ns, status.st_mtime_ns))
    twin.rename(path)


def rewrite_in_secret(path: Path) -> None:
    """Other bytes under the old size and modification time, as a copying tool leaves them."""
    status = path.stat()
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def digests_of(run: Path) -> dict[bytes, bytes]:
    """What a proof says of the files of a run."""
    return {
        os.fsencode(path.relative_to(run)): hashlib.sha256(path.read_bytes()).digest()
        for path in run.rglob("*")
        if path.is_file()
    }


def replace_directory(path: Path) -> None:
    """Put another directory with the very same files in the place of one."""
    old = path.rename(path.with_name("old"))
    path.mkdir()
    for entry in old.iterdir():
        entry.rename(path / entry.name)
    old.rmdir()


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


def identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def mischief(rng: random.Random, fence: Path) -> None:
    """Do something to a fenced run that nobody ought to do."""
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


class TestReserve:
    def test_is_laid_once_and_released_once(self, tmp_path: Path, open_directory: Open) -> None:
        root = open_directory(tmp_path)
        reserve.lay_reserve(root)
        reserve.lay_reserve(root)
        status = (tmp_path / ".exlab-reserve").stat()
        assert status.st_size == reserve.RESERVE_BYTES
        assert status.st_blocks * 512 >= reserve.RESERVE_BYTES
        assert reserve.release_reserve(root)
        assert not reserve.release_reserve(root)
        assert os.listdir(tmp_path) == []

    def test_other_errors_do_not_touch_it(self, tmp_path: Path, open_directory: Open) -> None:
        root = open_directory(tmp_path)
        reserve.lay_reserve(root)

        def fails() -> None:
            raise PermissionError(errno.EACCES, "no")

        with pytest.raises(PermissionError):
            reserve.with_reserve(root, fails)
        assert (tmp_path / ".exlab-reserve").exists()

    def test_a_full_disk_is_helped_once(self, tmp_path: Path, open_directory: Open) -> None:
        root = open_directory(tmp_path)
        reserve.lay_reserve(root)
        tries: list[bool] = []

        def fails_once() -> str:
            tries.append((tmp_path / ".exlab-reserve").exists())
            if len(tries) == 1:
                raise OSError(errno.EDQUOT, "quota")
            return "done"

        assert reserve.with_reserve(root, fails_once) == "done"
        assert tries == [True, False]
        assert (tmp_path / ".exlab-reserve").exists()

    def test_on_a_disk_that_is_really_full(self, tmp_path: Path) -> None:
        (tmp_path / "small").mkdir()

        def on_a_small_disk() -> tuple[str, bytes, bool, bool, list[str]]:
            small = tmp_path / "small"
            mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", small)
            root = handles.open_root(str(small))
            reserve.lay_reserve(root)
            like = small.stat()
            with (small / "filler").open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"x" * 4096)
                except OSError as error:
                    full = errno.errorcode[error.errno or 0]
            reserve.with_reserve(root, lambda: fences.prepare_record(root, b"record", b"y" * 9000, like))
            kept, taken = (small / "record").read_bytes(), not (small / ".exlab-reserve").exists()
            try:
                fences.prepare_record(root, b"too large", b"y" * (4 << 20), like)
            except OSError:
                left = not (small / "too large").exists()
            (small / "filler").unlink()
            reserve.renew_reserve(root)
            return full, kept, taken, left, sorted(os.listdir(small))

        full, kept, taken, left, names = with_own_mounts(on_a_small_disk)
        assert full == "ENOSPC"
        assert kept == b"y" * 9000
        assert taken
        assert left
        assert names == [".exlab-reserve", "record"]


def test_the_probe_leaves_nothing_behind_even_twice(tmp_path: Path, open_directory: Open) -> None:
    root = open_directory(tmp_path)
    fences.probe(root)
    fences.probe(root)
    assert os.listdir(tmp_path) == []


def test_a_token_is_laid_whole_or_not_at_all(tmp_path: Path) -> None:
    """On a full disk an empty token file would stay, and be taken for a wrong one from then on."""
    (tmp_path / "small").mkdir()

    def on_a_full_disk() -> tuple[str, list[str]]:
        small = tmp_path / "small"
        mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", small)
        (small / "filler").write_bytes(b"x" * (64 << 10))
        try:
            tokens.lay_token(handles.open_root(str(small)))
        except OSError as error:
            return errno.errorcode[error.errno or 0], os.listdir(small)
        return "laid", os.listdir(small)

    assert with_own_mounts(on_a_full_disk) == ("ENOSPC", ["filler"])


def test_a_reserve_that_a_crash_left_unfinished_is_made_anew(tmp_path: Path, open_directory: Open) -> None:
    (tmp_path / ".exlab-reserve").touch()
    directory = open_directory(tmp_path)
    reserve.lay_reserve(directory)
    assert (tmp_path / ".exlab-reserve").stat().st_size == reserve.RESERVE_BYTES
    whole = (tmp_path / ".exlab-reserve").stat().st_ino
    reserve.lay_reserve(directory)
    assert (tmp_path / ".exlab-reserve").stat().st_ino == whole
