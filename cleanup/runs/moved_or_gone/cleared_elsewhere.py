"""Runs that another program cleared: gone from the disk, cleared by their record on the NAS."""

import logging
import os
from dataclasses import replace
from datetime import datetime

from django.db import transaction

from cleanup.lab.nas.nas_roots import record_places, twin_of
from cleanup.lab.nas.nas_transport import Readers
from cleanup.models import Run
from cleanup.rules.states import State, first_illegal_step
from cleanup.runs import rows
from cleanup.runs.moved_or_gone import returned
from cleanup.runs.rows import WIZARD
from cleanup.storage.nas.client import NasError
from cleanup.storage.staging import records
from cleanup.storage.staging.records import Record
from cleanup.storage.staging.records import ingest_json as ingest

logger = logging.getLogger(__name__)


def cleared_record(run: Run, readers: Readers) -> Record | None:
    """Return the twin's record of a missing run if it says `cleared`; else None.

    The wizard writes it before it removes the staging copy.
    """
    twin = twin_of(run)
    if not twin.root.path:
        return None
    try:
        form = records.by_name(run.record_format)
        record = form.parse(readers.of(run).read_record(twin.path, os.fsdecode(form.file)), *record_places(run))
    except (NasError, ingest.IngestError):
        return None
    if returned.says_no_more(run, record):
        return None
    return record if record.current_state == State.CLEARED or record.cleared_at is not None else None


def _continued(run: Run, record: Record) -> Record | None:
    # A copy made before the verification lacks our last entries.
    ours = [
        ingest.HistoryEntry(event.state, event.at, event.at_text, event.host, event.digest, event.extra)
        for event in run.events.order_by("position")
    ]
    known, written = [entry.digest for entry in ours], [entry.digest for entry in record.history]
    if not known or known[0] != written[0]:
        return None
    if written[: len(known)] == known:
        whole = record.history
    elif written[:-1] == known[: len(written) - 1]:
        whole = (*ours, record.history[-1])
    else:
        return None
    if first_illegal_step([State(entry.state) for entry in whole]) is not None:
        return None
    return replace(record, history=whole)


def take_as_cleared(run: Run, record: Record, now: datetime) -> bool:
    """Mark a missing run as cleared by its twin's record; False if that does not continue the known history."""
    with transaction.atomic():
        locked = (
            Run.objects.select_for_update(no_key=True, of=("self",))
            .staged()
            .filter(pk=run.pk, identity=run.identity)
            .first()
        )
        if locked is None or locked.active_attempt or not _take_record(locked, record, now):
            return False
        Run.objects.filter(pk=run.pk).update(problem="", looked_at=now)
        Run.objects.filter(pk=run.pk).doubt()
    logger.info("%s was cleared by the wizard, as its record on the NAS says", run.run_path)
    return True


def _take_record(run: Run, record: Record, now: datetime) -> bool:
    # A record without a history must list the files as seen before.
    if record.history:
        whole = _continued(run, record)
        return whole is not None and rows.append(run, whole, now)
    if record.cleared_at is None or not run.record_sights.filter(digest=record.digest).exists():
        return False
    run.state, run.cleared_at, run.cleared_by = State.CLEARED, record.cleared_at, WIZARD
    run.save(update_fields=["state", "cleared_at", "cleared_by"])
    return True
