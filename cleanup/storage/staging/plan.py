"""The plan of one clear: the entries that may go, written before the fence."""

import functools
import hashlib
import io
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from cleanup.storage.packed_rows import TOGETHER
from cleanup.storage.staging import tree_entries
from cleanup.storage.staging.tree_entries import Count, Entry

FORMAT = 1
# Paths that stand in a line as they are.
_PLAIN = re.compile(rb"[ !#-\[\]-~]*")


class PlanError(Exception):
    """A plan is unreadable, or not the one its attempt names."""


@dataclass(frozen=True)
class Plan:
    """The entries of one run as seen, with attempt and run."""

    attempt: str
    run_path: str
    ino: int
    entries: Sequence[Entry]
    modified_ns: int | None = None

    @property
    def names(self) -> list[bytes]:
        return [entry.path for entry in self.entries if b"/" not in entry.path]

    @functools.cached_property
    def counted(self) -> Count:
        """Returns what goes with the plan, as `run_tree.count` of its entries."""
        return tree_entries.count(self.entries)


def encode(plan: Plan) -> bytes:
    """Returns the plan as JSON lines: a head, then the entries."""
    return b"".join(encoded(plan))


def encoded(plan: Plan) -> Iterator[bytes]:
    """Yields the bytes of `encode`, some hundred entries at a time."""
    head = {"format": FORMAT, "attempt": plan.attempt, "run_path": plan.run_path, "ino": plan.ino}
    head["modified_ns"] = plan.modified_ns
    yield json.dumps(head).encode() + b"\n"
    for part in tree_entries.parts_of(plan.entries):
        # To write the lines ourselves takes a fifth of the time.
        is_plain = _PLAIN.fullmatch(b"".join([entry.path for entry in part]))
        yield b"".join(map(_plain_line if is_plain else _line, part))


def _line(entry: Entry) -> bytes:
    path, *rest = entry
    return json.dumps([os.fsdecode(path), *rest]).encode() + b"\n"


def _plain_line(entry: Entry) -> bytes:
    path, is_file, ino, nlink, size, allocated, mtime_ns, ctime_ns = entry
    kind = b"true" if is_file else b"false"
    return b'["%b", %b, %d, %d, %d, %d, %d, %d]\n' % (path, kind, ino, nlink, size, allocated, mtime_ns, ctime_ns)


def decode(data: bytes, sha256: str) -> Plan:
    """Reads a plan. Raises PlanError for bytes of another SHA-256."""
    return read(io.BytesIO(data), sha256)


def read(file: IO[bytes], sha256: str) -> Plan:
    """Reads an open plan, twice. Raises PlanError as `decode`, OSError."""
    head = _checked(file, sha256)
    return Plan(
        head["attempt"], head["run_path"], head["ino"], tree_entries.packed(_entries(file)), head.get("modified_ns")
    )


def streamed(file: IO[bytes], sha256: str) -> Iterator[Entry]:
    """Yields the entries of an open plan, read twice. Raises PlanError as `decode`."""
    _checked(file, sha256)
    yield from _entries(file)


def lines(file: IO[bytes], sha256: str) -> Iterator[bytes]:
    """As `streamed`: the lines themselves, each for `entry`."""
    _checked(file, sha256)
    yield from file


def entry(line: bytes) -> Entry:
    path, *rest = json.loads(line)
    return Entry(os.fsencode(path), *rest)


def _entries(file: Iterable[bytes]) -> Iterator[Entry]:
    # Many lines at once cost half.
    while some := list(itertools.islice(file, TOGETHER)):
        for path, *rest in json.loads(b"[%b]" % b",".join(some)):
            yield Entry(os.fsencode(path), *rest)


def _checked(file: IO[bytes], sha256: str) -> dict[str, Any]:
    # Returns the head; the file then stands at the first entry.
    if hashlib.file_digest(file, "sha256").hexdigest() != sha256:  # type: ignore[arg-type]
        raise PlanError("the plan is not the one that the attempt names")
    file.seek(0)
    head: dict[str, Any] = json.loads(file.readline())
    if head["format"] != FORMAT:
        raise PlanError(f"plan format {head['format']} is not known here")
    return head
