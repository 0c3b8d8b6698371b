"""Verify again: compares a run's bytes for the operator, and an admin may accept the result.

It may take hours, holds no lock that a clear needs, and changes neither side.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone
from django_q.models import OrmQ
from django_q.tasks import async_task

from cleanup.lab import task_queues
from cleanup.lab.roots import opening
from cleanup.lab.roots.opening import Unreachable
from cleanup.ledger import book, entries
from cleanup.models import AcceptedBytes, ByteCheck, LedgerKind, Run
from cleanup.rules import short_texts
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs import work_progress
from cleanup.runs.proofs import accepted_bytes, differences, full_comparison
from cleanup.runs.proofs.full_comparison import NotComparable

logger = logging.getLogger(__name__)

Phase = ByteCheck.Phase


class NotAccepted(Exception):
    """Bytes are not accepted, or an acceptance is not withdrawn; `said` tells why."""

    def __init__(self, said: str | Finding) -> None:
        text = said.said if isinstance(said, Finding) else said
        super().__init__(text)
        self.said = text


def request(run: Run, *, actor: str, now: datetime) -> ByteCheck:
    """Queue a comparison, row and task together; returns one that is under way instead."""
    try:
        with transaction.atomic():
            check = ByteCheck.objects.create(run=run, host=run.root.host, actor=actor, created_at=now, phase_at=now)
            queue = task_queues.queue_for(check.host)
            check.task_id = async_task(
                "cleanup.tasks.verify_again", str(check.pk), cluster=queue, task_name=f"verify {check.pk}"
            )
            check.save(update_fields=["task_id"])
    except IntegrityError:
        under_way = active(run)
        if under_way is None:
            raise
        return under_way
    return check


def active(run: Run) -> ByteCheck | None:
    """Return the comparison of a run that waits or is under way."""
    return run.byte_checks.filter(phase__in=ByteCheck.ACTIVE).first()


def latest(run: Run) -> ByteCheck | None:
    """Return the newest comparison of a run."""
    return run.byte_checks.order_by("-created_at", "-phase_at").first()


def perform(check: ByteCheck, *, now: datetime) -> ByteCheck:
    """Perform a waiting comparison of this host; another process's is returned as it stands."""
    if check.host != settings.EXLAB_HOST:
        return check
    with opening.data_dir().lock(f"verify-{check.run_id}") as free:
        if not free or not check.advance(Phase.QUEUED, Phase.RUNNING, now=timezone.now()):
            return check
        run = Run.objects.with_root().get(pk=check.run_id)
        try:
            answer = full_comparison.compare(run, now, _planned(check), work_progress.of_proof(check))
        except NotComparable as error:
            _end(check, error.finding)
            return check
        # First, so that a crash in between loses no difference.
        if answer.outcome == ByteCheck.Outcome.AS_MANIFEST:
            differences.forget(run)
        elif answer.named:
            # By its end: an interrupted reading that goes on must not count what it read before.
            differences.note(run, [file["path"] for file in answer.named], now=timezone.now())
        check.advance(Phase.RUNNING, Phase.DONE, now=timezone.now(), **asdict(answer))
        Run.objects.filter(pk=run.pk).doubt()
    logger.info("verified again %s: %s", run.run_path, check.outcome)
    return check


def settle_lost(*, host: str, now: datetime) -> int:
    """End a host's comparisons whose worker or task is gone; returns how many."""
    lost = 0
    tasks = {queued.task_id() for queued in OrmQ.objects.filter(key=task_queues.queue_for(host))}
    old = now - task_queues.LOST_AFTER
    for check in ByteCheck.objects.filter(host=host, phase__in=ByteCheck.ACTIVE, phase_at__lt=old):
        with opening.data_dir().lock(f"verify-{check.run_id}") as free:
            check.refresh_from_db()
            waits = check.phase == Phase.QUEUED and check.task_id in tasks
            if free and check.is_active and not waits:
                lost += _end(check, Finding(Reason.INTERRUPTED, "its worker or its task is gone"))
    return lost


