"""The messages between the reader of a NAS and its server: JSON objects, one a line.

Before the result or a `problem` come `beat` (bytes read since), `file` and `unread`.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import linux
from cleanup.storage.mounts.places import Place
from cleanup.storage.nas.challenge import Ends

# How the detail of a silence begins; `is_silence` recognises it.
SILENT = "silent for"
_SILENCE = re.compile(rf"{SILENT} \S+ s")


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


@dataclass(frozen=True, slots=True)
class TwinFile:
    """One file of the twin; `digest` is None unless its bytes were read."""

    size: int
    mtime_ns: int
    ino: int
    digest: bytes | None
    ctime_ns: int = 0


@dataclass(frozen=True)
class Listing:
    """The twin's data files by relative path, and their device.

    `place`: the NAS root's. `record`: the bytes of `ingest.json`, None if unreadable. `origin`: as `records.origin_of`.
    `malformed`: names, also above the twin, that resemble a staging marker.
    """

    device: int
    files: dict[bytes, TwinFile]
    place: Place
    record: bytes | None = None
    malformed: tuple[str, ...] = ()
    origin: str = "-"


def file_line(path: bytes, status: linux.FileStatus, digest: bytes) -> dict[str, Any]:
    """Returns the line of one file; empty `digest`: bytes not read."""
    marks = [status.size, status.mtime_ns, status.ino]
    return {"file": [os.fsdecode(path), *marks, digest.hex(), status.ctime_ns]}


def read_file_line(line: dict[str, Any]) -> tuple[bytes, TwinFile]:
    """The inverse of `file_line`."""
    path, size, mtime_ns, ino, digest, ctime_ns = line["file"]
    return os.fsencode(path), TwinFile(size, mtime_ns, ino, bytes.fromhex(digest) if digest else None, ctime_ns)


def last_line(
    device: int, place: dict[str, Any], record: bytes | None, malformed: Sequence[str], origin: str
) -> dict[str, Any]:
    """Returns the line that ends a listing; `place` is `Place.as_json`."""
    said = None if record is None else record.decode("latin-1")
    return {"device": device, "place": place, "record": said, "malformed": list(malformed), "origin": origin}


def read_last_line(line: dict[str, Any], files: dict[bytes, TwinFile]) -> Listing:
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
