import errno
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from cleanup.storage import handles
from cleanup.storage.errors import WrongToken
from cleanup.storage.root_files import tokens
from tests.storage.children import as_ordinary_user, give_away, mount, with_own_mounts

pytestmark = pytest.mark.one_engine(by="function")


Open = Callable[[Path], int]


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


def test_a_token_is_laid_whole_or_not_at_all(tmp_path: Path) -> None:
    """On a full disk an empty token file would stay and count as a wrong one."""
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
