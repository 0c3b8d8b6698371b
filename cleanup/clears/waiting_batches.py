"""Batches that wait for their time: begun once, with the same runs, after all rights and checks were asked anew."""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from cleanup.clears import queue
from cleanup.clears.preview import NOT_PERMITTED, ClearPreview, Item, RequestedRuns, preview
from cleanup.lab import days, mails, readiness
from cleanup.models import ClearBatch, Run, RunQuerySet, WaitingRun
from cleanup.rules.quantities import say_count
from cleanup.rules.reasons import Reason

logger = logging.getLogger(__name__)

# A batch that could not begin for so long is called off: people do not expect it any more.
LATE_AFTER = timedelta(hours=6)
# So long the pages name what was called off by itself.
TOLD_FOR = timedelta(days=3)
# The reason of a run that is not as it was shown; no gate gives it.
CHANGED = "changed"
_AT_ONCE = 100


def keep(batch: ClearBatch, going: Iterable[Item]) -> None:
    """Write down the runs of a batch that waits; call it in the transaction that makes the batch."""
    rows = [
        WaitingRun(
            batch=batch,
            run=item.run,
            mark=item.mark,
            bytes=item.run.bytes or 0,
            allocated_bytes=item.allocated_bytes or 0,
        )
        for item in going
    ]
    WaitingRun.objects.bulk_create(rows, batch_size=_AT_ONCE)


def begin_due(now: datetime) -> int:
    """Begin the batches whose time has come; returns how many. Twice, and on two hosts at once, is harmless.

    `now` is the database's. Where nothing can be cleared, on this host or on a staging root of the batch, it waits on.
    """
    if readiness.hindrances():
        return 0
    due = _due(now).exclude(Exists(_on_troubled_roots()))
    return sum(_begin(key, now) for key in due.order_by("starts_at", "pk").values_list("pk", flat=True))


def call_off_late(now: datetime) -> int:
    """Call off the batches that are six hours late; returns how many. Nothing of them is cleared."""
    called_off = 0
    late = _waiting().filter(starts_at__lte=now - LATE_AFTER)
    for batch in late.order_by("starts_at", "pk"):
        # By compare-and-set, so that one of two hosts tells it.
        if _waiting().filter(pk=batch.pk).update(stopped_at=now, stopped_by=""):
            called_off += 1
            logger.warning("the batch %s of %s is six hours late, and was called off", batch.pk, batch.actor)
            _mail(batch)
    return called_off


def call_off(batch: ClearBatch, *, actor: str, now: datetime) -> bool:
    """Call off a batch that waits. False: it has begun or was called off."""
    return bool(_waiting().filter(pk=batch.pk).update(stopped_at=now, stopped_by=actor))


def called_off_lately(now: datetime, runs: RunQuerySet) -> Q:
    """The batches that were called off by themselves, of some of these runs."""
    mine = Exists(WaitingRun.objects.filter(batch=OuterRef("pk"), run__in=runs))
    return Q(mine, starts_at__isnull=False, started_at=None, stopped_by="", stopped_at__gt=now - TOLD_FOR)


def visible_in(runs: RunQuerySet) -> Exists:
    """Batches with a run that waits, or waited, among these."""
    return Exists(WaitingRun.objects.filter(batch=OuterRef("pk"), run__in=runs))


def of_run(run: Run) -> list[ClearBatch]:
    """The batches that wait with a run, the first to begin first."""
    if not run.waits_in.all():  # a page knows which runs have none
        return []
    return list(_waiting().filter(waiting_runs__run=run).order_by("starts_at", "pk"))


def trouble_of(batch: ClearBatch) -> list[str]:
    """The names of the staging roots that keep a batch from beginning."""
    rows = WaitingRun.objects.filter(batch=batch).exclude(run__root__problem="").order_by()
    return sorted(rows.values_list("run__root__name", flat=True).distinct())


def _waiting() -> QuerySet[ClearBatch]:
    return ClearBatch.objects.filter(starts_at__isnull=False, started_at=None, stopped_at=None)


def _due(now: datetime) -> QuerySet[ClearBatch]:
    return _waiting().filter(starts_at__lte=now, starts_at__gt=now - LATE_AFTER)


def _on_troubled_roots() -> QuerySet[WaitingRun]:
    return WaitingRun.objects.filter(batch=OuterRef("pk")).exclude(run__root__problem="").order_by()


def _begin(key: UUID, now: datetime) -> bool:
    with transaction.atomic():
        # The row is compared and locked at once: another host finds it begun.
        if not _due(now).filter(pk=key).update(started_at=now):
            return False
        batch = ClearBatch.objects.get(pk=key)
        rows = {row.run_id: row for row in WaitingRun.objects.filter(batch=batch)}
        # The same rows in the same order as everywhere, against deadlocks.
        runs = Run.objects.filter(pk__in=rows).order_by("pk")
        list(runs.select_for_update(no_key=True).values_list("pk", flat=True))
        asker = User.objects.filter(username=batch.actor).first()
        asked = RequestedRuns(marks={key: row.mark for key, row in rows.items()})
        shown = preview(asker or AnonymousUser(), asked, now)
        _note_left_out(rows, shown)
        going = [item for item in shown.going if not rows[item.run.pk].left_out]
        queue.request_many([(item.run, item.policy) for item in going], batch=batch, now=now)
    logger.info("the batch %s of %s began with %d of %d runs", batch.pk, batch.actor, len(going), len(rows))
    return True


def _note_left_out(rows: dict[int, WaitingRun], shown: ClearPreview) -> None:
    items = {item.run.pk: item for item in shown.items}
    for key, row in rows.items():
        item = items.get(key)
        if item is None:  # the operator may not see it any more
            row.left_out = NOT_PERMITTED
        elif not item.goes:
            row.left_out, row.detail = item.reason or Reason.NOT_LOOKED_AT, item.detail
        elif item.changed:
            row.left_out = CHANGED
    left = [row for row in rows.values() if row.left_out]
    WaitingRun.objects.bulk_update(left, ["left_out", "detail"], batch_size=_AT_ONCE)


def _mail(batch: ClearBatch) -> None:
    if not settings.EXLAB_EMAIL or batch.starts_at is None:
        return
    user = User.objects.filter(username=batch.actor, is_active=True).exclude(email="").first()
    if user is None:
        return
    number = say_count(WaitingRun.objects.filter(batch=batch).count(), "run")
    text = (
        f"You asked to clear {number} at {days.say(batch.starts_at)}. That could not begin for six hours, so it was "
        "called off. Nothing was cleared, and every run is where it was.\n\n"
        "The page Batches shows these runs. If you still need the space, ask for them again.\n"
    )
    letter = EmailMessage(f"Not cleared: {number}", text, to=[user.email])
    mails.send_all([letter], about=f"the mail about the end of the batch {batch.pk} to {batch.actor}")
