"""Announces what timed sweeps will take, on the pages and by mail.

In the evening it announces the coming day if much goes or a policy clears for the first time, later news at once. A
mail that cannot be sent stops no sweep.
"""

import logging
from collections.abc import Iterable
from datetime import datetime
from zoneinfo import ZoneInfo

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.mail import EmailMessage
from django.db import IntegrityError, InterfaceError, OperationalError, transaction
from django.db.models import Max
from django.utils import timezone

from cleanup.lab import mails
from cleanup.lab.people import permissions
from cleanup.models import Announcement, RetentionPolicy, Run, StagingRoot
from cleanup.models.aggregates import bytes_sum
from cleanup.monitoring import forecasts
from cleanup.monitoring.forecasts import Coming, Foreseen
from cleanup.rules.announcements import AnnouncedAmount, is_news, last_evening, name_moment
from cleanup.rules.quantities import say_about, say_count

logger = logging.getLogger(__name__)

# A user who may set a policy can stop all runs, one who may hold can stop one run: both are told.
_MAY_STOP = ("cleanup.add_retentionpolicy", permissions.HOLD)
_AT_ONCE = 500
_FOOTER = (
    "This is what is known now. Each run is checked again just before it goes, and stays if it is held or if its copy "
    "on the NAS is not what it should be. To keep a run, hold it on its page; what goes by itself stands under "
    "Policies.\n"
)


def announce_all(roots: Iterable[StagingRoot], now: datetime) -> int:
    """Announce what is new on some roots; returns the number of roots with news."""
    told = 0
    for root in roots:
        try:
            told += announce(root, now) is not None
        except (OperationalError, InterfaceError):
            raise
        except Exception:  # one bad root must stop neither the others nor the sweep
            logger.exception("what the passes over %s will take could not be told", root)
    return told


def announce(root: StagingRoot, now: datetime) -> Announcement | None:
    """Forecast one root, store that for the pages, and announce it if it is news; one process of all hosts
    announces.
    """
    version = RetentionPolicy.objects.newest_version()
    foreseen = forecasts.foresee(root, now)
    forecasts.keep(root, foreseen, version)
    # Read the number first: an earlier announcement of another host is read below, a later one takes the next number.
    number = Announcement.objects.filter(root=root).aggregate(last=Max("number"))["last"] or 0
    told = list(Announcement.objects.filter(root=root, at__gte=last_evening(now, zone())))
    known = {key for one in told for key in one.run_keys}
    first_of = frozenset(foreseen.first_of) - {version for one in told for version in one.versions}
    untold = _amount_of([key for key in foreseen.keys if key not in known])
    if not is_news(
        foreseen.amount, untold, staged_bytes=foreseen.staged_bytes, told_this_evening=bool(told), first_of=first_of
    ):
        return None
    try:
        with transaction.atomic():
            told_now = Announcement.objects.create(
                root=root,
                number=number + 1,
                at=now,
                runs=foreseen.amount.runs,
                bytes=foreseen.amount.bytes,
                first_pass_at=foreseen.passes[0].at,
                coming=foreseen.as_json(),
                run_keys=foreseen.keys,
                versions=foreseen.first_of,
            )
    except IntegrityError:
        return None  # another host tells it
    logger.info("%s: %s", root.name, say_pass(foreseen.passes[0], now))
    _send(told_now, foreseen, now)
    return told_now


def say_next(roots: Iterable[StagingRoot], now: datetime) -> str:
    scoped = RetentionPolicy.objects.scoped()
    told = []
    for root in roots:
        foreseen = forecasts.of_roots([root], scoped, now, kept_for_pages=True).get(root.pk)
        if foreseen is not None and foreseen.passes:
            told.append(f"{root.name}: {say_pass(foreseen.passes[0], now)}.")
    return " ".join(told)


def say_pass(coming: Coming, now: datetime) -> str:
    """`tonight at 02:00: 34 runs, 164 GB`."""
    amount = forecasts.total(coming.by_instrument.values())
    return f"{name_moment(coming.at, now, zone())}: {say_amount(amount)}"


def say_amount(amount: AnnouncedAmount) -> str:
    """`34 runs, 164.0 GB`; bytes are logical."""
    return f"{say_count(amount.runs, 'run')}, {say_about(amount.bytes)}"


def say_rehearsed(amount: AnnouncedAmount) -> str:
    """`rehearsed only: 34 runs, 164.0 GB, would have gone`."""
    return f"rehearsed only: {say_amount(amount)}, would have gone"


def _send(announcement: Announcement, foreseen: Foreseen, now: datetime) -> None:
    if not settings.EXLAB_EMAIL:
        return
    messages = list(_messages(announcement.root, foreseen, now))
    sent = mails.send_all(messages, about=f"the mail about the passes over {announcement.root}")
    problem = sent.problem or ("" if messages else "no user who may stop a pass here has an address")
    Announcement.objects.filter(pk=announcement.pk).update(mails=sent.number, mail_problem=problem)
    announcement.mails, announcement.mail_problem = sent.number, problem


def _messages(root: StagingRoot, foreseen: Foreseen, now: datetime) -> Iterable[EmailMessage]:
    for user in get_user_model().objects.filter(is_active=True).exclude(email="").order_by("pk"):
        passes = list(forecasts.shown(foreseen, _stoppable(user, root, foreseen)))
        if passes:
            first = say_pass(passes[0], now)
            yield EmailMessage(f"{root.name}: {first}", _text(root, foreseen, passes, now), to=[user.email])


def _stoppable(user: User, root: StagingRoot, foreseen: Foreseen) -> set[str]:
    """The instruments that a user sees and whose runs the user may keep."""
    seen = permissions.places(user, permissions.VIEW)
    may = [permissions.places(user, permission) for permission in _MAY_STOP if user.has_perm(permission)]
    names = {name for coming in foreseen.passes for name in coming.by_instrument}
    return {
        name for name in names if seen.include(root.pk, name) and any(places.include(root.pk, name) for places in may)
    }


def _text(root: StagingRoot, foreseen: Foreseen, passes: list[Coming], now: datetime) -> str:
    lines = [f"Staging root {root.name} on {root.host}, {root.path}", ""]
    if foreseen.first_of:
        lines += ["It is the first pass that clears anything by this policy.", ""]
    for coming in passes:
        said = say_pass(coming, now)
        lines.append(f"{said[0].upper()}{said[1:]}")
        lines += [f"  {name}: {say_amount(amount)}" for name, amount in sorted(coming.by_instrument.items())]
    if foreseen.stops and foreseen.stops_at:
        lines += ["", f"{name_moment(foreseen.stops_at, now, zone())} the pass would stop and ask: {foreseen.stops}"]
    rehearsed = forecasts.total(
        amount for name, amount in foreseen.rehearsed.items() if any(name in one.by_instrument for one in passes)
    )
    if rehearsed.runs:
        lines += ["", f"Besides, {say_rehearsed(rehearsed)}."]
    return "\n".join(
        [*lines, "", f"Times are those of {timezone.get_default_timezone_name()}; sizes are logical.", "", _FOOTER]
    )


def _amount_of(keys: list[int]) -> AnnouncedAmount:
    found = AnnouncedAmount()
    for start in range(0, len(keys), _AT_ONCE):
        some = Run.objects.filter(pk__in=keys[start : start + _AT_ONCE])
        found += AnnouncedAmount(runs=some.count(), bytes=int(some.aggregate(bytes=bytes_sum("bytes"))["bytes"] or 0))
    return found


def zone() -> ZoneInfo:
    return ZoneInfo(timezone.get_default_timezone_name())
