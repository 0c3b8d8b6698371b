"""The list of a cleared run's files: JSON Lines, one file a line, made without holding it in memory."""

import hashlib
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from cleanup.models import ClearAttempt
from cleanup.rules.policies.policy import ProofLevel
from cleanup.storage.data_directory import kept_receipts
from cleanup.storage.data_directory.datadir import DataDir, TombstoneError
from cleanup.storage.data_directory.kept_receipts import DigestSource, KeptFile
from cleanup.storage.staging.run_tree import MANIFEST_PATH

_NO_BYTES = hashlib.sha256().digest()
_RANKS = {DigestSource.NONE: 0, DigestSource.MANIFEST: 1, DigestSource.READ: 2}
_SOURCES = {rank: source for source, rank in _RANKS.items()}


@dataclass(frozen=True)
class FileList:
    """A written list: its names, their logical bytes, and how many names have a digest by whose word."""

    kept: KeptFile
    names: int
    bytes: int
    by: dict[str, int]


@dataclass
class _Lines:
    """The lines of a list, which can be asked for again; the counts are of the last time."""

    data: DataDir
    attempt: ClearAttempt
    digests: sqlite3.Connection
    names: int = 0
    size: int = 0
    by: Counter[str] = field(default_factory=Counter)

    def __iter__(self) -> Iterator[bytes]:
        self.names, self.size, self.by = 0, 0, Counter()
        for entry in self.data.planned(self.attempt.pk.hex, self.attempt.plan_sha256):
            if not entry.is_file:
                continue
            digest, source, kept = self._digest_of(entry.path, entry.size)
            self.names += 1
            self.size += entry.size
            self.by[source] += 1
            said = {
                "path": os.fsdecode(entry.path),
                "size": entry.size,
                "sha256": digest.hex() if digest else None,
                "digest": str(source),
                "kept": kept,
            }
            yield json.dumps(said, separators=(",", ":")).encode("ascii") + b"\n"

    def _digest_of(self, path: bytes, size: int) -> tuple[bytes, DigestSource, bool]:
        found = self.digests.execute("SELECT sha256, rank, kept FROM digest WHERE path = ?", (path,)).fetchone()
        if found is not None:
            return found[0], _SOURCES[found[1]], bool(found[2])
        # A lock of the wizard's may come and go until the end.
        return (b"", DigestSource.NONE, False) if size else (_NO_BYTES, DigestSource.READ, False)


def write(data: DataDir, attempt: ClearAttempt) -> FileList:
    """Write the list of what an attempt was authorised to remove. Raises OSError, PlanError, TombstoneError."""
    # A database of its own without a name lies on the disk and ends with its connection.
    with closing(sqlite3.connect("")) as digests:
        _collect(digests, data, attempt)
        lines = _Lines(data, attempt, digests)
        kept = kept_receipts.write(data, kept_receipts.list_name(attempt.pk.hex), lines)
        return FileList(kept, lines.names, lines.size, {str(source): lines.by[source] for source in DigestSource})


def _collect(digests: sqlite3.Connection, data: DataDir, attempt: ClearAttempt) -> None:
    digests.execute("PRAGMA cache_size = -8000")
    digests.execute("PRAGMA journal_mode = OFF")
    digests.execute("CREATE TABLE digest (path BLOB PRIMARY KEY, sha256 BLOB, rank INT, kept INT) WITHOUT ROWID")
    add = (
        "INSERT INTO digest VALUES (?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET"
        " sha256 = excluded.sha256, rank = excluded.rank, kept = excluded.kept WHERE excluded.rank >= digest.rank"
    )
    digests.executemany(add, _found(data, attempt))
    digests.commit()


def _found(data: DataDir, attempt: ClearAttempt) -> Iterator[tuple[bytes, bytes, int, bool]]:
    proof = attempt.proof
    compared = proof is not None and proof.kind == ProofLevel.CHECKSUM  # not where other bytes were accepted
    said = DigestSource.READ if compared else DigestSource.MANIFEST
    for path, digest, source, kept in kept_receipts.digests(data, attempt.pk.hex, by_manifest=said):
        if path == MANIFEST_PATH and proof and proof.manifest_sha256 not in ("", digest.hex()):
            raise TombstoneError("its manifest is not the one of the proof")
        yield path, digest, _RANKS[source], kept
