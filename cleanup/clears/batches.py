"""Batches of clears: request, pause, go on, stop. A request is queued whole, and only if it equals its preview."""

import logging
import uuid
from datetime import datetime, timedelta

from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from cleanup.clears import queue, retries, waiting_batches
from cleanup.clears.preview import ClearPreview, RequestedRuns, preview
from cleanup.lab import days
from cleanup.lab.people import permissions
from cleanup.lab.roots import opening
from cleanup.ledger import book, entries
from cleanup.models import ClearAttempt, ClearBatch, LedgerKind, Phase, Run, RunQuerySet
from cleanup.rules.reasons import Reason

logger = logging.getLogger(__name__)

# An older pause may be forgotten; the pages name at most this many such batches.
FORGOTTEN_AFTER = timedelta(hours=1)
FORGOTTEN_AT_ONCE = 20


class RunsChanged(Exception):
    """The runs differ from what was shown; `preview` shows them now."""

    def __init__(self, preview: ClearPreview) -> None:
        super().__init__("the runs are not as they were shown")
        self.preview = preview


class NotConfirmed(Exception):
    """The number that the preview asks for was not typed."""

    def __init__(self, preview: ClearPreview) -> None:
        super().__init__(f"{preview.number} was not typed")
        self.preview = preview


def place(
    user: User,
    asked: RequestedRuns,
    *,
    digest: str,
    key: uuid.UUID,
    typed: int | None = None,
    note: str = "",
    starts_at: datetime | None = None,
    now: datetime,
) -> ClearBatch:
    """Queue the clears that a preview showed, with their tasks, in one transaction; with `starts_at` they wait.

    `digest` and `key` come from the preview; the same request twice gives one batch. Raises RunsChanged, NotConfirmed
    or AlreadyClearing with nothing queued.
    """
    opening.data_dir().relieve()
    with transaction.atomic():
        _lock(permissions.runs(user).filter(pk__in=list(asked.marks)))
        permissions.ask_anew(user)
        placed = ClearBatch.objects.filter(pk=key, actor=user.get_username(), digest=digest).first()
        if placed is not None:
            return placed
        shown = _expect_as_shown(user, asked, digest, typed, now)
        if ClearBatch.objects.filter(pk=key).exists():  # another user's, or made from another preview
            raise RunsChanged(shown)
        batch = ClearBatch.objects.create(
            pk=key, actor=user.get_username(), note=note, digest=digest, created_at=now, starts_at=starts_at
        )
        if starts_at is None:
            queue.request_many([(item.run, item.policy) for item in shown.going], batch=batch, now=now)
        else:
            waiting_batches.keep(batch, shown.going)
    return batch


def is_placed(key: uuid.UUID | None) -> bool:
    """Return whether a batch with this key exists."""
    return key is not None and ClearBatch.objects.filter(pk=key).exists()


def place_one(
    user: User, run: Run, *, digest: str, typed: int | None = None, note: str = "", now: datetime
) -> ClearAttempt:
    """Queue the clear of one run as its preview showed it, without a batch. Raises as `place`."""
    opening.data_dir().relieve()
    asked = RequestedRuns.of([run.pk])
    with transaction.atomic():
        _lock(permissions.runs(user).filter(pk=run.pk))
        permissions.ask_anew(user)
        (item,) = _expect_as_shown(user, asked, digest, typed, now).going
        return queue.request_clear(item.run, actor=user.get_username(), note=note, now=now)


def _lock(runs: RunQuerySet) -> None:
    # A hold, a look and an attempt lock the same rows. Always in the same order, against deadlocks.
    list(runs.order_by("pk").select_for_update(no_key=True).values_list("pk", flat=True))


def _expect_as_shown(user: User, asked: RequestedRuns, digest: str, typed: int | None, now: datetime) -> ClearPreview:
    found = preview(user, asked, now)
    if found.digest != digest or not found.going:
        raise RunsChanged(found)
    if found.confirms and typed != found.number:
        raise NotConfirmed(found)
    return found


def pause(batch: ClearBatch, *, actor: str, now: datetime) -> bool:
    """Let no further attempt of a batch begin; runs under way are finished. False: nothing to pause.

    When this returns, no waiting attempt can begin.
    """
    if not _to_come(batch).exists():
        return False
    open_one = ClearBatch.objects.filter(pk=batch.pk, paused_at=None, stopped_at=None)
    return bool(open_one.update(paused_at=now, paused_by=actor))


