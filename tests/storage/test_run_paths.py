"""The path grammar, the tokens at the top of a root, and the way down that follows no link."""

import errno
import os
import stat
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleanup.storage import handles, run_paths, tokens
from cleanup.storage.errors import UnsafePath, WrongToken
from cleanup.storage.run_paths import RunPath, parse_run_path, show
from tests.storage.children import as_ordinary_user, give_away, mount, with_own_mounts
from tests.tools.lab import RUN_PATH

pytestmark = pytest.mark.one_engine(by="function")


Open = Callable[[Path], int]


class TestRunPath:
    def test_the_four_steps(self) -> None:
        path = parse_run_path(RUN_PATH)
        assert path == RunPath("CONFOCAL_01", "PROJ-0042", "Runs", "Run_2026-04-17T14-32")
        assert str(path) == RUN_PATH
        assert path.parent == b"CONFOCAL_01/PROJ-0042/Runs"
        assert path.run_kind == "experimental"

    def test_a_test_run(self) -> None:
        assert parse_run_path("E/P/TestRuns/TestRun_2026-04-17T09-12").run_kind == "test"

    def test_seconds_as_older_writers_add_them(self) -> None:
        assert parse_run_path("E/P/Runs/Run_2026-04-17T14-32-59").leaf == "Run_2026-04-17T14-32-59"

    @pytest.mark.parametrize(
        "name", ["FLOW 01", "Zeiss (neu)", "Messgerät", "顕微鏡", "-rf", "a.b", "a\\b", "~", "x" * 255]
    )
    def test_names_that_a_lab_may_choose(self, name: str) -> None:
        path = f"{name}/{name}/Runs/Run_2026-04-17T14-32"
        assert str(parse_run_path(path)) == path

    @pytest.mark.parametrize(
        "leaf",
        [
            "Run_calibration",
            "Run_2026-04-17",
            "Run_2026-04-17T14:32",
            "Run_2026-04-17T14-32-",
            "Run_2026-04-17T14-32-5",
            "Run_2026-04-17T14-32-59-01",
            "Run_2026-04-17T14-32.bak",
            "Run_26-04-17T14-32",
            "Run_٢٠٢٦-04-17T14-32",
            "Run_Kalibrierung µm",
            f"Run_{'x' * 60}",
        ],
    )
    def test_leaves_that_only_a_record_makes_a_run(self, leaf: str) -> None:
        path = parse_run_path(f"E/P/Runs/{leaf}")
        assert (str(path), path.run_kind, path.is_usual) == (f"E/P/Runs/{leaf}", "experimental", False)
        assert parse_run_path(RUN_PATH).is_usual

    @pytest.mark.parametrize(
        ("leaf", "kind"), [("Run_2026-04-17T14-32", "experimental"), ("TestRun_x", "test"), ("Run_x", "experimental")]
    )
    def test_a_run_in_its_project_itself(self, leaf: str, kind: str) -> None:
        path = parse_run_path(f"E/P/{leaf}")
        assert path == RunPath("E", "P", "", leaf)
        assert (str(path), path.parent, path.run_kind) == (f"E/P/{leaf}", b"E/P", kind)
        assert not path.is_usual

    @pytest.mark.parametrize(
        "leaf",
        [
            "Run_",
            f"Run_{'x' * 61}",
            "Run_2026-04-17T14-32 ",
            "Run_2026-04-17T14-32\n",
            "Run_a\tb",
            "Run_\udcff",
            "Run",
            " Run_2026-04-17T14-32",
            "run_2026-04-17T14-32",
            "Run2026-04-17T14-32",
            "TestRun_2026-04-17T14-32",
            ".exlab-clearing-0123456789abcdef",
            "",
            ".",
            "..",
        ],
    )
    def test_leaves_that_are_no_run(self, leaf: str) -> None:
        with pytest.raises(UnsafePath):
            parse_run_path(f"E/P/Runs/{leaf}")

    def test_a_run_in_the_folder_of_the_other_kind(self) -> None:
        with pytest.raises(UnsafePath, match="not the name of a run below TestRuns"):
            parse_run_path("E/P/TestRuns/Run_2026-04-17T14-32")

    @pytest.mark.parametrize(
        "name",
        [
            *("", ".", "..", ".hidden", " a", "a ", "a\u00a0"),
            *("a\nb", "a\0b", "a\x1bb", "a\x7fb", "\u202ea", "\udcff", "\ud800"),
            *("x" * 256, "µ" * 128),
        ],
    )
    def test_names_that_no_folder_may_have(self, name: str) -> None:
        assert not run_paths.is_folder_name(name)
        for path in (f"{name}/P/Runs/Run_2026-04-17T14-32", f"E/{name}/Runs/Run_2026-04-17T14-32"):
            with pytest.raises(UnsafePath):
                parse_run_path(path)

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "/",
            "E",
            f"/{RUN_PATH}",
            f"{RUN_PATH}/",
            f"./{RUN_PATH}",
            f"../{RUN_PATH}",
            f"{RUN_PATH}/..",
            RUN_PATH.replace("/", "\\"),
            RUN_PATH.replace("/", "//"),
            "E/P/runs/Run_2026-04-17T14-32",
            "E/P/Other/Run_2026-04-17T14-32",
            "E/Runs/Run_2026-04-17T14-32",
            "E/TestRuns/TestRun_2026-04-17T14-32",
            "E/P/Run_2026-04-17T14-32/Run_2026-04-17T14-32",
            "E/Run_2026-04-17T14-32",
            "E//Run_2026-04-17T14-32",
        ],
    )
    def test_paths_of_another_shape(self, path: str) -> None:
        with pytest.raises(UnsafePath):
            parse_run_path(path)

    @given(st.text() | st.lists(st.text(max_size=3) | st.sampled_from(RUN_PATH.split("/")), max_size=5).map("/".join))
    def test_any_text_is_a_run_path_or_unsafe(self, text: str) -> None:
        try:
            path = parse_run_path(text)
        except UnsafePath as error:
            assert str(error).isprintable()
        else:
            assert str(path) == text
            assert os.path.normpath(text) == text
            assert not text.startswith("/")


