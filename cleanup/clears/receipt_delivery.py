"""The receipts on their way to the NAS: each lies beside its twin's record, which has been told of the clear before.

No failure of theirs keeps another question from the NAS.
"""

import contextlib
from collections.abc import Iterable, Iterator
from datetime import datetime

from django.conf import settings
from django.db.models import QuerySet

from cleanup.clears import nas_history
from cleanup.lab.nas import nas_outbox
from cleanup.lab.nas.nas_outbox import Outbox, Undelivered
from cleanup.lab.nas.nas_roots import twin_then
from cleanup.lab.nas.nas_transport import Reader
from cleanup.lab.roots import opening
from cleanup.ledger.receipts import writing
from cleanup.models import Receipt, Run
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage import errors
from cleanup.storage.data_directory import kept_receipts
from cleanup.storage.data_directory.datadir import DataDir
from cleanup.storage.data_directory.kept_receipts import KeptFile
from cleanup.storage.nas import client

CHECKSUMS = "checksums.sha256"
# A name that is taken stays taken.
FINAL = nas_history.FINAL | {Reason.NAS_CHECKSUM_MISMATCH}


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

    Never raises, as `nas_outbox.deliver`.
    """
    return nas_outbox.deliver(_RECEIPTS, now=now, runs=runs)


def _items() -> "QuerySet[Receipt]":
    return Receipt.objects.filter(host=settings.EXLAB_HOST, attempt__told_at__isnull=False)


def _hand_over(receipt: Receipt, reader: Reader) -> None:
    attempt = receipt.attempt
    run = attempt.run
    place = twin_then(run, attempt.twin_path).path
    where = (place, run.record_path or run.run_path, nas_history.final_history(attempt))
    form = nas_history.form_of(attempt).name
    with _kept_here():
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


@contextlib.contextmanager
def _kept_here() -> Iterator[None]:
    # The NAS's own errors come from its process, as NasError.
    try:
        yield
    except (OSError, ValueError) as error:
        words = errors.words_of(error) if isinstance(error, OSError) else str(error)
        raise Undelivered(Finding(Reason.LOOK_FAILED, f"in the data directory: {words}")) from None


def _files_of(data: DataDir, receipt: Receipt) -> tuple[KeptFile, KeptFile, KeptFile]:
    name = receipt.attempt.pk.hex
    listed = kept_receipts.read(data, kept_receipts.list_name(name), receipt.list_sha256)
    signed = kept_receipts.read(data, kept_receipts.receipt_name(name, receipt.number), receipt.sha256)
    checksums = kept_receipts.checksums(data, name, receipt.number)
    return listed, signed, checksums


def _title(receipt: Receipt) -> str:
    return f"receipt {receipt.number} of {receipt.attempt.run.run_path}"


_RECEIPTS = Outbox("laying", "attempt__run", _items, _hand_over, _title, FINAL)
