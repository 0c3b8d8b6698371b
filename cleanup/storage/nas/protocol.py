"""The messages between the reader of a NAS and its server.

A request is a JSON object on a line. An answer is a JSON object or a batch of files, each in a frame: kind, length and
CRC-32, then the payload. Before the result or a `problem` come `beat` (bytes read since), `files` and `unread`.
"""

import binascii
import errno
import json
import os
import re
import struct
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any

from cleanup.rules.findings import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import linux
from cleanup.storage.mounts.places import Place
from cleanup.storage.nas.challenge import Ends
from cleanup.storage.nas.listed_twins import TwinFile as TwinFile

# How the detail of a silence begins; `is_silence` recognises it.
SILENT = "silent for"
_SILENCE = re.compile(rf"{SILENT} \S+ s")


# Of a frame's payload: far beyond the largest true one, so that a wrong length is seen at once.
MOST_BYTES = 256 << 20
_MAGIC = b"\xe1N"
_JSON, _LISTED, _READ = b"j", b"l", b"r"
_KINDS = (_JSON, _LISTED, _READ)
_HEADER = struct.Struct("<2scII")
_COUNT = struct.Struct("<I")
# Size, mtime, inode, ctime; and with the digest, in the order of TwinFile.
_LISTED_MARKS = struct.Struct("<qqQq")
_READ_MARKS = struct.Struct("<qqQ32sq")


class BrokenFrame(Exception):
    """What came from the server is no frame of this protocol."""


class NasError(Exception):
    """Why the NAS proves or takes nothing; `ill`: the NAS as a whole fails."""

    def __init__(self, problem: Finding, *, ill: bool = False) -> None:
        super().__init__(f"{problem.reason}: {problem.detail}")
        self.problem = problem
        self.ill = ill


def is_silence(reason: str, detail: str) -> bool:
    """Whether the NAS was asked and stayed silent, not only left unasked after that."""
    silent = reason == Reason.NAS_TIMEOUT and _SILENCE.fullmatch(detail)
    return reason == Reason.NAS_SLOW or bool(silent)


@dataclass(frozen=True)
class Listing:
    """The twin's data files by relative path, and their device.

    `place`: the NAS root's. `record`: the bytes of `ingest.json`, None if unreadable. `origin`: as `records.origin_of`.
    `malformed`: names, also above the twin, that resemble a staging marker.
    """

    device: int
    files: MutableMapping[bytes, TwinFile]
    place: Place
    record: bytes | None = None
    malformed: tuple[str, ...] = ()
    origin: str = "-"


class FileBatch:
    """Files of a listing on their way: marks packed one after the other, and the paths."""

    def __init__(self, *, with_digests: bool) -> None:
        self.with_digests = with_digests
        self._marks = bytearray()
        self._paths: list[bytes] = []

    def __len__(self) -> int:
        return len(self._paths)

    def add(self, path: bytes, status: linux.FileStatus, digest: bytes = b"") -> None:
        """Adds a file; `digest` in a batch with digests. Raises OSError for a time after the year 2262."""
        marks = status.size, status.mtime_ns, status.ino
        try:
            self._marks += (
                _READ_MARKS.pack(*marks, digest, status.ctime_ns)
                if self.with_digests
                else _LISTED_MARKS.pack(*marks, status.ctime_ns)
            )
        except struct.error:
            raise OSError(errno.EOVERFLOW, os.strerror(errno.EOVERFLOW), os.fsdecode(path)) from None
        self._paths.append(path)

    def files(self) -> Iterator[tuple[bytes, TwinFile]]:
        """Yields path and marks of each file."""
        if self.with_digests:
            return zip(self._paths, starmap(TwinFile, _READ_MARKS.iter_unpack(self._marks)), strict=True)
        return (
            (path, TwinFile(size, mtime_ns, ino, None, ctime_ns))
            for path, (size, mtime_ns, ino, ctime_ns) in zip(
                self._paths, _LISTED_MARKS.iter_unpack(self._marks), strict=True
            )
        )

    def as_payload(self) -> bytes:
        return b"".join((_COUNT.pack(len(self._paths)), self._marks, b"\0".join(self._paths)))

    @classmethod
    def from_payload(cls, payload: bytes, *, with_digests: bool) -> "FileBatch":
        """The inverse of `as_payload`. Raises BrokenFrame."""
        batch, marks = cls(with_digests=with_digests), _READ_MARKS if with_digests else _LISTED_MARKS
        if len(payload) < _COUNT.size:
            raise BrokenFrame("a batch without its number of files")
        (count,) = _COUNT.unpack_from(payload)
        end = _COUNT.size + count * marks.size
        batch._marks, batch._paths = bytearray(payload[_COUNT.size : end]), payload[end:].split(b"\0")
        if not count or len(batch._paths) != count or not all(batch._paths):
            raise BrokenFrame(f"a batch of {count} files has other paths")
        return batch