def resume(batch: ClearBatch, *, now: datetime) -> bool:
    """Queue a paused batch's waiting attempts again. False: it was not paused."""
    with transaction.atomic():
        paused = _locked(batch, paused_at__isnull=False, stopped_at=None)
        if paused is None or paused.paused_at is None:
            return False
        seconds = paused.paused_seconds + max((now - paused.paused_at).total_seconds(), 0)
        ClearBatch.objects.filter(pk=batch.pk).update(paused_at=None, paused_by="", paused_seconds=seconds)
        _enqueue_again(batch, now)
    return True


def stop(batch: ClearBatch, *, actor: str, now: datetime) -> int:
    """Withdraw what waits in a batch; runs under way are finished. Returns how many were withdrawn.

    A batch that has not begun is called off as a whole.
    """
    if batch.waits and waiting_batches.call_off(batch, actor=actor, now=now):
        return batch.waiting_runs.count()
    with book.writing():
        found = _locked(batch, stopped_at=None)
        if found is None or not _to_come(found).exists():
            return 0
        paused = 0.0 if found.paused_at is None else max((now - found.paused_at).total_seconds(), 0)
        ClearBatch.objects.filter(pk=batch.pk).update(
            stopped_at=now, stopped_by=actor, paused_at=None, paused_seconds=F("paused_seconds") + paused
        )
        return retries.given_up(found) + _withdraw(found, actor, now)


def _to_come(batch: ClearBatch) -> QuerySet[ClearAttempt]:
    return ClearAttempt.objects.filter(batch=batch).filter(Q(phase=Phase.QUEUED) | Q(again_after__isnull=False))


def forgotten(user: User | AnonymousUser, now: datetime) -> QuerySet[ClearBatch]:
    """Return the batches paused for over an hour, and those called off by themselves, at most FORGOTTEN_AT_ONCE.

    Only those with a waiting run that the user may see.
    """
    seen = permissions.runs(user)
    waiting = ClearAttempt.objects.filter(batch=OuterRef("pk"), phase=Phase.QUEUED, run__in=seen)
    paused = Q(Exists(waiting), paused_at__lte=now - FORGOTTEN_AFTER, stopped_at=None)
    found = ClearBatch.objects.filter(paused | waiting_batches.called_off_lately(now, seen))
    return found.order_by("paused_at", "stopped_at", "pk")[:FORGOTTEN_AT_ONCE]


def say_forgotten(batch: ClearBatch) -> str:
    """Say who paused a batch, or when one should have begun that was called off by itself."""
    if batch.is_called_off_by_itself and batch.starts_at is not None:
        return f"asked for by {batch.actor}, to begin at {days.say(batch.starts_at)}"
    return f"paused by {batch.paused_by}, asked for by {batch.actor}"


def _withdraw(batch: ClearBatch, actor: str, now: datetime) -> int:
    """Call it with the batch locked, so that no attempt begins meanwhile."""
    queued = batch.attempts.filter(phase=Phase.QUEUED).select_for_update(of=("self",))
    waiting = list(queued.select_related("run__root", "proof").order_by("pk"))
    runs = Run.objects.filter(pk__in=[attempt.run_id for attempt in waiting])
    _lock(runs)
    runs.doubt()
    why = {"reason": Reason.WITHDRAWN, "detail": f"by {actor}"}
    keys = [attempt.pk for attempt in waiting]
    ClearAttempt.objects.filter(pk__in=keys).update(phase=Phase.ABORTED, phase_at=now, **why)
    book.write(*(entries.ledger_entry(attempt, LedgerKind.ABORTED, now, **why) for attempt in waiting))
    logger.info("%d clears of the batch %s were withdrawn by %s", len(waiting), batch.pk, actor)
    return len(waiting)


def _locked(batch: ClearBatch, **wanted: object) -> ClearBatch | None:
    # The lock keeps a worker from beginning one of its runs.
    return ClearBatch.objects.select_for_update(no_key=True).filter(pk=batch.pk, **wanted).first()


def _enqueue_again(batch: ClearBatch, now: datetime) -> None:
    waiting = batch.attempts.filter(phase=Phase.QUEUED).select_related("run")
    largest_first = sorted(waiting, key=lambda attempt: (-(attempt.run.bytes or 0), -attempt.run_id))
    queue.enqueue_again(largest_first, now=now)
