"""A run's final record as its receipt tells it, where the archive does not hold the record."""

import json

from cleanup.models import IngestEvent, StagingRoot
from cleanup.monitoring.reconciliation.evidence import DoubtedClear, SignedClear, Story
from cleanup.storage.run_paths import RunPath
from cleanup.storage.staging import records
from cleanup.storage.staging.records import Record
from cleanup.storage.staging.records import ingest_json as ingest
from cleanup.storage.staging.records.ingest_json import HistoryEntry

# At this length an instant may have been cut.
_CUT = 64


def record_of(receipt: SignedClear, root: StagingRoot, path: RunPath) -> Record:
    """Return the record; the digests of its entries are those that it had. Raises DoubtedClear."""
    form = records.by_name(receipt.record_format)
    if form is records.SYNC_STATE and len(receipt.history) == 1:
        said = receipt.history[0]["said"]
        data = json.dumps({"cleared_at": said}).encode()
        return Record(format=form, data=data, cleared_at=ingest.parse_instant(said))
    known = _known(root, path)
    history = tuple(_entry(entry, position, known) for position, entry in enumerate(receipt.history))
    return Record(
        format=form, data=b"", history=history, current_state=history[-1].state, project_name=receipt.project_name
    )


def _known(root: StagingRoot, path: RunPath) -> dict[tuple[int, str], str]:
    events = IngestEvent.objects.filter(run__root=root, run__run_path=str(path)).order_by("pk")
    return {
        (event.position, _as_text(event.state, event.at_text, event.host, event.extra)): event.digest
        for event in events
    }


def _as_text(state: str, said: str, host: str, more: Story) -> str:
    return json.dumps([state, said, host, more], sort_keys=True)


def _entry(entry: Story, position: int, known: dict[tuple[int, str], str]) -> HistoryEntry:
    state, said, host, more = entry["state"], entry["said"], entry["host"], entry["more"]
    digest = known.get((position, _as_text(state, said, host, more))) or _digest(entry)
    return HistoryEntry(state, ingest.parse_instant(said), said, host, digest, more)


def _digest(entry: Story) -> str:
    # A record may lack these, and the receipt does not tell whether it did.
    if not entry["said"] or not entry["host"] or len(entry["said"]) >= _CUT:
        raise DoubtedClear("its history cannot be told exactly without the archive")
    said = {"state": entry["state"], "at": entry["said"], "host": entry["host"]}
    return ingest.digest({**said, **entry["more"]})
