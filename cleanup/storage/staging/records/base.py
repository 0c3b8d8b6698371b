"""What every record of a run has in common, in each of the formats that the wizard writes."""

import abc
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol

from cleanup.storage.run_paths import RunPath
from cleanup.storage.staging.ingest import HistoryEntry, IngestError


class NotCleared(IngestError):
    """A record that was to say `cleared` does not; the detail goes on where `the record` began."""

    def __init__(self, detail: str) -> None:
        super().__init__("ingest_disagrees", detail)


class NoCopy(IngestError):
    """The twin's record is no copy of ours, or of its beginning."""

    def __init__(self, detail: str) -> None:
        super().__init__("ingest_disagrees", detail)


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One file as a record lists it: size in bytes and mtime at its copying, None before."""

    size: int | None
    mtime_ns: int | None
    verified_at: datetime | None
    keep_local: bool


@dataclass(frozen=True)
class Record:
    """What one record says of its run.

    With a history, `current_state` is that of its last entry. Without one, the state follows from `listed`, the files
    by path, and the disk; `digest` is the SHA-256 of what it says of them. `cleared_at`: another program removed the
    staging copy.
    """

    format: "RecordFormat"
    data: bytes = field(repr=False)
    history: tuple[HistoryEntry, ...] = ()
    current_state: str = ""
    project_name: str = ""
    listed: Mapping[bytes, ListedFile] = field(default_factory=dict, repr=False)
    digest: str = ""
    cleared_at: datetime | None = None

    @property
    def kept_local(self) -> list[bytes]:
        """The files that are pinned to the staging disk, by name."""
        return sorted(path for path, file in self.listed.items() if file.keep_local)


class RecordFormat(abc.ABC):
    """One kind of record: how it is read, how it says `cleared`, and what its twin on the NAS is told.

    `name` stands in the database, `file` in the run's `.exlab-wizard`. Every method raises IngestError for bytes that
    it does not accept.
    """

    name: ClassVar[str]
    file: ClassVar[bytes]
    max_bytes: ClassVar[int]

    @property
    def lock(self) -> bytes:
        """The name of the file by which the wizard locks this record."""
        return self.file + b".lock"

    @abc.abstractmethod
    def parse(self, data: bytes, *places: RunPath) -> Record:
        """Read the bytes that must name one of `places`, if they name any, strictly."""

    @abc.abstractmethod
    def with_cleared(self, data: bytes, *, at: datetime, host: str) -> tuple[bytes, dict[str, Any]]:
        """The bytes of an accepted record that says `cleared` as well, and the event for the database."""

    @abc.abstractmethod
    def message(self, final: bytes, *places: RunPath) -> list[dict[str, Any]]:
        """What the twin's record is told, as JSON values; `final` are the bytes that the clear published.

        Raises NotCleared.
        """

    @abc.abstractmethod
    def told(self, there: bytes, run_path: RunPath, message: list[dict[str, Any]]) -> bytes | None:
        """The bytes of the twin's record that say so too; None where they do already. Raises NoCopy."""


class Staged(Protocol):
    """One data file on the staging disk."""

    @property
    def path(self) -> bytes: ...
    @property
    def size(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...


@dataclass(frozen=True)
class Differences:
    """How the data files on disk differ from a record's, by name.

    `unlisted` are not in it, `unverified` were never compared with the NAS, `changed` differ in size or time from their
    copying, `missing` are gone.
    """

    unlisted: tuple[bytes, ...] = ()
    unverified: tuple[bytes, ...] = ()
    changed: tuple[bytes, ...] = ()
    missing: tuple[bytes, ...] = ()

    @property
    def open_files(self) -> tuple[bytes, ...]:
        """The files on the disk for which the record does not vouch."""
        return self.unlisted + self.unverified + self.changed


def compare(listed: Mapping[bytes, ListedFile], staged: Iterable[Staged]) -> Differences:
    """Compare a record's data files with those on disk; `listed` without metadata."""
    found = {file.path: file for file in staged}
    unlisted, unverified, changed = [], [], []
    for path, file in found.items():
        entry = listed.get(path)
        if entry is None:
            unlisted.append(path)
        elif entry.size is None or entry.verified_at is None:
            unverified.append(path)
        elif (entry.size, entry.mtime_ns) != (file.size, file.mtime_ns):
            changed.append(path)
    missing = [path for path in listed if path not in found]
    return Differences(*(tuple(sorted(paths)) for paths in (unlisted, unverified, changed, missing)))
