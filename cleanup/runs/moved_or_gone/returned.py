"""Returned runs: files of a cleared run that were copied back to its path, under a new row.

Our own `cleared` entry is ignored and the next clear publishes it again: a history has only one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from cleanup.models import IngestEvent, LedgerKind, Phase, Run
from cleanup.rules.states import State
from cleanup.storage.staging.records import Record, RecordFormat, Records
from cleanup.storage.staging.records import ingest_json as ingest


def former_of(cleared: Iterable[Run], record: Records | None) -> Run | None:
    """The run that we cleared at a path and whose files lie there again, as their record says; else None.

    `cleared`: all that were cleared there, the latest first. The record must be the one known at the clear, or a
    beginning of it: copies on a NAS are often made earlier.
    """
    if record is None:
        return None
    for former in cleared:
        if (entry := entry_of(former)) is not None and _continues(former, record, entry):
            return former if _is_over(former) else None
    return None


def entry_of(former: Run) -> dict[str, Any] | None:
    """Return our own clear's `cleared` entry; None if another program cleared the run."""
    event: IngestEvent | None = former.events.filter(state=State.CLEARED).first()
    if event is None or former.cleared_by:
        return None
    entry = {"state": State.CLEARED.value, "at": event.at_text, "host": event.host}
    return entry if ingest.digest(entry) == event.digest else None


def as_staged(run: Run, record: Records) -> Records:
    """Return a record without the `cleared` of our own clear of a returned run."""
    entry = entry_of(run.returned_from) if run.returned_from else None
    if entry is None:
        return record
    main, *beside = (_without(each, entry) for each in (record.main, *record.beside))
    return replace(record, main=main, beside=tuple(beside))


def says_no_more(run: Run, record: Record) -> bool:
    """Return whether a twin's record only tells of our former clear."""
    entry = entry_of(run.returned_from) if run.returned_from else None
    return entry is not None and _without(record, entry) != record


def with_cleared(run: Run, form: RecordFormat, data: bytes, *, at: datetime, host: str) -> tuple[bytes, dict[str, Any]]:
    """Return the record that a clear publishes, and its entry, as `RecordFormat.with_cleared`.

    A returned run gets its former entry, unless its history went on since.
    """
    entry = entry_of(run.returned_from) if run.returned_from else None
    if run.returned_from is None or entry is None or not _is_before(run, run.returned_from):
        return form.with_cleared(data, at=at, host=host)
    if _ends_so(form, data, entry):
        return data, entry
    written = ingest.parse_instant(entry["at"])
    return form.with_cleared(data, at=written or at, host=entry["host"])


def kept_from(run: Run, since: datetime | None) -> datetime | None:
    """Return the start of retention: for a returned run our first sight, else `since`."""
    return max(filter(None, (since, run.verified_at, run.returned_at))) if run.returned_at else since


def _continues(former: Run, record: Records, entry: dict[str, Any]) -> bool:
    if record.main.history:
        known = list(former.events.order_by("position").values_list("digest", flat=True))
        written = [each.digest for each in record.main.history]
        return written == known[: len(written)]
    same = former.origin != "-" and record.origin == former.origin
    return same and record.cleared_at in (None, ingest.parse_instant(entry["at"]))


def _is_over(former: Run) -> bool:
    # Leftovers of a clear are no copy.
    attempts = former.attempts.clears()
    return not former.active_attempt and (
        any(attempt.phase == Phase.DONE and not attempt.incomplete for attempt in attempts)
        # A clear that was brought back after a restore has no attempt; nothing lay at the run's path then.
        or former.ledger.filter(kind=LedgerKind.RECOVERED).exists()
    )


def _is_before(run: Run, former: Run) -> bool:
    return list(_digests(former))[:-1] == list(_digests(run))


def _digests(run: Run) -> Iterator[str]:
    return iter(run.events.order_by("position").values_list("digest", flat=True))


def _without(record: Record, entry: dict[str, Any]) -> Record:
    if len(record.history) > 1 and record.history[-1].digest == ingest.digest(entry):
        history = record.history[:-1]
        return replace(record, history=history, current_state=history[-1].state)
    if not record.history and record.cleared_at == ingest.parse_instant(entry["at"]):
        return replace(record, cleared_at=None)
    return record


def _ends_so(form: RecordFormat, data: bytes, entry: dict[str, Any]) -> bool:
    said = ingest.load_strictly(data, form.max_bytes)
    history = said.get("history")
    if isinstance(history, list) and history:
        return bool(ingest.digest(history[-1]) == ingest.digest(entry))
    return bool(said.get("cleared_at") == entry["at"])
