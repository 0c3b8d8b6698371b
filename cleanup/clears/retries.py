"""New attempts for clears that a fault interrupted or the NAS refused, while the operator's request still holds."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from cleanup.clears import queue
from cleanup.lab.nas.nas_roots import NasRoot, twin_of
from cleanup.lab.people import permissions
from cleanup.lab.roots import opening
from cleanup.models import ClearAttempt, ClearBatch, Hold, Phase, Requester, Run
from cleanup.rules import silent_twins
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.storage.nas import client

logger = logging.getLogger(__name__)

# Counted from the first attempt; after that the operator has to ask again.
AS_LONG_AS = timedelta(hours=24)
# A run that interrupts its worker more often is itself the likely cause.
MOST_INTERRUPTIONS = 3
# The pause doubles while the NAS refuses the same run: ten tries in a day.
FIRST_PAUSE = timedelta(minutes=1)
INTERRUPTIONS = frozenset({Reason.INTERRUPTED, Reason.DATABASE_ERROR})
UNANSWERED = frozenset({Reason.NAS_TIMEOUT, Reason.NAS_SLOW, Reason.NAS_IO_ERROR, Reason.NAS_NOT_MOUNTED})


def due_after(attempt: ClearAttempt, finding: Finding, now: datetime) -> datetime | None:
    """Return when to try an attempt again that ends with `finding`; None: never.

    Call it in the transaction that ends the attempt, before the phase changes.
    """
    if not (attempt.is_clear and attempt.task_id and attempt.requester == Requester.OPERATOR):
        return None
    if attempt.phase != Phase.INTENT:  # it had not begun, or the operator had to act
        return None
    if attempt.batch_id is not None and not _still_wanted(attempt.batch_id):
        return None
    if finding.reason in INTERRUPTIONS:
        return now if attempt.interruptions < MOST_INTERRUPTIONS else None
    if finding.reason in UNANSWERED and attempt.batch_id is not None:
        refused_before: int = attempt.tries - attempt.interruptions
        if finding.reason is Reason.NAS_SLOW:  # the schedule pauses as long for such a twin
            return now + silent_twins.pause_after(refused_before + 1)
        return now + FIRST_PAUSE * (1 << refused_before)
    return None


def ask(*, now: datetime) -> int:
    """Queue new attempts for what is due on this host; returns how many. Twice is harmless."""
    due = _due(now).select_related("run__root", "batch").defer("run__facts", "decision")
    requests: defaultdict[object, list[ClearAttempt]] = defaultdict(list)
    answers: dict[NasRoot, bool] = {}
    for attempt in due:
        # Asked before the database is locked: the NAS may be slow.
        if attempt.reason in INTERRUPTIONS or _is_old(attempt, now) or _answers(attempt, answers):
            requests[attempt.batch_id or attempt.pk].append(attempt)
    return sum(_ask_together(attempts, now) for attempts in requests.values())


def given_up(batch: ClearBatch) -> int:
    """Try no run of a batch again; returns how many waited. Call it in the transaction that stops it."""
    return batch.attempts.waiting_for_another_try().update(again_after=None)


def withdrawn(attempt: ClearAttempt) -> Finding | None:
    """Return why a queued new attempt must not begin; else None."""
    if attempt.repeats_id is None:
        return None
    why = _no_longer_wanted(attempt, _wished_at(attempt), _asker(attempt), timezone.now())
    return Finding(Reason.WITHDRAWN, why) if why else None


def _due(now: datetime) -> QuerySet[ClearAttempt]:
    due = ClearAttempt.objects.filter(host=settings.EXLAB_HOST, again_after__lte=now)
    due = due.filter(Q(batch=None) | Q(batch__paused_at=None, batch__stopped_at=None))
    return due.order_by(Coalesce("run__bytes", 0).desc(), F("run_id").desc())


def _answers(attempt: ClearAttempt, known: dict[NasRoot, bool]) -> bool:
    root = twin_of(attempt.run).root
    if root not in known:
        try:
            with opening.reader_for(attempt.run.root) as readers:
                readers.of(attempt.run).present([])
            known[root] = True
        except client.NasError:
            known[root] = False
    return known[root]


def _ask_together(attempts: Sequence[ClearAttempt], now: datetime) -> int:
    batch = attempts[0].batch
    with transaction.atomic():
        if batch is not None and not _goes_on(batch):
            return 0
        found = _due(now).select_for_update(of=("self",)).select_related("run__root", "batch")
        due = list(found.filter(pk__in=[attempt.pk for attempt in attempts]))
        runs = _locked(attempt.run_id for attempt in due)
        asker = _asker(attempts[0])
        wanted = [attempt for attempt in due if attempt.run_id in runs and _settle(attempt, asker, now)]
        wanted.sort(key=lambda attempt: attempt.reason == Reason.NAS_SLOW)
        return _queue([(attempt, runs[attempt.run_id]) for attempt in wanted], now)


def _still_wanted(batch: UUID) -> bool:
    # Locked, so that the batch cannot be stopped before the transaction ends.
    return ClearBatch.objects.select_for_update(no_key=True).filter(pk=batch, stopped_at=None).first() is not None


def _goes_on(batch: ClearBatch) -> bool:
    # Locked, so that the batch cannot be paused or stopped before the transaction ends.
    going = ClearBatch.objects.select_for_update(no_key=True).filter(pk=batch.pk, paused_at=None, stopped_at=None)
    return going.first() is not None


def _locked(keys: Iterable[int]) -> dict[int, Run]:
    # A hold and an attempt lock the same rows.
    runs = Run.objects.filter(pk__in=list(keys))
    list(runs.order_by("pk").select_for_update(no_key=True).values_list("pk", flat=True))
    busy = ClearAttempt.objects.filter(run__in=runs, phase__in=ClearAttempt.ACTIVE).values("run")
    return {run.pk: run for run in runs.with_root().exclude(pk__in=busy)}


def _settle(attempt: ClearAttempt, asker: User | None, now: datetime) -> bool:
    why = _no_longer_wanted(attempt, _wished_at(attempt), asker, now)
    if why:
        attempt.detail = "; ".join(part for part in (attempt.detail, f"not tried again: {why}") if part)
        logger.info("%s is not tried again: %s", attempt.run.run_path, why)
    attempt.again_after = None
    attempt.save(update_fields=["again_after", "detail"])
    return not why


def _is_old(attempt: ClearAttempt, now: datetime) -> bool:
    return now - _wished_at(attempt) >= AS_LONG_AS


def _wished_at(attempt: ClearAttempt) -> datetime:
    if attempt.batch is not None:
        return attempt.batch.began_at
    while attempt.repeats is not None:
        attempt = attempt.repeats
    return attempt.created_at


def _asker(attempt: ClearAttempt) -> User | None:
    return User.objects.filter(username=attempt.actor).first()


def _no_longer_wanted(attempt: ClearAttempt, wished_at: datetime, asker: User | None, now: datetime) -> str:
    run = attempt.run
    if now - wished_at >= AS_LONG_AS:
        return "a day has passed"
    if asker is None or not permissions.may(asker, permissions.CLEAR, run):
        return f"{attempt.actor} may not clear it any more"
    if Hold.objects.filter(run=run, created_at__gte=wished_at).exists():
        return "a hold was laid since it was asked for"
    if run.state == State.CLEARED or run.gone_at is not None:
        return "it is cleared or gone"
    later = ClearAttempt.objects.clears().filter(run=run, requester=Requester.OPERATOR)
    if later.filter(created_at__gt=attempt.created_at).exists():
        return "it was asked for anew"
    return ""


def _queue(wanted: Sequence[tuple[ClearAttempt, Run]], now: datetime) -> int:
    made = [_repeat(attempt, run, now) for attempt, run in wanted]
    Run.objects.filter(pk__in=[attempt.run_id for attempt in made]).doubt()
    ClearAttempt.objects.bulk_create(made)
    queue.enqueue(made)
    if made:
        logger.info("%d clears asked for by %s are tried again", len(made), made[0].actor)
    return len(made)


def _repeat(attempt: ClearAttempt, run: Run, now: datetime) -> ClearAttempt:
    return ClearAttempt(
        run=run,
        batch=attempt.batch,
        repeats=attempt,
        tries=attempt.tries + 1,
        interruptions=attempt.interruptions + (attempt.reason in INTERRUPTIONS),
        host=run.root.host,
        requester=attempt.requester,
        actor=attempt.actor,
        typed_by=attempt.typed_by,
        note=attempt.note,
        policy_version=attempt.promised_version,
        asked_version=attempt.promised_version,
        decided_by=attempt.decided_by,
        created_at=now,
        phase_at=now,
    )
