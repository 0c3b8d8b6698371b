"""Holds: laid by people and by files, with reminders and costs."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.mail import EmailMessage, get_connection
from django.db import transaction
from django.db.models import DateTimeField, Exists, F, OuterRef, Q, QuerySet, Value

from cleanup.lab import days
from cleanup.lab.people import os_account
from cleanup.lab.roots import opening
from cleanup.models import Hold, HoldQuerySet, HoldSource, Likeness, Run
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State
from cleanup.runs.holds import keeping_holds
from cleanup.storage.staging import hold_file
from cleanup.storage.staging.hold_file import HoldFile

logger = logging.getLogger(__name__)

LONGEST = timedelta(days=3653)
# The owner is reminded this long before the end, or after half of a short hold.
ENDING_WITHIN = timedelta(days=3)
# A file has no end: its owner is asked every month.
OLD_AFTER = timedelta(days=30)
REASON_LENGTH = 500
# The page shows all; a mail at most this many of each kind.
TOLD_IN_A_MAIL = 100

_DAY = timedelta(days=1)


class HoldRefused(ValueError):
    """A hold cannot be laid; the message says why."""


@dataclass(frozen=True)
class Cost:
    """A hold's cost so far: logical bytes times days; None if unknown."""

    bytes: int | None
    days: float

    @property
    def byte_days(self) -> float | None:
        return None if self.bytes is None else self.bytes * self.days


@dataclass(frozen=True, kw_only=True)
class Reminder:
    """A hold to think of now; `subject` is its key while it lasts."""

    subject: str
    hold: Hold
    run: Run
    reason: Reason
    detail: str


