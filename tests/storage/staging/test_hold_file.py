"""Nothing under the hold file's name is followed or waited for."""

import os
import pwd
from pathlib import Path

import pytest

from cleanup.storage import handles
from cleanup.storage.staging import hold_file
from cleanup.storage.staging.hold_file import HoldFile

pytestmark = pytest.mark.one_engine(by="function")


def read(run: Path) -> HoldFile | None:
    with handles.opened(handles.open_root(str(run))) as descriptor:
        return hold_file.read(descriptor)


def text_of(run: Path, content: bytes) -> str:
    (run / ".exlab-hold").write_bytes(content)
    found = read(run)
    assert found is not None
    return found.text


def test_without_one_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "tiles").mkdir()
    (tmp_path / "tiles/.exlab-hold").write_text("deeper down")
    assert read(tmp_path) is None


def test_says_what_the_file_says_and_whose_it_is(tmp_path: Path) -> None:
    (tmp_path / ".exlab-hold").write_text("for Ada, until the referees answer\n")
    assert read(tmp_path) == HoldFile("for Ada, until the referees answer", pwd.getpwuid(os.geteuid()).pw_name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody the host does not know")
def test_an_owner_without_a_name_is_a_number(tmp_path: Path) -> None:
    (tmp_path / ".exlab-hold").touch()
    os.chown(tmp_path / ".exlab-hold", 54_321, -1)
    assert read(tmp_path) == HoldFile("", "54321")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", ""),
        (b" \n\t ", ""),
        (b"two\r\nlines\n", "two lines"),
        ("für Ada".encode(), "für Ada"),
        ("für Ada".encode("utf-8-sig"), "für Ada"),
        ("für Ada\r\n".encode("utf-16"), "für Ada"),
        (b"\xfe\xff" + "für Ada\r\n".encode("utf-16-be"), "für Ada"),
        (b"zero\0byte \x1b[2J\x07", "zerobyte [2J"),
        (b"no \xff text", "no � text"),
    ],
)
def test_any_content_becomes_one_line_of_text(tmp_path: Path, content: bytes, text: str) -> None:
    assert text_of(tmp_path, content) == text


@pytest.mark.parametrize("content", [b"x" * 100_000, "ü".encode() * 100_000, ("😀" * 9_000).encode("utf-16")])
def test_no_more_than_500_characters_are_kept(tmp_path: Path, content: bytes) -> None:
    assert 499 <= len(text_of(tmp_path, content)) <= 500


@pytest.mark.parametrize("kind", ["link", "dangling link", "fifo", "folder"])
def test_what_is_no_file_holds_and_is_not_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ".exlab-hold"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        (tmp_path / "secret").write_text("not told")
        path.symlink_to("secret" if kind == "link" else "nowhere")
    found = read(tmp_path)
    assert found is not None
    assert found.text == ""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b".exlab-hold", True),
        (b".exlab-hold/note", True),
        (b".exlab-hold.txt", False),
        (b"tiles/.exlab-hold", False),
        (b".EXLAB-HOLD", False),
    ],
)
def test_knows_its_own_name(path: bytes, expected: bool) -> None:
    assert hold_file.is_hold(path) is expected
