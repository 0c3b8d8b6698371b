"""The file of anchors: lines are added to a plain file of ours, and nothing else happens."""

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cleanup.storage import anchor_file, handles
from cleanup.storage.data_directory import data_place, kept_anchors

pytestmark = pytest.mark.one_engine(by="function")

NAME = anchor_file.name_of("0b4b2a3e-6c0f-4b0e-9f3c-123456789abc")


@pytest.fixture
def top(tmp_path: Path) -> Iterator[int]:
    with handles.opened(handles.open_root(str(tmp_path))) as directory:
        yield directory


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / NAME.decode()


def read(top: int) -> bytes:
    return b"".join(anchor_file.read(top, NAME))


def refusal(top: int) -> int | None:
    with pytest.raises(OSError) as refused:
        anchor_file.append(top, NAME, b"line")
    return refused.value.errno


def test_only_lines_are_added(tmp_path: Path, top: int, file: Path) -> None:
    (tmp_path / "neighbour").write_text("x")
    assert read(top) == b""
    for number in range(3):
        anchor_file.append(top, NAME, f"line {number}".encode())
    assert read(top) == file.read_bytes() == b"line 0\nline 1\nline 2\n"
    assert {path.name for path in tmp_path.iterdir()} == {file.name, "neighbour"}
    assert file.name == ".exlab-ledger-0b4b2a3e-6c0f-4b0e-9f3c-123456789abc"


def test_a_line_that_a_crash_has_torn_stays_a_line(top: int, file: Path) -> None:
    file.write_bytes(b"whole\nto")
    anchor_file.append(top, NAME, b"next")
    assert file.read_bytes() == b"whole\nto\nnext\n"


@pytest.mark.parametrize("name", ["", "../x", "0b4b2a3e", "0b4b2a3e-6c0f-4b0e-9f3c-123456789abc/x"])
def test_a_name_that_is_no_installation_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="UUID"):
        anchor_file.name_of(name)


@pytest.mark.parametrize(
    ("lay", "code"),
    [
        (lambda file: file.symlink_to("elsewhere"), errno.ELOOP),
        (lambda file: file.mkdir(), errno.EISDIR),
        (lambda file: os.mkfifo(file), errno.EINVAL),
        (lambda file: (file.with_name("other").touch(), file.hardlink_to(file.with_name("other"))), errno.EMLINK),
    ],
    ids=["link", "folder", "pipe", "two names"],
)
def test_what_is_no_plain_file_of_ours_is_left_alone(
    tmp_path: Path, top: int, file: Path, lay: Callable[[Path], Any], code: int
) -> None:
    lay(file)
    assert refusal(top) == code
    assert not (tmp_path / "elsewhere").exists()
    assert not file.is_file() or file.read_bytes() == b""


def test_after_a_full_file_the_next_one_gets_a_new_name(tmp_path: Path, top: int, file: Path) -> None:
    with file.open("wb") as grown:
        grown.truncate(anchor_file.MAX_BYTES - 4)
    anchor_file.append(top, NAME, b"next")
    anchor_file.append(top, NAME, b"after")
    assert file.stat().st_size == anchor_file.MAX_BYTES - 4
    second = file.with_name(f"{file.name}-2")
    assert second.read_bytes() == b"next\nafter\n"
    # A gap is passed over, and so is what has no such name.
    file.with_name(f"{file.name}-10").write_bytes(b"tenth\n")
    for other in ("-1", "-02", "-x", "-9999999", "2"):
        file.with_name(file.name + other).write_bytes(b"no\n")
    anchor_file.append(top, NAME, b"last")
    assert second.read_bytes() == b"next\nafter\n"
    assert anchor_file.numbers(top, NAME) == [1, 2, 10]
    assert read(top).endswith(b"\0\nnext\nafter\ntenth\nlast\n")


def test_what_has_the_next_name_and_is_no_plain_file_is_left_alone(top: int, file: Path) -> None:
    with file.open("wb") as grown:
        grown.truncate(anchor_file.MAX_BYTES)
    file.with_name(f"{file.name}-2").mkdir()
    assert refusal(top) == errno.EISDIR


def test_a_last_file_that_is_full_takes_no_line(top: int, file: Path) -> None:
    last = file.with_name(f"{file.name}-999999")
    with last.open("wb") as grown:
        grown.truncate(anchor_file.MAX_BYTES)
    assert refusal(top) == errno.EFBIG
    assert last.stat().st_size == anchor_file.MAX_BYTES


def test_a_reader_takes_no_more_than_a_full_file(top: int, file: Path) -> None:
    with file.open("wb") as grown:
        grown.truncate(anchor_file.MAX_BYTES + 100)
    parts = [len(part) for part in anchor_file.read(top, NAME)]
    assert sum(parts) == anchor_file.MAX_BYTES + 1, "and the end of its torn line"
    assert max(parts) <= anchor_file.PART


def test_a_file_that_stays_locked_is_left_alone(top: int, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchor_file, "_LOCK_PAUSE", 0.001)
    file.touch()
    with file.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert refusal(top) == errno.EAGAIN
    assert file.read_bytes() == b""


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_filesystem_that_locks_nothing_takes_lines_too(
    top: int, file: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(anchor_file.fcntl, "flock", refuse)
    anchor_file.append(top, NAME, b"line")
    assert file.read_bytes() == b"line\n"


def test_many_writers_lose_no_line(top: int, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchor_file, "_LOCK_TRIES", 10_000)
    monkeypatch.setattr(anchor_file, "_LOCK_PAUSE", 0.001)

    def write(name: int) -> None:
        for number in range(10):
            anchor_file.append(top, NAME, f"{name}.{number}".encode())

    writers = [threading.Thread(target=write, args=[name]) for name in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(file.read_text().split()) == sorted(f"{name}.{number}" for name in range(4) for number in range(10))


def test_a_data_directory_that_was_exchanged_gets_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_anchors.append(str(tmp_path), b"line")
    assert b"".join(kept_anchors.read(str(tmp_path))) == b"line\n"
    monkeypatch.setenv(data_place.VARIABLE, "1:1")
    with pytest.raises(OSError, match="replaced"):
        kept_anchors.append(str(tmp_path), b"line")
    assert (tmp_path / "ledger-anchors").read_bytes() == b"line\n"
