"""The history travels with the data: after a clear, the twin's record on the NAS gets the `cleared` entry as well.

An outbox: the clear sets `tell_after`, and this delivers what is due, apart from every clear and every recovery, so
that a NAS that hangs or may not be written keeps nobody waiting. What the twin's record becomes is decided and done in
`staging.twin`; here is only when, and what came of it.
"""

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from django.conf import settings
from django.utils import timezone

from cleanup import gathering
from cleanup.models import ClearAttempt, NasBreaker, Phase, Run
from cleanup.policy.gates import Finding
from cleanup.policy.lifecycle import State
from cleanup.policy.reasons import Reason
from cleanup.proving import Reader
from cleanup.staging import ingest, layout, nas
from cleanup.staging.datadir import TombstoneError

logger = logging.getLogger(__name__)

# After a vain try the next one comes in a minute, then in two, in four, at last once a day.
FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=24)
# Somebody has to do something first, so there is no hurry.
SLOW = frozenset({Reason.NAS_NOT_WRITABLE, Reason.UNSAFE_PATH, Reason.MOUNT_INSIDE, Reason.SPECIAL_FILE})
# Trying again would find the same: what lies there is no beginning of our history, or there is nothing.
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
# No try is begun in a pass that has taken this long: whoever calls has other work.
_PASS_SECONDS = 30.0


class _NotTold(Exception):
    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.detail)
        self.finding = finding


@dataclass(frozen=True)
class _Pass:
    """One pass over what is due: its instant, and when it begins nothing more (by the monotonic clock)."""

    now: datetime
    until: float

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until


def tell(*, now: datetime, runs: Iterable[Run] | None = None) -> int:
    """Tell the NAS what is due on this host, or of some of its runs; returns how many histories are there now.

    Never raises, and no other work depends on it: what fails is logged, written down and tried again.
    """
    try:
        # One pass at a time: where the NAS hangs, only one process has to wait for it.
        with gathering.data_dir().lock("telling") as free:
            return _tell_due(_Pass(now, time.monotonic() + _PASS_SECONDS), runs) if free else 0
    except Exception:  # nobody's clear or recovery may fail for a message about it
        logger.exception("the NAS cannot be told of what was cleared")
        return 0


def _tell_due(this: _Pass, runs: Iterable[Run] | None) -> int:
    due = ClearAttempt.objects.filter(
        run__root__host=settings.EXLAB_HOST, phase=Phase.DONE, told_at=None, tell_after__lte=this.now
    ).select_related("run__root")
    if runs is not None:
        due = due.filter(run__in=list(runs))
    by_nas = groupby(due.order_by("run__root__nas_path", "run__root__nas_token", "tell_after"), _nas_of)
    return sum(_tell_one_nas(path, token, list(attempts), this) for (path, token), attempts in by_nas)


def _nas_of(attempt: ClearAttempt) -> tuple[str, str]:
    return attempt.run.root.nas_path, attempt.run.root.nas_token


def _tell_one_nas(path: str, token: str, attempts: list[ClearAttempt], this: _Pass) -> int:
    breaker = NasBreaker.objects.filter(host=settings.EXLAB_HOST, token=token, open_until__gt=timezone.now()).first()
    if path and breaker is not None and breaker.open_until is not None:
        finding = Finding(Reason(breaker.reason), breaker.detail)
        for attempt in attempts:
            _note(attempt, finding, this.now, pause=breaker.open_until - timezone.now())
        return 0
    told = 0
    with gathering.reader_for(attempts[0].run.root) as reader:
        for attempt in attempts:
            # What hung once is not asked again in this pass, so the rest of its attempts need no time.
            if this.is_over and not reader.given_up:
                break
            told += _tell_one(attempt, reader, this.now)
    return told


def _tell_one(attempt: ClearAttempt, reader: Reader, now: datetime) -> bool:
    """Tell the NAS of one clear, and write down what came of it."""
    try:
        _hand_over(attempt, reader)
    except _NotTold as error:
        _note(attempt, error.finding, now)
        return False
    except Exception:  # one history must not keep the others from being told
        logger.exception("the NAS cannot be told of %s", attempt.run.run_path)
        _note(attempt, Finding(Reason.LOOK_FAILED), now)
        return False
    untold = ClearAttempt.objects.filter(pk=attempt.pk, told_at=None)
    if untold.update(told_at=now, tell_after=None, tell_reason="", tell_detail=""):
        logger.info("the NAS has the history of %s", attempt.run.run_path)
    return True


def _hand_over(attempt: ClearAttempt, reader: Reader) -> None:
    run = attempt.run
    if not run.root.nas_path:
        raise _NotTold(Finding(Reason.NAS_NOT_CONFIGURED))
    if reader.given_up:
        raise _NotTold(Finding(Reason.NAS_TIMEOUT, "it did not answer earlier in this pass"))
    try:
        reader.tell(run.run_path, _final_history(attempt), attempt.pk.hex)
    except nas.NasError as error:
        raise _NotTold(Finding(Reason(error.problem.reason), error.problem.detail)) from None


def _final_history(attempt: ClearAttempt) -> list[dict[str, Any]]:
    """The raw entries of the record that the clear published, from the attempt's tombstone."""
    try:
        data = gathering.data_dir().read_record(attempt.pk.hex)
        record = ingest.parse(data, layout.parse_run_path(attempt.run.run_path))
    except TombstoneError as error:
        raise _NotTold(Finding(Reason.TOMBSTONE_MISSING, f"no final record in it: {error}")) from None
    except ingest.IngestError as error:
        raise _NotTold(Finding(Reason(error.reason), f"in the tombstone: {error.detail}")) from None
    if record.current_state != State.CLEARED:
        raise _NotTold(Finding(Reason.INGEST_DISAGREES, f"the tombstone's record ends with {record.current_state}"))
    history: list[dict[str, Any]] = json.loads(data)["history"]
    return history


def _note(attempt: ClearAttempt, finding: Finding, now: datetime, *, pause: timedelta | None = None) -> None:
    """Write down why the NAS was not told, and when it is tried again. `pause`: nobody asked, so it was no try."""
    tries = attempt.tell_tries + (pause is None)
    after = None if finding.reason in FINAL else now + (pause or pause_after(tries, finding.reason))
    ClearAttempt.objects.filter(pk=attempt.pk, told_at=None, tell_tries=attempt.tell_tries).update(
        tell_after=after, tell_tries=tries, tell_reason=finding.reason, tell_detail=finding.detail
    )
    logger.info("the NAS was not told of %s: %s %s", attempt.run.run_path, finding.reason, finding.detail)


def pause_after(tries: int, reason: Reason) -> timedelta:
    """How long to wait after so many vain tries, the last of which ended with `reason`."""
    if reason in SLOW:
        return LONGEST_PAUSE
    doublings = min(max(tries - 1, 0), 11)
    return min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)
