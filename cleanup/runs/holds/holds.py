"""Holds: laid, extended and released by people, and laid by files."""

import logging
from datetime import datetime, timedelta

from django.db import transaction

from cleanup.lab.people import os_account
from cleanup.lab.roots import opening
from cleanup.models import Hold, HoldSource, Run
from cleanup.rules import short_texts
from cleanup.rules.states import State
from cleanup.runs.holds import in_force, keeping_holds
from cleanup.storage.staging import hold_file
from cleanup.storage.staging.hold_file import HoldFile

logger = logging.getLogger(__name__)

LONGEST = timedelta(days=3653)
TOO_LONG = "A hold may last ten years at the most; it can be laid again."


class HoldRefused(ValueError):
    """A hold cannot be laid; the message says why."""


def hold(run: Run, *, owner: str, reason: str, until: datetime, now: datetime) -> Hold:
    """Hold a run until an instant. The same hold laid twice is one.

    Raises HoldRefused for a bad end or reason, and for a cleared or gone run. A clear that is not committed sees the
    hold.
    """
    reason = reason.strip()
    if not reason:
        raise HoldRefused("A hold needs a reason.")
    if len(reason) > short_texts.MAX_REASON:
        raise HoldRefused(f"The reason is longer than {short_texts.MAX_REASON} characters.")
    if until <= now:
        raise HoldRefused("The end of a hold must lie in the future.")
    if until > now + LONGEST:
        raise HoldRefused(TOO_LONG)
    with transaction.atomic():
        # A clear's commit changes this row and then looks for holds, so one always sees the other; likewise the rows
        # that may be this run. One order for all locks prevents deadlocks.
        locked = Run.objects.select_for_update(no_key=True, of=("self",)).filter(
            pk__in=keeping_holds.kept_by_holds_of(run.pk).values("pk")
        )
        found = {each.pk: each for each in locked.order_by("pk")}[run.pk]
        if found.state == State.CLEARED:
            raise HoldRefused("This run has been cleared; there is nothing left to hold.")
        if found.gone_at is not None:
            raise HoldRefused("This run was declared gone; there is nothing left to hold.")
        same = {"source": HoldSource.PERSON, "owner": owner, "reason": reason, "until": until}
        if laid := in_force.in_force(now).filter(run=found, **same).first():
            return laid
        laid = Hold.objects.create(run=found, created_at=now, typed_by=os_account.current(), **same)
        keeping_holds.kept_by_holds_of(found.pk).doubt()
    logger.info("held %s until %s by %s: %s", run.run_path, until.isoformat(), owner, reason)
    return laid


def extend(hold: Hold, *, until: datetime, actor: str, now: datetime) -> bool:
    """Let a hold last longer; owner and reason stay.

    False if it is over, changed, or a file's. Raises HoldRefused for a bad end.
    """
    if hold.until is None or until <= hold.until:
        raise HoldRefused("The new end must be later than the one that the hold has.")
    if until > now + LONGEST:
        raise HoldRefused(TOO_LONG)
    mine = in_force.in_force(now).filter(pk=hold.pk, source=HoldSource.PERSON, until=hold.until)
    with transaction.atomic():
        # Its owner is reminded again before the new end.
        if not Hold.objects.filter(pk__in=mine.values("pk")).update(until=until, reminded_at=None):
            return False
        keeping_holds.kept_by_holds_of(hold.run_id).doubt()
    logger.info("extended %s to %s by %s: the hold of %s", hold.run.run_path, until.isoformat(), actor, hold.owner)
    hold.until, hold.reminded_at = until, None
    return True


def release(hold: Hold, *, actor: str, now: datetime) -> bool:
    """Release one hold. False if it is not in force, or a file's."""
    mine = Hold.objects.in_force(now).filter(pk=hold.pk, source=HoldSource.PERSON)
    with transaction.atomic():
        if not mine.update(released_at=now, released_by=actor, released_typed_by=os_account.current()):
            return False
        keeping_holds.kept_by_holds_of(hold.run_id).doubt()
    hold.released_at, hold.released_by = now, actor
    logger.info("released %s by %s: the hold of %s", hold.run.run_path, actor, hold.owner)
    return True


def release_run(run: Run, *, actor: str, now: datetime) -> list[Hold]:
    """Release the people's holds on a run; returns those that were in force.

    Also those of rows that may be this run and have nothing at their path.
    """
    laid = keeping_holds.holding(run, Hold.objects.in_force(now)).select_related("run__root").order_by("pk")
    mine = [each for each in laid if each.run_id == run.pk or not keeping_holds.is_there(each.run)]
    return [each for each in mine if release(each, actor=actor, now=now)]


def still_held(run: Run, *, now: datetime) -> list[str]:
    """Return in words the holds that still keep a run."""
    return [
        keeping_holds.said(each, run) for each in keeping_holds.holding(run, Hold.objects.in_force(now)).order_by("pk")
    ]


def look_for_file(run: Run, *, now: datetime) -> Hold | None:
    """Return the run's hold file as a hold, from the disk, or as last seen."""
    try:
        with opening.open_root(run.root) as root, opening.open_run(root, run.run_path) as opened:
            note_file(run, hold_file.read(opened.run), now=now)
    except (opening.Unreachable, OSError):
        logger.info("the hold file of %s cannot be looked for", run.run_path)
    return Hold.objects.filter(run=run, source=HoldSource.FILE, released_at=None).first()


def note_file(run: Run, found: HoldFile | None, *, now: datetime) -> bool:
    """Write down the hold file just seen in a run, or none; returns whether it is new."""
    if found is None and not run.has_more:
        return False  # one that was laid since the run was read was not there when its files were
    laid = Hold.objects.filter(run=run, source=HoldSource.FILE, released_at=None)
    if found is None:
        return laid.exists() and bool(laid.update(released_at=now))
    says = {"owner": found.owner[:150], "reason": found.text}
    if laid.filter(**says).exists():
        return False
    with transaction.atomic():
        # Two passes may see the same file; the database keeps one row.
        Run.objects.select_for_update(no_key=True, of=("self",)).get(pk=run.pk)
        if not laid.update(**says):
            Hold.objects.create(run=run, source=HoldSource.FILE, created_at=now, **says)
    return True
