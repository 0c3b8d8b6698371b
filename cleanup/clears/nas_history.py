"""What the twin's record on the NAS is told of a clear: it adds the `cleared` entry, by the outbox."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from cleanup.lab.nas import nas_outbox
from cleanup.lab.nas.nas_outbox import Outbox, Undelivered
from cleanup.lab.nas.nas_roots import record_places, twin_then
from cleanup.lab.nas.nas_transport import Reader
from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, Phase, Run
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage.data_directory.datadir import TombstoneError
from cleanup.storage.staging import fences, records
from cleanup.storage.staging.records import RecordFormat
from cleanup.storage.staging.records import ingest_json as ingest

# There is no record, or it is not the beginning of our history.
FINAL = frozenset(
    {
        Reason.NAS_NOT_CONFIGURED,
        Reason.NAS_MISSING_FILE,
        Reason.INGEST_DISAGREES,
        Reason.INGEST_UNREADABLE,
        Reason.INGEST_SCHEMA_UNSUPPORTED,
        Reason.TOMBSTONE_MISSING,
    }
)


def tell(*, now: datetime, runs: Iterable[Run] | None = None) -> int:
    """Tell the NAS of the clears that are due on this host, or of some of its runs; returns how many it was told of.

    Never raises, as `nas_outbox.deliver`.
    """
    return nas_outbox.deliver(_HISTORIES, now=now, runs=runs)


def _items() -> "QuerySet[ClearAttempt]":
    return ClearAttempt.objects.clears().filter(run__root__host=settings.EXLAB_HOST, phase=Phase.DONE)


def _hand_over(attempt: ClearAttempt, reader: Reader) -> None:
    run, form = attempt.run, form_of(attempt).name
    place = twin_then(run, attempt.twin_path).path
    reader.tell(place, run.record_path or run.run_path, final_history(attempt), attempt.pk.hex, form=form)


def _title(attempt: ClearAttempt) -> str:
    return f"the history of {attempt.run.run_path}"


def form_of(attempt: ClearAttempt) -> RecordFormat:
    """Return the format of the record that the clear published."""
    return records.by_file(fences.record_file(attempt.prepared).decode())


def final_history(attempt: ClearAttempt) -> list[dict[str, Any]]:
    """Return what the twin's record is told of a clear. Raises Undelivered."""
    form = form_of(attempt)
    try:
        data = opening.data_dir().read_record(attempt.pk.hex, file=form.file.decode())
        return form.message(data, *record_places(attempt.run))
    except TombstoneError as error:
        reason = Reason.LOOK_FAILED if error.may_pass else Reason.TOMBSTONE_MISSING
        raise Undelivered(Finding(reason, f"no final record in it: {error}")) from None
    except records.NotCleared as error:
        raise Undelivered(Finding(Reason(error.reason), f"the tombstone's record {error.detail}")) from None
    except ingest.IngestError as error:
        raise Undelivered(Finding(Reason(error.reason), f"in the tombstone: {error.detail}")) from None


_HISTORIES = Outbox("telling", "run", _items, _hand_over, _title, FINAL)
