"""The outbox of receipts to the NAS: each lies beside its twin's record, which has been told of the clear before.

Nothing waits for it, and no failure of it keeps another question from the NAS.
"""

import logging
import time
from collections.abc import Iterable
from datetime import datetime
from itertools import groupby

from django.conf import settings
from django.utils import timezone

from cleanup.clears import nas_history
from cleanup.clears.nas_history import Untold
from cleanup.lab.nas.nas_roots import NasRoot, twin_of, twin_then
from cleanup.lab.nas.nas_transport import Reader
from cleanup.lab.roots import opening
from cleanup.ledger.receipts import writing
from cleanup.models import NasBreaker, Receipt, Run
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage.data_directory import kept_receipts
from cleanup.storage.data_directory.datadir import DataDir
from cleanup.storage.data_directory.kept_receipts import KeptFile
from cleanup.storage.nas import client

logger = logging.getLogger(__name__)

CHECKSUMS = "checksums.sha256"
# Another try would find the same.
FINAL = nas_history.FINAL | {Reason.NAS_CHECKSUM_MISMATCH}
# A longer pass begins no further receipt: the caller has other work.
_PASS_SECONDS = 30.0


def tell_and_deliver(*, now: datetime, runs: Iterable[Run] | None = None) -> int:
    """Write the receipts that are due, tell the NAS of clears, and lay the receipts there.

    Of this host, or of some runs. Returns how many clears the NAS was told of. Never raises.
    """
    some = None if runs is None else list(runs)
    writing.write_due(now=now, runs=some)
    told = nas_history.tell(now=now, runs=some)
    deliver(now=now, runs=some)
    return told


def deliver(*, now: datetime, runs: Iterable[Run] | None = None) -> int:
    """Lay the receipts that are due on the NAS, of this host or of some runs; returns how many arrived.

    Never raises: what fails is logged, kept with the receipt and tried again.
    """
    try:
        due = Receipt.objects.filter(
            host=settings.EXLAB_HOST, told_at=None, tell_after__lte=now, attempt__told_at__isnull=False
        )
        if runs is not None:
            due = due.filter(attempt__run__in=list(runs))
        if not due.exists():
            return 0
        with opening.data_dir().lock("laying") as free:
            found = due.select_related("attempt__run__root").order_by("tell_after", "pk") if free else ()
            return _deliver_all(list(found), now)
    except Exception:  # a clear or a recovery must not fail for this
        logger.exception("no receipt can be laid on the NAS")
        return 0


def _deliver_all(due: list[Receipt], now: datetime) -> int:
    until, laid = time.monotonic() + _PASS_SECONDS, 0
    in_order = sorted(due, key=lambda receipt: (_nas_of(receipt).path, _nas_of(receipt).token))
    for root, receipts in groupby(in_order, _nas_of):
        laid += _deliver_to(root, list(receipts), now, until)
    return laid


def _nas_of(receipt: Receipt) -> NasRoot:
    return twin_of(receipt.attempt.run).root


def _deliver_to(root: NasRoot, receipts: list[Receipt], now: datetime, until: float) -> int:
    open_now = NasBreaker.objects.filter(host=settings.EXLAB_HOST, token=root.token, open_until__gt=timezone.now())
    if breaker := open_now.first():
        for receipt in receipts:
            _note(receipt, Finding(Reason(breaker.reason), breaker.detail), now)
        return 0
    laid = 0
    with opening.reader_for(receipts[0].attempt.run.root) as readers:
        reader = readers.of(receipts[0].attempt.run)
        for receipt in receipts:
            if time.monotonic() >= until and not reader.given_up:
                break
            laid += _deliver_one(receipt, reader, now)
    return laid


def _deliver_one(receipt: Receipt, reader: Reader, now: datetime) -> bool:
    run_path = receipt.attempt.run.run_path
    try:
        _lay(receipt, reader)
    except Untold as error:
        _note(receipt, error.finding, now)
        return False
    except client.NasError as error:
        _note(receipt, Finding(Reason(error.problem.reason), error.problem.detail), now)
        return False
    except (OSError, ValueError) as error:
        _note(receipt, Finding(Reason.LOOK_FAILED, f"in the data directory: {error}"), now)
        return False
    except Exception:  # one receipt must not stop the others
        logger.exception("receipt %d of %s cannot be laid on the NAS", receipt.number, run_path)
        _note(receipt, Finding(Reason.LOOK_FAILED), now)
        return False
    done = {"told_at": now, "tell_after": None, "tell_reason": "", "tell_detail": ""}
    if Receipt.objects.filter(pk=receipt.pk, told_at=None).update(**done):
        logger.info("the NAS has receipt %d of %s", receipt.number, run_path)
    return True


def _lay(receipt: Receipt, reader: Reader) -> None:
    attempt = receipt.attempt
    run = attempt.run
    place = twin_then(run, attempt.twin_path).path
    where = (place, run.record_path or run.run_path, nas_history.final_history(attempt))
    form = nas_history.form_of(attempt).name
    listed, signed, checksums = _files_of(opening.data_dir(), receipt)
    for kept in (listed, signed):
        reader.lay(*where, kept, form=form)
    try:
        # The first one has the name that people know; a name that is taken is never written again.
        first = KeptFile(CHECKSUMS, checksums.path, checksums.size, checksums.sha256)
        reader.lay(*where, first, form=form)
    except client.NasError as error:
        if error.problem.reason != Reason.NAS_CHECKSUM_MISMATCH:
            raise
        reader.lay(*where, checksums, form=form)


def _files_of(data: DataDir, receipt: Receipt) -> tuple[KeptFile, KeptFile, KeptFile]:
    name = receipt.attempt.pk.hex
    listed = kept_receipts.read(data, kept_receipts.list_name(name), receipt.list_sha256)
    signed = kept_receipts.read(data, kept_receipts.receipt_name(name, receipt.number), receipt.sha256)
    checksums = kept_receipts.checksums(data, name, receipt.number)
    return listed, signed, checksums


def _note(receipt: Receipt, finding: Finding, now: datetime) -> None:
    tries = receipt.tell_tries + 1
    after = None if finding.reason in FINAL else now + nas_history.pause_after(tries, finding.reason)
    Receipt.objects.filter(pk=receipt.pk, told_at=None, tell_tries=receipt.tell_tries).update(
        tell_after=after, tell_tries=tries, tell_reason=finding.reason, tell_detail=finding.detail
    )
    said = (receipt.number, receipt.attempt.run.run_path, finding.reason, finding.detail)
    logger.info("receipt %d of %s is not on the NAS: %s %s", *said)
