"""`sync_state.json` as a record: each file's size, time and verification, without a history."""

import functools
import hashlib
import json
import os
import re
from datetime import UTC, datetime
from typing import Any, NoReturn

from cleanup.storage import run_paths
from cleanup.storage.run_paths import RunPath, show
from cleanup.storage.staging.records import ingest_json as ingest
from cleanup.storage.staging.records.ingest_json import IngestError
from cleanup.storage.staging.records.record_format import ListedFile, NoCopy, NotCleared, Record, RecordFormat

VERSIONS = frozenset({"1.0"})
# About 400,000 files, which take half a gigabyte of memory during the read. A larger record is not accepted: it would
# take the memory that other programs on the lab PC need.
MAX_BYTES = 64 << 20
# `cleared_at` adds at most this size; a record without room for it is refused before the clear.
_CLEARED_BYTES = 64
# The kernel takes no longer path in one call.
MAX_PATH = 4000
_KEYS = frozenset({"schema_version", "cleared_at", "files"})
_FILE_KEYS = frozenset({"synced_signature", "verified_at", "keep_local"})
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_INTEGERS = range(-(1 << 63), 1 << 63)


class SyncState(RecordFormat):
    """The record of the newer wizard, read as strictly as `ingest.json`."""

    name = "sync_state"
    file = run_paths.SYNC_STATE
    max_bytes = MAX_BYTES

    def parse(self, data: bytes, *places: RunPath) -> Record:
        record = _load(data)
        listed = _listed(record)
        cleared_at = _instant(record.get("cleared_at"))
        if cleared_at is None and len(data) > MAX_BYTES - _CLEARED_BYTES:
            _unreadable(f"larger than {MAX_BYTES - _CLEARED_BYTES} bytes")
        return Record(format=self, data=data, listed=listed, digest=_digest(listed), cleared_at=cleared_at)

    def with_cleared(self, data: bytes, *, at: datetime, host: str) -> tuple[bytes, dict[str, Any]]:
        text = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return _encode(_load(data) | {"cleared_at": text}), {"state": "cleared", "at": text, "host": host}

    def message(self, final: bytes, *places: RunPath) -> list[dict[str, Any]]:
        record = self.parse(final, *places)
        if record.cleared_at is None:
            raise NotCleared("has no cleared_at")
        return [{"cleared_at": _load(final)["cleared_at"], "digest": record.digest}]

    def told(self, there: bytes, run_path: RunPath, message: list[dict[str, Any]]) -> bytes | None:
        (said,) = message
        record = self.parse(there, run_path)
        if record.digest != said["digest"]:
            raise NoCopy(f"{show(self.file)} on the NAS lists its files otherwise")
        if record.cleared_at is None:
            return _encode(_load(there) | {"cleared_at": said["cleared_at"]})
        if record.cleared_at != ingest.parse_instant(said["cleared_at"]):
            raise NoCopy(f"{show(self.file)} on the NAS was cleared at another time")
        return None


def _load(data: bytes) -> dict[str, Any]:
    record = ingest.load_strictly(data, MAX_BYTES)
    version = record.get("schema_version")
    if not isinstance(version, str):
        _unreadable("schema_version is no text")
    if version not in VERSIONS:
        raise IngestError("ingest_schema_unsupported", f"schema version {show(version[:64].encode())}")
    _expect_known(record, _KEYS, "the record")
    if not isinstance(record.get("files"), dict):
        _unreadable("files is no object")
    return record


def _listed(record: dict[str, Any]) -> dict[bytes, ListedFile]:
    return {_path(path): _file(path, entry) for path, entry in record["files"].items()}


def _expect_known(found: dict[str, Any], known: frozenset[str], where: str) -> None:
    unknown = sorted(found.keys() - known)
    if unknown:
        raise IngestError("ingest_schema_unsupported", f"{where} has the unknown key {show(unknown[0][:64].encode())}")


def _path(text: str) -> bytes:
    name = os.fsencode(text)
    parts = text.split("/")
    if not text or len(name) > MAX_PATH or text[0] == "\\" or _DRIVE.match(text):
        _unreadable(f"{_cut(text)} is no relative path")
    if any(part in ("", ".", "..") for part in parts) or ".." in text.split("\\"):
        _unreadable(f"{_cut(text)} is no relative path")
    return name


def _file(path: str, entry: object) -> ListedFile:
    if not isinstance(entry, dict):
        _unreadable(f"{_cut(path)} is no object")
    if not entry.keys() <= _FILE_KEYS:  # saves the text for hundreds of thousands of files
        _expect_known(entry, _FILE_KEYS, _cut(path))
    size, mtime_ns = _signature(path, entry.get("synced_signature"))
    keep_local = entry.get("keep_local", False)
    if not isinstance(keep_local, bool):
        _unreadable(f"keep_local of {_cut(path)} is neither true nor false")
    return ListedFile(
        size=size,
        mtime_ns=mtime_ns,
        verified_at=_instant(entry.get("verified_at"), path),
        keep_local=keep_local,
    )


def _signature(path: str, value: object) -> tuple[int | None, int | None]:
    if value is None:
        return None, None
    if not (isinstance(value, list) and len(value) == 2 and all(type(part) is int for part in value)):
        _unreadable(f"synced_signature of {_cut(path)} is no pair of whole numbers")
    size, mtime_ns = value
    if size < 0 or size not in _INTEGERS or mtime_ns not in _INTEGERS:
        _unreadable(f"synced_signature of {_cut(path)} is beyond all bounds")
    return size, mtime_ns


def _instant(value: object, path: str = "") -> datetime | None:
    if value is None:
        return None
    instant = _parse_instant(value) if isinstance(value, str) else None
    if instant is None:
        _unreadable(f"verified_at of {_cut(path)} is no instant" if path else "cleared_at is no instant")
    return instant


# Files that were verified together have the same instant.
_parse_instant = functools.lru_cache(maxsize=4096)(ingest.parse_instant)


def _digest(listed: dict[bytes, ListedFile]) -> str:
    # Without pins and `cleared_at`: they do not change a file.
    seen = hashlib.sha256()
    for path, file in sorted(listed.items()):
        at = file.verified_at.isoformat() if file.verified_at else None
        seen.update(repr((path, file.size, file.mtime_ns, at)).encode())
    return seen.hexdigest()


def _encode(record: dict[str, Any]) -> bytes:
    data = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
    _listed(_load(data))  # only readable bytes are written
    return data


def _cut(text: str) -> str:
    return show(text[:80].encode("utf-8", "backslashreplace"))


def _unreadable(detail: str) -> NoReturn:
    raise IngestError("ingest_unreadable", detail)