def frame(answer: dict[str, Any]) -> bytes:
    """Returns the frame of an answer; one of the key `files` holds a FileBatch."""
    batch = answer.get("files")
    if isinstance(batch, FileBatch):
        kind, payload = _READ if batch.with_digests else _LISTED, batch.as_payload()
    else:
        kind, payload = _JSON, json.dumps(answer).encode()
    return _HEADER.pack(_MAGIC, kind, len(payload), _checksum(kind, payload)) + payload


class Frames:
    """The frames that come in from a pipe, piece by piece."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._at = 0  # what is before it was taken

    def add(self, part: bytes) -> None:
        """Adds what was read from the pipe."""
        del self._received[: self._at]
        self._at = 0
        self._received += part

    def take(self) -> dict[str, Any] | None:
        """Returns the next answer that is whole, as `frame` took it; None: there is more to come.

        Raises BrokenFrame for what is no frame; the stream cannot be read on after that.
        """
        begin = self._at + _HEADER.size
        if len(self._received) < begin:
            return None
        magic, kind, length, checksum = _HEADER.unpack_from(self._received, self._at)
        if magic != _MAGIC or kind not in _KINDS:
            raise BrokenFrame("no frame where one begins")
        if length > MOST_BYTES:
            raise BrokenFrame(f"a frame of {length} bytes")
        if len(self._received) < begin + length:
            return None
        payload = bytes(memoryview(self._received)[begin : begin + length])
        self._at = begin + length
        if _checksum(kind, payload) != checksum:
            raise BrokenFrame("a frame with a wrong checksum")
        return _from_payload(kind, payload)


def _checksum(kind: bytes, payload: bytes) -> int:
    return binascii.crc32(payload, kind[0])


def _from_payload(kind: bytes, payload: bytes) -> dict[str, Any]:
    if kind != _JSON:
        return {"files": FileBatch.from_payload(payload, with_digests=kind == _READ)}
    try:
        answer = json.loads(payload)
    except ValueError:
        raise BrokenFrame("a message that is no JSON") from None
    if not isinstance(answer, dict):
        raise BrokenFrame("a message that is no JSON object")
    return answer


def last_line(
    device: int, place: dict[str, Any], record: bytes | None, malformed: Sequence[str], origin: str
) -> dict[str, Any]:
    """Returns the line that ends a listing; `place` is `Place.as_json`."""
    said = None if record is None else record.decode("latin-1")
    return {"device": device, "place": place, "record": said, "malformed": list(malformed), "origin": origin}


def read_last_line(line: dict[str, Any], files: MutableMapping[bytes, TwinFile]) -> Listing:
    """Returns the listing of `files` that this line ends."""
    record = None if line["record"] is None else line["record"].encode("latin-1")
    place = Place.from_json(line["place"])
    return Listing(line["device"], files, place, record, tuple(line["malformed"]), line["origin"])


def ends_as_json(files: Sequence[Ends]) -> list[Any]:
    """Returns the ends of files, for a request."""
    return [(os.fsdecode(file.path), file.size, file.digest.hex(), file.pieces) for file in files]


def ends_from_json(said: Sequence[Any]) -> list[Ends]:
    """The inverse of `ends_as_json`."""
    return [
        Ends(os.fsencode(path), size, bytes.fromhex(digest), tuple((at, length) for at, length in pieces))
        for path, size, digest, pieces in said
    ]
