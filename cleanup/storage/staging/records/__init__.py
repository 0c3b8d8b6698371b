"""The records of a run. The first of `FORMATS` is its record; the others can only hold the run."""

import hashlib
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cleanup.storage import handles, linux, run_paths
from cleanup.storage.run_paths import RunPath, show
from cleanup.storage.staging import desktop_files, run_tree
from cleanup.storage.staging.records import ingest_json as ingest
from cleanup.storage.staging.records.ingest_format import IngestRecord
from cleanup.storage.staging.records.ingest_json import IngestError
from cleanup.storage.staging.records.people import people_in
from cleanup.storage.staging.records.record_format import (
    Differences,
    ListedFile,
    NoCopy,
    NotCleared,
    Record,
    RecordFormat,
    Staged,
    compare,
)
from cleanup.storage.staging.records.sync_state import SyncState

__all__ = [
    "FORMATS",
    "Differences",
    "ListedFile",
    "NoCopy",
    "NotCleared",
    "Record",
    "RecordFormat",
    "Records",
    "by_file",
    "by_name",
    "origin_in",
    "origin_of",
    "read",
]

INGEST = IngestRecord()
SYNC_STATE = SyncState()
# A clear writes into the first format that a run has, and removes that record last.
FORMATS: tuple[RecordFormat, ...] = (INGEST, SYNC_STATE)

# Keys of `creation.json` that the wizard changes; it writes the others once.
_CHANGING = frozenset({"sync_status", "validation_overrides"})
# The `sync_status` of a run whose data the wizard removed here, because the NAS has it (`nas_cleanup`).
_PRUNED = "cleaned"
# Prefix of an identity from `creation.json`, not from a history.
OF_CREATION = "creation."


@dataclass(frozen=True)
class Records:
    """A run's record, those beside it, and its identity (`origin`).

    `pruned_at`: when the wizard removed the data. `people`: whom `creation.json` names; None if it cannot be read.
    """

    main: Record
    beside: tuple[Record, ...]
    origin: str
    pruned_at: datetime | None = None
    people: tuple[str, ...] | None = None

    @property
    def cleared_at(self) -> datetime | None:
        """Returns when the wizard cleared the run, by a record without history."""
        return next((record.cleared_at for record in (self.main, *self.beside) if record.cleared_at), None)

    @property
    def kept_local(self) -> list[bytes]:
        return sorted({path for record in (self.main, *self.beside) for path in record.kept_local})

    @property
    def asks_the_tree(self) -> bool:
        """Whether the state depends on the files on disk."""
        return not self.main.history or self.cleared_at is not None or self.pruned_at is not None

    @property
    def may_be_pruned(self) -> bool:
        # The wizard prunes only after it has verified the copy.
        return self.pruned_at is not None and (not self.main.history or self.main.current_state == "sync_verified")

    def compare(self, staged: Sequence[Staged], desktop: Collection[bytes] = ()) -> Differences:
        """Returns how the data files differ from a record's; `desktop`: paths that are no data."""
        for record in (self.main, *self.beside):
            if not record.history:
                # Metadata changes as the wizard works, and a hold file may go.
                data = {path: file for path, file in record.listed.items() if run_tree.is_data(path)}
                expected = desktop_files.expected(data, {file.path for file in staged}, desktop)
                return compare({path: data[path] for path in expected}, staged)
        return Differences()

    def state(self, staged: Sequence[Staged], differences: Differences, *, whole: bool = True) -> str:
        """Returns the state by record and data files; `whole`: nothing else lies there or is hidden."""
        if (self.cleared_at is not None or self.may_be_pruned) and not staged and whole:
            return "cleared"
        if self.main.history:
            return self.main.current_state
        if staged and not differences.open_files:
            return "sync_verified"
        return "sync_queued" if any(file.size is not None for file in self.main.listed.values()) else "staging"

    @property
    def verified_at(self) -> datetime | None:
        listed = self.main.listed.items()
        return max(
            (file.verified_at for path, file in listed if file.verified_at and run_tree.is_data(path)), default=None
        )


def by_name(name: str) -> RecordFormat:
    """Returns the format with this database name. Raises KeyError."""
    return {form.name: form for form in FORMATS}[name]


def by_file(name: str) -> RecordFormat:
    """Returns the format with this file name. Raises KeyError."""
    return {form.file.decode(): form for form in FORMATS}[name]


def read(run: int, *places: RunPath) -> Records:
    """Returns the accepted records of an open run at one of `places`. Raises IngestError."""
    found = [record for record in (_read_one(run, form, *places) for form in FORMATS) if record is not None]
    if not found:
        raise IngestError("ingest_unreadable", "there is none")
    main, *beside = found
    origin = main.history[0].digest[:32] if main.history else origin_of(run)
    try:
        creation = _creation(run)
    except (OSError, IngestError):
        return Records(main, tuple(beside), origin)
    return Records(main, tuple(beside), origin, _pruned_at(run, creation), people_in(creation))


def _read_one(run: int, form: RecordFormat, *places: RunPath) -> Record | None:
    try:
        data = handles.read_file(run, run_paths.METADATA + b"/" + form.file, form.max_bytes)
        return form.parse(data, *places)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason, detail = "ingest_unreadable", os.strerror(error.errno or 0)
    except IngestError as error:
        reason, detail = error.reason, error.detail
    raise IngestError(reason, detail if form is INGEST else f"{show(form.file)}: {detail}")


def origin_of(run: int) -> str:
    """Returns the digest of the lasting keys in `creation.json`, or `-`. Raises IngestError."""
    try:
        said = _creation(run)
    except FileNotFoundError:
        return "-"
    except OSError as error:
        raise IngestError("ingest_unreadable", f"creation.json: {os.strerror(error.errno or 0)}") from None
    except IngestError as error:
        raise IngestError(error.reason, f"creation.json: {error.detail}") from None
    return _origin(said)


def origin_in(creation: bytes) -> str:
    """As `origin_of`, from the bytes of `creation.json`. Raises IngestError."""
    return _origin(ingest.load_strictly(creation, ingest.MAX_BYTES))


def _origin(said: dict[str, Any]) -> str:
    lasting = {key: value for key, value in said.items() if key not in _CHANGING}
    canonical = json.dumps(lasting, sort_keys=True, separators=(",", ":"))
    return OF_CREATION + hashlib.sha256(canonical.encode()).hexdigest()[:32]


def _creation(run: int) -> dict[str, Any]:
    data = handles.read_file(run, run_paths.METADATA + b"/" + run_paths.CREATION, ingest.MAX_BYTES)
    return ingest.load_strictly(data, ingest.MAX_BYTES)


def _pruned_at(run: int, creation: dict[str, Any]) -> datetime | None:
    # `creation.json` names no time, so its own time is taken.
    if creation.get("sync_status") != _PRUNED:
        return None
    try:
        with handles.opened(handles.open_beneath(run, run_paths.METADATA)) as folder:
            written = linux.status(folder, run_paths.CREATION).mtime_ns
        return datetime.fromtimestamp(written // 1_000_000_000, UTC)
    except (OSError, OverflowError, ValueError):
        return None
