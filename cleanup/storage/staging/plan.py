"""The plan of one clear: the entries that may go, written before the fence."""

import hashlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cleanup.storage.staging.run_tree import Entry

FORMAT = 1


class PlanError(Exception):
    """A plan is unreadable, or not the one its attempt names."""


@dataclass(frozen=True)
class Plan:
    """The entries of one run as seen, with attempt and run."""

    attempt: str
    run_path: str
    ino: int
    entries: tuple[Entry, ...]
    modified_ns: int | None = None

    @property
    def names(self) -> list[bytes]:
        return [entry.path for entry in self.entries if b"/" not in entry.path]


def encode(plan: Plan) -> bytes:
    """Returns the plan as JSON lines: a head, then the entries."""
    head = {"format": FORMAT, "attempt": plan.attempt, "run_path": plan.run_path, "ino": plan.ino}
    head["modified_ns"] = plan.modified_ns
    lines = [json.dumps(head)]
    lines += [
        json.dumps([os.fsdecode(e.path), e.is_file, e.ino, e.nlink, e.size, e.allocated, e.mtime_ns, e.ctime_ns])
        for e in plan.entries
    ]
    return "\n".join(lines).encode() + b"\n"


def decode(data: bytes, sha256: str) -> Plan:
    """Reads a plan. Raises PlanError for bytes of another SHA-256."""
    _expect(hashlib.sha256(data).hexdigest(), sha256)
    head_line, *rest = data.splitlines()
    head = _head(head_line)
    entries = tuple(map(entry, rest))
    return Plan(head["attempt"], head["run_path"], head["ino"], entries, head.get("modified_ns"))


def streamed(file: io.BufferedReader, sha256: str) -> Iterator[Entry]:
    """Yields the entries of an open plan, read twice. Raises PlanError as `decode`."""
    yield from map(entry, lines(file, sha256))


def lines(file: io.BufferedReader, sha256: str) -> Iterator[bytes]:
    """As `streamed`: the lines themselves, each for `entry`."""
    _expect(hashlib.file_digest(file, "sha256").hexdigest(), sha256)
    file.seek(0)
    _head(file.readline())
    yield from file


def entry(line: bytes) -> Entry:
    path, *rest = json.loads(line)
    return Entry(os.fsencode(path), *rest)


def _expect(found: str, sha256: str) -> None:
    if found != sha256:
        raise PlanError("the plan is not the one that the attempt names")


def _head(line: bytes) -> dict[str, Any]:
    head: dict[str, Any] = json.loads(line)
    if head["format"] != FORMAT:
        raise PlanError(f"plan format {head['format']} is not known here")
    return head
