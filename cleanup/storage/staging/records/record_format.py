"""The interface of all record formats of the wizard."""

import abc
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol

from cleanup.storage.run_paths import RunPath
from cleanup.storage.staging.records.ingest_json import HistoryEntry, IngestError


class NotCleared(IngestError):
    """Our final record does not say `cleared`."""

    def __init__(self, detail: str) -> None:
        super().__init__("ingest_disagrees", detail)


class NoCopy(IngestError):
    """The twin's record is no copy of ours or of its beginning."""

    def __init__(self, detail: str) -> None:
        super().__init__("ingest_disagrees", detail)


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One listed file: size in bytes and mtime when copied, None before."""

    size: int | None
    mtime_ns: int | None
    verified_at: datetime | None
    keep_local: bool


@dataclass(frozen=True)
class Record:
    """The content of one record.

    Without `history` the state follows from `listed`, the files by path, and the disk. `digest`: SHA-256 of `listed`.
    `cleared_at`: another program removed the staging copy.
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
        return sorted(path for path, file in self.listed.items() if file.keep_local)


class RecordFormat(abc.ABC):
    """One format of record. Methods raise IngestError for bytes they do not accept.

    `name` stands in the database, `file` in the run's `.exlab-wizard`.
    """

    name: ClassVar[str]
    file: ClassVar[bytes]
    max_bytes: ClassVar[int]

    @property
    def lock(self) -> bytes:
        """Returns the wizard's lock file."""
        return self.file + b".lock"

    @abc.abstractmethod
    def parse(self, data: bytes, *places: RunPath) -> Record:
        """Reads bytes strictly; a place that they name must be one of `places`."""

    @abc.abstractmethod
    def with_cleared(self, data: bytes, *, at: datetime, host: str) -> tuple[bytes, dict[str, Any]]:
        """Returns the bytes that also say `cleared`, and the event for the database."""

    @abc.abstractmethod
    def message(self, final: bytes, *places: RunPath) -> list[dict[str, Any]]:
        """Returns the JSON values for the twin's record, from our `final` bytes. Raises NotCleared."""

    @abc.abstractmethod
    def told(self, there: bytes, run_path: RunPath, message: list[dict[str, Any]]) -> bytes | None:
        """Returns the twin's new bytes; None if nothing changes. Raises NoCopy."""


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
    """How the data files on disk differ from a record's, by path.

    `unverified`: never compared with the NAS; `changed`: since the copying.
    """

    unlisted: tuple[bytes, ...] = ()
    unverified: tuple[bytes, ...] = ()
    changed: tuple[bytes, ...] = ()
    missing: tuple[bytes, ...] = ()

    @property
    def open_files(self) -> tuple[bytes, ...]:
        """Returns the files for which the record does not vouch."""
        return self.unlisted + self.unverified + self.changed


def compare(listed: Mapping[bytes, ListedFile], staged: Iterable[Staged]) -> Differences:
    """Compares a record's data files with those on disk; `listed` without metadata."""
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
