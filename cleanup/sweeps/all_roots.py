"""The sweep of all roots: clears what the policy says is due, or shows what it would clear."""

import contextlib
import logging
from collections.abc import Iterable, Iterator
from datetime import datetime

from django.conf import settings
from django.db import connection

from cleanup.clears import recovery
from cleanup.clears.report import ClearReport, RootProblem
from cleanup.lab import alerts, readiness
from cleanup.lab.nas import kept_readers
from cleanup.lab.roots import root_lock
from cleanup.models import (
    AlertKind,
    Outcome,
    RetentionPolicy,
    StagingRoot,
    Sweep,
    SweepKind,
)
from cleanup.rules.anomalies import Clock
from cleanup.rules.reasons import Reason
from cleanup.sweeps import record
from cleanup.sweeps.one_root import RootSweep
from cleanup.sweeps.request import SweepRequest

logger = logging.getLogger(__name__)


def sweep(
    *,
    now: datetime,
    dry_run: bool = False,
    timed: bool = False,
    limit: int | None = None,
    roots: Iterable[StagingRoot] | None = None,
    actor: str = "",
    clock: Clock | None = None,
) -> ClearReport:
    """Clears every due run of scheduled policies, the oldest verification first; at most `limit` runs.

    A run that is refused or fails does not stop the others. A dry run decides the same and changes nothing. A `timed`
    sweep has no operator who watches: it only notes what is in rehearsal and stops before anything abnormal. `clock`
    shows it whether the clock jumped.
    """
    if not dry_run:
        recovery.recover(now=now)
    request = SweepRequest(now=now, dry_run=dry_run, timed=timed, limit=limit, actor=actor, clock=clock)
    report = ClearReport(dry_run, now)
    policies = RetentionPolicy.objects.scoped()
    hindrances = readiness.hindrances()
    for root in StagingRoot.objects.active() if roots is None else roots:
        try:
            with contextlib.nullcontext(True) if dry_run else root_lock.claim(root) as claimed, kept_readers.keeping():
                if claimed:
                    _go(RootSweep(root, request, policies, hindrances, report))
                else:
                    report.problems.append(RootProblem(root.name, Reason.SWEEP_RUNNING))
        except Exception as error:  # one bad root must not stop the sweeps of the others
            logger.exception("the sweep of %s failed", root)
            report.problems.append(RootProblem(root.name, Reason.SWEEP_FAILED, _said(error)))
            _refresh_connection()
            if not dry_run:
                with _only_logged("the sweep of %s failed, and that cannot be told", root):
                    _tell(root, _said(error), now)
        else:
            if claimed and not dry_run:
                alerts.end_alert(AlertKind.SCHEDULE, _subject(root), now=now)
    return report


def _go(one: RootSweep) -> None:
    """Sweep a claimed root; a failure is recorded while the root is still claimed."""
    try:
        one.go()
    except Exception as error:
        _refresh_connection()
        if not one.request.dry_run:
            with _only_logged("the sweep of %s failed, and that cannot be written down", one.root):
                _interrupt(one.root, _said(error))
        raise


def _interrupt(root: StagingRoot, detail: str) -> None:
    """End the record: the root is still claimed, so only this sweep runs."""
    running = Sweep.objects.filter(root=root, host=settings.EXLAB_HOST, outcome=Outcome.RUNNING)
    for killed in running.exclude(kind=SweepKind.DRY_RUN):
        record.interrupt(killed, reason=Reason.SWEEP_FAILED, detail=detail)


def _tell(root: StagingRoot, detail: str, now: datetime) -> None:
    words = f"{root.name}: {detail}"
    alerts.open_alert(AlertKind.SCHEDULE, _subject(root), reason=Reason.SWEEP_FAILED, now=now, detail=words, root=root)


def _subject(root: StagingRoot) -> str:
    return f"sweep:{root.pk}"


@contextlib.contextmanager
def _only_logged(words: str, root: StagingRoot) -> Iterator[None]:
    try:
        yield
    except Exception:  # most likely the database is away; the caller tells the first failure
        logger.exception(words, root)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _refresh_connection() -> None:
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()