class TestShow:
    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            (b"plain name.tif", "plain name.tif"),
            ("µ-顕微鏡".encode(), "µ-顕微鏡"),
            (b"\xff\xfe", r"\xff\xfe"),
            (b"a\nb\tc", r"a\nb\tc"),
            (b"\x1b[2J", r"\x1b[2J"),
            ("a\u202eb".encode(), r"a\u202eb"),
            (b"", ""),
        ],
    )
    def test_says_a_name_so_that_it_can_be_read(self, name: bytes, shown: str) -> None:
        assert show(name) == shown

    @given(st.binary())
    def test_any_name_is_printable_and_can_be_stored(self, name: bytes) -> None:
        assert show(name).isprintable()
        assert show(name).encode() or not name


class TestTokens:
    def test_a_token_is_laid_once_and_adopted_after_that(self, tmp_path: Path, open_directory: Open) -> None:
        root = open_directory(tmp_path)
        assert tokens.read_token(root) is None
        token = tokens.lay_token(root)
        assert str(uuid.UUID(token)) == token
        laid = (tmp_path / ".exlab-root").stat()
        assert tokens.lay_token(root) == token
        assert tokens.read_token(root) == token
        again = (tmp_path / ".exlab-root").stat()
        assert (again.st_ino, again.st_mtime_ns) == (laid.st_ino, laid.st_mtime_ns)

    def test_another_programs_token_is_adopted(self, tmp_path: Path, open_directory: Open) -> None:
        token = uuid.uuid4()
        (tmp_path / ".exlab-root").write_text(f"  {{{str(token).upper()}}}\r\n")
        assert tokens.lay_token(open_directory(tmp_path)) == str(token)

    def test_two_roots_have_two_tokens(self, tmp_path: Path, open_directory: Open) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        laid = {tokens.lay_token(open_directory(tmp_path / name)) for name in "ab"}
        assert len(laid) == 2

    def test_the_right_token_passes(self, tmp_path: Path, open_directory: Open) -> None:
        root = open_directory(tmp_path)
        tokens.check_token(root, tokens.lay_token(root))

    @pytest.mark.parametrize("expected", ["", str(uuid.uuid4())])
    def test_a_wrong_token_is_told(self, tmp_path: Path, expected: str, open_directory: Open) -> None:
        root = open_directory(tmp_path)
        token = tokens.lay_token(root)
        with pytest.raises(WrongToken) as wrong:
            tokens.check_token(root, expected)
        assert wrong.value.found == token

    @pytest.mark.parametrize("expected", ["", str(uuid.uuid4())])
    def test_no_token_is_none(self, tmp_path: Path, expected: str, open_directory: Open) -> None:
        with pytest.raises(WrongToken) as wrong:
            tokens.check_token(open_directory(tmp_path), expected)
        assert wrong.value.found is None

    @pytest.mark.parametrize("content", [b"", b"\n", b"not a token", b"\xff" * 36, b"0" * 300, b"\0" * 36])
    def test_a_token_that_is_none_is_never_overwritten(
        self, tmp_path: Path, content: bytes, open_directory: Open
    ) -> None:
        (tmp_path / ".exlab-root").write_bytes(content)
        root = open_directory(tmp_path)
        with pytest.raises(ValueError):
            tokens.lay_token(root)
        with pytest.raises(WrongToken) as wrong:
            tokens.check_token(root, str(uuid.uuid4()))
        assert wrong.value.found == "unreadable"
        assert (tmp_path / ".exlab-root").read_bytes() == content

    @pytest.mark.parametrize("kind", ["symlink", "directory", "dangling symlink"])
    def test_a_token_behind_something_else_is_an_error(self, kind: str, tmp_path: Path, open_directory: Open) -> None:
        root = tmp_path / "root"
        root.mkdir()
        token = str(uuid.uuid4())
        if kind == "directory":
            (root / ".exlab-root").mkdir()
        else:
            if kind == "symlink":
                (tmp_path / "token").write_text(token)
            (root / ".exlab-root").symlink_to(tmp_path / "token")
        with pytest.raises(OSError, match=r"Is a directory|symbolic"):
            tokens.check_token(open_directory(root), token)
        with pytest.raises(OSError, match=r"Is a directory|symbolic"):
            tokens.lay_token(open_directory(root))
        assert kind != "dangling symlink" or not (tmp_path / "token").exists()

    def test_a_pipe_for_a_token_does_not_hang(self, tmp_path: Path, open_directory: Open) -> None:
        os.mkfifo(tmp_path / ".exlab-root")
        with pytest.raises(WrongToken):
            tokens.check_token(open_directory(tmp_path), str(uuid.uuid4()))

    def test_an_unreadable_token_is_an_error_and_not_missing(self, tmp_path: Path, open_directory: Open) -> None:
        token = tokens.lay_token(open_directory(tmp_path))
        (tmp_path / ".exlab-root").chmod(0)
        give_away(tmp_path)
        root = open_directory(tmp_path)
        with pytest.raises(PermissionError):
            as_ordinary_user(lambda: tokens.check_token(root, token))

    def test_an_empty_root_holds_nothing(self, tmp_path: Path, open_directory: Open) -> None:
        root = open_directory(tmp_path)
        (tmp_path / "lost+found").mkdir()
        assert not handles.holds_anything(root)
        (tmp_path / ".hidden").touch()
        assert handles.holds_anything(root)


