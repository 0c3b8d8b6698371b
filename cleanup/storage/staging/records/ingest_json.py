"""`ingest.json`: read strictly, because instrument PCs can write it, and written with one entry more."""

import contextlib
import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn

from cleanup.storage.run_paths import RunPath, show
from cleanup.storage.staging import near_misses

MAX_BYTES = 4 * 1024 * 1024
SCHEMA_MAJOR = 1
STATES = frozenset({"staging", "complete", "sync_queued", "sync_verified", "cleared"})
MAX_NESTING = 32
_SCHEMA = re.compile(rf"{SCHEMA_MAJOR}\.\d{{1,6}}", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})?", re.ASCII)
# Instants near the ends of the calendar overflow in a page's own zone.
_YEARS = range(1970, 9999)
_MAX_TEXT = 255


class IngestError(Exception):
    """Why a record is not accepted: a reason's code and the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class HistoryEntry:
    """One entry of the history; `at` is aware, None if unusable.

    `extra`: all other keys. `digest`: SHA-256 of the canonical JSON.
    """

    state: str
    at: datetime | None
    at_text: str
    host: str
    digest: str
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ingest:
    """The content of an `ingest.json`."""

    schema_version: str
    current_state: str
    history: tuple[HistoryEntry, ...]
    project_name: str


def parse_instant(value: object) -> datetime | None:
    """Returns an ISO 8601 instant (UTC without a zone), or None."""
    if not isinstance(value, str) or not _INSTANT.fullmatch(value):
        return None
    try:
        instant = datetime.fromisoformat(value)
        instant = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return instant if instant.year in _YEARS else None


def parse(data: bytes, run_path: RunPath) -> Ingest:
    """Reads the bytes of the `ingest.json` found at `run_path`.

    Raises IngestError with `ingest_unreadable`, `ingest_schema_unsupported` or `ingest_disagrees`.
    """
    record = _load(data)
    schema = _text(record, "schema_version")
    if not _SCHEMA.fullmatch(schema):
        raise IngestError("ingest_schema_unsupported", f"schema version {show(schema.encode())}")
    entries = record.get("history")
    if not isinstance(entries, list) or not entries:
        _unreadable("history is not a list of entries")
    history = tuple(_entry(entry, position) for position, entry in enumerate(entries))
    current = _state(record.get("current_state"), "current_state")
    if history[-1].state != current:
        _disagrees(f"current_state is {current}, the history ends with {history[-1].state}")
    _check_place(record, run_path)
    return Ingest(
        schema_version=schema,
        current_state=current,
        history=history,
        project_name=_text(record, "project_name", optional=True),
    )


def parse_at(data: bytes, *places: RunPath) -> tuple[Ingest, RunPath]:
    """As `parse`, for several places; returns also the named place."""
    first, *others = places
    try:
        return parse(data, first), first
    except IngestError as error:
        if error.reason != "ingest_disagrees":
            raise
        for place in others:
            with contextlib.suppress(IngestError):
                return parse(data, place), place
        raise


def with_cleared(data: bytes, *, at: datetime, host: str) -> tuple[bytes, dict[str, Any]]:
    """Returns the bytes with a `cleared` entry appended, and that entry.

    Keeps unknown keys. Raises IngestError if `data` is no JSON object.
    """
    record = _load(data)
    entry = {"state": "cleared", "at": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "host": host}
    record["history"] = [*record["history"], entry]
    record["current_state"] = "cleared"
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode(), entry


def digest(entry: dict[str, Any]) -> str:
    """Returns the SHA-256 of an entry's canonical JSON, independent of its format."""
    canonical = json.dumps(entry, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _load(data: bytes) -> dict[str, Any]:
    return load_strictly(data, MAX_BYTES)


def _encoded(data: bytes) -> str:
    encoding = near_misses.of_encoding(data)
    return encoding and f"it is {encoding}; the wizard writes plain UTF-8: let it write the record anew"


def load_strictly(data: bytes, max_bytes: int) -> dict[str, Any]:
    """Returns the JSON object of a record. Raises IngestError for JSON that a later reader may refuse."""
    if len(data) > max_bytes:
        _unreadable(f"larger than {max_bytes} bytes")
    if b"\\u0000" in data:
        _unreadable("holds a NUL character")  # no PostgreSQL column can keep it
    try:
        record = json.loads(
            data.decode("utf-8"), object_pairs_hook=_without_doubles, parse_constant=_no_constant, parse_float=_finite
        )
        # JSON may contain half a surrogate pair, which no database and no page can hold.
        json.dumps(record, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        _unreadable(_encoded(data) or "not UTF-8")
    except RecursionError:
        _unreadable("nested too deeply")
    except ValueError as error:
        _unreadable(_encoded(data) or f"no valid JSON: {error}")
    if not isinstance(record, dict):
        _unreadable("not a JSON object")
    if _nesting(record) > MAX_NESTING:
        _unreadable("nested too deeply")  # every later reader must be able to follow it
    return record


def _nesting(value: object) -> int:
    levels = 0
    within = [value]
    while within := [item for item in within if isinstance(item, (dict, list))]:
        levels += 1
        within = [inner for item in within for inner in (item.values() if isinstance(item, dict) else item)]
    return levels


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice")
    return result


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is beyond all bounds")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _unreadable(detail: str) -> NoReturn:
    raise IngestError("ingest_unreadable", detail)


def _disagrees(detail: str) -> NoReturn:
    raise IngestError("ingest_disagrees", detail)


def _text(record: dict[str, Any], key: str, *, optional: bool = False) -> str:
    value = record.get(key)
    if value is None and optional:
        return ""
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        _unreadable(f"{key} is no short text")
    return value


def _state(value: object, where: str) -> str:
    if not isinstance(value, str) or value not in STATES:
        _unreadable(f"{where} is no known state")
    return value


def _entry(entry: object, position: int) -> HistoryEntry:
    if not isinstance(entry, dict):
        _unreadable(f"history entry {position + 1} is no object")
    at_text = entry.get("at")
    return HistoryEntry(
        state=_state(entry.get("state"), f"the state of history entry {position + 1}"),
        at=parse_instant(at_text),
        at_text=at_text[:64] if isinstance(at_text, str) else "",
        host=_text(entry, "host", optional=True),
        digest=digest(entry),
        extra={key: value for key, value in entry.items() if key not in ("state", "at", "host")},
    )


def _check_place(record: dict[str, Any], run_path: RunPath) -> None:
    # The record's own text is compared, never opened as a path.
    expected = {
        "run_path": str(run_path),
        "equipment_id": run_path.equipment,
        "run_kind": run_path.run_kind,
    }
    for key, value in expected.items():
        if _text(record, key) != value:
            _disagrees(f"{key} is {show(record[key].encode())}, found at {run_path}")
