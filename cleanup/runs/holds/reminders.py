"""Reminders of holds, by mail once to each owner, and to the people whom the run's record names."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.mail import EmailMessage
from django.db.models import Exists, Q

from cleanup.lab import days, mails
from cleanup.lab.people import permissions, record_names
from cleanup.models import Hold, HoldQuerySet, HoldSource, Run
from cleanup.rules.reasons import Reason
from cleanup.runs.holds import in_force, keeping_holds
from cleanup.runs.holds.in_force import DAY, ENDING_WITHIN, OLD_AFTER

# The page shows all; a mail at most this many of each kind.
TOLD_IN_A_MAIL = 100
_NAMED = "You get this because the records of these runs name you."


@dataclass(frozen=True, kw_only=True)
class Reminder:
    """A hold to think of now; `subject` is its key while it lasts."""

    subject: str
    hold: Hold
    run: Run
    reason: Reason
    detail: str


def reminders(now: datetime) -> list[Reminder]:
    """Return the reminders of now."""
    return [_reminder(hold) for hold in _there(in_force.ending(now))]


def remind(now: datetime) -> list[Reminder]:
    """Return the reminders of now; mail each new or month-old one once."""
    found = reminders(now)
    due = {reminder.hold.owner for reminder in found if _is_due(reminder.hold, now)}
    soon = [_reminder(hold) for hold in _there(_following(now).filter(owner__in=due))]
    for owner in sorted(due):
        of_owner = {each.hold.pk: each for each in (*soon, *found) if each.hold.owner == owner}
        mine = [each for each in of_owner.values() if _is_due(each.hold, now) and _claim(each.hold, now)]
        if mine and not _mail(owner, mine):
            break
    return found


def _following(now: datetime) -> HoldQuerySet:
    return in_force.in_force(now).filter(source=HoldSource.PERSON, until__lte=now + ENDING_WITHIN + DAY)


def _there(holds: HoldQuerySet) -> HoldQuerySet:
    missing = Q(run__problem=Reason.MISSING_DIRECTORY) & ~Exists(in_force.lying_elsewhere())
    return holds.exclude(missing).select_related("run__root").defer("run__facts").order_by("pk")


def _is_due(hold: Hold, now: datetime) -> bool:
    return hold.reminded_at is None or (hold.source == HoldSource.FILE and hold.reminded_at <= now - OLD_AFTER)


def _claim(hold: Hold, now: datetime) -> bool:
    # Written before the mail, so that no owner gets it twice. False: another process reminds the owner.
    if not Hold.objects.filter(pk=hold.pk, reminded_at=hold.reminded_at).update(reminded_at=now):
        return False
    hold.reminded_at = now
    return True


def _reminder(hold: Hold) -> Reminder:
    by_file = hold.source == HoldSource.FILE
    since = f"by the file .exlab-hold of {hold.owner}, seen since {days.say(hold.created_at)}"
    until = f"by {hold.owner}, until {days.say_end(hold.until, hold.created_at, with_zone=True)}" if hold.until else ""
    said = f": {hold.reason}" if hold.reason else ""
    return Reminder(
        subject=f"hold:{hold.pk}",
        hold=hold,
        run=hold.run,
        reason=Reason.HOLD_OLD if by_file else Reason.HOLD_ENDING,
        detail=f"{since if by_file else until}{said}",
    )


def _mail(owner: str, given: list[Reminder]) -> bool:
    """False if the mail server fails."""
    if not settings.EXLAB_EMAIL:
        return True
    letters = [_message(*letter) for letter in _recipients(owner, given)]
    if not letters:
        return True
    return not mails.send_all(letters, about=f"the reminder of {len(given)} holds of {owner}").problem


def _recipients(owner: str, given: list[Reminder]) -> Iterator[tuple[User, list[Reminder], str]]:
    """Each with the holds that are told: the owner of all, people of the runs that their records name; no address
    twice.
    """
    told: dict[str, set[int]] = {}
    user = get_user_model().objects.filter(username=owner, is_active=True).exclude(email="").first()
    if user is not None:
        told[user.email.casefold()] = {each.hold.pk for each in given}
        yield user, given, ""
    for person, runs in record_names.accounts_of_runs([each.run for each in given]):
        mine = [each for each in given if each.run.pk in runs and permissions.may(person, permissions.VIEW, each.run)]
        known = told.setdefault(person.email.casefold(), set())
        if new := [each for each in mine if each.hold.pk not in known]:
            known |= {each.hold.pk for each in new}
            yield person, new, _NAMED


def _message(user: User, given: list[Reminder], footer: str) -> EmailMessage:
    subject, text = _letter(given)
    return EmailMessage(subject, text + (f"\n{footer}\n" if footer else ""), to=[user.email])


def _letter(given: list[Reminder]) -> tuple[str, str]:
    given = sorted(given, key=lambda each: (each.reason, each.hold.until or each.hold.created_at, each.hold.pk))
    reasons = list(dict.fromkeys(each.reason for each in given))
    told = given[0].run.leaf if len(given) == 1 else f"({len(given)} holds)"
    parts = []
    for reason in reasons:
        of_reason = [each for each in given if each.reason is reason]
        lines = [_line(each) for each in of_reason[:TOLD_IN_A_MAIL]]
        if len(of_reason) > TOLD_IN_A_MAIL:
            lines.append(f"And {len(of_reason) - TOLD_IN_A_MAIL} more: see the page Holds.")
        parts.append("\n\n".join([reason.sentence, *lines, reason.advice]))
    return " ".join(f"{reasons[0].sentence} {told}".split()), "\n\n\n".join(parts) + "\n"


def _line(reminder: Reminder) -> str:
    run = reminder.run
    elsewhere = keeping_holds.elsewhere().filter(run=run).select_related("other").first()
    moved = f"\nIt may lie at {elsewhere.other.run_path} now." if elsewhere and run.problem else ""
    return f"{run.run_path}\n{run.root.name} on {run.root.host}\nHeld {reminder.detail}{moved}"
