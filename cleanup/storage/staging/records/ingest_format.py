"""`ingest.json` as a record: an append-only history that ends with the state."""

import json
from datetime import datetime
from typing import Any

from cleanup.storage import run_paths
from cleanup.storage.run_paths import RunPath
from cleanup.storage.staging.records import ingest_json as ingest
from cleanup.storage.staging.records.record_format import NoCopy, NotCleared, Record, RecordFormat


class IngestRecord(RecordFormat):
    """The record of the wizard's watcher."""

    name = "ingest"
    file = run_paths.INGEST
    max_bytes = ingest.MAX_BYTES

    def parse(self, data: bytes, *places: RunPath) -> Record:
        record, _place = ingest.parse_at(data, *places)
        return Record(
            format=self,
            data=data,
            history=record.history,
            current_state=record.current_state,
            project_name=record.project_name,
        )

    def with_cleared(self, data: bytes, *, at: datetime, host: str) -> tuple[bytes, dict[str, Any]]:
        return ingest.with_cleared(data, at=at, host=host)

    def message(self, final: bytes, *places: RunPath) -> list[dict[str, Any]]:
        record = self.parse(final, *places)
        if record.current_state != "cleared":
            raise NotCleared(f"ends with {record.current_state}")
        history: list[dict[str, Any]] = json.loads(final)["history"]
        return history

    def told(self, there: bytes, run_path: RunPath, message: list[dict[str, Any]]) -> bytes | None:
        known = [entry.digest for entry in ingest.parse(there, run_path).history]
        ours = [ingest.digest(entry) for entry in message]
        for position, (theirs, here) in enumerate(zip(known, ours, strict=False), 1):
            if theirs != here:
                raise NoCopy(f"history entry {position} on the NAS is not the one that was here")
        if len(known) > len(ours):
            raise NoCopy(f"the history on the NAS has {len(known)} entries, the one here {len(ours)}")
        if known == ours:
            return None
        record = json.loads(there.decode())
        record |= {"history": message, "current_state": "cleared"}
        extended = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
        ingest.parse(extended, run_path)  # only readable bytes are written
        return extended