def accept(check: ByteCheck, *, actor: str, note: str, now: datetime) -> AcceptedBytes:
    """Accept equal bytes of both sides in place of the run's manifest.

    Raises NotAccepted if a side has changed, or the NAS does not answer or is no second place; ValueError for an empty
    or too long reason.
    """
    note = short_texts.reason(note)
    run = Run.objects.with_root().get(pk=check.run_id)
    _refuse_unfit(check, run)
    _refuse_changed(check, run, now)
    with book.writing():
        staged = (
            Run.objects.select_for_update(no_key=True).staged().filter(pk=run.pk, state=State.SYNC_VERIFIED).first()
        )
        if staged is None or run.active_attempt:
            raise NotAccepted(Finding(Reason.ALREADY_CLEARING))
        if AcceptedBytes.objects.filter(check_here=check).exists():
            raise NotAccepted("These bytes were accepted already.")
        run.accepted_bytes.standing().update(withdrawn_at=now, withdrawn_by=actor)
        taken = AcceptedBytes.objects.create(
            run=run,
            check_here=check,
            actor=actor,
            note=note,
            at=now,
            digest=check.digest,
            evidence=check.evidence,
        )
        _write(run, actor, now, f"accepted {check.files} files, {check.bytes} bytes, digest {check.digest}; {note}")
    logger.info("bytes of %s accepted by %s: %s", run.run_path, actor, note)
    return taken


def withdraw(run: Run, *, actor: str, note: str, now: datetime) -> None:
    """Withdraw an acceptance; no later clear relies on it.

    Raises NotAccepted without one; ValueError for an empty or too long reason.
    """
    note = short_texts.reason(note)
    with book.writing():
        Run.objects.select_for_update(no_key=True).get(pk=run.pk)  # as a commit does: one of the two comes first
        if not run.accepted_bytes.standing().update(withdrawn_at=now, withdrawn_by=actor):
            raise NotAccepted("There is no acceptance any more that could be withdrawn.")
        _write(run, actor, now, f"acceptance withdrawn; {note}")


def _write(run: Run, actor: str, now: datetime, detail: str) -> None:
    Run.objects.filter(pk=run.pk).update(doubts=F("doubts") + 1)
    entries.write_entry(run, kind=LedgerKind.ACCEPTED, actor=actor, now=now, reason="", detail=detail)


def _refuse_unfit(check: ByteCheck, run: Run) -> None:
    if check.outcome != ByteCheck.Outcome.ALIKE or latest(run) != check:
        raise NotAccepted("The latest comparison does not show the same bytes on both sides.")
    if run.root.allow_same_filesystem:
        raise NotAccepted(Finding(Reason.NAS_SAME_FILESYSTEM, "On one disk no bytes are accepted."))
    if run.root.host != settings.EXLAB_HOST:
        raise NotAccepted(f"The disk belongs to host {run.root.host}; accept the bytes on a page of that host.")


def _refuse_changed(check: ByteCheck, run: Run, now: datetime) -> None:
    try:
        with opening.reached(run) as (opened, reader):
            seen = full_comparison.look_at(run, opened, reader, now)
    except Unreachable as error:
        raise NotAccepted(error.finding) from None
    except NotComparable as error:
        raise NotAccepted(error.finding) from None
    assert seen.scan is not None and seen.listing is not None  # noqa: S101
    if accepted_bytes.evidence(run, seen.scan, seen.listed, seen.listing) != check.evidence:
        raise NotAccepted("Something has changed here or on the NAS since it was compared. Verify it again here first.")


def _end(check: ByteCheck, finding: Finding) -> bool:
    fields = {"outcome": ByteCheck.Outcome.NOT_COMPARED, "reason": finding.reason, "detail": finding.detail}
    logger.info("not verified again %s: %s %s", check.run.run_path, finding.reason, finding.detail)
    return check.advance(check.phase, Phase.DONE, now=timezone.now(), **fields)


def _planned(check: ByteCheck) -> Callable[[int], None]:
    def planned(size: int) -> None:
        ByteCheck.objects.filter(pk=check.pk).update(planned_bytes=size, progress_at=timezone.now())

    return planned
