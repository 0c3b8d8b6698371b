"""Reminders of runs: set by users for themselves, told by mail once and on the pages until they are done."""

import logging
from collections.abc import Iterable
from datetime import datetime

from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import EmailMessage, get_connection
from django.db.models import QuerySet

from cleanup.lab.people import permissions
from cleanup.models import Run, RunReminder
from cleanup.rules import short_texts
from cleanup.rules.states import State
from cleanup.runs.holds.holds import LONGEST
from cleanup.runs.holds.many_holds import DoneWithRun

logger = logging.getLogger(__name__)

# The pages show at most this many of those that are due; a mail names at most this many runs.
SHOWN, TOLD_IN_A_MAIL = 1_000, 100


class NoReminder(ValueError):
    """A reminder cannot be set; the message says why."""


def remind_all(runs: Iterable[Run], *, user: User, at: datetime, note: str, now: datetime) -> list[DoneWithRun]:
    """Set a reminder of each run; the same set twice is one. Raises NoReminder for a bad instant or note."""
    if at <= now:
        raise NoReminder("A reminder must lie in the future.")
    if at > now + LONGEST:
        raise NoReminder("A reminder may lie ten years ahead at the most.")
    if len(note) > short_texts.MAX_REASON:
        raise NoReminder(f"The note is longer than {short_texts.MAX_REASON} characters.")
    return [_remind(run, user, at, note.strip(), now) for run in runs]


def _remind(run: Run, user: User, at: datetime, note: str, now: datetime) -> DoneWithRun:
    if run.state == State.CLEARED or run.gone_at is not None:
        return DoneWithRun(run, False, "there is nothing left to be reminded of")
    values = {"note": note, "told_at": None, "done_at": None}
    RunReminder.objects.update_or_create(
        run=run, user=user, at=at, defaults=values, create_defaults={**values, "created_at": now}
    )
    return DoneWithRun(run, True, "")


def due(now: datetime) -> "QuerySet[RunReminder]":
    """Those whose time has come and that are not done; a run that is cleared or gone needs none."""
    staged = Run.objects.staged().order_by().values("pk")
    return RunReminder.objects.filter(at__lte=now, done_at=None, user__is_active=True, run__in=staged)


def finish(reminder: RunReminder, now: datetime) -> bool:
    """Say that a reminder is done. False: it was before."""
    return bool(RunReminder.objects.filter(pk=reminder.pk, done_at=None).update(done_at=now))


def said(reminder: RunReminder) -> str:
    """For whom, and why."""
    why = f": {reminder.note}" if reminder.note else ""
    return f"for {reminder.user.get_username()}{why}"


def mail_due(now: datetime) -> int:
    """Mail each due reminder once, to its user; returns the number of mails."""
    fresh = due(now).filter(told_at=None).select_related("user", "run__root").defer("run__facts").order_by("user", "pk")
    of_user: dict[int, list[RunReminder]] = {}
    for reminder in fresh[:SHOWN]:
        of_user.setdefault(reminder.user_id, []).append(reminder)
    sent = 0
    for given in of_user.values():
        mine = [each for each in given if _claim(each, now) and permissions.may(each.user, permissions.VIEW, each.run)]
        try:
            sent += bool(mine) and _mail(mine)
        except Exception:  # a mail server may fail in any way; the pages show the reminder
            logger.exception("the reminder of %d runs could not be sent", len(mine))
            break
    return sent


def _claim(reminder: RunReminder, now: datetime) -> bool:
    return bool(RunReminder.objects.filter(pk=reminder.pk, told_at=None).update(told_at=now))


def _mail(given: list[RunReminder]) -> bool:
    user = given[0].user
    if not (settings.EXLAB_EMAIL and user.email):
        return False
    told = given[0].run.leaf if len(given) == 1 else f"({len(given)} runs)"
    lines = [_line(each) for each in given[:TOLD_IN_A_MAIL]]
    if len(given) > TOLD_IN_A_MAIL:
        lines.append(f"And {len(given) - TOLD_IN_A_MAIL} more: see the page Problems.")
    text = "\n\n".join(["You asked to be reminded of:", *lines, "Say “Done” on the page of each run."])
    with get_connection() as connection:
        EmailMessage(f"Reminder {told}", f"{text}\n", to=[user.email], connection=connection).send()
    return True


def _line(reminder: RunReminder) -> str:
    run = reminder.run
    note = f"\n{reminder.note}" if reminder.note else ""
    return f"{run.run_path}\n{run.root.name} on {run.root.host}{note}"
