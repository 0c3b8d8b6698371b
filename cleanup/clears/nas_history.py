"""An outbox for the twin's record on the NAS: it adds the `cleared` entry, and no clear waits for a NAS that hangs."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from django.conf import settings
from django.utils import timezone

from cleanup.lab.nas.nas_roots import NasRoot, record_places, twin_of, twin_then
from cleanup.lab.nas.nas_transport import Reader
from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, NasBreaker, Phase, Run
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage.data_directory.datadir import TombstoneError
from cleanup.storage.nas import client
from cleanup.storage.staging import fences, records
from cleanup.storage.staging.records import RecordFormat
from cleanup.storage.staging.records import ingest_json as ingest

logger = logging.getLogger(__name__)

# The pause doubles after each failed try, up to a day.
FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=24)
# The operator has to act first, so there is no hurry.
SLOW = frozenset({Reason.NAS_NOT_WRITABLE, Reason.UNSAFE_PATH, Reason.MOUNT_INSIDE, Reason.SPECIAL_FILE})
# Another try would find the same: there is no record, or it is not the beginning of our history.
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
# A longer pass begins no further try: the caller has other work.
_PASS_SECONDS = 30.0


class Untold(Exception):
    """Why the NAS takes nothing of a clear."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.detail)
        self.finding = finding


@dataclass(frozen=True)
class _Round:
    now: datetime
    until: float

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until


def tell(*, now: datetime, runs: Iterable[Run] | None = None) -> int:
    """Deliver what is due on this host, or of some of its runs; returns how many arrived.

    Never raises: what fails is logged, kept with the attempt and tried again.
    """
    try:
        # One pass at a time, so that only one process waits for a NAS that hangs.
        with opening.data_dir().lock("telling") as free:
            return _tell_due(_Round(now, time.monotonic() + _PASS_SECONDS), runs) if free else 0
    except Exception:  # a clear or a recovery must not fail for this
        logger.exception("the NAS cannot be told of what was cleared")
        return 0


def _tell_due(this: _Round, runs: Iterable[Run] | None) -> int:
    due = (
        ClearAttempt.objects.clears()
        .filter(run__root__host=settings.EXLAB_HOST, phase=Phase.DONE, told_at=None, tell_after__lte=this.now)
        .select_related("run__root")
    )
    if runs is not None:
        due = due.filter(run__in=list(runs))
    in_order = sorted(due.order_by("tell_after"), key=lambda attempt: (_nas_of(attempt).path, _nas_of(attempt).token))
    return sum(_tell_one_nas(root, list(attempts), this) for root, attempts in groupby(in_order, _nas_of))


def _nas_of(attempt: ClearAttempt) -> NasRoot:
    return twin_of(attempt.run).root


def _tell_one_nas(root: NasRoot, attempts: list[ClearAttempt], this: _Round) -> int:
    open_now = NasBreaker.objects.filter(host=settings.EXLAB_HOST, token=root.token, open_until__gt=timezone.now())
    breaker = open_now.first()
    if root.path and breaker is not None and breaker.open_until is not None:
        finding = Finding(Reason(breaker.reason), breaker.detail)
        for attempt in attempts:
            _note(attempt, finding, this.now, pause=breaker.open_until - timezone.now())
        return 0
    told = 0
    with opening.reader_for(attempts[0].run.root) as readers:
        reader = readers.of(attempts[0].run)
        for attempt in attempts:
            # A reader that has given up fails its other attempts at once, so they need no time.
            if this.is_over and not reader.given_up:
                break
            told += _tell_one(attempt, reader, this.now)
    return told


def _tell_one(attempt: ClearAttempt, reader: Reader, now: datetime) -> bool:
    try:
        _hand_over(attempt, reader)
    except Untold as error:
        _note(attempt, error.finding, now)
        return False
    except Exception:  # one history must not stop the others
        logger.exception("the NAS cannot be told of %s", attempt.run.run_path)
        _note(attempt, Finding(Reason.LOOK_FAILED), now)
        return False
    untold = ClearAttempt.objects.filter(pk=attempt.pk, told_at=None)
    if untold.update(told_at=now, tell_after=None, tell_reason="", tell_detail=""):
        logger.info("the NAS has the history of %s", attempt.run.run_path)
    return True


def _hand_over(attempt: ClearAttempt, reader: Reader) -> None:
    run = attempt.run
    twin = twin_of(run)
    if not twin.root.path:
        raise Untold(Finding(Reason.NAS_NOT_CONFIGURED))
    if reader.given_up:
        raise Untold(Finding(Reason.NAS_TIMEOUT, "it did not answer earlier in this pass"))
    try:
        form = form_of(attempt).name
        place = twin_then(run, attempt.twin_path).path
        reader.tell(place, run.record_path or run.run_path, final_history(attempt), attempt.pk.hex, form=form)
    except client.NasError as error:
        raise Untold(Finding(Reason(error.problem.reason), error.problem.detail)) from None


def form_of(attempt: ClearAttempt) -> RecordFormat:
    """Return the format of the record that the clear published."""
    return records.by_file(fences.record_file(attempt.prepared).decode())


def final_history(attempt: ClearAttempt) -> list[dict[str, Any]]:
    """Return what the twin's record is told of a clear. Raises Untold."""
    form = form_of(attempt)
    try:
        data = opening.data_dir().read_record(attempt.pk.hex, file=form.file.decode())
        return form.message(data, *record_places(attempt.run))
    except TombstoneError as error:
        reason = Reason.LOOK_FAILED if error.may_pass else Reason.TOMBSTONE_MISSING
        raise Untold(Finding(reason, f"no final record in it: {error}")) from None
    except records.NotCleared as error:
        raise Untold(Finding(Reason(error.reason), f"the tombstone's record {error.detail}")) from None
    except ingest.IngestError as error:
        raise Untold(Finding(Reason(error.reason), f"in the tombstone: {error.detail}")) from None


def _note(attempt: ClearAttempt, finding: Finding, now: datetime, *, pause: timedelta | None = None) -> None:
    """With `pause` the NAS was not asked: no try."""
    tries = attempt.tell_tries + (pause is None)
    after = None if finding.reason in FINAL else now + (pause or pause_after(tries, finding.reason))
    ClearAttempt.objects.filter(pk=attempt.pk, told_at=None, tell_tries=attempt.tell_tries).update(
        tell_after=after, tell_tries=tries, tell_reason=finding.reason, tell_detail=finding.detail
    )
    logger.info("the NAS was not told of %s: %s %s", attempt.run.run_path, finding.reason, finding.detail)


def pause_after(tries: int, reason: Reason) -> timedelta:
    """Return how long to wait after `tries` failed tries, the last for `reason`."""
    if reason in SLOW:
        return LONGEST_PAUSE
    doublings = min(max(tries - 1, 0), 11)
    return min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)