def hold(run: Run, *, owner: str, reason: str, until: datetime, now: datetime) -> Hold:
    """Hold a run until an instant. The same hold laid twice is one.

    Raises HoldRefused for a bad end or reason, and for a cleared or gone run. A clear that is not committed sees the
    hold.
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
        # A clear's commit changes this row and then looks for holds, so one always sees the other; likewise the rows
        # that may be this run. One order for all locks prevents deadlocks.
        locked = Run.objects.select_for_update(of=("self",)).filter(
            pk__in=keeping_holds.kept_by_holds_of(run.pk).values("pk")
        )
        found = {each.pk: each for each in locked.order_by("pk")}[run.pk]
        if found.state == State.CLEARED:
            raise HoldRefused("This run has been cleared; there is nothing left to hold.")
        if found.gone_at is not None:
            raise HoldRefused("This run was declared gone; there is nothing left to hold.")
        same = {"source": HoldSource.PERSON, "owner": owner, "reason": reason, "until": until}
        if laid := in_force(now).filter(run=found, **same).first():
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
        raise HoldRefused("A hold may last ten years at the most; it can be laid again.")
    mine = in_force(now).filter(pk=hold.pk, source=HoldSource.PERSON, until=hold.until)
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
    laid = Hold.objects.filter(run=run, source=HoldSource.FILE, released_at=None)
    if found is None:
        # One that was laid since the run was read was not there when its files were.
        return run.has_more and laid.exists() and bool(laid.update(released_at=now))
    says = {"owner": found.owner[:150], "reason": found.text}
    if laid.filter(**says).exists():
        return False
    with transaction.atomic():
        # Two passes may see the same file; the database keeps one row.
        Run.objects.select_for_update(of=("self",)).get(pk=run.pk)
        if not laid.update(**says):
            Hold.objects.create(run=run, source=HoldSource.FILE, created_at=now, **says)
    return True


def in_force(now: datetime) -> HoldQuerySet:
    """Return the holds in force on runs that are not cleared or gone, or that may lie under another path."""
    lies_there = Q(run__gone_at=None) & ~Q(run__state=State.CLEARED)
    return Hold.objects.in_force(now).filter(lies_there | Exists(_elsewhere()))


def ending(now: datetime) -> HoldQuerySet:
    """Return people's holds that end within three days, and files' holds over a month old.

    Without short holds in their first half, and runs that another hold keeps longer.
    """
    moment = Value(now, output_field=DateTimeField())
    longer = Hold.objects.in_force(now).filter(Q(until=None) | Q(until__gt=OuterRef("until")), run=OuterRef("run"))
    soon = Q(source=HoldSource.PERSON, until__lte=now + ENDING_WITHIN) & Q(left__lte=F("passed")) & ~Exists(longer)
    old = Q(source=HoldSource.FILE, created_at__lte=now - OLD_AFTER)
    spans = in_force(now).annotate(left=F("until") - moment, passed=moment - F("created_at"))
    return spans.filter(soon | old)


def ended_at(hold: Hold, now: datetime) -> datetime | None:
    """Return when a hold ended: over, released, or its run cleared or gone; else None.

    A hold that only a doubted clock calls over is in force.
    """
    run = hold.run
    ends = [end for end in (hold.until, hold.released_at) if end is not None]
    if hold.until is not None and hold.until <= now and Hold.objects.in_force(now).filter(pk=hold.pk).exists():
        ends.remove(hold.until)
    left = [end for end in (run.cleared_at, run.gone_at) if end is not None]
    if left and not keeping_holds.elsewhere().filter(run=run).exists():
        ends += left
    return min((end for end in ends if end <= now), default=None)


def cost(hold: Hold, now: datetime) -> Cost:
    """Return what one hold has cost so far."""
    return Cost(hold.run.bytes, (_end(hold, now) - hold.created_at) / _DAY)


def total_cost(holds: Iterable[Hold], now: datetime) -> Cost:
    """Return the cost of several holds, each run once: bytes, and mean days. Unknown sizes count as 0."""
    spans: dict[int, list[tuple[datetime, datetime]]] = {}
    sizes: dict[int, int] = {}
    for hold in holds:
        spans.setdefault(hold.run_id, []).append((hold.created_at, _end(hold, now)))
        sizes[hold.run_id] = hold.run.bytes or 0
    size = sum(sizes.values())
    byte_days = sum(sizes[run] * (_covered(of_run) / _DAY) for run, of_run in spans.items())
    return Cost(size, byte_days / size if size else 0.0)


def reminders(now: datetime) -> list[Reminder]:
    """Return the reminders of now."""
    return [_reminder(hold) for hold in _there(ending(now))]


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
    return in_force(now).filter(source=HoldSource.PERSON, until__lte=now + ENDING_WITHIN + _DAY)


def _there(holds: HoldQuerySet) -> HoldQuerySet:
    missing = Q(run__problem=Reason.MISSING_DIRECTORY) & ~Exists(_elsewhere())
    return holds.exclude(missing).select_related("run__root").defer("run__facts").order_by("pk")


def _elsewhere() -> QuerySet[Likeness]:
    return keeping_holds.elsewhere().filter(run=OuterRef("run"))


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
    until = f"by {hold.owner}, until {days.say(hold.until)}" if hold.until else ""
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
    user = get_user_model().objects.filter(username=owner, is_active=True).exclude(email="").first()
    if user is None:
        return True
    subject, text = _letter(given)
    try:
        with get_connection() as connection:
            EmailMessage(subject, text, to=[user.email], connection=connection).send()
    except Exception:  # a mail server may fail in any way; the pages show the reminder
        logger.exception("the reminder of %d holds of %s could not be sent", len(given), owner)
        return False
    return True


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


def _end(hold: Hold, now: datetime) -> datetime:
    return max(hold.created_at, ended_at(hold, now) or now)


def _covered(spans: list[tuple[datetime, datetime]]) -> timedelta:
    """The time that the spans cover, overlaps once."""
    covered, reached = timedelta(), None
    for start, end in sorted(spans):
        if reached is not None:
            start = max(start, reached)
        if end > start:
            covered, reached = covered + (end - start), end
    return covered
