"""What the two sides say arrives as it was said, or not at all."""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from cleanup.storage import handles, linux
from cleanup.storage.nas import protocol
from cleanup.storage.nas.protocol import BrokenFrame, FileBatch, Frames

pytestmark = pytest.mark.one_engine(by="function")

Said = list[tuple[bytes, protocol.TwinFile]]


def batch_of(status: linux.FileStatus, names: list[bytes], digest: bytes | None) -> tuple[FileBatch, Said]:
    batch = FileBatch(with_digests=digest is not None)
    for name in names:
        batch.add(name, status, digest or b"")
    marks = protocol.TwinFile(status.size, status.mtime_ns, status.ino, digest, status.ctime_ns)
    return batch, [(name, marks) for name in names]


@pytest.fixture
def said(tmp_path: Path) -> tuple[bytes, list[Any]]:
    """Frames of each kind, and what they say; the marks are the largest and smallest there are."""
    (tmp_path / "file").write_bytes(b"x")
    os.utime(tmp_path / "file", ns=(0, -1_500_000_000))
    with handles.opened(handles.open_root(str(tmp_path))) as here:
        status = linux.status(here, b"file")
    huge = status._replace(ino=(1 << 64) - 1, size=(1 << 63) - 1)
    listed, its_files = batch_of(huge, [b"\xff\n/a", b"-rf", b"b" * 4000], None)
    read, more = batch_of(status, [b"%04d" % number for number in range(500)], os.urandom(32))
    answers: list[dict[str, Any]] = [{"beat": 7}, {"files": listed}, {"files": read}, {"device": 1, "é": [None]}]
    return b"".join(map(protocol.frame, answers)), [answers[0], its_files, more, answers[3]]


def taken(parts: list[bytes]) -> list[Any]:
    frames, found = Frames(), list[Any]()
    for part in parts:
        frames.add(part)
        while (answer := frames.take()) is not None:
            found.append(list(answer["files"].files()) if "files" in answer else answer)
    return found


def test_what_is_said_arrives_in_whatever_pieces(said: tuple[bytes, list[Any]]) -> None:
    stream, expected = said
    assert taken([stream]) == expected
    some = random.Random(15)
    for size in (1, 7, 4096):
        cuts = sorted(some.sample(range(len(stream)), len(stream) // size))
        assert taken([stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]) == expected


def test_a_stream_that_is_cut_or_changed_says_no_more_than_what_came_whole(said: tuple[bytes, list[Any]]) -> None:
    stream, expected = said
    some = random.Random(16)
    for at in [*range(120), *some.sample(range(len(stream)), 300)]:
        cut = taken([stream[:at]])
        assert cut == expected[: len(cut)]
        assert len(cut) < len(expected)
        other = bytearray(stream)
        other[at] ^= 1 << some.randrange(8)
        frames, found = Frames(), list[Any]()
        frames.add(bytes(other))
        try:
            while (answer := frames.take()) is not None:
                found.append(list(answer["files"].files()) if "files" in answer else answer)
        except BrokenFrame:
            pass
        assert found == expected[: len(found)]
        assert len(found) < len(expected), at


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b"", b"l"),
        (b"\0\0\0\0", b"l"),
        (b"\2\0\0\0" + bytes(64) + b"only one", b"l"),
        (b"\1\0\0\0" + bytes(32) + b"a\0b", b"l"),
        (b"\1\0\0\0" + bytes(32), b"l"),
        (b"\xff\xff\xff\xff" + bytes(64), b"r"),
        (b"no JSON", b"j"),
        (b"[1]", b"j"),
        (b"{}", b"x"),
    ],
)
def test_a_whole_frame_with_other_contents_is_refused(payload: bytes, kind: bytes) -> None:
    frames = Frames()
    frames.add(protocol._HEADER.pack(protocol._MAGIC, kind, len(payload), protocol._checksum(kind, payload)) + payload)
    with pytest.raises(BrokenFrame):
        frames.take()


def test_a_length_beyond_the_limit_is_not_waited_for() -> None:
    frames = Frames()
    frames.add(protocol._HEADER.pack(protocol._MAGIC, b"j", protocol.MOST_BYTES + 1, 0))
    with pytest.raises(BrokenFrame, match="a frame of 268435457 bytes"):
        frames.take()
