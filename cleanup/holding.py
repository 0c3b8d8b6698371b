"""Holds: laid and released by people, laid by files at the instruments, reminded of, and what they cost.

A hold costs bytes times days: what its run keeps on the staging disk, for as long as it is held. Bytes are logical.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.mail import EmailMessage, get_connection
from django.db import transaction
from django.db.models import DateTimeField, Exists, F, OuterRef, Q, Value

from cleanup import gathering
from cleanup.models import Hold, HoldQuerySet, HoldSource, Run
from cleanup.policy.lifecycle import State
from cleanup.policy.reasons import Reason
from cleanup.staging import holdfile
from cleanup.staging.holdfile import HoldFile

logger = logging.getLogger(__name__)

LONGEST = timedelta(days=3653)
# Its owner is reminded so long before a hold ends; of a short one when half of it is over.
ENDING_WITHIN = timedelta(days=3)
# A file has no end of its own: whether it is still needed is asked after so long, and again after as long.
OLD_AFTER = timedelta(days=30)
REASON_LENGTH = 500

_DAY = timedelta(days=1)


class HoldRefused(ValueError):
    """A hold that cannot be laid; the words say why, to a person."""


@dataclass(frozen=True)
class Cost:
    """What a hold costs so far: the run's logical bytes, the days that it has been held, and their product.

    Where the bytes are unknown, so is the product.
    """

    bytes: int | None
    days: float

    @property
    def byte_days(self) -> float | None:
        return None if self.bytes is None else self.bytes * self.days


@dataclass(frozen=True, kw_only=True)
class Reminder:
    """A hold that somebody should think of now. `subject` is a key that stays the same as long as the hold lasts."""

    subject: str
    hold: Hold
    run: Run
    reason: Reason
    detail: str


def hold(run: Run, *, owner: str, reason: str, until: datetime, now: datetime) -> Hold:
    """Hold a run until an instant. The very same hold laid twice is one.

    Raises HoldRefused for an end that is not to come or lies beyond ten years, for an empty or too long reason, and for
    a run that is cleared or gone. A clear that has not been committed will see the hold.
    """
    reason = reason.strip()
    if not reason:
        raise HoldRefused("A hold needs a reason.")
    if len(reason) > REASON_LENGTH:
        raise HoldRefused(f"The reason is longer than {REASON_LENGTH} characters.")
    if until <= now:
        raise HoldRefused("The end of a hold must lie in the future.")
    if until > now + LONGEST:
        raise HoldRefused("A hold may last ten years at the most; it can be laid again.")
    with transaction.atomic():
        # A clear's commit changes this row and then looks for holds: whoever comes first, the other one knows of it.
        found = Run.objects.select_for_update(of=("self",)).get(pk=run.pk)
        if found.state == State.CLEARED:
            raise HoldRefused("This run has been cleared; there is nothing left to hold.")
        if found.gone_at is not None:
            raise HoldRefused("This run was declared gone; there is nothing left to hold.")
        same = {"source": HoldSource.PERSON, "owner": owner, "reason": reason, "until": until}
        if laid := in_force(now).filter(run=found, **same).first():
            return laid
        laid = Hold.objects.create(run=found, created_at=now, **same)
        Run.objects.filter(pk=found.pk).doubt()
    logger.info("held %s until %s by %s: %s", run.run_path, until.isoformat(), owner, reason)
    return laid


def extend(hold: Hold, *, until: datetime, actor: str, now: datetime) -> bool:
    """Let a person's hold last longer than it does, whoever's it is; its owner and its reason stay.

    False if it is over or has been changed meanwhile, or lies in a file. Raises HoldRefused for an end that is no later
    than the one that it has, or lies beyond ten years.
    """
    if hold.until is None or until <= hold.until:
        raise HoldRefused("The new end must be later than the one that the hold has.")
    if until > now + LONGEST:
        raise HoldRefused("A hold may last ten years at the most; it can be laid again.")
    mine = in_force(now).filter(pk=hold.pk, source=HoldSource.PERSON, until=hold.until)
    with transaction.atomic():
        # Its owner is reminded anew, before the new end.
        if not Hold.objects.filter(pk__in=mine.values("pk")).update(until=until, reminded_at=None):
            return False
        Run.objects.filter(pk=hold.run_id).doubt()
    logger.info("extended %s to %s by %s: the hold of %s", hold.run.run_path, until.isoformat(), actor, hold.owner)
    hold.until, hold.reminded_at = until, None
    return True


def release(hold: Hold, *, actor: str, now: datetime) -> bool:
    """Release one person's hold, whoever's it is. False if it is not in force any more, or lies in a file."""
    mine = Hold.objects.in_force(now).filter(pk=hold.pk, source=HoldSource.PERSON)
    with transaction.atomic():
        if not mine.update(released_at=now, released_by=actor):
            return False
        Run.objects.filter(pk=hold.run_id).doubt()
    hold.released_at, hold.released_by = now, actor
    logger.info("released %s by %s: the hold of %s", hold.run.run_path, actor, hold.owner)
    return True


def release_run(run: Run, *, actor: str, now: datetime) -> list[Hold]:
    """Release all holds that people have laid on a run; returns those that were in force. A file's hold stays."""
    laid = Hold.objects.in_force(now).filter(run=run, source=HoldSource.PERSON).select_related("run").order_by("pk")
    return [hold for hold in laid if release(hold, actor=actor, now=now)]