class TestOpenBeneath:
    def test_opens_what_lies_beneath(self, tmp_path: Path, open_directory: Open) -> None:
        (tmp_path / "a/b").mkdir(parents=True)
        with handles.opened(handles.open_beneath(open_directory(tmp_path), b"a/b")) as descriptor:
            assert os.fstat(descriptor).st_ino == (tmp_path / "a/b").stat().st_ino
            assert not os.get_inheritable(descriptor)

    @pytest.mark.parametrize("path", [b"..", b"../root", b"a/../..", b"/", b"/etc", b"/proc/self/root"])
    def test_does_not_escape(self, tmp_path: Path, path: bytes, open_directory: Open) -> None:
        (tmp_path / "root/a").mkdir(parents=True)
        assert error_of(open_directory(tmp_path / "root"), path) == errno.EXDEV

    @pytest.mark.parametrize("target", ["/", "..", "inside", "nowhere"])
    @pytest.mark.parametrize("path", [b"link", b"link/sub", b"inside/../link"])
    def test_follows_no_link(self, tmp_path: Path, target: str, path: bytes, open_directory: Open) -> None:
        (tmp_path / "inside/sub").mkdir(parents=True)
        (tmp_path / "link").symlink_to(target)
        assert error_of(open_directory(tmp_path), path) in (errno.ELOOP, errno.ENOTDIR)

    def test_follows_no_magic_link(self, open_directory: Open) -> None:
        myself = open_directory(Path(f"/proc/{os.getpid()}"))
        assert error_of(myself, b"cwd") in (errno.ELOOP, errno.ENOTDIR)
        assert error_of(myself, b"fd/0", os.O_RDONLY) == errno.ELOOP

    def test_crosses_no_mount_even_of_the_same_filesystem(self, tmp_path: Path, open_directory: Open) -> None:
        (tmp_path / "elsewhere/deep").mkdir(parents=True)
        (tmp_path / "root/mounted").mkdir(parents=True)

        def on_a_bind_mount() -> tuple[int, int]:
            mount("--bind", tmp_path / "elsewhere", tmp_path / "root/mounted")
            root = handles.open_root(str(tmp_path / "root"))
            return error_of(root, b"mounted"), error_of(root, b"mounted/deep")

        assert with_own_mounts(on_a_bind_mount) == (errno.EXDEV, errno.EXDEV)

    def test_a_name_is_not_cut_off_at_a_zero_byte(self, tmp_path: Path, open_directory: Open) -> None:
        (tmp_path / "a").mkdir()
        assert error_of(open_directory(tmp_path), b"a\0b") == errno.EINVAL

    def test_says_what_is_missing(self, tmp_path: Path, open_directory: Open) -> None:
        with pytest.raises(FileNotFoundError) as missing:
            handles.open_beneath(open_directory(tmp_path), b"a/b")
        assert missing.value.filename == "a/b"
        assert error_of(open_directory(tmp_path), b"") == errno.ENOENT


