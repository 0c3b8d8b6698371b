"""Writes the receipts that are due. No clear waits for one: what fails is told on the page and tried again."""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Max, QuerySet

from cleanup.lab.roots import opening
from cleanup.ledger import book
from cleanup.ledger.receipts import document, files, keys, signing
from cleanup.ledger.receipts.keys import NoKey, SigningKey
from cleanup.models import ClearAttempt, LedgerHead, Phase, Receipt, Run
from cleanup.storage import errors
from cleanup.storage.data_directory import kept_receipts
from cleanup.storage.data_directory.datadir import DataDir, TombstoneError
from cleanup.storage.data_directory.kept_receipts import KeptFile
from cleanup.storage.staging.plan import PlanError

logger = logging.getLogger(__name__)

LOCK = "receipts"
FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=24)
# A longer pass leaves the rest to the next one.
_AT_ONCE = 200


class _GrewMeanwhile(Exception):
    """Another row of the ledger came while the receipt was written."""


def write_due(*, now: datetime, runs: Iterable[Run] | None = None) -> int:
    """Write the receipts that are due on this host, or of some of its runs; returns how many.

    Never raises: what fails is logged, kept with the attempt and tried again.
    """
    try:
        due = ClearAttempt.objects.clears().filter(host=settings.EXLAB_HOST, phase=Phase.DONE, receipt_after__lte=now)
        if runs is not None:
            due = due.filter(run__in=list(runs))
        if not due.exists():
            return 0
        try:
            with opening.data_dir().lock(LOCK) as free:
                return _write_all(due, now) if free else 0
        except OSError as error:
            for attempt in _first(due):
                _note(attempt, f"the data directory: {errors.words_of(error)}", now)
            return 0
    except Exception:  # a clear or a recovery must not fail for this
        logger.exception("no receipt can be written")
        return 0


def _first(due: "QuerySet[ClearAttempt]") -> list[ClearAttempt]:
    return list(due.select_related("run__root", "proof__accepted").order_by("receipt_after")[:_AT_ONCE])


def _write_all(due: "QuerySet[ClearAttempt]", now: datetime) -> int:
    found = _first(due)
    try:
        key = keys.current(now=now)
    except NoKey as error:
        for attempt in found:
            _note(attempt, f"no key: {error}", now)
        return 0
    return sum(_write_one(attempt, key, now) for attempt in found)


def _write_one(attempt: ClearAttempt, key: SigningKey, now: datetime) -> bool:
    try:
        _write(attempt, key, now)
    except _GrewMeanwhile:
        return False  # it stays due
    except (OSError, PlanError, TombstoneError) as error:
        _note(attempt, f"{type(error).__name__}: {error}", now)
        return False
    except Exception:  # one clear must not stop the others
        logger.exception("no receipt of %s can be written", attempt.run.run_path)
        _note(attempt, "see the log", now)
        return False
    return True


def _write(attempt: ClearAttempt, key: SigningKey, now: datetime) -> None:
    data, name = opening.data_dir(), attempt.pk.hex
    listed = files.write(data, attempt)
    number = (attempt.receipts.aggregate(last=Max("number"))["last"] or 0) + 1
    head, newest = book.head(), _newest_row(attempt)
    said = document.of_clear(attempt, listed, head, number=number, now=now)
    kept = kept_receipts.write(data, kept_receipts.receipt_name(name, number), [signing.sealed(said, key)])
    _write_checksums(data, name, number, (listed.kept, kept))
    with transaction.atomic():
        # The row's lock waits for a row of the ledger that is being written with this attempt.
        still = ClearAttempt.objects.filter(pk=attempt.pk, receipt_after=attempt.receipt_after)
        changes = {"receipt_after": None, "receipt_tries": 0, "receipt_problem": ""}
        if not still.update(**changes) or _newest_row(attempt) != newest:
            raise _GrewMeanwhile
        _add_row(attempt, listed.kept, kept, key, head, number=number, now=now)
    logger.info("receipt %d of %s is written", number, attempt.run.run_path)


def _add_row(
    attempt: ClearAttempt,
    listed: KeptFile,
    kept: KeptFile,
    key: SigningKey,
    head: LedgerHead,
    *,
    number: int,
    now: datetime,
) -> None:
    Receipt.objects.create(
        attempt=attempt,
        number=number,
        at=now,
        host=settings.EXLAB_HOST,
        sha256=kept.sha256,
        size=kept.size,
        list_sha256=listed.sha256,
        list_size=listed.size,
        fingerprint=key.fingerprint,
        position=head.position,
        tell_after=now,
    )


def _newest_row(attempt: ClearAttempt) -> int:
    return attempt.ledger.aggregate(newest=Max("pk"))["newest"] or 0


def _write_checksums(data: DataDir, attempt: str, number: int, kept: Iterable[KeptFile]) -> None:
    lines = [f"{one.sha256}  {one.name}\n".encode("ascii") for one in kept]
    kept_receipts.write(data, kept_receipts.checksums_name(attempt, number), lines)


def _note(attempt: ClearAttempt, problem: str, now: datetime) -> None:
    tries = attempt.receipt_tries + 1
    pause = min(FIRST_PAUSE * (1 << min(tries - 1, 11)), LONGEST_PAUSE)
    ClearAttempt.objects.filter(pk=attempt.pk, receipt_after=attempt.receipt_after).update(
        receipt_after=now + pause, receipt_tries=tries, receipt_problem=problem[:400]
    )
    logger.warning("no receipt of %s yet: %s", attempt.run.run_path, problem)