def look_for_file(run: Run, *, now: datetime) -> Hold | None:
    """The hold of a run's file as it is on the disk now; as discovery last saw it where the run cannot be opened."""
    try:
        with gathering.open_root(run.root) as root, gathering.open_run(root, run.run_path) as opened:
            note_file(run, holdfile.read(opened.run), now=now)
    except (gathering.Unreachable, OSError):
        logger.info("the hold file of %s cannot be looked for", run.run_path)
    return Hold.objects.filter(run=run, source=HoldSource.FILE, released_at=None).first()


def note_file(run: Run, found: HoldFile | None, *, now: datetime) -> bool:
    """Write down the hold file that was seen in a run just now, or that there is none; whether that is news."""
    laid = Hold.objects.filter(run=run, source=HoldSource.FILE, released_at=None)
    if found is None:
        return laid.exists() and bool(laid.update(released_at=now))
    says = {"owner": found.owner[:150], "reason": found.text}
    if laid.filter(**says).exists():
        return False
    with transaction.atomic():
        # Two passes may see the same file: the database lets only one row stand, and the second one finds it.
        Run.objects.select_for_update(of=("self",)).get(pk=run.pk)
        if not laid.update(**says):
            Hold.objects.create(run=run, source=HoldSource.FILE, created_at=now, **says)
    return True


def in_force(now: datetime) -> HoldQuerySet:
    """The holds that keep something on a staging disk: in force, and their runs not cleared and not gone."""
    return Hold.objects.in_force(now).filter(run__gone_at=None).exclude(run__state=State.CLEARED)


def ending(now: datetime) -> HoldQuerySet:
    """The holds that somebody should think of now: people's that end within three days, files' of a month ago.

    A person's hold of a few days has its first half in peace, and nobody need think of one whose run another keeps for
    longer.
    """
    moment = Value(now, output_field=DateTimeField())
    longer = Hold.objects.in_force(now).filter(Q(until=None) | Q(until__gt=OuterRef("until")), run=OuterRef("run"))
    soon = Q(source=HoldSource.PERSON, until__lte=now + ENDING_WITHIN) & Q(left__lte=F("passed")) & ~Exists(longer)
    old = Q(source=HoldSource.FILE, created_at__lte=now - OLD_AFTER)
    spans = in_force(now).annotate(left=F("until") - moment, passed=moment - F("created_at"))
    return spans.filter(soon | old)


def ended_at(hold: Hold, now: datetime) -> datetime | None:
    """When a hold stopped to keep anything: over, released, or its run cleared or gone. None if it still does."""
    ends = [end for end in (hold.until, hold.released_at, hold.run.cleared_at, hold.run.gone_at) if end is not None]
    return min((end for end in ends if end <= now), default=None)