def error_of(directory: int, path: bytes, flags: int = handles.DIRECTORY) -> int:
    with pytest.raises(OSError) as error:
        handles.open_beneath(directory, path, flags)
    return error.value.errno or 0


class TestOpenRoot:
    def test_refuses_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        with pytest.raises(OSError, match=r"Not a directory|symbolic"):
            handles.open_root(str(tmp_path / "link"))

    def test_refuses_a_file_and_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError):
            handles.open_root(str(tmp_path / "file"))
        with pytest.raises(FileNotFoundError):
            handles.open_root(str(tmp_path / "nowhere"))


class TestReadFile:
    def test_reads_no_more_than_one_byte_beyond_the_limit(self, tmp_path: Path, open_directory: Open) -> None:
        (tmp_path / "file").write_bytes(b"x" * 5_000_000)
        directory = open_directory(tmp_path)
        for limit in (0, 10, 1 << 20, (1 << 20) + 1, 4_999_999):
            assert len(handles.read_file(directory, b"file", limit)) == limit + 1
        for limit in (5_000_000, 5_000_001):
            assert len(handles.read_file(directory, b"file", limit)) == 5_000_000

    @pytest.mark.parametrize("kind", ["fifo", "directory", "socket"])
    def test_never_reads_what_is_no_file(self, kind: str, tmp_path: Path, open_directory: Open) -> None:
        path = tmp_path / "odd"
        if kind == "directory":
            path.mkdir()
        else:
            os.mknod(path, 0o600 | (stat.S_IFIFO if kind == "fifo" else stat.S_IFSOCK))
        with pytest.raises(OSError, match=r"not a regular file|No such device") as error:
            handles.read_file(open_directory(tmp_path), b"odd", 10)
        assert error.value.errno in (errno.EINVAL, errno.ENXIO)


def test_an_flock_excludes_another_descriptor_and_ends_with_its_block(tmp_path: Path) -> None:
    with (
        handles.opened(handles.open_root(str(tmp_path))) as one,
        handles.opened(handles.open_root(str(tmp_path))) as two,
    ):
        with handles.flocked(one), pytest.raises(BlockingIOError), handles.flocked(two):
            pass
        with handles.flocked(two):
            pass