def cost(hold: Hold, now: datetime) -> Cost:
    """What one hold has cost so far."""
    return Cost(hold.run.bytes, (_end(hold, now) - hold.created_at) / _DAY)


def total_cost(holds: Iterable[Hold], now: datetime) -> Cost:
    """What several holds have cost so far, a run's time once however many hold it: bytes held, and a mean of days.

    The product is exact as far as bytes are known; a run of unknown size counts for nothing.
    """
    spans: dict[int, list[tuple[datetime, datetime]]] = {}
    sizes: dict[int, int] = {}
    for hold in holds:
        spans.setdefault(hold.run_id, []).append((hold.created_at, _end(hold, now)))
        sizes[hold.run_id] = hold.run.bytes or 0
    size = sum(sizes.values())
    byte_days = sum(sizes[run] * (_covered(of_run) / _DAY) for run, of_run in spans.items())
    return Cost(size, byte_days / size if size else 0.0)


def reminders(now: datetime) -> list[Reminder]:
    """What should be thought of as long as it is so: an alert for each can stay open until it is no longer here."""
    found = ending(now).exclude(run__problem=Reason.MISSING_DIRECTORY)
    return [_reminder(hold) for hold in found.select_related("run__root").defer("run__facts").order_by("pk")]


def remind(now: datetime) -> list[Reminder]:
    """All reminders that stand now. Those that were not given yet, or a month ago, also go out as e-mail, once.

    `reminded_at` is written before the mail is sent: whoever runs this at the same time, and whatever becomes of the
    mail, nobody gets it twice. A mail server that fails is only logged, and not asked again in this pass.
    """
    found = reminders(now)
    for reminder in found:
        hold = reminder.hold
        if hold.reminded_at is not None and (hold.source == HoldSource.PERSON or hold.reminded_at > now - OLD_AFTER):
            continue
        if not Hold.objects.filter(pk=hold.pk, reminded_at=hold.reminded_at).update(reminded_at=now):
            continue  # somebody else does it
        hold.reminded_at = now
        if not _mail(reminder):
            break
    return found


def _reminder(hold: Hold) -> Reminder:
    by_file = hold.source == HoldSource.FILE
    since = f"by the file .exlab-hold of {hold.owner}, seen since {_instant(hold.created_at)}"
    until = f"by {hold.owner}, until {_instant(hold.until)}" if hold.until else ""
    said = f": {hold.reason}" if hold.reason else ""
    return Reminder(
        subject=f"hold:{hold.pk}",
        hold=hold,
        run=hold.run,
        reason=Reason.HOLD_OLD if by_file else Reason.HOLD_ENDING,
        detail=f"{since if by_file else until}{said}",
    )


def _mail(reminder: Reminder) -> bool:
    """Write to the owner of a hold, where that is a user with an address. False if the mail server fails."""
    if not settings.EXLAB_EMAIL:
        return True
    user = get_user_model().objects.filter(username=reminder.hold.owner, is_active=True).exclude(email="").first()
    if user is None:
        return True
    name = reminder.run.run_path
    text = f"{name}\n{reminder.run.root.name} on {reminder.run.root.host}\n\n{reminder.reason.sentence}\n"
    text += f"Held {reminder.detail}\n\n{reminder.reason.advice}\n"
    subject = " ".join(f"{reminder.reason.sentence} {reminder.run.leaf}".split())
    try:
        with get_connection() as connection:
            EmailMessage(subject, text, to=[user.email], connection=connection).send()
    except Exception:  # whatever a mail server or its settings may do: the reminder stands on the pages all the same
        logger.exception("the reminder of a hold on %s could not be sent", name)
        return False
    return True


def _end(hold: Hold, now: datetime) -> datetime:
    return max(hold.created_at, ended_at(hold, now) or now)


def _covered(spans: list[tuple[datetime, datetime]]) -> timedelta:
    """How much time several spans cover together."""
    covered, reached = timedelta(), None
    for start, end in sorted(spans):
        if reached is not None:
            start = max(start, reached)
        if end > start:
            covered, reached = covered + (end - start), end
    return covered


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
